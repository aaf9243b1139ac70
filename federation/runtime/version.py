"""Which release this is, as its installed metadata say."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "0+source"


VERSION = _installed()
