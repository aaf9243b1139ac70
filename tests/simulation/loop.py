"""Virtual time: an event loop that jumps to the next timer, and processes that live in it.

Nothing waits and nothing runs beside the loop, so that a run depends on its seed alone. A process
is a set of tasks that can be killed or suspended together; a context variable says whose a task,
a timer or an executor is.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

ITERATIONS_MAX = 3_000_000
"""A run that takes more steps than this goes round in circles."""

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("PROCESS", default=None)

NOBODY = contextvars.Context()
"""The context of what belongs to no process: the network, the faults."""


class Hung(AssertionError):
    """Nothing can happen any more, or too much happens without end."""


class Died(BaseException):
    """The process was killed in the middle of a system call."""


class _NumberedTask(asyncio.Task[Any]):
    """A task whose hash does not depend on where in memory it lies: sets keep their order."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, then jumps to the next timer."""

    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0
        self._iterations = 0
        self._selector = _NoEvents()
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return the virtual seconds."""
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run in the executor's own time; None is the process's own."""
        process = PROCESS.get()
        assert process is not None
        return (executor or process.executor).run(lambda: func(*args))

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None
    ) -> asyncio.Task[Any]:
        task = _NumberedTask(coro, loop=loop, context=context)
        process = context.get(PROCESS) if context is not None else PROCESS.get()
        if process is not None:
            process.adopt(task)
        return task

    def _run_once(self) -> None:
        self._iterations += 1
        if self._iterations > ITERATIONS_MAX:
            raise Hung("the run goes round in circles")
        self._make_due()
        if self._ready:
            super()._run_once()  # type: ignore[misc]

    def _make_due(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._ready:
            if not self._scheduled:
                raise Hung("nothing is left that could happen")
            self._now_s = max(self._now_s, self._scheduled[0]._when)
        while self._scheduled and self._scheduled[0]._when <= self._now_s:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(handle)
        if Process.suspended_now:
            self._hold_back()

    def _hold_back(self) -> None:
        """What a suspended process would do waits until it goes on."""
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            process = handle._context.get(PROCESS)
            if process is not None and process.is_suspended:
                process.held_back.append(handle)
            else:
                self._ready.append(handle)

    def go_on(self, process: Process) -> None:
        """Let a suspended process do what it was held back from."""
        self._ready.extend(process.held_back)
        process.held_back.clear()

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _NoEvents:
    """There are no files or sockets."""

    def select(self, timeout: float | None) -> list[Any]:
        return []


class Process:
    """Tasks that live and die together.

    Args:
        loop: Where it runs.
        name: For people.
        job_s: Draws the seconds that a job in a thread of it takes, by the thread's name.
    """

    suspended_now = 0

    def __init__(self, loop: VirtualLoop, name: str, job_s: Callable[[str], float]) -> None:
        self.loop = loop
        self.name = name
        self.job_s = job_s
        self.is_alive = True
        self.is_suspended = False
        self.failure: BaseException | None = None
        self.held_back: list[Any] = []
        self.at_exit: list[Callable[[], None]] = []
        self.executors: list[Executor] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self)
        self.executor = self._context.run(Executor)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as this process's."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        if not self.is_alive:
            task.cancel()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in it."""
        return self.loop.create_task(coroutine, context=self._context.copy())

    def main(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run what it is there for: its end is the end of the process."""
        task = self.spawn(coroutine)

        def ended(_: Any) -> None:
            if self.is_alive and not task.cancelled():
                self.failure = task.exception()
                self.kill()

        task.add_done_callback(ended, context=NOBODY)

    def kill(self) -> None:
        """End it at once: what it does from here on, nobody sees."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.wake()
        for at_exit in self.at_exit:
            at_exit()
        self._cancel()

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            self.loop.call_later(0.001, self._cancel, context=NOBODY)

    def suspend(self) -> None:
        """Stop it, until it is woken."""
        if not self.is_suspended and self.is_alive:
            self.is_suspended = True
            Process.suspended_now += 1

    def wake(self) -> None:
        """Let it go on."""
        if self.is_suspended:
            self.is_suspended = False
            Process.suspended_now -= 1
            self.loop.go_on(self)


class Executor:
    """Stands in for ``ThreadPoolExecutor``: its jobs take virtual time, and run at its end.

    Attributes:
        process: Whose threads these are.
        name: Of the threads.
        running: Jobs that have begun: with their process they end, do not, or die half-way.
    """

    def __init__(self, max_workers: int = 1, thread_name_prefix: str = "thread") -> None:
        process = PROCESS.get()
        assert process is not None
        self.process: Process = process
        self.process.executors.append(self)
        self.name = thread_name_prefix
        self._free = max_workers
        self._waiting: deque[Callable[[], None]] = deque()
        self.running: dict[int, Callable[[], Any]] = {}
        self._numbers = itertools.count()

    def run(self, job: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a job once there is a thread for it."""
        future = self.process.loop.create_future()

        def begin() -> None:
            number = next(self._numbers)
            self.running[number] = job
            seconds = self.process.job_s(self.name)
            self.process.loop.call_later(seconds, end, number)

        def end(number: int) -> None:
            del self.running[number]
            if self.process.is_alive:
                self._finish(future, job)
            if self._waiting:
                self._waiting.popleft()()
            else:
                self._free += 1

        if self._free > 0:
            self._free -= 1
            begin()
        else:
            self._waiting.append(begin)
        return future

    def _finish(self, future: asyncio.Future[Any], job: Callable[[], Any]) -> None:
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - who awaits the future gets it
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(result)

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a job whose end nobody awaits."""
        self.run(lambda: function(*args))

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Begin no further job."""
        self._waiting.clear()
