"""What the verbs share: how facts and mistakes are said."""

from __future__ import annotations

import pytest
import typer

from federation.errors import PeerError, SettingsError
from federation.v1 import control_pb2 as pb
from headwater.verbs import errors_said, facts_of


def test_facts_of_a_message_have_numbers_as_numbers() -> None:
    """Protobuf's JSON writes 64-bit integers as text; people who script want numbers."""
    status = pb.Status(recent_stages=[pb.Stage(sequence=7, round_number=3)])

    assert facts_of(status)["recent_stages"][0]["round_number"] == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [(SettingsError("port", 1, "no"), 2), (PeerError("nobody answers"), 1)],
)
def test_mistake_ends_the_verb_with_one_line_and_its_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong setting is status 2, anything else that we know 1; never a traceback."""
    with pytest.raises(typer.Exit) as ended, errors_said("status"):
        raise error

    assert ended.value.exit_code == status
    assert capsys.readouterr().err.startswith("status: ")
