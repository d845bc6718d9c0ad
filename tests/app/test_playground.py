"""The playground: what it sends, how it reads replies of every kind, its key, and what it does to files."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.present import playground
from app.present.playground import Body, Draft, EventStream, Heard, Unsendable, outgoing
from app.present.text import text, width
from app.screens.dashboard import DashboardScreen
from app.screens.keyed import KEY_TTL_S
from app.screens.playground import PlaygroundScreen
from app.widgets.picture import HalfBlocks, Unreadable, decode, fitted, graphics
from orchestrator.contract.command import CreateKey, RefusalCode, Refused, RevokeKey
from tests.app.driving import running
from tests.app.fakes import rich, sketch
from tests.app.forms import SECRET, gateway, keyed, opened, refuses, state_at, write
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-worker-id: sketch-w1\r\nx-queue-ms: 120\r\n"
TIMED = HEAD + "x-request-id: 8be61597\r\nserver-timing: queue;dur=120, worker;dur=80.5\r\nconnection: close\r\n\r\n"


def chunk(token: str) -> bytes:
    document = {"choices": [{"index": 0, "delta": {"content": token}}]}
    return f"data: {json.dumps(document)}\n\n".encode()


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


async def test_streamed_tokens_appear_as_they_come_with_time_and_cost() -> None:
    hold = asyncio.Event()
    reply = TIMED.format(kind="text/event-stream").encode() + chunk("every ") + chunk("[bold]good\x1b[31m")
    async with gateway(reply, hold) as (url, seen), running(state_at(url)) as (app, client, pilot):
        client.outcome = keyed
        screen = await opened(app, pilot, "p", PlaygroundScreen)
        await write(pilot, screen, body="prompt", text="say it")
        await pilot.press("ctrl+s")
        await until(lambda: "[bold]good" in screen_text(app))
        assert "\x1b" not in screen_text(app)
        assert screen.heard is not None
        assert not screen.heard.over
        hold.set()
        await until(lambda: screen.heard is not None and screen.heard.over)
        await until(lambda: "2 pieces" in screen_text(app))
        assert "queue 120 ms" in screen_text(app)
        assert "of w1 at $" in screen_text(app)
        assert b"POST /v1/chat/completions" in seen[0]
        assert json.loads(seen[0].partition(b"\r\n\r\n")[2])["model"] == "sketch"
        made = client.sent[0]
        assert isinstance(made, CreateKey)
        assert made.endpoints == ("sketch",)
        assert made.ttl_s == KEY_TTL_S
        assert SECRET not in screen_text(app)
        await pilot.press("ctrl+s")
        await until(lambda: len(seen) == 2)
        assert len([each for each in client.sent if isinstance(each, CreateKey)]) == 1
        await until(lambda: screen.heard is not None and screen.heard.over)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DashboardScreen))
        await until(lambda: isinstance(client.sent[-1], RevokeKey) and client.sent[-1].key_id == "k1")


async def test_a_picture_is_drawn_in_the_terminal_and_saved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.png"
    photo.write_bytes(png())
    reply = TIMED.format(kind="image/png").encode() + png()
    async with gateway(reply) as (url, seen), running(state_at(url)) as (app, client, pilot):
        client.outcome = keyed
        screen = await opened(app, pilot, "p", PlaygroundScreen)
        await write(pilot, screen, body="image", file=str(photo), query="operation=pencil&size=2")
        await pilot.press("ctrl+s")
        await until(lambda: "40 × 20 pixels" in screen_text(app))
        assert b"POST /v1/sketch?operation=pencil&size=2" in seen[0]
        assert b"image/png" in seen[0]
        assert seen[0].endswith(png())
        drawn = screen.query_one(HalfBlocks)
        await until(lambda: drawn.size.height > 0)
        assert "▀" in drawn.render_line(0).text
        await pilot.press("ctrl+o")
        saved = tmp_path / "sketch-8be61597.png"
        await until(lambda: saved.exists() and saved.read_bytes() == png(), what="the picture to be saved")
        saved.write_bytes(b"mine")
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert saved.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("prompt", "text", " ", "type what the model should answer"),
        ("json", "text", "{'a': 1}", "not JSON"),
        ("json", "path", "predict", "start it with /"),
        ("json", "query", "pencil", "'pencil' is not name=value"),
        ("image", "file", "", "name a picture on this machine"),
        ("image", "file", "/nowhere/photo.jpg", "cannot read /nowhere/photo.jpg"),
    ],
)
async def test_what_cannot_be_sent_is_said_beside_its_field(kind: str, field: str, value: str, said: str) -> None:
    await refuses("p", PlaygroundScreen, {"body": kind, field: value}, said)


async def test_refusals_and_silence_are_replies_too() -> None:
    async with running(rich()) as (app, client, pilot):
        client.outcome = lambda command: Refused(id=command.id, code=RefusalCode.INVALID, message="no more keys")
        await write(pilot, await opened(app, pilot, "p", PlaygroundScreen), body="json")
        await pilot.press("ctrl+s")
        await until(lambda: "no key for the call: no more keys" in screen_text(app))
        client.outcome = keyed
        await pilot.press("ctrl+s")  # the fake's gateway address has nobody behind it
        await until(lambda: "does not answer" in screen_text(app))
        client.push(rich(seq=9, endpoints=()))
        await until(lambda: "sketch no longer exists" in screen_text(app))


async def test_a_readonly_session_has_no_playground() -> None:
    async with running(rich(), readonly=True) as (app, _, pilot):
        await pilot.press("p")
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_picture(size: tuple[int, int]) -> None:
    async with running(rich(), size=size) as (app, _, pilot):
        screen = await opened(app, pilot, "p", PlaygroundScreen)
        await write(pilot, screen, body="prompt", text="Say hello to the ports below.")
        screen.heard = Heard(
            status=200, kind="text/event-stream", worker_id="sketch-w1", queue_ms=2_140, worker_ms=310.0, cold=True,
            first_byte_ms=2_455, elapsed_ms=3_210, received=3_042, tokens=16, over=True,
            text="Hello to everybody who came on board this morning.\nMind the gap.",
        )  # fmt: skip
        screen.show()
        await pilot.pause()
        assert_picture(app, f"playground-{size[0]}x{size[1]}")


@given(st.lists(st.text(alphabet='ab \n"', min_size=1, max_size=6), max_size=8), st.data())
def test_events_split_anywhere_say_the_same(tokens: list[str], data: st.DataObject) -> None:
    whole = b"".join(chunk(token) for token in tokens) + b"data: [DONE]\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream, said = EventStream(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        said += stream.feed(whole[start:end])
    assert said == tokens


def test_events_that_are_no_chat_are_shown_as_they_are() -> None:
    stream = EventStream()
    assert stream.feed(b': ping\n\ndata: plain\r\n\r\nevent: x\ndata: {"a": 1}\n\n') == ["plain\n", '{"a": 1}\n']


@given(
    queue=st.integers(0, 10_000),
    worker_ms=st.integers(0, 10_000),
    rest=st.integers(0, 10_000),
    room=st.integers(40, 90),
)
def test_the_bar_fills_its_room_whatever_the_shares(queue: int, worker_ms: int, rest: int, room: int) -> None:
    heard = Heard(status=200, queue_ms=queue, worker_ms=float(worker_ms), elapsed_ms=queue + worker_ms + rest)
    bar = playground.timing_rows(heard, room)[0]
    assert width(bar) == (room if queue + worker_ms + rest else 0)


def test_what_one_call_cost_is_its_share_of_the_worker() -> None:
    heard = Heard(status=200, worker_id="sketch-w1", queue_ms=1_000, elapsed_ms=3_000)
    rows = playground.cost_rows(heard, sketch(), rich().prices, 200)
    assert text(rows[0]).startswith("2.00 s of w1 at $0.0007/s (baseline) is $0.0014.")
    assert playground.cost_rows(Heard(status=502, elapsed_ms=3), sketch(), rich().prices, 200) == []


def test_a_prompt_goes_to_the_chat_route_under_the_endpoints_name() -> None:
    call = outgoing(Draft(Body.PROMPT, text="hi"), sketch(), "http://127.0.0.1:1")
    assert call.url == "http://127.0.0.1:1/v1/chat/completions"
    with pytest.raises(Unsendable) as caught:
        outgoing(Draft(Body.JSON, text="[1,"), sketch(), "http://127.0.0.1:1")
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        ({}, "blocks"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/t"}, "blocks"),
        ({"TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM_PROGRAM": "WezTerm", "GPUDECK_GRAPHICS": "blocks"}, "blocks"),
        ({"GPUDECK_GRAPHICS": "kitty"}, "kitty"),
        ({"GPUDECK_GRAPHICS": "nonsense"}, "blocks"),
    ],
)
def test_graphics_are_those_the_terminal_is_known_for(environ: dict[str, str], how: str) -> None:
    assert graphics(environ) == how


@given(st.integers(1, 4_000), st.integers(1, 4_000), st.integers(1, 200), st.integers(2, 200))
def test_a_picture_fits_and_keeps_its_proportions(wide: int, high: int, columns: int, rows: int) -> None:
    width_, height = fitted((wide, high), (columns, rows))
    assert 1 <= width_ <= max(columns, 1)
    assert height % 2 == 0
    assert 2 <= height <= max(rows, 2)


@pytest.mark.parametrize("data", [b"", b"not a picture", png()[:40]])
def test_bytes_that_are_no_picture_say_so(data: bytes) -> None:
    with pytest.raises(Unreadable, match="not a picture"):
        decode(data)
