"""A dialog on the stage: the app with a scripted client and one dialog open over the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from textual.pilot import Pilot

from app.app import GpudeckApp
from app.messages import Dialog, DialogWanted
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import Choice, Field, TextInput
from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot
from tests.app import fakes
from tests.app.pictures import screen_text
from tests.waiting import until

Kind = TypeVar("Kind", bound=DialogScreen)
SMALL, WIDE = (80, 24), (120, 40)


class HeldClient(fakes.FakeClient):
    """Answers commands and questions only while `gate` is open."""

    def __init__(self, *snapshots: Snapshot) -> None:
        super().__init__(*snapshots)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def send(self, command: Command) -> Outcome:
        await self._held()
        return await super().send(command)

    async def ask(self, query: Query) -> Any:
        await self._held()
        return await super().ask(query)

    async def _held(self) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1


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
            await until(seen, timeout_s=5)
        except AssertionError as error:
            raise AssertionError(f"not on the screen: {text}\n{self.text()}") from error


@asynccontextmanager
async def stage(
    dialog: Dialog | None,
    slug: str | None = None,
    *,
    client: fakes.FakeClient | None = None,
    size: tuple[int, int] = SMALL,
) -> AsyncIterator[Stage]:
    """The app with `dialog` open. The feed stays silent after the first frame."""
    client = client or fakes.FakeClient(fakes.rich())
    app = GpudeckApp(client)
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.snapshot is not None, what="the first snapshot")
        made = Stage(app, pilot, client)
        if dialog is not None:
            app.screen.post_message(DialogWanted(dialog, slug))
            await made.front(DialogScreen)
        yield made
