"""Starting and stopping sessions for those who may, through the coordinator."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from federation.errors import PeerError, SettingsError
from federation.runtime.control import get_status, start_session, stop_session
from federation.runtime.telemetry import get_logger
from federation.v1 import control_pb2 as pb
from webserver import updates
from webserver.answers import problems
from webserver.asking import FederationQuery
from webserver.refusals import Refused
from webserver.site import Site

log = get_logger()

STATUS_OF_REASON = {"session-running": 409, "no-session": 409, "impossible-plan": 422}
"""Refusals of the coordinator that are the asker's matter."""

NOBODY_THERE = frozenset({"unavailable", "deadline-exceeded", "cancelled", "unimplemented"})
"""What stands for a reason when no coordinator answered."""

Whole = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SessionRequest(BaseModel):
    """What is not given is the coordinator's own setting."""

    model_config = ConfigDict(extra="forbid")

    rounds: Annotated[Whole, Field(ge=1, description="Rounds to complete.")]
    goal_count: Whole | None = None
    min_reports: Whole | None = None
    over_selection: Number | None = None
    report_window_s: Number | None = None
    selection_timeout_s: Number | None = None
    epochs: Whole | None = None
    batch_size: Whole | None = None
    learning_rate: Number | None = None


def controlling_routes(site: Site) -> APIRouter:
    """Make the routes."""

    async def check(request: Request) -> None:
        site.access.check_control(request.headers, request.cookies)

    router = APIRouter(
        prefix="/api/v1",
        tags=["control"],
        dependencies=[Depends(check)],
        responses=problems(
            _401="The control token is missing or wrong.",
            _403="The request comes from another page, or nobody may control this server.",
            _503="The coordinator does not answer, or cannot do it now.",
        ),
    )

    @router.post(
        "/session",
        status_code=201,
        summary="Start a session",
        response_model=updates.Session,
        responses=problems(
            _409="One runs, or it is another federation.", _422="The plan is impossible."
        ),
    )
    async def start(asked: SessionRequest, federation: FederationQuery = None) -> dict[str, Any]:
        """Start a run of rounds; refused while one runs."""
        coordinator = await _coordinator_of(site, federation)
        plan = asked.model_dump(exclude_none=True)
        rounds = plan.pop("rounds")
        try:
            session = await start_session(coordinator, rounds, plan)
        except (PeerError, SettingsError) as error:
            raise _refused(error) from None
        log.info("session started", session_id=session.session_id, rounds=rounds, plan=plan)
        return _facts_of(session)

    @router.delete(
        "/session",
        summary="Stop the session",
        response_model=updates.Session,
        responses=problems(
            _409="None runs, or it is another federation.", _422="A parameter is malformed."
        ),
    )
    async def stop(
        federation: FederationQuery = None,
        after_round: Annotated[
            bool, Query(description="Let the running round complete; else it is abandoned.")
        ] = True,
    ) -> dict[str, Any]:
        """End the running session, at once or after its round."""
        coordinator = await _coordinator_of(site, federation)
        try:
            session = await stop_session(coordinator, after_round=after_round)
        except PeerError as error:
            raise _refused(error) from None
        log.info("session stopped", session_id=session.session_id, after_round=after_round)
        return _facts_of(session)

    return router


async def _coordinator_of(site: Site, federation: str | None) -> str:
    """Return the coordinator's HOST:PORT, if it is of the federation that is meant."""
    if site.coordinator is None:
        detail = "this server knows no coordinator; start it with --coordinator HOST:PORT"
        raise Refused(503, detail, reason="coordinator-unreachable")
    if federation is None:
        return site.coordinator
    try:
        found = (await get_status(site.coordinator)).federation_id
    except PeerError as error:
        raise _refused(error) from None
    if found != federation:
        detail = f"this server controls the federation {found}, not {federation}"
        raise Refused(409, detail, reason="other-federation")
    return site.coordinator


def _refused(error: PeerError | SettingsError) -> Refused:
    if error.reason in NOBODY_THERE:
        return Refused(503, error.detail, reason="coordinator-unreachable")
    return Refused(STATUS_OF_REASON.get(error.reason, 503), error.detail, reason=error.reason)


def _facts_of(session: pb.SessionStatus) -> dict[str, Any]:
    return {name: getattr(session, name) for name in updates.Session.model_fields}
