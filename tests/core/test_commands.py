"""Admission, idempotence, undo, keys and accounts."""

from __future__ import annotations

import pytest

from orchestrator.contract.command import (
    Accepted,
    CreateAccount,
    CreateEndpoint,
    CreateKey,
    DeleteEndpoint,
    RefusalCode,
    RevokeKey,
    Shutdown,
    TopUp,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.core import events as ev
from orchestrator.core.admission import quote
from orchestrator.core.effects import GrantKey, Leave, WithdrawKey
from orchestrator.core.state import Draft
from tests.core.world import World


def spec(**fields: object) -> EndpointSpec:
    base = {"slug": "echo", "model": "echo", "gpu_type": "L40", "baseline": 1, "maximum": 2}
    return EndpointSpec.model_validate({**base, **fields})


@pytest.mark.parametrize(
    ("fields", "code", "field", "words"),
    [
        ({"model": "nope"}, RefusalCode.NOT_FOUND, "model", "there are: comfyui"),
        ({"gpu_type": "B200"}, RefusalCode.NOT_FOUND, "gpu_type", "has no price"),
        ({"gpu_type": "H100"}, RefusalCode.GPU, "gpu_type", "this host has no H100 (it has: L40)"),
        ({"baseline": 5, "maximum": 5}, RefusalCode.GPU, "baseline", "4 on this host"),
        ({"maximum": 11}, RefusalCode.LIMIT, "maximum", "raise workers_max in the settings"),
        ({"account": "ghost"}, RefusalCode.NOT_FOUND, "account", "there are: local"),
        ({"model": "vllm"}, RefusalCode.INVALID, "env", "MODEL_ID"),
    ],
)
def test_a_create_is_refused_naming_field_and_limit(
    fields: dict[str, object], code: RefusalCode, field: str, words: str
) -> None:
    world = World("L40:4")
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec(**fields)))
    assert (refusal.code, refusal.field) == (code, field)
    assert words in refusal.message
    assert dict(world.state.endpoints) == {}


@pytest.mark.parametrize("slug", ["chat", "models", "get-user-credits", "-a", "a-", "A", "a_b", "", "a" * 64, "ä"])
def test_slugs_that_cannot_be(slug: str) -> None:
    with pytest.raises(ValueError, match="slug"):
        spec(slug=slug)


def test_baseline_above_maximum_says_what_maximum_means() -> None:
    with pytest.raises(ValueError, match="maximum counts ALL workers"):
        spec(baseline=3, maximum=2)


def test_a_slug_is_unique_per_host() -> None:
    world = World()
    world.create()
    assert world.refused(CreateEndpoint(id=world.id(), spec=spec())).code is RefusalCode.EXISTS


def test_the_sum_of_baselines_is_limited_by_the_gpus() -> None:
    world = World("L40:3")
    world.create("one", setup="2-2")
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec(baseline=2)))
    assert refusal.code is RefusalCode.GPU
    assert "2 reserved" in refusal.message
    assert "at most 1 are left" in refusal.message


def test_concurrency_goes_back_to_the_models_own_figure() -> None:
    world = World()
    world.create(concurrency=7)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(concurrency="default")))
    endpoint = world.state.endpoints["echo"]
    assert (endpoint.spec.concurrency, endpoint.concurrency) == (None, endpoint.model.concurrency)
    assert endpoint.generation == 2, "it changes what runs inside a worker's slot table, so it rolls"


def test_the_same_command_twice_takes_effect_once() -> None:
    world = World()
    command = TopUp(id="top-up-1", account="local", amount_u=5_000_000)
    before = world.state.accounts["local"].balance_u
    assert world.command(command) == world.command(command)
    assert world.state.accounts["local"].balance_u == before + 5_000_000


def test_the_same_id_with_another_body_is_refused() -> None:
    world = World()
    world.command(TopUp(id="top-up-1", account="local", amount_u=5_000_000))
    assert world.refused(TopUp(id="top-up-1", account="local", amount_u=6_000_000)).code is RefusalCode.ID_REUSED


def test_a_refused_command_may_pass_later_with_the_same_id() -> None:
    world = World(credit_u=0)
    command = CreateEndpoint(id="create-01", spec=spec(baseline=0))
    world.refused(command)
    world.top_up(10_000_000)
    assert isinstance(world.command(command), Accepted)


def test_what_the_ledger_refused_did_not_happen() -> None:
    world = World()
    before = world.state
    world.command(CreateEndpoint(id="create-01", spec=spec()))
    world.handle(ev.CommandUndone("create-01", "disk full"))
    world.advance(5)
    assert dict(world.state.endpoints) == {}
    assert "create-01" not in world.state.answers
    world.command(TopUp(id="top-up-1", account="local", amount_u=5_000_000))
    world.handle(ev.CommandUndone("top-up-1", "disk full"))
    assert world.state.accounts["local"].balance_u == before.accounts["local"].balance_u


def test_an_undone_update_restores_the_endpoint() -> None:
    world = World()
    world.create()
    world.command(UpdateEndpoint(id="update-1", slug="echo", changes=EndpointChanges(maximum=4)))
    world.handle(ev.CommandUndone("update-1", "disk full"))
    assert world.state.endpoints["echo"].spec.maximum == 2


def test_an_invalid_update_names_the_field() -> None:
    world = World()
    world.create()
    refusal = world.refused(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(idle_timeout_s=301)))
    assert refusal.field == "idle_timeout_s"
    assert "300" in refusal.message


def test_unknown_endpoints_are_named_with_those_there_are() -> None:
    world = World()
    world.create()
    refusal = world.refused(DeleteEndpoint(id=world.id(), slug="other"))
    assert refusal.code is RefusalCode.NOT_FOUND
    assert "there are: echo" in refusal.message


def test_keys_are_granted_withdrawn_and_undone() -> None:
    world = World()
    outcome = world.command(CreateKey(id="key-0001", name="laptop", ttl_s=60))
    assert isinstance(outcome, Accepted)
    assert outcome.key_id == "abcd1234"
    assert outcome.secret is None
    grant = next(e for e in world.effects if isinstance(e, GrantKey))
    assert grant.expires_ns == world.now_ns + 60 * 10**9
    world.command(RevokeKey(id=world.id(), key_id="abcd1234"))
    assert any(isinstance(e, WithdrawKey) for e in world.effects)
    assert world.state.keys["abcd1234"].revoked_ns == world.now_ns


def test_accounts_own_their_endpoints_and_credit() -> None:
    world = World()
    world.command(CreateAccount(id=world.id(), name="lab"))
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec(account="lab", baseline=0)))
    assert refusal.code is RefusalCode.CREDIT
    assert world.refused(CreateAccount(id=world.id(), name="lab")).code is RefusalCode.EXISTS


def test_shutdown_leave_lets_go_at_once_and_keeps_the_workers() -> None:
    world = World()
    world.create()
    world.until(lambda: world.ready() == 1)
    outcome = world.command(Shutdown(id=world.id(), mode="leave"))
    assert isinstance(outcome, Accepted)
    assert "$2.67/h" in outcome.message
    assert any(isinstance(e, Leave) for e in world.effects)
    assert len(world.running) == 1
    assert world.refused(TopUp(id=world.id(), account="local", amount_u=1)).code is RefusalCode.STOPPING
    world.advance(1)
    assert world.ready() == 1, "a tick that still comes takes no worker from those who wait for their turn"


def test_shutdown_drain_lets_requests_finish_then_stops_all() -> None:
    world = World()
    world.create()
    world.until(lambda: world.ready() == 1)
    caller = world.request(service_s=4)
    world.command(Shutdown(id=world.id(), mode="drain"))
    world.advance(3)
    assert not world.left
    world.advance(3)
    assert caller.done_ns is not None
    assert world.left
    assert world.running == {}
    assert dict(world.state.intervals) == {}


def test_the_quote_agrees_with_the_command() -> None:
    world = World("L40:4", credit_u=100_000_000)
    asked = spec(baseline=1, maximum=2)
    view = quote(Draft(world.state, world.now_ns), asked)
    assert view.refusal is None
    assert view.baseline_per_hour_u == 2_670_000
    assert view.worst_case_per_hour_u == 17_934_000
    assert view.gate_u == 64_080_000
    assert view.warning_at_u == 26_700_000
    dear = spec(baseline=2, maximum=5)
    assert quote(Draft(world.state, world.now_ns), dear).refusal_field == "baseline"
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=dear))
    assert refusal.message == quote(Draft(world.state, world.now_ns), dear).refusal
