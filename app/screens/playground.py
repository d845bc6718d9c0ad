"""Calling one endpoint by hand: a prompt, a picture or JSON, and where the reply's time and money went."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from uuid import uuid4

import httpx
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from app import actions
from app.calling import CallFailed, Outgoing, calling
from app.format import plain
from app.present import condition, playground
from app.present.condition import Condition, Kind
from app.present.playground import Body, Draft, EventStream, Heard, Unsendable
from app.present.text import Line
from app.screens.dialogs.fields import Choice, Field, InlineChoice, TextInput, TextLines
from app.screens.keyed import KeyedScreen
from app.widgets.panel import Panel
from app.widgets.picture import Picture, Unreadable, decode
from orchestrator.contract.snapshot import EndpointView, PriceView

if TYPE_CHECKING:
    from PIL.Image import Image

TIMEOUT_S: Final = 1_200.0
REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
REPAINT_S: Final = 0.05
"""A reply that comes in pieces is drawn this often: drawing each token would cost more than reading it."""


@dataclass(frozen=True, slots=True)
class HeardOf:
    """A reply so far, and what its price depends on."""

    heard: Heard
    endpoint: EndpointView
    prices: tuple[PriceView, ...]


class TimePanel(Panel):
    """`view` is a `HeardOf`."""

    NAME = "Time and cost"
    EMPTY: ClassVar[str] = "Not called yet. ^s sends the call."

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, HeardOf):
            return []
        of = self.view
        return playground.timing_rows(of.heard, width) + playground.cost_rows(of.heard, of.endpoint, of.prices, width)


class ReplyPanel(Panel):
    """`view` is a `Heard`."""

    NAME = "Reply"
    EMPTY: ClassVar[str] = "The reply appears here, token by token when the model streams it."

    def paint(self, width: int, height: int) -> list[Line]:
        return playground.reply_rows(self.view, width) if isinstance(self.view, Heard) else []


class PlaygroundScreen(KeyedScreen):
    """Calls `slug` with a key of its own, made for this endpoint only and revoked when the screen closes."""

    WHERE = actions.Where.PLAYGROUND
    CSS_PATH = "playground.tcss"
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.PLAYGROUND)

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self.heard: Heard | None = None
        self.body = b""

    def panels(self) -> ComposeResult:
        with Container(id="bench"):
            with Vertical(id="form"):
                yield Field("Send", InlineChoice([(each.value, each.value) for each in Body], id="body"))
                yield Field("", names=["call"], hint=playground.SENDS[Body.JSON])
                yield Field("Text", TextLines(id="text"), names=["text"])
                yield Field("File", TextInput(id="file", placeholder="~/photo.jpg", length_max=400), names=["file"])
                yield Field("Path", TextInput(id="path", placeholder="the model's own", length_max=200), names=["path"])
                yield Field("Query", TextInput(id="query", placeholder="name=value", length_max=400), names=["query"])
            with Vertical(id="heard"):
                yield TimePanel(id="time")
                yield ReplyPanel(id="reply")
                yield Picture(id="picture")

    def on_mount(self) -> None:
        self.query_one("#body", Choice).chosen = playground.usual(self.kind_of_model(self.slug)).value
        self._arrange()
        self.query_one("#file" if self._body is Body.IMAGE else "#text").focus()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 100, "-compact")

    @property
    def _body(self) -> Body:
        return Body(self.query_one("#body", Choice).chosen or Body.JSON)

    def show(self) -> None:
        endpoint, snapshot = self.endpoint(self.slug), self.snapshot
        state = condition.of_feed(snapshot, self.feed)
        if snapshot is not None and endpoint is None:
            state = Condition(Kind.FAILED, f"{self.slug} no longer exists (esc goes back)")
        time, reply = self.query_one(TimePanel), self.query_one(ReplyPanel)
        time.condition = reply.condition = state
        time.note = self.slug
        reply.view = self.heard
        if self.heard is not None and endpoint is not None and snapshot is not None:
            time.view = HeardOf(self.heard, endpoint, snapshot.prices)

    @on(Choice.Picked, "#body")
    def _arrange(self) -> None:
        """Show the fields that this kind of call has."""
        shown = {"file": self._body is Body.IMAGE, "text": self._body is not Body.IMAGE,
                 "path": self._body is not Body.PROMPT}  # fmt: skip
        for field in self.query(Field):
            for name in field.names:
                field.display = shown.get(name, True)
            if "call" in field.names:
                field.hint(playground.SENDS[self._body])

    # --- sending

    @on(Input.Submitted)
    async def action_send_call(self) -> None:
        """Send what the form holds, or say which field is wrong."""
        endpoint, snapshot = self.endpoint(self.slug), self.snapshot
        if endpoint is None or snapshot is None:
            return
        try:
            call = playground.outgoing(await self._draft(), endpoint, snapshot.gateway_url)
        except Unsendable as error:
            self._show_problem({error.field: str(error)})
            return
        self._show_problem({})
        self.with_key(endpoint, "playground", lambda secret: self._call(call, secret))

    async def _draft(self) -> Draft:
        body = self._body
        text = self.query_one("#text", TextLines).text
        path, query = self.query_one("#path", TextInput).value, self.query_one("#query", TextInput).value
        picture = None
        if body is Body.IMAGE and (name := self.query_one("#file", TextInput).value.strip()):
            picture = await asyncio.to_thread(_read, name)
        return Draft(body, text, "" if body is Body.PROMPT else path.strip(), query, picture)

    def _show_problem(self, problems: dict[str, str]) -> None:
        for field in self.query(Field):
            field.show(problems)

    def no_key(self, problem: str) -> None:
        self._hear(Heard(over=True, problem=problem))

    @work(group="call", exclusive=True)
    async def _call(self, call: Outgoing, key: str) -> None:
        self.body = b""
        self._hear(Heard())
        self._show_picture(None)
        painted = asyncio.get_running_loop().create_future()
        self.call_after_refresh(painted.set_result, None)
        await painted  # this call shares the loop with the screen: a repaint must not count as the worker's time
        painting = self.set_interval(REPAINT_S, self.show)
        try:
            async with calling(call, key, TIMEOUT_S) as (response, started):
                await self._follow(response, started)
        except CallFailed as failure:
            self._hear(replace(self.heard or Heard(), over=True, problem=str(failure)))
        finally:
            painting.stop()

    async def _follow(self, response: httpx.Response, started: float) -> None:
        loop = asyncio.get_running_loop()
        heard = playground.heard_head(response.status_code, response.headers, round((loop.time() - started) * 1_000))
        self._hear(heard)
        stream = EventStream() if heard.kind == "text/event-stream" else None
        body = bytearray()
        async for piece in response.aiter_bytes():
            heard = replace(heard, received=heard.received + len(piece),
                            elapsed_ms=round((loop.time() - started) * 1_000))  # fmt: skip
            if stream is not None:
                said = stream.feed(piece)
                heard = replace(heard, tokens=heard.tokens + len(said),
                                text=(heard.text + "".join(said))[: playground.TEXT_SHOWN_MAX])  # fmt: skip
            if len(body) + len(piece) <= REPLY_BYTES_MAX:
                body += piece
            self.heard = heard
        self.body = bytes(body)
        heard = replace(heard, elapsed_ms=round((loop.time() - started) * 1_000), over=True)
        if heard.kind.startswith("image/"):
            try:
                picture = await asyncio.to_thread(decode, self.body)
            except Unreadable as error:
                heard = replace(heard, problem=str(error))
            else:
                heard = replace(heard, text=f"{picture.width} × {picture.height} pixels")
                self._show_picture(picture)
        elif stream is None:
            heard = replace(heard, text=playground.readable(heard.kind, self.body)[: playground.TEXT_SHOWN_MAX])
        self._hear(heard)

    def _hear(self, heard: Heard) -> None:
        self.heard = heard
        self.show()
        self.refresh_bindings()

    def _show_picture(self, picture: Image | None) -> None:
        self.set_class(picture is not None, "-picture")
        self.query_one(Picture).show(picture)

    # --- afterwards

    def action_save_reply(self) -> None:
        """Write the body beside where gpudeck was started; an existing file is never overwritten."""
        heard = self.heard
        if heard is None or not self.body:
            return
        name = f"{self.slug}-{(heard.request_id or uuid4().hex)[-8:]}{mimetypes.guess_extension(heard.kind) or '.bin'}"
        path = Path.cwd() / plain(name).replace(os.sep, "_")
        try:
            with path.open("xb") as file:
                file.write(self.body)
        except OSError as error:
            self.notify(f"cannot write {path}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"{len(self.body):,} bytes in {path}", title="Saved", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "save_reply":
            return bool(self.body)
        return super().check_action(action, parameters)

    def action_go_back(self) -> None:
        """Stop a call that is under way, else leave."""
        if any(worker.group == "call" and worker.is_running for worker in self.workers):
            self.workers.cancel_group(self, "call")
            self._hear(
                replace(self.heard or Heard(), over=True, problem="you stopped it; the worker may still be busy")
            )
            return
        self.leave()


def _read(name: str) -> tuple[bytes, str]:
    """Bytes and media type of a picture file. Raises Unsendable."""
    path = Path(name).expanduser()
    try:
        size = path.stat().st_size
        if size > playground.PICTURE_BYTES_MAX:
            limit = playground.PICTURE_BYTES_MAX // 2**20
            raise Unsendable("file", f"{plain(path.name)} has {size / 2**20:.0f} MiB, at most {limit} MiB are sent")
        data = path.read_bytes()
    except OSError as error:
        raise Unsendable("file", f"cannot read {plain(str(path))}: {error.strerror}") from error
    return data, mimetypes.guess_type(path.name)[0] or "application/octet-stream"
