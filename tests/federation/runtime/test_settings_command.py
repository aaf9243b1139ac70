"""Tests of ``federation.runtime.settings_command``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Annotated, ClassVar

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner, Result

from federation.errors import SettingsError, StoreError
from federation.runtime.settings import EVERYDAY, HostPorts, Port, RoleSettings, Shown
from federation.runtime.settings_command import Run, add_settings_command, run_role


class ExampleSettings(RoleSettings):
    """One everyday field among others."""

    role: ClassVar[str] = "client"
    summary: ClassVar[str] = "Be an example."
    example: ClassVar[str] = "headwater client --port 1"

    keep_updates: Annotated[bool, Field(description="Keep updates.")] = False
    selectors: Annotated[HostPorts, Field(description="Where."), Shown(flag="--selector")] = (
        "a:1",
    )
    port: Annotated[Port, Field(description="Where to listen."), EVERYDAY] = 50050


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def invoke(*arguments: str, run: Run[ExampleSettings] = lambda _: None) -> Result:
    """Call the example's command as a shell does."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    add_settings_command(app, ExampleSettings, run)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_logs_go_where_they_are_told_to(output: str) -> None:
    """Collectors of containers' logs look at standard output; elsewhere it has other lines."""

    def log(_: ExampleSettings) -> None:
        logging.getLogger("headwater").info("said")

    result = invoke("--log-to", output, run=log)

    written = {"stdout": result.stdout, "stderr": result.stderr}
    assert json.loads(written.pop(output))["event"] == "said"
    assert written.popitem()[1] == ""


def test_flags_are_given_run_gets_the_settings() -> None:
    """Each field is a flag; a list's is repeated, a bool's can be denied."""
    seen: list[ExampleSettings] = []

    result = invoke(
        "--port", "7", "--selector", "a:1", "--selector", "b:2", "--keep-updates", "--drain-s", "1",
        run=seen.append,
    )  # fmt: skip

    assert result.exit_code == 0
    assert seen == [
        ExampleSettings(port=7, selectors=("a:1", "b:2"), keep_updates=True, drain_s=1.0)
    ]


def test_bool_is_denied_by_flag_it_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-x is a value, not the absence of one."""
    monkeypatch.setenv("HEADWATER_KEEP_UPDATES", "true")
    seen: list[ExampleSettings] = []

    invoke("--no-keep-updates", run=seen.append)

    assert seen == [ExampleSettings(keep_updates=False)]


def test_setting_is_wrong_status_is_2_with_one_line_and_no_traceback() -> None:
    """The operator reads what was wrong, from where, and what would be right."""
    result = invoke("--port", "99999")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "client: port = '99999' from flag --port is wrong: "
        "it must be a whole number from 0 to 65535 (wrong-setting)\n"
    )


def test_run_finds_a_setting_wrong_its_source_is_told() -> None:
    """What only shows at the start, e.g. a port that is taken, is told like the others."""

    def run(settings: ExampleSettings) -> None:
        raise SettingsError("port", settings.port, "it must be free")

    result = invoke("--port", "7", run=run)

    assert result.exit_code == 2
    assert result.stderr == (
        "client: port = 7 from flag --port is wrong: it must be free (wrong-setting)\n"
    )


def test_run_fails_in_a_known_way_status_is_1_with_one_line() -> None:
    """A known failure is told, not dumped."""

    def run(_settings: ExampleSettings) -> None:
        raise StoreError("the directory is full")

    result = invoke(run=run)

    assert (result.exit_code, result.stderr) == (1, "client: the directory is full (store-error)\n")


def test_run_returns_a_status_the_command_exits_with_it() -> None:
    """The role decides its own end."""
    assert invoke(run=lambda _: 3).exit_code == 3


@pytest.mark.parametrize(("flags", "status"), [([], 3), (["--json"], 4)])
def test_role_prints_json_lines_if_it_can_the_flag_asks_for_them(
    flags: list[str], status: int
) -> None:
    """For the others it is about the settings that are shown."""
    app = typer.Typer()
    add_settings_command(app, ExampleSettings, lambda _: 3, lambda _: 4)

    lines, shown = CliRunner().invoke(app, flags), CliRunner().invoke(app, ["--help"])

    assert lines.exit_code == status
    assert "Print JSON lines" in " ".join(shown.output.split())
    assert invoke(*flags, run=lambda _: 3).exit_code == 3


def test_settings_are_shown_as_json_each_has_value_and_source() -> None:
    """--show-settings --json prints what holds, and does not run."""
    result = invoke("--port", "7", "--show-settings", "--json", run=lambda _: 1)

    shown = json.loads(result.stdout)
    assert result.exit_code == 0
    assert shown["role"] == "client"
    assert shown["settings"]["port"] == {"value": 7, "source": "flag --port"}
    assert shown["settings"]["selectors"] == {"value": ["a:1"], "source": "the default"}
    assert shown["settings"].keys() == ExampleSettings.model_fields.keys()


def test_settings_are_shown_as_a_table_sources_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets of a source are text, not mark-up."""
    monkeypatch.setenv("HEADWATER_SELECTORS", "[::1]:1,b:2")

    result = invoke("--show-settings", run=lambda _: 1)

    assert result.exit_code == 0
    for text in ("selectors", "[::1]:1,b:2", "environment HEADWATER_SELECTORS", "the default"):
        assert text in result.stdout


def test_settings_to_show_are_wrong_the_error_is_shown_instead() -> None:
    """Wrong settings have no effect to print."""
    assert invoke("--port", "x", "--show-settings").exit_code == 2


def test_help_lists_everyday_flags_first_and_ends_with_the_example() -> None:
    """What most operators need is on the first screen."""
    result = invoke("--help")

    text = result.stdout
    positions = [text.index(flag) for flag in ("--port", "--selector", "--drain-s", "--config")]
    assert positions == sorted(positions)
    assert "Where to listen. Default: 50050." in text
    assert "--keep-updates / --no-keep-updates" in text
    assert text.rstrip().endswith("Example: headwater client --port 1")


def test_role_is_run_as_a_module_it_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m <role>`` takes the same flags."""
    monkeypatch.setattr("sys.argv", ["client", "--port", "7"])

    with pytest.raises(SystemExit) as ended:
        run_role(ExampleSettings, lambda settings: settings.port)

    assert ended.value.code == 7
