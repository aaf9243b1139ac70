"""What a coordinator counts and shows to Prometheus; docs/metrics.md lists all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from coordinator.picture import Picture, Stage
from coordinator.record import record_of
from coordinator.updates import told_counts
from coordinator.webhook import shown
from federation.phases import Phase
from federation.reasons import bounded
from federation.runtime.metrics import Live, a_registry

if TYPE_CHECKING:
    from coordinator.announcer import Announcer
    from coordinator.driver import Driver

_STAGE_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600)
_SYNC_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


class CoordinatorMetrics:
    """One coordinator's counters; those of its rounds count from its start.

    Attributes:
        registry: Has all of them.
    """

    def __init__(self) -> None:
        self.registry: CollectorRegistry = a_registry()
        self._rounds = Counter(
            "headwater_rounds",
            "Rounds that completed, by outcome and, if abandoned, the reason.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "headwater_stage_seconds",
            "How long a stage of a round took; reporting includes merge and commit.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._clients = Counter(
            "headwater_clients",
            "Admitted clients of completed rounds, by their fate and the reason of it.",
            ["fate", "reason"],
            registry=self.registry,
        )
        self._examples = Counter(
            "headwater_examples",
            "Examples behind the reports of committed rounds.",
            registry=self.registry,
        )
        self.journal_sync_seconds = Histogram(
            "headwater_journal_sync_seconds",
            "How long an entry of the journal took to become durable.",
            buckets=_SYNC_BUCKETS_S,
            registry=self.registry,
        )

    # -- For the driver -------------------------------------------------------------------------

    def stage_began(self, stage: Stage) -> None:
        """Count a round that completed."""
        round_ = stage.picture.round
        if stage.announced.phase is not Phase.COMPLETED or round_ is None:
            return
        record = record_of(round_)
        self._rounds.labels(record.outcome.value, bounded_or_none(record.reason)).inc()
        for name, seconds in record.phase_seconds.items():
            self._stage_seconds.labels(name).observe(seconds)
        for claim in record.clients.values():
            self._clients.labels(claim.standing.value, bounded_or_none(claim.reason)).inc()
            if record.committed:
                self._examples.inc(claim.num_examples if claim.standing == "reported" else 0)

    def session_changed(self, picture: Picture) -> None:
        """Nothing is counted: sessions are shown as they stand."""

    # -- For Prometheus -------------------------------------------------------------------------

    def watch(self, driver: Driver, announcer: Announcer | None) -> None:
        """Show how these stand whenever somebody looks."""
        self.registry.register(Live(lambda: _standing(driver)))
        if announcer is not None:
            self.registry.register(_OutboxMetrics(announcer))


def bounded_or_none(reason: str) -> str:
    """Return a reason as a label; where there is none it is empty."""
    return bounded(reason) if reason else ""


def _standing(driver: Driver) -> Iterator[Metric]:
    """Yield gauges of the driver's present."""
    picture = driver.picture()
    round_, session = picture.round, picture.session
    yield GaugeMetricFamily(
        "headwater_selectors",
        "Selectors that are attached.",
        sum(selector.attached for selector in picture.selectors),
    )
    yield GaugeMetricFamily(
        "headwater_held_clients",
        "Clients that selectors hold and that take part in no round.",
        picture.waiting_clients,
    )
    yield GaugeMetricFamily(
        "headwater_round_number",
        "Number of the newest round; 0 before the first.",
        round_.number if round_ is not None else 0,
    )
    stages = GaugeMetricFamily(
        "headwater_round_stage", "1 for the stage of the newest round.", labels=["stage"]
    )
    for phase in Phase:
        stages.add_metric([phase.value], round_ is not None and round_.phase is phase)
    yield stages
    counts = GaugeMetricFamily(
        "headwater_round_clients",
        "Admitted clients of the newest round, by where they stand; configured overlaps.",
        labels=["standing"],
    )
    for standing, count in told_counts(round_.counts).items() if round_ is not None else ():
        counts.add_metric([standing], count)
    yield counts
    yield GaugeMetricFamily(
        "headwater_session_running",
        "1 while a session runs.",
        session is not None and not session.over,
    )
    yield GaugeMetricFamily(
        "headwater_session_rounds_completed",
        "Completed rounds of the newest session.",
        session.completed if session is not None else 0,
    )
    yield GaugeMetricFamily(
        "headwater_events_waiting", "Events that wait for the coordinator.", driver.waiting_events
    )
    yield GaugeMetricFamily(
        "headwater_storage_failing",
        "1 while nothing can be made durable, so that no round begins.",
        bool(picture.storage_failure),
    )
    journal = driver.memory.journal_size
    yield GaugeMetricFamily(
        "headwater_journal_bytes", "Length of the journal's newest generation.", journal.written
    )
    yield GaugeMetricFamily(
        "headwater_journal_entries", "Entries of the journal's newest generation.", journal.entries
    )


class _OutboxMetrics(Live):
    """What webservers are still to be told; looked up by the outbox's own thread."""

    def __init__(self, announcer: Announcer) -> None:
        super().__init__(lambda: _senders(announcer))
        self._announcer = announcer

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        depth = GaugeMetricFamily(
            "headwater_outbox_updates",
            "Stages and session changes that a webserver is still to be told.",
            labels=["webserver"],
        )
        age = GaugeMetricFamily(
            "headwater_outbox_oldest_seconds",
            "Age of the oldest update that a webserver is still to be told; 0 where there is none.",
            labels=["webserver"],
        )
        for url, owed, age_s in self._announcer.depths():
            depth.add_metric([shown(url)], owed.count)
            age.add_metric([shown(url)], age_s)
        yield depth
        yield age


def _senders(announcer: Announcer) -> Iterator[Metric]:
    """Yield what became of the updates."""
    sent = CounterMetricFamily(
        "headwater_updates_sent",
        "Status updates by what became of them; those that failed are sent again if they last.",
        labels=["webserver", "result"],
    )
    for sender in announcer.senders:
        webserver, tally = shown(sender.url), sender.tally
        sent.add_metric([webserver, "taken"], tally.delivered)
        sent.add_metric([webserver, "refused"], tally.refused)
        sent.add_metric([webserver, "failed"], tally.failed)
    yield sent
    yield CounterMetricFamily(
        "headwater_updates_dropped",
        "Stages and session changes that no webserver took before a limit was reached.",
        announcer.dropped_updates,
    )
