"""One HTTP request to one webserver, and what its answer means."""

from __future__ import annotations

import hashlib
import hmac
import logging

import pytest

from coordinator.webhook import Answer, Poster, Verdict, shown
from tests.receivers import TAKEN, a_receiver, answer


async def test_update_is_sent_as_cloudevents_ask_for_it() -> None:
    """Structured mode: one JSON document, unsigned where there is no secret."""
    async with a_receiver() as receiver, Poster("") as poster:
        said = await poster.post(receiver.url, b'{"id": "1"}')

    assert said == Answer(Verdict.TAKEN)
    assert receiver.body == b'{"id": "1"}'
    assert receiver.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert "headwater-signature" not in receiver.headers


async def test_secret_is_set_the_body_is_signed() -> None:
    """Who has the secret can tell that nobody else wrote it, and that no byte changed."""
    async with a_receiver() as receiver, Poster("a secret of ours") as poster:
        await poster.post(receiver.url, b"{}")

    expected = hmac.new(b"a secret of ours", b"{}", hashlib.sha256).hexdigest()
    assert receiver.headers["headwater-signature"] == f"sha256={expected}"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (202, Verdict.TAKEN),
        (301, Verdict.LATER),
        (400, Verdict.REFUSED),
        (401, Verdict.LATER),
        (403, Verdict.LATER),
        (404, Verdict.LATER),
        (408, Verdict.LATER),
        (413, Verdict.REFUSED),
        (422, Verdict.REFUSED),
        (425, Verdict.LATER),
        (429, Verdict.LATER),
        (500, Verdict.LATER),
        (503, Verdict.LATER),
    ],
)
async def test_webserver_answers_it_is_taken_refused_or_sent_again(
    status: int, verdict: Verdict
) -> None:
    """Left out is only what the webserver cannot read; what an operator can mend is tried again."""
    async with a_receiver() as receiver, Poster("") as poster:
        receiver.answers = lambda update: answer(status, "why it is so")
        said = await poster.post(receiver.url, b"{}")

    assert said.verdict is verdict
    assert said.detail == ("" if verdict is Verdict.TAKEN else f"{status} why it is so")


async def test_webserver_is_not_there_it_is_tried_later() -> None:
    """Nothing is raised."""
    async with a_receiver() as receiver:
        url = receiver.url
    async with Poster("") as poster:
        said = await poster.post(url, b"{}")

    assert said.verdict is Verdict.LATER
    assert said.detail


async def test_webserver_does_not_answer_it_is_tried_later() -> None:
    """A request has a deadline."""
    async with a_receiver() as receiver, Poster("", timeout_s=0.1) as poster:
        receiver.answers = lambda update: None
        said = await poster.post(receiver.url, b"{}")

    assert said == Answer(Verdict.LATER, "no answer within 0.1 s")


@pytest.mark.parametrize(
    "garbage",
    [b"what\r\n\r\n", b"HTTP/1.1 999 \xff\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 9999],
)
async def test_something_else_listens_there_it_is_tried_later(garbage: bytes) -> None:
    """Whatever it says, and however much."""
    async with a_receiver() as receiver, Poster("", timeout_s=1.0) as poster:
        receiver.answers = lambda update: garbage
        said = await poster.post(receiver.url, b"{}")

    assert said.verdict is Verdict.LATER
    assert len(said.detail) < 1100


async def test_requests_are_logged_nobody_sees_the_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A token in it is the operator's."""
    caplog.set_level(logging.INFO)
    async with a_receiver() as receiver, Poster("") as poster:
        receiver.answers = lambda update: TAKEN
        await poster.post(f"{receiver.url}?token=hidden", b"{}")

    assert "hidden" not in caplog.text
    assert shown("https://hw.example:8050/in?token=hidden") == "https://hw.example:8050/in"
