"""How every role gets its settings: TOML file, then environment, then flags, each value traced.

A role declares one flat model, a subclass of ``RoleSettings``; its flags, environment variables,
TOML table and documentation are derived from it, so that a setting is written down once.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from federation.errors import SettingsError

ENVIRONMENT_PREFIX = "HEADWATER_"
CONFIG_VARIABLE = "HEADWATER_CONFIG"
DEFAULT_SOURCE = "the default"

ROLES = ("coordinator", "selector", "client")
"""The roles that have settings, which are also the tables that a TOML file may have."""

SETTING_NAMES = frozenset(
    """
    advertise batch_size cache cache_bytes_max client_id commit_timeout_s coordinator data drain_s
    epochs fetch_final goal_count grace_s held_max history_keep host keep_updates keepalive_s
    keepalive_timeout_s learning_rate log_json log_level min_reports over_selection port
    report_stall_s report_window_s reports_in_flight_max retry_delay_max_s retry_delay_min_s
    return_s rounds seed selection_pipelined selection_timeout_s selector_id selectors shard
    shared_data skew state trainer update_norm_max weight_max weighting
    """.split()  # noqa: SIM905 - a list would take a line a word
)
"""Every setting of every role, so that a role can tell a misspelt variable from another role's.

Roles do not import each other; a test compares this with their models.
"""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


def checked_host_port(text: str) -> str:
    """Return ``text`` if it is HOST:PORT and can be dialled, else raise ``ValueError``."""
    host, _, port = text.rpartition(":")
    if not (_HOST.fullmatch(host) and port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError("it must be HOST:PORT, e.g. 127.0.0.1:50050 or [::1]:50050")
    if not 1 <= int(port) <= 65535:
        raise ValueError("it must be HOST:PORT with a port from 1 to 65535")
    return text


def _split_at_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value


HostPort = Annotated[str, AfterValidator(checked_host_port)]
"""Where a server is reached, as gRPC takes it: ``"127.0.0.1:50050"``."""

HostPorts = Annotated[tuple[HostPort, ...], NoDecode, BeforeValidator(_split_at_commas)]
"""Several of them: a TOML list, a repeated flag, or separated by commas in the environment."""

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Shown:
    """How a setting is presented to people, where its type does not say it.

    Attributes:
        everyday: Most operators will meet it; listed first.
        flag: The flag's name where it is not the field's.
        default: What stands for a default that is computed.
    """

    everyday: bool = False
    flag: str = ""
    default: str = ""


EVERYDAY = Shown(everyday=True)


class RoleSettings(BaseSettings):
    """What every role can be told, and the description of its command.

    Constructing a model reads its arguments only; ``load_settings`` reads the sources.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    role: ClassVar[str]
    summary: ClassVar[str]
    example: ClassVar[str]

    drain_s: Annotated[
        Seconds,
        Field(
            description="Seconds for open work after SIGTERM; at their end the process leaves "
            "with whatever is unfinished."
        ),
    ] = 10.0
    keepalive_s: Annotated[
        PositiveSeconds,
        Field(
            description="Seconds of silence on a connection; at their end the peer is asked for "
            "a sign of life."
        ),
    ] = 10.0
    keepalive_timeout_s: Annotated[
        PositiveSeconds,
        Field(
            description="Seconds that a peer has for that sign of life; at their end the "
            "connection is closed and the peer counts as away."
        ),
    ] = 5.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Least severe level that is logged."),
    ] = "info"
    log_json: Annotated[
        bool | None,
        Field(description="Log JSON lines instead of text for people."),
        Shown(default="yes unless standard error is a terminal"),
    ] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the arguments only: ``load_settings`` layers the sources, to trace each value."""
        return (init_settings,)


S = TypeVar("S", bound=RoleSettings)


@dataclass(frozen=True)
class Effective(Generic[S]):
    """Settings that hold, and where each came from.

    Attributes:
        settings: The checked model.
        sources: By setting, e.g. ``"flag --port"``, ``"environment HEADWATER_PORT"``,
            ``"file hw.toml [coordinator] port"`` or ``"the default"``.
    """

    settings: S
    sources: Mapping[str, str]


def shown(field: FieldInfo) -> Shown:
    """Return how a field is presented."""
    return next((mark for mark in field.metadata if isinstance(mark, Shown)), Shown())


def flag_name(name: str, field: FieldInfo) -> str:
    """Return the flag of a field: ``--goal-count`` for ``goal_count``."""
    return shown(field).flag or "--" + name.replace("_", "-")


def environment_name(name: str) -> str:
    """Return the environment variable of a field: ``HEADWATER_GOAL_COUNT`` for ``goal_count``."""
    return ENVIRONMENT_PREFIX + name.upper()


def load_settings(
    settings_class: type[S], flags: Mapping[str, object], config: Path | None = None
) -> Effective[S]:
    """Layer file, environment and flags, later over earlier, and check the result.

    Args:
        settings_class: The role's model.
        flags: Values by field name, as typed or already converted; only those that were given.
        config: The TOML file; None: the one that ``HEADWATER_CONFIG`` names, if any.

    Raises:
        SettingsError: A value is wrong or a name is unknown; says which, from where, and what
            would be right.
    """
    values: dict[str, object] = {}
    sources = dict.fromkeys(settings_class.model_fields, DEFAULT_SOURCE)

    path, named_by = _config_file(config)
    if path is not None:
        for name, value in _read_table(settings_class, path, named_by).items():
            values[name] = value
            sources[name] = f"file {path} [{settings_class.role}] {name}"
    for name, value in _read_environment(settings_class).items():
        values[name] = value
        sources[name] = f"environment {environment_name(name)}"
    for name, value in flags.items():
        values[name] = value
        sources[name] = f"flag {flag_name(name, settings_class.model_fields[name])}"

    try:
        return Effective(settings_class(**values), sources)  # type: ignore[arg-type]  # checked by it
    except ValidationError as invalid:
        raise _first_of(invalid, settings_class, sources) from None
    except SettingsError as wrong:
        raise traced(wrong, sources) from None


def traced(error: SettingsError, sources: Mapping[str, str]) -> SettingsError:
    """Return the error with the source of its setting, if it does not name one yet."""
    if error.source or error.setting not in sources:
        return error
    return SettingsError(
        error.setting,
        error.value,
        error.expected,
        source=sources[error.setting],
        reason=error.reason,
    )


def _config_file(flag: Path | None) -> tuple[Path | None, str]:
    if flag is not None:
        return flag, "flag --config"
    named = os.environ.get(CONFIG_VARIABLE)
    return (Path(named) if named else None), f"environment {CONFIG_VARIABLE}"


def _read_table(settings_class: type[RoleSettings], path: Path, named_by: str) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else problem
        expected = f"it must name a readable TOML file ({what})"
        raise SettingsError(
            "config", str(path), expected, source=named_by, reason="settings-unreadable"
        ) from None
    for name, value in content.items():
        if name not in ROLES:
            expected = f"a TOML file has one table a role: {', '.join(ROLES)}{_hint(name, ROLES)}"
            raise _unknown(name, value, expected, f"file {path}")
        if not isinstance(value, dict):
            expected = f"it must be a table: [{name}] and the settings below it"
            raise SettingsError(name, value, expected, source=f"file {path}")
    role = settings_class.role
    table: dict[str, object] = content.get(role, {})
    for name, value in table.items():
        if name not in settings_class.model_fields:
            expected = f"there is no such setting{_hint(name, settings_class.model_fields)}"
            raise _unknown(name, value, expected, f"file {path} [{role}] {name}")
    return table


def _read_environment(settings_class: type[RoleSettings]) -> dict[str, Any]:
    known = {environment_name(name) for name in SETTING_NAMES | settings_class.model_fields.keys()}
    known.add(CONFIG_VARIABLE)
    for variable, value in os.environ.items():
        if variable.upper().startswith(ENVIRONMENT_PREFIX) and variable.upper() not in known:
            expected = f"no role has such a setting{_hint(variable, known)}"
            raise _unknown(variable, value, expected, "environment")
    return EnvSettingsSource(settings_class, env_ignore_empty=True)()


def _unknown(name: str, value: object, expected: str, source: str) -> SettingsError:
    return SettingsError(name, value, expected, source=source, reason="unknown-setting")


def _hint(name: str, known: object) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)  # type: ignore[call-overload]
    return f"; did you mean {close[0]}?" if close else ""


def _first_of(
    invalid: ValidationError, settings_class: type[RoleSettings], sources: Mapping[str, str]
) -> SettingsError:
    error = invalid.errors()[0]
    name = str(error["loc"][0])
    expected = _expected(settings_class.model_fields[name], error)
    return SettingsError(name, error["input"], expected, source=sources[name])


def _expected(field: FieldInfo, error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"it must be {allowed_values(field)}"


def allowed_values(field: FieldInfo) -> str:
    """Say what a field takes: ``"a whole number from 0 to 65535"``."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    optional = type(None) in get_args(field.annotation)
    kind = kinds[0] if optional else field.annotation
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    words = _KIND_WORDS.get(get_origin(kind) or kind, "text")
    words = f"{words} {_bounds(field.metadata)}".strip()
    return words + (", or not given" if optional else "")


_KIND_WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    Path: "a path",
    tuple: "a list",
}


def _bounds(metadata: list[Any]) -> str:
    least = next((mark.ge for mark in metadata if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in metadata if isinstance(mark, Le)), None)
    above = next((mark.gt for mark in metadata if isinstance(mark, Gt)), None)
    if above is not None:
        return f"above {above}" + ("" if most is None else f" and at most {most}")
    if least is not None:
        return f"from {least}" + ("" if most is None else f" to {most}")
    return ""
