"""What the webserver counts, for Prometheus; few labels, none of them a peer's own words."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

UPDATES = Counter(
    "headwater_webserver_updates",
    "Status updates that were answered with 204, by what became of them.",
    ["result"],
)
"""``result`` is taken, duplicate, or unknown: of a type of a later release."""

REFUSED = Counter(
    "headwater_webserver_refused",
    "Requests that were refused, by the reason word.",
    ["reason"],
)

REQUESTS = Counter(
    "headwater_webserver_requests",
    "Requests that were answered, by route, method and status.",
    ["route", "method", "status"],
)

STREAMS = Gauge("headwater_webserver_streams", "Streams of events that are open.")

LAST_UPDATE = Gauge(
    "headwater_webserver_last_update_seconds",
    "Unix seconds when the last status update was taken; 0 before the first.",
)
