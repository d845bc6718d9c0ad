"""Fuzz the gateway's reading of requests and replies against tests/fuzz/oracles.py, and what its connections remember
of heads against tests/fuzz/trains.py.

    uv run --group fuzz python -m tests.fuzz.gateway --runs 1000000     guided by coverage (atheris)
    uv run python -m tests.fuzz.gateway --runs 1000000 --blind          mutants of the tables, without atheris
    uv run python -m tests.fuzz.gateway FILE                            run what a crash has left behind
    each of them with --heads                                           trains of heads, recalled and read anew

Ends with 0 when everything held; a failure prints the input and, with atheris, leaves it in a file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.corpus import BYTES_MAX, WORDS, mutants, seeds, train_seeds

HANG_S = 20


def oracle(*, heads: bool) -> Callable[[bytes], object]:
    """Imported late: atheris instruments what is imported while it looks."""
    if heads:
        from tests.fuzz.trains import check_train

        return check_train
    from tests.fuzz.oracles import check_any

    return check_any


def guided(runs: int, seed: int, *, heads: bool) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["orchestrator.gateway"]):
        check = oracle(heads=heads)

    directory = Path(tempfile.mkdtemp(prefix="gpudeck-fuzz-"))
    corpus = directory / "corpus"
    corpus.mkdir()
    for n, data in enumerate(train_seeds() if heads else seeds()):
        (corpus / f"{n:04}").write_bytes(data)
    words = directory / "words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS))
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={BYTES_MAX}", f"-dict={words}", f"-timeout={HANG_S}"]
    options += ["-print_final_stats=1", f"-artifact_prefix={directory}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


def blind(runs: int, seed: int, *, heads: bool) -> int:
    check = oracle(heads=heads)
    for n, data in enumerate(mutants(runs, seed, train_seeds() if heads else seeds())):
        try:
            check(data)
        except Exception:
            sys.stdout.write(f"run {n}: {data!r}\n")
            raise
    sys.stdout.write(f"{runs} runs, everything held\n")
    return 0


def again(file: Path, *, heads: bool) -> int:
    data = file.read_bytes()
    sys.stdout.write(f"{data!r}\n")
    oracle(heads=heads)(data)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.gateway", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--heads", action="store_true")
    options = parser.parse_args()
    if options.file is not None:
        return again(options.file, heads=options.heads)
    if not options.blind:
        guided(options.runs, options.seed, heads=options.heads)
    return blind(options.runs, options.seed, heads=options.heads)


if __name__ == "__main__":
    sys.exit(main())
