"""What Prometheus sees of a coordinator and a selector, and what people are told of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from coordinator.settings import CoordinatorSettings
from federation.errors import SettingsError
from federation.plan import RoundPlan
from selector.app import SelectorServer
from tests.coordinator.test_announcer_page import SendsBack
from tests.receivers import a_receiver, answer
from tests.servers import HOST, a_coordinator, a_selector, a_shared_directory
from tests.waiting import eventually, within

ROOT = Path(__file__).parents[2]


@dataclass
class Scraped:
    """What one server exposed.

    Attributes:
        families: By name, as the parser gives them.
    """

    families: dict[str, Metric]

    def value(self, name: str, **labels: str) -> float:
        """Return one sample."""
        samples = [s for family in self.families.values() for s in family.samples]
        found = [s.value for s in samples if s.name == name and s.labels == labels]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def names(self) -> set[str]:
        """Return the names that a query may use."""
        names = {s.name for family in self.families.values() for s in family.samples}
        return names | {full_name(family) for family in self.families.values()}


def full_name(family: Metric) -> str:
    """Return a metric's name as people write it: a counter's ends in ``_total``."""
    return f"{family.name}_total" if family.type == "counter" else family.name


async def scraped(port: int) -> Scraped:
    """Look at a server as Prometheus does."""

    def fetch() -> str:
        with urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(fetch)
    return Scraped({family.name: family for family in text_string_to_metric_families(text)})


@dataclass
class Both:
    """A federation after two rounds, whose webserver refuses everything."""

    coordinator: Scraped
    selector: Scraped
    url: str


@asynccontextmanager
async def a_federation(folder: Path) -> AsyncIterator[Both]:
    """Run two rounds and look at both servers."""
    from client.session import ClientSession

    a_shared_directory(folder, {"w": np.zeros(1000, np.float32)})
    plan = RoundPlan(goal_count=1, retry_delay_min_s=0.0, retry_delay_max_s=0.1)
    async with a_receiver() as receiver:
        receiver.answers = lambda update: answer(503)
        settings = CoordinatorSettings(webservers=(f"{receiver.url}?token=hidden",))
        async with (
            a_coordinator(folder, settings=settings) as coordinator,
            a_selector(folder, coordinator.port) as selector,
        ):
            coordinator.expose(HOST, 0)
            selector.expose(HOST, 0)
            await within(selector.uplink.attached.wait())
            session = await coordinator.driver.sessions.start(plan, 2)
            client = ClientSession(
                "ann", [f"{HOST}:{selector.port}"], SendsBack(), one_session=True
            )
            await within(client.run())
            await client.close()
            await within(session.over.wait())
            assert coordinator.announcer is not None
            assert coordinator.exposition.port is not None
            assert selector.exposition.port is not None
            await within(coordinator.announcer._saved.wait())
            await eventually(lambda: receiver.asked)
            yield Both(
                await scraped(coordinator.exposition.port),
                await scraped(selector.exposition.port),
                receiver.url,
            )


async def test_rounds_were_run_they_are_counted(tmp_path: Path) -> None:
    """Each by what became of it, with seconds, bytes and examples."""
    async with a_federation(tmp_path / "shared_data") as both:
        coordinator, selector = both.coordinator, both.selector

    assert coordinator.value("headwater_rounds_total", outcome="committed", reason="") == 2
    assert coordinator.value("headwater_clients_total", fate="reported", reason="") == 2
    assert coordinator.value("headwater_examples_total") == 6
    assert coordinator.value("headwater_stage_seconds_count", stage="reporting") == 2
    assert coordinator.value("headwater_round_number") == 2
    assert coordinator.value("headwater_round_stage", stage="completed") == 1
    assert coordinator.value("headwater_round_clients", standing="reported") == 1
    assert coordinator.value("headwater_session_rounds_completed") == 2
    assert coordinator.value("headwater_session_running") == 0
    assert coordinator.value("headwater_selectors") == 1
    assert coordinator.value("headwater_journal_sync_seconds_count") > 0
    assert coordinator.value("headwater_journal_bytes") > 0
    assert selector.value("headwater_reports_total", verdict="accepted", reason="") == 2
    assert selector.value("headwater_fold_seconds_count") == 2
    assert selector.value("headwater_received_bytes_total") > 8000
    assert selector.value("headwater_sent_bytes_total") > 4000
    assert selector.value("headwater_uploads_in_flight") == 0
    assert selector.value("headwater_attached") == 1


async def test_webserver_takes_nothing_depth_and_age_of_what_it_is_owed_are_seen(
    tmp_path: Path,
) -> None:
    """Under its URL without the query."""
    async with a_federation(tmp_path / "shared_data") as both:
        owed = both.coordinator.value("headwater_outbox_updates", webserver=both.url)
        age_s = both.coordinator.value("headwater_outbox_oldest_seconds", webserver=both.url)
        failed = both.coordinator.value(
            "headwater_updates_sent_total", webserver=both.url, result="failed"
        )

    assert owed == 10  # eight stages, a session's start and its end
    assert 0 < age_s < 100
    assert failed > 0


async def test_page_and_dashboard_are_about_what_is_exposed(tmp_path: Path) -> None:
    """Every metric is explained, every explained one is there, and every query finds its metric."""
    async with a_federation(tmp_path / "shared_data") as both:
        pass

    assert documented("coordinator") == rows(both.coordinator)
    assert documented("selector") == rows(both.selector)
    exposed = both.coordinator.names() | both.selector.names()
    queries = list(expressions(ROOT / "deploy" / "grafana" / "headwater.json"))
    assert len(queries) > 10
    for query in queries:
        used = set(re.findall(r"\bheadwater_\w+", query))
        assert used, query
        assert used <= exposed, query


def rows(found: Scraped) -> list[tuple[str, str, str]]:
    """Return name, type and meaning of what was exposed, but for when counters began."""
    return sorted(
        (full_name(family), family.type, family.documentation)
        for family in found.families.values()
        if not family.name.endswith("_created")
    )


def documented(role: str) -> list[tuple[str, str, str]]:
    """Return name, type and meaning of what the page lists for a role."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    section = page.partition(f"## {role}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]* \| (.*) \|$", section, re.MULTILINE)
    return sorted((name, kind, meaning) for name, kind, meaning in found)


def expressions(path: Path) -> Iterable[str]:
    """Yield the queries of a dashboard."""
    waiting = [json.loads(path.read_text())]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from (part[name] for name in ("expr", "definition") if name in part)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


async def test_servers_of_one_process_count_each_for_itself(tmp_path: Path) -> None:
    """Nothing is registered twice, and nothing is mixed up."""
    a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    async with (
        a_coordinator(tmp_path) as coordinator,
        a_selector(tmp_path, coordinator.port, "north") as north,
        a_selector(tmp_path, coordinator.port, "south") as south,
    ):
        servers: list[SelectorServer] = [north, south]
        for server in servers:
            server.expose(HOST, 0)
        north.selector.desk.metrics.received_bytes.inc(7)
        ports = [server.exposition.port for server in servers]
        seen = [await scraped(port) for port in ports if port is not None]

    assert [each.value("headwater_received_bytes_total") for each in seen] == [7, 0]


async def test_port_is_in_use_the_operator_is_told(tmp_path: Path) -> None:
    """With the name of the setting."""
    a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    async with a_coordinator(tmp_path) as coordinator:
        coordinator.expose(HOST, 0)
        async with a_selector(tmp_path, coordinator.port) as selector:
            port = coordinator.exposition.port
            assert port is not None
            with pytest.raises(SettingsError) as caught:
                selector.expose(HOST, port)

    assert (caught.value.setting, caught.value.reason) == ("metrics_port", "port-in-use")
