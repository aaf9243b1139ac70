"""What the verbs of the command have in common: options, answers as JSON, mistakes in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.errors import FederationError, SettingsError
from federation.plan import IMPOSSIBLE_PLAN

if TYPE_CHECKING:
    from google.protobuf.message import Message

DEFAULT_COORDINATOR = "127.0.0.1:50050"

CoordinatorOption = Annotated[
    str,
    typer.Option(
        "--coordinator",
        metavar="HOST:PORT",
        envvar="HEADWATER_COORDINATOR",
        help="HOST:PORT of the coordinator.",
    ),
]
SharedDataOption = Annotated[
    Path,
    typer.Option(
        "--shared-data",
        metavar="DIR",
        envvar="HEADWATER_SHARED_DATA",
        help="The shared directory.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def errors_said(verb: str) -> Iterator[None]:
    """End the command with one clear message: status 2 for a wrong setting, else 1."""
    try:
        yield
    except FederationError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        # A plan may be found impossible here or by the coordinator, whose own settings complete it.
        wrong = isinstance(error, SettingsError) or error.reason == IMPOSSIBLE_PLAN
        raise typer.Exit(2 if wrong else 1) from None


def facts_of(message: Message) -> dict[str, Any]:
    """Return a message as JSON-able facts under the contract's own names, numbers as numbers."""
    from google.protobuf.json_format import MessageToDict

    facts: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(facts, message.DESCRIPTOR)


def _with_numbers(facts: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """Undo what protobuf's JSON does to 64-bit integers: it writes them as text."""
    for field in descriptor.fields:
        value = facts.get(field.name)
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) and value is not None:
            facts[field.name] = int(value)
        elif field.message_type is not None and isinstance(value, dict):
            is_map = field.message_type.GetOptions().map_entry
            facts[field.name] = value if is_map else _with_numbers(value, field.message_type)
        elif field.message_type is not None and isinstance(value, list):
            facts[field.name] = [_with_numbers(item, field.message_type) for item in value]
    return facts


def print_json(facts: object) -> None:
    """Print facts for a program."""
    print(json.dumps(facts, indent=2))
