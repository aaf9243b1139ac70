"""The client as a process: data or a trainer by name, one session, an end that does not hang."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import NoReturn

from client.session import ClientSession, SessionResult
from client.settings import ClientSettings
from client.trainer import Trainer, TrainerThread, load_trainer
from federation.errors import SettingsError
from federation.runtime.process import stop_on_signals
from federation.runtime.telemetry import get_logger

log = get_logger()


def run(settings: ClientSettings) -> int:
    """Be the client's process; return its exit status."""
    status = asyncio.run(_serve(settings))
    # TensorFlow takes seconds to take itself down, and nothing is left to do.
    _leave(status)


async def _serve(settings: ClientSettings) -> int:
    stop = stop_on_signals()
    thread = TrainerThread()
    making = asyncio.create_task(thread.run(_make_trainer, settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({making, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not making.done():
        _leave(0)
    session = ClientSession(
        settings.client_id,
        settings.selectors,
        making.result(),
        rounds=settings.rounds,
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        thread=thread,
    )
    running = asyncio.create_task(session.run())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if running.done():
            return _status(settings, running.result())
        log.info("told to stop", accepted=session.accepted)
        await session.bow_out()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return 0
    finally:
        await _end(session, thread, settings.drain_s)


def _status(settings: ClientSettings, result: SessionResult) -> int:
    if result.trainer_failed:
        print("client: the trainer failed three times in a row", file=sys.stderr)
        return 1
    log.info("done", client_id=settings.client_id, accepted=result.accepted)
    return 0


async def _end(session: ClientSession, thread: TrainerThread, drain_s: float) -> None:
    """Wait for the trainer's thread; one that does not end is left behind, and ends with us."""
    session.stop.set()
    try:
        async with asyncio.timeout(drain_s):
            await thread.run(lambda: None)
    except TimeoutError:
        log.warning("trainer did not end", drain_s=drain_s)
    await session.close()


def _leave(status: int) -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def _make_trainer(settings: ClientSettings) -> Trainer:
    if settings.trainer is not None:
        return load_trainer(settings.trainer)
    from client.data import load_data
    from client.keras_trainer import KerasTrainer

    if settings.data is None:
        raise SettingsError("data", None, "give either data or trainer")
    x, y = load_data(settings.data, settings.shard, settings.skew, settings.seed)
    return KerasTrainer(x, y, shuffle_seed=settings.seed)
