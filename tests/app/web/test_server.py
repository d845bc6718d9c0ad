"""Who is let in, and how many: over real sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from app.web.bridge import CELLS_MAX, NotOurs, from_browser, packet
from app.web.guard import Guard, is_loopback
from tests.app.cli_runner import gpudeck
from tests.app.web.conftest import Served, Start, needs_terminal
from tests.waiting import until


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.CookieJar(unsafe=True))


async def status(http: aiohttp.ClientSession, address: str, **headers: str) -> int:
    async with http.get(address, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def enter(http: aiohttp.ClientSession, served: Served) -> None:
    """Change the token for the cookie."""
    assert await status(http, served.address) == 303


@needs_terminal
async def test_only_the_token_opens_the_door(start: Start) -> None:
    served = await start()
    async with client() as http:
        for path in ("/", "/page.css", "/static/js/textual.js", "/ws", "/nothing", "/?token=", f"/?token={'x' * 43}"):
            assert await status(http, served.base + path) == 401, path
        async with http.get(served.address, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert served.token not in cookie
        async with http.get(served.base) as answer:
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert await status(http, served.base + "/static/js/textual.js") == 200
        assert await status(http, served.base + "/static/") in (403, 404)
        assert await status(http, served.base + "/static/../server.py") == 404
        assert await status(http, served.base + "/nothing") == 404
    async with client() as http:
        cookie_name = f"gpudeck-{URL(served.base).port}"
        assert await status(http, served.base, Cookie=f"{cookie_name}={served.token}") == 401


@needs_terminal
async def test_names_that_lead_here_and_pages_from_elsewhere_are_refused(start: Start) -> None:
    served = await start()
    async with client() as http:
        await enter(http, served)
        assert await status(http, served.base, Host="evil.example") == 403
        assert await status(http, served.base, Host=f"localhost:{URL(served.base).port}") == 200
        for origin in (None, "http://evil.example", "null", "http://localhost:1"):
            headers = {} if origin is None else {"Origin": origin}
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(served.base + "/ws", headers=headers)
            assert caught.value.status == 403, origin
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(served.base + "/ws?width=0", headers={"Origin": served.base})
        assert caught.value.status == 400


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def readmitted(http: aiohttp.ClientSession, served: Served) -> aiohttp.ClientWebSocketResponse:
    """A session, once there is room: the server makes some a little after the end of the dashboard before it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await http.ws_connect(served.base + "/ws", headers={"Origin": served.base})
            except aiohttp.WSServerHandshakeError as refused:
                if refused.status != 503:
                    raise
                await asyncio.sleep(0.02)


@needs_terminal
async def test_sessions_are_bounded_and_end_with_their_page(start: Start) -> None:
    served = await start("--sessions", "1")
    async with client() as http:
        await enter(http, served)
        socket = await http.ws_connect(served.base + "/ws?width=100&height=30", headers={"Origin": served.base})
        assert b"\x1b[?1049h" in await socket.receive_bytes(timeout=60)
        await until(lambda: len(children(served.process.pid)) == 1, 60)
        async with http.get(served.base) as answer:
            assert answer.status == 503
            assert "--sessions" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(served.base + "/ws", headers={"Origin": served.base})
        assert caught.value.status == 503
        await socket.send_json(["ping", "7"])
        while (message := await socket.receive(timeout=60)).type is aiohttp.WSMsgType.BINARY:
            pass
        assert message.json() == ["pong", "7"]
        await socket.close()
        await until(lambda: not children(served.process.pid), 60, "the dashboard of a closed page to end")
        again = await readmitted(http, served)
        await again.send_bytes(b"nonsense")
        while not (message := await again.receive(timeout=60)).type & aiohttp.WSMsgType.CLOSE:
            pass
        assert again.close_code in (1000, 1008)


async def test_beyond_this_host_only_when_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUDECK_HOME", str(home))
    refused = await gpudeck("web", "--host", "0.0.0.0")
    assert refused.exit_code == 2
    assert "--remote" in refused.stderr


def test_without_the_extra_it_says_how_to_get_it(home: Path) -> None:
    program = "import sys; sys.modules['textual_serve'] = None; from app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "web"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "gpudeck[web]" in done.stderr


@pytest.mark.parametrize(
    ("host", "here", "remote"),
    [
        ("127.0.0.1:8485", True, True), ("localhost", True, True), ("[::1]:9", True, True),
        ("10.0.0.7:8485", False, True),
        ("127.0.0.1.evil.example", False, False), ("evil.example:8485", False, False), ("", False, False),
        (None, False, False), ("[nonsense", False, False), ("localhost.evil", False, False),
        ("user@10.0.0.7", False, True),
    ],
)  # fmt: skip
def test_hosts(host: str | None, here: bool, remote: bool) -> None:
    assert Guard(8485).knows_host(host) is here
    assert Guard(8485, remote=True).knows_host(host) is remote


def test_loopback_is_an_address_not_a_likeness() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.", "127.1.example")))


def test_secrets_differ_and_are_not_shown() -> None:
    one, other = Guard(1), Guard(1)
    assert len({one.token, one.ticket, other.token, other.ticket}) == 4
    assert one.token not in repr(one)
    assert one.ticket not in repr(one)
    assert not one.knows_ticket(one.token)
    assert not one.knows_token("ü")


def test_what_the_page_says() -> None:
    assert from_browser('["stdin", "ü"]') == (packet(b"D", "ü".encode()), None)
    resize = from_browser('["resize", {"width": 90, "height": 20}]')[0]
    assert resize == packet(b"M", b'{"type": "resize", "width": 90, "height": 20}')
    assert from_browser('["ping", "3"]') == (None, ["pong", "3"])
    for text in (
        "", "7", "[]", "{", '["stdin", 7]', '["quit"]', '["resize", {"width": 0, "height": 1}]',
        f'["resize", {{"width": {CELLS_MAX + 1}, "height": 1}}]', '["resize", {"width": 1.5, "height": 1}]',
    ):  # fmt: skip
        with pytest.raises(NotOurs):
            from_browser(text)
