"""The network in memory does what a network does, and time passes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from tests.gateway.virtual_loop import HIGH_BYTES, KERNEL_BYTES, Deadlock, VirtualLoop

T = TypeVar("T")
PORT = 80


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Network(VirtualLoop):
    """Keeps what was connected until the story is over: a writer that is collected before it is closed complains."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.streams: list[Streams] = []

    async def connected(self) -> tuple[Streams, Streams]:
        """A client's and a server's end."""
        came: asyncio.Queue[Streams] = asyncio.Queue()
        server = await asyncio.start_server(lambda reader, writer: came.put_nowait((reader, writer)), "server", PORT)
        client, accepted = await asyncio.open_connection("server", PORT), await came.get()
        server.close()
        self.streams += [client, accepted]
        return client, accepted


def play(story: Callable[[Network], Awaitable[T]], seed: int = 0) -> T:
    async def run() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Network)
        told = await story(loop)
        for _, writer in loop.streams:
            writer.close()
        await asyncio.sleep(1)
        assert not loop.open
        return told

    with asyncio.Runner(loop_factory=lambda: Network(seed)) as runner:
        return runner.run(run())


def test_time_is_what_was_waited_for() -> None:
    async def story(loop: Network) -> list[float]:
        await asyncio.gather(asyncio.sleep(3_600), asyncio.sleep(0.5))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.Event().wait()
        return [loop.time()]

    assert play(story) == [3_600.25]


def test_bytes_come_whole_in_order_and_cut() -> None:
    sent = bytes(range(256)) * 2_000

    async def story(loop: Network) -> list[bytes]:
        (_, writer), (reader, _) = await loop.connected()
        writer.writelines([sent[:1_000], sent[1_000:]])
        writer.write_eof()
        pieces = []
        while piece := await reader.read(1 << 20):
            pieces.append(piece)
        return pieces

    pieces = play(story)
    assert b"".join(pieces) == sent
    assert len(pieces) > 4
    assert pieces == play(story), "a seed repeats it"
    assert pieces != play(story, seed=1)


def test_who_does_not_read_holds_the_writer_up() -> None:
    async def story(loop: Network) -> int:
        (_, writer), (reader, receiver) = await loop.connected()
        receiver.transport.pause_reading()
        sent = 0
        while not sent or writer.transport.get_write_buffer_size() <= HIGH_BYTES:
            writer.write(b"x" * 10_000)
            sent += 10_000
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 60)
        receiver.transport.resume_reading()
        writer.write_eof()
        assert len(await reader.read()) == sent
        await writer.drain()
        return sent

    assert KERNEL_BYTES + HIGH_BYTES < play(story) < KERNEL_BYTES + HIGH_BYTES + 20_000


def test_one_direction_ends_and_the_other_goes_on() -> None:
    async def story(loop: Network) -> tuple[bytes, bytes]:
        (reader, writer), (far_reader, far_writer) = await loop.connected()
        writer.write(b"asked")
        writer.write_eof()
        asked = await far_reader.read()
        far_writer.write(b"answered")
        far_writer.close()
        told = asked, await reader.read()
        writer.close()
        await asyncio.sleep(1)
        assert not loop.open
        return told

    assert play(story) == (b"asked", b"answered")


def test_an_abort_is_a_reset_to_who_reads_and_to_who_writes() -> None:
    async def story(loop: Network) -> None:
        (reader, writer), (_, far_writer) = await loop.connected()
        far_writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        (_, writer), (_, far_writer) = await loop.connected()
        writer.transport.pause_reading()
        far_writer.transport.abort()
        await asyncio.sleep(1)
        assert not writer.transport.is_closing(), "who looks nowhere sees nothing"
        writer.write(b"x")
        await asyncio.sleep(1)
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        assert not loop.open

    play(story)


def test_bytes_for_who_has_closed_come_back_as_a_reset() -> None:
    async def story(loop: Network) -> None:
        (_, writer), (_, far_writer) = await loop.connected()
        far_writer.transport.pause_reading()
        writer.write(b"x" * 1_000)
        far_writer.close()
        await asyncio.sleep(1)
        assert writer.transport.is_closing()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        assert not loop.open

    play(story)


def test_where_nobody_listens_connections_are_refused() -> None:
    async def story(loop: Network) -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", PORT)

    play(story)


def test_waiting_for_what_cannot_come_is_an_error_and_no_hang() -> None:
    with pytest.raises(Deadlock):
        play(lambda loop: asyncio.Event().wait())
