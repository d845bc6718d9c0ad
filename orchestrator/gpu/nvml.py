"""GPUs as the NVIDIA driver sees them: one daemon thread makes every NVML call (reliability.md 3.3, G1 to G6).

A call that never returns holds up nothing but this thread: samples keep the time they were taken at, `problem` says
that the driver does not answer, and `close` does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pynvml

from orchestrator.contract.base import SECOND_NS
from orchestrator.gpu.driver import Driver, GpuGone, SessionOver
from orchestrator.gpu.names import UNKNOWN, gpu_type
from orchestrator.gpu.ports import GpuSample

RETRY_MAX_S: Final = 30.0
"""Longest pause between attempts to reach a driver that is not there."""
RESCAN_S: Final = 30.0
"""While a GPU is lost NVML is initialised again this often: only then does the driver look for GPUs."""
ANSWER_BUDGET_NS: Final = 2 * SECOND_NS
"""A round of questions that takes longer is reported as a driver that does not answer."""
START_BUDGET_NS: Final = 20 * SECOND_NS
"""The same before the first answer: without persistence mode the driver sets up every GPU first, seconds for each."""
_CLOSE_S: Final = 1.5
_MEMINFO: Final = Path("/proc/meminfo")

_REASONS: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "this host has no NVIDIA driver library (libnvidia-ml.so.1); install the "
    "driver, or declare simulated GPUs such as --gpus L40:2",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded; load it (modprobe nvidia), or declare "
    "simulated GPUs such as --gpus L40:2",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver and its library have different versions, as after an "
    "update; reload the driver or reboot, and restart the orchestrator if this stays",
    pynvml.NVML_ERROR_UNINITIALIZED: "the NVIDIA driver was reloaded; connecting to it again",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not use the NVIDIA driver; check the permissions of /dev/nvidia*",
}


class NvmlProbe:
    """GpuProbe over NVML.

    `types` maps a driver's name of a GPU to the type its owner wants it billed as, before any rule; `known` are the
    types of the price book (see `gpu_type`). While there is no driver, `on_sample` gets the last samples, unchanged,
    at every attempt: an empty tuple when there never were any. A lost GPU stays listed with `lost` and no
    measurements. Attempts are spaced `period_s` and doubling up to RETRY_MAX_S.
    """

    def __init__(
        self,
        now: Callable[[], int],
        period_s: float = 1.0,
        types: Mapping[str, str] | None = None,
        known: Collection[str] = (),
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._now = now
        self._period_s = period_s
        self._types = dict(types or {})
        self._known = tuple(known)
        self._rescan_ns = round(rescan_s * SECOND_NS)
        self._driver = Driver()
        self._last: dict[str, GpuSample] = {}
        self._session_ns = 0
        self._asking_since_ns: int | None = None
        self._problem: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_sample: Callable[[tuple[GpuSample, ...]], None]) -> None:
        """See GpuProbe. Raises RuntimeError on a second call."""
        if self._thread is not None:
            raise RuntimeError("the probe was started before")
        self._thread = threading.Thread(target=self._run, args=(on_sample,), name="gpudeck-nvml", daemon=True)
        self._thread.start()

    def problem(self) -> str | None:
        """See GpuProbe. Answers at once, also while the driver does not."""
        since_ns = self._asking_since_ns
        waited_ns = 0 if since_ns is None else self._now() - since_ns
        if waited_ns > (ANSWER_BUDGET_NS if self._last else START_BUDGET_NS):
            return f"the NVIDIA driver has not answered for {waited_ns // SECOND_NS} s; GPU values are as old as that"
        if self._thread is not None and not self._thread.is_alive() and not self._stop.is_set():
            return "the GPU probe has stopped after an error; the log has it, restart the orchestrator"
        return self._problem

    def close(self) -> None:
        """See GpuProbe. A thread inside a driver call that does not return is left behind: it is a daemon, reports
        nothing more, and shuts NVML down itself should the call ever end."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self, on_sample: Callable[[tuple[GpuSample, ...]], None]) -> None:
        failures = 0
        try:
            while not self._stop.is_set():
                self._asking_since_ns = self._now()
                self._problem = self._ask_all()
                self._asking_since_ns = None
                failures = failures + 1 if not self._driver.is_open else 0
                if self._stop.is_set():  # closed while the driver kept us waiting: the reader may be gone
                    return
                on_sample(tuple(sorted(self._last.values(), key=lambda sample: (sample.index, sample.uuid))))
                self._stop.wait(_pause_s(self._period_s, failures))
        finally:
            self._driver.end()

    def _ask_all(self) -> str | None:
        """One round over all GPUs into `_last`. Returns why there is nothing new, or None."""
        try:
            if self._driver.is_open and self._rescan_due():
                self._driver.end()
            if not self._driver.is_open:
                self._driver.begin()
                self._session_ns = self._now()
            self._measure_all()
        except SessionOver as over:
            self._driver.end()
            return _REASONS.get(over.code) or f"the NVIDIA driver reports {pynvml.NVMLError(over.code)} ({over.code})"
        return None if self._last else "the NVIDIA driver is loaded but lists no GPU that this user may open"

    def _rescan_due(self) -> bool:
        missing = not self._last or any(sample.lost for sample in self._last.values())
        return missing and self._now() - self._session_ns >= self._rescan_ns

    def _measure_all(self) -> None:
        present = self._driver.devices()
        for uuid, (index, handle) in present.items():
            try:
                self._last[uuid] = self._measure(uuid, index, handle)
            except GpuGone:
                self._last[uuid] = self._gone(uuid, index)
        for uuid in self._last.keys() - present.keys():
            self._last[uuid] = self._gone(uuid, self._last[uuid].index)

    def _measure(self, uuid: str, index: int, handle: Any) -> GpuSample:
        driver = self._driver
        name = driver.name(uuid, handle) or "NVIDIA GPU"
        memory = driver.memory(uuid, handle)
        total = memory[0] if memory is not None else self._total_without_answer(uuid)
        return GpuSample(
            uuid=uuid,
            index=index,
            type=self._types.get(name) or gpu_type(name, self._known),
            name=name,
            simulated=False,
            lost=False,
            memory_total_bytes=total,
            memory_used_bytes=memory[1] if memory is not None else None,
            utilisation_percent=driver.utilisation_percent(uuid, handle),
            power_mw=driver.power_mw(uuid, handle),
            power_limit_mw=driver.power_limit_mw(uuid, handle),
            temperature_c=driver.temperature_c(uuid, handle),
            processes=driver.processes(uuid, handle, total),
            sampled_ns=self._now(),
        )

    def _total_without_answer(self, uuid: str) -> int | None:
        """The size does not change: a driver that does not say it just now does not make the GPU smaller."""
        if self._driver.shares_memory(uuid):
            return unified_memory_bytes()
        last = self._last.get(uuid)
        return None if last is None else last.memory_total_bytes

    def _gone(self, uuid: str, index: int) -> GpuSample:
        """What is left of a GPU that does not answer: who it was, not what it did."""
        last = self._last.get(uuid)
        if last is None:
            return GpuSample(uuid, index, UNKNOWN, "NVIDIA GPU", simulated=False, lost=True, sampled_ns=self._now())
        return replace(
            last,
            lost=True,
            sampled_ns=self._now(),
            memory_used_bytes=None,
            utilisation_percent=None,
            power_mw=None,
            power_limit_mw=None,
            temperature_c=None,
            processes=(),
        )


def unified_memory_bytes() -> int | None:
    """Memory of a GPU that has none of its own: the host's MemTotal, None when it cannot be read."""
    try:
        return mem_total_bytes(_MEMINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None


def mem_total_bytes(meminfo: str) -> int | None:
    """MemTotal of the text of /proc/meminfo (which counts in KiB); None when it has none."""
    for line in meminfo.splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            number, _, unit = value.strip().partition(" ")
            return int(number) * 1024 if number.isdecimal() and unit == "kB" else None
    return None


def _pause_s(period_s: float, failures: int) -> float:
    """The period; after failures in a row twice as long each time, up to RETRY_MAX_S."""
    return min(period_s * 2.0 ** min(failures, 16), max(RETRY_MAX_S, period_s)) if failures else period_s
