"""Who may connect how often, and what becomes of wrong keys."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway import descriptors
from orchestrator.gateway.descriptors import PER_CLIENT, RESERVE, make_room
from orchestrator.gateway.limits import Limits, access_of, limits_of
from orchestrator.gateway.peers import NAMES_MAX, Census, Failures, peer_name
from orchestrator.gateway.sockets import KEEPALIVE_S
from orchestrator.settings import SettingsError, load_settings
from tests.gateway.rig import KEY, Rig
from tests.waiting import until

FEW = Limits(wrong_keys=3, wrong_key_pause_s=60)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "192.0.2.1", False),
        ("/run/socket", "", True),
    ],
)
def test_what_stands_for_a_peer(one: str, other: str, same: bool) -> None:
    assert (peer_name(one) == peer_name(other)) is same


def test_the_census_counts_all_and_each() -> None:
    census = Census(limit=4, peer_limit=2)
    codes = []
    for present, peer in enumerate([b"a", b"a", b"a", b"b", b"b"]):
        refusal = census.enter(peer, present)
        codes.append(refusal and (refusal.status, refusal.code, refusal.retry_after_s))
    of_peer, in_all = (503, "too_many_connections_of_peer", 1), (503, "too_many_connections", 1)
    assert codes == [None, None, of_peer, None, in_all]
    for peer in (b"a", b"a", b"a", b"b", b"b"):
        census.leave(peer)
    assert census._peers == {}
    assert census.enter(b"a", 0) is None


def test_failures_are_forgiven_one_by_one() -> None:
    failures = Failures(burst=3, pause_s=2)
    now_ns = 10**18

    def told(at_s: float, peer: bytes = b"p", key: bytes | None = None) -> int | None:
        """Retry-After, None for a plain 401. Each key is a new one unless given."""
        nonlocal serial
        serial += 1
        refusal = failures.count(peer, key or b"%d" % serial, now_ns + int(at_s * SECOND_NS))
        return refusal and refusal.retry_after_s

    serial = 0
    assert [told(0), told(0), told(0)] == [None] * 3
    assert [told(0), told(0.5), told(1.9)] == [2, 2, 1], "asking in vain does not make it longer"
    assert told(2) is None
    assert told(2) == 2
    assert told(0, peer=b"q") is None
    assert [told(8), told(8), told(8), told(8)] == [None, None, None, 2]
    assert [told(100, peer=b"%d" % n, key=b"stale") for n in range(4)] == [None, None, None, 2], "one key, many peers"
    assert failures.count(b"p", None, now_ns) is None, "no key is no attempt"


def test_memory_of_failures_is_bounded_and_holds_no_key() -> None:
    failures = Failures(burst=1, pause_s=1)
    for n in range(NAMES_MAX):
        failures.count(b"p%d" % n, b"key %d" % n, 1)
    assert len(failures._spent_ns) == NAMES_MAX
    assert not any(b"key" in name for name in failures._spent_ns)


async def test_too_many_wrong_keys_are_429_and_a_right_one_is_served(rig: Rig) -> None:
    await rig.listen(FEW)
    await rig.workers("a")
    assert [(await rig.call("GET", "/v1/models", key=f"wrong {n}")).status for n in range(3)] == [401] * 3
    caller = await rig.caller()
    caller.request("GET", "/v1/models", key="wrong")
    reply = await caller.reply()
    assert (reply.status, reply.code, reply.get("retry-after")) == (429, "too_many_failures", "60")
    assert await caller.closed() == b"", "the cheapest way to try on is closed"
    for _ in range(10):
        assert (await rig.call("POST", "/v1/sketch", body=b"{}", key=KEY)).status == 200
    assert (await rig.call("GET", "/v1/models", key="wrong")).status == 429
    assert (await rig.call("GET", "/v1/models", key=None)).status == 401


async def test_a_peer_has_its_share_of_connections(rig: Rig) -> None:
    await rig.listen(Limits(connections=10, connections_per_peer=2))
    for _ in range(2):
        await rig.caller()
    await until(lambda: rig.gateway.connections == 2)
    extra = await rig.caller()
    reply = await extra.reply()
    assert (reply.status, reply.code, reply.get("connection")) == (503, "too_many_connections_of_peer", "close")
    assert reply.get("retry-after") == "1"
    rig.callers[0].close()
    extra.close()
    await until(lambda: rig.gateway.connections == 1)
    assert (await rig.call("GET", "/healthz")).status == 200


def limit_of(soft: int, hard: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pretend that the process may have so many descriptors; what it sets is in the list."""
    current = [(soft, hard)]
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _what: current[-1])
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _what, limits: current.append(limits))
    return current


def test_the_soft_limit_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limit_of(1_024, 524_288, monkeypatch)
    assert make_room(4_096) == 4_096
    assert limits[-1] == (4_096 * PER_CLIENT + RESERVE, 524_288)


def test_a_hard_limit_means_fewer_clients(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    limits = limit_of(256, 1_024, monkeypatch)
    assert make_room(4_096) == 448
    assert limits[-1] == (1_024, 1_024)
    assert "ulimit -n of 1024 allows 448 client connections, not 4096; 8320 would do" in caplog.text


def test_plenty_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limit_of(descriptors.resource.RLIM_INFINITY, descriptors.resource.RLIM_INFINITY, monkeypatch)
    assert make_room(4_096) == 4_096
    assert len(limits) == 1


async def test_with_fewer_descriptors_a_peers_share_shrinks_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.gateway.server.make_room", lambda _connections: 4)
    await rig.listen(Limits(connections=100, connections_per_peer=50))
    for _ in range(2):
        await rig.caller()
    await until(lambda: rig.gateway.connections == 2)
    assert (await (await rig.caller()).reply()).code == "too_many_connections_of_peer"


async def test_a_shortage_of_our_own_blames_no_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors every worker seems dead: they would all be replaced, at the customer's cost."""
    (a,) = await rig.workers("a")
    caller = await rig.caller()

    async def no_descriptor(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop().__class__, "create_connection", no_descriptor, raising=False)
        caller.request("POST", "/v1/sketch", body=b"{}")
        reply = await caller.reply()
    assert (reply.status, reply.code, reply.get("retry-after")) == (503, "out_of_descriptors", "1")
    slot = next(iter(rig.lane.slots.values()))
    assert (slot.suspect, slot.in_flight, a.opened) == (False, 0, 0)
    caller.request("POST", "/v1/sketch", body=b"{}")
    assert (await caller.reply()).status == 200


def test_the_operator_chooses_limits(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        "connections_max = 100\nconnections_per_peer_max = 20\nrequest_body_bytes_max = 1000\nheader_timeout_s = 5\n"
        'keepalive_s = 7\nwebsocket_idle_s = 60\nspool_bytes_max = 1\nallowed_hosts = ["gpu.lan"]\n'
    )
    environ = {"GPUDECK_ALLOWED_ORIGINS": "https://a.example, https://b.example"}
    settings = load_settings(file, environ, {}).settings
    limits = limits_of(settings, tmp_path)
    assert (limits.connections, limits.connections_per_peer, limits.body_bytes) == (100, 20, 1_000)
    assert (limits.head_deadline_s, limits.idle_s, limits.websocket_idle_s) == (5, 7, 60)
    assert (limits.spool_bytes, limits.spool_directory) == (1, str(tmp_path))
    assert access_of(settings).origins == {"https://a.example", "https://b.example"}
    assert access_of(settings).hosts == {"gpu.lan"}
    file.write_text("connections_max = 3\n")
    with pytest.raises(SettingsError, match=r"connections_max.*16"):
        load_settings(file, {}, {})


def test_without_a_choice_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "none.toml", {}, {}).settings
    limits = limits_of(settings, tmp_path)
    assert limits == Limits(spool_directory=str(tmp_path)), "settings and limits name the same defaults"
    assert Limits().connections == limits.connections


async def test_the_kernel_asks_silent_peers_for_a_sign_of_life(rig: Rig) -> None:
    """A client whose host is gone sends no end: without this it would keep its place in the queue."""
    await rig.caller()
    client = await rig.client()
    sock = client.transport.get_extra_info("socket")
    with socket.socket(fileno=os.dup(sock.fileno())) as twin:
        assert twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_S
