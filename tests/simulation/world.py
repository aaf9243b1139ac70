"""One run: a federation of real roles, what goes wrong in it, and what must hold."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from client.session import ClientSession, SessionResult
from coordinator.driver import Driver
from coordinator.events import Owner
from coordinator.ledger import Ledger
from selector.selector import Selector
from tests.simulation import roles
from tests.simulation.bounds import Excuses, late_rounds
from tests.simulation.disk import JOURNAL
from tests.simulation.faults import COORDINATOR
from tests.simulation.loop import NOBODY, PROCESS, Hung, Process, VirtualLoop
from tests.simulation.mishaps import Mishaps
from tests.simulation.outside import Outside
from tests.simulation.scenarios import Scenario
from tests.simulation.spans import Spans
from tests.simulation.surroundings import Log, Surroundings
from tests.simulation.updates import SimulatedTrainer, Updates
from tests.simulation.watch import Book, take

AFTER_FAULTS_S = 20.0
"""What lasts longer is healed so long after the last fault began."""

MARGIN_S = 60.0
"""Beyond the time that the rounds that are left may take, for retry windows and pauses."""


@dataclass
class Verdict:
    """How a run went.

    Attributes:
        violations: What must not have been.
        trace: What happened, where that was asked for.
        rounds: How many rounds completed, and how many of them were committed.
        virtual_s: How long it took in there.
    """

    violations: list[str]
    trace: list[str] = field(default_factory=list)
    rounds: tuple[int, int] = (0, 0)
    virtual_s: float = 0.0


class World:
    """A scenario while it runs."""

    def __init__(self, scenario: Scenario, folder: Path, *, traced: bool) -> None:
        Process.suspended_now = 0
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._bug)
        self.began_s = self.loop.time()
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.traced = traced
        self.around = Surroundings(self.loop, scenario.seed, folder)
        self.book = Book(self.loop.time, self.violated)
        self.mishaps = Mishaps(self)
        self.around.journal_os.durable = self.book
        self.book.happened = self.around.directory.happened = self.mishaps.happened
        self.updates = Updates(scenario.seed)
        self.outside = Outside(self.around, self.book, self.updates, scenario.plan, self.violated)
        self.outside.happened = self.mishaps.happened
        self.log = Log(self.loop, self.note, traced)
        self.rng = random.Random(f"{scenario.seed}/world")
        self.down = Spans(self.loop.time)
        self.processes: dict[str, Process] = {}
        self.everybody: list[Process] = []
        self.down_s: dict[str, float] = {}
        self.driver: Driver | None = None
        self.sessions: dict[str, ClientSession] = {}
        self.results: dict[str, SessionResult] = {}
        self._end: asyncio.Future[None] = self.loop.create_future()

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it unless the run is over then."""
        self.loop.call_later(seconds, lambda: None if self._end.done() else do(), context=NOBODY)

    def note(self, what: str, details: str = "") -> None:
        """Keep a line of the trace."""
        process = PROCESS.get()
        who = process.name if process is not None else "-"
        at_s = self.loop.time() - self.began_s
        self.trace.append(f"{at_s:9.4f}  {who:12} {what}  {details}")

    def violated(self, what: str) -> None:
        """Something is wrong: the run ends here."""
        at_s = self.loop.time() - self.began_s
        self.violations.append(f"at {at_s:.4f} s: {what}")
        self._stop()

    def _bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.violated(f"{context.get('message')}: {context.get('exception')!r}")

    def _stop(self) -> None:
        if not self._end.done():
            self._end.set_result(None)

    # -- Processes --------------------------------------------------------------------------------

    def start_coordinator(self) -> None:
        process = self._process(COORDINATOR, self.start_coordinator)
        scenario = self.scenario
        process.main(
            roles.coordinate(
                self.around, scenario.plan, scenario.rounds, self._began, self.down.end
            )
        )

    def _began(self, driver: Driver) -> None:
        self.driver = driver
        self.book.recovered(driver.ledger)
        links_send = driver.links.send
        announce = driver._announce

        def send(owner: Any, command: Any) -> None:
            self.book.told()
            links_send(owner, command)

        def announced(effect: Any, sequence: int) -> None:
            announce(effect, sequence)
            stage = driver.stages[-1]
            self.book.announced(stage.sequence, stage.round_number, stage.phase)

        vars(driver.links)["send"] = send
        vars(driver)["_announce"] = announced

    def take(self, ledger: Ledger, happening: Any, now_s: float) -> Any:
        """Stand in for ``take`` in ``coordinator.driver``."""
        after, effects = take(ledger, happening, now_s)
        if self.traced:
            self.note(f"took {happening}", f"-> {effects}")
        self.book.taken(ledger, happening, now_s, after, effects)
        return after, effects

    def start_selector(self, selector_id: str) -> None:
        scenario = self.scenario
        process = self._process(selector_id, lambda: self.start_selector(selector_id))
        self.around.drains[selector_id] = asyncio.Event()
        rng = random.Random(f"{scenario.seed}/{selector_id}/{self.rng.random()}")

        def began(selector: Selector, uplink: Any) -> None:
            self.outside.serves(process, Owner(selector_id, selector.incarnation))

        process.main(
            roles.select(
                self.around,
                selector_id,
                rng,
                scenario.reports_in_flight_max,
                began,
                spooled=selector_id in scenario.spooled,
            )
        )

    def start_client(self, client_id: str) -> None:
        scenario = self.scenario
        process = self._process(client_id, lambda: self.start_client(client_id))
        rng = random.Random(f"{scenario.seed}/{client_id}/{self.rng.random()}")
        targets = [*scenario.selectors]
        rng.shuffle(targets)
        trainer = SimulatedTrainer(client_id, self.updates, rng, scenario.bad_updates)

        async def life() -> None:
            while client_id not in self.results:
                session = roles.client(client_id, targets, trainer, rng)
                self.sessions[client_id] = session
                result = await session.run()
                if not result.trainer_failed:
                    self.results[client_id] = result

        process.main(life())

    def _process(self, name: str, again: Callable[[], None]) -> Process:
        process = self.around.process(name)
        self.processes[name] = process
        self.everybody.append(process)
        self.note("started", name)

        def ended() -> None:
            if not roles.is_expected(process):
                self.violated(f"{name} ended with {process.failure!r}")
            self.note("ended", f"{name}: {process.failure!r}")
            self.around.network.gone(process)
            if name == COORDINATOR:
                self.mishaps.coordinator_died(process)
            if self.processes[name] is process and name not in self.results:
                self.later(self.down_s.pop(name, 0.5), again)

        process.at_exit.append(ended)
        return process

    # -- The run ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end of the session, and see how it went."""
        scenario, loop, plan = self.scenario, self.loop, self.scenario.plan
        self.later(0.0, self.start_coordinator)
        for selector_id in scenario.selectors:
            self.later(self.rng.uniform(0, 1.0), partial(self.start_selector, selector_id))
        for client_id in scenario.clients:
            self.later(self.rng.uniform(0, 2.0), partial(self.start_client, client_id))
        for fault in scenario.faults:
            self.later(fault.at_s, partial(self.mishaps.go_wrong, fault))
        last_s = max((fault.at_s for fault in scenario.faults), default=0.0)
        healed_s = last_s + AFTER_FAULTS_S
        self.later(healed_s, self.mishaps.heal)
        round_s = plan.selection_timeout_s + plan.report_window_s + plan.grace_s
        round_s += plan.commit_timeout_s + 2 * plan.return_s + 5.0
        self.later(healed_s + scenario.rounds * round_s + MARGIN_S, self._give_up)
        self._look()
        try:
            loop.run_until_complete(self._end)
        except Hung as hung:
            self.violations.append(str(hung))
        self.violations += self.log.bugs
        if not self.violations:
            self.outside.check_end(self.driver)
            back = any(f.kind == "clock" and f.seconds < 0 for f in scenario.faults)
            busy = [*self.around.jobs_s, *self.around.troubles[JOURNAL].refused_s]
            self.violations += late_rounds(self.book, plan, Excuses(self.down.past, busy, back))

    def _look(self) -> None:
        """Look whether all is over."""
        session = self.book.ledger.session
        over = session is not None and session.over
        if (over and not self._missing()) or self.log.bugs:
            self._stop()
        else:
            self.later(0.25, self._look)

    def _missing(self) -> Sequence[str]:
        """Name the clients that have still to hear how it went."""
        return [c for c in self.scenario.clients if c not in self.results and self._knows(c)]

    def _knows(self, client_id: str) -> bool:
        """Only who ever heard of the session hears of its end: others wait for the next one."""
        session = self.sessions.get(client_id)
        return session is not None and bool(session._session_id)

    def _give_up(self) -> None:
        session = self.book.ledger.session
        if session is None or not session.over:
            self.violated(f"the session does not end: {self.book.ledger.round}")
        else:
            self.violated(f"these do not hear that it is over: {self._missing()}")

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self.everybody:
            process.at_exit.clear()
            process.kill()
        with suppress(Hung):
            self.loop.run_until_complete(asyncio.sleep(1.0))
        self.around.journal_os.close_all()
        self.around.left_open.close()
        self.loop.close()


def play(scenario: Scenario, *, traced: bool = False) -> Verdict:
    """Run a scenario."""
    fast = Path("/dev/shm")
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None)
        )
        world = World(scenario, Path(folder), traced=traced)
        stack.enter_context(world.log.in_place())
        stack.enter_context(world.around.in_place(scenario.generation_bytes_max))
        stack.enter_context(patch("coordinator.driver.take", world.take))
        try:
            world.run()
        finally:
            world.close()
    committed = sum(round_.outcome == "committed" for round_ in world.book.outcomes.values())
    return Verdict(
        world.violations,
        world.trace,
        (len(world.book.outcomes), committed),
        world.loop.time() - world.began_s,
    )
