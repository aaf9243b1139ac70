"""What a selector says of a cohort, and that it fits into messages."""

from __future__ import annotations

import pytest

from federation.plan import RetryWindow
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2 as participation
from selector.cohort import VERDICTS, Member, Standing, Transfer
from selector.reports import FACTS_MAX, in_messages, receipt_of, verdict_event

MANY = 2 * FACTS_MAX + 1
METRICS = {f"{number:064}": 1.0 for number in range(32)}
MESSAGE_BYTES_MAX = 3 << 20
"""gRPC refuses messages above 4 MiB."""


def ids(count: int) -> list[str]:
    """Client ids of the largest size."""
    return [f"{number:0128}" for number in range(count)]


def a_hello(count: int) -> pb.Hello:
    """All that can be known, of so many clients each."""
    return pb.Hello(
        selector_id="north",
        held=[pb.CheckedInClient(client_id=c, session_id="s" * 64) for c in ids(count)],
        cohort=pb.CohortState(
            round_id="this-round",
            configured=ids(count),
            away=ids(count),
            folded=[pb.FoldedReport(client_id=c, metrics=METRICS) for c in ids(count)],
            rejected=[pb.ReportRejected(client_id=c, reason="not-finite") for c in ids(count)],
            discarded=[pb.ReportDiscarded(client_id=c, reason="late") for c in ids(count)],
            withdrawn=[pb.ClientWithdrew(client_id=c, reason="not-given") for c in ids(count)],
            partial=pb.PartialWritten(round_id="this-round", count=count, client_ids=ids(count)),
        ),
    )


def told(messages: list[pb.SelectorEvent]) -> dict[str, list[str]]:
    """Gather from all messages who is told to be what."""
    hello = messages[0].hello
    facts: dict[str, list[str]] = {
        "held": [client.client_id for client in hello.held],
        "configured": list(hello.cohort.configured),
        "away": list(hello.cohort.away),
        "folded": [report.client_id for report in hello.cohort.folded],
        "rejected": [report.client_id for report in hello.cohort.rejected],
        "discarded": [report.client_id for report in hello.cohort.discarded],
        "withdrawn": [client.client_id for client in hello.cohort.withdrawn],
        "returned": list(hello.cohort.configured),
    }
    for message in messages[1:]:
        match message.WhichOneof("event"):
            case "clients_checked_in":
                clients = message.clients_checked_in.clients
                facts["held"] += [client.client_id for client in clients]
            case "clients_configured":
                facts["configured"] += message.clients_configured.client_ids
            case "clients_returned":
                facts["returned"] += message.clients_returned.client_ids
            case "clients_left":
                facts["away"] += message.clients_left.client_ids
            case "reports_folded":
                facts["folded"] += [report.client_id for report in message.reports_folded.reports]
            case "report_rejected":
                facts["rejected"].append(message.report_rejected.client_id)
            case "report_discarded":
                facts["discarded"].append(message.report_discarded.client_id)
            case "client_withdrew":
                facts["withdrawn"].append(message.client_withdrew.client_id)
    return facts


def test_small_hello_is_one_message() -> None:
    """The first event says all that the selector knows."""
    [message] = in_messages(a_hello(FACTS_MAX))

    assert message.hello == a_hello(FACTS_MAX)


def test_hello_without_a_round_has_none() -> None:
    """An empty cohort would be another thing than none."""
    [message] = in_messages(pb.Hello(selector_id="north"))

    assert not message.hello.HasField("cohort")


def test_large_hello_is_told_in_full_by_messages_of_moderate_size() -> None:
    """No message comes near gRPC's limit, however many clients there are."""
    messages = in_messages(a_hello(MANY))

    assert all(sorted(names) == ids(MANY) for names in told(messages).values())
    assert max(message.ByteSize() for message in messages) < MESSAGE_BYTES_MAX
    rounds = {m.reports_folded.round_id for m in messages if m.HasField("reports_folded")}
    assert rounds == {"this-round"}


def test_partial_of_a_large_hello_is_told_after_the_reports_in_it() -> None:
    """It is kept with their example counts and metrics."""
    messages = in_messages(a_hello(MANY))

    kinds = [message.WhichOneof("event") for message in messages]
    last_fold = max(index for index, kind in enumerate(kinds) if kind == "reports_folded")
    assert not messages[0].hello.cohort.HasField("partial")
    assert kinds.index("partial_written") > last_fold


@pytest.mark.parametrize(
    ("standing", "outcome", "event"),
    [
        (Standing.ACCEPTED, participation.REPORT_OUTCOME_ACCEPTED, "reports_folded"),
        (Standing.REJECTED, participation.REPORT_OUTCOME_REJECTED, "report_rejected"),
        (Standing.DISCARDED, participation.REPORT_OUTCOME_DISCARDED, "report_discarded"),
        (Standing.WITHDRAWN, participation.REPORT_OUTCOME_DISCARDED, "client_withdrew"),
    ],
)
def test_verdict_has_a_receipt_and_an_event(standing: Standing, outcome: int, event: str) -> None:
    """What the client and the coordinator are told of it is the same."""
    member = Member("ann", "token", standing, "a-reason", "A detail.")

    receipt = receipt_of(member, RetryWindow(1.0, 2.0))
    told_on = verdict_event("this-round", member)

    assert (receipt.outcome, receipt.reason, receipt.detail) == (outcome, "a-reason", "A detail.")
    assert told_on is not None
    assert told_on.WhichOneof("event") == event
    assert getattr(told_on, event).round_id == "this-round"


def test_receipt_says_what_arrived() -> None:
    """Counted, measured and hashed by the selector."""
    member = Member("ann", "token", Standing.ACCEPTED, transfer=Transfer(3, 99, b"\x07" * 32))

    receipt = receipt_of(member, RetryWindow(1.0, 2.0))

    assert (receipt.chunks, receipt.size_bytes, receipt.sha256) == (3, 99, b"\x07" * 32)
    assert receipt.retry_window.delay_max_s == 2.0


@pytest.mark.parametrize("standing", sorted(set(Standing) - VERDICTS))
def test_client_without_a_verdict_has_nothing_to_be_told(standing: Standing) -> None:
    """Every verdict has an event, and nothing else has."""
    assert verdict_event("this-round", Member("ann", "token", standing)) is None
