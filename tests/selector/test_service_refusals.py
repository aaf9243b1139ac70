"""Calls that break the contract: refused, counted by reason, and no matter to the others."""

from __future__ import annotations

from pathlib import Path

from federation.runtime.partials import open_partial
from federation.tensors import encode
from federation.v1 import participation_pb2 as pb
from tests.counters import refused_calls
from tests.raw_client import end_frame, report_frames, start_frame
from tests.selector.stage import a_stage, ones
from tests.waiting import refused

SERVICE = "federation.v1.Participation"
UPDATE = encode(ones())


async def test_calls_are_refused_they_are_counted_and_the_round_goes_on_with_the_others(
    tmp_path: Path,
) -> None:
    """Whatever one client does wrong, the sum of the others is handed in."""
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        mallory = await stage.client("mallory")
        before = refused_calls()

        with refused("malformed-client-id"):
            await mallory.check_in(client_id="../up")
        with refused("protocol-mismatch"):
            await mallory.check_in(protocol_version=99)
        with refused("unknown-artifact"):
            await mallory.fetch(b"\x00" * 32)
        with refused("unknown-token"):
            await mallory.begin(len(UPDATE))
        with refused("unknown-token"):
            await mallory.send(report_frames("", UPDATE))
        with refused("no-permission"):
            await ben.send(report_frames(ben.token, UPDATE))
        with refused("update-too-large"):
            await ben.begin(1 << 40)
        await ben.begin(len(UPDATE))
        with refused("truncated"):
            await ben.send([start_frame(ben.token, len(UPDATE)), end_frame(UPDATE)])
        accepted = await ann.report(ones(2.0))
        partial = await stage.close()

        assert accepted.outcome == pb.REPORT_OUTCOME_ACCEPTED
        assert refused_calls() - before == {
            (SERVICE, "malformed-client-id"): 1,
            (SERVICE, "protocol-mismatch"): 1,
            (SERVICE, "unknown-artifact"): 1,
            (SERVICE, "unknown-token"): 2,
            (SERVICE, "no-permission"): 1,
            (SERVICE, "update-too-large"): 1,
            (SERVICE, "truncated"): 1,
        }
        assert (partial.count, list(partial.client_ids)) == (1, ["ann"])
        with open_partial(stage.directory.partial("north")) as file:
            assert file.header.client_ids == ("ann",)
