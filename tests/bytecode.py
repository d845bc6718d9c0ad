"""Modules are compiled once a machine, not once a process.

A run starts some hundreds of Python processes, and where the environment forbids writing bytecode each of them compiles
Textual, pydantic and aiohttp anew, for longer than most of them run. The bytecode goes to a directory of its own, so
that no `__pycache__` appears where none is wanted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bytecode"


def share_bytecode() -> None:
    """For this process and those that it starts. Does nothing where bytecode is written anyway."""
    if not sys.dont_write_bytecode:
        return
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(CACHE)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(CACHE)
