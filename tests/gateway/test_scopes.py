"""Keys that are confined to some endpoints."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.routing import KeyGrant
from tests.gateway.rig import Rig

SCOPED = "gd_k3_scoped"


@pytest.fixture
async def scoped(rig: Rig) -> Rig:
    """A key of `local` for sketch and hidden, beside an endpoint of its own account and two of others."""
    grant = KeyGrant("k3", "local", endpoints=frozenset({"sketch", "hidden"}))
    rig.table.keys[hashlib.sha256(SCOPED.encode()).digest()] = grant
    for slug, fields in (
        ("mine", {}), ("hidden", {"account": "third"}), ("open", {"account": "third", "visibility": Visibility.PUBLIC}),
    ):  # fmt: skip
        await rig.workers(slug, lane=rig.add_route(slug, **fields).lane)
    await rig.workers("a")
    return rig


@pytest.mark.parametrize(
    ("slug", "status", "code"),
    [
        ("sketch", 200, None),
        ("mine", 403, "key_scope"),
        ("open", 403, "key_scope"),
        ("hidden", 403, "endpoint_private"),
        ("nobody", 404, "no_such_endpoint"),
    ],
)
async def test_a_key_reaches_its_endpoints_and_no_others(scoped: Rig, slug: str, status: int, code: str | None) -> None:
    for reply in (
        await scoped.call("POST", f"/v1/{slug}", key=SCOPED),
        await scoped.call("POST", f"/v1/{slug}/any/path", key=SCOPED),
        await scoped.call("POST", "/v1/chat/completions", body=b'{"model": "%s"}' % slug.encode(), key=SCOPED),
    ):
        assert reply.status == status
        if code is not None:
            assert reply.code == code


async def test_the_list_of_models_has_what_the_key_may_call(scoped: Rig) -> None:
    async def listed(key: str) -> list[str]:
        data = (await scoped.call("GET", "/v1/models", key=key)).json()["data"]
        assert isinstance(data, list)
        return [entry["id"] for entry in data]

    assert await listed(SCOPED) == ["sketch"]
    assert await listed("gd_k1_owner") == ["mine", "open", "sketch"]


async def test_a_key_without_a_scope_reaches_all_of_its_account(scoped: Rig) -> None:
    assert [(await scoped.call("POST", f"/v1/{slug}")).status for slug in ("mine", "sketch", "open")] == [200] * 3
