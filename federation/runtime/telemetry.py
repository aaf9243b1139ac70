"""Logs: text for people on a terminal, JSON lines elsewhere, usually on standard error.

Standard output is left to the JSON ``listening`` line, or shared with it, as in a container.
Importing this configures nothing, so that the library inside somebody else's program logs the way
that program says.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger


def get_logger() -> BoundLogger:
    """Return the logger of this project, to which ids are bound once: ``log.bind(round_id=...)``.

    It hands its events to the standard library's logger ``headwater``.
    """
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger("headwater"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def configure_logging(
    level: str, role: str, json: bool | None = None, *, stream: TextIO | None = None
) -> None:
    """Send this process's logs, and those of its libraries, to one place in one form.

    Args:
        level: Least severe level that is logged: debug, info, warning or error.
        role: Named in each line, e.g. ``"selector"``.
        json: JSON lines or text; None: text if the stream is a terminal.
        stream: Where to; None: standard error.
    """
    stream = stream or sys.stderr
    as_json = not stream.isatty() if json is None else json
    rendering = _json_rendering() if as_json else _text_rendering(colors=stream.isatty())

    def add_role(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                add_role,
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _json_rendering() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)]


def _text_rendering(*, colors: bool) -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, _escape, console]


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep text from a peer from moving the cursor or starting a line that passes for ours.

    Values that are not text are shown by ``repr()``, which escapes already.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if key == "exception" else ""
            event[key] = "".join(_visible(character, kept) for character in value)
    return event


def _visible(character: str, kept: str) -> str:
    if character.isprintable() or character in kept:
        return character
    return character.encode("unicode_escape").decode("ascii")
