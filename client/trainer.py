"""What trains: the contract of a trainer, the thread that it works on, and finding it by name."""

from __future__ import annotations

import asyncio
import importlib
import operator
import os
import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numpy.typing import NDArray

from federation.errors import FederationError, SettingsError
from federation.plan import Hyperparameters

P = ParamSpec("P")
T = TypeVar("T")

TRAINER_RULE = "module:factory, where factory() returns a headwater.Trainer, e.g. mine:MyTrainer"


class TrainerFailed(FederationError):
    """A trainer raised; the exception itself is the ``__cause__``."""

    reason = "trainer-failed"


class TrainingStopped(FederationError):
    """A trainer ended early because it was told to; nothing went wrong."""

    reason = "training-stopped"

    def __init__(self, detail: str = "the client is ending") -> None:
        super().__init__(detail)


@dataclass(frozen=True)
class TrainingTask:
    """What a client was asked to do in one round.

    Attributes:
        round_number: The round, from 1.
        round_id: The same round, never used twice.
        hyperparameters: How the operator wants it trained.
        deadline_s: Seconds until reporting closes, counted from when the task was handed out; a
            result that comes later is not used.
        model_path: The federation's Keras model, a file whose name ends in ``.h5``. None where
            it has none, or where the trainer's ``needs_model`` is false.
        stop: Set when the client should end.
        client_id: The name under which this client takes part.
    """

    round_number: int
    round_id: str
    hyperparameters: Hyperparameters
    deadline_s: float
    model_path: Path | None
    stop: threading.Event
    client_id: str

    def raise_if_stopped(self) -> None:
        """Raise ``TrainingStopped`` if the client should end; worth a call each training step."""
        if self.stop.is_set():
            raise TrainingStopped


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What came out of one round's training.

    Attributes:
        weights: The trained weights themselves, not their change: names, shapes and dtypes as
            ``fit`` was given them.
        num_examples: Examples that were trained on, at least 1: the weight in the mean.
        metrics: Numbers about this training, shown beside the round, e.g. ``{"loss": 0.3}``.
    """

    weights: Mapping[str, NDArray[Any]]
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if operator.index(self.num_examples) < 1:
            raise ValueError(f"num_examples must be at least 1, not {self.num_examples}")


class Trainer(ABC):
    """Trains on data that stay with it. Subclass it and give it ``fit``.

    Attributes:
        needs_model: Whether ``fit`` uses ``task.model_path``; the model is fetched only then.
    """

    needs_model: bool = False

    @abstractmethod
    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        """Train from the global weights and return the trained ones.

        Called once a round, always on the same thread.

        Args:
            weights: The global weights, read-only: copy what you train in place.
            task: What is asked for.

        Raises:
            TrainingStopped: ``task.stop`` was set.
            Exception: Anything else means that this client takes no part in the round.
        """


def train(
    trainer: Trainer, weights: Mapping[str, NDArray[Any]], task: TrainingTask
) -> TrainingResult:
    """Have ``trainer`` fit read-only views of ``weights``.

    Raises:
        TypeError: ``fit`` returned something other than a ``TrainingResult``.
        Exception: Whatever ``fit`` raises.
    """
    views = {name: array.view() for name, array in weights.items()}
    for view in views.values():
        view.flags.writeable = False
    result: object = trainer.fit(views, task)
    if not isinstance(result, TrainingResult):
        made = type(result).__name__
        raise TypeError(f"{type(trainer).__name__}.fit returned {made}, not a TrainingResult")
    return result


class TrainerThread:
    """One thread on which a trainer is made, trains, and is asked for everything else.

    A daemon of its own, since a thread of ``asyncio.to_thread`` keeps ``asyncio.run`` from ending
    while it trains, and since Keras keeps settings by thread.
    """

    def __init__(self, name: str = "trainer") -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)`` on the thread, after the calls before it; await its result.

        Cancelling this await abandons the result; a call that has begun runs on to its end.

        Raises:
            TrainerFailed: ``fn`` raised something other than these two, which pass as they are.
            TrainingStopped: ``fn`` was told to end early.
            SettingsError: ``fn`` cannot work with what the operator gave.
        """
        assert not self._closed, "run() after close()"
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - users' code; the caller gets it
                future.set_exception(_as_delivered(error))
            else:
                future.set_result(result)

        self._calls.put(call)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the thread end after the calls it was given; does not wait for it."""
        self._closed = True
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _as_delivered(error: BaseException) -> Exception:
    if isinstance(error, (SettingsError, TrainingStopped)):
        return error
    failed = TrainerFailed(f"the trainer raised {_described(error)}")
    failed.__cause__ = error
    return failed


def load_trainer(name: str) -> Trainer:
    """Return what the factory of ``"module:factory"`` makes, called without arguments.

    The current folder is appended to the import path, never put before it, so that a user's
    ``client.py`` does not stand in for ours.

    Raises:
        SettingsError: There is no such module or factory, it raised, or it made something else.
    """
    module_name, colon, factory_name = name.partition(":")
    if not (module_name and colon and factory_name):
        raise _import_failed(name, f"it must be {TRAINER_RULE}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script without a main guard may just exit
        asked = f"importing {module_name} from {here} or the installed packages"
        raise _import_failed(
            name, f"{asked} raised {_described(error)}; it must be {TRAINER_RULE}"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        where = getattr(module, "__file__", None) or "built in"
        raise _import_failed(
            name,
            f"{module_name} ({where}) has nothing to call that is named {factory_name}; "
            f"it must be {TRAINER_RULE}",
        )
    try:
        trainer = factory()
    except SettingsError:
        raise
    except Exception as error:
        raise _import_failed(
            name, f"{factory_name}() raised {_described(error)}; it must need no arguments"
        ) from error
    if not isinstance(trainer, Trainer):
        made = type(trainer).__name__
        raise _import_failed(name, f"{factory_name}() made a {made}; it must be {TRAINER_RULE}")
    return trainer


def _import_failed(name: str, expected: str) -> SettingsError:
    return SettingsError("trainer", name, expected, reason="trainer-import-failed")


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
