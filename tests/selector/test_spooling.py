"""A selector with a spool dies and is started again; its coordinator does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from federation.errors import SettingsError, StoreError
from federation.runtime.partials import open_partial
from federation.runtime.store import SharedDirectory
from federation.tensors import encode
from federation.tokens import KEY_BYTES, mint
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2 as participation
from selector.app import Limits, SelectorServer
from selector.rebuilding import load
from selector.spool_files import write_update
from selector.uplink import Superseded
from tests.raw_client import report_frames
from tests.selector.stage import ZEROS, Stage, ones
from tests.servers import (
    HOST,
    ScriptedCoordinator,
    a_scripted_coordinator,
    a_selector,
    a_shared_directory,
)
from tests.waiting import eventually, refused, within

ACCEPTED = participation.REPORT_OUTCOME_ACCEPTED

UPDATE = encode(ones())
KEY = b"k" * KEY_BYTES


@dataclass
class House:
    """One selector's spool, its coordinator, and processes of it, one after the other.

    Attributes:
        shared_data: The shared directory.
        coordinator: Does as it is told.
        port: Where it listens.
    """

    shared_data: Path
    coordinator: ScriptedCoordinator
    port: int

    @property
    def updates(self) -> list[str]:
        """The updates in the spool."""
        return sorted(path.name for path in self.shared_data.glob("north/spool/round/*.update"))

    @property
    def round(self) -> Path:
        """What the spool holds of a round."""
        return self.shared_data / "north" / "spool" / "round"

    @asynccontextmanager
    async def process(self, **limits: Any) -> AsyncIterator[Stage]:
        """Start the selector; leaving the block it is gone without a word."""
        directory = SharedDirectory(self.shared_data)
        async with (
            a_selector(self.shared_data, self.port, spool=True, **limits) as server,
            AsyncExitStack() as clients,
        ):
            attachment = await self.coordinator.attachment()
            await eventually(server.uplink.attached.is_set)
            server.selector.use_token_key(KEY)  # as every coordinator on the directory has it
            yield Stage(self.coordinator, self.port, attachment, server, directory, clients)


@asynccontextmanager
async def a_house(shared_data: Path) -> AsyncIterator[House]:
    """Build it."""
    a_shared_directory(shared_data, ZEROS)
    async with a_scripted_coordinator() as (coordinator, port):
        yield House(shared_data, coordinator, port)


async def folded(stage: Stage, count: int) -> dict[str, pb.FoldedReport]:
    """Wait until a selector has said of so many clients that it folded them, and return whom."""
    told = {report.client_id: report for report in stage.attachment.hello.cohort.folded}
    while len(told) < count:
        event = await stage.attachment.after("reports_folded")
        told |= {report.client_id: report for report in event.reports}
    return told


async def sums(stage: Stage) -> tuple[list[float], tuple[str, ...], str]:
    """Close the round; return the sum that was written, whose it is, and the digest."""
    partial = await stage.close()
    with open_partial(stage.directory.partial("north")) as file:
        values = [float(value) for block in file.blocks("w") for value in block]
        return values, file.header.client_ids, partial.sha256


async def test_selector_dies_after_its_receipts_the_next_process_has_the_same_sum(
    tmp_path: Path,
) -> None:
    """It attaches as the same incarnation, says whom it folded, and who is away."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            first = stage.attachment.hello.incarnation
            [ann, ben, _] = await stage.configured("ann", "ben", "cleo")
            await stage.order("dan")
            receipts = [
                await ann.report(ones(0.1), 3, loss=0.5),
                await ben.report(ones(0.7), 7),
            ]
        async with house.process() as again:
            hello = again.attachment.hello
            told = await folded(again, 2)
            values, client_ids, _ = await sums(again)

        assert [receipt.outcome for receipt in receipts] == [ACCEPTED, ACCEPTED]
        assert hello.incarnation == first
        assert (hello.cohort.round_id, hello.cohort.round_number) == ("round-1", 1)
        assert told.keys() == {"ann", "ben"}
        assert dict(told["ann"].metrics) == {"loss": 0.5}
        assert sorted(hello.cohort.away) == ["cleo", "dan"]
        assert client_ids == ("ann", "ben")
        expected = 3 * float(ones(0.1)["w"][0, 0]) + 7 * float(ones(0.7)["w"][0, 0])
        assert values == [expected] * 6


async def test_selector_dies_before_its_receipt_came_the_next_process_gives_it(
    tmp_path: Path,
) -> None:
    """A spooled report is folded once, whoever asks for it."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann] = await stage.configured("ann")
            await ann.report(ones())
        async with house.process() as again:
            other = await again.client("ann")
            other.token = ann.token
            begun = await other.begin(len(UPDATE))
            repeated = await other.send(report_frames(other.token, UPDATE))
            partial = await again.close()

        assert begun.receipt.outcome == ACCEPTED
        assert repeated.outcome == ACCEPTED
        assert partial.count == 1


async def test_client_that_was_accepted_checks_in_it_is_not_asked_to_train_again(
    tmp_path: Path,
) -> None:
    """The coordinator is asked, who knows that its report is folded."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann] = await stage.configured("ann")
            await ann.report(ones())
        async with house.process() as again:
            await again.held("ann")

            asked = await again.attachment.after("clients_checked_in")
            assert [client.client_id for client in asked.clients] == ["ann"]


async def test_client_that_was_training_comes_back_it_reports_to_the_next_process(
    tmp_path: Path,
) -> None:
    """Same token, and the sum goes on from where it was."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, ben] = await stage.configured("ann", "ben")
            await ann.report(ones(1.0))
        async with house.process() as again:
            [later] = await again.held("ben")
            await again.order("ben")
            await later.configured()
            receipt = await later.report(ones(2.0))
            values, client_ids, _ = await sums(again)

        assert later.token == ben.token
        assert receipt.outcome == ACCEPTED
        assert client_ids == ("ann", "ben")
        assert values == [3.0] * 6


async def test_third_process_has_what_the_first_two_folded(tmp_path: Path) -> None:
    """The spool goes on where it was."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, *_] = await stage.configured("ann", "ben")
            await ann.report(ones(1.0))
        async with house.process() as stage:
            [ben] = await stage.held("ben")
            await stage.order("ben")
            await ben.configured()
            await ben.report(ones(2.0))
        async with house.process() as again:
            assert (await folded(again, 2)).keys() == {"ann", "ben"}
            assert (await sums(again))[0] == [3.0] * 6


async def test_selector_dies_after_its_partial_was_written_it_is_handed_in_once_more(
    tmp_path: Path,
) -> None:
    """To the bit the same, and nobody is folded into it any more."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, _] = await stage.configured("ann", "ben")
            await ann.report(ones())
            partial = await stage.close()
        async with house.process() as again:
            hello = again.attachment.hello
            other = await again.client("ann")
            other.token = ann.token
            begun = await other.begin(len(UPDATE))
            later = await again.close()

        assert partial.count == 1
        assert hello.cohort.partial == partial
        assert later == partial
        assert begun.receipt.outcome == ACCEPTED


async def test_selector_dies_before_it_noted_its_partial_the_same_one_is_written_again(
    tmp_path: Path,
) -> None:
    """The coordinator may have looked at the first one already."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            clients = await stage.configured("ann", "ben", "cleo")
            for client, factor in zip(clients, (0.1, 0.2, 0.3), strict=True):
                await client.report(ones(factor), 3)
            before = await sums(stage)
        (house.round / "partial").unlink()
        async with house.process() as again:
            assert not again.attachment.hello.cohort.HasField("partial")
            assert await sums(again) == before


async def test_spooled_update_is_damaged_its_client_is_not_claimed_as_folded(
    tmp_path: Path,
) -> None:
    """The rest of the round is good."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, ben] = await stage.configured("ann", "ben")
            await ann.report(ones(1.0))
            await ben.report(ones(2.0))
        first = house.round / house.updates[0]
        first.write_bytes(first.read_bytes()[:-1] + b"\x7f")
        async with house.process() as again:
            told = await folded(again, 1)
            values, client_ids, _ = await sums(again)

        assert told.keys() == {"ben"}
        assert client_ids == ("ben",)
        assert values == [2.0] * 6


async def test_facts_of_a_spooled_update_are_damaged_its_client_is_away(tmp_path: Path) -> None:
    """It cannot even be said what it was."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, ben] = await stage.configured("ann", "ben")
            await ann.report(ones(1.0))
            await ben.report(ones(2.0))
        (house.round / house.updates[0]).write_bytes(b"torn")
        async with house.process() as again:
            assert list(again.attachment.hello.cohort.away) == ["ann"]
            assert (await sums(again))[:2] == ([2.0] * 6, ("ben",))


async def test_spooled_update_is_damaged_its_client_may_report_elsewhere(tmp_path: Path) -> None:
    """Its claim is released, in case that the coordinator was not told that it was folded."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, _] = await stage.configured("ann", "ben")
            await ann.report(ones(1.0))
        only = house.round / house.updates[0]
        only.write_bytes(only.read_bytes()[:-1] + b"\x7f")
        async with house.process() as again:
            released = list(again.attachment.hello.cohort.released)
            if not released:
                released += (await again.attachment.after("claims_released")).client_ids

        assert released == ["ann"]


async def test_round_closes_while_the_sum_is_rebuilt_all_of_it_is_handed_in(
    tmp_path: Path,
) -> None:
    """A selector attaches before it has read its spool, and is waited for as for any fold."""
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(path: Path) -> Any:
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return load(path)

    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            clients = await stage.configured("ann", "ben")
            for client, factor in zip(clients, (1.0, 2.0), strict=True):
                await client.report(ones(factor))
        with patch("selector.selector.load", slowly):
            async with house.process() as again:
                hello = again.attachment.hello
                closing = asyncio.create_task(sums(again))
                cohort = again.server.selector.cohort
                assert cohort is not None
                await eventually(lambda: cohort.closed)
                go_on.set()
                values, client_ids, _ = await within(closing)

        assert list(hello.cohort.folded) == list(hello.cohort.away) == []
        assert client_ids == ("ann", "ben")
        assert values == [3.0] * 6


# -- The coordinator must agree ---------------------------------------------------------------


@pytest.mark.parametrize("reason", ["unknown-round", "selector-lost", ""])
async def test_round_went_on_without_the_selector_its_spool_is_discarded(
    tmp_path: Path, reason: str
) -> None:
    """What it holds counts for nothing, and the next process is a new incarnation."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann] = await stage.configured("ann")
            await ann.report(ones())
        async with house.process() as stage:
            first = stage.attachment.hello.incarnation
            await stage.end(reason=reason)
            await eventually(lambda: not house.round.exists())
            ben = await stage.client("ben")
            ben.token = mint(KEY, "round-1", "ben")
            with refused("claim-not-here"):
                await ben.begin(len(UPDATE))
        async with house.process() as again:
            assert again.attachment.hello.incarnation != first
            assert not again.attachment.hello.HasField("cohort")


async def test_checkpoint_is_another_one_by_now_the_round_is_over(tmp_path: Path) -> None:
    """It was committed, or begun anew from other weights, while the selector was down."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            first = stage.attachment.hello.incarnation
            [ann] = await stage.configured("ann")
            await ann.report(ones())
        (tmp_path / "initFiles" / "fl_checkpoint").unlink()
        a_shared_directory(tmp_path / "other", ones())
        (tmp_path / "other" / "initFiles" / "fl_checkpoint").rename(
            tmp_path / "initFiles" / "fl_checkpoint"
        )
        async with house.process() as again:
            assert again.attachment.hello.incarnation != first
            assert not again.attachment.hello.HasField("cohort")
            assert not house.round.exists()


@pytest.mark.parametrize("kept", [True, False])
async def test_partial_is_settled_the_spool_is_empty(tmp_path: Path, kept: bool) -> None:
    """Nothing is reset before the coordinator's word, and nothing stays longer."""
    async with a_house(tmp_path) as house, house.process() as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())
        await stage.close()
        assert house.updates == ["00000001.update"]

        await stage.attachment.send(settle_partial={"round_id": "round-1", "kept": kept})

        await eventually(lambda: not house.round.exists())


async def test_sum_was_given_up_the_next_process_does_not_take_it_up(tmp_path: Path) -> None:
    """The coordinator was told that there is none, and clients went elsewhere."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann] = await stage.configured("ann")
            await ann.report(ones())
            late = StoreError("the disk is full", reason="disk-full")
            with patch("selector.sealing.write_partial", side_effect=late):
                assert (await stage.close()).failure == "disk-full"
            assert not house.round.exists()
        async with house.process() as again:
            assert not again.attachment.hello.HasField("cohort")


async def test_another_process_serves_under_the_id_the_spool_is_void(tmp_path: Path) -> None:
    """Else each start would be superseded at once."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann] = await stage.configured("ann")
            await ann.report(ones())
            first = stage.attachment.hello.incarnation
        server = SelectorServer("north", tmp_path, f"{HOST}:{house.port}", Limits(spool=True))
        await server.start(HOST, 0)
        house.coordinator.first_command = pb.CoordinatorCommand(superseded=pb.Superseded())
        with pytest.raises(Superseded):
            await within(server.run())
        await server.stop(0.0)
        house.coordinator.first_command = None
        async with house.process() as again:
            assert again.attachment.hello.incarnation != first


# -- What cannot be spooled -------------------------------------------------------------------


def refusing(*_: object) -> None:
    """Stand in for a disk that is full."""
    raise StoreError("no space left", reason="disk-full")


async def test_disk_refuses_an_update_its_client_is_sent_elsewhere(tmp_path: Path) -> None:
    """Nothing of it is in the sum, its claim is free, and the others go on."""
    async with a_house(tmp_path) as house, house.process() as stage:
        await stage.attachment.send(selector_list={"addresses": ["south.example:1"]})
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.report(ones(1.0))
        with patch("selector.spool.write_update", refusing), refused("disk-full"):
            await ben.report(ones(2.0))

        released = await stage.attachment.after("claims_released")
        event = await ben.next_event()
        assert list(released.client_ids) == ["ben"]
        assert event is not None
        assert event.aborted.reason == "selector-failed"
        assert list(event.aborted.fallbacks) == ["south.example:1"]
        with refused("claim-not-here"):
            await ben.begin(len(UPDATE))
        assert (await sums(stage))[:2] == ([1.0] * 6, ("ann",))


async def test_disk_takes_updates_again_the_client_reports_where_it_was_refused(
    tmp_path: Path,
) -> None:
    """Where there is no other selector, the coordinator orders it anew."""
    async with a_house(tmp_path) as house, house.process() as stage:
        [ben] = await stage.configured("ben")
        with patch("selector.spool.write_update", refusing), refused("disk-full"):
            await ben.report(ones(2.0))
        await stage.attachment.after("claims_released")

        [again] = await stage.held("ben")
        await stage.order("ben")
        await again.configured()
        receipt = await again.report(ones(3.0))

        assert receipt.outcome == ACCEPTED
        assert (await sums(stage))[:2] == ([3.0] * 6, ("ben",))


async def test_disk_refuses_an_update_after_close_it_is_discarded_with_the_reason(
    tmp_path: Path,
) -> None:
    """Nobody else could fold it then."""
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def refusing_later(*_: object) -> None:
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        raise StoreError("no space left", reason="disk-full")

    async with a_house(tmp_path) as house, house.process() as stage:
        [ben] = await stage.configured("ben")
        with patch("selector.spool.write_update", refusing_later):
            reporting = asyncio.create_task(ben.report(ones()))
            await stage.stands("ben", "folding")
            closing = asyncio.create_task(stage.close())
            cohort = stage.server.selector.cohort
            assert cohort is not None
            await eventually(lambda: cohort.closed)
            go_on.set()
            receipt, partial = await within(reporting), await within(closing)

        assert (receipt.outcome, receipt.reason) == (
            participation.REPORT_OUTCOME_DISCARDED,
            "disk-full",
        )
        assert (partial.count, partial.failure) == (0, "")


async def test_disk_refuses_the_round_its_clients_are_sent_elsewhere(tmp_path: Path) -> None:
    """Who could not keep what it promises promises nothing."""
    async with a_house(tmp_path) as house, house.process() as stage:
        [ann] = await stage.held("ann")
        with patch("selector.spool.write_facts", refusing):
            await stage.order("ann")
            event = await ann.next_event()

        assert event is not None
        assert event.aborted.reason == "selector-failed"
        released = await stage.attachment.after("claims_released")
        assert list(released.client_ids) == ["ann"]
        assert stage.server.selector.cohort is None


async def test_receipt_waits_until_the_update_is_durable(tmp_path: Path) -> None:
    """What is promised is on disk."""
    entered, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(*arguments: Any) -> None:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        write_update(*arguments)

    async with a_house(tmp_path) as house, house.process() as stage:
        [ann] = await stage.configured("ann")
        with patch("selector.spool.write_update", slowly):
            reporting = asyncio.create_task(ann.report(ones()))
            await within(entered.wait())
            cohort = stage.server.selector.cohort
            assert cohort is not None
            assert cohort.mean.count == 0
            assert not reporting.done()
            go_on.set()
            receipt = await within(reporting)

        assert receipt.outcome == ACCEPTED
        assert house.updates == ["00000001.update"]


async def test_rejected_update_is_not_spooled(tmp_path: Path) -> None:
    """Nobody needs it again."""
    async with a_house(tmp_path) as house, house.process() as stage:
        [ann] = await stage.configured("ann")

        receipt = await ann.report(ones(float("nan")))

        assert receipt.outcome == participation.REPORT_OUTCOME_REJECTED
        assert house.updates == []


async def test_second_process_on_the_spool_does_not_start(tmp_path: Path) -> None:
    """It says why, and the first one serves on."""
    async with a_house(tmp_path) as house, house.process() as stage:
        with pytest.raises(SettingsError, match="another process of this selector"):
            async with house.process():
                pass

        [ann] = await stage.configured("ann")
        assert (await ann.report(ones())).outcome == ACCEPTED


# -- Draining ---------------------------------------------------------------------------------


async def test_drain_with_spooled_reports_leaves_the_round_to_the_next_process(
    tmp_path: Path,
) -> None:
    """What was accepted is not given up; whoever still trains may report elsewhere."""
    async with a_house(tmp_path) as house:
        async with house.process() as stage:
            [ann, ben] = await stage.configured("ann", "ben")
            await ann.report(ones())
            await within(stage.server.drain(0.0))
            event = await ben.next_event()
            released = await stage.attachment.after("claims_released")
            with refused("claim-not-here"):
                await ben.begin(len(UPDATE))
        async with house.process() as again:
            assert (await folded(again, 1)).keys() == {"ann"}

        assert event is not None
        assert event.aborted.reason == "draining"
        assert list(released.client_ids) == ["ben"]


async def test_drain_without_spooled_reports_says_goodbye(tmp_path: Path) -> None:
    """Nobody need wait for it."""
    async with a_house(tmp_path) as house, house.process() as stage:
        await stage.configured("ann")

        await within(stage.server.drain(0.0))

        await stage.attachment.after("detach")
