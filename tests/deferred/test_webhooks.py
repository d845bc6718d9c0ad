"""Webhooks: what may be addressed, how they are signed, and that they arrive at least once or are given up visibly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme

from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.webhook import (
    PAUSES_S,
    Allowance,
    is_public,
    pause_after,
    read_allowance,
    read_url,
    sign,
)
from tests.deferred.receiver import Receiver
from tests.deferred.rig import DeferredRig, deferring
from tests.waiting import until

COMPLETED = RequestState.COMPLETED
NOBODY = Allowance()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = await Receiver().start()
    yield made
    await made.stop()


def test_the_signature_is_that_of_the_specification() -> None:
    """The published example of Standard Webhooks' own libraries."""
    import base64

    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    value = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert value == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("240.0.0.1", False), ("::1", False),
        ("::", False), ("fe80::1", False), ("fc00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True),
        ("198.18.0.1", False), ("192.0.2.1", False), ("fec0::1", False), ("feff::1", False), ("3fff::1", False),
        ("192.0.0.8", False), ("192.88.99.1", False), ("168.63.129.16", False), ("168.63.129.17", True),
        ("64:ff9b::a83f:8110", False), ("2002:a83f:8110::", False), ("::ffff:168.63.129.16", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "//a.example/", "https://", "https:///path", "https://user:pw@a.example/",
        "https://a.example/#top", "https://a.example:0/", "https://a.example:99999/", "http://127.0.0.1/",
        "http://[::1]/", "http://localhost:8484/", "http://x.localhost/", "http://169.254.169.254/latest",
        "http://a example/", "http://a.example/\r\nx: y", "http://a.example/\\b", "http://a.example/<x>",
        "http://[fe80::1%25eth0]/", "https://" + "a" * 3_000, "http://exa\u2000mple.com/", "http://-a.example/",
        "HTTPS://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the webhook URL"):
        read_url(url, NOBODY)


def test_urls_that_are_taken() -> None:
    address = read_url("https://hooks.example:8443/a%20b/c?x=1&y=%2F", NOBODY)
    assert (address.tls, address.host, address.port, address.authority, address.target) == (
        True, "hooks.example", 8_443, "hooks.example:8443", "/a%20b/c?x=1&y=%2F",
    )  # fmt: skip
    assert read_url("http://8.8.8.8", NOBODY).target == "/"
    assert read_url("http://[2001:4860:4860::8888]:81/", NOBODY).authority == "[2001:4860:4860::8888]:81"
    allowed = read_allowance(["10.0.0.0/8", "hooks.lan", "localhost", "::1"])
    for url in ("http://10.2.3.4/", "http://hooks.lan/", "http://localhost/", "http://[::1]/"):
        read_url(url, allowed)
    with pytest.raises(ValueError, match="private"):
        read_url("http://192.168.0.1/", allowed)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "a b", "http://x", "10.0.0.1/8", ""])
def test_a_wrong_allowance_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor a network"):
        read_allowance([entry])


def test_the_schedule_ends_within_the_hour_of_the_result() -> None:
    for request_id in ("00" * 16, "ff" * 16):
        pauses = [pause_after(n, request_id) for n in range(1, len(PAUSES_S) + 2)]
        assert pauses[-1] is None
        assert sum(pause for pause in pauses if pause is not None) < 3_600 * 1_000_000_000


async def test_the_end_of_a_call_is_notified_signed_and_noted(rig: DeferredRig, receiver: Receiver) -> None:
    (worker,) = await rig.workers("a")
    secret = await rig.desk.courier.rotate("local", "command-1")
    request_id = await rig.submit("/v2/sketch/echo?x=1", f"x-webhook-url: {receiver.url()}", body=b"secret body")
    await until(lambda: receiver.got, what="the webhook")
    (got,) = receiver.got
    assert got.target == "/hook?token=t"
    assert got.fields["content-type"] == "application/json"
    assert got.fields["host"] == f"127.0.0.1:{receiver.port}"
    assert got.fields["webhook-id"] == f"msg_{request_id}"
    assert got.is_signed_with(secret)
    assert got.json["type"] == "request.completed"
    assert got.json["data"]["request_id"] == request_id
    assert got.json["data"]["result_url"] == f"http://localhost/v2/requests/{request_id}/result"
    assert b"secret body" not in got.body
    assert worker.seen[0].get("x-webhook-url") is None
    await until(lambda: rig.desk.courier.owed == 0, what="the delivery to be noted")
    assert (await rig.told(request_id))["webhook"] == {"state": "delivered", "attempts": 1, "problem": None}
    assert not rig.desk.courier._turns, "callers choose the origins: none is remembered"


async def test_the_url_may_stand_in_the_query(rig: DeferredRig, receiver: Receiver) -> None:
    (worker,) = await rig.workers("a")
    url = receiver.url("/q").replace(":", "%3A").replace("/", "%2F")
    await rig.submit(f"/v2/sketch/echo?a=%20&webhook_url={url}&b=1")
    await until(lambda: receiver.got, what="the webhook")
    assert worker.seen[0].target == "/echo?a=%20&b=1"


async def test_it_is_tried_again_and_given_up_visibly(rig: DeferredRig, receiver: Receiver) -> None:
    await rig.workers("a")
    receiver.answers = [
        None, b"HTTP/1.1 500 No\r\n\r\n", b"nonsense\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n",
    ]  # fmt: skip
    request_id = await rig.submit("/v2/sketch", f"x-webhook-url: {receiver.url()}")
    for attempt in range(1, len(PAUSES_S) + 2):
        await until(lambda n=attempt: len(receiver.got) == n, what=f"attempt {attempt}")  # type: ignore[misc]
        hook = await until_noted(rig, request_id, attempt)
        if attempt <= len(PAUSES_S):
            assert hook["state"] == "owed"
            rig.clock.skip(PAUSES_S[attempt - 1] * 1.25)
            await rig.reopen()  # the pause is on the disk: the next orchestrator keeps to it
    assert hook["state"] == "given_up"
    assert hook["problem"] == f"http://127.0.0.1:{receiver.port} answered 302", "a redirect is not followed"
    assert len({got.fields["webhook-id"] for got in receiver.got}) == 1


async def test_gone_means_never_again(rig: DeferredRig, receiver: Receiver) -> None:
    await rig.workers("a")
    receiver.answers = [b"HTTP/1.1 410 Gone\r\n\r\n"]
    request_id = await rig.submit("/v2/sketch", f"x-webhook-url: {receiver.url()}")
    assert (await until_noted(rig, request_id, 1))["state"] == "given_up"


async def test_a_cancelled_call_is_notified_too(rig: DeferredRig, receiver: Receiver) -> None:
    request_id = await rig.submit("/v2/sketch", f"x-webhook-url: {receiver.url()}")
    await rig.call("DELETE", f"/v2/requests/{request_id}")
    await until(lambda: receiver.got, what="the webhook")
    assert receiver.got[0].json["type"] == "request.cancelled"


async def test_the_secret_before_signs_for_another_day(rig: DeferredRig, receiver: Receiver) -> None:
    await rig.workers("a")
    first = await rig.desk.courier.rotate("local", "command-1")
    second = await rig.desk.courier.rotate("local", "command-2")
    assert await rig.desk.courier.rotate("local", "command-2") == second, "the same command, the same secret"
    assert await rig.desk.courier.rotate("other", "command-3") not in (first, second)
    await rig.submit("/v2/sketch", f"x-webhook-url: {receiver.url()}")
    await until(lambda: len(receiver.got) == 1, what="the webhook")
    assert receiver.got[0].is_signed_with(first)
    assert receiver.got[0].is_signed_with(second)
    rig.clock.skip(24 * 3_600)
    await rig.submit("/v2/sketch", f"x-webhook-url: {receiver.url()}")
    await until(lambda: len(receiver.got) == 2, what="the webhook")
    assert not receiver.got[1].is_signed_with(first)
    assert receiver.got[1].is_signed_with(second)
    key = (rig.directory / "webhook.key").read_bytes()
    await rig.shut()
    for file in rig.directory.glob("deferred.db*"):
        assert key not in file.read_bytes(), "no table holds what a secret can be derived from"
    assert (rig.directory / "webhook.key").stat().st_mode & 0o777 == 0o600
    await rig.open()


async def test_a_secret_that_was_replaced_does_not_come_back_when_the_file_is_lost(rig: DeferredRig) -> None:
    given = [await rig.desk.courier.rotate("local", f"command-{n}") for n in range(2)]
    await rig.shut()
    for file in rig.directory.glob("deferred.db*"):
        file.unlink()
    await rig.open()
    rig.clock.skip(len(given))
    assert await rig.desk.courier.rotate("local", "command-3") not in given


async def test_a_name_that_leads_to_a_private_address_is_never_connected_to(tmp_path: Path) -> None:
    """The name is good when it is given; what it resolves to is what counts (DNS rebinding)."""
    receiver = await Receiver().start()
    async with deferring(tmp_path, allowance=NOBODY) as rig:
        await rig.workers("a")
        # Names of numbers resolve without any server: 127.1 is 127.0.0.1.
        request_id = await rig.submit("/v2/sketch", f"x-webhook-url: http://127.1:{receiver.port}/")
        hook = await until_noted(rig, request_id, 1)
        assert (hook["state"], receiver.got) == ("owed", [])
        assert "private addresses only" in str(hook["problem"])
    await receiver.stop()


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_verified(tmp_path: Path, trusted: bool) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    if trusted:
        authority.configure_trust(client)
    receiver = await Receiver().start(server)
    async with deferring(tmp_path, tls=client) as rig:
        await rig.workers("a")
        request_id = await rig.submit("/v2/sketch", f"x-webhook-url: https://localhost:{receiver.port}/")
        hook = await until_noted(rig, request_id, 1)
        assert hook["state"] == ("delivered" if trusted else "owed")
        assert trusted or "certificate" in str(hook["problem"])
    await receiver.stop()


async def until_noted(rig: DeferredRig, request_id: str, attempts: int) -> dict[str, object]:
    """The webhook's part of what is told, once that many attempts are in it."""
    async with asyncio.timeout(60):
        while True:
            hook = (await rig.told(request_id))["webhook"]
            assert isinstance(hook, dict)
            if hook["attempts"] >= attempts:
                return hook
            await asyncio.sleep(0.01)
