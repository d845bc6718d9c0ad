"""The socket client against a real peer on a real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import client as client_module
from app.client import Gone, NotRunning, ProtocolMismatch, RequestFailed, SocketClient, command_id, follow, parse_frame
from orchestrator.contract.base import PROTOCOL_VERSION
from orchestrator.contract.client import OrchestratorClient
from orchestrator.contract.command import Accepted, CreateKey, DeleteEndpoint, RefusalCode, Refused, TopUp
from orchestrator.contract.feed import told
from orchestrator.contract.frames import FRAME_BYTES_MAX, SnapshotAnswer
from orchestrator.contract.query import AskLogs, AskSnapshot, AskVerify, Verification
from orchestrator.contract.steps import finished
from tests.app.fake_orchestrator import SECRET, FakeOrchestrator, snapshot
from tests.waiting import until


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeOrchestrator]:
    async with FakeOrchestrator(tmp_path / "control.sock") as server:
        yield server


@pytest.fixture
async def client(fake: FakeOrchestrator) -> AsyncIterator[SocketClient]:
    made = SocketClient(fake.path)
    yield made
    await made.aclose()


def top_up() -> TopUp:
    return TopUp(id=command_id(), account="local", amount_u=5)


async def test_it_is_an_orchestrator_client(client: SocketClient) -> None:
    seen: OrchestratorClient = client  # mypy checks the protocol; the calls below check that it works
    assert isinstance(await seen.ask(AskSnapshot()), SnapshotAnswer)


async def test_hello_names_the_orchestrator(client: SocketClient, fake: FakeOrchestrator) -> None:
    assert (await client.hello()).version == "9.9"
    await until(lambda: fake.hellos == 1)


async def test_a_command_is_answered(client: SocketClient) -> None:
    outcome = await client.send(CreateKey(id=command_id(), name="k"))
    assert isinstance(outcome, Accepted)
    assert outcome.secret == SECRET
    refused = await client.send(DeleteEndpoint(id=command_id(), slug="nobody"))
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.NOT_FOUND


async def test_answers_find_their_question_when_many_are_open(client: SocketClient, fake: FakeOrchestrator) -> None:
    commands = [top_up() for _ in range(50)]
    outcomes = await asyncio.gather(*(client.send(command) for command in commands), client.ask(AskVerify()))
    assert [o.id for o in outcomes[:-1] if isinstance(o, Accepted)] == [c.id for c in commands]
    assert isinstance(outcomes[-1], Verification)
    assert fake.hellos == 1, "all of them share one connection"


async def test_a_lost_answer_is_asked_for_again_with_the_same_id(client: SocketClient, fake: FakeOrchestrator) -> None:
    fake.drop_next_answer = True
    command = top_up()
    outcome = await client.send(command)
    assert isinstance(outcome, Accepted)
    assert [c.id for c in fake.commands] == [command.id, command.id]
    assert fake.hellos == 2


async def test_a_broken_connection_is_opened_again(client: SocketClient, fake: FakeOrchestrator) -> None:
    await client.ask(AskVerify())
    fake.hang_up()
    assert isinstance(await client.ask(AskVerify()), Verification)


async def test_one_failed_request_leaves_the_connection_usable(client: SocketClient, fake: FakeOrchestrator) -> None:
    with pytest.raises(RequestFailed, match="log reader failed"):
        await client.ask(AskLogs(slug="sketch", tail=4_999))
    assert isinstance(await client.ask(AskVerify()), Verification)
    assert fake.hellos == 1


async def test_nothing_there_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no orchestrator listens"):
        await SocketClient(tmp_path / "none.sock").ask(AskVerify())


async def test_a_dead_socket_file_is_not_running(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    server = await asyncio.start_unix_server(lambda r, w: None, path)
    server.close()
    path.touch()
    with pytest.raises(ConnectionError):
        await SocketClient(path).hello()


async def test_another_protocol_is_named(tmp_path: Path) -> None:
    async with FakeOrchestrator(tmp_path / "s", protocol=99) as fake:
        with pytest.raises(ProtocolMismatch, match=rf"9\.9.*protocol 99.*protocol {PROTOCOL_VERSION}"):
            await SocketClient(fake.path).hello()


async def test_a_silent_peer_is_no_orchestrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HANDSHAKE_S", 0.05)
    async with FakeOrchestrator(tmp_path / "s") as fake:
        fake.silent = True
        with pytest.raises(ProtocolMismatch, match="said nothing"):
            await SocketClient(fake.path).hello()


async def test_gone_for_good_is_a_connection_error(client: SocketClient, fake: FakeOrchestrator) -> None:
    await client.ask(AskVerify())
    await fake.close()
    with pytest.raises(ConnectionError):
        await client.send(top_up())


async def test_a_request_above_the_limit_is_not_sent(
    client: SocketClient, fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.hello()
    monkeypatch.setattr(client_module, "FRAME_BYTES_MAX", 10)
    with pytest.raises(ValueError, match="at most 10"):
        await client.send(top_up())
    assert fake.commands == []


async def test_a_frame_above_the_limit_ends_the_connection(tmp_path: Path) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(FRAME_BYTES_MAX // 65_536 * 3):
                writer.write(b"x" * 65_536)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async with await asyncio.start_unix_server(flood, tmp_path / "s"):
        with pytest.raises(Gone, match="more than"):
            await SocketClient(tmp_path / "s").hello()


def test_an_unknown_frame_is_a_clear_error() -> None:
    with pytest.raises(ProtocolMismatch, match="does not understand"):
        parse_frame(b'{"kind":"tomorrow"}')
    with pytest.raises(ProtocolMismatch, match="does not understand"):
        parse_frame(b"not json")


async def test_the_feed_starts_with_the_state_and_follows_it(client: SocketClient, fake: FakeOrchestrator) -> None:
    feed = client.snapshots()
    assert (await anext(feed)).seq == 1
    await fake.publish(snapshot(seq=2))
    assert (await anext(feed)).seq == 2
    await feed.aclose()


async def test_a_slow_reader_gets_the_newest_snapshot(client: SocketClient, fake: FakeOrchestrator) -> None:
    feed = client.snapshots()
    assert (await anext(feed)).seq == 1
    for seq in range(2, 30):
        await fake.publish(snapshot(seq=seq))
    assert (await anext(feed)).seq == 29, "states that nobody asked for were not sent"
    await feed.aclose()


async def test_what_did_not_change_is_the_same_object(client: SocketClient, fake: FakeOrchestrator) -> None:
    feed = client.snapshots()
    first = await anext(feed)
    account = first.accounts[0].model_copy(update={"balance_u": 1})
    await fake.publish(first.model_copy(update={"seq": 2, "accounts": (account, *first.accounts[1:])}))
    second = await anext(feed)
    assert second.accounts[0] == account
    assert all(new is old for new, old in zip(second.endpoints, first.endpoints, strict=True))
    await feed.aclose()


async def test_a_feed_that_lost_its_thread_ends_and_begins_anew_whole(
    client: SocketClient, fake: FakeOrchestrator
) -> None:
    feed = client.snapshots()
    first = await anext(feed)
    stranger = first.model_copy(update={"seq": 7})
    with pytest.raises(Gone, match="snapshot 7"):
        follow(first, finished(told(stranger, snapshot(seq=8))))  # type: ignore[arg-type]
    await feed.aclose()
    await fake.publish(snapshot(seq=9))
    assert (await anext(client.snapshots())).seq == 9


async def test_the_feed_ends_with_a_connection_error(client: SocketClient, fake: FakeOrchestrator) -> None:
    feed = client.snapshots()
    await anext(feed)
    await fake.close()
    with pytest.raises(Gone):
        await anext(feed)


async def test_closing_twice_and_using_it_again_works(client: SocketClient) -> None:
    await client.hello()
    await client.aclose()
    await client.aclose()
    assert isinstance(await client.ask(AskVerify()), Verification)


def test_command_ids_are_fresh_and_valid() -> None:
    ids = {command_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(TopUp(id=i, account="a", amount_u=1).id == i for i in ids)
