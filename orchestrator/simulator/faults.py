"""The fault menu: what can go wrong on a simulated host, by name, and a seeded storm of it (reliability.md section 2).

Some faults befall calls, each with a chance per call; others come by themselves, each after an exponential gap. All of
a storm follows from its seed, so a failing one is a bug report: the command that repeats it is all there is to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EngineView
from orchestrator.core.workload import WorkerSpec
from orchestrator.simulator.deck import ENGINE, Deck
from orchestrator.simulator.fate import Absence, FairWeather, Lost, Span, Start, Stop

DOWN: Final = EngineView(kind=ENGINE.kind, ok=False, detail="the engine does not answer")
REFUSALS: Final = (
    ("port_taken", "the port is taken", False),
    ("no_space", "no space left on device", False),
    ("refused", "the engine said no", False),
)
CLOCK_JUMP_S: Final = 4_000.0
SLEEP_S: Final = (31.0, 2_000.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the menu."""

    about: str
    chance: float = 0.0
    """Per call that it may befall."""
    every_s: float = 0.0
    """Mean seconds between two of them, for what comes by itself."""


MENU: Final[dict[str, Fault]] = {
    "lost-before": Fault("an engine call is lost before its effect", chance=0.05),
    "lost-after": Fault("an engine call takes effect, its answer is lost", chance=0.05),
    "refused": Fault("the engine refuses a start", chance=0.05),
    "crash-loop": Fault("a worker ends while it starts", chance=0.05),
    "slow-start": Fault("a cold start takes ten times as long", chance=0.1),
    "silence": Fault("nobody is told of the end of a worker", chance=0.2),
    "crash": Fault("the orchestrator is killed before or after a transaction or an engine call", chance=0.004),
    "death": Fault("a worker is killed", every_s=120.0),
    "removal": Fault("somebody removes a worker and its evidence by hand", every_s=600.0),
    "hang": Fault("a worker stops answering", every_s=300.0),
    "gpu-lost": Fault("a GPU falls off the bus, and comes back later", every_s=400.0),
    "engine-down": Fault("the engine does not answer for a while", every_s=400.0),
    "clock-jump": Fault("somebody sets the wall clock", every_s=400.0),
    "sleep": Fault("the host is suspended", every_s=500.0),
    "disk-full": Fault("nothing can be written for a while", every_s=500.0),
}


class FaultError(Exception):
    """`--faults` cannot be understood. `str(error)` says what can be."""


def parse_faults(text: str) -> dict[str, float]:
    """`all`, `none`, or names with an optional factor on how often they come: `death,crash=10`. Raises FaultError."""
    if text == "none":
        return {}
    if text == "all":
        return dict.fromkeys(MENU, 1.0)
    chosen: dict[str, float] = {}
    for part in text.split(","):
        name, _, factor = part.strip().partition("=")
        if name not in MENU:
            raise FaultError(f"faults: {name[:40]!a} is none of all, none, {', '.join(MENU)}")
        try:
            chosen[name] = float(factor) if factor else 1.0
        except ValueError:
            chosen[name] = -1.0
        if not 0.0 < chosen[name] <= 1_000.0:
            raise FaultError(
                f"faults: {name}: the factor must be a number above 0 and at most 1000, not {factor[:40]!a}"
            )
    return chosen


class Storm(FairWeather):
    """Faults by seed, from `begin` to `end`. `faults` maps names of the menu to factors on how often they come."""

    def __init__(self, seed: str, faults: Mapping[str, float], cold: Span) -> None:
        super().__init__(cold)
        self.dice = Random(seed)  # noqa: S311 - a simulation's dice
        self.told: list[str] = []
        """What came by itself, in order, with its seconds since the beginning."""
        self.skew_ns = 0
        """How far the wall clock was off at most."""
        self._faults = dict(faults)
        self._deck: Deck | None = None
        self._began_ns = 0
        self._raging = False

    @property
    def delays(self) -> bool:
        """Ends may be noticed late, by the next list, or at a time that is off by as much."""
        return bool({"silence", "clock-jump", "lost-after", "removal"} & self._faults.keys())

    def begin(self, deck: Deck) -> None:
        """Let it loose on `deck`, from now on."""
        self._deck, self._began_ns, self._raging = deck, deck.now_ns, True
        for name in self._faults:
            if MENU[name].every_s:
                self._brew(name)

    def end(self) -> None:
        """The weather clears: nothing new goes wrong, and what can be mended is."""
        deck, self._raging = self._deck, False
        if deck is None:
            return
        self._free_disk(deck)
        self._bring_back_gpus(deck)
        self._answer_again(deck)

    # --- calls (fate.Fate)

    def start(self, spec: WorkerSpec, at_ns: int) -> Start:
        how = super().start(spec, at_ns)
        if self._deck is not None and not self._deck.engine.ok:
            return Start(how.delay_s, refused=("engine_missing", DOWN.detail, False))
        if not self._raging:
            return how
        refused = self.dice.choice(REFUSALS) if self._happens("refused") else None
        return Start(
            delay_s=self.dice.uniform(0.05, 3.0),
            cold_s=how.cold_s * (10.0 if self._happens("slow-start") else 1.0),
            refused=refused,
            lost=self._lost(),
            dies_after_s=self.dice.uniform(0.0, how.cold_s) if self._happens("crash-loop") else None,
            outlives_us=self.dice.random() < 0.5,
        )

    def stop(self, worker_id: str, at_ns: int) -> Stop:
        if not self._raging:
            return super().stop(worker_id, at_ns)
        return Stop(self.dice.uniform(0.02, 2.0), self._lost(), outlives_us=self.dice.random() < 0.5)

    def removal_is_lost(self, worker_id: str, at_ns: int) -> bool:
        return self._happens("lost-before")

    def end_is_lost(self, worker_id: str, at_ns: int) -> bool:
        return self._happens("silence")

    def strikes(self, point: str, at_ns: int) -> bool:
        struck = self._deck is not None and not self._deck.gone and self._happens("crash")
        if struck:
            self._tell(f"crash at {point}")
        return struck

    def absence(self) -> Absence:
        dice = self.dice
        away_s = dice.choice((0.0, dice.uniform(0.0, 5.0), dice.uniform(5.0, 90.0)))
        return Absence(away_s, engine_answers=dice.random() < 0.8, host_too=dice.random() < 0.15)

    def _happens(self, name: str) -> bool:
        return self._raging and name in self._faults and self.dice.random() < MENU[name].chance * self._faults[name]

    def _lost(self) -> Lost | None:
        if self._happens("lost-before"):
            return "before"
        return "after" if self._happens("lost-after") else None

    # --- what comes by itself

    def _brew(self, name: str) -> None:
        deck = self._deck
        assert deck is not None
        act: Callable[[Deck], None] = getattr(self, f"_{name.replace('-', '_')}")

        def come() -> None:
            if self._raging:
                self._brew(name)
                act(deck)

        deck.later(self.dice.expovariate(self._faults[name] / MENU[name].every_s), come)

    def _tell(self, what: str) -> None:
        if self._deck is not None:
            self.told.append(f"{(self._deck.now_ns - self._began_ns) / SECOND_NS:.1f} s: {what}")

    def _some(self, names: Iterable[str]) -> str | None:
        candidates = sorted(names)
        return self.dice.choice(candidates) if candidates else None

    def _death(self, deck: Deck) -> None:
        worker_id = self._some(deck.host.running)
        if worker_id is not None:
            self._tell(f"{worker_id} is killed")
            deck.host.kill(worker_id, code=self.dice.choice((1, 137, 139, 255)))

    def _removal(self, deck: Deck) -> None:
        worker_id = self._some(deck.host.running)
        if worker_id is not None:
            self._tell(f"{worker_id} is removed by hand")
            deck.host.vanish(worker_id)

    def _hang(self, deck: Deck) -> None:
        worker_id = self._some(deck.host.running)
        if worker_id is not None:
            self._tell(f"{worker_id} hangs")
            deck.host.hang(worker_id)

    def _gpu_lost(self, deck: Deck) -> None:
        uuid = self._some(g.uuid for g in deck.gpus if g.state == "ok")
        if uuid is None:
            return
        self._tell(f"{uuid} is lost")
        deck.see_gpus(tuple(g.model_copy(update={"state": "lost"}) if g.uuid == uuid else g for g in deck.gpus))
        deck.later(self.dice.uniform(5.0, 120.0), lambda: self._bring_back_gpus(deck))

    def _bring_back_gpus(self, deck: Deck) -> None:
        if any(g.state == "lost" for g in deck.gpus):
            deck.see_gpus(tuple(g.model_copy(update={"state": "ok"}) for g in deck.gpus))

    def _engine_down(self, deck: Deck) -> None:
        self._tell("the engine is silent")
        deck.see_engine(DOWN)
        deck.later(self.dice.uniform(1.0, 60.0), lambda: self._answer_again(deck))

    def _answer_again(self, deck: Deck) -> None:
        if not deck.engine.ok:
            deck.see_engine(ENGINE)

    def _clock_jump(self, deck: Deck) -> None:
        seconds = self.dice.uniform(-CLOCK_JUMP_S, CLOCK_JUMP_S)
        self._tell(f"the wall clock is set by {seconds:.0f} s")
        deck.host.skew_ns += int(seconds * SECOND_NS)
        self.skew_ns = max(self.skew_ns, abs(deck.host.skew_ns))

    def _sleep(self, deck: Deck) -> None:
        if deck.gone:
            return
        seconds = self.dice.uniform(*SLEEP_S)
        self._tell(f"the host sleeps for {seconds:.0f} s")
        deck.suspend(seconds)

    def _disk_full(self, deck: Deck) -> None:
        if deck.disk_problem is None and not deck.gone:
            self._tell("the disk is full")
            deck.disk_problem = "disk full"
            deck.later(self.dice.uniform(0.5, 60.0), lambda: self._free_disk(deck))

    def _free_disk(self, deck: Deck) -> None:
        if deck.disk_problem is not None:
            deck.free_disk()
