"""GPUs that exist only because the user declared them (`--gpus L40:4`), on a host that has none.

Nothing here is measured, so nothing is reported but what a declaration can know: type and memory size. Utilisation,
power and temperature stay None until something that really computes them (a simulation) says so through `set_load`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.gpu.names import TYPE_MAX
from orchestrator.gpu.ports import GpuSample

GPUS_MAX: Final = 64
"""Most declared GPUs, of one type and in all: what one host can hold with room to spare."""
TEXT_MAX: Final = 2_048

GIB: Final = 1024**3
MEMORY_BYTES: Final = {"L40": 48 * GIB, "A40": 48 * GIB, "A100": 80 * GIB, "H100": 80 * GIB}
MEMORY_BYTES_OTHER: Final = 24 * GIB

_TYPE: Final = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{TYPE_MAX - 2}}}[A-Za-z0-9])?")
_CLOSE_S: Final = 1.5


def parse_declaration(text: str) -> list[tuple[str, int]]:
    """`L40:2,H100:1` as [("L40", 2), ("H100", 1)], in the order given.

    Raises ValueError with a sentence for the user that names the entry and the limit: a type has 1 to 32 letters,
    digits, dots, `-` or `_`; a count is 1 to 64; at most 64 GPUs in all; no type twice.
    """
    if len(text) > TEXT_MAX:
        raise ValueError(f"gpus: at most {TEXT_MAX} characters, not {len(text)}")
    if not text.strip():
        raise ValueError("gpus: nothing declared; write TYPE:COUNT, such as L40:2,H100:1")
    declared: list[tuple[str, int]] = []
    seen: set[str] = set()
    for position, entry in enumerate(text.split(","), start=1):
        name, count = _entry(position, entry.strip())
        if name.upper() in seen:
            raise ValueError(f"gpus: entry {position}: {name} is declared twice; give each type once")
        seen.add(name.upper())
        declared.append((name, count))
    total = sum(count for _, count in declared)
    if total > GPUS_MAX:
        raise ValueError(f"gpus: {total} GPUs declared, at most {GPUS_MAX} in all")
    return declared


def _entry(position: int, entry: str) -> tuple[str, int]:
    where = f"gpus: entry {position}"
    if not entry:
        raise ValueError(f"{where}: empty; write TYPE:COUNT, such as L40:2")
    name, colon, digits = (part.strip() for part in entry.partition(":"))
    if not _TYPE.fullmatch(name):
        raise ValueError(
            f"{where}: type {_quoted(name)} must be 1 to {TYPE_MAX} letters, digits, dots, - or _, with a letter or "
            "digit at both ends"
        )
    if not colon:
        raise ValueError(f"{where}: no count; write {name}:1")
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= 6
    if not plain or not 1 <= int(digits) <= GPUS_MAX:
        raise ValueError(f"{where}: count of {name} must be a whole number from 1 to {GPUS_MAX}, not {_quoted(digits)}")
    return name, int(digits)


def _quoted(text: str) -> str:
    """Text from outside, without control codes and cut to a length that fits a message."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


@dataclass(frozen=True, slots=True)
class Load:
    """What a simulation says a declared GPU is doing. None is not reported."""

    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None
    power_mw: int | None = None
    temperature_c: int | None = None


class DeclaredProbe:
    """GpuProbe over a declaration. Samples are marked `simulated` and have uuid `SIM-<type>-<n>`, n from 0 per type."""

    def __init__(self, types: Sequence[tuple[str, int]], now: Callable[[], int], period_s: float = 1.0) -> None:
        self._now = now
        self._period_s = period_s
        self._kinds = tuple((kind, n) for kind, count in types for n in range(count))
        self._loads: dict[str, Load] = {sim_uuid(kind, n): Load() for kind, n in self._kinds}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def samples(self) -> tuple[GpuSample, ...]:
        """All declared GPUs as of now, in the order of the declaration."""
        sampled_ns = self._now()
        return tuple(self._sample(index, kind, n, sampled_ns) for index, (kind, n) in enumerate(self._kinds))

    def set_load(
        self,
        uuid: str,
        *,
        memory_used_bytes: int | None = None,
        utilisation_percent: int | None = None,
        power_mw: int | None = None,
        temperature_c: int | None = None,
    ) -> None:
        """What `uuid` reports from the next sample on; what is left out is not reported. Raises KeyError for another
        GPU. May be called from any thread."""
        if uuid not in self._loads:
            raise KeyError(uuid)
        self._loads[uuid] = Load(memory_used_bytes, utilisation_percent, power_mw, temperature_c)

    def start(self, on_sample: Callable[[tuple[GpuSample, ...]], None]) -> None:
        """See GpuProbe. Raises RuntimeError on a second call."""
        if self._thread is not None:
            raise RuntimeError("the probe was started before")
        self._thread = threading.Thread(target=self._run, args=(on_sample,), name="gpudeck-declared", daemon=True)
        self._thread.start()

    def problem(self) -> str | None:
        """A declaration cannot fail to answer."""
        return None

    def close(self) -> None:
        """See GpuProbe."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self, on_sample: Callable[[tuple[GpuSample, ...]], None]) -> None:
        while not self._stop.is_set():
            on_sample(self.samples())
            self._stop.wait(self._period_s)

    def _sample(self, index: int, kind: str, n: int, sampled_ns: int) -> GpuSample:
        uuid = sim_uuid(kind, n)
        load = self._loads[uuid]
        return GpuSample(
            uuid=uuid,
            index=index,
            type=kind,
            name=f"Simulated {kind}",
            simulated=True,
            lost=False,
            sampled_ns=sampled_ns,
            memory_total_bytes=MEMORY_BYTES.get(kind.upper(), MEMORY_BYTES_OTHER),
            memory_used_bytes=load.memory_used_bytes,
            utilisation_percent=load.utilisation_percent,
            power_mw=load.power_mw,
            temperature_c=load.temperature_c,
        )


def sim_uuid(kind: str, n: int) -> str:
    """Identity of the n-th declared GPU of a type; stable over restarts, and no driver makes one like it."""
    return f"SIM-{kind}-{n}"
