"""The control socket with real connections: handshake, strangers, bad frames, commands side by side, a slow reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.base import PROTOCOL_VERSION
from orchestrator.contract.command import Accepted, Command, Outcome, TopUp
from orchestrator.contract.frames import FRAME_BYTES_MAX, Answer, Ask, Hello, More, Send, SnapshotAnswer, Subscribe
from orchestrator.contract.query import AskSnapshot, Query
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps, finished
from orchestrator.control import server as control
from orchestrator.control.server import ControlServer
from tests.app import fakes
from tests.waiting import until


class Desk:
    """Counts what is asked; a command named `slow` waits until it is let go."""

    def __init__(self) -> None:
        self.snapshots = 0
        self.commands: list[str] = []
        self.let_go = asyncio.Event()

    async def submit(self, command: Command) -> Outcome:
        self.commands.append(command.id)
        if command.id.startswith("slow"):
            await self.let_go.wait()
        return Accepted(id=command.id, message="done")

    async def answer(self, query: Query) -> Answer:
        return SnapshotAnswer(snapshot=finished(self.observing()))

    def observing(self) -> Steps[Snapshot]:
        self.snapshots += 1
        yield
        return fakes.rich(seq=self.snapshots)


HELLO = Hello(protocol=PROTOCOL_VERSION, version="0", pid=1)


class Line:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(60):
            received: dict[str, Any] = json.loads(await self.reader.readline() or b"{}")
        return received

    async def send(self, *frames: Any) -> None:
        for frame in frames:
            data = frame if isinstance(frame, bytes) else frame.model_dump_json().encode()
            self.writer.write(data + b"\n")
        await self.writer.drain()

    async def ended(self) -> bool:
        async with asyncio.timeout(60):
            return await self.reader.read() == b""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def path(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    socket = tmp_path_factory.mktemp("c") / "run" / "control.sock"
    server = ControlServer(desk, HELLO)
    await server.start(socket)
    yield socket
    await server.close()
    assert not socket.exists()


@pytest.fixture
async def line(path: Path) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_unix_connection(path, limit=FRAME_BYTES_MAX)
    yield Line(reader, writer)
    writer.close()


async def test_socket_and_directory_are_private(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_dead_socket_file_is_replaced(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    socket = tmp_path_factory.mktemp("c") / "control.sock"
    socket.touch()
    server = ControlServer(desk, HELLO)
    await server.start(socket)
    assert socket.is_socket()
    await server.close()


async def test_the_server_greets_first_and_answers_by_tag(line: Line) -> None:
    assert (await line.receive())["kind"] == "hello"
    await line.send(HELLO, Ask(tag=7, query=AskSnapshot()))
    answered = await line.receive()
    assert (answered["kind"], answered["tag"]) == ("answered", 7)


async def test_another_protocol_is_refused_in_words(line: Line) -> None:
    await line.receive()
    await line.send(Hello(protocol=99, version="9", pid=2))
    error = await line.receive()
    assert (error["kind"], error["code"]) == ("error", "version")
    assert "99" in error["message"]
    assert await line.ended()


@pytest.mark.parametrize("first", [b"{}", b"not json", b'{"kind":"subscribe"}', b"\xff\xfe"])
async def test_who_does_not_greet_is_shown_out(line: Line, first: bytes) -> None:
    await line.receive()
    await line.send(first)
    assert (await line.receive())["kind"] == "error"
    assert await line.ended()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b'{"kind":"send","tag":1,"command":{"kind":"top_up","id":"12345678","account":"a","amount_u":0}}', "amount_u"),
        (b'{"kind":"send","tag":1,"command":{"kind":"explode"}}', "command"),
        (b'{"kind":"subscribe","per_second":1000}', "per_second"),
        (b"[]", ""),
    ],
)
async def test_a_bad_frame_is_named_and_ends_the_connection(line: Line, desk: Desk, frame: bytes, words: str) -> None:
    await line.receive()
    await line.send(HELLO, frame)
    error = await line.receive()
    assert (error["kind"], error["code"]) == ("error", "frame")
    assert words in error["message"]
    assert await line.ended()
    assert desk.commands == []


async def test_a_stranger_is_refused(line: Line, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda sock: 54_321)
    reader, writer = await asyncio.open_unix_connection(path)
    refused = await Line(reader, writer).receive()
    assert (refused["kind"], refused["code"]) == ("error", "peer")
    writer.close()


async def test_commands_do_not_wait_for_one_another(line: Line, desk: Desk) -> None:
    await line.receive()
    slow = TopUp(id="slow-0001", account="local", amount_u=1)
    fast = TopUp(id="fast-0001", account="local", amount_u=1)
    await line.send(HELLO, Send(tag=1, command=slow), Send(tag=2, command=fast))
    assert (await line.receive())["tag"] == 2
    desk.let_go.set()
    assert (await line.receive())["tag"] == 1


async def subscribed(path: Path) -> Line:
    line = Line(*await asyncio.open_unix_connection(path, limit=FRAME_BYTES_MAX))
    await line.receive()
    await line.send(HELLO, Subscribe(per_second=20))
    return line


async def test_a_feed_begins_whole_and_goes_on_with_what_changed(path: Path) -> None:
    line = await subscribed(path)
    first = await line.receive()
    assert first["kind"] == "feed"
    assert first["snapshot"]["endpoints"]
    await line.send(More())
    second = await line.receive()
    assert (second["kind"], second["since"], second["changes"]) == ("changed", 1, {"seq": 2})
    line.writer.close()


async def test_a_frame_is_made_when_the_one_before_was_taken(path: Path, desk: Desk) -> None:
    slow, other = await subscribed(path), await subscribed(path)
    await slow.receive()
    for _ in range(10):  # the slow one asks for nothing meanwhile
        assert (await other.receive())["kind"] in ("feed", "changed")
        await other.send(More())
    await slow.send(More())
    frame = await slow.receive()
    assert frame["changes"]["seq"] >= 11, "the newest state, not the one that followed"
    assert desk.snapshots <= 14, "and none was made for the slow one meanwhile"
    slow.writer.close()
    other.writer.close()


async def test_work_on_a_frame_lets_others_in_between_two_slices() -> None:
    turns: list[str] = []

    def work() -> Steps[str]:
        for _ in range(3):
            end = asyncio.get_running_loop().time() + control.SLICE_S
            while asyncio.get_running_loop().time() < end:
                pass
            turns.append("frame")
            yield
        return "done"

    async def request() -> None:
        while len(turns) < 5:
            turns.append("request")
            await asyncio.sleep(0)

    serving = asyncio.create_task(request())
    assert await control.unhurried(work()) == "done"
    await serving
    assert turns[:4] == ["frame", "request", "frame", "request"]


async def test_a_peer_that_leaves_stops_costing(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    socket = tmp_path_factory.mktemp("c") / "control.sock"
    server = ControlServer(desk, HELLO)
    await server.start(socket)
    reader, writer = await asyncio.open_unix_connection(socket, limit=FRAME_BYTES_MAX)
    line = Line(reader, writer)
    await line.receive()
    await line.send(HELLO, Subscribe(per_second=20))
    await line.receive()
    assert server.peers == 1
    writer.close()
    await until(lambda: server.peers == 0, what="the server to notice")
    await server.close()
