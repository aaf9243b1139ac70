"""What the servers of this process have counted so far."""

from __future__ import annotations

from collections import Counter

from federation.runtime.metrics import REFUSED


def refused_calls() -> Counter[tuple[str, str]]:
    """Return the refused calls by service and reason."""
    return Counter(
        {
            (sample.labels["service"], sample.labels["reason"]): int(sample.value)
            for metric in REFUSED.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    )
