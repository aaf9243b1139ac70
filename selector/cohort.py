"""The clients that a selector serves in one round, and the running sum of their reports.

A mutable object without I/O: it holds model-sized arrays. Its methods decide and change; what they
return says what the caller should do. ``fold`` alone is heavy and touches nothing but the sum, so
that it may run in a thread while the others go on.

A claim is spent by a verdict, never by bytes that fail verification. One report of a client is in
the sum at most once: ``begin_fold`` marks the claim before the fold, and everybody who asks again
gets the verdict of that fold. What is folded after the seal is in no partial, and not accepted. A
claim that was released is unknown here until it is ordered anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from federation import shapes
from federation.aggregation import WeightedMean
from federation.errors import PeerError, UpdateRejected
from federation.plan import RetryWindow, Weighting
from federation.screening import Limits, screen
from federation.tensors import ModelSpec


class Standing(StrEnum):
    """Where a client of the cohort stands; the last four are verdicts."""

    CLAIMED = "claimed"
    CONFIGURED = "configured"
    AWAY = "away"
    FOLDING = "folding"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DISCARDED = "discarded"
    WITHDRAWN = "withdrawn"


UNSPENT = frozenset({Standing.CLAIMED, Standing.CONFIGURED, Standing.AWAY})
VERDICTS = frozenset({Standing.ACCEPTED, Standing.REJECTED, Standing.DISCARDED, Standing.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class CohortOrder:
    """What the coordinator asked of this selector for one round.

    Attributes:
        round_id: Decides what belongs to the round.
        round_number: For people.
        base_digest: Hex SHA-256 of the base checkpoint's wire form.
        weighting: How much a report weighs.
        limits: What a report must satisfy.
        retry_window: When clients come back after a receipt.
    """

    round_id: str
    round_number: int
    base_digest: str
    weighting: Weighting
    limits: Limits
    retry_window: RetryWindow


@dataclass(frozen=True, slots=True)
class Transfer:
    """What arrived of a report: counted, measured and hashed."""

    chunks: int
    size_bytes: int
    sha256: bytes


@dataclass
class Member:
    """One claimed client.

    Attributes:
        client_id: Who it is.
        token: Proof of the claim; random, never logged.
        standing: Where the client stands.
        reason: Stable word of a verdict; empty if accepted.
        detail: A sentence about the reason.
        num_examples: What the report said.
        metrics: What the report said.
        training_s: Seconds that the training took, if the report said so.
        transfer: Of the report that was judged.
        receipt_given: The verdict was handed out to the client.
        shape: How far it came (federation/shapes.py).
    """

    client_id: str
    token: str
    standing: Standing = Standing.CLAIMED
    reason: str = ""
    detail: str = ""
    num_examples: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    training_s: float | None = None
    transfer: Transfer | None = None
    receipt_given: bool = False
    shape: str = shapes.ADMITTED

    def reach(self, mark: str) -> None:
        """The client took this step."""
        self.shape = shapes.reached(self.shape, mark)

    @property
    def reported(self) -> bool:
        """The report arrived, whatever became of it."""
        return self.shape.endswith((shapes.ARRIVED, shapes.REJECTED))

    @property
    def judged(self) -> bool:
        """A receipt exists."""
        return self.standing in VERDICTS


class Cohort:
    """The clients and the sum of one round.

    Args:
        order: What the coordinator asked for.
        spec: Names, shapes and dtypes of the model.
        base: The global weights, for the norm limit; None where there is no limit.

    Attributes:
        members: The claimed clients by id.
        released: Clients whose claims were given up, and not ordered anew.
        mean: The running sum.
        closed: No more permissions are given.
        sealed: The sum was handed in, or given up: nothing that is folded now counts.
        broken: Why the sum cannot be used; empty while it can.
    """

    def __init__(
        self, order: CohortOrder, spec: ModelSpec, base: Mapping[str, NDArray[Any]] | None
    ) -> None:
        self.order = order
        self.spec = spec
        self.base = base
        self.members: dict[str, Member] = {}
        self.released: set[str] = set()
        self.mean = WeightedMean(spec)
        self.closed = False
        self.sealed = False
        self.broken = ""
        self._by_token: dict[str, Member] = {}

    def claim(self, client_id: str, token: str) -> Member:
        """Take a client in; one that is in already keeps its token and its verdict."""
        member = self.members.get(client_id)
        if member is None:
            member = Member(client_id, token)
            self.members[client_id] = member
            self._by_token[token] = member
            self.released.discard(client_id)
        elif member.standing is Standing.AWAY:
            member.standing = Standing.CLAIMED
        return member

    def member_of(self, token: str) -> Member | None:
        """Return whose token this is."""
        return self._by_token.get(token)

    def mark_configured(self, client_id: str) -> None:
        """The configuration was written to the client's stream."""
        member = self.members[client_id]
        member.reach(shapes.CONFIGURED)
        if member.standing is Standing.CLAIMED:
            member.standing = Standing.CONFIGURED

    def leave(self, client_id: str) -> bool:
        """The client's stream ended; say whether the round waits for it."""
        member = self.members.get(client_id)
        if member is None or member.standing not in UNSPENT:
            return False
        member.standing = Standing.AWAY
        return True

    def may_report(self, member: Member) -> bool:
        """Say whether this client's bytes are still wanted."""
        claimed = self._by_token.get(member.token) is member
        return claimed and not self.closed and not self.broken and member.standing in UNSPENT

    def is_open_to(self, member: Member) -> bool:
        """Say whether there is something for this client to do here: report, or take a receipt."""
        if member.standing in (Standing.FOLDING, Standing.ACCEPTED, Standing.REJECTED):
            return not member.receipt_given
        return self.may_report(member)

    def begin_fold(
        self,
        member: Member,
        transfer: Transfer,
        num_examples: int,
        metrics: Mapping[str, float],
        training_s: float | None = None,
    ) -> bool:
        """Mark the claim for this verified report; False if it is spent, or too late."""
        if not self.may_report(member):
            return False
        member.standing = Standing.FOLDING
        member.reach(shapes.ARRIVED)
        member.transfer = transfer
        member.num_examples = num_examples
        member.metrics = dict(metrics)
        member.training_s = training_s
        return True

    def fold(
        self,
        member: Member,
        weights: Mapping[str, NDArray[Any]],
        keep: Callable[[], None] | None = None,
    ) -> None:
        """Screen the update and add it to the sum. Heavy; the sum has one writer at a time.

        Args:
            member: Whose it is.
            weights: The tensors of ``spec``.
            keep: Makes a screened update outlive the process; what it raises goes to the caller,
                and the sum is unchanged.

        Raises:
            UpdateRejected: It failed screening, or the sum is broken; the sum is unchanged.
        """
        if self.broken:
            raise UpdateRejected("an earlier fold of this round failed", reason=self.broken)
        screen(weights, member.num_examples, self.spec, self.order.limits, self.base)
        if keep is not None and not self.sealed:
            keep()
        weight = 1 if self.order.weighting == "equal" else member.num_examples
        self.mean.add(weights, weight, member.client_id)

    def accept(self, member: Member) -> None:
        """The update is in the sum; it counts unless the sum was sealed meanwhile."""
        assert member.standing is Standing.FOLDING
        if self.sealed:
            member.standing = Standing.DISCARDED
            member.reason, member.detail = "late", "the sum was handed in before it was folded"
            self._drop_sum()
        else:
            member.standing = Standing.ACCEPTED

    def reject(self, member: Member, error: PeerError) -> None:
        """The update failed screening."""
        assert member.standing is Standing.FOLDING
        member.standing = Standing.REJECTED
        member.reason, member.detail = error.reason, error.detail
        if self.sealed:
            self._drop_sum()

    def unable(self, member: Member, reason: str, detail: str) -> bool:
        """A verified report cannot be folded here; say whether its claim was released for that.

        It is discarded instead if reporting has closed: nobody else could fold it then.
        """
        assert member.standing is Standing.FOLDING
        member.standing = Standing.CONFIGURED
        if self.closed:
            self.discard(member, reason, detail)
            if self.sealed:
                self._drop_sum()
        else:
            self.release(member)
        return not self.closed

    def release(self, member: Member) -> None:
        """Give up a claim that is not spent: another selector may fold this client."""
        assert member.standing in UNSPENT
        del self.members[member.client_id]
        del self._by_token[member.token]
        self.released.add(member.client_id)

    def release_unspent(self) -> list[str]:
        """Give up all claims that are not spent; return whose they are."""
        unspent = [member for member in self.members.values() if member.standing in UNSPENT]
        for member in unspent:
            self.release(member)
        return [member.client_id for member in unspent]

    def break_sum(self, reason: str) -> None:
        """A fold failed half-way: the sum cannot be used, and nothing is counted from it."""
        self.broken = reason

    def discard(self, member: Member, reason: str, detail: str) -> bool:
        """The report is late or surplus; False if it has a verdict or is being folded."""
        if member.standing not in UNSPENT:
            return False
        member.standing = Standing.DISCARDED
        member.reason, member.detail = reason, detail
        return True

    def withdraw(self, member: Member, reason: str) -> bool:
        """The client bows out; False if there is nothing to bow out of."""
        if member.standing not in UNSPENT:
            return False
        member.standing = Standing.WITHDRAWN
        member.reason = reason
        return True

    def close(self) -> tuple[Member, ...]:
        """Give no more permissions; return those whose reports did not come.

        A client that is away is among them. Those that are being folded are judged to the end.
        """
        self.closed = True
        return tuple(m for m in self.members.values() if m.standing in UNSPENT)

    def seal(self) -> None:
        """The sum was handed in or given up: a fold that is still under way does not count."""
        assert self.closed
        self.sealed = True

    def end(self) -> None:
        """The round is over: give the memory of the sum back; the receipts stay."""
        self.seal()
        self._drop_sum()

    def _drop_sum(self) -> None:
        if self.sealed and not self.folding:
            self.mean = WeightedMean(ModelSpec.of({}))
            self.base = None

    @property
    def folding(self) -> bool:
        """A fold is under way, so the sum cannot be sealed yet."""
        return any(m.standing is Standing.FOLDING for m in self.members.values())

    @property
    def accepted(self) -> tuple[Member, ...]:
        """Those whose reports are in the sum."""
        return tuple(m for m in self.members.values() if m.standing is Standing.ACCEPTED)
