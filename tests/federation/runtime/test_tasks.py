"""Owned tasks: none outlives the others, and no failure is lost."""

from __future__ import annotations

import asyncio

import pytest

from federation.runtime.tasks import until_first
from tests.waiting import eventually, within


class Worker:
    """Runs until it is cancelled, and remembers that it was."""

    def __init__(self) -> None:
        self.running = False
        self.cancelled = False

    async def work(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def nothing() -> None:
    """End at once."""


async def fail() -> None:
    """Raise at once."""
    raise ValueError("it failed")


async def test_first_that_ends_ends_the_others() -> None:
    """They are cancelled before it returns."""
    worker = Worker()

    await within(until_first(worker.work(), nothing()))

    assert worker.cancelled


async def test_first_that_fails_ends_the_others_and_is_heard_of() -> None:
    """Its exception is raised, not that of those it ended."""
    worker = Worker()

    with pytest.raises(ValueError, match="it failed"):
        await within(until_first(worker.work(), fail()))

    assert worker.cancelled


async def test_cancellation_goes_to_all() -> None:
    """Cancellation is normal."""
    workers = [Worker(), Worker()]
    running = asyncio.create_task(until_first(*(worker.work() for worker in workers)))
    await eventually(lambda: all(worker.running for worker in workers))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert all(worker.cancelled for worker in workers)


async def test_failure_on_the_way_out_is_not_mistaken_for_the_cause() -> None:
    """Who fails because it is cancelled did not end the others."""

    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("on the way out")

    await within(until_first(fail_when_cancelled(), nothing()))


async def test_two_that_fail_at_once_are_one_failure() -> None:
    """One of them is raised; none is left unheard as a warning."""
    with pytest.raises(ValueError, match="it failed"):
        await within(until_first(fail(), fail()))
