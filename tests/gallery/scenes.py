"""The pictures of the gallery: which screen each one shows, and the sentence below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from textual.screen import Screen

from app.screens.dashboard import DashboardScreen
from app.screens.decisions import DecisionsScreen
from app.screens.dialogs.accounts import AccountsDialog
from app.screens.dialogs.create import CreateDialog
from app.screens.dialogs.edit import EditDialog
from app.screens.doctor import DoctorScreen
from app.screens.endpoint_detail import EndpointScreen
from app.screens.faults import FaultScreen
from app.screens.help import HelpScreen
from app.screens.inspector import InspectorScreen
from app.screens.ledger import LedgerScreen
from app.screens.loadtest import LoadTestScreen
from app.screens.logs import LogsScreen
from app.screens.playground import PlaygroundScreen
from app.screens.settings import SettingsScreen
from app.screens.whatif import WhatIfScreen

ASSETS: Final = Path(__file__).resolve().parents[2] / "assets"
PAGE: Final = ASSETS / "SCREENS.md"


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture in `assets/screens`, called `name`."""

    name: str
    title: str
    screen: type[Screen[Any]]
    sentence: str

    @property
    def file(self) -> Path:
        return ASSETS / "screens" / f"{self.name}.svg"


SCENES: Final = (
    Scene("dashboard", "Dashboard", DashboardScreen,
          "Every endpoint with its workers over the last two minutes, the GPUs and who holds them, traffic, what it "
          "costs now, how long the credit lasts, and what happened."),
    Scene("create", "New endpoint", CreateDialog,
          "What fits this machine, and what it will cost always and at worst, before anything is created (`n`)."),
    Scene("endpoint", "Endpoint", EndpointScreen,
          "Its workers, those that are over with what they cost, where each cold start spent its time, and how to call "
          "it (`enter`)."),
    Scene("history", "History", EndpointScreen,
          "Traffic, waits and cost of the last hour, day, week or month (`r`); this is a day in the lab."),
    Scene("playground", "Playground", PlaygroundScreen,
          "A picture sent to the endpoint and the reply drawn in the terminal, with the time split into queue and "
          "worker, and the price of that second (`p`)."),
    Scene("loadtest", "Load test", LoadTestScreen,
          "A ramp of real calls while the endpoint scales, the percentiles and the cost, and the setup these rates "
          "need (`L`)."),
    Scene("edit", "Edit", EditDialog,
          "The form with that setup filled in (`ctrl+g` in the load test): what changes, what it costs, and what "
          "rolls."),
    Scene("ledger", "Ledger", LedgerScreen,
          "The journal of the account, and for any cent the worker, the interval, the rate and the evidence it rests "
          "on (`m`)."),
    Scene("whatif", "What if", WhatIfScreen,
          "The endpoint's own recorded traffic under other settings, as cost against waiting, and which one to take "
          "(`W`)."),
    Scene("decisions", "Why", DecisionsScreen,
          "Every decision of the scaler with the numbers it went by (`w`)."),
    Scene("inspector", "Round robin", InspectorScreen,
          "Whose turn it is, who is passed over and why, and who waits (`i`)."),
    Scene("logs", "Logs", LogsScreen, "The workers' own lines, followed, filtered, by level (`l`)."),
    Scene("faults", "Fault console", FaultScreen,
          "A worker killed on purpose: each step of the recovery, and what was billed and absorbed (`F`)."),
    Scene("accounts", "Accounts", AccountsDialog, "Who has how much left, and who is warned (`C`)."),
    Scene("settings", "Settings", SettingsScreen,
          "Every setting with its origin and its meaning, and the file to edit (`,`)."),
    Scene("doctor", "Doctor", DoctorScreen,
          "What this machine offers, what is missing, and what to do about it (`D`)."),
    Scene("help", "Help", HelpScreen, "Every key of the screen behind it (`?`)."),
    Scene("lab", "Lab", DashboardScreen,
          "A day of traffic in two minutes on a simulated deck, at the moment of the warning: every figure is marked "
          "SIMULATED (`gpudeck demo --lab`)."),
)  # fmt: skip


def page() -> str:
    """The text of the gallery."""
    parts = [
        "# The screens",
        "Pictures of the terminal at 120 columns and 40 rows, from runs with real worker processes, real requests and "
        "declared GPUs; the history and the lab are from the lab. `python -m tests.gallery.film` makes them anew.",
    ]
    for scene in SCENES:
        parts += [f"## {scene.title}", scene.sentence, f"![{scene.title}](screens/{scene.file.name})"]
    return "\n\n".join(parts) + "\n"
