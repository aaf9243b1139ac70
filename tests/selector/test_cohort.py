"""The clients of one round at one selector, and their sum: pure, without a stream or a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from federation.errors import PeerError, UpdateRejected
from federation.plan import RetryWindow, Weighting
from federation.screening import Limits
from federation.tensors import ModelSpec
from selector.cohort import UNSPENT, VERDICTS, Cohort, CohortOrder, Member, Standing, Transfer

ZEROS = {"w": np.zeros(3, np.float32)}
TRANSFER = Transfer(1, 100, b"\x01" * 32)
CLIENTS = ("ann", "ben", "cleo")


def a_cohort(
    *client_ids: str,
    weighting: Weighting = "examples",
    update_norm_max: float | None = None,
    weight_max: int = 1000,
) -> Cohort:
    """A cohort with these clients, all of them configured."""
    order = CohortOrder(
        round_id="this-round",
        round_number=1,
        base_digest="ab" * 32,
        weighting=weighting,
        limits=Limits(weight_max, update_norm_max),
        retry_window=RetryWindow(1.0, 5.0),
    )
    cohort = Cohort(order, ModelSpec.of(ZEROS), ZEROS if update_norm_max else None)
    for client_id in client_ids:
        cohort.claim(client_id, f"token-of-{client_id}")
        cohort.mark_configured(client_id)
    return cohort


def filled(value: float) -> dict[str, NDArray[Any]]:
    """An update with this value in every entry."""
    return {"w": np.full(3, value, np.float32)}


def fold(cohort: Cohort, member: Member, value: float = 1.0, num_examples: int = 1) -> bool:
    """Do what a selector does with a verified report; say whether the claim was free for it."""
    if not cohort.begin_fold(member, TRANSFER, num_examples, {"loss": value}):
        return False
    try:
        cohort.fold(member, filled(value))
    except UpdateRejected as error:
        cohort.reject(member, error)
    else:
        cohort.accept(member)
    return True


# -- Claims -----------------------------------------------------------------------------------


def test_client_that_is_claimed_again_keeps_its_token() -> None:
    """A repeated check-in with an unspent claim gets the same token."""
    cohort = a_cohort("ann")

    member = cohort.claim("ann", "another-token")

    assert member.token == "token-of-ann"
    assert cohort.member_of("token-of-ann") is member
    assert cohort.member_of("another-token") is None


def test_client_whose_stream_ended_is_away_and_comes_back_unspent() -> None:
    """Away is not a fate: whoever returns is configured once more."""
    cohort = a_cohort("ann")

    left = cohort.leave("ann")
    away = cohort.members["ann"].standing
    member = cohort.claim("ann", "another-token")

    assert (left, away) == (True, Standing.AWAY)
    assert member.standing is Standing.CLAIMED
    assert cohort.may_report(member)


@pytest.mark.parametrize("client_id", ["nobody", "ann"])
def test_client_that_is_not_waited_for_leaves_nothing_changes(client_id: str) -> None:
    """A stranger's stream, or one that ended after the verdict, is of no consequence."""
    cohort = a_cohort("ann")
    fold(cohort, cohort.members["ann"])

    assert not cohort.leave(client_id)
    assert cohort.members["ann"].standing is Standing.ACCEPTED


def test_configuration_that_is_written_after_the_verdict_changes_nothing() -> None:
    """A write may return late."""
    cohort = a_cohort("ann")
    fold(cohort, cohort.members["ann"])

    cohort.mark_configured("ann")

    assert cohort.members["ann"].standing is Standing.ACCEPTED


# -- Folding ----------------------------------------------------------------------------------


def test_accepted_report_is_in_the_sum_with_what_it_said() -> None:
    """The sum holds n * w, the member what its receipt and the coordinator are told."""
    cohort = a_cohort("ann", "ben")

    fold(cohort, cohort.members["ann"], 2.0, num_examples=3)
    fold(cohort, cohort.members["ben"], 5.0, num_examples=1)

    assert cohort.mean.sums["w"].tolist() == [11.0] * 3
    assert (cohort.mean.weight, cohort.mean.count) == (4, 2)
    assert [member.client_id for member in cohort.accepted] == ["ann", "ben"]
    ann = cohort.members["ann"]
    assert (ann.num_examples, ann.metrics, ann.transfer) == (3, {"loss": 2.0}, TRANSFER)


def test_equal_weighting_folds_with_weight_one() -> None:
    """The example count is screened and told on, but does not weigh."""
    cohort = a_cohort("ann", weighting="equal")

    fold(cohort, cohort.members["ann"], 2.0, num_examples=30)

    assert (cohort.mean.weight, cohort.mean.sums["w"].tolist()) == (1, [2.0] * 3)
    assert cohort.members["ann"].num_examples == 30


def test_fold_that_is_begun_once_cannot_be_begun_again() -> None:
    """The claim is marked before the fold; a duplicate awaits that fold's verdict."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]

    first = cohort.begin_fold(ann, TRANSFER, 1, {})
    second = cohort.begin_fold(ann, TRANSFER, 1, {})

    assert (first, second) == (True, False)
    assert cohort.folding
    assert not ann.judged


def test_report_that_fails_screening_is_rejected_and_the_sum_unchanged() -> None:
    """Check, then mutate; the reason is the rule that was broken.

    Elsewhere: NVFlare's middle tier adds whatever comes; a NaN of one client is one in
    everybody's model.
    """
    cohort = a_cohort("ann", "ben", weight_max=10)
    fold(cohort, cohort.members["ann"], 1.0)

    fold(cohort, cohort.members["ben"], 1.0, num_examples=11)

    ben = cohort.members["ben"]
    assert (ben.standing, ben.reason) == (Standing.REJECTED, "weight-too-large")
    assert "11" in ben.detail
    assert (cohort.mean.count, cohort.mean.sums["w"].tolist()) == (1, [1.0] * 3)


def test_norm_limit_is_measured_from_the_base() -> None:
    """The L2 norm of trained minus global weights."""
    cohort = a_cohort("ann", "ben", update_norm_max=2.0)

    fold(cohort, cohort.members["ann"], 1.0)
    fold(cohort, cohort.members["ben"], 2.0)

    assert [m.client_id for m in cohort.accepted] == ["ann"]
    assert cohort.members["ben"].reason == "norm-too-large"


def test_sum_that_broke_takes_no_further_report() -> None:
    """A fold that fails half-way voids the partial: what was queued behind it is refused."""
    cohort = a_cohort("ann", "ben", "cleo")
    ann, ben, cleo = (cohort.members[client_id] for client_id in CLIENTS)
    cohort.begin_fold(ann, TRANSFER, 1, {})
    cohort.begin_fold(ben, TRANSFER, 1, {})

    cohort.reject(ann, PeerError("out of memory", reason="fold-failed"))
    cohort.break_sum("fold-failed")

    with pytest.raises(UpdateRejected) as refused:
        cohort.fold(ben, filled(1.0))
    assert refused.value.reason == "fold-failed"
    assert not cohort.may_report(cleo)
    assert not cohort.begin_fold(cleo, TRANSFER, 1, {})
    assert cohort.mean.count == 0


# -- Verdicts ---------------------------------------------------------------------------------

VERDICT_OF: dict[Standing, Callable[[Cohort, Member], object]] = {
    Standing.ACCEPTED: fold,
    Standing.REJECTED: lambda cohort, member: fold(cohort, member, num_examples=0),
    Standing.DISCARDED: lambda cohort, member: cohort.discard(member, "late", "it was late"),
    Standing.WITHDRAWN: lambda cohort, member: cohort.withdraw(member, "trainer-failed"),
}


@pytest.mark.parametrize("standing", sorted(VERDICTS))
@pytest.mark.parametrize("then", sorted(VERDICTS))
def test_verdict_never_changes(standing: Standing, then: Standing) -> None:
    """Whatever is tried afterwards, the first receipt stands, and the sum with it."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]
    VERDICT_OF[standing](cohort, ann)
    before = (ann.standing, ann.reason, ann.detail, ann.transfer, cohort.mean.count)

    VERDICT_OF[then](cohort, ann)
    cohort.leave("ann")
    cohort.claim("ann", "another-token")
    cohort.close()
    cohort.seal()

    assert ann.judged
    assert (ann.standing, ann.reason, ann.detail, ann.transfer, cohort.mean.count) == before


def test_report_that_is_being_folded_can_be_neither_discarded_nor_withdrawn() -> None:
    """Its verdict is on its way."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]
    cohort.begin_fold(ann, TRANSFER, 1, {})

    assert not cohort.discard(ann, "late", "")
    assert not cohort.withdraw(ann, "client-stopped")
    assert ann.standing is Standing.FOLDING


def test_every_member_without_a_verdict_is_unspent_or_folding() -> None:
    """The table of standings has no gap."""
    assert set(Standing) == UNSPENT | VERDICTS | {Standing.FOLDING}


# -- Receipts ---------------------------------------------------------------------------------


def test_judged_client_may_come_for_its_receipt_until_it_has_it() -> None:
    """A client that was cut before its receipt is let in once more; with it, it is a newcomer."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]

    cohort.begin_fold(ann, TRANSFER, 1, {})
    while_folding = cohort.is_open_to(ann)
    cohort.accept(ann)
    once_accepted = cohort.is_open_to(ann)
    ann.receipt_given = True

    assert (while_folding, once_accepted) == (True, True)
    assert not cohort.is_open_to(ann)


@pytest.mark.parametrize("standing", [Standing.DISCARDED, Standing.WITHDRAWN])
def test_client_that_takes_no_part_any_more_is_a_newcomer(standing: Standing) -> None:
    """It may check in for the next round."""
    cohort = a_cohort("ann")
    VERDICT_OF[standing](cohort, cohort.members["ann"])

    assert not cohort.is_open_to(cohort.members["ann"])


# -- Close, seal, end -------------------------------------------------------------------------


def test_closed_cohort_gives_no_permission_and_names_whose_reports_did_not_come() -> None:
    """Who is away is among them; who is being folded is judged to the end."""
    cohort = a_cohort("ann", "ben", "cleo", "dan")
    fold(cohort, cohort.members["ann"])
    cohort.begin_fold(cohort.members["ben"], TRANSFER, 1, {})
    cohort.leave("cleo")

    late = cohort.close()

    assert [member.client_id for member in late] == ["cleo", "dan"]
    assert not any(cohort.may_report(member) for member in cohort.members.values())
    assert not cohort.begin_fold(cohort.members["dan"], TRANSFER, 1, {})
    assert cohort.folding


def test_fold_that_ends_after_the_seal_does_not_count() -> None:
    """Its receipt does not say accepted: the sum was handed in, or given up, without it."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]
    cohort.begin_fold(ann, TRANSFER, 1, {})
    cohort.close()
    cohort.seal()

    cohort.fold(ann, filled(1.0))
    cohort.accept(ann)

    assert (ann.standing, ann.reason) == (Standing.DISCARDED, "late")
    assert cohort.accepted == ()


def test_ended_cohort_keeps_receipts_and_gives_the_memory_of_the_sum_back() -> None:
    """Receipts are kept until the next round completes; sums are not."""
    cohort = a_cohort("ann", update_norm_max=10.0)
    fold(cohort, cohort.members["ann"])
    cohort.close()

    cohort.end()

    assert cohort.member_of("token-of-ann") is cohort.members["ann"]
    assert (cohort.mean.sums, cohort.base) == ({}, None)


def test_sum_that_a_thread_still_writes_to_is_given_back_after_it() -> None:
    """The memory goes when the last fold has ended, not under its hands."""
    cohort = a_cohort("ann")
    ann = cohort.members["ann"]
    cohort.begin_fold(ann, TRANSFER, 1, {})
    cohort.close()
    cohort.end()
    while_folding = set(cohort.mean.sums)

    cohort.reject(ann, PeerError("not finite", reason="not-finite"))

    assert while_folding == {"w"}
    assert cohort.mean.sums == {}


# -- Anything in any order --------------------------------------------------------------------

ACTIONS = ("claim", "configure", "leave", "begin", "fold", "discard", "withdraw", "close", "seal")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTIONS),
            st.sampled_from(CLIENTS),
            st.sampled_from([0, 1, 7, 5000]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_each_client_is_in_the_sum_at_most_once(
    happenings: list[tuple[str, str, int]],
) -> None:
    """Whatever is retried, duplicated or late: the sum is of the accepted reports, one each."""
    cohort = a_cohort()
    begun: dict[str, int] = {}
    verdicts: dict[str, tuple[Standing, str]] = {}

    for action, client_id, num_examples in happenings:
        happen(cohort, begun, (action, client_id, num_examples))
        for member in cohort.members.values():
            if member.judged:
                verdict = (member.standing, member.reason)
                assert verdicts.setdefault(member.client_id, verdict) == verdict
        if not cohort.sealed:
            assert cohort.mean.count == len(cohort.accepted)
            assert cohort.mean.weight == sum(member.num_examples for member in cohort.accepted)

    assert all(member.token == f"token-of-{name}" for name, member in cohort.members.items())


def happen(cohort: Cohort, begun: dict[str, int], happening: tuple[str, str, int]) -> None:
    """Do one thing; what cannot be done at this moment is left out."""
    action, client_id, num_examples = happening
    if action == "claim":
        cohort.claim(client_id, f"token-of-{client_id}")
    elif action == "close":
        cohort.close()
    elif action == "seal" and cohort.closed:
        cohort.seal()
    member = cohort.members.get(client_id)
    if member is None:
        return
    if action == "configure":
        cohort.mark_configured(client_id)
    elif action == "leave":
        cohort.leave(client_id)
    elif action == "discard":
        cohort.discard(member, "late", "")
    elif action == "withdraw":
        cohort.withdraw(member, "client-stopped")
    elif action == "begin" and cohort.begin_fold(member, TRANSFER, num_examples, {}):
        assert client_id not in begun
        assert not cohort.closed
        begun[client_id] = num_examples
    elif action == "fold" and member.standing is Standing.FOLDING:
        end_fold(cohort, member)


def end_fold(cohort: Cohort, member: Member) -> None:
    """What the thread that folds does."""
    try:
        cohort.fold(member, filled(1.0))
    except UpdateRejected as error:
        cohort.reject(member, error)
    else:
        cohort.accept(member)
