"""What policies answered when their version in `RULES` was set: other answers need another version.

Journals keep decisions with their inputs, and `gpudeck why --replay` decides them again: without a new version it would
show every older decision of a changed policy as wrong.
"""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.core.scaling import RULES
from orchestrator.simulator.light import Setup
from orchestrator.simulator.traces import Shape
from tests.core.observations import recorded

ANSWERS = {
    ("queue_delay", 2): "b3739f955a91153b",
    ("request_count", 1): "e2c4903cca2af5f6",
    ("concurrency", 1): "1a56e83c3d3f17c0",
    ("auto", 5): "3121b2258f522fbc",
}


@pytest.mark.parametrize(
    "policy", [QueueDelay(), RequestCount(), Concurrency(), Auto()], ids=lambda policy: policy.kind
)
def test_other_answers_have_another_version(policy: ScalingPolicy) -> None:
    digest = hashlib.sha256()
    for traffic, setup in (
        (Shape("spike", 20, 1_200, 8), Setup(0, 4)),
        (Shape("on-off", 60, 1_200, 8), Setup(1, 5, 4)),
    ):
        recorder, _ = recorded(policy, traffic.draw(3), setup, cold_s=20.0)
        for said in recorder.said:
            keep_ms = None if said.keep_ns is None else said.keep_ns // 1_000_000
            digest.update(f"{said.desired} {keep_ms} {said.why.rule};".encode())
    expected = ANSWERS.get((policy.kind, RULES[policy.kind]))
    assert digest.hexdigest()[:16] == expected, (
        f"{policy.kind} decides otherwise than version {RULES[policy.kind]} did: raise its version in RULES and note "
        "the new answers here"
    )
