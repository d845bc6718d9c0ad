"""Runs an NvmlProbe and speaks JSON lines: one per round of samples, one per question read from standard input.

A program of its own because the library it loads is chosen by LD_LIBRARY_PATH, which the loader reads at start only.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from time import perf_counter

from orchestrator.clock import system_now
from orchestrator.gpu.nvml import NvmlProbe
from orchestrator.gpu.ports import GpuSample

_writing = threading.Lock()


def say(**line: object) -> None:
    with _writing:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main() -> None:
    options = json.loads(sys.argv[1])
    probe = NvmlProbe(system_now(), **options)

    def on_sample(samples: tuple[GpuSample, ...]) -> None:
        say(
            kind="samples",
            gpus=[asdict(s) for s in samples],
            problem=probe.problem(),
            thread=threading.get_native_id(),
        )

    probe.start(on_sample)
    for line in sys.stdin:
        if line.strip() == "problem":
            say(kind="problem", problem=probe.problem())
        elif line.strip() == "close":
            began = perf_counter()
            probe.close()
            say(kind="closed", took_s=perf_counter() - began)
            probe.close()


if __name__ == "__main__":
    main()
