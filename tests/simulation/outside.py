"""What is seen from outside: commits, receipts and streams, held against what clients trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.draft import Closing
from coordinator.driver import Driver
from coordinator.events import Owner
from federation.phases import Outcome
from federation.plan import RoundPlan
from federation.v1 import participation_pb2 as pb
from tests.simulation.calls import Call
from tests.simulation.directory import Published
from tests.simulation.surroundings import Surroundings
from tests.simulation.updates import Updates
from tests.simulation.watch import Book


class Outside:
    """Checks each commit and each answer as it becomes visible.

    Args:
        around: Where it becomes visible.
        book: What is durable.
        updates: What the clients trained.
        plan: Of every round.
        violated: Told of what must not be.

    Attributes:
        happened: Told when a receipt leaves a selector.
    """

    def __init__(
        self,
        around: Surroundings,
        book: Book,
        updates: Updates,
        plan: RoundPlan,
        violated: Callable[[str], None],
    ) -> None:
        self._around = around
        self._book = book
        self._updates = updates
        self._plan = plan
        self._violated = violated
        self._incarnations: dict[Any, Owner] = {}
        self._claims: dict[str, tuple[str, str]] = {}
        self._accepted: dict[tuple[str, Owner], set[str]] = {}
        self._ended: set[Call] = set()
        self.happened: Callable[[str], None] = lambda trigger: None
        around.network.watch = self.sent
        around.directory.on_publish = self.published

    def serves(self, process: Any, owner: Owner) -> None:
        """Say which selector a process is."""
        self._incarnations[process] = owner

    # -- Commits ----------------------------------------------------------------------------------

    def published(self, number: int, found: Published) -> None:
        """Check a checkpoint as it passes the commit point."""
        manifest, round_ = found.manifest, self._book.ledger.round
        if round_ is None or round_.round_id != manifest["round_id"]:
            self._violated(f"round {number} was committed, which is not the durable round")
            return
        if round_.closing is not Closing.PUBLISHING:
            self._violated(f"round {number} was committed before that was durable")
        if manifest["base_digest"] != self._around.directory.digest:
            self._violated(f"round {number} was committed on another checkpoint than the current")
        client_ids = [c for s in manifest["selectors"].values() for c in s["client_ids"]]
        if len(client_ids) != len(set(client_ids)):
            self._violated(f"a client is in the sum of round {number} twice")
        if len(client_ids) < self._plan.min_reports:
            self._violated(f"round {number} was committed with {len(client_ids)} reports")
        possible = self._updates.checkpoints(
            manifest["round_id"], client_ids, equal=self._plan.weighting == "equal"
        )
        if found.wire not in possible:
            self._violated(f"the checkpoint of round {number} is not what its clients trained")

    # -- Answers ----------------------------------------------------------------------------------

    def sent(self, call: Call, message: Any) -> None:
        """Look at a message as it leaves a server."""
        match message:
            case pb.CheckInEvent():
                self._check_in_answered(call, message)
            case pb.ReportReceipt():
                self._receipt(call, message)
            case pb.BeginReportResponse() if message.WhichOneof("answer") == "receipt":
                self._receipt(call, message.receipt)

    def _check_in_answered(self, call: Call, event: pb.CheckInEvent) -> None:
        if call in self._ended:
            self._violated("a check-in was answered again after its end")
        match event.WhichOneof("event"):
            case "declined" | "aborted":
                self._ended.add(call)
            case "configured":
                claim = (call.request.client_id, event.configured.round_id)
                known = self._claims.setdefault(event.configured.session_token, claim)
                if known != claim:
                    self._violated("two claims have one token")

    def _receipt(self, call: Call, receipt: pb.ReportReceipt) -> None:
        if receipt.outcome != pb.REPORT_OUTCOME_ACCEPTED:
            return
        self.happened("receipt")
        client_id, round_id = self._claims[call.token]
        owner = self._incarnations[call.server]
        self._accepted.setdefault((round_id, owner), set()).add(client_id)

    # -- The end ----------------------------------------------------------------------------------

    def check_end(self, driver: Driver | None) -> None:
        """Hold what became of the rounds against each other."""
        past = self._around.directory.past
        for number, round_ in self._book.outcomes.items():
            committed = number in past and past[number].manifest["round_id"] == round_.round_id
            if committed != (round_.outcome is Outcome.COMMITTED):
                self._violated(f"round {number} is {round_.outcome}, and in history: {committed}")
            if committed and round_.checkpoint_digest != past[number].digest:
                self._violated(f"round {number} names another checkpoint than it made")
            for owner, duty in round_.duties.items():
                told = self._accepted.get((round_.round_id, owner), set())
                if duty.partial is not None and not told <= set(duty.partial.client_ids):
                    self._violated(f"{owner} lost reports that it accepted, and did not die")
            if committed:
                self._check_manifest(number, past[number], round_)
        session = self._book.ledger.session
        if session is None or session.completed != len(self._book.outcomes):
            self._violated(f"{session} does not count its rounds")
        if session is not None and session.final_digest != self._around.directory.digest:
            self._violated("the session ended with another checkpoint than it says")
        if self._around.directory.current[1] != max(past, default=0):
            self._violated("the newest commit is not current")
        if driver is None or driver.base_digest != self._around.directory.digest:
            self._violated("the coordinator takes another checkpoint for the current one")

    def _check_manifest(self, number: int, found: Published, round_: Any) -> None:
        listed = {c for s in found.manifest["selectors"].values() for c in s["client_ids"]}
        reported = {c for c, claim in round_.claims.items() if claim.standing == "reported"}
        if listed != reported:
            self._violated(f"round {number} says {reported} reported, its sum has {listed}")
