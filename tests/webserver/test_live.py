"""Tests of ``webserver.live``."""

from __future__ import annotations

import asyncio
import json

from tests.waiting import within
from tests.webserver.telling import BEGAN_S, FEDERATION, Teller, a_round, a_session, update
from webserver.board import Checkpoint, drawn, event_of
from webserver.live import EVENTS_REMEMBERED, STAYS_S, Live
from webserver.store import FEDERATIONS_MAX, Taken

CONTROL = {"possible": False, "needs_token": False}
OTHER = "fedcba9876543210"


class Watched:
    """A present that updates are shown to, as the store numbers them."""

    def __init__(self) -> None:
        self.live = Live(CONTROL, 0)
        self.teller = Teller()
        self._event_id = 0

    def stage(self, number: int = 1, teller: Teller | None = None, at_s: float = BEGAN_S) -> None:
        """Show that a round began."""
        told = update((teller or self.teller).stage(a_round(number)))
        self._event_id += 1
        event = {"event_id": self._event_id, **(event_of(told) or {})}
        self.live.show(Taken(drawn(told, at_s), event), None)

    def progress(self, waiting_clients: int) -> None:
        """Show progress."""
        told = update(self.teller.progress(a_round(), waiting_clients=waiting_clients))
        self.live.show(Taken(drawn(told, BEGAN_S), None), None)


def ids(live: Live, after: int, federation_id: str = FEDERATION) -> list[int] | None:
    """Return the ids of the events that memory has after one."""
    events = live.events_after(federation_id, after)
    return None if events is None else [event["event_id"] for event in events]


def test_updates_are_shown_the_overview_is_the_newest() -> None:
    """With our own time, which is another at each look."""
    watched = Watched()
    watched.stage()
    watched.progress(waiting_clients=7)

    shown = watched.live.overview(FEDERATION, 12.5)

    assert (shown["waiting_clients"], shown["last_event_id"], shown["now_s"]) == (7, 1, 12.5)
    assert shown["control"] == CONTROL
    assert json.loads(watched.live.overview_text(FEDERATION, 13.0))["now_s"] == 13.0


def test_two_federations_tell_the_latest_is_shown_unless_one_is_asked_for() -> None:
    """Each keeps its picture."""
    watched = Watched()
    watched.stage(1)
    watched.stage(2, Teller(OTHER), at_s=BEGAN_S + STAYS_S)

    assert watched.live.federation_id(None) == OTHER
    assert watched.live.federation_id(FEDERATION) == FEDERATION
    assert watched.live.overview(FEDERATION, 0.0)["round"]["round_number"] == 1
    assert watched.live.overview(FEDERATION, 0.0)["last_event_id"] == 2
    assert ids(watched.live, 0) == [1]
    assert not watched.live.knows("0" * 16)


def test_two_federations_tell_by_turns_the_one_that_runs_stays() -> None:
    """A page that shows another one with each update is of use to nobody; both can be chosen."""
    watched = Watched()
    other = Teller(OTHER)
    for number in (1, 2, 3):
        watched.stage(number)
        watched.stage(number, other, at_s=BEGAN_S + 1)

    assert watched.live.federation_id(None) == FEDERATION
    assert watched.live.overview(OTHER, 0.0)["federations"] == [FEDERATION, OTHER]
    assert watched.live.overview(FEDERATION, 0.0)["federations"] == [FEDERATION, OTHER]


def test_session_that_is_shown_is_over_the_next_federation_that_tells_is_shown() -> None:
    """Whoever starts another federation on the same webserver sees it at once."""
    watched = Watched()
    over = update(watched.teller.session(a_session(running=False)))
    watched.live.show(Taken(drawn(over, BEGAN_S), None), None)

    watched.stage(1, Teller(OTHER))

    assert watched.live.federation_id(None) == OTHER


def test_more_federations_tell_than_are_remembered_the_longest_silent_is_forgotten() -> None:
    """As in the database: who makes up names fills no memory."""
    watched = Watched()
    names = [f"{number:016x}" for number in range(FEDERATIONS_MAX + 1)]
    for name in names[:-1]:
        watched.stage(1, Teller(name))
    watched.progress(1)

    assert not watched.live.knows(names[0])
    assert watched.live.overview(FEDERATION, 0.0)["federations"] == sorted(
        [*names[1:-1], FEDERATION]
    )


def test_checkpoints_are_not_told_anew_they_stay() -> None:
    """They change with completed rounds only."""
    watched = Watched()
    told = update(watched.teller.stage(a_round(1, "completed")))
    checkpoint = Checkpoint(1, "ab", {})
    watched.live.show(Taken(drawn(told, 0.0), None), (checkpoint, checkpoint))

    watched.progress(1)

    shown = watched.live.overview(FEDERATION, 0.0)["checkpoints"]
    assert shown["last"]["round_number"] == shown["best"]["round_number"] == 1


def test_watcher_missed_more_than_memory_has_it_is_told_so() -> None:
    """The database has the rest."""
    watched = Watched()
    for number in range(1, EVENTS_REMEMBERED + 4):
        watched.stage(number)

    assert ids(watched.live, 2) is None
    assert ids(watched.live, 3) == list(range(4, EVENTS_REMEMBERED + 4))
    assert ids(watched.live, EVENTS_REMEMBERED + 3) == []


def test_process_is_new_memory_has_no_events_of_the_one_before() -> None:
    """But knows up to where they go."""
    live = Live(CONTROL, 41)

    assert ids(live, 40) is None
    assert ids(live, 41) == []


async def test_something_changes_all_who_wait_are_woken() -> None:
    """Nobody polls."""
    watched = Watched()
    waiting = [asyncio.create_task(watched.live.changed_since(0)) for _ in range(3)]
    await asyncio.sleep(0)

    watched.stage()

    await within(asyncio.gather(*waiting))
    await within(watched.live.changed_since(0))  # it has changed already


async def test_server_ends_all_who_wait_are_woken_for_good() -> None:
    """A stream that waits would keep the process."""
    live = Live(CONTROL, 0)
    waiting = asyncio.create_task(live.changed_since(live.version))
    await asyncio.sleep(0)

    live.close()

    await within(waiting)
    await within(live.changed_since(live.version))
