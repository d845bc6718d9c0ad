"""`python -m orchestrator.lab`: what `gpudeck demo --lab` starts in a home of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from orchestrator.assets import AssetError
from orchestrator.contract.lab import SPEEDS
from orchestrator.contract.places import places
from orchestrator.lab.program import DEFAULT_GPUS, serve_lab
from orchestrator.ledger.ports import LedgerError
from orchestrator.lock import Locked
from orchestrator.settings import SettingsError

EXIT_DATA, EXIT_LOCKED, EXIT_CONFIGURATION = 65, 75, 78
"""As of `python -m orchestrator`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a lab until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.lab", description=__doc__)
    parser.add_argument("--gpus", default=DEFAULT_GPUS, help="such as L40:6,H100:2")
    parser.add_argument("--speed", type=int, default=60, help=f"{SPEEDS[0]} to {SPEEDS[-1]} times as fast as time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(serve_lab(places(), gpus=options.gpus, speed=options.speed, seed=options.seed))
    except Locked as error:
        return _fail(EXIT_LOCKED, error)
    except LedgerError as error:
        return _fail(EXIT_DATA, error)
    except (SettingsError, AssetError, ValueError) as error:
        return _fail(EXIT_CONFIGURATION, error)
    return 0


def _fail(code: int, error: Exception) -> int:
    sys.stderr.write(f"gpudeck: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
