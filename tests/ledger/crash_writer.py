"""Writes batches for ever and is killed in the middle of one. Run by test_crash: argv is a directory per life.

For each directory a child is forked that acknowledges every batch on a pipe; after a few acknowledgements, and a random
fraction of a batch later, it is killed. Prints one line per directory: the number of acknowledged batches.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
from pathlib import Path

from orchestrator.ledger.store import SqliteLedger
from tests.ledger.crash_batches import batch, opening
from tests.ledger.samples import T0


def write_for_ever(directory: Path, acknowledged: int) -> None:
    ledger = SqliteLedger(directory / "ledger.db", lambda: T0)
    ledger.write(opening()).result()
    number = 0
    while True:
        ledger.write(batch(number)).result()
        os.write(acknowledged, b".")
        number += 1


def one_life(directory: Path, chance: random.Random) -> int:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write_for_ever(directory, writer)
    os.close(writer)
    wanted, seen = chance.randrange(0, 12), 0
    while seen < wanted:
        seen += len(os.read(reader, 1)) or sys.exit("the writer died by itself")
    # A batch takes about a millisecond; the wait ends early only if nothing is left to be killed.
    select.select([], [], [], chance.random() * 0.004)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while rest := os.read(reader, 4096):
        seen += len(rest)
    os.close(reader)
    return seen


def main() -> None:
    import sqlite_utils  # noqa: F401 - loaded once, before the forks: each life would spend 0.3 s on it

    for number, name in enumerate(sys.argv[1:]):
        sys.stdout.write(f"{one_life(Path(name), random.Random(number))}\n")


if __name__ == "__main__":
    main()
