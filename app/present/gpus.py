"""The GPU strip, in nvitop's words: MEM, UTL, power of limit, temperature, and who holds the card."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from app.format import ABSENT, clip, fit, memory_pair, percent, plain, power, temperature
from app.present.chart import meter
from app.present.lanes import Density
from app.present.rows import Rows
from app.present.text import Line, Piece, Span, Tone, clip_line, line, pad, width
from orchestrator.contract.snapshot import EndpointView, GpuView, Snapshot, WorkerView

_FIXED: Final = 8 + 14 + 2 + 5 + 10 + 7 + 2
"""Cells of a row that are neither bar nor holder."""
_HOLDER: Final = 28
_CONTAINER: Final = 12
_NAMES_CONTAINERS: Final = 100
"""Room of a panel from which on holders are named with their container or process."""
_NAMES_HOLDERS: Final = 34
"""Room of one of two GPUs in a line from which on its holder can be read."""
NO_GPUS: Final = "No GPUs found. Declare some to try things out: gpudeck --gpus L40:4"


def title(snapshot: Snapshot) -> str:
    """Held and free cards, and that they are not real where they are not."""
    held = sum(gpu.worker_id is not None for gpu in snapshot.gpus)
    text = f"{held} of {len(snapshot.gpus)} held" if snapshot.gpus else "none"
    return f"{text} · SIMULATED" if snapshot.simulated_gpus else text


def rows(gpus: tuple[GpuView, ...], endpoints: tuple[EndpointView, ...], room: int, density: Density) -> Rows:
    """A line for each GPU; when compact, two GPUs to a line."""
    names = room >= _NAMES_CONTAINERS
    labels = {w.id: _label(w, container=names) for endpoint in endpoints for w in endpoint.workers}
    found = Rows()
    if density is Density.COMPACT:
        found.each(range(0, len(gpus), 2), lambda at: _pair(gpus[at : at + 2], labels, room))
        return found
    if not gpus:
        return found
    most = _HOLDER + _CONTAINER + 1 if names else _HOLDER
    holders = [holder(gpu, labels, most) for gpu in gpus]
    tail = min(max(each.cells for each in holders), most)
    tail = max(tail, len("HELD BY"))
    bars = max(room - _FIXED - tail, 10)
    sizes = (bars - bars * 2 // 5, bars * 2 // 5)
    found.add([clip_line(_head(sizes), room)])
    found.each(range(len(gpus)), lambda at: _wide(gpus[at], holders[at].line, sizes, room))
    return found


def _pair(gpus: tuple[GpuView, ...], labels: dict[str, str], room: int) -> Line:
    """One or two GPUs side by side."""
    half = (room - 3) // 2
    left, *right = (_small(gpu, labels, half) for gpu in gpus)
    return line(pad(left, half), Span(" │ ", Tone.FAINT), *right)


def _label(worker: WorkerView, *, container: bool) -> str:
    """`w1`, with the container's or process's id where there is room for it."""
    reference = plain(worker.engine_ref or "")[:_CONTAINER] if container else ""
    return f"{worker.label} {reference}" if reference else worker.label


def holder(gpu: GpuView, labels: dict[str, str], room: int = 28) -> Piece:
    """`sketch·w1`, the foreign processes, `free`, or what is wrong with the card."""
    foreign = tuple(each.name or f"pid {each.pid}" for each in gpu.processes if each.worker_id is None)
    return _holder(gpu.state, gpu.endpoint, labels.get(gpu.worker_id or "", ""), foreign, room)


@lru_cache(maxsize=4_096)
def _holder(state: str, endpoint: str | None, worker: str, foreign: tuple[str, ...], room: int) -> Piece:
    """Remembered: a card changes hands far less often than its figures change."""
    if state == "lost":
        return _measured(Span("✖ lost", Tone.FAILED))
    parts: list[Span] = []
    if endpoint is not None:
        parts.append(Span(clip(endpoint, room - len(worker) - 1), Tone.PLAIN))
        parts.append(Span(f"·{worker}" if worker else "", Tone.MUTED))
    if foreign:
        name = clip(plain(foreign[0]), 16)
        more = f" +{len(foreign) - 1}" if len(foreign) > 1 else ""
        parts.append(Span(f"{' ' if parts else ''}▲ {name}{more}", Tone.STARTING))
    if state == "stale":
        parts.append(Span(" (stale)", Tone.STARTING))
    return _measured(*parts) if parts else _measured(Span("free", Tone.MUTED))


def _measured(*parts: Span) -> Piece:
    drawn = line(*parts)
    return Piece(drawn, width(drawn))


def _head(sizes: tuple[int, int]) -> Line:
    titles = f"{'GPU':<8}{'MEM':<{sizes[0] + 16}}{'UTL':<{sizes[1] + 6}}{'PWR':>9}{'TEMP':>7}  HELD BY"
    return line(Span(titles, Tone.TITLE))


def _wide(gpu: GpuView, held: Line, sizes: tuple[int, int], room: int) -> Line:
    share = _share(gpu)
    return clip_line(
        line(
            Span(f"{gpu.index:<2}", Tone.MUTED),
            Span(fit(gpu.type, 5) + " ", Tone.STRONG),
            meter(share, sizes[0], _heat(share, 0.95)),
            _figure(memory_pair(gpu.memory_used_bytes, gpu.memory_total_bytes), 14),
            "  ",
            meter(_ratio(gpu.utilisation_percent), sizes[1], Tone.INFO),
            _figure(percent(gpu.utilisation_percent), 5),
            _figure(power(gpu.power_mw, gpu.power_limit_mw), 10),
            _figure(temperature(gpu.temperature_c), 7, _temperature_tone(gpu)),
            "  ",
            held,
        ),
        room,
    )


def _small(gpu: GpuView, labels: dict[str, str], room: int) -> Line:
    share = _share(gpu)
    return clip_line(
        line(
            Span(f"{gpu.index} ", Tone.MUTED),
            Span(fit(gpu.type, 4) + " ", Tone.STRONG),
            meter(share, 5, _heat(share, 0.95)),
            _figure(percent(None if share is None else round(share * 100)), 5),
            _figure(percent(gpu.utilisation_percent), 5, Tone.INFO),
            _figure(temperature(gpu.temperature_c), 5, _temperature_tone(gpu)),
            *((" ", holder(gpu, labels, room - 28).line) if room >= _NAMES_HOLDERS else ()),
        ),
        room,
    )


def _share(gpu: GpuView) -> float | None:
    if gpu.memory_used_bytes is None or not gpu.memory_total_bytes:
        return None
    return gpu.memory_used_bytes / gpu.memory_total_bytes


def _ratio(value: int | None) -> float | None:
    return None if value is None else value / 100


def _heat(share: float | None, hot: float) -> Tone:
    return Tone.STARTING if share is not None and share >= hot else Tone.ACCENT


def _temperature_tone(gpu: GpuView) -> Tone:
    if gpu.temperature_c is None or gpu.temperature_c < 80:
        return Tone.PLAIN
    return Tone.FAILED if gpu.temperature_c >= 90 else Tone.STARTING


def _figure(text: str, room: int, tone: Tone = Tone.PLAIN) -> Span:
    return Span(fit(text, room, right=True), Tone.FAINT if text == ABSENT else tone)
