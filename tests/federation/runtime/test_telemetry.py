"""Tests of ``federation.runtime.telemetry``."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from federation.runtime.telemetry import configure_logging, get_logger


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_stream_is_no_terminal_lines_are_json_with_role_and_bound_ids() -> None:
    """Where no person looks, each line is one JSON object."""
    stream = io.StringIO()
    configure_logging("info", "selector", stream=stream)

    get_logger().bind(client_id="phone-1").info("report accepted", weight=128)

    line = json.loads(stream.getvalue())
    assert (
        line.items()
        >= {
            "event": "report accepted",
            "level": "info",
            "role": "selector",
            "client_id": "phone-1",
            "weight": 128,
        }.items()
    )
    assert line["timestamp"].endswith("Z")


def test_stream_is_a_terminal_lines_are_text() -> None:
    """On a terminal a person reads."""
    stream = Terminal()
    configure_logging("info", "selector", stream=stream)

    get_logger().info("report accepted", weight=128)

    assert "report accepted" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "one\ntwo outcome=accepted", "\x9b31m", "right\u202eleft", "\u2028", "\x00", "\r"],
)
def test_peer_sends_control_characters_they_are_escaped(text: str, as_json: bool) -> None:
    """Text from a peer can neither steer the terminal nor forge a line."""
    stream = io.StringIO()
    configure_logging("info", "selector", as_json, stream=stream)

    get_logger().info("check-in refused", detail=text)
    logging.getLogger("library").warning("refused %s", text)

    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("as_json", [True, False])
def test_exception_holds_control_characters_its_traceback_is_escaped(as_json: bool) -> None:
    """A traceback keeps its lines and nothing else that is unprintable."""
    stream = io.StringIO()
    configure_logging("info", "selector", as_json, stream=stream)

    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        get_logger().exception("session ended")

    written = stream.getvalue()
    assert "ValueError" in written
    assert all(line.isprintable() for line in written.split("\n"))


def test_event_below_the_level_is_left_out() -> None:
    """The level is the least severe that is logged."""
    stream = io.StringIO()
    configure_logging("warning", "client", stream=stream)

    get_logger().info("checked in")

    assert stream.getvalue() == ""


def test_library_logs_by_itself_its_lines_look_the_same() -> None:
    """asyncio's complaints must not be lost among JSON lines."""
    stream = io.StringIO()
    configure_logging("info", "client", stream=stream)

    logging.getLogger("asyncio").error("Task exception was never retrieved")

    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["role"]) == (
        "Task exception was never retrieved",
        "error",
        "client",
    )
