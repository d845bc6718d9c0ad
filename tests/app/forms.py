"""Screens with a form that call an endpoint themselves: a gateway's stand-in for them, and the driving of a form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from textual.pilot import Pilot

from app.app import GpudeckApp
from app.screens.dialogs.fields import Choice, TextInput, TextLines
from app.screens.keyed import KeyedScreen
from orchestrator.contract.command import Accepted, Command, CreateKey, Outcome
from orchestrator.contract.snapshot import Snapshot
from tests.app.driving import running
from tests.app.fakes import rich, sketch
from tests.app.pictures import screen_text
from tests.waiting import until

SECRET = "gpd_secret"
CLOSE = b"connection: close"
Kind = TypeVar("Kind", bound=KeyedScreen)


@asynccontextmanager
async def gateway(reply: bytes, hold: asyncio.Event | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A gateway's stand-in on a real socket: its address, and the requests that came, head and body.

    Answers each with `reply`; one that says `connection: close` ends with the connection, once `hold` is set.
    """
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await _request(reader):
            seen.append(request)
            writer.write(reply)
            await writer.drain()
            if hold is not None:
                await hold.wait()
            if CLOSE in reply:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of the next request; nothing when the caller has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    size = next((int(row.split(b":")[1]) for row in head.lower().splitlines() if row.startswith(b"content-length")), 0)
    return head + await reader.readexactly(size)


def state_at(url: str, **more: Any) -> Snapshot:
    """`rich` with the endpoint sketch alone, and the gateway at `url`."""
    endpoint = sketch().model_copy(update={"url": f"{url}/v1/sketch"})
    return rich(endpoints=(endpoint,), **more).model_copy(update={"gateway_url": url})


def keyed(command: Command) -> Outcome:
    """Everything is accepted, and a key that is asked for is `SECRET`."""
    secret = SECRET if isinstance(command, CreateKey) else None
    return Accepted(id=command.id, message="done", key_id="k1", secret=secret)


async def opened(app: GpudeckApp, pilot: Pilot[Any], key: str, kind: type[Kind]) -> Kind:
    """The screen that `key` opens."""
    await pilot.press(key)
    await until(lambda: isinstance(app.screen, kind) and app.screen.is_mounted, what=kind.__name__)
    assert isinstance(app.screen, kind)
    return app.screen


async def write(pilot: Pilot[Any], screen: KeyedScreen, **fields: str) -> None:
    """Fill in the fields, each by its id: a choice is chosen, a line or a text is written anew."""
    for name, value in fields.items():
        field = screen.query_one(f"#{name}")
        match field:
            case Choice():
                field.pick(value)
                await pilot.pause()  # other fields may show now
            case TextLines():
                field.text = value
            case TextInput():
                field.value = value
            case _:
                raise AssertionError(f"{name} is no field")


async def refuses(key: str, kind: type[KeyedScreen], fields: dict[str, str], said: str) -> None:
    """A form that is filled in like this says what is wrong, and neither makes a key nor sends anything."""
    async with running(rich()) as (app, client, pilot):
        await write(pilot, await opened(app, pilot, key, kind), **fields)
        await pilot.press("ctrl+s")
        await until(lambda: said in screen_text(app), what=said)
        assert client.sent == []
