"""`python -m orchestrator.bench NAME ...`: run one measurement."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

MEASUREMENTS: Final = {
    "gateway": "orchestrator.bench.gateway",
    "scaling": "orchestrator.bench.scaling",
}
"""Name to module. Each has `main(arguments: Sequence[str]) -> int`: results to stdout, talk to stderr, exit code."""

EXIT_USAGE: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Hand the rest of `arguments` to the measurement that the first one names; returns its exit code."""
    module = MEASUREMENTS.get(arguments[0]) if arguments else None
    if module is None:
        sys.stderr.write(f"usage: python -m orchestrator.bench {{{','.join(MEASUREMENTS)}}} ...\n")
        return EXIT_USAGE
    code: int = importlib.import_module(module).main(arguments[1:])
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else what a measurement has started would outlive it
    sys.exit(main(sys.argv[1:]))
