"""A whole federation as processes in a test: started, listened to, waited for, ended.

Nothing here waits for time to pass: a test waits for what the coordinator says through
``Control.WatchStatus``, for a line of a process's log, or for a process's end. Each wait has a
deadline that is far away even on a loaded machine, and says what it waited for when it is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from federation.runtime.control import watch_status
from federation.runtime.store import SharedDirectory
from federation.v1 import control_pb2 as pb
from headwater.words import status_in_words

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"

END_SIGNALS = (signal.SIGINT, signal.SIGHUP)

WITHIN_S = 90.0
"""What has not happened by then does not happen, also on a machine with ten times its work."""

LINE_BYTES_MAX = 1 << 20
"""Longest line of a log; a traceback is one line."""

STORY_LINES = 200
"""Lines of a process that are shown when a test fails."""

PYTHON = (sys.executable, "-P", "-m")
"""As installed: the current folder does not come before ours."""

HEADWATER = (str(Path(sys.executable).with_name("headwater")),)
"""The command, as it is installed beside this Python."""

WITHOUT_TENSORFLOW = (sys.executable, "-P", str(Path(__file__).with_name("without_tensorflow.py")))

Settings = dict[str, Any]
"""Settings of a process by name, as keywords."""

AT_ONCE: Settings = {
    "selection_pipelined": True,
    "retry_delay_min_s": 0,
    "retry_delay_max_s": 0.1,
}
"""Of a coordinator whose clients come back at once, and are held for the next round."""

T = TypeVar("T")


@contextlib.contextmanager
def usual_signals() -> Iterator[None]:
    """Let a process that is started here end by Ctrl-C and by a closed terminal.

    In the background of a shell, or under ``nohup``, both are ignored, and children inherit that.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Process:
    """One process with the lines that it has printed so far.

    Attributes:
        name: For people.
        printed: Lines of standard output.
        log: Lines of standard error.
    """

    def __init__(
        self, name: str, command: Sequence[str], process: asyncio.subprocess.Process
    ) -> None:
        self.name = name
        self.command = command
        self.printed: list[str] = []
        self.log: list[str] = []
        self.port = 0
        self._process = process
        self._may_end = False
        self._news = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.printed)),
            asyncio.create_task(self._read(process.stderr, self.log)),
        ]

    @property
    def address(self) -> str:
        """HOST:PORT at which this server listens."""
        assert self.port, f"{self.name} is no server, or did not say where it listens"
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        self._may_end = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    async def kill(self) -> None:
        """End it without a warning, as a crash or the kernel does."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def end(self) -> int:
        """Wait for its end, and for all that it printed; return its exit status."""
        self._may_end = True
        async with deadline(f"the end of {self.name}"):
            await asyncio.gather(*self._readers)
            return await self._process.wait()

    async def falls(self) -> Process:
        """Wait until it ends with another status than 0 without the test's doing."""
        if await self._process.wait() == 0 or self._may_end:
            await asyncio.Event().wait()
        return self

    async def listening(self) -> None:
        """Wait for the line that tells the port."""
        line = await self._line(self.printed, lambda _: True, "its listening line")
        self.port = int(json.loads(line)["port"])

    async def prints(self, words: str) -> str:
        """Wait for a printed line with these words in it, and return it."""
        return await self._line(self.printed, lambda line: words in line, repr(words))

    async def logs(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a line of the log with this event and at least these fields; return it."""
        wanted = {"event": event, **fields}
        line = await self._line(
            self.log, lambda line: wanted.items() <= facts(line).items(), f"{wanted} in its log"
        )
        return facts(line)

    async def logs_any(self, events: Collection[str]) -> None:
        """Wait until one of these is logged from now on."""
        seen = len(self.log)
        await self._line(
            self.log, lambda line: facts(line).get("event") in events, f"{events}", skip=seen
        )

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return what it has logged so far of this event with these fields."""
        wanted = {"event": event, **fields}
        return [found for found in map(facts, self.log) if wanted.items() <= found.items()]

    def story(self) -> str:
        """Return what it printed and logged last, for a person."""
        status = self._process.returncode
        lines = [*self.printed, *self.log][-STORY_LINES:]
        end = f"(status {status})" if status is not None else "(runs)"
        return "\n".join([f"$ {shlex.join(self.command)}", *lines, end])

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        while line := await stream.readline():
            lines.append(line.decode(errors="replace").rstrip("\n"))
            self._wake()
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _line(
        self, lines: list[str], is_it: Callable[[str], bool], description: str, *, skip: int = 0
    ) -> str:
        async with deadline(f"{self.name}: {description}"):
            seen = skip
            while True:
                news = self._news
                for line in lines[seen:]:
                    if is_it(line):
                        return line
                seen = len(lines)
                over = all(reader.done() for reader in self._readers)
                assert not over, f"{self.name} ended without {description}"
                await news.wait()


class Federation:
    """The processes of one test, with one shared directory; leaving the block ends them all.

    Args:
        folder: Where everything of this test lies, temporary files too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared_data = folder / "shared"
        self.directory = SharedDirectory(self.shared_data)
        self.all: list[Process] = []
        self._temporary = folder / "tmp"
        self._gate = folder / "gate"
        self._coordinator: Process | None = None

    async def __aenter__(self) -> Self:
        self._temporary.mkdir()
        self._gate.mkdir()
        return self

    async def __aexit__(self, *error: object) -> None:
        for process in self.all:
            process.signal(signal.SIGKILL)
        for process in self.all:
            await process.end()

    # -- Starting -------------------------------------------------------------------------------

    async def coordinator(
        self, command: Sequence[str] = PYTHON, *, port: int = 0, **settings: Any
    ) -> Process:
        """Start the coordinator and wait until it listens; ``until`` asks it from then on."""
        process = await self.start(
            "coordinator",
            [*command, "coordinator"],
            shared_data=self.shared_data,
            port=port,
            **settings,
        )
        await process.listening()
        self.watch(process)
        return process

    async def selectors(
        self, *names: str, command: Sequence[str] = PYTHON, port: int = 0, **settings: Any
    ) -> list[Process]:
        """Start selectors at the same time, and wait until all listen."""
        assert self._coordinator is not None
        started = [
            await self.start(
                name,
                [*command, "selector"],
                shared_data=self.shared_data,
                port=port,
                selector_id=name,
                coordinator=self._coordinator.address,
                **settings,
            )
            for name in names
        ]
        for process in started:
            await process.listening()
        return started

    async def client(
        self,
        name: str,
        *selectors: Process,
        command: Sequence[str] = PYTHON,
        trainer: str = "Exact",
        steps: int = 1,
        examples: int = 1,
        **settings: Any,
    ) -> Process:
        """Start a client with one of our trainers; does not wait for it."""
        return await self.start(
            name,
            [*command, "client"],
            self.trainer_environment(steps, examples),
            client_id=name,
            selector=[selector.address for selector in selectors],
            trainer=f"tests.system.trainers:{trainer}",
            **settings,
        )

    async def clients(self, count: int, *selectors: Process, **settings: Any) -> list[Process]:
        """Start client-1, client-2, …, which know these selectors."""
        return [
            await self.client(f"client-{number}", *selectors, **settings)
            for number in range(1, count + 1)
        ]

    def trainer_environment(self, steps: int, examples: int) -> dict[str, str]:
        """Return what our trainers are told, with the gates of this federation."""
        return {
            "TRAINER_STEPS": str(steps),
            "TRAINER_EXAMPLES": str(examples),
            "TRAINER_GATE": str(self._gate),
        }

    async def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Process:
        """Start any process; settings become flags. Does not wait for it."""
        command = [*command, *flags(settings)]
        with usual_signals():
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,  # from which our trainers are imported
                env=self._environment() | dict(environment or {}),
                limit=LINE_BYTES_MAX,
            )
        started = Process(name, command, process)
        self.all.append(started)
        return started

    def open_gate(self, gate: int | str = "always") -> None:
        """Let the gated trainers of a round get done, or of every round; or the late ones come."""
        (self._gate / str(gate)).touch()

    def leftovers(self) -> list[str]:
        """Return what the processes left among the temporary files."""
        return [path.name for path in self._temporary.iterdir()]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        ours = {
            "TMPDIR": str(self._temporary),
            "XDG_CACHE_HOME": str(self.folder / "cache-home"),
            "XDG_STATE_HOME": str(self.folder / "state-home"),
            "PYTHONUNBUFFERED": "1",
        }
        return kept | ours

    # -- Watching -------------------------------------------------------------------------------

    def watch(self, coordinator: Process) -> None:
        """Ask this coordinator from now on."""
        self._coordinator = coordinator

    async def until(self, condition: Callable[[pb.Status], T | None], what: str) -> T:
        """Watch the coordinator's status until the condition returns something; return that."""
        last = pb.Status()

        async def watch() -> T:
            nonlocal last
            assert self._coordinator is not None
            async with contextlib.aclosing(watch_status(self._coordinator.address)) as statuses:
                async for last in statuses:
                    if found := condition(last):
                        return found
            raise AssertionError("the coordinator ended")

        watching = asyncio.create_task(watch())
        falling = [asyncio.create_task(process.falls()) for process in self.all]
        try:
            done, _ = await asyncio.wait(
                {watching, *falling}, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (watching, *falling):
                task.cancel()
            await asyncio.gather(watching, *falling, return_exceptions=True)
        if watching in done:
            return watching.result()
        fallen = [task.result().name for task in falling if task in done]
        why = f"{fallen} fell" if fallen else f"{WITHIN_S:.0f} s were not enough"
        said = "\n  ".join(status_in_words(last))
        raise AssertionError(f"did not come: {what}; {why}; the last status:\n  {said}")

    async def completed(self, round_number: int) -> pb.RoundRecord:
        """Wait for a round's end and return what is remembered of it."""

        def record(status: pb.Status) -> pb.RoundRecord | None:
            records = status.recent_rounds
            return next((r for r in records if r.round_number == round_number), None)

        return await self.until(record, f"the end of round {round_number}")

    async def attached(self, *selector_ids: str) -> None:
        """Wait until exactly these selectors are attached."""

        def are_attached(status: pb.Status) -> bool:
            return {s.selector_id for s in status.selectors if s.attached} == set(selector_ids)

        await self.until(are_attached, f"{selector_ids} attached, and no other")

    async def waiting(self, count: int) -> None:
        """Wait until so many clients are held without a round."""
        await self.until(lambda status: status.waiting_clients == count, f"{count} clients wait")


@contextlib.asynccontextmanager
async def deadline(what: str) -> AsyncIterator[None]:
    """Fail with what was waited for if it takes too long."""
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    except TimeoutError:
        raise AssertionError(f"did not come within {WITHIN_S:.0f} s: {what}") from None


def flags(settings: Mapping[str, object]) -> list[str]:
    """Return settings as flags: ``goal_count=2`` is ``--goal-count 2``, True is the flag alone."""
    words: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            words += [flag] if one is True else [flag, str(one)]
    return words


def facts(line: str) -> dict[str, Any]:
    """Return the fields of a line of a log; none of one that is not JSON."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def standings(record: pb.RoundRecord | pb.RoundStatus) -> dict[str, str]:
    """Return where each client of a round stands: ``{"client-1": "reported"}``."""
    return {client.client_id: client.standing for client in record.clients}


def seconds(record: pb.RoundRecord) -> float:
    """Return how long a round took from its Configuration on."""
    return sum(s for phase, s in record.phase_seconds.items() if phase != "selection")
