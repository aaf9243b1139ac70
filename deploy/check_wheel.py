"""Check what a wheel holds: ``python check_wheel.py WHEEL PYPROJECT``; status 1 says what not."""

from __future__ import annotations

import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

PACKAGES = ("federation", "coordinator", "selector", "client", "webserver", "headwater")

NEEDED = (
    *(f"{package}/py.typed" for package in PACKAGES),
    "headwater/digits.h5",
    "client/digits.npz",
    "client/DIGITS.md",
    "federation/v1/control_pb2.pyi",
    "webserver/templates/index.html",
    "webserver/static/main.js",
    "webserver/static/page.css",
    "webserver/static/vendor/uplot-1.6.32/uPlot.iife.min.js",
)
"""Files without which something works from a checkout and not from an installation."""


def faults(wheel: Path, pyproject: Path) -> list[str]:
    """Return what is wrong with a wheel; nothing if nothing is."""
    project = tomllib.loads(pyproject.read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    wrong = [f"{name} is missing" for name in NEEDED if name not in names]
    wrong += [f"{name} does not belong there" for name in sorted(top - set(PACKAGES))]
    said = {
        "Version": project["version"],
        "Requires-Python": ",".join(sorted(project["requires-python"].split(","))),
        "License-Expression": project["license"],
    }
    for key, right in said.items():
        found = ",".join(sorted((metadata[key] or "").split(",")))
        if found != right:
            wrong.append(f"{key} is {found!r}, and {right!r} in {pyproject.name}")
    extras = set(metadata.get_all("Provides-Extra") or ())
    if extras != set(project["optional-dependencies"]):
        wrong.append(f"its extras are {sorted(extras)}")
    return wrong


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]), Path(sys.argv[2]))
    print("\n".join(found) or f"{Path(sys.argv[1]).name} holds what it should")
    sys.exit(bool(found))
