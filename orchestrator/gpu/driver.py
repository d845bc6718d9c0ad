"""Every question asked of NVML, each with the older forms of it, and what an answer of no means.

Only the probe's thread may call anything here. NVML answers with codes; they come out of this module as three cases:

* the session is over (driver unloaded, reloaded or replaced): `SessionOver`; every handle is void;
* the GPU is gone (fell off the bus, needs a reset): `GpuGone`; the others go on;
* the field is not there: None. Not supported and not permitted are decided once per session and GPU and not asked
  again; a function the driver does not have is decided once per session for all GPUs and the next older form of it is
  used; anything else (no data now, unknown error) is asked again next time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final

import pynvml

from orchestrator.gpu.ports import GpuProcess

PID_MAX: Final = 2**22
"""The kernel's own limit. Some drivers fill the process list with garbage when its layout changed (nvitop#88)."""
NAME_MAX: Final = 64
_ABSENT_UINT: Final = 2**32 - 1
_ABSENT_ULONG: Final = 2**64 - 1

_SESSION_OVER: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    }
)
_GONE: Final = frozenset(
    {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
)
_NEVER: Final = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION})
_NO_FUNCTION: Final = frozenset(
    {
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)


class SessionOver(Exception):
    """NVML must be shut down and initialised again before it answers anything. `code` is NVML's."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class GpuGone(Exception):
    """This GPU answers nothing until it is reset or back on its bus."""


class _ProcessInfoV1(ctypes.Structure):
    """What drivers before 450 fill in; pynvml no longer has it."""

    _fields_ = (("pid", ctypes.c_uint), ("usedGpuMemory", ctypes.c_ulonglong))


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of a question: the C function it needs, and the call."""

    function: str
    ask: Callable[[Any], Any]


def _forms(*names: str, **options: Any) -> tuple[_Form, ...]:
    """Forms that pynvml wraps, newest first; names this pynvml does not know are left out."""
    found = ((name, getattr(pynvml, name, None)) for name in names)
    return tuple(_Form(name, partial(call, **options)) for name, call in found if call is not None)


def _running(kind: str) -> tuple[_Form, ...]:
    name = f"nvmlDeviceGet{kind}RunningProcesses"
    return (*_forms(f"{name}_v3", f"{name}_v2"), _Form(name, lambda handle: _running_v1(name, handle)))


def _running_v1(name: str, handle: Any) -> list[_ProcessInfoV1]:
    function = getattr(pynvml.nvmlLib, name, None)
    if function is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    count = ctypes.c_uint(0)
    code = function(handle, ctypes.byref(count), None)
    if code == pynvml.NVML_SUCCESS:
        return []
    if code != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
        raise pynvml.NVMLError(code)
    count.value = count.value * 2 + 5  # room for processes that start between the two calls
    array = (_ProcessInfoV1 * count.value)()
    code = function(handle, ctypes.byref(count), array)
    if code != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(code)
    return list(array[: count.value])


_MEMORY: Final = (
    # Version 2 keeps what the driver reserves for itself out of `used`, as nvidia-smi does.
    _Form("nvmlDeviceGetMemoryInfo_v2", lambda h: pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)),
    *_forms("nvmlDeviceGetMemoryInfo"),
)
_UTILISATION: Final = _forms("nvmlDeviceGetUtilizationRates")
_POWER: Final = _forms("nvmlDeviceGetPowerUsage")
_POWER_LIMIT: Final = _forms("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
_TEMPERATURE: Final = (
    _Form("nvmlDeviceGetTemperature", lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU)),
    *_forms("nvmlDeviceGetTemperatureV", sensor=pynvml.NVML_TEMPERATURE_GPU),
)
_COMPUTE: Final = _running("Compute")
_GRAPHICS: Final = _running("Graphics")
_NAME: Final = _forms("nvmlDeviceGetName")


class Driver:
    """One NVML session at a time. Any method but `end` may raise SessionOver, those of one GPU also GpuGone."""

    def __init__(self) -> None:
        self._open = False
        self._missing: set[str] = set()
        self._never: dict[tuple[str, str], int] = {}

    @property
    def is_open(self) -> bool:
        return self._open

    def begin(self) -> None:
        """Load the library and initialise it. Raises SessionOver with any code NVML gives."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise SessionOver(error.value) from error
        self._open = True

    def end(self) -> None:
        """Shut NVML down and forget what this session could not do: another driver may be able to."""
        self._missing.clear()
        self._never.clear()
        if not self._open:
            return
        self._open = False
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            # After an unload the session is gone already, which NVML reports as an error of the shutdown.
            return

    def devices(self) -> dict[str, tuple[int, Any]]:
        """Every GPU that answers to its name: uuid -> (index, handle). An index is only a way to walk: it moves to
        another GPU when one is lost. GPUs that cannot be opened are left out."""
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise SessionOver(error.value) from error
        found: dict[str, tuple[int, Any]] = {}
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                found[pynvml.nvmlDeviceGetUUID(handle)] = (index, handle)
            except pynvml.NVMLError as error:
                if error.value in _SESSION_OVER:
                    raise SessionOver(error.value) from error
        return found

    def name(self, uuid: str, handle: Any) -> str | None:
        """The driver's name of the GPU, printable."""
        try:
            text = self._ask(uuid, "name", _NAME, handle)
        except UnicodeDecodeError:
            return None
        return None if text is None else printable(text)

    def memory(self, uuid: str, handle: Any) -> tuple[int, int | None] | None:
        """(total, used) in bytes; None when there is no answer, for which `shares_memory` may be the reason."""
        info = self._ask(uuid, "memory", _MEMORY, handle)
        if info is None:
            return None
        if info.total in (0, _ABSENT_ULONG):  # some unified-memory drivers answer, with nothing in it
            self._never[uuid, "memory"] = pynvml.NVML_ERROR_NOT_SUPPORTED
            return None
        return int(info.total), int(info.used) if info.used <= info.total else None

    def shares_memory(self, uuid: str) -> bool:
        """The GPU has no memory of its own (Jetson, GB10): known once `memory` was asked."""
        return bool(self._never.get((uuid, "memory")) == pynvml.NVML_ERROR_NOT_SUPPORTED)

    def utilisation_percent(self, uuid: str, handle: Any) -> int | None:
        rates = self._ask(uuid, "utilisation", _UTILISATION, handle)
        return int(rates.gpu) if rates is not None and rates.gpu <= 100 else None

    def power_mw(self, uuid: str, handle: Any) -> int | None:
        return _number(self._ask(uuid, "power", _POWER, handle))

    def power_limit_mw(self, uuid: str, handle: Any) -> int | None:
        return _number(self._ask(uuid, "power_limit", _POWER_LIMIT, handle))

    def temperature_c(self, uuid: str, handle: Any) -> int | None:
        return _number(self._ask(uuid, "temperature", _TEMPERATURE, handle))

    def processes(self, uuid: str, handle: Any, memory_total_bytes: int | None) -> tuple[GpuProcess, ...]:
        """Compute and graphics processes by pid; one that does both is listed once. Impossible pids and amounts of
        memory are left out."""
        memory: dict[int, int | None] = {}
        for field, forms in (("compute", _COMPUTE), ("graphics", _GRAPHICS)):
            for pid, used in _plausible(self._ask(uuid, field, forms, handle) or (), memory_total_bytes):
                memory[pid] = max(used or 0, memory.get(pid) or 0) or used
        return tuple(GpuProcess(pid, self._process_name(pid), memory[pid]) for pid in sorted(memory))

    def _process_name(self, pid: int) -> str | None:
        """File name of its program: the rest of the path is noise, and arguments may hold secrets."""
        try:
            text = pynvml.nvmlSystemGetProcessName(pid)
        except pynvml.NVMLError as error:
            if error.value in _SESSION_OVER:
                raise SessionOver(error.value) from error
            return None
        except UnicodeDecodeError:
            return None
        words = text.split()
        return printable(PurePosixPath(words[0]).name) or None if words else None

    def _ask(self, uuid: str, field: str, forms: tuple[_Form, ...], handle: Any) -> Any:
        if (uuid, field) in self._never:
            return None
        for form in forms:
            if form.function in self._missing:
                continue
            try:
                return form.ask(handle)
            except pynvml.NVMLError as error:
                code = error.value
                if code in _SESSION_OVER:
                    raise SessionOver(code) from error
                if code in _GONE:
                    raise GpuGone from error
                if code in _NEVER:
                    self._never[uuid, field] = code
                if code not in _NO_FUNCTION:
                    return None
                self._missing.add(form.function)
        return None


def _plausible(processes: Any, memory_total_bytes: int | None) -> Iterator[tuple[int, int | None]]:
    limit = _ABSENT_ULONG - 1 if memory_total_bytes is None else memory_total_bytes
    for process in processes:
        used = process.usedGpuMemory
        if 0 < process.pid <= PID_MAX:
            yield int(process.pid), int(used) if used is not None and used <= limit else None


def _number(value: Any) -> int | None:
    return None if value is None or value == _ABSENT_UINT else int(value)


def printable(text: str) -> str:
    """`text` without control codes, at most NAME_MAX characters: names come from drivers and from other programs."""
    return "".join(c for c in text if c.isprintable())[:NAME_MAX]
