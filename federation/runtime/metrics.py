"""What the servers count, for Prometheus; few labels, none of them a peer's own words."""

from __future__ import annotations

from prometheus_client import Counter

from federation.reasons import bounded

REFUSED = Counter(
    "headwater_refused",
    "Calls that ended with an error, by the service and the reason word.",
    ["service", "reason"],
)
"""Of this process; reads ``headwater_refused_total``."""


def count_refused(method: str, reason: str) -> None:
    """Count a call of ``/federation.v1.Participation/Report`` that was refused."""
    REFUSED.labels(service=method.split("/")[1], reason=bounded(reason)).inc()
