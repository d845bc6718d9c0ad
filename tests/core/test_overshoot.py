"""How far a balance can fall below $10: by what burns in a tick and in the grace of the drain, no further (B8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.endpoint import RequestCount
from orchestrator.core.billing import due_u
from orchestrator.core.credit import FLOOR_U
from tests.core.world import World

STOP_S = 0.1
"""How long a stop takes in this world."""


def spend_down_to(world: World, balance_u: int) -> None:
    """As if the money had gone earlier: eight hours of it would take as long to simulate as all other tests."""
    account = world.state.accounts["local"]
    gone_u = world.snapshot().accounts[0].balance_u - balance_u
    accounts = {"local": replace(account, balance_u=account.balance_u - gone_u)}
    world.state = replace(world.state, accounts=accounts)
    world.ledger.balances_u["local"] -= gone_u


@pytest.mark.parametrize("tick_s", [0.25, 2.0, 20.0])
@pytest.mark.parametrize("busy", [False, True])
def test_the_overshoot_is_bounded_by_a_tick_and_the_grace(tick_s: float, busy: bool) -> None:
    """Two endpoints at full burn; requests that would run for ever are cut off when the grace is over."""
    world = World("L40:4", credit_u=300 * DOLLAR_U)
    for slug in ("one", "two"):
        world.create(slug, setup="1-2", policy=RequestCount(value=1), idle_timeout_s=300)
    world.until(lambda: world.ready("one") == world.ready("two") == 1)
    for slug in ("one", "two"):
        for _ in range(2):
            world.request(slug, service_s=1e6)
    world.until(lambda: world.ready("one") == world.ready("two") == 2)
    burn_uh = world.snapshot().accounts[0].per_hour_u
    assert burn_uh == 2 * (2_670_000 + 15_264_000)
    if not busy:
        world.crash()  # its callers are gone; the idle timeout is far away
    spend_down_to(world, FLOOR_U + DOLLAR_U // 10)
    world.tick_s = tick_s
    world.until(lambda: world.workers("one") == world.workers("two") == [], limit_s=200, step_s=0.05)
    world.advance(60)
    balance_u = world.snapshot().accounts[0].balance_u
    grace_s = world.state.rules.suspend_grace_s if busy else 0
    # A tick to notice, the grace, a tick to see that it is over, the stop itself.
    bound_u = due_u(burn_uh, int((2 * tick_s + grace_s + STOP_S) * SECOND_NS)) + 4
    assert FLOOR_U - bound_u <= balance_u < FLOOR_U
    assert world.snapshot().accounts[0].per_hour_u == 0
