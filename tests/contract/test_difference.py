"""Changes between two values: whatever the two are, applying what was told of them through JSON gives the later one."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from app.bench.deck import frame
from orchestrator.contract.base import Received
from orchestrator.contract.difference import SKIP_MAX, Misfit, applied, difference
from orchestrator.contract.feed import encoded, heard, told
from orchestrator.contract.frames import SERVER_FRAMES, Changed, Feed
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import finished
from tests.app import fakes


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Leaf(Received):
    number: int
    colour: Colour | None = None


class Other(Received):
    number: int
    words: str = ""


class Tree(Received):
    seq: int
    share: float | None
    lit: bool
    leaf: Leaf | Other | None
    leaves: tuple[Leaf, ...]
    series: tuple[int, ...]
    names: tuple[str, ...]
    env: dict[str, str]


LEAVES = st.builds(Leaf, number=st.integers(0, 3), colour=st.none() | st.sampled_from(Colour))
KEYS = st.sampled_from(["=", ".", "#", "A"])
TREES = st.builds(
    Tree,
    seq=st.integers(0, 2),
    share=st.none() | st.sampled_from([0.0, 1.0, 2.5]),
    lit=st.booleans(),
    leaf=st.none() | LEAVES | st.builds(Other, number=st.integers(0, 2), words=st.sampled_from(["", "=", "x"])),
    leaves=st.lists(LEAVES, max_size=5).map(tuple),
    series=st.lists(st.integers(0, 2), max_size=2 * SKIP_MAX).map(tuple),
    names=st.lists(KEYS, max_size=4).map(tuple),
    env=st.dictionaries(KEYS, KEYS, max_size=3),
)


def through_json(changes: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(changes))
    return found


@settings(deadline=None)
@given(TREES, TREES)
def test_changes_lead_from_any_value_to_any_other(before: Tree, after: Tree) -> None:
    changes = through_json(difference(before, after))
    assert applied(before, changes) == after
    assert (changes == {}) == (before == after)


@settings(deadline=None)
@given(TREES, st.integers(0, SKIP_MAX - 1), st.lists(LEAVES, max_size=3), st.lists(st.integers(0, 9), max_size=3))
def test_what_moves_on_is_told_by_what_came(before: Tree, gone: int, leaves: list[Leaf], values: list[int]) -> None:
    after = before.model_copy(
        update={"leaves": (*before.leaves[gone:], *leaves), "series": (*before.series[gone:], *values)}
    )
    changes = through_json(difference(before, after))
    assert applied(before, changes) == after


def test_a_series_and_a_log_that_moved_on_cost_what_is_new() -> None:
    leaves = tuple(Leaf(number=n) for n in range(100))
    before = Tree(seq=1, share=None, lit=False, leaf=None, leaves=leaves, series=tuple(range(120)), names=(), env={})
    came = Leaf(number=100)
    after = before.model_copy(update={"leaves": (*leaves[1:], came), "series": tuple(range(2, 122))})
    assert through_json(difference(before, after)) == {
        "leaves": {"#": [1, 99, {}, [{"number": 100, "colour": None}]]},
        "series": {"#": [2, 118, {}, [120, 121]]},
    }


def test_one_item_that_changed_costs_that_item_and_leaves_the_others_the_same_objects() -> None:
    before = frame(8, 5, 20)
    worker = before.endpoints[2].workers[1].model_copy(update={"running": 9})
    workers = (before.endpoints[2].workers[0], worker, *before.endpoints[2].workers[2:])
    endpoint = before.endpoints[2].model_copy(update={"workers": workers})
    after = before.model_copy(update={"endpoints": (*before.endpoints[:2], endpoint, *before.endpoints[3:])})
    changes = through_json(difference(before, after))
    assert changes == {"endpoints": {"#": [0, 5, {"2": {".": {"workers": {"#": [0, 4, {"1": {".": {"running": 9}}}, []]}}}}, []]}}  # fmt: skip  # noqa: E501
    now = applied(before, changes)
    assert now == after
    assert [new is old for new, old in zip(now.endpoints, before.endpoints, strict=True)] == [True, True, False, True, True]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    "changes",
    [
        {"leaf": {".": {"number": 1}}},  # there is no leaf in it
        {"leaves": {".": {}}},
        {"leaves": {"#": [0, 3, {}, []]}},
        {"leaves": {"#": [-1, 1, {}, []]}},
        {"leaves": {"#": [0, 1, {"1": {".": {}}}, []]}},
        {"leaves": {"#": [0, 1, {"-1": {".": {}}}, []]}},
        {"leaves": {"#": [0, True, {}, []]}},
        {"leaves": {"#": [0, 1, {}]}},
        {"seq": {"+": 1}},
        {"seq": {}},
    ],
)
def test_changes_of_something_else_are_refused(changes: dict[str, Any]) -> None:
    before = Tree(seq=1, share=None, lit=False, leaf=None, leaves=(Leaf(number=1),), series=(), names=(), env={})
    with pytest.raises(Misfit):
        applied(before, changes)


@pytest.mark.parametrize("value", ["many", None, [1], {"=": "many"}])
def test_values_are_validated_like_those_of_a_whole(value: Any) -> None:
    before = Leaf(number=1)
    with pytest.raises(ValidationError):
        applied(before, {"number": value})


def test_a_field_that_only_a_newer_peer_knows_is_ignored() -> None:
    assert applied(Leaf(number=1), {"number": 2, "weight": {"?": 1}}) == Leaf(number=2)


def sent(before: Snapshot | None, after: Snapshot) -> Feed | Changed:
    """The frame as the other side receives it."""
    received = SERVER_FRAMES.validate_json(finished(encoded(finished(told(before, after)))))
    assert isinstance(received, Feed | Changed)
    return received


def test_a_feed_of_busy_frames_arrives_as_it_was_sent() -> None:
    states = [*(frame(number, 6, 20) for number in (400, 401, 404, 470)), fakes.rich(seq=500), fakes.bare(),
              frame(480, 7, 21), frame(481, 5, 10)]  # fmt: skip
    before: Snapshot | None = None
    known: Snapshot | None = None
    for after in states:
        known = heard(known, sent(before, after))
        assert known == after
        before = after


@pytest.mark.parametrize("state", [fakes.rich(seq=1), fakes.bare(), frame(400, 3, 6)])
def test_a_whole_snapshot_is_encoded_item_by_item_to_what_it_is_at_once(state: Snapshot) -> None:
    whole = Feed(snapshot=state)
    assert finished(encoded(whole)).decode() == whole.model_dump_json()
    items = len(state.gpus) + len(state.endpoints) + len(state.events) + len(state.models)
    assert sum(1 for _ in encoded(whole)) >= items


def test_changes_of_another_snapshot_are_refused() -> None:
    change = sent(frame(1, 2, 2), frame(2, 2, 2))
    with pytest.raises(Misfit, match="nothing is known"):
        heard(None, change)
    with pytest.raises(Misfit, match="snapshot 3 is known"):
        heard(frame(2, 2, 2), change)


def test_a_frame_in_which_everything_changed_is_still_a_fifth_of_the_whole() -> None:
    before, after = frame(400, 50, 500), frame(401, 50, 500)
    whole: BaseModel = finished(told(None, after))
    assert len(finished(told(before, after)).model_dump_json()) * 5 < len(whole.model_dump_json())
