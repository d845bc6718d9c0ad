"""What a process that serves does about its pauses. In processes of their own: it is for the whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.serving import SWITCH_S


def test_threads_that_compute_give_way_to_the_loop() -> None:
    program = (
        "import sys\nfrom orchestrator.serving import new_runner\n"
        "with new_runner() as runner: sys.stdout.write(str(sys.getswitchinterval()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert float(done.stdout) == pytest.approx(SWITCH_S)
    assert sys.getswitchinterval() > SWITCH_S, "that was another process"


def test_a_settled_heap_is_out_of_the_collectors_sight() -> None:
    program = (
        "import gc\nfrom orchestrator.gateway import server\nfrom orchestrator.serving import settle_heap\n"
        "before = len(gc.get_objects())\nsettle_heap()\nassert before > 5_000 > len(gc.get_objects())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
