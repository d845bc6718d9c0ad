"""`gpudeck call` through a real HTTP server that stands for the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from app.cli.exits import CliError
from app.cli.requests import _Guarded
from orchestrator.contract.command import CreateKey
from orchestrator.contract.places import places
from tests.app.cli_runner import gpudeck
from tests.app.fake_orchestrator import SECRET, FakeOrchestrator, endpoint, snapshot

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
ANSWERED = {"x-worker-id": "w-1", "x-queue-ms": "812", "x-cold-start": "1", "server-timing": "queue;dur=812"}


class Gateway:
    """Records requests; answers with what `reply` holds."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.reply: dict[str, object] = {"body": b'{"ok": true}', "content_type": "application/json"}
        self.break_off = False
        self.go = asyncio.Event()
        self.go.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, dict(request.headers), body))
        await self.go.wait()
        if self.break_off:
            response = web.StreamResponse(headers=ANSWERED)
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.Response(**{"headers": ANSWERED, **self.reply})  # type: ignore[arg-type]


@pytest.fixture
async def gateway(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway and an orchestrator whose endpoint `sketch` leads to it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must never be used
    made = Gateway()
    app = web.Application()
    app.router.add_route("*", "/v1/sketch{rest:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/sketch"
    async with FakeOrchestrator(places().socket_file, state=snapshot(endpoint(url=url))) as fake:
        made.fake = fake  # type: ignore[attr-defined]
        yield made
    made.go.set()
    await runner.cleanup()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


async def test_a_picture_goes_out_and_comes_back(gateway: Gateway, picture: Path, tmp_path: Path) -> None:
    gateway.reply = {"body": PNG[::-1], "content_type": "image/png"}
    out = tmp_path / "out.png"
    result = await gpudeck("call", "sketch", "--image", str(picture), "-q", "operation=stylise", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    method, path, headers, body = gateway.seen[0]
    assert (method, path, body) == ("POST", "/v1/sketch?operation=stylise", PNG)
    assert headers["Content-Type"] == "image/png"
    assert headers["x-api-key"] == SECRET
    assert out.read_bytes() == PNG[::-1]
    assert result.stdout == ""
    for word in ("worker w-1", "queued 812 ms", "cold start", "queue;dur=812", str(out)):
        assert word in result.stderr


async def test_the_reply_alone_is_on_stdout(gateway: Gateway) -> None:
    result = await gpudeck("call", "sketch", "--json", '{"a": 1}')
    assert result.stdout == '{"ok": true}'
    assert gateway.seen[0][3] == b'{"a": 1}'
    assert gateway.seen[0][2]["Content-Type"] == "application/json"


async def test_a_key_for_a_minute_is_made(gateway: Gateway) -> None:
    await gpudeck("call", "sketch", "--json", "1")
    (made,) = gateway.fake.commands  # type: ignore[attr-defined]
    assert isinstance(made, CreateKey)
    assert made.ttl_s == 60
    assert made.account == "local"


async def test_an_own_key_is_used(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await gpudeck("call", "sketch", "--json", "1", "--key", "mine")
    monkeypatch.setenv("GPUDECK_API_KEY", "from-environment")
    await gpudeck("call", "sketch", "--json", "1")
    assert [headers["x-api-key"] for _, _, headers, _ in gateway.seen] == ["mine", "from-environment"]
    assert gateway.fake.commands == []  # type: ignore[attr-defined]


async def test_path_method_headers_and_stdin(gateway: Gateway) -> None:
    await gpudeck(
        "call", "sketch", "--path", "/a/b?c=%20d", "-X", "put", "--data", "-", "-H", "X-Seed: 7", stdin=b"\0x"
    )
    method, path, headers, body = gateway.seen[0]
    assert (method, path, body) == ("PUT", "/v1/sketch/a/b?c=%20d", b"\0x")
    assert headers["x-seed"] == "7"
    await gpudeck("call", "sketch", "--path", "/health", "-X", "GET")
    assert gateway.seen[1][0] == "GET"


async def test_json_output_describes_the_call(gateway: Gateway) -> None:
    document = json.loads((await gpudeck("call", "sketch", "--json", "1", "-o", "json")).stdout)
    assert document["status"] == 200
    assert document["worker"] == "w-1"
    assert document["queue_ms"] == 812
    assert document["cold_start"] is True
    assert document["body"] == {"ok": True}


@pytest.mark.parametrize(("status", "code"), [(401, 4), (402, 4), (403, 4), (404, 3), (503, 4), (504, 5), (502, 1)])
async def test_the_gateways_refusals_have_exit_codes(gateway: Gateway, status: int, code: int) -> None:
    problem = {"title": "No", "detail": "queue: full at 1000 requests"}
    gateway.reply = {
        "status": status,
        "body": json.dumps(problem).encode(),
        "headers": {"retry-after": "3", "content-type": "application/problem+json"},
    }
    result = await gpudeck("call", "sketch", "--json", "1")
    assert result.exit_code == code
    assert f"HTTP {status}: queue: full at 1000 requests" in result.stderr
    assert "3 s" in result.stderr
    assert result.stdout == ""


async def test_a_workers_error_is_shown_and_is_1(gateway: Gateway) -> None:
    gateway.reply = {"status": 422, "body": b"strength: 0 to 1", "content_type": "text/plain"}
    result = await gpudeck("call", "sketch", "--json", "1")
    assert result.exit_code == 1
    assert result.stdout == "strength: 0 to 1"
    assert "HTTP 422" in result.stderr


async def test_half_a_reply_is_a_failure(gateway: Gateway) -> None:
    gateway.break_off = True
    result = await gpudeck("call", "sketch", "--json", "1")
    assert result.exit_code == 1
    assert "broke off" in result.stderr


async def test_too_late_is_5(gateway: Gateway) -> None:
    gateway.go.clear()
    result = await gpudeck("call", "sketch", "--json", "1", "--timeout", "0.2")
    assert result.exit_code == 5
    assert "within 0.2 s" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--json", "{"), "--json: not JSON"),
        (("--json", "@/nowhere"), "--json: cannot read /nowhere"),
        (("--json", "1", "--data", "-"), "--json and --data: give one body"),
        (("--image", "/nowhere.png"), "--image: cannot read /nowhere.png"),
        (("-H", "nocolon"), "--header: 'nocolon' is not"),
        (("-H", "X: \x1b[2J"), "printable ASCII"),
        (("-q", "x"), "--query: 'x' is not K=V"),
        (("--path", "rest"), "--path: 'rest' must start with /"),
        (("-X", "G T"), "--method"),
        (("--json", "1", "--out", "/nowhere/x"), "--out: cannot write"),
    ],
)
async def test_wrong_options_are_named(gateway: Gateway, options: tuple[str, ...], words: str) -> None:
    result = await gpudeck("call", "sketch", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "\x1b" not in result.stderr


def test_a_terminal_gets_no_binary(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as stream, pytest.raises(CliError, match="binary"):
        _Guarded(stream, terminal=True).write(PNG)
    with (tmp_path / "out").open("wb") as stream:
        _Guarded(stream, terminal=True).write("text ü\n".encode())
        _Guarded(stream, terminal=False).write(PNG)
    assert (tmp_path / "out").read_bytes().endswith(PNG)
