"""What a selector counts and shows to Prometheus; docs/metrics.md lists all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from federation.reasons import bounded
from federation.runtime.metrics import Live, a_registry
from selector.cohort import Member

if TYPE_CHECKING:
    from selector.selector import Selector

_FOLD_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


class SelectorMetrics:
    """One selector's counters.

    Attributes:
        registry: Has all of them.
        received_bytes: Of reports.
        sent_bytes: Of models and checkpoints.
        fold_seconds: How long a report took to be screened and added to the sum.
    """

    def __init__(self) -> None:
        self.registry: CollectorRegistry = a_registry()
        self._reports = Counter(
            "headwater_reports",
            "Reports by verdict and, unless accepted, the reason.",
            ["verdict", "reason"],
            registry=self.registry,
        )
        self.received_bytes = Counter(
            "headwater_received_bytes", "Bytes of reports that arrived.", registry=self.registry
        )
        self.sent_bytes = Counter(
            "headwater_sent_bytes",
            "Bytes of models and checkpoints that clients fetched to the end.",
            registry=self.registry,
        )
        self.fold_seconds = Histogram(
            "headwater_fold_seconds",
            "How long a report took to be decoded, screened and added to the sum.",
            buckets=_FOLD_BUCKETS_S,
            registry=self.registry,
        )

    def judged(self, member: Member) -> None:
        """A report got its verdict."""
        reason = bounded(member.reason) if member.reason else ""
        self._reports.labels(member.standing.value, reason).inc()

    def watch(self, selector: Selector) -> None:
        """Show how it stands whenever somebody looks."""
        self.registry.register(Live(lambda: _standing(selector)))


def _standing(selector: Selector) -> Iterator[Metric]:
    """Yield gauges of the selector's present."""
    cohort = selector.cohort
    yield GaugeMetricFamily(
        "headwater_attached",
        "1 while the coordinator answers this selector's heartbeats.",
        selector.is_attached(),
    )
    yield GaugeMetricFamily(
        "headwater_client_streams",
        "Clients on a check-in stream, whether they take part in a round or wait.",
        len(selector.streams),
    )
    yield GaugeMetricFamily(
        "headwater_cohort_clients",
        "Clients of the running round that this selector serves.",
        len(cohort.members) if cohort is not None else 0,
    )
    yield GaugeMetricFamily(
        "headwater_uploads_in_flight",
        "Reports that are being received or folded; each has a buffer of the model's size.",
        selector.desk.uploads_in_flight,
    )
