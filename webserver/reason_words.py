"""What each reason word means, as the page tells it."""

from __future__ import annotations

import json
import re

from federation.reasons import REASONS

_LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")


def plain(sentence: str) -> str:
    """Return a sentence of the documentation without its marks of Markdown."""
    return _LINK.sub(r"\1", sentence).replace("`", "")


REASON_WORDS = json.dumps(
    {
        "reasons": [
            {"word": reason.word, "means": plain(reason.means), "to_do": plain(reason.to_do)}
            for reason in REASONS.values()
        ]
    }
)
"""The API's answer; it is always the same."""
