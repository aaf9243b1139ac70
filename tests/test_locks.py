"""What the images install is what the package asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Return the versions in one of the locked lists of requirements."""
    text = (ROOT / "deploy" / f"requirements-{name}.txt").read_text()
    return {canonicalize_name(found): version for found, version in PINNED.findall(text)}


def project() -> dict[str, Any]:
    """Return what the package says of itself."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.mark.parametrize(
    ("image", "extra"), [("servers", ""), ("webserver", "webserver"), ("client", "client-cpu")]
)
def test_dependency_of_the_package_is_pinned_within_its_range(image: str, extra: str) -> None:
    """Whoever changes a range and forgets ``make lock`` builds images that the package forbids."""
    asked = [*project()["dependencies"]]
    asked += project()["optional-dependencies"][extra] if extra else []
    pinned = pins("servers") | pins(image)

    for requirement in map(Requirement, asked):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements-{image}.txt: make lock"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_pinned_packages_have_hashes() -> None:
    """Nobody can give the images another file under the same name."""
    for path in (ROOT / "deploy").glob("requirements-*.txt"):
        blocks = re.split(r"\n(?=\S)", path.read_text())
        pinned = [block for block in blocks if PINNED.match(block)]
        assert pinned
        assert [block for block in pinned if "--hash=sha256:" not in block] == []
