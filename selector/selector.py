"""One selector: holds clients, obeys the coordinator, and says what it knows.

Reports are the desk's business; here are the clients' streams and the coordinator's commands, which
are obeyed one after the other. What must outlive the process is the spool's, where there is one.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from federation.errors import FederationError, StoreError
from federation.runtime import wire
from federation.runtime.disk import make_directory, store_errors, write_atomically
from federation.runtime.store import SharedDirectory
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer
from federation.tokens import KEY_BYTES, mint
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2
from selector import reports
from selector.artifacts import Artifact, Checkpoint, ModelFile, Shelf
from selector.cohort import UNSPENT, Cohort, Member, Standing
from selector.desk import Messenger, ReportDesk, Served
from selector.orders import open_cohort
from selector.rebuilding import load
from selector.sealing import Sealer, failed
from selector.sessions import Sessions
from selector.spool import Spool
from selector.spooling import Spooling
from selector.streams import SUPERSEDED_WINDOW, Stream, Streams, aborted, declined

log = get_logger()

FALLBACKS_MAX = 8
"""Other selectors that a client is told of; drawn, so that not all go to the same one."""


class Selector:
    """The state of one selector process.

    Args:
        selector_id: Its name, and that of its folder in the shared directory.
        directory: The shared directory.
        reports_in_flight_max: Reports that are received at once.
        report_stall_s: A permitted report without bytes for so long loses its place.
        held_max: Clients that are held at once.
        keep_updates: Keep each accepted update on disk, for an audit.
        spool: Holds accepted updates until their sum is kept; None: they are in memory only.

    Attributes:
        address: HOST:PORT at which clients reach it.
        tell: Hands an event to the coordinator's stream; set by the uplink.
        is_attached: Says whether the coordinator is heard; set by the uplink.
        idle: Set while no round is served.
        sessions: What is known of them, and who waits for the end of one.
    """

    def __init__(
        self,
        selector_id: str,
        directory: SharedDirectory,
        *,
        reports_in_flight_max: int,
        report_stall_s: float,
        held_max: int,
        keep_updates: bool,
        spool: Spool | None = None,
    ) -> None:
        self.selector_id = selector_id
        self.address = ""
        self.streams = Streams()
        self.shelf = Shelf(directory)
        self.tell: Callable[[pb.SelectorEvent], None] = _tell_nobody
        self.is_attached: Callable[[], bool] = _never
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.sessions = Sessions()
        self._served = Served(token_key=secrets.token_bytes(KEY_BYTES))
        self._disk = ThreadPoolExecutor(2, thread_name_prefix="disk")
        self._spooling = Spooling(spool, self._disk)
        messenger = Messenger(
            tell=self._tell_coordinator,
            is_attached=self._hears_coordinator,
            keep=self._keep if keep_updates else None,
            broke=self._give_up,
            spool=self._spooling.keep,
        )
        self.desk = ReportDesk(
            self._served,
            self.streams,
            messenger,
            reports_in_flight_max=reports_in_flight_max,
            report_stall_s=report_stall_s,
        )
        self._sealer = Sealer(directory, selector_id)
        self._away: frozenset[str] = frozenset()
        self._directory = directory
        self._held_max = held_max
        self._order = pb.ConfigureRound()
        self._deadline_s = 0.0
        self._artifacts: Sequence[participation_pb2.Artifact] = []
        self._partial: pb.PartialWritten | None = None

    def use_token_key(self, key: bytes) -> None:
        """Sign and check tokens with the coordinator's key from now on."""
        self._served.token_key = key

    @property
    def incarnation(self) -> str:
        """Random for each process, or that of the round in the spool."""
        return self._spooling.incarnation

    @property
    def cohort(self) -> Cohort | None:
        """The clients of the running round; None between rounds."""
        return self._served.cohort

    # -- What clients ask -----------------------------------------------------------------------

    def check_in(self, client_id: str, session_id: str) -> Stream:
        """Hold a client on a stream of its own, and ask the coordinator about it."""
        cohort = self.cohort
        member = cohort.members.get(client_id) if cohort is not None else None
        if cohort is not None and member is not None and cohort.is_open_to(member):
            return self._take_back(cohort, member, session_id)
        full = len(self.streams) >= self._held_max and client_id not in self.streams
        if self.draining or full:
            stream = Stream(client_id, session_id)
            reason = "draining" if self.draining else "full"
            wanted_elsewhere = self.draining or self._served.fallbacks
            window = self._served.soon if wanted_elsewhere else self._served.retry_window
            stream.end(declined(reason, window, self._served.fallbacks))
            return stream
        stream = self._open_stream(client_id, session_id)
        client = pb.CheckedInClient(client_id=client_id, session_id=stream.session_id)
        self.tell(pb.SelectorEvent(clients_checked_in=pb.ClientsCheckedIn(clients=[client])))
        return stream

    def _take_back(self, cohort: Cohort, member: Member, session_id: str) -> Stream:
        """A client whose stream was cut keeps its claim and its token, and gets its receipt."""
        was_away = member.standing is Standing.AWAY
        cohort.claim(member.client_id, member.token)
        stream = self._open_stream(member.client_id, session_id)
        if was_away:
            back = pb.ClientsReturned(round_id=cohort.order.round_id, client_ids=[member.client_id])
            self.tell(pb.SelectorEvent(clients_returned=back))
        self._send_configuration(cohort, member, stream)
        return stream

    def _open_stream(self, client_id: str, session_id: str) -> Stream:
        # Who is told of a session hears of its end, also if the coordinator's word of it gets lost.
        running_id = self.sessions.running_id
        stream = self.streams.open(client_id, running_id or session_id)
        held = participation_pb2.Held(
            selector_id=self.selector_id,
            session_id=running_id,
            fallbacks=self._served.fallbacks,
        )
        stream.send(participation_pb2.CheckInEvent(held=held))
        return stream

    def stream_ended(self, stream: Stream) -> None:
        """The client's stream is gone, by its own doing or ours."""
        if not self.streams.close(stream):
            return
        cohort = self.cohort
        if cohort is not None and cohort.leave(stream.client_id):
            self._tell_shapes(cohort, [cohort.members[stream.client_id]])
        self.tell(pb.SelectorEvent(clients_left=pb.ClientsLeft(client_ids=[stream.client_id])))

    def _tell_shapes(self, cohort: Cohort, members: Iterable[Member]) -> None:
        for event in reports.shape_events(cohort.order.round_id, members):
            self.tell(event)

    def find_artifact(self, sha256: bytes) -> Artifact:
        """Return the artifact with this digest; raises ``PeerError`` if there is none."""
        return self.shelf.find(sha256)

    async def current_checkpoint(self) -> tuple[int, Checkpoint]:
        """Return the round that made the current checkpoint (0: none did), and the checkpoint."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._disk, self.shelf.current_checkpoint)

    async def final_checkpoint(self, digest: str) -> tuple[int, Checkpoint]:
        """Return the round that made the checkpoint with this digest, and the checkpoint."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._disk, self.shelf.final_checkpoint, digest)

    async def model(self) -> ModelFile | None:
        """Return the Keras model file, if there is one."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, self.shelf.load_model)

    # -- What the coordinator is told -----------------------------------------------------------

    def _tell_coordinator(self, event: pb.SelectorEvent) -> None:
        self.tell(event)

    def _hears_coordinator(self) -> bool:
        return self.is_attached()

    def hello(self) -> list[pb.SelectorEvent]:
        """Say all that this selector knows: a hello, and what does not fit into it."""
        cohort = self.cohort
        hello = pb.Hello(
            protocol_version=wire.PROTOCOL_VERSION,
            selector_id=self.selector_id,
            incarnation=self.incarnation,
            address=self.address,
            cohort=reports.state_of(cohort, self._partial) if cohort is not None else None,
        )
        if cohort is not None:
            away = self._away - cohort.members.keys() - cohort.released
            hello.cohort.away.extend(sorted(away))
        for stream in self.streams.all():
            if not stream.token:
                hello.held.add(client_id=stream.client_id, session_id=stream.session_id)
        returned = reports.returned_event(cohort) if cohort is not None else None
        return reports.in_messages(hello) + ([returned] if returned is not None else [])

    # -- What the coordinator commands ----------------------------------------------------------

    async def obey(self, command: pb.CoordinatorCommand) -> None:
        """Carry out one command."""
        match command.WhichOneof("command"):
            case "decline_clients":
                answer = command.decline_clients
                window = wire.retry_window_from_wire(answer.retry_window)
                for client_id in answer.client_ids:
                    self.streams.end(client_id, declined(answer.reason, window))
            case "release_clients":
                for client_id in command.release_clients.client_ids:
                    self.streams.end(client_id, aborted("superseded", SUPERSEDED_WINDOW))
            case "configure_round":
                await self._configure(command.configure_round)
            case "close_reporting":
                await self._close(command.close_reporting)
            case "settle_partial":
                settled = command.settle_partial
                log.info("partial settled", kept=settled.kept, reason=settled.reason)
                self._spooling.forget(settled.round_id)
            case "end_round":
                self._end(command.end_round)
            case "selector_list":
                others = set(command.selector_list.addresses) - {self.address}
                number = min(len(others), FALLBACKS_MAX)
                self._served.fallbacks = random.sample(sorted(others), number)
            case "session_news":
                self.sessions.learn(command.session_news)
            case _:
                pass  # admit_clients: the client is held on its stream, and stays so

    async def _configure(self, order: pb.ConfigureRound) -> None:
        deadline_s = time.monotonic() + wire.seconds_from_wire(order.deadline_s)
        if self.cohort is not None and self.cohort.order.round_id != order.round_id:
            self._end(pb.EndRound(round_id=self.cohort.order.round_id, reason="round-over"))
        if self.cohort is not None:
            await self._spooling.claim(order)
        else:
            try:
                cohort, artifacts = await open_cohort(order, self.shelf, self._disk)
                await self._spooling.begin(order)
            except FederationError as error:
                log.error("round not configured", reason=error.reason, detail=error.detail)
                self._send_away(order)
                return
            self._serve(order, cohort, artifacts, deadline_s)
        self._take_in(self._served.cohort, order.client_ids)

    def _serve(
        self,
        order: pb.ConfigureRound,
        cohort: Cohort,
        artifacts: Sequence[participation_pb2.Artifact],
        deadline_s: float,
    ) -> None:
        self._served.cohort = cohort
        expected_s = wire.seconds_from_wire(order.expected_s)
        self._served.expected_end_s = time.monotonic() + expected_s
        self._order, self._deadline_s, self._partial = order, deadline_s, None
        self._artifacts, self._away = artifacts, frozenset()
        self.desk.open()
        self.idle.clear()

    def _send_away(self, order: pb.ConfigureRound) -> None:
        """The round cannot be served here; its clients may go elsewhere, or come back."""
        window = wire.retry_window_from_wire(order.retry_window)
        event = aborted("selector-failed", window, self._served.fallbacks)
        for client_id in order.client_ids:
            self.streams.end(client_id, event)
        self.tell(reports.released_event(order.round_id, order.client_ids))

    def _take_in(self, cohort: Cohort | None, client_ids: Iterable[str]) -> None:
        assert cohort is not None
        gone, round_id = pb.ClientsLeft(), cohort.order.round_id
        for client_id in client_ids:
            member = cohort.claim(client_id, mint(self._served.token_key, round_id, client_id))
            stream = self.streams.get(client_id)
            if stream is not None and (cohort.is_open_to(member) or not stream.token):
                self._send_configuration(cohort, member, stream)
            if member.standing not in UNSPENT:
                self.desk.tell_again(cohort, member)
            elif stream is None:
                cohort.leave(client_id)
                gone.client_ids.append(client_id)
        if gone.client_ids:
            self.tell(pb.SelectorEvent(clients_left=gone))

    def _send_configuration(self, cohort: Cohort, member: Member, stream: Stream) -> None:
        configured = participation_pb2.Configured(
            round_id=cohort.order.round_id,
            round_number=cohort.order.round_number,
            session_id=self._order.session_id,
            hyperparameters=self._order.hyperparameters,
            session_token=member.token,
            artifacts=self._artifacts,
            deadline_s=max(0.0, self._deadline_s - time.monotonic()),
        )

        def written() -> None:
            cohort.mark_configured(member.client_id)
            done = pb.ClientsConfigured(
                round_id=cohort.order.round_id, client_ids=[member.client_id]
            )
            if cohort is self.cohort:
                self.tell(pb.SelectorEvent(clients_configured=done))

        stream.token = member.token
        stream.send(participation_pb2.CheckInEvent(configured=configured), written)

    async def _close(self, close: pb.CloseReporting) -> None:
        """Give no more permissions, judge what is complete, seal the sum and hand it in."""
        cohort = self.cohort
        if cohort is None or cohort.order.round_id != close.round_id:
            empty = pb.PartialWritten(round_id=close.round_id)
            self.tell(pb.SelectorEvent(partial_written=empty))
            return
        if self._partial is None:
            self.desk.close(cohort, "reporting-closed", cohort.order.retry_window)
            folds = self.desk.finish_folds(cohort)
            grace_s = wire.seconds_from_wire(close.grace_s)
            self._tell_shapes(cohort, cohort.members.values())
            self._partial = await self._sealer.seal(cohort, self.incarnation, folds, grace_s)
            await self._spooling.note_partial(self._partial)
        self.tell(pb.SelectorEvent(partial_written=self._partial))

    def _give_up(self, cohort: Cohort) -> None:
        """A fold failed half-way: say at once that there is no sum; clients go elsewhere."""
        if cohort is self.cohort and self._partial is None and not cohort.closed:
            window, fallbacks = cohort.order.retry_window, self._served.fallbacks
            self.desk.close(cohort, "selector-failed", window, fallbacks)
            self._partial = failed(cohort, cohort.broken)
            self._spooling.forget(cohort.order.round_id)
            self.tell(pb.SelectorEvent(partial_written=self._partial))

    def _end(self, end: pb.EndRound) -> None:
        cohort = self.cohort
        if cohort is None or cohort.order.round_id != end.round_id:
            return
        window = cohort.order.retry_window
        if end.HasField("retry_window"):
            window = wire.retry_window_from_wire(end.retry_window)
        self.desk.close(cohort, end.reason or "round-over", window)
        cohort.end()
        self._served.end()
        self._spooling.forget(end.round_id)
        self.idle.set()

    # -- After a crash --------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take up the round of an earlier process, if it left one; before anybody is served.

        Its sum is folded again while others are served: as when it was, each report is told of
        once it is in, and the coordinator does not wait for the last of them to hear the first.

        Raises:
            StoreError: The round's checkpoint cannot be read.
        """
        began_s = time.monotonic()
        resumed = await self._spooling.resume(self.shelf)
        if resumed is not None:
            found, rebuilt = resumed
            deadline_s = began_s + found.order.deadline_s
            self._serve(found.order, rebuilt.cohort, rebuilt.artifacts, deadline_s)
            self._partial, self._away = found.partial, rebuilt.away
            for member, path in rebuilt.unfolded:
                self.desk.fold_again(rebuilt.cohort, member, partial(load, path))

    def yield_to_another(self) -> None:
        """Another process serves under this id: the spool's round, if there is one, is void."""
        self._spooling.renew()

    # -- Upkeep ---------------------------------------------------------------------------------

    async def _keep(self, cohort: Cohort, member: Member, update: Buffer) -> None:
        """Keep an accepted update; one that cannot be kept is accepted all the same."""
        folder = self._directory.round_files(self.selector_id)
        name = f"round-{cohort.order.round_number:06d}-{member.client_id}.safetensors"

        def write() -> None:
            with store_errors(folder, "make"):
                make_directory(folder)
            write_atomically(folder / name, lambda path: path.write_bytes(update))

        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, write)
        except StoreError as error:
            log.error("update not kept", client_id=member.client_id, detail=error.detail)

    def start_draining(self) -> None:
        """Take no new check-ins, and send away the clients that take part in no round."""
        self.draining = True
        event = declined("draining", self._served.soon, self._served.fallbacks)
        for stream in self.streams.all():
            if not stream.token:
                self.streams.end(stream.client_id, event)
                left = pb.ClientsLeft(client_ids=[stream.client_id])
                self.tell(pb.SelectorEvent(clients_left=left))

    def finish_draining(self) -> pb.SelectorEvent:
        """Send everybody away; return what the coordinator is to hear last.

        If the spool holds reports of the round, that is whom it need not wait for. Otherwise it is
        that this incarnation will not come back.
        """
        cohort = self.cohort
        last = pb.SelectorEvent(detach=pb.Detach())
        if cohort is not None and self._spooling.holds(cohort):
            released = cohort.release_unspent()
            last = reports.released_event(cohort.order.round_id, released)
            log.info("round is left to the next start", round_number=cohort.order.round_number)
        event = aborted("draining", self._served.soon, self._served.fallbacks)
        for stream in self.streams.all():
            self.streams.end(stream.client_id, event)
        return last

    def shut_down(self) -> None:
        """Give the threads back."""
        self.desk.shut_down()
        self._sealer.shut_down()
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._spooling.close()


def _tell_nobody(event: pb.SelectorEvent) -> None:
    """There is no stream to the coordinator: the next hello says everything."""


def _never() -> bool:
    return False
