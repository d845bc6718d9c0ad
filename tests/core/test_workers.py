"""Workers by endpoint: what is remembered is what a search through all of them would find."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.state import Workers
from orchestrator.core.worker import Worker
from tests.core.world import World

SLUGS = ("left", "right", "nobody")
STEPS = st.lists(st.tuples(st.sampled_from(["start", "change", "end", "miss", "ask"]), st.integers(0, 9)), max_size=40)


def some_workers() -> dict[str, Worker]:
    world = World("L40:10")
    for slug in SLUGS[:2]:
        world.create(slug, "5-5")
    world.until(lambda: len(world.state.workers) == 10)
    return dict(world.state.workers)


SOME = some_workers()


@given(STEPS)
def test_it_finds_what_a_search_would(steps: list[tuple[str, int]]) -> None:
    ids = list(SOME)
    workers = Workers({worker_id: SOME[worker_id] for worker_id in ids[::2]})
    for kind, number in steps:
        worker_id = ids[number]
        if kind == "start":
            workers[worker_id] = SOME[worker_id]
        elif kind == "change" and worker_id in workers:
            workers[worker_id] = replace(workers[worker_id], reason=str(number), ordinal=9 - number)
        elif kind == "end":
            workers.pop(worker_id, None)
        elif kind == "miss":
            assert workers.pop("w-404", None) is None
        for slug in SLUGS if kind == "ask" else ():
            there = [worker for worker in workers.values() if worker.endpoint == slug]
            assert workers.of(slug) == sorted(there, key=lambda worker: worker.place)


def test_the_list_is_the_askers() -> None:
    workers = Workers(SOME)
    workers.of("left").clear()
    assert len(workers.of("left")) == 5
