"""Two hundred stories of everything that can go wrong; the long profile is `python -m tests.bench.faults`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.core import absence
from orchestrator.simulator.deck import Deck
from orchestrator.simulator.episode import EpisodeFailed, live_through
from orchestrator.simulator.fate import FairWeather
from orchestrator.simulator.faults import MENU, FaultError, Storm, parse_faults
from orchestrator.simulator.host import Host, gpu_views
from orchestrator.simulator.memory_ledger import MemoryLedger
from tests.bench.faults import rules

RULES = rules()
SEEDS, SHARDS = 200, 8


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_invariants_hold_whatever_goes_wrong(shard: int) -> None:
    """A seed that fails is repeated by `python -m tests.bench.faults --seeds 1 --first SEED`."""
    outcomes: Counter[str] = Counter()
    crashes = steps = 0
    for seed in range(shard, SEEDS, SHARDS):
        story = live_through(seed, RULES, parse_faults("all"))
        outcomes += story.outcomes
        crashes, steps = crashes + story.crashes, steps + story.steps
    assert crashes > 10
    assert steps > 2_000
    assert outcomes["served"] > 200
    assert {"connection_lost", "queue_timeout"} <= outcomes.keys(), "a storm that nobody feels proves nothing"


@pytest.mark.parametrize("fault", MENU)
def test_every_fault_of_the_menu_strikes(fault: str) -> None:
    usual = {"death": 2.0}  # without an end nobody can be silent about one
    struck = live_through(5, RULES, {**usual, fault: 20.0 if MENU[fault].every_s else 4.0})
    assert struck.digest != live_through(5, RULES, usual).digest


def test_a_broken_core_is_found_and_the_story_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be proved if the checks saw nothing? An engine that forgets to stop what it is asked to stop."""
    monkeypatch.setattr(Host, "stop", lambda self, worker_id: None)
    with pytest.raises(EpisodeFailed, match=r"seed 3, \d+\.\d{3} s: AssertionError"):
        live_through(3, RULES, parse_faults("death"))


def test_charging_after_the_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that adds a minute to every end."""
    end_of = absence.end_of

    def late(*given: Any) -> Any:
        end_ns, source = end_of(*given)
        return end_ns + 60 * SECOND_NS, source

    monkeypatch.setattr(absence, "end_of", late)
    with pytest.raises(EpisodeFailed, match="charged after its end"):
        live_through(3, RULES, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deth", "'deth' is none of all, none, lost-before"),
        ("death=0", "death: the factor must be a number above 0 and at most 1000, not '0'"),
        ("death=nan", "death: the factor must be"),
        ("death=x\x1b", r"not 'x\\x1b'"),
        ("", "'' is none of"),
    ],
)
def test_a_menu_that_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(FaultError, match=said):
        parse_faults(text)


def test_menus() -> None:
    assert parse_faults("none") == {}
    assert parse_faults("all") == dict.fromkeys(MENU, 1.0)
    assert parse_faults("death, crash=10") == {"death": 1.0, "crash": 10.0}


def test_a_storm_that_has_ended_leaves_nothing_broken() -> None:
    storm = Storm("end", parse_faults("gpu-lost=50,engine-down=50,disk-full=50"), lambda _: 1.0)
    deck = Deck(gpu_views("L40:2"), RULES, storm, ledger=MemoryLedger(balances_u={"local": 10**9}), watchful=True)
    storm.begin(deck)
    deck.advance(100)
    assert storm.told
    storm.end()
    told = len(storm.told)
    deck.advance(500)
    assert len(storm.told) == told
    assert (deck.engine.ok, deck.disk_problem, {g.state for g in deck.gpus}) == (True, None, {"ok"})


def test_fair_weather_strikes_nobody() -> None:
    weather = FairWeather(lambda _: 1.0)
    assert not weather.strikes("commit.before", 0)
    assert not weather.end_is_lost("w", 0)
