"""The OpenAPI document, and what schemathesis makes of it: no answer is a fault of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.servers import a_coordinator, a_shared_directory
from tests.waiting import WAIT_S
from tests.webserver.sites import a_webserver, tell, url_of
from tests.webserver.telling import FEDERATION, Teller, a_session

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@contextmanager
def a_federation_with_a_page(folder: Path) -> Iterator[str]:
    """Run coordinator and webserver, which was told of some rounds, in a thread of their own."""
    up: Future[str] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        directory = a_shared_directory(folder / "shared", {"w": np.zeros(3, np.float32)})
        async with (
            a_coordinator(directory.root) as coordinator,
            a_webserver(folder, coordinator=f"127.0.0.1:{coordinator.port}") as webserver,
            httpx.AsyncClient(base_url=url_of(webserver), timeout=WAIT_S) as browser,
        ):
            teller = Teller()
            for number in (1, 2, 3):
                await tell(browser, *teller.whole_round(number))
            await tell(browser, teller.session(a_session()))
            up.set_result(url_of(webserver))
            await stop.wait()

    with ThreadPoolExecutor(1) as thread:
        serving: Future[None] = thread.submit(loop.run_until_complete, serve())
        try:
            either: list[Future[Any]] = [up, serving]
            wait(either, return_when=FIRST_COMPLETED)
            yield up.result(timeout=0)
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result()
    loop.close()


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_federation_with_a_page(tmp_path_factory.mktemp("page")) as url:
        yield url


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.prove)])
def test_any_request_is_made_the_answer_is_as_documented_and_no_fault(
    url: str, examples: int
) -> None:
    """Whatever is asked, by whomever; the stream never ends, and is tested elsewhere."""
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json", timeout=WAIT_S)
    asked = []
    for found in schema.exclude(path="/api/v1/stream").get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        asked.append(operation.label)

        @seed(0)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS, timeout=WAIT_S)

        ask()

    assert {"POST /api/v1/session", "POST /api/v1/updates", "GET /api/v1/rounds"} <= set(asked)


def test_document_is_asked_for_it_has_every_address_of_the_contract(url: str) -> None:
    """A program finds all there is in it."""
    document = httpx.get(f"{url}/api/v1/openapi.json", timeout=WAIT_S).json()

    assert set(document["paths"]) == {
        *("/healthz", "/metrics"),
        *(
            f"/api/v1/{name}"
            for name in (
                *("checkpoints/{round_number}", "events", "overview", "reasons", "rounds"),
                *("rounds/{round_number}", "series", "session", "sessions", "stream", "updates"),
            )
        ),
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_federation_is_named_in_every_question_it_is_found(url: str) -> None:
    """One parameter, the same everywhere."""
    document = httpx.get(f"{url}/api/v1/openapi.json", timeout=WAIT_S).json()

    for path, operations in document["paths"].items():
        names = [p["name"] for p in operations.get("get", {}).get("parameters", [])]
        about_one = path.startswith("/api/") and path != "/api/v1/reasons"
        assert ("federation" in names) == ("get" in operations and about_one), path
    assert (
        httpx.get(f"{url}/api/v1/overview?federation={FEDERATION}", timeout=WAIT_S).status_code
        == 200
    )
