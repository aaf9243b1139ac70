"""What a coordinator can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from coordinator.webhook import Push
from federation.plan import Hyperparameters, RoundPlan, Weighting
from federation.runtime.settings import EVERYDAY, Port, RoleSettings, Secret, Shown, WebUrls


class CoordinatorSettings(RoleSettings):
    """The rules that span several of the plan's fields are the plan's own: see ``RoundPlan``."""

    role: ClassVar[str] = "coordinator"
    summary: ClassVar[str] = "Run rounds: admit clients, merge the selectors' sums, commit."
    example: ClassVar[str] = "headwater coordinator --goal-count 4 --rounds 10"

    shared_data: Annotated[
        Path,
        Field(description="The shared directory, laid out by `headwater init`."),
        EVERYDAY,
    ] = Path("shared_data")
    host: Annotated[
        str,
        Field(description="Address to listen on; 0.0.0.0 for every interface.", min_length=1),
        EVERYDAY,
    ] = "127.0.0.1"
    port: Annotated[
        Port,
        Field(description="Port to listen on; 0 picks a free one, printed at the start."),
        EVERYDAY,
    ] = 50050
    rounds: Annotated[
        int | None,
        Field(
            ge=1,
            description="Rounds of the session that starts by itself, whatever their outcomes; "
            "without it the coordinator waits for `headwater session start`.",
        ),
        EVERYDAY,
    ] = None

    webservers: Annotated[
        WebUrls,
        Field(
            description="URL to which status updates are sent (docs/status-updates.md); may be "
            "repeated."
        ),
        Shown(everyday=True, flag="--webserver"),
    ] = ()

    goal_count: Annotated[
        int,
        Field(description="Reports aimed for; reporting closes once this many are folded."),
        EVERYDAY,
    ] = 2
    over_selection: Annotated[
        float,
        Field(description="Factor on admissions, 1 to 100, against clients that drop out."),
        EVERYDAY,
    ] = 1.0
    min_reports: Annotated[
        int,
        Field(description="Fewest reports for a commit; 0 means half of goal_count, rounded up."),
        EVERYDAY,
    ] = 0
    selection_timeout_s: Annotated[
        float,
        Field(
            description="Seconds for clients to check in; at their end the round goes on with "
            "min_reports clients or more, else it is abandoned."
        ),
        EVERYDAY,
    ] = 300.0
    report_window_s: Annotated[
        float,
        Field(
            description="Seconds from the moment clients are configured; at their end reporting "
            "closes with what was folded."
        ),
        EVERYDAY,
    ] = 600.0
    grace_s: Annotated[
        float,
        Field(
            description="Seconds after reporting closed for the selectors' sums; at their end "
            "the round goes on with those that arrived."
        ),
    ] = 15.0
    return_s: Annotated[
        float,
        Field(
            description="Seconds for a client or selector that went away to come back; at their "
            "end it counts as lost."
        ),
    ] = 30.0
    commit_timeout_s: Annotated[
        float,
        Field(
            description="Seconds to write the next checkpoint; at their end the round is abandoned."
        ),
    ] = 60.0
    selection_pipelined: Annotated[
        bool,
        Field(description="Hold surplus clients for the next round instead of declining them."),
    ] = False
    weighting: Annotated[
        Weighting,
        Field(description="What a report weighs: its number of examples, or 1."),
    ] = "examples"
    weight_max: Annotated[
        int,
        Field(
            description="Largest number of examples that a report may claim; above it the "
            "report is rejected."
        ),
    ] = 1_000_000_000
    update_norm_max: Annotated[
        float | None,
        Field(
            description="Largest L2 norm of trained minus global weights, above which a report "
            "is rejected; without it there is no limit."
        ),
    ] = None
    retry_delay_min_s: Annotated[
        float,
        Field(description="Seconds until a client that was sent away may come back, at least."),
    ] = 1.0
    retry_delay_max_s: Annotated[
        float,
        Field(description="Seconds until a client that was sent away may come back, at most."),
    ] = 5.0
    epochs: Annotated[
        int, Field(description="Passes of a client over its own data in one round.")
    ] = 1
    batch_size: Annotated[int, Field(description="Examples in one training step.")] = 32
    learning_rate: Annotated[float, Field(description="Step size of the clients' optimizer.")] = 0.1

    held_max: Annotated[
        int,
        Field(
            ge=1,
            description="Clients that may be held at once without a session; further ones are "
            "declined.",
        ),
    ] = 20_000
    history_keep: Annotated[
        int,
        Field(ge=1, description="Past checkpoints that are kept; older ones are deleted."),
    ] = 20

    webserver_secret: Annotated[
        Secret | None,
        Field(
            description="Signs the status updates, so that a webserver believes only this "
            "coordinator. Better given by the environment or a file than by a flag, which others "
            "on the machine can read."
        ),
    ] = None
    metrics_port: Annotated[
        Port | None,
        Field(
            description="Port for Prometheus' metrics (docs/metrics.md), on the same host; 0 picks "
            "a free one, without it there are none."
        ),
    ] = None

    @model_validator(mode="after")
    def _plan_is_possible(self) -> CoordinatorSettings:
        self.plan()
        return self

    def push(self) -> Push:
        """Return who is told what happens."""
        secret = self.webserver_secret
        urls = tuple(dict.fromkeys(self.webservers))
        return Push(urls, secret.get_secret_value() if secret is not None else "")

    def plan(self, **changes: Any) -> RoundPlan:
        """Return what is asked of a round.

        Args:
            changes: What is other than these settings; some of ``PLAN_SETTINGS``.

        Raises:
            SettingsError: The plan is impossible; names the setting.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in PLAN_SETTINGS} | changes
        hyperparameters = {name: values.pop(name) for name in _HYPERPARAMETERS}
        return RoundPlan(
            pipelined=values.pop("selection_pipelined"),
            hyperparameters=Hyperparameters(**hyperparameters),
            **values,
        )


_HYPERPARAMETERS = tuple(Hyperparameters.__dataclass_fields__)

PLAN_SETTINGS = (
    *(
        name
        for name in RoundPlan.__dataclass_fields__
        if name not in ("pipelined", "hyperparameters")
    ),
    "selection_pipelined",
    *_HYPERPARAMETERS,
)
"""The settings that make up the plan: a session may have others than its coordinator."""
