"""Tests of ``federation.runtime.settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from federation.errors import SettingsError
from federation.runtime.settings import (
    DEFAULT_SOURCE,
    SECRET_BYTES_MAX,
    HostPorts,
    Port,
    PositiveSeconds,
    RoleSettings,
    Seconds,
    Secret,
    checked_host_port,
    load_settings,
    traced,
)

SECRET = "a secret that is long enough"


class ExampleSettings(RoleSettings):
    """A field of each kind."""

    role: ClassVar[str] = "client"
    summary: ClassVar[str] = "Be an example."
    example: ClassVar[str] = "headwater example"

    port: Annotated[Port, Field(description="Port.")] = 50050
    rounds: Annotated[int | None, Field(ge=1, description="Rounds.")] = None
    grace_s: Annotated[Seconds, Field(description="Grace.")] = 15.0
    return_s: Annotated[PositiveSeconds, Field(description="Return.")] = 30.0
    keep_updates: Annotated[bool, Field(description="Keep.")] = False
    shared_data: Annotated[Path, Field(description="Directory.")] = Path("shared_data")
    weighting: Annotated[Literal["examples", "equal"], Field(description="Weighs.")] = "examples"
    webserver_secret: Annotated[Secret | None, Field(description="Signs.")] = None
    selectors: Annotated[HostPorts, Field(description="Selectors.")] = ("127.0.0.1:50051",)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A TOML file that sets the port."""
    path = tmp_path / "hw.toml"
    path.write_text("[client]\nport = 1\n\n[coordinator]\nport = 9\n")
    return path


def wrong(
    flags: dict[str, object] | None = None, config: Path | None = None
) -> tuple[str, object, str, str]:
    """Return setting, value, source and expected of the error that loading raises."""
    with pytest.raises(SettingsError) as caught:
        load_settings(ExampleSettings, flags or {}, config)
    error = caught.value
    return error.setting, error.value, error.source, error.expected


def test_nothing_is_given_defaults_hold_and_say_so() -> None:
    """Every setting has a source, the default included."""
    effective = load_settings(ExampleSettings, {})

    assert effective.settings == ExampleSettings()
    assert set(effective.sources) == set(ExampleSettings.model_fields)
    assert set(effective.sources.values()) == {DEFAULT_SOURCE}


def test_all_sources_give_a_value_flag_beats_environment_beats_file(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later over earlier: file, environment, flags."""
    from_file = load_settings(ExampleSettings, {}, toml)
    monkeypatch.setenv("HEADWATER_PORT", "2")
    from_environment = load_settings(ExampleSettings, {}, toml)
    from_flag = load_settings(ExampleSettings, {"port": "3"}, toml)

    assert (from_file.settings.port, from_file.sources["port"]) == (
        1,
        f"file {toml} [client] port",
    )
    assert (from_environment.settings.port, from_environment.sources["port"]) == (
        2,
        "environment HEADWATER_PORT",
    )
    assert (from_flag.settings.port, from_flag.sources["port"]) == (3, "flag --port")


def test_environment_names_the_file_it_is_read(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEADWATER_CONFIG is what --config is."""
    monkeypatch.setenv("HEADWATER_CONFIG", str(toml))

    assert load_settings(ExampleSettings, {}).settings.port == 1


def test_variable_is_empty_it_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and units pass empty variables for what is not set."""
    monkeypatch.setenv("HEADWATER_PORT", "")

    assert load_settings(ExampleSettings, {}).settings.port == 50050


def test_list_is_given_in_each_source_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TOML list, commas in the environment, a repeated flag."""
    path = tmp_path / "hw.toml"
    path.write_text('[client]\nselectors = ["a:1", "b:2"]\n')
    from_file = load_settings(ExampleSettings, {}, path)
    monkeypatch.setenv("HEADWATER_SELECTORS", "c:3, d:4")
    from_environment = load_settings(ExampleSettings, {})
    from_flags = load_settings(ExampleSettings, {"selectors": ["e:5", "f:6"]})

    assert from_file.settings.selectors == ("a:1", "b:2")
    assert from_environment.settings.selectors == ("c:3", "d:4")
    assert from_flags.settings.selectors == ("e:5", "f:6")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "x", "it must be a whole number from 0 to 65535"),
        ("port", "1.5", "it must be a whole number from 0 to 65535"),
        ("port", "65536", "it must be a whole number from 0 to 65535"),
        ("rounds", "0", "it must be a whole number from 1, or not given"),
        ("grace_s", "-1", "it must be a finite number from 0"),
        ("grace_s", "nan", "it must be a finite number from 0"),
        ("return_s", "0", "it must be a finite number above 0"),
        ("return_s", "inf", "it must be a finite number above 0"),
        ("keep_updates", "perhaps", "it must be true or false"),
        ("weighting", "wealth", "it must be one of examples, equal"),
        ("log_level", "loud", "it must be one of debug, info, warning, error"),
    ],
)
def test_value_is_wrong_error_names_it_its_source_and_what_is_right(
    name: str, value: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mistake is told from wherever it was made."""
    path = tmp_path / "hw.toml"
    path.write_text(f"[client]\n{name} = '{value}'\n")
    flag, variable = f"--{name.replace('_', '-')}", f"HEADWATER_{name.upper()}"

    assert wrong({name: value}) == (name, value, f"flag {flag}", expected)
    assert wrong(config=path) == (name, value, f"file {path} [client] {name}", expected)
    monkeypatch.setenv(variable, value)
    assert wrong() == (name, value, f"environment {variable}", expected)


def test_one_entry_of_a_list_is_wrong_error_names_that_entry() -> None:
    """Of several selectors the operator is told which."""
    setting, value, source, expected = wrong({"selectors": ["a:1", "nowhere"]})

    assert (setting, value, source) == ("selectors", "nowhere", "flag --selectors")
    assert "HOST:PORT" in expected


def test_key_of_the_table_is_unknown_error_names_the_nearest(tmp_path: Path) -> None:
    """A misspelt setting is not ignored."""
    path = tmp_path / "hw.toml"
    path.write_text("[client]\nprot = 1\n")

    assert wrong(config=path) == (
        "prot",
        1,
        f"file {path} [client] prot",
        "there is no such setting; did you mean port?",
    )


@pytest.mark.parametrize(
    ("content", "setting"), [("[clients]\nport = 1", "clients"), ("port = 1", "port")]
)
def test_table_belongs_to_no_role_it_is_refused(content: str, setting: str, tmp_path: Path) -> None:
    """A misspelt table would drop all its settings."""
    path = tmp_path / "hw.toml"
    path.write_text(content)

    name, _, source, expected = wrong(config=path)

    assert (name, source) == (setting, f"file {path}")
    assert "coordinator, selector, client" in expected


def test_role_is_not_a_table_it_is_refused(tmp_path: Path) -> None:
    """``client = 1`` is not the client's table."""
    path = tmp_path / "hw.toml"
    path.write_text("client = 1")

    assert wrong(config=path)[:3] == ("client", 1, f"file {path}")


@pytest.mark.parametrize("content", [None, "port = ", "port = 1\nport = 2", b"\xff"])
def test_file_cannot_be_read_error_says_why(content: str | bytes | None, tmp_path: Path) -> None:
    """Absent, not TOML, and not UTF-8 are one mistake: --config names no settings."""
    path = tmp_path / "hw.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    setting, value, source, expected = wrong(config=path)

    assert (setting, value, source) == ("config", str(path), "flag --config")
    assert expected.startswith("it must name a readable TOML file (")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[client]\nprot = 1", "unknown-setting"),
        ("[clients]\nport = 1", "unknown-setting"),
        ("[client]\nport = 99999", "wrong-setting"),
        ("[client", "settings-unreadable"),
    ],
)
def test_file_is_wrong_the_reason_says_in_which_way(
    content: str, reason: str, tmp_path: Path
) -> None:
    """A name, a value and a file are three mistakes."""
    path = tmp_path / "hw.toml"
    path.write_text(content)

    with pytest.raises(SettingsError) as caught:
        load_settings(ExampleSettings, {}, path)

    assert caught.value.reason == reason


def test_variable_is_known_to_no_role_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is not ignored."""
    monkeypatch.setenv("HEADWATER_GOAL_COUND", "4")

    assert wrong() == (
        "HEADWATER_GOAL_COUND",
        "4",
        "environment",
        "no role has such a setting; did you mean HEADWATER_GOAL_COUNT?",
    )


def test_variable_of_a_secret_is_misspelt_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message goes to logs that others read."""
    monkeypatch.setenv("HEADWATER_CONTROL_TOKN", SECRET)

    setting, value, _, expected = wrong()

    assert (setting, value) == ("HEADWATER_CONTROL_TOKN", "**********")
    assert "did you mean HEADWATER_CONTROL_TOKEN?" in expected


def test_variable_is_another_roles_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment may serve several roles."""
    monkeypatch.setenv("HEADWATER_GOAL_COUNT", "4")

    assert load_settings(ExampleSettings, {}).settings == ExampleSettings()


def test_secret_lies_in_a_file_it_is_read_without_the_line_s_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor ends the line, and the secret is what was typed; its source is the variable."""
    path = tmp_path / "secret"
    path.write_text(f" {SECRET}\r\n")
    monkeypatch.setenv("HEADWATER_WEBSERVER_SECRET_FILE", str(path))

    effective = load_settings(ExampleSettings, {})

    assert effective.settings.webserver_secret is not None
    assert effective.settings.webserver_secret.get_secret_value() == f" {SECRET}"
    assert effective.sources["webserver_secret"] == "environment HEADWATER_WEBSERVER_SECRET_FILE"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"\xff" * 20, "it is not UTF-8 text"),
        (b"a" * (SECRET_BYTES_MAX + 1), f"at most {SECRET_BYTES_MAX} bytes"),
    ],
)
def test_file_of_a_secret_cannot_be_used_error_names_the_variable_and_the_file(
    content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that is missing is found by the message, which shows nothing of a secret."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("HEADWATER_WEBSERVER_SECRET_FILE", str(path))

    setting, value, source, expected = wrong()

    assert setting == "HEADWATER_WEBSERVER_SECRET_FILE"
    assert value == str(path)
    assert source == "environment HEADWATER_WEBSERVER_SECRET_FILE"
    assert words in expected


def test_secret_in_a_file_is_too_short_it_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret is still a secret."""
    path = tmp_path / "secret"
    path.write_text("short\n")
    monkeypatch.setenv("HEADWATER_WEBSERVER_SECRET_FILE", str(path))

    setting, value, source, _ = wrong()

    assert (setting, value, source) == (
        "webserver_secret",
        "**********",
        "environment HEADWATER_WEBSERVER_SECRET_FILE",
    )


def test_secret_is_given_twice_both_variables_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one holds is not guessed."""
    monkeypatch.setenv("HEADWATER_WEBSERVER_SECRET", SECRET)
    monkeypatch.setenv("HEADWATER_WEBSERVER_SECRET_FILE", str(tmp_path / "secret"))

    setting, _, _, expected = wrong()

    assert setting == "HEADWATER_WEBSERVER_SECRET_FILE"
    assert "HEADWATER_WEBSERVER_SECRET," in expected


def test_file_is_given_for_what_is_no_secret_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only secrets have the second variable; the error names the one that was meant."""
    monkeypatch.setenv("HEADWATER_PORT_FILE", "/run/port")

    setting, _, _, expected = wrong()

    assert setting == "HEADWATER_PORT_FILE"
    assert "no role has such a setting" in expected


def test_model_is_constructed_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made in a program are what the program says."""
    monkeypatch.setenv("HEADWATER_PORT", "2")

    assert ExampleSettings().port == 50050


def test_error_has_no_source_yet_it_gets_that_of_its_setting() -> None:
    """A rule that is checked after loading is told like the others."""
    error = traced(SettingsError("port", 1, "it is taken"), {"port": "flag --port"})

    assert str(error) == "port = 1 from flag --port is wrong: it is taken (wrong-setting)"


@pytest.mark.parametrize(
    "error",
    [SettingsError("port", 1, "it is taken", source="here"), SettingsError("other", 1, "no")],
)
def test_error_has_a_source_or_no_setting_of_ours_it_stays(error: SettingsError) -> None:
    """What is known better is not overwritten."""
    assert traced(error, {"port": "flag --port"}) is error


@pytest.mark.parametrize("text", ["127.0.0.1:50050", "host_1.example:1", "[::1]:65535", "a:080"])
def test_address_can_be_dialled_it_is_kept(text: str) -> None:
    """Names, IPv4 and bracketed IPv6."""
    assert checked_host_port(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "host", ":1", "host:", "host:0", "host:65536", "host:-1", "host:x", "host:¹", "::1:1",
     "a b:1", "-a:1", "http://a:1", "unix:/tmp/a", "a\n:1", "a:1\n", "a:000001"],
)  # fmt: skip
def test_address_cannot_be_dialled_it_is_refused(text: str) -> None:
    """A server cannot be at port 0, and a URL is not HOST:PORT."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        checked_host_port(text)
