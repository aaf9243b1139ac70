"""The client as a process: data or a trainer by name, one session, an end that does not hang."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import NoReturn

from client.artifacts import Artifacts
from client.cache import ModelCache
from client.kept import StateUnusable
from client.result import ResultSeeker, check_output, write_result
from client.selectors import Selectors
from client.session import ClientSession, SessionResult
from client.settings import ClientSettings
from client.state import ClientState, DiskState
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
    if settings.fetch_final is not None:
        check_output(settings.fetch_final)
    state = ClientState()
    if not _only_fetches(settings):
        state = await asyncio.to_thread(_open_state, settings)
    cache = ModelCache(settings.cache, settings.cache_bytes_max)
    artifacts = Artifacts(cache)
    stopping = asyncio.create_task(stop.wait())
    try:
        if _only_fetches(settings):
            if _wants_model(settings):
                cache.prepare()
            result = SessionResult(0)
        else:
            result = await _take_part(settings, cache, artifacts, state, stopping)
            if stopping.done():
                return int(settings.fetch_final is not None)
            status = _status(result)
            if status or settings.fetch_final is None:
                return status
        return await _fetch_final(settings, artifacts, result.session_id, stopping)
    finally:
        artifacts.close()
        await asyncio.to_thread(state.close)


async def _take_part(
    settings: ClientSettings,
    cache: ModelCache,
    artifacts: Artifacts,
    state: ClientState,
    stopping: asyncio.Task[bool],
) -> SessionResult:
    """Train until the session's end or until told to stop."""
    thread = TrainerThread()
    making = asyncio.create_task(thread.run(_make_trainer, settings))
    await asyncio.wait({making, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not making.done():
        _leave(0)
    trainer = making.result()
    if trainer.needs_model or _wants_model(settings):
        cache.prepare()
    session = ClientSession(
        state.client_id or settings.client_id,
        settings.selectors,
        trainer,
        rounds=settings.rounds,
        one_session=settings.fetch_final is not None,
        artifacts=artifacts,
        state=state,
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        thread=thread,
    )
    running = asyncio.create_task(session.run())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if running.done():
            return running.result()
        log.info("told to stop", accepted=session.accepted)
        await session.bow_out()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return SessionResult(session.accepted)
    finally:
        await _end(session, thread, settings.drain_s)


async def _fetch_final(
    settings: ClientSettings,
    artifacts: Artifacts,
    session_id: str,
    stopping: asyncio.Task[bool],
) -> int:
    """Wait for the session's end, write what it ended with, and say so."""
    path = settings.fetch_final
    assert path is not None
    selectors = Selectors(settings.selectors, settings.keepalive_s, settings.keepalive_timeout_s)
    seeker = ResultSeeker(selectors, artifacts)
    seeking = asyncio.create_task(seeker.seek(session_id, with_model=_wants_model(settings)))
    try:
        await asyncio.wait({seeking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not seeking.done():
            log.warning("told to stop before the session was over", not_written=str(path))
            return 1
        result = seeking.result()
        await asyncio.to_thread(write_result, path, result)
    finally:
        seeking.cancel()
        await asyncio.gather(seeking, return_exceptions=True)
        await selectors.close()
    origin = f"of round {result.round_number}" if result.round_number else "that no round made"
    print(f"{path}: checkpoint {origin}, sha256 {result.digest}", flush=True)
    return 0


def _only_fetches(settings: ClientSettings) -> bool:
    return settings.data is None and settings.trainer is None


def _open_state(settings: ClientSettings) -> ClientState:
    """Return what an earlier process of this client left, where it has a folder for that.

    Raises:
        SettingsError: Another process has the folder, or the one that was given cannot be used.
    """
    folder = settings.state_folder
    if folder is None:
        return ClientState()
    try:
        return DiskState(folder, settings.given_client_id, settings.client_id)
    except StateUnusable as error:
        if settings.state is not None:
            expected = f"{error.detail}; give a folder of this client's own with --state"
            raise SettingsError("state", str(folder), expected, reason=error.reason) from error
        log.warning("no state kept", reason=error.reason, detail=error.detail)
        return ClientState()


def _wants_model(settings: ClientSettings) -> bool:
    """Say whether the result's file needs the model, which gives it Keras' layout."""
    return settings.fetch_final is not None and settings.fetch_final.suffix == ".h5"


def _status(result: SessionResult) -> int:
    if result.trainer_failed:
        print("client: the trainer failed three times in a row", file=sys.stderr)
        return 1
    log.info("done", accepted=result.accepted)
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
