"""Whether the dashboard can be shown where this program runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

NO_SCREEN: Final = frozenset({"dumb", "unknown"})
"""Values of TERM that promise lines one after another and nothing else: Emacs' shell, build logs."""


def shortcoming(environ: Mapping[str, str] = os.environ) -> str | None:
    """Why the dashboard cannot be shown here, None when it can. Keys come from stdin and Textual draws on stderr; a
    stdout that leads elsewhere means that somebody waits for data."""
    for name, stream in (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr)):
        if not stream.isatty():
            return f"{name} is none"
    term = environ.get("TERM", "")
    return f"TERM={term} says that this one cannot place text on its screen" if term in NO_SCREEN else None
