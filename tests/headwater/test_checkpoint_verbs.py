"""``headwater checkpoint`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from federation.runtime.initialise import initialise_with
from headwater.cli import application
from tests.headwater.test_checkpoints import FIRST, commit, plus

runner = CliRunner()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A shared directory with one committed round."""
    root = tmp_path / "shared"
    initialise_with(root, FIRST)
    commit(root, 3, plus(FIRST, 3))
    return root


def checkpoint(root: Path, *words: str) -> Result:
    """Type ``headwater checkpoint … --shared-data ROOT``."""
    typed = ["checkpoint", *words, "--shared-data", str(root)]
    return runner.invoke(application(), typed, env={"COLUMNS": "160"})


def test_checkpoints_are_listed_each_has_a_row(root: Path) -> None:
    """Round, reports, weight and metrics; the current one is marked."""
    result = checkpoint(root, "list")

    (row,) = [line for line in result.stdout.splitlines() if line.startswith("│")]
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert result.exit_code == 0
    assert cells[:4] == ["3 (current)", "2", "7", "loss 0.5"]


def test_checkpoints_are_listed_as_json_all_that_is_known_comes(root: Path) -> None:
    """For programs."""
    (facts,) = json.loads(checkpoint(root, "list", "--json").stdout)

    assert (facts["round_number"], facts["current"]) == (3, True)
    assert facts["manifest"]["metrics"] == {"loss": 0.5}
    assert len(facts["digest"]) == 64


def test_checkpoint_is_shown_with_its_tensors(root: Path) -> None:
    """The current one, if no round is named."""
    result = checkpoint(root, "show")

    assert result.stdout.startswith("Checkpoint of round 3, current\n")
    assert "  reports  2, of weight 7\n  metrics  loss 0.5\n" in result.stdout
    assert "2 tensors, 9 values" in result.stdout
    assert "2 x 3" in result.stdout


def test_checkpoint_is_shown_as_json_its_tensors_are_listed(root: Path) -> None:
    """With names, dtypes and shapes."""
    facts = json.loads(checkpoint(root, "show", "--round", "3", "--json").stdout)

    tensors = {tensor["name"]: (tensor["dtype"], tensor["shape"]) for tensor in facts["tensors"]}
    assert tensors == {"a/file": ("float32", [2, 3]), "file": ("int64", [3])}
    assert facts["path"] == str(root / "history" / "round-000003" / "fl_checkpoint")


def test_no_round_made_the_checkpoint_the_words_say_so(tmp_path: Path) -> None:
    """The weights that training starts from."""
    initialise_with(tmp_path, FIRST)

    shown, listed = checkpoint(tmp_path, "show"), checkpoint(tmp_path, "list")

    assert shown.stdout.startswith("Weights that no round made, current\n")
    assert "none (current)" in listed.stdout


@pytest.mark.parametrize("words", [(), ("--format", "npz")])
def test_checkpoint_is_exported_the_name_says_the_format(
    root: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Unless it is given."""
    output = tmp_path / "out.npz"

    result = checkpoint(root, "export", "--output", str(output), *words)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}: Checkpoint of round 3\n"
    with np.load(output) as archive:
        assert np.array_equal(archive["file"], [3, 4, 5])


def test_wrong_setting_is_given_status_2_and_one_message(root: Path, tmp_path: Path) -> None:
    """Each verb names itself."""
    missing = checkpoint(root, "show", "--round", "1")
    unknown = checkpoint(root, "export", "--output", str(tmp_path / "w.onnx"))
    nowhere = checkpoint(tmp_path, "list")

    assert [result.exit_code for result in (missing, unknown, nowhere)] == [2, 2, 2]
    assert missing.stderr.startswith("checkpoint show: round = 1 is wrong:")
    assert "it must be one of h5, keras, npz" in unknown.stderr
    assert "headwater init" in nowhere.stderr


def test_shared_directory_cannot_be_read_status_1(root: Path) -> None:
    """Nothing is wrong with the command."""
    (root / "history" / "round-000003" / "fl_checkpoint").write_bytes(b"no HDF5")
    (root / "initFiles" / "fl_checkpoint").unlink()
    (root / "initFiles" / "fl_checkpoint").write_bytes(b"no HDF5")

    result = checkpoint(root, "list")

    assert result.exit_code == 1
    assert "fl_checkpoint" in result.stderr
