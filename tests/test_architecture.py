"""The rules that no single module can keep: layers, names, mirrored tests, documented settings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.phases import NEXT_PHASES
from headwater.errors_docs import errors_document
from headwater.settings_docs import settings_document

ROOT = Path(__file__).parent.parent
PACKAGES = ("federation", "coordinator", "selector", "client", "webserver", "headwater")
GENERATED = ROOT / "federation" / "v1"
PURE_MAY_IMPORT = frozenset(sys.stdlib_module_names) | {"numpy"}
BANNED_NAMES = frozenset(
    {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
)


def modules() -> list[Path]:
    """Return all modules of ours that are written by hand, without the empty ``__init__``."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [path for path in paths if GENERATED not in path.parents and path.stat().st_size]


def mirrors() -> list[Path]:
    """Return all test modules that mirror a module."""
    folders = [ROOT / "tests" / package for package in PACKAGES]
    return [path for folder in folders for path in sorted(folder.rglob("test_*.py"))]


def name_of(path: Path) -> str:
    """Return a module's path as people write it."""
    return str(path.relative_to(ROOT))


def file_of(name: str) -> Path:
    """Return where a module of that dotted name would be."""
    return ROOT.joinpath(*name.split(".")).with_suffix(".py")


def contracts() -> list[dict[str, list[str]]]:
    """Return the contracts of import-linter."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, list[str]]] = settings["tool"]["importlinter"]["contracts"]
    return found


def test_layers_are_as_designed() -> None:
    """The face over the roles, which do not know each other, over what they agree on."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr


def test_module_of_the_shared_vocabulary_is_added_the_contract_lists_it() -> None:
    """The pure modules are listed one by one, and none is forgotten."""
    listed = {name for contract in contracts() for name in contract.get("source_modules", [])}
    written = {f"federation.{path.stem}" for path in (ROOT / "federation").glob("[!_]*.py")}

    assert written <= listed


def test_pure_module_imports_the_standard_library_numpy_and_pure_modules_only() -> None:
    """What is not forbidden by name is not allowed either."""
    pure = {
        name
        for contract in contracts()
        if "federation.runtime" in contract.get("forbidden_modules", [])
        for name in contract["source_modules"]
    }

    for name in pure:
        for imported in imports_of(file_of(name)):
            assert imported in pure or imported.partition(".")[0] in PURE_MAY_IMPORT, (
                f"{name} imports {imported}"
            )


def imports_of(path: Path) -> Iterator[str]:
    """Yield the modules that a module imports, ``from package import module`` resolved."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name for name in below if file_of(name).is_file()] or [node.module]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_says_its_one_job_in_its_first_line(path: Path) -> None:
    """A reader knows after a line what a file is for."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert re.search(r"[.:]$", docstring.partition("\n")[0]), name_of(path)
    assert path.read_text().startswith('"""')


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_has_a_name_that_says_something(path: Path) -> None:
    """A module called utils has no job."""
    words = set(re.split(r"[_.]", path.stem)) | set(path.relative_to(ROOT).parts)

    assert not words & BANNED_NAMES


@pytest.mark.parametrize("path", mirrors(), ids=name_of)
def test_test_module_mirrors_a_module(path: Path) -> None:
    """Who reads a module finds its tests; those of a large one are ``test_<module>_<aspect>``."""
    words = path.stem.removeprefix("test_").split("_")
    names = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
    folder = ROOT / path.parent.relative_to(ROOT / "tests")

    assert any((folder / f"{name}.py").is_file() for name in names)


def test_folder_of_tests_is_a_package() -> None:
    """Else test modules of one name collide, and tests/coordinator shadows coordinator."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}

    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_settings_page_is_what_the_code_says() -> None:
    """Every setting of every role is documented."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings_document()


def test_errors_page_is_what_the_code_says() -> None:
    """Every reason word that somebody can meet is documented."""
    assert (ROOT / "docs" / "errors.md").read_text() == errors_document()


def test_distribution_is_built_it_has_every_package() -> None:
    """A package that is not named in pyproject.toml is missing from the wheel only."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = settings["tool"]["setuptools"]["packages"]["find"]["include"]

    assert included == [f"{package}*" for package in PACKAGES]
    assert settings["tool"]["importlinter"]["root_packages"] == list(PACKAGES)


def test_decision_records_are_numbered_without_a_gap() -> None:
    """A record is superseded, never removed."""
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))

    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]


def test_phase_diagram_of_the_architecture_page_is_the_code_s() -> None:
    """The drawn transitions are those of ``NEXT_PHASES``, no more and no fewer."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = set(re.findall(r"^ +(\w+) --> (\w+):", page, re.MULTILINE))

    coded = {
        (phase.value, after.value) for phase, afters in NEXT_PHASES.items() for after in afters
    }
    assert drawn == coded
