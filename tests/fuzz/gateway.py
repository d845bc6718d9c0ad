"""Fuzz the gateway's reading of requests and replies against tests/fuzz/oracles.py.

    uv run --group fuzz python -m tests.fuzz.gateway --runs 1000000     guided by coverage (atheris)
    uv run python -m tests.fuzz.gateway --runs 1000000 --blind          mutants of the tables, without atheris
    uv run python -m tests.fuzz.gateway FILE                            run what a crash has left behind

Ends with 0 when everything held; a failure prints the input and, with atheris, leaves it in a file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpus import BYTES_MAX, WORDS, mutants, seeds

HANG_S = 20


def guided(runs: int, seed: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["orchestrator.gateway"]):
        from tests.fuzz.oracles import check_any

    directory = Path(tempfile.mkdtemp(prefix="gpudeck-fuzz-"))
    corpus = directory / "corpus"
    corpus.mkdir()
    for n, data in enumerate(seeds()):
        (corpus / f"{n:04}").write_bytes(data)
    words = directory / "words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS))
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={BYTES_MAX}", f"-dict={words}", f"-timeout={HANG_S}"]
    options += ["-print_final_stats=1", f"-artifact_prefix={directory}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check_any)
    atheris.Fuzz()


def blind(runs: int, seed: int) -> int:
    from tests.fuzz.oracles import check_any

    for n, data in enumerate(mutants(runs, seed)):
        try:
            check_any(data)
        except Exception:
            sys.stdout.write(f"run {n}: {data!r}\n")
            raise
    sys.stdout.write(f"{runs} runs, everything held\n")
    return 0


def again(file: Path) -> int:
    from tests.fuzz.oracles import check_any

    data = file.read_bytes()
    sys.stdout.write(f"{data!r}\n")
    check_any(data)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.gateway", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args()
    if options.file is not None:
        return again(options.file)
    if not options.blind:
        guided(options.runs, options.seed)
    return blind(options.runs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
