"""Which commands count as one that is sent again."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.contract.command import Command, CreateEndpoint, SetMail, TopUp, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.core.replay import digest_of
from orchestrator.core.writes import CommandDone
from tests.core.world import World


def create(command_id: str = "create-01", **env: str) -> CreateEndpoint:
    spec = EndpointSpec(slug="echo", model="echo", gpu_type="L40", baseline=0, maximum=1, env=env)
    return CreateEndpoint(id=command_id, spec=spec)


def update(**env: str) -> UpdateEndpoint:
    return UpdateEndpoint(id="update-01", slug="echo", changes=EndpointChanges(env=env))


def whole(command: Command) -> bytes:
    return hashlib.sha256(command.model_dump_json(exclude={"id"}).encode()).digest()


@pytest.mark.parametrize("make", [create, update])
def test_no_value_of_a_secret_is_in_the_digest(make: type[CreateEndpoint]) -> None:
    digest = digest_of(make(HF_TOKEN="hunter2", SIZE="1"))
    assert digest == digest_of(make(HF_TOKEN="hunter3", SIZE="1"))
    assert digest != whole(make(HF_TOKEN="hunter2", SIZE="1"))
    assert digest != digest_of(make(HF_TOKEN="hunter2", SIZE="2")), "everything else counts"
    assert digest != digest_of(make(SIZE="1")), "that there is one counts too"


@pytest.mark.parametrize(
    "command",
    [
        create(), create(SIZE="1"), update(SIZE="1"), TopUp(id="top-up-01", account="local", amount_u=1),
        SetMail(id="mail-0001", account="local", mail="a@example.org"),
        UpdateEndpoint(id="update-01", slug="echo", changes=EndpointChanges(maximum=3)),
    ],
)  # fmt: skip
def test_without_secrets_it_is_what_older_ledgers_hold(command: Command) -> None:
    assert digest_of(command) == whole(command)


def test_the_id_does_not_count() -> None:
    assert digest_of(create("create-01")) == digest_of(create("create-02"))


def test_what_is_written_is_this_digest() -> None:
    written: list[CommandDone] = []
    world = World()
    world.mirror = lambda writes: written.extend(w for w in writes if isinstance(w, CommandDone))
    command = create(HF_TOKEN="hunter2")
    world.command(command)
    assert [(done.command_id, done.digest) for done in written] == [("create-01", digest_of(command))]
