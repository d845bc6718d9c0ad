"""The process is killed without warning in the middle of writing; what was acknowledged is there, nothing is half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orchestrator.contract.base import SECOND_NS
from tests.ledger.crash_batches import batch, opening
from tests.ledger.samples import T0, Wall, opened

LIVES = 20
ROOT = Path(__file__).parents[2]


def test_kill_dash_nine_leaves_whole_batches(tmp_path: Path) -> None:
    directories = [tmp_path / f"life{n}" for n in range(LIVES)]
    writer = Path(__file__).with_name("crash_writer.py")
    done = subprocess.run(
        [sys.executable, str(writer), *map(str, directories)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) == LIVES
    assert max(acknowledged) > 3, "no life lasted long enough to test anything"
    for directory, seen in zip(directories, acknowledged, strict=True):
        _examine(directory / "ledger.db", seen)


def _examine(path: Path, acknowledged: int) -> None:
    with opened(path, Wall(T0 + 3_600 * SECOND_NS)) as ledger:
        verification = ledger.verify().result()
        assert verification.problems == ()
        ledger.write(opening()).result()  # a life may have ended before its first batch, even before its file
        bill = ledger.bill("local", None, T0).result()
        written = len(bill.lines)
        # The batch in flight when the process died is there whole or not at all.
        assert acknowledged <= written <= acknowledged + 1
        if acknowledged:
            expected = sum(1_000 + n for n in range(written)) + opening()[1].amount_u  # type: ignore[union-attr]
            assert bill.topped_up_u == expected
            assert verification.entries == 2 + 4 * written
            assert ledger.load().result().last_serial == written
        # And it goes on from there, repeating the batch whose fate was unknown.
        ledger.write(batch(acknowledged)).result()
        ledger.write(batch(acknowledged + 1)).result()
        assert ledger.verify().result().ok
