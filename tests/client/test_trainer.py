"""The contract of trainers, the thread that they work on, and how they are found by name."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from client.trainer import (
    Trainer,
    TrainerFailed,
    TrainerThread,
    TrainingResult,
    TrainingStopped,
    TrainingTask,
    load_trainer,
    train,
)
from federation.errors import PeerError, SettingsError
from federation.plan import Hyperparameters

Weights = dict[str, NDArray[Any]]


class AddsOne(Trainer):
    def fit(self, weights: Weights, task: TrainingTask) -> TrainingResult:
        task.raise_if_stopped()
        return TrainingResult(
            {name: np.add(array, 1, dtype=array.dtype) for name, array in weights.items()}, 5
        )


def _task(*, stopped: bool = False) -> TrainingTask:
    stop = threading.Event()
    if stopped:
        stop.set()
    return TrainingTask(1, "r-1", Hyperparameters(), 60.0, None, stop, "c-1")


@pytest_asyncio.fixture(name="thread")
async def _thread() -> AsyncIterator[TrainerThread]:
    thread = TrainerThread()
    yield thread
    thread.close()


# The contract.


def test_trainer_is_a_class_with_fit() -> None:
    """That is all a user writes, and such a trainer fetches no Keras model."""
    result = train(AddsOne(), {"w": np.zeros(2, np.float32)}, _task())

    assert result.weights["w"].tolist() == [1.0, 1.0]
    assert (result.num_examples, dict(result.metrics)) == (5, {})
    assert AddsOne.needs_model is False


def test_trainer_gets_views_that_it_cannot_write_to() -> None:
    """The global weights are shared: with retries, and with other trainers of the process."""

    class InPlace(Trainer):
        def fit(self, weights: Weights, task: TrainingTask) -> TrainingResult:
            weights["w"] += 1
            return TrainingResult(weights, 1)

    given = np.zeros(2, np.float32)

    with pytest.raises(ValueError, match="read-only"):
        train(InPlace(), {"w": given}, _task())

    assert given.flags.writeable
    assert given.tolist() == [0.0, 0.0]


def test_trainer_that_returns_something_else_is_told() -> None:
    """A forgotten return is found here and not in the sum."""

    class Forgetful(Trainer):
        def fit(self, weights: Weights, task: TrainingTask) -> TrainingResult:
            return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match=r"Forgetful\.fit returned NoneType"):
        train(Forgetful(), {}, _task())


@pytest.mark.parametrize("number", [0, -3])
def test_result_without_examples_is_refused(number: int) -> None:
    """The number of examples is the weight in the mean: at least 1."""
    with pytest.raises(ValueError, match="at least 1"):
        TrainingResult({}, number)


def test_result_with_a_fraction_of_examples_is_refused() -> None:
    """The weight is a whole number; numpy's will do."""
    with pytest.raises(TypeError):
        TrainingResult({}, 1.5)  # type: ignore[arg-type]

    assert TrainingResult({}, np.int64(3)).num_examples == 3  # type: ignore[arg-type]


def test_task_tells_a_trainer_to_end_early() -> None:
    """One call in the training loop is enough."""
    _task().raise_if_stopped()

    with pytest.raises(TrainingStopped):
        _task(stopped=True).raise_if_stopped()


# The thread.


async def test_calls_run_in_order_on_one_daemon_thread(thread: TrainerThread) -> None:
    """Keras keeps settings by thread; a daemon does not keep the process from ending."""
    seen: list[int] = []

    def call(number: int) -> threading.Thread:
        seen.append(number)
        return threading.current_thread()

    threads = await asyncio.gather(*(thread.run(call, number) for number in range(20)))

    assert seen == list(range(20))
    assert len(set(threads)) == 1
    assert threads[0].daemon
    assert threads[0] is not threading.current_thread()


async def test_loop_goes_on_while_a_trainer_works(thread: TrainerThread) -> None:
    """Streams stay alive during training."""
    release = threading.Event()

    working = asyncio.create_task(thread.run(release.wait, 30.0))
    await asyncio.sleep(0)
    release.set()  # only a loop that is not blocked gets here

    assert await working is True


async def test_exception_of_a_trainer_is_delivered_with_its_cause(thread: TrainerThread) -> None:
    """The client withdraws with a reason and the log has the traceback."""

    def fit() -> None:
        raise KeyError("labels")

    with pytest.raises(TrainerFailed, match="KeyError: 'labels'") as failed:
        await thread.run(fit)

    assert failed.value.reason == "trainer-failed"
    assert isinstance(failed.value.__cause__, KeyError)
    assert await thread.run(int, "7") == 7  # the thread lives on


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), PeerError("no")], ids=repr)
async def test_whatever_a_trainer_raises_ends_neither_thread_nor_process(
    thread: TrainerThread, error: BaseException
) -> None:
    """A library that calls sys.exit() is a failed trainer like any other."""

    def fit() -> None:
        raise error

    with pytest.raises(TrainerFailed) as failed:
        await thread.run(fit)

    assert failed.value.__cause__ is error


@pytest.mark.parametrize("error", [TrainingStopped(), SettingsError("data", "x", "no")], ids=repr)
async def test_stopping_and_wrong_settings_are_no_failures(
    thread: TrainerThread, error: Exception
) -> None:
    """They pass as they are: one is normal, the other is the operator's to mend."""

    def fit() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await thread.run(fit)

    assert raised.value is error


async def test_cancelled_call_that_has_not_begun_never_begins(thread: TrainerThread) -> None:
    """Nobody waits for it any more."""
    release, ran = threading.Event(), threading.Event()
    first = asyncio.create_task(thread.run(release.wait, 30.0))
    second = asyncio.create_task(thread.run(ran.set))
    await asyncio.sleep(0)

    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await first
    await thread.run(int)

    assert not ran.is_set()


async def test_close_does_not_wait_for_the_trainer() -> None:
    """A client that is ending leaves a training behind that doesn't listen."""
    release, thread = threading.Event(), TrainerThread()
    working = asyncio.create_task(thread.run(release.wait, 30.0))
    await asyncio.sleep(0)

    thread.close()

    assert not working.done()
    release.set()
    assert await working is True


def test_process_ends_while_a_trainer_works_on() -> None:
    """asyncio.run returns at once; asyncio.to_thread would wait for the training."""
    script = """
import asyncio, threading
from client.trainer import TrainerThread

async def main():
    began = threading.Event()
    def fit():
        began.set()
        threading.Event().wait()
    call = asyncio.create_task(TrainerThread().run(fit))
    while not began.is_set():
        await asyncio.sleep(0.001)

asyncio.run(main())
"""

    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, check=False, timeout=30, capture_output=True)

    assert (ended.returncode, ended.stderr) == (0, b"")


# Finding a trainer by name.


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


MINE = """
from client.trainer import Trainer
class Mine(Trainer):
    def fit(self, weights, task): ...
def make(): return Mine()
"""


@pytest.mark.parametrize("factory", ["Mine", "make"])
def test_trainer_is_found_in_the_current_folder(folder: Path, factory: str) -> None:
    """By its class or by a function that makes it."""
    (folder / "mine_here.py").write_text(MINE)

    trainer = load_trainer(f"mine_here:{factory}")

    assert type(trainer).__name__ == "Mine"
    assert sys.path[-1] == str(folder)


def test_current_folder_stands_in_for_none_of_our_modules(folder: Path) -> None:
    """It comes last: a user's ``client.py`` shadows nothing; the error shows what was found."""
    (folder / "client.py").write_text(MINE)

    with pytest.raises(SettingsError, match=r"client \(.*__init__\.py\) has nothing to call") as e:
        load_trainer("client:Mine")

    assert e.value.reason == "trainer-import-failed"


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("mine", None, "module:factory"),
        (":Mine", None, "module:factory"),
        ("mine:", None, "module:factory"),
        ("absent:Mine", None, "ModuleNotFoundError: No module named 'absent'"),
        ("broken:Mine", "1 / 0", "ZeroDivisionError: division by zero"),
        ("broken:Mine", "def", "SyntaxError"),
        ("script:Mine", "import sys; sys.exit(2)", "SystemExit: 2"),
        ("empty:Mine", "", "nothing to call that is named Mine"),
        ("number:Mine", "Mine = 3", "nothing to call that is named Mine"),
        ("needy:Mine", "def Mine(x): ...", r"Mine\(\) raised TypeError: .*no arguments"),
        ("other:Mine", "Mine = dict", r"Mine\(\) made a dict; it must be module:factory"),
    ],
)
def test_trainer_that_cannot_be_made_is_a_wrong_setting(
    folder: Path, name: str, source: str | None, said: str
) -> None:
    """The error says what happened and what would be right."""
    if source is not None:
        (folder / name.replace(":Mine", ".py")).write_text(source)

    with pytest.raises(SettingsError, match=said) as refused:
        load_trainer(name)

    assert (refused.value.setting, refused.value.value) == ("trainer", name)
    assert refused.value.reason == "trainer-import-failed"


def test_wrong_setting_that_a_factory_finds_passes_as_it_is(folder: Path) -> None:
    """Such as TensorFlow, which it needs and which is not installed."""
    (folder / "wants.py").write_text(
        "from federation.errors import SettingsError\n"
        "def make(): raise SettingsError('data', 'x', 'install it', reason='missing')"
    )

    with pytest.raises(SettingsError) as refused:
        load_trainer("wants:make")

    assert (refused.value.setting, refused.value.reason) == ("data", "missing")


def test_this_module_needs_no_tensorflow() -> None:
    """Clients of numpy alone do without it."""
    script = "import sys, client.trainer; print({'tensorflow', 'keras'} & set(sys.modules))"

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert printed.stdout.strip() == b"set()"
