"""Tests of ``coordinator.lobby``."""

from __future__ import annotations

from coordinator.effects import Decline, Effect, Release
from coordinator.events import CheckedIn, Owner
from coordinator.lobby import Lobby
from tests.coordinator.rounds import NORTH, NORTH_RESTARTED, RETRY_WINDOW, SOUTH


def a_lobby(*client_ids: str, owner: Owner = NORTH, held_max: int = 10) -> Lobby:
    """Build a lobby in which these clients wait."""
    lobby = Lobby(held_max)
    arrive(lobby, owner, *client_ids)
    return lobby


def arrive(lobby: Lobby, owner: Owner, *client_ids: str, session_id: str = "") -> list[Effect]:
    """Check clients in that last took part in this session."""
    session_ids = (session_id,) * len(client_ids)
    return lobby.check_in(CheckedIn(owner, client_ids, session_ids), RETRY_WINDOW)


def test_client_checks_in_between_rounds_it_is_held_in_its_turn() -> None:
    """Without a round clients are held, first come first, over all selectors."""
    lobby = a_lobby("cat", "ann")

    effects = arrive(lobby, SOUTH, "ben")

    assert effects == []
    assert list(lobby.waiting.items()) == [("cat", NORTH), ("ann", NORTH), ("ben", SOUTH)]


def test_clients_come_without_a_word_of_sessions_they_are_held() -> None:
    """A client that never took part has no session to name."""
    lobby = a_lobby()

    effects = lobby.check_in(CheckedIn(NORTH, ("ann", "ben")), RETRY_WINDOW)

    assert effects == []
    assert list(lobby.waiting) == ["ann", "ben"]


def test_lobby_is_full_client_is_declined() -> None:
    """There is a named limit on everything: beyond ``held_max`` clients come back later."""
    lobby = a_lobby("ann", held_max=2)

    effects = arrive(lobby, SOUTH, "ben", "cat")

    assert effects == [Decline(SOUTH, ("cat",), "full", RETRY_WINDOW)]
    assert list(lobby.waiting) == ["ann", "ben"]


def test_lobby_is_full_a_held_client_repeats_its_check_in_and_stays() -> None:
    """A repeated check-in takes no second place."""
    lobby = a_lobby("ann", "ben", held_max=2)

    effects = arrive(lobby, NORTH, "ann")

    assert effects == []
    assert list(lobby.waiting) == ["ann", "ben"]


def test_held_client_checks_in_elsewhere_its_older_stream_is_released() -> None:
    """The newest stream wins, and the client keeps its turn."""
    lobby = a_lobby("ann", "ben", held_max=2)

    effects = arrive(lobby, SOUTH, "ann")

    assert effects == [Release(NORTH, ("ann",))]
    assert list(lobby.waiting.items()) == [("ann", SOUTH), ("ben", NORTH)]


def test_held_client_leaves_its_place_is_free() -> None:
    """Only the end of the stream that holds a client counts; strangers are ignored."""
    lobby = a_lobby("ann", "ben")

    lobby.leave(NORTH, ["ann", "nobody"])
    lobby.leave(SOUTH, ["ben"])

    assert list(lobby.waiting) == ["ben"]


def test_selector_leaves_its_clients_are_forgotten() -> None:
    """Its hello names them again; another process of the same selector is another owner."""
    lobby = a_lobby("ann", "ben")
    arrive(lobby, NORTH_RESTARTED, "cat")

    lobby.selector_left(NORTH)

    assert dict(lobby.waiting) == {"cat": NORTH_RESTARTED}


def test_round_takes_the_waiting_clients_the_lobby_is_empty() -> None:
    """Clients are handed over once, first come first."""
    lobby = a_lobby("cat", "ann")

    taken = lobby.take()

    assert list(taken.items()) == [("cat", NORTH), ("ann", NORTH)]
    assert lobby.take() == {}


def test_session_ends_everybody_who_waits_is_told() -> None:
    """At the end held clients are sent away, a word to each selector."""
    lobby = a_lobby("ann", "ben")
    arrive(lobby, SOUTH, "cat")

    effects = lobby.end_session("session-1", "session-over", RETRY_WINDOW)

    assert effects == [
        Decline(NORTH, ("ann", "ben"), "session-over", RETRY_WINDOW),
        Decline(SOUTH, ("cat",), "session-over", RETRY_WINDOW),
    ]
    assert lobby.waiting == {}


def test_participant_of_the_ended_session_comes_back_it_is_told_so() -> None:
    """Who took part hears that the session is over; who did not is held for the next."""
    lobby = a_lobby()
    lobby.end_session("session-1", "session-over", RETRY_WINDOW)

    over = arrive(lobby, NORTH, "ann", session_id="session-1")
    held = arrive(lobby, NORTH, "ben", session_id="session-0") + arrive(lobby, NORTH, "cat")

    assert over == [Decline(NORTH, ("ann",), "session-over", RETRY_WINDOW)]
    assert held == []
    assert list(lobby.waiting) == ["ben", "cat"]


def test_participant_of_the_ended_session_waits_already_it_is_sent_away_everywhere() -> None:
    """A client is held or declined, never both."""
    lobby = a_lobby()
    lobby.end_session("session-1", "session-over", RETRY_WINDOW)
    arrive(lobby, NORTH, "ann")

    effects = arrive(lobby, SOUTH, "ann", session_id="session-1")

    assert effects == [
        Release(NORTH, ("ann",)),
        Decline(SOUTH, ("ann",), "session-over", RETRY_WINDOW),
    ]
    assert lobby.waiting == {}


def test_coordinator_drains_participants_who_come_back_are_held_again() -> None:
    """Draining is not the session's end: the next coordinator goes on with it."""
    lobby = a_lobby("ann")

    drained = lobby.end_session("session-1", "draining", RETRY_WINDOW)
    back = arrive(lobby, NORTH, "ann", session_id="session-1")

    assert drained == [Decline(NORTH, ("ann",), "draining", RETRY_WINDOW)]
    assert back == []
    assert list(lobby.waiting) == ["ann"]
