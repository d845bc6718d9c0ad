"""Who may call, and where a path leads."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Closed
from orchestrator.core.routing import KeyGrant
from orchestrator.gateway.limits import Access, Limits
from tests.gateway.rig import OTHER_KEY, Rig
from tests.waiting import until


async def test_health_needs_no_key_and_readiness_follows_the_table(rig: Rig) -> None:
    assert (await rig.call("GET", "/healthz", key=None)).status == 200
    assert (await rig.call("GET", "/readyz", key=None)).status == 200
    rig.table.ready = False
    reply = await rig.call("GET", "/readyz", key=None)
    assert (reply.status, reply.code, reply.get("retry-after")) == (503, "not_ready", "1")
    head = await rig.call("HEAD", "/healthz", key=None)
    assert (head.status, head.get("content-length"), head.body) == (200, "16", b"")


async def test_missing_unknown_and_expired_keys_get_the_same_answer(rig: Rig) -> None:
    rig.table.keys[hashlib.sha256(b"old").digest()] = KeyGrant("k3", "local", expires_ns=rig.now())
    replies = [
        await rig.call("POST", "/v1/sketch", "x-request-id: same", key=None),
        await rig.call("POST", "/v1/sketch", "x-request-id: same", key="nobody"),
        await rig.call("POST", "/v1/sketch", "x-request-id: same", key="old"),
        await rig.call("POST", "/v1/no-such", "x-request-id: same", key=None),
        await rig.call("POST", "/v1/sketch", "x-request-id: same", "Authorization: Basic gd_k1_owner", key=None),
    ]
    assert {(r.status, r.code, r.body) for r in replies} == {(401, "key_invalid", replies[0].body)}
    assert replies[0].get("www-authenticate") == 'Bearer realm="gpudeck"'
    assert rig.route.meter.served_total == rig.route.meter.failed_total == 0


async def test_bearer_is_as_good_as_x_api_key_and_use_is_noted(rig: Rig) -> None:
    await rig.workers("a")
    before = rig.now()
    reply = await rig.call("POST", "/v1/sketch", "authorization: bEARER gd_k1_owner", key=None)
    assert reply.status == 200
    grant = rig.table.keys[hashlib.sha256(b"gd_k1_owner").digest()]
    assert grant.used_ns is not None
    assert grant.used_ns >= before


async def test_another_accounts_key_is_refused_on_a_private_endpoint_and_served_on_a_public_one(rig: Rig) -> None:
    await rig.workers("a")
    reply = await rig.call("POST", "/v1/sketch", key=OTHER_KEY)
    assert (reply.status, reply.code) == (403, "endpoint_private")
    rig.route.visibility = Visibility.PUBLIC
    reply = await rig.call("POST", "/v1/sketch", key=OTHER_KEY)
    assert (reply.status, reply.get("x-remaining-credits")) == (200, "0.000001")


async def test_unknown_slug_with_a_valid_key_is_404(rig: Rig) -> None:
    reply = await rig.call("POST", "/v1/no-such")
    assert (reply.status, reply.code) == (404, "no_such_endpoint")


@pytest.mark.parametrize(
    "slug",
    ["%73ketch", "sketch%2f", "..", "%2e%2e", "%2e%2e%2fsketch", "Sketch", "sketch%00", "s" * 300, "sk;etch", "*", "-"],
)
async def test_odd_slugs_are_no_slugs(rig: Rig, slug: str) -> None:
    await rig.workers("a")
    assert (await rig.call("POST", f"/v1/{slug}")).status == 404
    assert (await rig.call("POST", f"/v1/{slug}/predict")).status == 404
    assert rig.upstreams[0].seen == []


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/sketch", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v1/chat/completions", 405),
        ("TRACE", "/v1/sketch/x", 405),
        ("POST", "/v2/sketch", 501),
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/metrics", 404),
        ("POST", "/v1/", 404),
        ("POST", "//v1/sketch", 404),
    ],
)
async def test_paths_that_are_not_served(rig: Rig, method: str, target: str, status: int) -> None:
    reply = await rig.call(method, target)
    assert reply.status == status
    assert isinstance(reply.code, str)


@pytest.mark.parametrize(
    ("method", "path", "worker_sees"),
    [
        ("POST", "/v1/sketch", "/predict"),
        ("POST", "/v1/sketch?a=%2F&b", "/predict?a=%2F&b"),
        ("POST", "/v1/sketch?", "/predict?"),
        ("GET", "/v1/sketch/", "/"),
        ("DELETE", "/v1/sketch/x//y/../z%2F?q=1?2", "/x//y/../z%2F?q=1?2"),
        ("PURGE", "/v1/sketch/ok", "/ok"),
        ("GET", "http://localhost/v1/sketch/ok?x", "/ok?x"),
    ],
)
async def test_what_the_worker_is_asked_for(rig: Rig, method: str, path: str, worker_sees: str) -> None:
    (a,) = await rig.workers("a")
    assert (await rig.call(method, path)).status == 200
    assert [(s.method, s.target) for s in a.seen] == [(method, worker_sees)]


async def test_a_closed_lane_answers_for_itself(rig: Rig) -> None:
    await rig.workers("a")
    rig.lane.close(Closed(402, "credit", "Add credit."), evict=True)
    reply = await rig.call("POST", "/v1/sketch", body=b"{}")
    assert (reply.status, reply.code, reply.json()["detail"]) == (402, "credit", "Add credit.")
    rig.lane.close(Closed(503, "disabled", "Disabled.", retry_after_s=7), evict=True)
    reply = await rig.call("POST", "/v1/sketch")
    assert (reply.status, reply.code, reply.get("retry-after")) == (503, "disabled", "7")
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (0, 1)


async def test_credits_and_models_of_the_key(rig: Rig) -> None:
    rig.add_route("public", account="third", visibility=Visibility.PUBLIC)
    rig.add_route("hidden", account="third")
    reply = await rig.call("GET", "/v1/get-user-credits")
    assert reply.json() == {"credits": 25.5, "account": "local"}
    assert b"25.50" in reply.body
    models = (await rig.call("GET", "/v1/models")).json()
    assert isinstance(models["data"], list)
    assert [m["id"] for m in models["data"]] == ["public", "sketch"]
    assert (await rig.call("GET", "/v1/models", key=None)).status == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_the_model_field_names_the_endpoint(rig: Rig, path: str) -> None:
    (a,) = await rig.workers("a")
    body = b'{"messages": [], "model": "sketch"}'
    caller = await rig.caller()
    caller.request("POST", path + "?v=1", body=body)
    assert (await caller.reply()).status == 200
    caller.send(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    caller.send(b"%x\r\n%b\r\n" % (10, body[:10]) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 10, body[10:]))
    assert (await caller.reply()).status == 200
    assert [(s.target, s.body) for s in a.seen] == [(path + "?v=1", body), (path, body)]
    assert a.seen[1].get("transfer-encoding") == "chunked"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"[" * 100_000, 400, "bad_json"),
        (b"\xff", 400, "bad_json"),
        (b"[]", 400, "model_missing"),
        (b'{"model": 3}', 400, "model_missing"),
        (b'{"model": "nobody"}', 404, "no_such_endpoint"),
        (b'{"model": "hidden"}', 403, "endpoint_private"),
        (b"", 400, "body_missing"),
    ],
)
async def test_bodies_that_name_no_endpoint(rig: Rig, body: bytes, status: int, code: str) -> None:
    rig.add_route("hidden", account="third")
    caller = await rig.caller()
    caller.request("POST", "/v1/chat/completions", body=body)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (status, code)
    caller.request("GET", "/healthz")
    assert (await caller.reply()).status == 200, "the connection stays usable"


async def test_a_model_body_over_its_limit_is_413(rig: Rig) -> None:
    await rig.listen(Limits(collect_bytes=1_000))
    assert (await rig.call("POST", "/v1/embeddings", body=b"x" * 1_001)).status == 413
    caller = await rig.caller()
    caller.request("POST", "/v1/embeddings", "Transfer-Encoding: chunked")
    caller.send(b"3e8\r\n" + b"x" * 1_000 + b"\r\n1\r\nx\r\n")
    assert (await caller.reply()).code == "body_too_large"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:1", 200),
        ("gpu.example", 200),
        ("evil.example", 421),
        ("127.0.0.1.nip.io", 421),
        ("localhost:99999", 421),
        ("", 421),
        ("a b", 400),
        ("localhost:x", 400),
        ("user@localhost", 400),
    ],
)
async def test_host_must_be_ours(rig: Rig, host: str, status: int) -> None:
    await rig.listen(access=Access(hosts=frozenset({"GPU.example"})))
    caller = await rig.caller()
    for _ in range(2):  # the second is answered from memory
        caller.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert (await caller.reply()).status == status
        if status == 400:
            break


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Origin: http://localhost:3000", 403),
        ("Origin: https://App.example", 200),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: none", 200),
    ],
)
async def test_foreign_web_pages_are_refused(rig: Rig, line: str, status: int) -> None:
    await rig.listen(access=Access(origins=frozenset({"https://app.example"})))
    await rig.workers("a")
    assert (await rig.call("POST", "/v1/sketch", line)).status == status


async def test_an_answer_before_the_body_keeps_the_connection_when_the_rest_is_short(rig: Rig) -> None:
    caller = await rig.caller()
    caller.request("POST", "/v1/no-such", "Content-Length: 5000")
    assert (await caller.reply()).status == 404
    caller.send(b"x" * 5_000)
    caller.request("GET", "/healthz")
    assert (await caller.reply()).status == 200
    caller.request("POST", "/v1/no-such", "Content-Length: 5000000")
    reply = await caller.reply()
    assert (reply.status, reply.get("connection")) == (404, "close")
    assert await caller.closed() == b""
    caller.close()
    await until(lambda: rig.gateway.connections == 0)
