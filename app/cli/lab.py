"""`gpudeck demo --lab`: a simulated deck in time-lapse, in the dashboard, or headless with what happened in it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

from app.cli.dashboard import dashboard_app
from app.cli.hangup import full_screen
from app.cli.options import Settings
from app.cli.output import print_fields, print_json, say
from app.cli.session import complete
from app.cli.terminal import shortcoming
from app.demo.home import PrivateHome, private_home
from app.format import clock, duration, money, plain
from orchestrator.contract.query import AskBill, Bill
from orchestrator.contract.snapshot import EventView, Snapshot

ACCOUNT = "local"
Private = Callable[[], AbstractAsyncContextManager[PrivateHome]]


def run_lab(settings: Settings, *, headless: bool, speed: int, keep: bool, timeout_s: float) -> None:
    """Raises CliError when the lab does not start. Headless it ends with the shut-off, or after `timeout_s` seconds."""
    command = [sys.executable, "-m", "orchestrator.lab", f"--speed={speed}"]
    private = partial(private_home, engine="virtual", gpus=None, keep=keep, talk=say, command=command)
    if headless or settings.json or shortcoming() is not None:
        diary = complete(lambda: _headless(private, timeout_s))
        if settings.json:
            print_json(diary.document())
        else:
            print_fields(diary.rows())
    else:
        complete(lambda: _in_dashboard(private))


@dataclass
class Diary:
    """What a lab has shown so far."""

    newest: Snapshot | None = None
    bill: Bill | None = None
    events: dict[int, EventView] = field(default_factory=dict)
    most_workers: int = 0

    def read(self, state: Snapshot) -> list[EventView]:
        """Take in a snapshot; returns the events that are new in it."""
        self.newest = state
        self.most_workers = max(self.most_workers, *(len(e.workers) for e in state.endpoints), 0)
        new = [event for event in state.events if event.seq not in self.events]
        self.events |= {event.seq: event for event in new}
        return new

    @property
    def over(self) -> bool:
        """The credit is used up, and everything has stopped."""
        state = self.newest
        return state is not None and state.accounts[0].suspended and not any(e.workers for e in state.endpoints)

    def _first(self, words: str) -> int | None:
        """Nanoseconds from the start to the first event with these words."""
        found = [e.at_ns for e in self.events.values() if words in e.text]
        return found[0] - self.newest.started_at_ns if found and self.newest is not None else None

    @property
    def passed_ns(self) -> int:
        return self.newest.taken_at_ns - self.newest.started_at_ns if self.newest is not None else 0

    def document(self) -> dict[str, object]:
        return {
            "simulated": True,
            "passed_ns": self.passed_ns,
            "most_workers": self.most_workers,
            "warned_after_ns": self._first("credit lasts"),
            "stopped_after_ns": self._first("is below $10.00"),
            "bill": None if self.bill is None else self.bill.model_dump(mode="json", exclude={"lines"}),
            "events": [event.model_dump(mode="json") for event in self.events.values()],
        }

    def rows(self) -> dict[str, str]:
        warned_ns, stopped_ns = self._first("credit lasts"), self._first("is below $10.00")
        return {
            "SIMULATED": "a lab: no worker ran and nobody owes anything",
            "time": f"{duration(self.passed_ns)} on the lab's clock",
            "workers": f"{self.most_workers} at most",
            "warned": "not yet" if warned_ns is None else f"after {duration(warned_ns)}",
            "stopped": "not yet" if stopped_ns is None else f"after {duration(stopped_ns)}",
            "spent": money(self.bill.total_u) if self.bill is not None else "",
        }


async def _headless(private: Private, timeout_s: float) -> Diary:
    diary = Diary()
    say("starting a lab in a temporary directory")
    async with private() as home:
        try:
            async with asyncio.timeout(timeout_s):
                async for state in home.client.snapshots():
                    for event in diary.read(state):
                        say(f"{clock(event.at_ns)}  {plain(event.text)}")
                    if diary.over:
                        break
        except TimeoutError:
            say(f"the lab was left after {timeout_s:g} s")
        answer = await home.client.ask(AskBill(account=ACCOUNT, month=None))
        diary.bill = answer if isinstance(answer, Bill) else None
        await home.close()
    return diary


async def _in_dashboard(private: Private) -> None:
    say("starting a lab in a temporary directory …")
    async with private() as home:
        app = dashboard_app(home.client, home=home.directory)
        with full_screen(app.leave, home.abandon):
            await app.run_async()
        say("the lab is taken down; nothing of it was real")
        await home.close()
