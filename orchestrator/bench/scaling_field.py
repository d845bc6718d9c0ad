"""Who takes part in the scaling measurement, by name, and which source files decide how each behaves."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount
from orchestrator.simulator.bounds import cost_bound, zero_wait_ns
from orchestrator.simulator.contenders import Contender, contender
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import ColdStarts, Follow, Ring, Setup, following
from orchestrator.simulator.rivals import RIVALS
from orchestrator.simulator.traces import Trace

WAIT_PRICES: Final = (0.2, 1.0, 5.0)
"""v of the score: autoscaled worker-seconds that a second of waiting is worth. Batch, ordinary, interactive."""
KNOB_S: Final = tuple(round(0.5 * 1.2 ** (n / 8), 2) for n in range(36 * 8))
"""The only p95 waits that `auto` may be asked for to meet a rival at the rival's own point: half a second to five
minutes, each 2.3% longer than the one before. Where keeping a worker is a close call, cost changes by a third between
two wishes that are 20% apart."""
AUTO: Final = "auto, v "
"""With a wait price: `auto` told what waiting is worth."""
WISH: Final = "auto, p95 "
"""With seconds: `auto` by its one knob, the p95 wait that is wanted."""
ZERO_WAIT: Final = "nobody waits"
"""The bound on autoscaled seconds when nobody may wait."""
BOUND: Final = "bound, v "
"""With a wait price: the bound on the score."""
PACKAGE: Final = Path(__file__).resolve().parent.parent


def auto(wait_price: float) -> Contender:
    return contender(f"{AUTO}{wait_price:g}", Auto(wait_price=wait_price))


def wishing(wait_p95_s: float) -> Contender:
    return contender(f"{WISH}{wait_p95_s:g}", Auto(wait_p95_s=wait_p95_s))


ALLOWED: Final = tuple(wishing(wait_s).name for wait_s in KNOB_S)
"""`auto` at each of those waits, the shortest first."""

OWN: Final = (
    contender("auto", Auto()),
    contender("concurrency", Concurrency()),
    contender("queue_delay", QueueDelay()),
    contender("request_count", RequestCount()),
)
"""The endpoint's own policies with their defaults."""


def _ring(name: str, make: Callable[[Setup], Follow], idle_s: int) -> tuple[Contender, Contender]:
    both: tuple[tuple[str, Ring], ...] = (("reserve ring", "reserve"), ("plain ring", "plain"))
    reserve, plain = (Contender(f"{name}, idle {idle_s} s, {said}", make, idle_s, ring) for said, ring in both)
    return reserve, plain


RINGS: Final = tuple(
    _ring(name, make, idle_s)
    for name, make in (
        ("queue_delay 4 s", lambda setup: following(QueueDelay())),
        ("on demand", lambda setup: following(RequestCount(value=setup.slots))),
    )
    for idle_s in (10, 60, 300)
)
"""The same policy with the reserve ring and with round robin over all ready workers."""


def contender_of(name: str) -> Contender | None:
    """Whoever is called so: one of `contenders()`, or `auto` with any wait price or wish. None for nobody."""
    found = contenders().get(name)
    for prefix, make in ((AUTO, auto), (WISH, wishing)):
        if found is None and name.startswith(prefix):
            with suppress(ValueError):  # of a number, or of a limit of the policy's
                found = make(float(name.removeprefix(prefix)))
    return found


@cache
def contenders() -> dict[str, Contender]:
    """All of them by name."""
    autos = (*(auto(wait_price) for wait_price in WAIT_PRICES), *(wishing(wait_s) for wait_s in KNOB_S))
    named = [*OWN, *autos, *RIVALS, *FIXED, *(each for pair in RINGS for each in pair)]
    found = {each.name: each for each in named}
    assert len(found) == len({id(each) for each in named}), "two contenders share a name"
    return found


def learns(name: str) -> bool:
    """Whether that is `auto`, whatever it is told: it takes several times as long to simulate."""
    return name.partition(",")[0] == OWN[0].name


def bound_of(name: str) -> Callable[[Trace, Setup, ColdStarts], float] | None:
    """The lower bound called `name`, in worker-seconds; None for a contender."""
    if name == ZERO_WAIT:
        return lambda trace, setup, cold: zero_wait_ns(trace, setup, cold) / SECOND_NS
    if name.startswith(BOUND):
        wait_price = float(name.removeprefix(BOUND))
        return lambda trace, setup, cold: cost_bound(trace, setup, cold, wait_price)
    return None


@cache
def version(name: str) -> str:
    """A digest of the sources that decide what `name` comes to: a change in them, other than of words and form, makes
    old figures void."""
    digest = hashlib.sha256()
    for pattern in _sources(name):
        files = sorted(PACKAGE.glob(pattern))
        assert files, f"no source is called {pattern}"
        for file in files:
            digest.update(file.name.encode() + meaning(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def meaning(source: str) -> str:
    """What a module does: its syntax tree without comments, positions and strings that stand alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [line for line in block if not _is_words(line)])
    return ast.dump(tree)


def _is_words(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sources(name: str) -> tuple[str, ...]:
    """Patterns below the package."""
    given = ("simulator/setup.py", "simulator/traces.py")
    if bound_of(name) is not None:
        return (*given, "simulator/bounds.py")
    run = (*given, "simulator/contenders.py", "simulator/light.py", "core/billing.py")
    if name.startswith((AUTO, WISH)) or any(name == each.name for each in OWN):
        return (*run, "contract/endpoint.py", "core/scaling/*.py")
    plain = tuple(f"core/scaling/{stem}.py" for stem in ("queue_delay", "request_count", "view"))
    return (*run, *plain, "simulator/families.py", "simulator/rivals.py")
