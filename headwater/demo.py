"""``headwater demo``: a coordinator, selectors and training clients as processes, watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from client.keras_trainer import require_keras
from federation.errors import FederationError, SettingsError
from federation.phases import Outcome
from federation.runtime import wire
from federation.runtime.control import get_status, start_session, stop_session, watch_status
from federation.runtime.disk import store_errors
from federation.runtime.initialise import initialise
from federation.runtime.store import SharedDirectory
from federation.runtime.tasks import until_first
from federation.v1 import control_pb2 as pb
from headwater.children import Child, ChildFailed, Children
from headwater.demo_judge import DemoJudge
from headwater.demo_losses import after_loss
from headwater.demo_page import USUAL_PORT, free_port, page_arguments, why_no_page
from headwater.demo_settings import DemoSettings
from headwater.local import BUILTIN, HOST
from headwater.views import print_line, view_for
from headwater.words import plural

RETURN_S = 5.0
"""On one machine, who is gone for so long has died."""

REPORT_WINDOW_S = 120.0
"""Far more than the digits take."""

INTERRUPTED = 130
"""Exit status of a demo that was told to stop."""

INDENT = " " * 10
"""Under the text of a line, which begins with the time."""


class Demo:
    """One run.

    Args:
        settings: What was asked for.
        as_json: Print JSON lines: what ``headwater status --watch --json`` prints, and ``end``.

    Raises:
        SettingsError: TensorFlow is not installed.
    """

    def __init__(self, settings: DemoSettings, *, as_json: bool = False) -> None:
        self._settings = settings
        require_keras()
        self._folder = settings.shared_data or Path(tempfile.mkdtemp(prefix="headwater-demo-"))
        self._directory = SharedDirectory(self._folder)
        self._logs = self._folder / "logs"
        self._children = Children(self._logs)
        self._as_json = as_json
        self._view = view_for(as_json=as_json)
        self._page = ""
        self._rounds_done = False
        self._last_round = 0
        self._to_judge: asyncio.Queue[pb.RoundRecord] = asyncio.Queue()

    async def run(self) -> int:
        """Run it to its end or until told to stop; return the exit status."""
        stop = self._stop_on_signals()
        self._initialise()
        with store_errors(self._logs, "make"):
            self._logs.mkdir(exist_ok=True)
        try:
            with _errors_to(self._logs / "demo.log"), self._view:
                stopped = await self._run_until(stop)
        except FederationError as error:
            self._farewell(error.reason)
            raise
        cut_short = stopped and not self._rounds_done
        self._farewell("interrupted" if cut_short else "")
        return INTERRUPTED if cut_short else 0

    async def _run_until(self, stop: asyncio.Event) -> bool:
        """Run it; return whether it was told to stop."""
        running = asyncio.create_task(self._run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopped = not running.done()
        if stopped:
            self._say("Stopping all processes …")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        else:
            running.result()
        return stopped

    async def _run(self) -> None:
        async with self._children as children:
            address = await self._start(children)
            await until_first(self._watch(address), self._mind(), self._judge())

    def _stop_on_signals(self) -> asyncio.Event:
        """Return an event that Ctrl-C and the like set; a second one kills every process at once.

        A closed terminal counts, too: the processes are in sessions of their own and would stay.
        """
        stop = asyncio.Event()

        def told_to_stop(number: signal.Signals) -> None:
            if stop.is_set():
                self._children.kill()
                os._exit(128 + number)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                asyncio.get_running_loop().add_signal_handler(number, told_to_stop, number)
        return stop

    # -- Starting -------------------------------------------------------------------------------

    def _initialise(self) -> None:
        if not self._directory.is_initialised():
            initialise(self._folder, model=None, arrays=None, builtin=BUILTIN)
        if not self._directory.model.exists():
            raise SettingsError(
                "shared_data",
                str(self._folder),
                "it holds arrays, not a Keras model that the demo could train on digits",
                reason="model-missing",
            )

    async def _start(self, children: Children) -> str:
        """Start all processes; return the coordinator's HOST:PORT."""
        settings = self._settings
        coordinator_port = free_port(HOST)
        address = f"{HOST}:{coordinator_port}"
        await self._start_page(children, address)
        counted = [plural(settings.selectors, "selector"), plural(settings.clients, "client")]
        self._say(f"Starting a coordinator, {' and '.join(counted)} in {self._folder}")
        every = self._every_process()
        server = [*every, "--host", HOST, "--shared-data", str(self._folder)]
        arguments = [*server, "--port", str(coordinator_port), *self._plan()]
        arguments += ["--webserver", self._page] if self._page else []
        coordinator = await children.start("coordinator", "coordinator", arguments)
        await children.listening_port(coordinator)
        await self._begin_session(address)
        server += ["--port", "0"]
        selectors = []
        for number in range(1, settings.selectors + 1):
            name = f"selector-{number}"
            arguments = [*server, "--selector-id", name, "--coordinator", address]
            selectors.append(await children.start(name, "selector", arguments))
        ports = [f"{HOST}:{await children.listening_port(child)}" for child in selectors]
        for number in range(1, settings.clients + 1):
            first = (number - 1) % len(ports)
            arguments = [*every, *self._client(number, ports[first:] + ports[:first])]
            await children.start(f"client-{number}", "client", arguments)
        self._say(f"All run, the coordinator at {address}; logs are in {self._logs}")
        self._say("The clients check in once they have loaded TensorFlow, in some seconds")
        return address

    async def _start_page(self, children: Children, coordinator: str) -> None:
        """Start the webserver and say where its page is, or why there is none."""
        if why := why_no_page():
            self._say(f"There is no page to watch it on: {why}")
            return
        flags = [*self._every_process(), *page_arguments(self._folder, coordinator)]
        flags += ["--host", HOST, "--port"]
        usual = str(free_port(HOST, USUAL_PORT))
        webserver = await children.start("webserver", "webserver", [*flags, usual])
        try:
            port = await children.listening_port(webserver)
        except ChildFailed:  # most likely another demo, begun at the same time, was faster
            children.all.remove(webserver)
            webserver = await children.start("webserver", "webserver", [*flags, "0"])
            port = await children.listening_port(webserver)
        self._page = f"http://{HOST}:{port}/"
        self._say(f"Watch it on {self._page}")

    async def _begin_session(self, address: str) -> None:
        """Start the rounds; what an earlier demo in this folder left unfinished ends."""
        status = await get_status(address)
        self._last_round = max((r.round_number for r in status.recent_rounds), default=0)
        if status.session.running:
            self._say("The rounds that an earlier demo left here are given up; its weights go on")
            await stop_session(address, after_round=False)
        await start_session(address, self._settings.rounds, {})

    def _every_process(self) -> list[str]:
        settings = self._settings
        return [
            *("--drain-s", str(settings.drain_s)),
            *("--keepalive-s", str(settings.keepalive_s)),
            *("--keepalive-timeout-s", str(settings.keepalive_timeout_s)),
            *("--log-level", settings.log_level),
            "--log-json" if settings.log_json else "--no-log-json",
            *("--log-to", "stderr"),  # standard output has the listening line, which is read here
        ]

    def _plan(self) -> list[str]:
        settings = self._settings
        values = {
            "--goal-count": settings.clients,
            "--epochs": settings.epochs,
            "--batch-size": settings.batch_size,
            "--learning-rate": settings.learning_rate,
            "--report-window-s": REPORT_WINDOW_S,
            "--return-s": RETURN_S,
            "--retry-delay-min-s": 0.0,
            "--retry-delay-max-s": 0.1,
        }
        pairs = [str(item) for pair in values.items() for item in pair]
        return [*pairs, "--selection-pipelined"]

    def _client(self, number: int, selectors: list[str]) -> list[str]:
        settings = self._settings
        flags = ["--client-id", f"client-{number}", "--data", "digits"]
        flags += ["--shard", f"{number}/{settings.clients}", "--skew", str(settings.skew)]
        flags += ["--seed", str(settings.seed)]
        flags += ["--state", str(self._folder / "state" / f"client-{number}")]
        for selector in selectors:
            flags += ["--selector", selector]
        return flags

    # -- Watching -------------------------------------------------------------------------------

    async def _watch(self, address: str) -> None:
        """Show each stage, until the session is over and every round is judged.

        With a page, and a person before the terminal, that is no end: they may start another one.
        """
        stays = bool(self._page) and sys.stdout.isatty() and not self._settings.exit
        async with contextlib.aclosing(watch_status(address)) as statuses:
            async for status in statuses:
                self._view.show(status)
                for record in status.recent_rounds:
                    if record.round_number > self._last_round:
                        self._last_round = record.round_number
                        self._to_judge.put_nowait(record)
                if status.HasField("session") and not status.session.running:
                    if not stays:
                        break
                    self._say_that_it_stays()
        await self._to_judge.join()

    def _say_that_it_stays(self) -> None:
        if not self._rounds_done:
            self._rounds_done = True
            self._say(f"All rounds are done; {self._page} stays up, also to start more of them")
            self._say("Ctrl-C ends the demo")

    async def _judge(self) -> None:
        """Show how well each committed checkpoint knows the digits; runs until cancelled."""
        judge = DemoJudge(self._directory)
        await judge.load()
        while True:
            record = await self._to_judge.get()
            if wire.outcome_from_wire(record.outcome) is Outcome.COMMITTED:
                self._view.judged(record, await judge.metrics(record))
            self._to_judge.task_done()

    async def _mind(self) -> None:
        """Notice processes that end by themselves; raise when the demo cannot go on.

        Raises:
            ChildFailed: The coordinator ended, or the last selector, or a client for good.
        """
        waits = {asyncio.create_task(child.process.wait()): child for child in self._children.all}
        try:
            while True:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    gone = waits.pop(task)
                    successor = await self._miss(gone, list(waits.values()))
                    if successor is not None:
                        waits[asyncio.create_task(successor.process.wait())] = successor
        finally:
            for task in waits:
                task.cancel()

    async def _miss(self, gone: Child, left: list[Child]) -> Child | None:
        """Say that a process is gone, and return its successor if it gets one."""
        status = gone.process.returncode
        said = f"{gone.name} ended with status {status}; its log in {gone.log} ends:"
        said = f"{said}\n{gone.log_tail()}"
        starts = sum(child.name == gone.name for child in self._children.all)
        match after_loss(gone.module, status, starts, [child.module for child in left]):
            case "start-again":
                self._say(f"{said}\n{INDENT}It is started again")
                return await self._children.start(gone.name, gone.module, gone.arguments)
            case "go-on":
                self._say(f"{said}\n{INDENT}The others go on")
                return None
            case "end":
                raise ChildFailed(said)

    # -- Ending ---------------------------------------------------------------------------------

    def _farewell(self, reason: str) -> None:
        """Say where the weights are, or for a program also why they are not the last ones."""
        checkpoint, model = self._directory.checkpoint, self._directory.model
        if self._as_json:
            facts = {"reason": reason, "checkpoint": str(checkpoint), "model": str(model)}
            print_line("end", facts)
        elif not reason:
            _say_how_to_load(checkpoint, model)

    def _say(self, text: str) -> None:
        self._view.say(text)


def _say_how_to_load(checkpoint: Path, model: Path) -> None:
    print(f"Done. The trained weights are in {checkpoint}")
    print(
        "Load them with Keras:\n"
        "  import keras, shutil\n"
        f"  model = keras.saving.load_model({str(model)!r})\n"
        f"  shutil.copy({str(checkpoint)!r}, 'trained.h5')\n"
        "  model.load_weights('trained.h5')",
        flush=True,
    )


def run(settings: DemoSettings, *, as_json: bool = False) -> int:
    """Be the demo's process; return its exit status."""
    status = asyncio.run(Demo(settings, as_json=as_json).run())
    # TensorFlow takes seconds to take itself down, and nothing is left to do.
    sys.stdout.flush()
    os._exit(status)


@contextlib.contextmanager
def _errors_to(log: Path) -> Iterator[None]:
    """Keep standard error out of the terminal: TensorFlow's C++ writes there, however told."""
    terminal = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
