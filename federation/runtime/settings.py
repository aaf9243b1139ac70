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
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
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
CONCEALED = "**********"
"""What stands for a secret, as pydantic has it."""

ROLES = ("coordinator", "selector", "client", "webserver")
"""The roles that have settings, which are also the tables that a TOML file may have."""

SETTING_NAMES = frozenset(
    """
    advertise allowed_hosts batch_size cache cache_bytes_max client_id commit_timeout_s
    control_token coordinator data database drain_s epochs fetch_final goal_count grace_s held_max
    history_keep history_rounds_max host keep_updates keepalive_s keepalive_timeout_s learning_rate
    log_json log_level log_to metrics_port min_reports over_selection port report_stall_s
    report_window_s reports_in_flight_max retry_delay_max_s retry_delay_min_s return_s rounds
    seed selection_pipelined selection_timeout_s selector_id selectors shard shared_data skew
    spool spool_bytes_max state trainer update_norm_max webserver_secret webservers weight_max
    weighting
    """.split()  # noqa: SIM905 - a list would take a line a word
)
"""Every setting of every role, so that a role can tell a misspelt variable from another role's.

Roles do not import each other; a test compares this with their models.
"""

SECRET_NAMES = frozenset({"control_token", "webserver_secret"})
"""Those of them that are secrets, which a file may hold."""

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


def _checked_host_name(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("it must be the name of a host, without port, e.g. hw.example.org")
    return text.lower()


HostNames = Annotated[
    tuple[Annotated[str, AfterValidator(_checked_host_name)], ...],
    NoDecode,
    BeforeValidator(_split_at_commas),
]
"""Names of hosts, given as ``HostPorts`` are."""


def _checked_web_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"it is no URL; {_WEB_URL_RULE}") from None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(_host_in(parts.netloc)):
        raise ValueError(_WEB_URL_RULE)
    if parts.username is not None or parts.fragment or port == 0 or not text.isprintable():
        raise ValueError(f"{_WEB_URL_RULE}, and without a user's name, a password or a fragment")
    return text


def _host_in(netloc: str) -> str:
    return re.sub(r":[0-9]*$", "", netloc.rpartition("@")[2])


_WEB_URL_RULE = "it must be a URL such as http://127.0.0.1:8050 or https://hw.example.org/updates"

WebUrls = Annotated[
    tuple[Annotated[str, AfterValidator(_checked_web_url)], ...],
    NoDecode,
    BeforeValidator(_split_at_commas),
]
"""Where HTTP servers are reached, given as ``HostPorts`` are."""

Secret = Annotated[SecretStr, Field(min_length=16, max_length=1000)]
"""Known to those who were told it; shown to nobody, also not where it is wrong.

Its environment variable has a second form, ``..._FILE``, which names a file that holds it.
"""

SECRET_BYTES_MAX = 4096
"""Of a file that holds a secret; a larger one is some other file."""

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
        Shown(default="yes unless logs go to a terminal"),
    ] = None
    log_to: Annotated[
        Literal["stderr", "stdout"],
        Field(description="Which output logs go to; the images log to standard output."),
    ] = "stderr"

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


def is_secret(field: FieldInfo) -> bool:
    """Say whether a field is a secret, which may be given by a file as well."""
    return _kind_of(field) is SecretStr


def file_variable(name: str) -> str:
    """Return the variable that names a secret's file, e.g. ``HEADWATER_CONTROL_TOKEN_FILE``."""
    return environment_name(name) + "_FILE"


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
    for name, value in _read_secret_files(settings_class).items():
        values[name] = value
        sources[name] = f"environment {file_variable(name)}"
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
    known |= {CONFIG_VARIABLE, *map(file_variable, SECRET_NAMES)}
    for variable, value in os.environ.items():
        if variable.upper().startswith(ENVIRONMENT_PREFIX) and variable.upper() not in known:
            expected = f"no role has such a setting{_hint(variable, known)}"
            # What was to be a secret is one, also under a name that is misspelt.
            meant = set(difflib.get_close_matches(variable.upper(), list(known), n=1))
            is_concealed = meant & set(map(environment_name, SECRET_NAMES))
            raise _unknown(variable, CONCEALED if is_concealed else value, expected, "environment")
    return EnvSettingsSource(settings_class, env_ignore_empty=True)()


def _read_secret_files(settings_class: type[RoleSettings]) -> dict[str, str]:
    """Return the secrets that files hold, without the line's end that editors add."""
    found = {}
    for name, field in settings_class.model_fields.items():
        variable = file_variable(name)
        named = os.environ.get(variable) if is_secret(field) else None
        if not named:
            continue
        source = f"environment {variable}"
        if os.environ.get(environment_name(name)):
            expected = f"give either it or {environment_name(name)}, not both"
            raise SettingsError(variable, named, expected, source=source)
        try:
            with Path(named).open("rb") as file:
                content = file.read(SECRET_BYTES_MAX + 1)
            text = content.decode()
        except (OSError, ValueError) as problem:
            what = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
            expected = f"it must name a readable file that holds the secret ({what})"
            raise SettingsError(
                variable, named, expected, source=source, reason="settings-unreadable"
            ) from None
        if len(content) > SECRET_BYTES_MAX:
            expected = f"a secret's file has at most {SECRET_BYTES_MAX} bytes"
            raise SettingsError(variable, named, expected, source=source)
        found[name] = text.rstrip("\r\n")
    return found


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
    field = settings_class.model_fields[name]
    value = CONCEALED if is_secret(field) else _without_password(error["input"])
    return SettingsError(name, value, _expected(field, error), source=sources[name])


def _without_password(value: object) -> object:
    """Return a value as it may be shown: a URL's user and password are nobody's business."""
    return re.sub(r"//[^/]*@", f"//{CONCEALED}@", value) if isinstance(value, str) else value


def _expected(field: FieldInfo, error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"it must be {allowed_values(field)}"


def allowed_values(field: FieldInfo) -> str:
    """Say what a field takes: ``"a whole number from 0 to 65535"``."""
    optional = type(None) in get_args(field.annotation)
    kind = _kind_of(field)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if kind is SecretStr:
        return "text of 16 to 1000 characters" + (", or not given" if optional else "")
    words = _KIND_WORDS.get(get_origin(kind) or kind, "text")
    words = f"{words} {_bounds(field.metadata)}".strip()
    return words + (", or not given" if optional else "")


def _kind_of(field: FieldInfo) -> Any:
    """Return a field's type without its bounds and without None."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind = kinds[0] if type(None) in get_args(field.annotation) else field.annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


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
