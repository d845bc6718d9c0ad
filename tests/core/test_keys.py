"""Keys and secrets in the core: scopes that are checked, masks that are no values."""

from __future__ import annotations

import pytest

from orchestrator.contract.command import Accepted, CreateAccount, CreateEndpoint, CreateKey, TopUp, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.secrets import MASK, is_secret, masked
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.keys import KEYS_MAX, KEYS_OVER_KEPT
from orchestrator.core.writes import EndpointSaved, KeyAdded
from tests.core.world import World

SECRETS = {"HF_TOKEN": "hf_abc", "REVISION": "main"}


def two_accounts() -> World:
    world = World()
    world.command(CreateAccount(id=world.id(), name="other"))
    world.command(TopUp(id=world.id(), account="other", amount_u=1_000_000_000))
    world.create("mine", setup="0-1")
    world.create("theirs", setup="0-1", account="other")
    world.create("open", setup="0-1", account="other", visibility="public")
    return world


def test_a_scope_is_granted_written_and_shown() -> None:
    world = two_accounts()
    command = CreateKey(id=world.id(), name="ci", endpoints=("open", "mine", "mine"))
    assert isinstance(world.command(command), Accepted)
    grant = next(e for e in world.effects if isinstance(e, fx.GrantKey))
    written = next(w for w in world.writes if isinstance(w, KeyAdded))
    assert grant.endpoints == written.endpoints == world.snapshot().keys[0].endpoints == ("mine", "open")


@pytest.mark.parametrize("slug", ["theirs", "nobody"])
def test_a_scope_outside_the_account_is_refused(slug: str) -> None:
    world = two_accounts()
    refusal = world.refused(CreateKey(id=world.id(), name="ci", endpoints=("mine", slug)))
    assert (refusal.code, refusal.field) == ("not_found", "endpoints")
    assert refusal.message == f"endpoints: account local has no endpoint '{slug}'"
    assert world.snapshot().keys == ()


def make_keys(world: World, count: int, ttl_s: int | None) -> list[str]:
    """Ids of the keys that were made, each by a command of its own."""
    ids = [f"{len(world.state.keys):04d}{number:04d}" for number in range(count)]
    for key_id in ids:
        command = CreateKey(id=world.id(), name="call", ttl_s=ttl_s)
        world.handle(ev.CommandReceived(command, ev.Mint(key_id, key_id.encode())))
        assert isinstance(world.answers[command.id], Accepted), world.answers[command.id]
    return ids


def test_keys_that_are_over_do_not_count_and_the_oldest_of_them_are_forgotten() -> None:
    world = World()
    (lasting,) = make_keys(world, 1, None)
    short = make_keys(world, KEYS_MAX - 1, 60)
    refusal = world.refused(CreateKey(id=world.id(), name="one too many"))
    assert (refusal.code, refusal.field) == ("limit", "name")
    world.advance(60)
    (newest,) = make_keys(world, 1, None)
    assert list(world.state.keys) == [lasting, *short[-KEYS_OVER_KEPT:], newest]
    withdrawn = [e.key_id for e in world.effects if isinstance(e, fx.WithdrawKey)]
    assert withdrawn == short[:-KEYS_OVER_KEPT]
    assert {grant.key_id for grant in world.table.keys.values()} == set(world.state.keys)


def test_secrets_are_masked_in_the_snapshot_and_kept_for_the_workers() -> None:
    world = World()
    world.create(env=SECRETS, setup="1-1")
    world.until(lambda: world.ready() == 1)
    assert world.snapshot().endpoints[0].spec.env == {"HF_TOKEN": MASK, "REVISION": "main"}
    assert "hf_abc" not in world.snapshot().model_dump_json()
    start = next(e for e in world.effects if isinstance(e, fx.StartWorker))
    assert start.spec.env == SECRETS
    assert "hf_abc" not in repr((world.state.endpoints, world.state.workers, start, world.written(EndpointSaved)))
    assert not any("hf_abc" in note for note in world.notes())


def test_an_update_with_the_mask_keeps_the_secret_and_with_a_value_replaces_it() -> None:
    world = World()
    world.create(env=SECRETS, setup="0-1")

    def update(env: dict[str, str]) -> dict[str, str]:
        world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(env=env)))
        return next(w for w in reversed(world.writes) if isinstance(w, EndpointSaved)).spec.env

    assert update({"HF_TOKEN": MASK, "REVISION": "dev"}) == {"HF_TOKEN": "hf_abc", "REVISION": "dev"}
    assert world.state.endpoints["echo"].generation == 2
    before = len(world.written(EndpointSaved))
    update({"HF_TOKEN": MASK, "REVISION": "dev"})
    assert len(world.written(EndpointSaved)) == before, "nothing changed, so nothing rolls"
    assert update({"HF_TOKEN": "hf_new"}) == {"HF_TOKEN": "hf_new"}
    refusal = world.refused(
        UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(env={"OTHER_TOKEN": MASK}))
    )
    assert refusal.field == "env"
    assert "give OTHER_TOKEN anew" in refusal.message


def test_a_copy_of_a_mask_is_no_value() -> None:
    world = World()
    spec = EndpointSpec(slug="echo", model="echo", gpu_type="L40", baseline=0, maximum=1, env={"HF_TOKEN": MASK})
    assert world.refused(CreateEndpoint(id=world.id(), spec=spec)).field == "env"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True), ("OPENAI_API_KEY", True), ("APIKEY", True), ("client_secret", True), ("PASSWORD", True),
        ("DBPASSWORD", True), ("token", True), ("MAX_TOKENS", False), ("MONKEY", False), ("KEYBOARD", False),
        ("REVISION", False), ("TOKENIZER", False),
    ],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret
    assert masked({name: "value", "EMPTY_TOKEN": ""}) == {name: MASK if secret else "value", "EMPTY_TOKEN": ""}
