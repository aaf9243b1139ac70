"""``headwater doctor``: look at a deployment, and say what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.verbs import DEFAULT_COORDINATOR, CoordinatorOption, JsonOption, print_json

if TYPE_CHECKING:
    from headwater.doctor_findings import CoordinatorSeen, Finding


def add_doctor(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        help="Check a deployment: servers, versions, clocks, the shared directory, its files. "
        "Status 0 if nothing failed, else 1.",
        epilog="Example: headwater doctor --coordinator 10.0.0.5:50050 --shared-data ./shared_data",
    )(doctor)


def doctor(
    coordinator: CoordinatorOption = DEFAULT_COORDINATOR,
    selectors: Annotated[
        list[str] | None,
        typer.Option(
            "--selector",
            metavar="HOST:PORT",
            help="A selector to ask; those that the coordinator knows are asked anyway.",
        ),
    ] = None,
    shared_data: Annotated[
        Path | None,
        typer.Option(
            "--shared-data",
            metavar="DIR",
            envvar="HEADWATER_SHARED_DATA",
            help="The shared directory as it is mounted here. Default: where the coordinator has "
            "it, if that is here.",
        ),
    ] = None,
    history_keep: Annotated[
        int,
        typer.Option(
            "--history-keep",
            envvar="HEADWATER_HISTORY_KEEP",
            min=1,
            help="Past checkpoints that the coordinator keeps, for which there must be room.",
        ),
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Print the check-up."""
    from headwater.doctor_findings import Level, in_words

    findings = check_up(coordinator, selectors or [], shared_data, history_keep)
    healthy = all(finding.level is not Level.FAILED for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [vars(finding) for finding in findings]})
    else:
        print("\n".join(in_words(findings)))
    raise typer.Exit(0 if healthy else 1)


def check_up(
    coordinator: str, selectors: Sequence[str], shared_data: Path | None, history_keep: int
) -> list[Finding]:
    """Look at everything; nothing that stays is changed.

    Args:
        coordinator: HOST:PORT.
        selectors: HOST:PORT of those to ask besides the ones that the coordinator knows.
        shared_data: The directory as it is mounted here; None: where the coordinator has it.
        history_keep: As the coordinator's setting.
    """
    import asyncio

    from federation.runtime.version import VERSION
    from headwater import doctor_findings as judge
    from headwater import doctor_probes as probe

    seen, known = asyncio.run(probe.see_coordinator(coordinator))
    known += probe.see_named(selectors, known)
    findings = [*judge.judge_coordinator(seen, VERSION)]
    findings += judge.judge_selectors(known, seen, VERSION)
    if shared_data is None and seen.shared_data and Path(seen.shared_data).is_dir():
        shared_data = Path(seen.shared_data)
    attached = sum(bool(selector.attached) for selector in known)
    findings += _directory(shared_data, seen, history_keep, attached)
    return findings


def _directory(
    root: Path | None, coordinator: CoordinatorSeen, history_keep: int, selectors: int
) -> Iterator[Finding]:
    from federation.errors import StoreError
    from federation.runtime.directory_mark import read_mark
    from federation.runtime.store import SharedDirectory
    from headwater import doctor_findings as judge
    from headwater import doctor_probes as probe

    if root is None:
        yield judge.Finding(
            "shared directory",
            judge.Level.WARNING,
            "was not looked at: it is not on this machine",
            "run this where it is mounted, with --shared-data DIR",
        )
        return
    yield from probe.examine(root)
    if not coordinator.trouble and root.is_dir():
        yield judge.judge_own_mount(str(root), read_mark(root), coordinator)
    try:
        space = probe.see_space(SharedDirectory(root), selectors)
    except StoreError:
        return  # said already of the file that cannot be read
    yield judge.judge_space(str(root), space, history_keep)
