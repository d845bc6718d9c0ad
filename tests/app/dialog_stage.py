"""A dialog on the stage: the app with a scripted client and one dialog open over the dashboard."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from textual import events
from textual.pilot import Pilot

from app.app import GpudeckApp
from app.feed import follow
from app.messages import Dialog, DialogWanted
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import Choice, Field, TextInput
from orchestrator.contract.command import Command, Outcome, RefusalCode, Refused
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot
from tests.app import fakes
from tests.app.pictures import screen_text
from tests.waiting import until

Kind = TypeVar("Kind", bound=DialogScreen)
SMALL, WIDE = (80, 24), (120, 40)


class BareApp(GpudeckApp):
    """The app without its dashboard: dialogs do not need one behind them, and it costs most of a test's time."""

    CSS_PATH = Path(inspect.getfile(GpudeckApp)).with_name("app.tcss")

    def on_mount(self, event: events.Mount) -> None:  # type: ignore[override]
        event.prevent_default()
        self.run_worker(follow(self.client, self.post_message, asyncio.sleep), name="feed", exit_on_error=True)


class HeldClient(fakes.FakeClient):
    """Answers commands and questions only while `gate` is open."""

    def __init__(self, *snapshots: Snapshot) -> None:
        super().__init__(*snapshots)
        self.gate = asyncio.Event()
        self.unanswered = 0

    async def send(self, command: Command) -> Outcome:
        await self._held()
        return await super().send(command)

    async def ask(self, query: Query) -> Any:
        await self._held()
        return await super().ask(query)

    async def _held(self) -> None:
        self.unanswered += 1
        await self.gate.wait()
        self.unanswered -= 1


def refusing(
    message: str, field: str | None = None, code: RefusalCode = RefusalCode.INVALID, **more: int
) -> Callable[[Command], Outcome]:
    """An `outcome` that refuses everything."""
    return lambda command: Refused(id=command.id, code=code, message=message, field=field, **more)


def silent(command: Command) -> Outcome:
    """An `outcome` that never arrives."""
    raise ConnectionError("the socket is gone")


@dataclass
class Stage:
    """What a test holds on to."""

    app: GpudeckApp
    pilot: Pilot[str | None]
    client: fakes.FakeClient

    @property
    def top(self) -> Any:
        """The screen in front."""
        return self.app.screen

    def dialog(self, kind: type[Kind]) -> Kind:
        """The screen in front, which must be a `kind`."""
        assert isinstance(self.app.screen, kind), self.app.screen
        return self.app.screen

    async def front(self, kind: type[Kind]) -> Kind:
        """Wait until a `kind` is in front."""
        await until(lambda: isinstance(self.app.screen, kind), what=kind.__name__)
        await self.pilot.pause()
        return self.dialog(kind)

    async def gone(self, kind: type[DialogScreen]) -> None:
        """Wait until no `kind` is in front."""
        await until(lambda: not isinstance(self.app.screen, kind), what=f"{kind.__name__} to close")
        await self.pilot.pause()

    async def sent(self, count: int = 1) -> Any:
        """The newest of exactly `count` commands."""
        await until(lambda: len(self.client.sent) >= count, what="a command")
        await self.pilot.pause()
        assert len(self.client.sent) == count
        return self.client.sent[-1]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, field: str, text: str) -> None:
        """Replace what is in the line `field`."""
        line = self.app.screen.query_one(f"#{field}", TextInput)
        line.focus()
        line.value = text
        await self.pilot.pause()

    async def choose(self, field: str, key: str) -> None:
        self.app.screen.query_one(f"#{field}", Choice).pick(key)
        await self.pilot.pause()

    def problem(self, field: str) -> str:
        """What stands beside `field`, empty when nothing does."""
        found = next(each for each in self.app.screen.query(Field) if field in each.names)
        return str(found.query_one(".problem").content) if found.has_class("-wrong") else ""  # type: ignore[attr-defined]

    def text(self) -> str:
        return screen_text(self.app)

    async def shows(self, text: str) -> None:
        """Wait until `text` is on the screen, line breaks aside."""

        def seen() -> bool:
            return " ".join(text.split()) in " ".join(self.text().replace("│", " ").split())

        try:
            await until(seen)
        except AssertionError as error:
            raise AssertionError(f"not on the screen: {text}\n{self.text()}") from error


@asynccontextmanager
async def stage(
    dialog: Dialog | None,
    slug: str | None = None,
    *,
    client: fakes.FakeClient | None = None,
    size: tuple[int, int] = SMALL,
    bare: bool = True,
) -> AsyncIterator[Stage]:
    """The app with `dialog` open, over nothing or (bare False) over its dashboard."""
    client = client or fakes.FakeClient(fakes.rich())
    app = BareApp(client) if bare else GpudeckApp(client)
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.snapshot is not None, what="the first snapshot")
        made = Stage(app, pilot, client)
        if dialog is not None:
            app.post_message(DialogWanted(dialog, slug))
            await made.front(DialogScreen)
        yield made
