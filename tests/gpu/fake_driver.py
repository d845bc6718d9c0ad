"""The fake driver: builds tests/gpu/fake_nvml.c, writes its state, and runs a probe on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until_sync

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LIBRARY = "libnvidia-ml.so.1"
MIB = 1024**2
L40_BYTES = 46_068 * MIB
UNKNOWN = 999
MEASURED = ("memory_used_bytes", "utilisation_percent", "power_mw", "power_limit_mw", "temperature_c")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the fake NVML library needs gcc to be built")
Boot = Callable[..., "Machine"]


def build(directory: Path, *defines: str) -> Path:
    """Compile the library into `directory`; returns the directory, for LD_LIBRARY_PATH."""
    gcc = shutil.which("gcc")
    assert gcc is not None
    directory.mkdir(parents=True, exist_ok=True)
    flags = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *(f"-D{name}" for name in defines)]
    subprocess.run([gcc, *flags, "-o", str(directory / LIBRARY), str(HERE / "fake_nvml.c")], check=True, timeout=60)
    return directory


@dataclass
class Gpu:
    """One GPU of the fake; `lines` are further lines of its block."""

    uuid: str
    name: str = "NVIDIA L40"
    total: int = L40_BYTES
    used: int = 1_024 * MIB
    util: int = 37
    power: int = 91_500
    limit: int = 300_000
    temp: int = 41
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        facts = ("name", "total", "used", "util", "power", "limit", "temp")
        return "\n".join([f"gpu {self.uuid}", *(f"{fact} {getattr(self, fact)}" for fact in facts), *self.lines])


class Machine:
    """A fake machine: its GPUs, and a probe program that watches them."""

    def __init__(self, tmp: Path, libraries: Path, **options: object) -> None:
        self._state = tmp / "nvml.state"
        self._log = tmp / "nvml.log"
        self._libraries = libraries
        self._options = {"period_s": 0.02, "rescan_s": 3_600.0, **options}
        self._process: subprocess.Popen[str] | None = None
        self._said: list[dict[str, Any]] = []
        self._reader: threading.Thread | None = None

    def set(self, *gpus: Gpu, lines: tuple[str, ...] = ()) -> None:
        """Replace the machine's state; takes effect with the next NVML call."""
        beside = self._state.with_suffix(".new")
        beside.write_text("\n".join([*lines, *(gpu.text() for gpu in gpus), ""]))
        beside.replace(self._state)

    def run(self) -> Machine:
        environ = {
            **os.environ,
            "LD_LIBRARY_PATH": str(self._libraries),
            "FAKE_NVML_STATE": str(self._state),
            "FAKE_NVML_LOG": str(self._log),
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "probe_program.py"), json.dumps(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(json.loads(line))

    def wait(self, wanted: Callable[[dict[str, Any]], object], what: str, since: int = 0) -> dict[str, Any]:
        """The first line said at or after position `since` for which `wanted` is true."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found.extend(line for line in self._said[since:] if wanted(line))
            return bool(found)

        until_sync(look, timeout_s=30.0, what=f"{what}; last said: {self._said[-1:]}")
        return found[0]

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        until_sync(condition, timeout_s=30.0, what=what)

    def wait_for_delay(self) -> None:
        """Until the probe is inside a call that a `delay_ms` holds up."""
        self.wait_until(lambda: any(called == "delayed" for _, called in self.calls()), "a call to be delayed")

    def samples(self, wanted: Callable[[dict[str, dict[str, Any]]], object], what: str) -> dict[str, dict[str, Any]]:
        """GPUs by uuid of the next round, from now on, for which `wanted` is true."""
        return by_uuid(self.wait(lambda s: s["kind"] == "samples" and wanted(by_uuid(s)), what, self.position))

    def rounds(self, count: int) -> list[dict[str, Any]]:
        """`count` complete rounds from now on."""
        start = self.position
        until_sync(lambda: len(self._since(start)) >= count, 30.0, f"{count} rounds")
        return self._since(start)[:count]

    def _since(self, start: int) -> list[dict[str, Any]]:
        return [line for line in self._said[start:] if line["kind"] == "samples"]

    @property
    def position(self) -> int:
        return len(self._said)

    def ask(self, question: str, answer: str) -> dict[str, Any]:
        """Send a line, return the line of kind `answer` that follows."""
        assert self._process is not None
        assert self._process.stdin is not None
        start = self.position
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self.wait(lambda line: line["kind"] == answer, f"the answer to {question}", start)

    def calls(self) -> list[tuple[int, str]]:
        """Every NVML call so far: (thread id, function)."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(thread), function) for thread, function in (line.split() for line in lines)]

    def end(self, timeout_s: float = 20.0) -> int:
        """Close standard input and wait for the program; returns its exit code."""
        if self._process is None:
            return 0
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            code = self._process.wait(timeout_s)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._reader is not None
            self._reader.join(10)
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._process = None
        return code


def by_uuid(line: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {gpu["uuid"]: gpu for gpu in line["gpus"]}
