"""The README's commands, so that CI and the tests run what the README says and nothing else.

A command is the fenced block after a line `<!-- command: NAME -->`. `python tests/readme.py NAME` prints it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"<!-- command: (?P<name>[a-z-]+) -->\n```\w*\n(?P<text>.*?)\n```", re.DOTALL)


def commands() -> dict[str, str]:
    """Every marked command of the README by its name."""
    return {match["name"]: match["text"] for match in BLOCK.finditer(README.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    sys.stdout.write(commands()[sys.argv[1]] + "\n")
