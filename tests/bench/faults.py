"""Seeded stories of everything that can go wrong, the invariants of lifecycle and ledger checked after every step.

    python -m tests.bench.faults --seeds 10000

A seed that fails is printed with the command that repeats it. Exit code 1 if one did.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from orchestrator.assets import load_models, load_price_book
from orchestrator.core.pricing import always
from orchestrator.core.state import Rules
from orchestrator.simulator.episode import EpisodeFailed, Story, live_through
from orchestrator.simulator.faults import parse_faults
from orchestrator.simulator.play import INSTANCE

CHUNK = 20
PROGRESS_EVERY = 500


def rules() -> Rules:
    """Shipped models and prices, whatever is set on this machine."""
    prices = always(load_price_book("2025-seed", None))
    return Rules(instance=INSTANCE, boot_id="boot-1", models=load_models(None), prices=prices)


def attempt(work: tuple[int, Mapping[str, float]]) -> Story | str:
    """The story of one seed, or how it failed."""
    seed, faults = work
    try:
        return live_through(seed, rules(), faults)
    except EpisodeFailed as error:
        return str(error)


def stories(seeds: range, faults: Mapping[str, float], jobs: int) -> Iterator[Story | str]:
    work = zip(seeds, itertools.repeat(faults))
    if jobs == 1:
        yield from map(attempt, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(attempt, work, chunksize=CHUNK)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--faults", default="all", help="names of the menu, with factors: death,crash=10")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    os.nice(10)
    faults = parse_faults(options.faults)
    began_s = time.perf_counter()
    failed = steps = crashes = 0
    outcomes: Counter[str] = Counter()
    seeds = range(options.first, options.first + options.seeds)
    for number, told in enumerate(stories(seeds, faults, options.jobs), 1):
        if number % PROGRESS_EVERY == 0:
            sys.stderr.write(f"{number} of {options.seeds} seeds, {failed} failed\n")
        if isinstance(told, str):
            failed += 1
            seed = told.split()[1].rstrip(",")
            sys.stdout.write(
                f"{told}\nrepeat: python -m tests.bench.faults --seeds 1 --first {seed} --faults {options.faults}\n"
            )
            sys.stdout.flush()
        else:
            steps, crashes = steps + told.steps, crashes + told.crashes
            outcomes += told.outcomes
    took_s = time.perf_counter() - began_s
    sys.stdout.write(
        f"{options.seeds} seeds, {failed} failed; {steps} steps, {crashes} crashes, {outcomes.total()} requests "
        f"({', '.join(f'{n} {code}' for code, n in outcomes.most_common())}); {took_s:.0f} s\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
