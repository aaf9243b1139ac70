"""What a check-up found, judged: each line ok, a warning or failed, with how to mend it. Pure.

``doctor_probes`` looks; here is decided what it means, of plain facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

SKEW_MAX_S = 2.0
"""Clocks that are further apart than this are worth a warning: times in logs and pages differ."""

FLOAT64_BYTES = 8


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One line of a check-up.

    Attributes:
        subject: What was looked at, e.g. ``"coordinator 10.0.0.7:50050"``.
        level: How bad it is.
        words: What was found.
        remedy: What to do about it; empty if nothing is to be done.
    """

    subject: str
    level: Level
    words: str
    remedy: str = ""


@dataclass(frozen=True)
class SelectorSeen:
    """A selector, by what its coordinator says of it and by what it answers.

    Attributes:
        name: Its id; of one that the coordinator does not know, its address.
        address: HOST:PORT at which it was asked; empty if nobody knows it.
        attached: The coordinator has a stream of it; None: the coordinator was not asked.
        trouble: Why it is not ready; empty if it is, or could not be asked.
        version: Its release, empty if it was not said.
        mark: What it sees in its shared directory, empty likewise.
    """

    name: str
    address: str
    attached: bool | None
    trouble: str = ""
    version: str = ""
    mark: str = ""


@dataclass(frozen=True)
class CoordinatorSeen:
    """A coordinator.

    Attributes:
        target: HOST:PORT at which it was asked.
        trouble: Why it is not ready; empty if it is.
        version: Its release.
        shared_data: The path of its shared directory, as it sees it.
        mark: What it wrote there as it started.
        storage_failure: Why it can make nothing durable; empty while it can.
        ahead_s: Seconds that its clock is ahead of ours.
        doubt_s: How far that may be wrong: half of the time that the answer took.
    """

    target: str
    trouble: str = ""
    version: str = ""
    shared_data: str = ""
    mark: str = ""
    storage_failure: str = ""
    ahead_s: float = 0.0
    doubt_s: float = 0.0


@dataclass(frozen=True)
class SpaceSeen:
    """Room in the shared directory, in bytes.

    Attributes:
        free_bytes: What this user may still write.
        checkpoint_bytes: Size of the current checkpoint's file.
        parameters: Values in it.
        rounds_kept: Past checkpoints that are there.
        selectors: Those whose sums will be written.
    """

    free_bytes: int
    checkpoint_bytes: int
    parameters: int
    rounds_kept: int
    selectors: int


def judge_coordinator(seen: CoordinatorSeen, version: str) -> Iterator[Finding]:
    """Say how the coordinator is.

    Args:
        seen: What it answered.
        version: Our release.
    """
    subject = f"coordinator {seen.target}"
    if seen.trouble:
        yield Finding(
            subject,
            Level.FAILED,
            seen.trouble,
            "start it, or give the right --coordinator HOST:PORT; a coordinator listens on its own "
            "machine only unless --host says otherwise",
        )
        return
    yield Finding(subject, Level.OK, "serves")
    yield _version_of(subject, seen.version, version)
    if seen.storage_failure:
        remedy = "free space or mend the mount; it goes on by itself"
        yield Finding(subject, Level.FAILED, f"writes nothing: {seen.storage_failure}", remedy)
    yield judge_clock(seen)


def judge_clock(seen: CoordinatorSeen) -> Finding:
    """Say how far the coordinator's clock is from ours."""
    apart_s = max(0.0, abs(seen.ahead_s) - seen.doubt_s)
    direction = "ahead of" if seen.ahead_s > 0 else "behind"
    if apart_s > SKEW_MAX_S:
        return Finding(
            "clock",
            Level.WARNING,
            f"the coordinator's is {apart_s:.1f} s {direction} this machine's",
            "let both follow a time server (NTP): rounds do not depend on it, but times in logs "
            "and pages do",
        )
    return Finding("clock", Level.OK, f"the coordinator's is within {SKEW_MAX_S:.0f} s of ours")


def judge_selectors(
    selectors: Iterable[SelectorSeen], coordinator: CoordinatorSeen, version: str
) -> Iterator[Finding]:
    """Say how each selector is.

    Args:
        selectors: Those that the coordinator knows, and those that were named.
        coordinator: Whose directory theirs must be.
        version: Our release.
    """
    selectors = list(selectors)
    if not coordinator.trouble and not any(seen.attached for seen in selectors):
        remedy = "start one with --coordinator " + coordinator.target
        yield Finding("selectors", Level.FAILED, "none is attached: no client can come", remedy)
    for seen in selectors:
        yield from _judge_selector(seen, coordinator, version)


def _judge_selector(
    seen: SelectorSeen, coordinator: CoordinatorSeen, version: str
) -> Iterator[Finding]:
    subject = f"selector {seen.name}"
    if seen.attached is False:
        yield Finding(
            subject,
            Level.WARNING,
            "is away: the coordinator has no stream of it",
            "start it again, or see in its log why it does not reach the coordinator",
        )
    if seen.trouble:
        yield Finding(
            subject,
            Level.FAILED,
            f"at {seen.address}: {seen.trouble}",
            "see whether it runs and reaches its coordinator; clients are told this address: if "
            "it is not the one under which they reach it, give the selector --advertise HOST:PORT",
        )
    elif seen.address:
        yield Finding(subject, Level.OK, f"serves at {seen.address}")
    if not seen.attached:
        return
    yield _version_of(subject, seen.version, version)
    yield _same_directory(subject, seen.mark, coordinator.mark)


def _version_of(subject: str, theirs: str, ours: str) -> Finding:
    if theirs == ours:
        return Finding(subject, Level.OK, f"version {theirs}, the same as this command's")
    return Finding(
        subject,
        Level.WARNING,
        f"version {theirs or 'not said'}, this command is {ours}",
        "run one release everywhere: selectors first, then the coordinator, then clients",
    )


def _same_directory(subject: str, mark: str, coordinators: str) -> Finding:
    if not coordinators:
        return Finding(
            subject,
            Level.WARNING,
            "the coordinator does not say which directory is its own",
            "start the coordinator again, of this release",
        )
    if mark == coordinators:
        return Finding(subject, Level.OK, "sees the coordinator's shared directory")
    found = "another coordinator's mark" if mark else "no coordinator's mark"
    return Finding(
        subject,
        Level.FAILED,
        f"sees another directory than the coordinator: {found} in it",
        "mount the same directory and give it as --shared-data; on a network mount that shows "
        "what was, start the selector again and look once more",
    )


def judge_own_mount(path: str, mark: str, coordinator: CoordinatorSeen) -> Finding:
    """Say whether the directory that we look at is the coordinator's.

    Args:
        path: Where it is here.
        mark: What is in it.
        coordinator: Whose it should be.
    """
    finding = _same_directory(f"shared directory {path}", mark, coordinator.mark)
    if finding.level is Level.FAILED:
        where = f"the coordinator's is {coordinator.shared_data} on its machine"
        words = f"is not the coordinator's: {where}"
        return Finding(finding.subject, Level.FAILED, words, "look at it with --shared-data DIR")
    if finding.level is Level.OK:
        return Finding(finding.subject, Level.OK, "is the coordinator's")
    return finding


def judge_space(path: str, seen: SpaceSeen, history_keep: int) -> Finding:
    """Say whether the next rounds fit.

    Args:
        path: The shared directory.
        seen: What is there and what is free.
        history_keep: Past checkpoints that the coordinator keeps.
    """
    # A sum is float64 and is replaced by a file beside it, as the checkpoint is.
    sums = 2 * FLOAT64_BYTES * seen.parameters * max(1, seen.selectors)
    one_round = 2 * seen.checkpoint_bytes + sums
    further = max(0, history_keep - seen.rounds_kept)
    needed = one_round + further * seen.checkpoint_bytes
    subject = f"shared directory {path}"
    free = f"{_bytes(seen.free_bytes)} are free"
    if seen.free_bytes < one_round:
        words = f"{free}, and one round needs {_bytes(one_round)}"
        return Finding(subject, Level.FAILED, words, "free space, or mount a larger disk")
    if seen.free_bytes < needed:
        words = f"{free}, and {history_keep} checkpoints kept need {_bytes(needed)} more"
        remedy = "free space, or give the coordinator a smaller --history-keep"
        return Finding(subject, Level.WARNING, words, remedy)
    return Finding(subject, Level.OK, f"{free}, {_bytes(needed)} are needed")


def _bytes(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def in_words(findings: Iterable[Finding]) -> list[str]:
    """Return the check-up for a person: a line a finding, the remedies, and the sum."""
    findings = list(findings)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.subject:<{width}}  {finding.words}")
        if finding.remedy:
            lines.append(f"{'':8} {'':{width}}  to mend it: {finding.remedy}")
    counts = {level: sum(f.level is level for f in findings) for level in Level}
    lines.append(", ".join(f"{count} {level}" for level, count in counts.items()))
    return lines
