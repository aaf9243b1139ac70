"""Tests of ``federation.runtime.metrics``."""

from __future__ import annotations

from prometheus_client import generate_latest

from federation.reasons import OTHER
from federation.runtime.metrics import REFUSED, count_refused
from tests.counters import refused_calls


def test_call_is_refused_it_is_counted_by_service_and_reason() -> None:
    """Not by method or peer: labels stay few."""
    before = refused_calls()

    count_refused("/example.Service/Do", "unknown-token")
    count_refused("/example.Service/Other", "unknown-token")

    assert refused_calls() - before == {("example.Service", "unknown-token"): 2}


def test_reason_is_none_of_ours_it_is_counted_as_other() -> None:
    """A word that a peer thought up makes no counter of its own."""
    before = refused_calls()

    count_refused("/example.Service/Do", "whatever-a-peer-says")

    assert refused_calls() - before == {("example.Service", OTHER): 1}


def test_counter_is_scraped_it_has_the_documented_name() -> None:
    """Those who scrape it rely on the name."""
    count_refused("/example.Service/Do", "full")

    assert b'headwater_refused_total{reason="full",service="example.Service"}' in (
        generate_latest(REFUSED)
    )
