"""The examples: each does what its page says, by the public face alone."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.processes import ROOT, WITHIN_S

EXAMPLES = ROOT / "examples"
OURS = {"federation", "coordinator", "selector", "client", "webserver", "headwater", "tests"}

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="TensorFlow is not installed"
)


def run(example: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example as its page says, from a folder of the test's."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.parent.name)
def test_example_uses_the_public_face_only(path: Path) -> None:
    """What an example needs, users need: it is in ``import headwater``."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")

    assert {name for name in imported if name.partition(".")[0] in OURS} == {"headwater"}


@pytest.mark.prove
@needs_keras
def test_own_model_on_own_data_learns_what_no_client_has_much_of(tmp_path: Path) -> None:
    """The weights of each round load in Keras, and the last ones are good."""
    ended = run("keras_own_model/run.py", folder=tmp_path)

    assert ended.returncode == 0, ended.stderr
    before, *rounds = [float(found) for found in re.findall(r"accuracy (\d\.\d+)", ended.stdout)]
    assert len(rounds) == 6
    assert before < 0.5
    assert rounds[-1] > 0.9
    assert ended.stdout.count("4 reports") == 6
    assert {path.name for path in (tmp_path / "waves").glob("*.npz")} == {
        f"client-{number}.npz" for number in (1, 2, 3, 4)
    }
    assert (tmp_path / "waves" / "trained.h5").is_file()


def test_commands_of_an_example_s_page_have_verbs_and_flags_that_exist() -> None:
    """A page that is followed word by word works."""
    page = (EXAMPLES / "keras_own_model" / "README.md").read_text()
    commands = [
        shlex.split(line.split("#")[0])
        for line in page.splitlines()
        if line.startswith("headwater ")
    ]
    settings = (ROOT / "docs" / "settings.md").read_text()

    flags = {word for command in commands for word in command if word.startswith("--")}
    assert {command[1] for command in commands} == {"init", "coordinator", "selector", "client"}
    assert [flag for flag in flags - {"--model"} if flag not in settings] == []
