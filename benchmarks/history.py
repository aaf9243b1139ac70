"""How fast a webserver answers with a long history: ``python -m benchmarks.history``.

Fills a database with rounds as a coordinator would tell them, and prints for each question of a
page the median and the slowest answer in milliseconds, in process and without a network.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.webserver.telling import PHASES, Teller, a_client, a_round, update
from webserver.database import Database
from webserver.downloads import Downloads
from webserver.server import application
from webserver.site import open_site
from webserver.store import Store

QUESTIONS = (
    "/",
    "/api/v1/overview",
    "/api/v1/rounds?limit=50",
    "/api/v1/rounds?limit=50&before={middle}",
    "/api/v1/rounds?limit=50&outcome=abandoned",
    "/api/v1/rounds/{middle}",
    "/api/v1/series?limit=500",
    "/api/v1/events?limit=100",
)
REPETITIONS = 20
FILLED_AT_ONCE = 500
"""Rounds in a transaction, so that filling takes seconds."""

RULES = {"host": "127.0.0.1", "allowed_hosts": (), "control_token": ""}


async def measure(rounds: int, clients: int, folder: Path) -> None:
    """Fill a database and print the table."""
    database = Database(folder / "webserver.db")
    await fill(database, rounds, clients)
    began_s = time.perf_counter()
    site = await open_site(
        database, Store(rounds), Downloads(None), RULES, secret="", coordinator=None
    )
    restored_ms = 1000 * (time.perf_counter() - began_s)
    size = (folder / "webserver.db").stat().st_size / 1e6
    print(f"{rounds} rounds of {clients} clients: {size:.1f} MB, restored in {restored_ms:.1f} ms")
    print(f"{'question':48} {'median ms':>10} {'slowest ms':>10} {'KB':>8}")
    transport = httpx.ASGITransport(application(site))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as browser:
        for question in QUESTIONS:
            path = question.format(middle=rounds // 2)
            await browser.get(path)
            times_ms = []
            for _ in range(REPETITIONS):
                began_s = time.perf_counter()
                answer = await browser.get(path)
                times_ms.append(1000 * (time.perf_counter() - began_s))
                assert answer.status_code == 200, answer.text
            middle, slowest = statistics.median(times_ms), max(times_ms)
            kilobytes = len(answer.content) / 1000
            print(f"{path:48} {middle:10.1f} {slowest:10.1f} {kilobytes:8.1f}")
    database.close()


async def fill(database: Database, rounds: int, clients: int) -> None:
    """Tell of rounds, every stage of each."""
    store, teller = Store(rounds), Teller()
    reports = [a_client(f"client-{number}") for number in range(clients)]
    for first in range(1, rounds + 1, FILLED_AT_ONCE):
        numbers = range(first, min(first + FILLED_AT_ONCE, rounds + 1))
        told = [
            update(teller.stage(a_round(number, phase, clients=reports, clients_total=clients)))
            for number in numbers
            for phase in PHASES
        ]
        await database.write(lambda c, told=told: [store.take(c, one, 0.0) for one in told])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4, help="of each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(measure(options.rounds, options.clients, Path(temporary)))
