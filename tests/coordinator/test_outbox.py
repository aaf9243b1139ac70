"""What webservers are still to be told, on disk."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from coordinator.outbox import Letter, Outbox, Owed
from coordinator.outbox_file import remove_outbox
from federation.errors import StoreError

NEAR, FAR = "http://near.example/", "http://far.example/?token=of-nobody's-business"
ALL = 1 << 30


def letter(stage: int, body: bytes = b"{}") -> Letter:
    """Tell of a stage."""
    return Letter(stage, 1000.0 + stage, f"{stage:012}.000000.000000", body)


def noise_of(size: int) -> bytes:
    """Return what cannot be compressed."""
    return random.Random(size).randbytes(size)


def an_outbox(folder: Path, *urls: str, told: int = 0, **limits: int) -> Outbox:
    """Open the outbox of a coordinator with these webservers."""
    outbox = Outbox(folder / "outbox.sqlite", **limits)
    outbox.begin(urls or (NEAR,), told)
    return outbox


def stages(outbox: Outbox, url: str = NEAR) -> list[int]:
    """Return what this webserver is owed."""
    return [each.stage for each in outbox.waiting(url, ALL, ALL)]


def test_updates_are_put_in_they_come_out_in_order_for_each_webserver(tmp_path: Path) -> None:
    """What one has, another may still be owed."""
    outbox = an_outbox(tmp_path, NEAR, FAR)
    outbox.put([letter(1, b"one"), letter(2, b"two")])
    outbox.put([letter(3)])

    first, second, _ = outbox.waiting(NEAR, ALL, ALL)
    outbox.delivered(NEAR, second.position)

    assert (first.body, second.body) == (b"one", b"two")
    assert stages(outbox) == [3]
    assert stages(outbox, FAR) == [1, 2, 3]
    outbox.close()


def test_coordinator_restarts_what_was_not_delivered_is_still_there(tmp_path: Path) -> None:
    """Also whether the session was told of, and which stage was the last."""
    outbox = an_outbox(tmp_path)
    outbox.put([letter(1), letter(2)], session="s False")
    outbox.delivered(NEAR, outbox.waiting(NEAR, 1, ALL)[0].position)
    outbox.close()

    outbox = an_outbox(tmp_path, told=7)

    assert (outbox.told, outbox.session, stages(outbox)) == (2, "s False", [2])
    outbox.close()


def test_everything_is_delivered_nothing_is_kept_and_no_position_repeats(tmp_path: Path) -> None:
    """A webserver's place among the updates stays right when there are none."""
    outbox = an_outbox(tmp_path)
    for stage in (1, 2):
        outbox.put([letter(stage)])
        [waiting] = outbox.waiting(NEAR, ALL, ALL)
        outbox.delivered(NEAR, waiting.position)

    assert (waiting.stage, waiting.position) == (2, 2)
    assert outbox.owed([NEAR]) == {NEAR: Owed()}
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as database:
        assert database.execute("SELECT count(*) FROM updates").fetchone() == (0,)
    database.close()


def test_much_was_delivered_the_file_becomes_small_again(tmp_path: Path) -> None:
    """A webserver that was away for long leaves no large file behind."""
    outbox = an_outbox(tmp_path)
    noise = [noise_of(20_000) for _ in range(80)]
    outbox.put([letter(n + 1, body) for n, body in enumerate(noise)])
    large = (tmp_path / "outbox.sqlite").stat().st_size

    outbox.delivered(NEAR, 80)

    assert large > 1 << 20 > (tmp_path / "outbox.sqlite").stat().st_size
    outbox.close()


def test_webserver_is_removed_from_the_settings_its_updates_are_forgotten(tmp_path: Path) -> None:
    """It would never take them, and the outbox would grow for ever."""
    outbox = an_outbox(tmp_path, NEAR, FAR)
    outbox.put([letter(1)])
    outbox.delivered(NEAR, 1)
    outbox.close()

    outbox = an_outbox(tmp_path, NEAR)

    assert outbox.owed([NEAR, FAR]) == {NEAR: Owed(), FAR: Owed()}
    outbox.close()


def test_url_of_a_webserver_is_corrected_the_right_one_gets_what_is_still_there(
    tmp_path: Path,
) -> None:
    """Stages that went nowhere since a name was wrong arrive once it is right."""
    outbox = an_outbox(tmp_path, "http://naer.example/")
    outbox.put([letter(1), letter(2)])
    outbox.close()

    outbox = an_outbox(tmp_path, NEAR)

    assert stages(outbox) == [1, 2]
    outbox.close()


def test_limit_of_updates_is_reached_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    """The disk that rounds need is not filled by what nobody takes."""
    outbox = an_outbox(tmp_path, updates_max=3)
    outbox.put([letter(1), letter(2)])

    outbox.put([letter(3), letter(4), letter(5)])

    assert (stages(outbox), outbox.dropped, outbox.told) == ([3, 4, 5], 2, 5)
    outbox.close()


def test_limit_of_bytes_is_reached_the_oldest_are_dropped_also_after_a_restart(
    tmp_path: Path,
) -> None:
    """How much there is is not forgotten with the process."""
    bodies = [noise_of(1000) for _ in range(4)]
    outbox = an_outbox(tmp_path)
    outbox.put([letter(1, bodies[0]), letter(2, bodies[1])])
    outbox.close()

    outbox = an_outbox(tmp_path, bytes_max=2500)
    outbox.put([letter(3, bodies[2])])

    assert stages(outbox) == [2, 3]
    outbox.close()


def test_many_are_waiting_no_more_are_read_than_was_asked_for(tmp_path: Path) -> None:
    """But always one, however large it is."""
    outbox = an_outbox(tmp_path)
    outbox.put([letter(1, bytes(3000)), letter(2, bytes(3000)), letter(3, bytes(3000))])

    assert len(outbox.waiting(NEAR, 2, ALL)) == 2
    assert len(outbox.waiting(NEAR, ALL, 6000)) == 2
    assert len(outbox.waiting(NEAR, ALL, 1)) == 1
    outbox.close()


def test_depth_is_asked_for_count_and_age_of_the_oldest_are_said(tmp_path: Path) -> None:
    """For each webserver its own."""
    outbox = an_outbox(tmp_path, NEAR, FAR)
    outbox.put([letter(1), letter(2)])
    outbox.delivered(NEAR, 1)

    assert outbox.owed([NEAR, FAR]) == {NEAR: Owed(1, 1002.0), FAR: Owed(2, 1001.0)}
    outbox.close()


def test_disk_is_full_nothing_is_kept_by_halves_and_later_all_of_it(tmp_path: Path) -> None:
    """A full disk says so, and harms nothing that is there already."""
    outbox = an_outbox(tmp_path)
    outbox.put([letter(1)])
    with outbox._file.transaction() as database:
        [(pages,)] = database.execute("PRAGMA page_count").fetchall()
        database.execute(f"PRAGMA max_page_count = {pages}")
    large = noise_of(30_000)

    with pytest.raises(StoreError) as caught:
        outbox.put([letter(2), letter(3, large)])

    assert (caught.value.reason, outbox.told, stages(outbox)) == ("disk-full", 1, [1])
    outbox.put([letter(2), letter(3, large)])  # the limit went with the connection
    assert stages(outbox) == [1, 2, 3]
    outbox.close()


def test_file_is_damaged_it_is_set_aside_and_the_journal_tells_all_again(tmp_path: Path) -> None:
    """Webservers drop what they know; people may look at what was there."""
    (tmp_path / "outbox.sqlite").write_bytes(b"no database at all" * 1000)

    outbox = Outbox(tmp_path / "outbox.sqlite")

    assert outbox.told == 0
    assert (tmp_path / "outbox.sqlite.damaged").exists()
    outbox.close()


def test_file_is_damaged_while_it_is_used_the_next_update_begins_a_new_one(tmp_path: Path) -> None:
    """One update is refused, and the coordinator tries again as it does for any disk."""
    outbox = an_outbox(tmp_path)
    outbox.put([letter(1)])
    outbox.close()
    (tmp_path / "outbox.sqlite").write_bytes(b"no database at all" * 1000)

    with pytest.raises(StoreError) as caught:
        outbox.put([letter(2)])
    outbox.put([letter(2)])

    assert caught.value.reason == "outbox-damaged"
    assert (stages(outbox), outbox.told) == ([2], 2)
    outbox.close()


def test_nobody_is_to_be_told_nothing_is_kept(tmp_path: Path) -> None:
    """A coordinator without webservers has no outbox."""
    an_outbox(tmp_path).close()

    remove_outbox(tmp_path / "outbox.sqlite")

    assert list(tmp_path.iterdir()) == []


def test_url_carries_a_token_it_is_not_written_to_the_file(tmp_path: Path) -> None:
    """The shared directory is read by others."""
    outbox = an_outbox(tmp_path, FAR)
    outbox.put([letter(1)])
    outbox.close()

    assert b"of-nobody" not in (tmp_path / "outbox.sqlite").read_bytes()
