"""``headwater session``: start, stop and show runs of rounds."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordinator.settings import PLAN_SETTINGS, CoordinatorSettings
from federation.errors import SettingsError
from federation.phases import Phase
from federation.runtime import wire
from federation.v1 import control_pb2 as pb
from headwater.verbs import (
    DEFAULT_COORDINATOR,
    CoordinatorOption,
    JsonOption,
    errors_said,
    facts_of,
    print_json,
)
from headwater.words import metrics_in_words, phase_in_words, plural, session_in_words

ROUNDS_SHOWN = 50
"""Newest rounds in the table."""

app = typer.Typer(
    help="Start, stop and show sessions, which are runs of rounds.",
    epilog="Example: headwater session show",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def add_session(root: typer.Typer) -> None:
    """Add the verbs."""
    root.add_typer(app, name="session")


RoundsOption = Annotated[
    int,
    typer.Option(
        "--rounds", metavar="INTEGER", help="Rounds to complete, whatever their outcomes."
    ),
]
AfterRoundOption = Annotated[
    bool,
    typer.Option("--after-round", help="Let the running round complete; else it is abandoned."),
]
RoundOption = Annotated[
    int | None,
    typer.Option("--round", metavar="N", min=1, help="This round, with each of its clients."),
]


def _start(rounds: int, coordinator: str, as_json: bool, **options: object) -> None:
    """Start a session; the options are the plan's settings, None where not given."""
    from federation.runtime.control import start_session

    plan = {name: value for name, value in options.items() if value is not None}
    with errors_said("session start"):
        session = asyncio.run(start_session(coordinator, rounds, plan))
    _print_session(session, as_json=as_json)


@app.command(
    help="End the running session, at once or after its round.",
    epilog="Example: headwater session stop --after-round",
)
def stop(
    after_round: AfterRoundOption = False,
    coordinator: CoordinatorOption = DEFAULT_COORDINATOR,
    as_json: JsonOption = False,
) -> None:
    """End the running session."""
    from federation.runtime.control import stop_session

    with errors_said("session stop"):
        session = asyncio.run(stop_session(coordinator, after_round=after_round))
    _print_session(session, as_json=as_json)


@app.command(
    help="Show the session and its rounds, or one round with each of its clients. The coordinator "
    "remembers the newest 64 rounds since its start.",
    epilog="Example: headwater session show --round 3 --json",
)
def show(
    round_number: RoundOption = None,
    coordinator: CoordinatorOption = DEFAULT_COORDINATOR,
    as_json: JsonOption = False,
) -> None:
    """Print what is remembered of rounds."""
    from federation.runtime.control import get_rounds, get_status

    if round_number is not None:
        with errors_said("session show"):
            found = asyncio.run(_round(coordinator, round_number))
        if as_json:
            print_json(facts_of(found))
        else:
            _print_round(found)
        return

    async def ask() -> tuple[pb.Status, list[pb.RoundRecord]]:
        status = await get_status(coordinator)
        from_round = max(0, status.round.round_number - ROUNDS_SHOWN + 1)
        return status, await get_rounds(coordinator, from_round)

    with errors_said("session show"):
        status, rounds = asyncio.run(ask())
    session = status.session if status.HasField("session") else None
    if as_json:
        facts = {"session": facts_of(session) if session else None}
        print_json(facts | {"rounds": [facts_of(record) for record in rounds]})
        return
    print(session_in_words(session) if session else "No session yet")
    if rounds:
        Console().print(_rounds_table(rounds))


async def _round(coordinator: str, round_number: int) -> pb.RoundRecord | pb.RoundStatus:
    """Return the round, which may be the one that runs."""
    from federation.runtime.control import get_rounds, get_status

    record = await get_rounds(coordinator, round_number, limit=1)
    if record and record[0].round_number == round_number:
        return record[0]
    status = await get_status(coordinator)
    if status.HasField("round") and status.round.round_number == round_number:
        return status.round
    known = [record.round_number for record in status.recent_rounds or record]
    expected = (
        f"the newest completed round is {known[-1]}" if known else "no round has completed yet"
    )
    raise SettingsError("round", round_number, expected, reason="round-unknown")


# -- Words and tables ---------------------------------------------------------------------------


def _print_session(session: pb.SessionStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(facts_of(session))
    else:
        print(session_in_words(session))


def _rounds_table(rounds: list[pb.RoundRecord]) -> Table:
    table = Table()
    for heading in ("round", "outcome", "reports", "metrics", "seconds"):
        table.add_column(heading, overflow="fold")
    for record in rounds:
        table.add_row(
            str(record.round_number),
            f"abandoned, {record.reason}" if record.reason else "committed",
            f"{record.counts.reported} of {record.counts.admitted}",
            metrics_in_words(record.metrics),
            f"{sum(record.phase_seconds.values()):.1f}",
        )
    return table


def _print_round(found: pb.RoundRecord | pb.RoundStatus) -> None:
    phase, seconds, metrics, digest = Phase.COMPLETED, dict[str, float](), dict[str, float](), ""
    if isinstance(found, pb.RoundRecord):
        seconds, metrics = dict(found.phase_seconds), dict(found.metrics)
        digest = found.checkpoint_digest
    else:
        phase = wire.phase_from_wire(found.phase)
    outcome = wire.outcome_from_wire(found.outcome)
    selectors = len({client.selector_id for client in found.clients})
    words = phase_in_words(phase, found.counts, selectors, outcome, found.reason)
    print(f"Round {found.round_number}, {words}")
    stages = [(p.value, seconds[p.value]) for p in Phase if p.value in seconds]
    if stages:
        print("  stages   " + ", ".join(f"{name} {s:.1f} s" for name, s in stages))
    if metrics:
        print(f"  metrics  {metrics_in_words(metrics)}")
    if digest:
        print(f"  digest   {digest}")
    if found.clients:
        Console().print(_clients_table(found))
    more = found.counts.admitted - len(found.clients)
    if more > 0:
        print(f"and {plural(more, 'client')} more, for whom the answer had no room")


def _clients_table(found: pb.RoundRecord | pb.RoundStatus) -> Table:
    table = Table()
    for heading in ("client", "selector", "fate", "shape", "examples", "metrics"):
        table.add_column(heading, overflow="fold")
    for client in found.clients:
        fate = f"{client.standing}, {client.reason}" if client.reason else client.standing
        examples = str(client.num_examples) if client.num_examples else ""
        cells = (client.client_id, client.selector_id, fate, client.shape, examples)
        table.add_row(*map(Text, (*cells, metrics_in_words(client.metrics))))
    return table


# -- The signature of ``session start`` ---------------------------------------------------------


def _keyword(name: str, kind: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _plan_option(name: str) -> inspect.Parameter:
    """Make the option of a setting of the plan, described as the coordinator's."""
    field = CoordinatorSettings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind: Any = kinds[0] if type(None) in get_args(field.annotation) else field.annotation
    metavar = {int: "INTEGER", float: "NUMBER"}.get(kind)
    if get_origin(kind) is Literal:
        kind, metavar = str, "|".join(get_args(kind))
    elif kind is bool:
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    option = typer.Option(flag, help=field.description, show_default=False, metavar=metavar)
    return _keyword(name, Annotated[kind | None, option], None)


def _start_command() -> Callable[..., None]:
    _start.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
        [
            inspect.Parameter("rounds", inspect.Parameter.KEYWORD_ONLY, annotation=RoundsOption),
            *map(_plan_option, PLAN_SETTINGS),
            _keyword("coordinator", CoordinatorOption, DEFAULT_COORDINATOR),
            _keyword("as_json", JsonOption, False),
        ]
    )
    return _start


app.command(
    "start",
    help="Start a session. What is not given is the coordinator's own setting.",
    epilog="Example: headwater session start --rounds 5 --goal-count 4 --learning-rate 0.05",
)(_start_command())
