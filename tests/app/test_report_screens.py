"""Settings and doctor: what the orchestrator's own programs report, read by real ones and drawn from written ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actions import ACTIONS, Where
from app.present import doctor, settings
from app.present.text import text, width
from app.reporting import CHECKS, STUDY, NoReport, Printed, Reporter, Request, read_report, reporter
from app.screens.dashboard import DashboardScreen
from app.screens.decisions import DecisionsScreen
from app.screens.doctor import DoctorScreen
from app.screens.ledger import LedgerScreen
from app.screens.live import LiveScreen
from app.screens.settings import SettingsPanel, SettingsScreen
from app.screens.whatif import WhatIfScreen
from app.spawn import process_runs
from tests.app.driving import running
from tests.app.fakes import GATEWAY, bare, rich
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until

CONFIGURATION: dict[str, Any] = {
    "settings": {
        "engine": {"value": "auto", "origin": "default", "meaning": ""},
        "gpus": {"value": None, "origin": "default", "meaning": "Declared GPUs such as `L40:2,H100:1`."},
        "host": {"value": "127.0.0.1", "origin": "default", "meaning": ""},
        "port": {"value": 8600, "origin": "GPUDECK_PORT", "meaning": "Port of the gateway; 0 lets the system choose."},
        "allowed_hosts": {"value": ["gpu.example", "10.0.0.7"], "origin": "/etc/deck/config.toml", "meaning": ""},
        "reduced_motion": {"value": False, "origin": "default", "meaning": "Nothing blinks or moves by itself."},
        "smtp_password": {"value": "**********", "origin": "GPUDECK_SMTP_PASSWORD", "meaning": "Never from the file."},
    },
    "places": {"config": "/etc/deck", "data": "/var/lib/deck", "state": "/var/state/deck", "runtime": "/run/deck"},
}
CHECKED: list[dict[str, str]] = [
    {"name": "python", "state": "ok", "detail": "3.11.9 at /usr/bin/python3"},
    {"name": "data directory", "state": "fail", "detail": "/var/lib/deck, 120 MiB free; at least 500 MiB are needed"},
    {
        "name": "gateway port",
        "state": "warn",
        "detail": "127.0.0.1:8600: Address already in use; set another with --port (a running gpudeck?)",
    },
    {"name": "docker", "state": "warn", "detail": "no socket at /var/run/docker.sock; models run as processes instead"},
    {"name": "gpus", "state": "ok", "detail": "0: NVIDIA L40, 1: NVIDIA L40"},
    {"name": "mail", "state": "fail", "detail": "[bold]mail.example:587\x1b[2J[/bold]: connection refused"},
]


def printing(document: object, asked: list[Request]) -> Reporter:
    async def report(request: Request) -> Any:
        asked.append(request)
        return document

    return report


@pytest.mark.parametrize(
    ("where", "screen"),
    [
        (Where.WHATIF, WhatIfScreen),
        (Where.SETTINGS, SettingsScreen),
        (Where.DOCTOR, DoctorScreen),
        (Where.LEDGER, LedgerScreen),
        (Where.DECISIONS, DecisionsScreen),
    ],
)
def test_every_action_has_a_method_and_no_key_is_bound_twice(where: Where, screen: type[LiveScreen]) -> None:
    there = [action for action in ACTIONS if where in action.where]
    keys = [key for action in there for key in action.keys]
    assert len(keys) == len(set(keys))
    assert [action.id for action in there if not hasattr(screen, f"action_{action.id}")] == []


# --- the programs themselves


async def test_the_settings_are_read_by_the_program_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUDECK_PORT", "8999")
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text("idle_gpu = 1\n")
    with pytest.raises(NoReport, match=r"idle_gpu, from .*config.toml: there is no such setting"):
        await reporter()(Request(CHECKS, ("config",), 60))
    (home / "config" / "config.toml").write_text('log_level = "debug"\n')
    read = settings.read(await reporter()(Request(CHECKS, ("config",), 60)))
    found = {each.name: each for each in read.settings}
    assert (found["port"].value, found["port"].origin) == ("8999", "GPUDECK_PORT")
    assert (found["log_level"].value, found["log_level"].origin) == ("debug", read.file)
    assert found["host"].origin == settings.DEFAULT
    assert Path(read.file).exists(), "the file it names is the file it reads"


async def test_another_home_is_the_one_reported_about(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("o")
    read = settings.read(await reporter(other)(Request(CHECKS, ("config",), 60)))
    assert read.places["config"] == str(other / "config")


async def test_a_program_that_fails_says_its_last_sentence(home: Path) -> None:
    with pytest.raises(NoReport, match="there is no endpoint 'sketch': gpudeck has not run here yet"):
        await reporter()(Request(STUDY, ("whatif", "sketch"), 60))


async def test_one_that_takes_too_long_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = (
        "import os, subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    )
    (tmp_path / "slow.py").write_text(f"{parent}\nprint(c.pid, file=open('child', 'w'), flush=True)\nc.wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    making = asyncio.create_task(reporter()(Request("slow", ("it",), 60)))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip() != "")
    child = int((tmp_path / "child").read_text())
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    await until(lambda: not process_runs(child))
    with pytest.raises(NoReport, match=r"`it` took longer than 0.001 s"):
        await reporter()(Request("slow", ("it",), 0.001))


def test_bad_news_with_a_document_is_a_report() -> None:
    assert read_report(Printed(b'[{"state": "fail"}]', b"", 1)) == [{"state": "fail"}]
    with pytest.raises(NoReport, match="it ended with status -9 and said nothing"):
        read_report(Printed(b"", b"\n", -9))
    with pytest.raises(NoReport, match=r"^the disk is gone$"):
        read_report(Printed(b"{", b"Traceback\ngpudeck: the disk \x1b[1mis gone\n", 1))


# --- the settings screen


async def test_settings_are_listed_and_filtered_and_nothing_is_sent() -> None:
    asked: list[Request] = []
    async with running(rich(), reporter=printing(CONFIGURATION, asked)) as (app, client, pilot):
        await pilot.press("comma")
        await until(lambda: isinstance(app.screen, SettingsScreen) and "allowed_hosts" in screen_text(app))
        assert "/etc/deck/config.toml" in screen_text(app)
        assert "4 of 7 differ from the default" not in screen_text(app)
        assert "3 of 7 differ from the default" in screen_text(app)
        await pilot.press("slash", *"smtp", "enter")
        panel = app.screen.query_one(SettingsPanel)
        await until(lambda: "smtp_password" in text(panel.lines(80, 20)[0]))
        await pilot.press("slash", "escape")
        await until(lambda: len(panel.lines(80, 20)) > 6)
        await pilot.press("r")
        await until(lambda: len(asked) == 2)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DashboardScreen))
        assert client.sent == []


async def test_settings_of_another_version_say_so() -> None:
    async with running(bare(), reporter=printing({"settings": {"port": 1}, "places": {}}, [])) as (app, _, pilot):
        await pilot.press("comma")
        await until(lambda: "another version" in screen_text(app))


def test_an_origin_is_the_file_by_its_name() -> None:
    read = settings.read(CONFIGURATION)
    said = [text(each) for each in settings.rows(read.settings, read.file, 80)]
    hosts = next(each for each in said if "allowed_hosts" in each)
    assert hosts.startswith("● allowed_hosts   gpu.example, 10.0.0.7")
    assert hosts.endswith("config.toml")
    assert next(each for each in said if "reduced_motion" in each).startswith("  reduced_motion  no ")
    change = " ".join(text(each) for each in settings.how_to_change(read, exists=False, room=80))
    assert change.startswith("Create /etc/deck/config.toml")


@pytest.mark.parametrize("document", [None, [], {}, {"settings": {}, "places": {"config": "/x"}}, {"settings": 3}])
def test_what_is_no_report_is_not_read_as_one(document: object) -> None:
    with pytest.raises(ValueError, match="no report"):
        settings.read(document)
    with pytest.raises(ValueError, match="no report"):
        doctor.read({"checks": document}, None)


# --- the doctor screen


async def test_checks_are_made_again_on_request_and_the_screen_stays_alive() -> None:
    asked: list[Request] = []
    gate = asyncio.Event()

    async def slow(request: Request) -> Any:
        asked.append(request)
        if len(asked) > 1:
            await gate.wait()
        return CHECKED

    async with running(rich(), reporter=slow) as (app, client, pilot):
        await pilot.press("D")
        await until(lambda: isinstance(app.screen, DoctorScreen) and "3 in order" in screen_text(app))
        await pilot.press("r")
        await until(lambda: "examining again" in screen_text(app))
        assert "at least 500 MiB" in screen_text(app), "the former findings stay"
        client.push(rich(seq=9))
        await until(lambda: app.snapshot is not None and app.snapshot.seq == 9)
        await pilot.press("r")
        gate.set()
        await until(lambda: "3 in order" in screen_text(app))
        assert len(asked) == 2, "one examination at a time"


def test_failures_come_first_and_each_says_what_to_do() -> None:
    checks = doctor.read(CHECKED, GATEWAY)
    said = [text(each) for each in doctor.rows(checks, 100)]
    assert said[0] == "✖ data directory  /var/lib/deck, 120 MiB free"
    assert said[1] == "                  → at least 500 MiB are needed"
    assert said[2] == "✖ mail            [bold]mail.example:587[/bold]: connection refused"
    assert [each[0] for each in said if each[0] != " "] == ["✖", "✖", "▲", "✔", "✔", "✔"]
    assert doctor.title(checks) == "3 in order, 1 to look at, 2 failed"


def test_the_port_of_the_gateway_itself_is_no_finding() -> None:
    port = {each.name: each for each in doctor.read(CHECKED, GATEWAY)}[doctor.PORT]
    assert (port.state, port.detail) == ("ok", "127.0.0.1:8600, held by this gpudeck")
    for other in (None, "http://127.0.0.1:860", "http://127.0.0.1:86001"):
        assert {each.name: each for each in doctor.read(CHECKED, other)}[doctor.PORT].state == "warn"


@given(st.integers(40, 220))
def test_lines_never_exceed_their_room(room: int) -> None:
    read = settings.read(CONFIGURATION)
    drawn = settings.rows(read.settings, read.file, room) + settings.how_to_change(read, exists=True, room=room)
    drawn += settings.place_rows(read.places, room) + doctor.rows(doctor.read(CHECKED, None), room)
    assert all(width(each) <= max(room, 56) for each in drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_pictures(size: tuple[int, int]) -> None:
    async def both(request: Request) -> Any:
        return CONFIGURATION if request.arguments == ("config",) else CHECKED

    async with running(rich(), size=size, reporter=both) as (app, _, pilot):
        await pilot.press("D")
        await until(lambda: "3 in order" in screen_text(app))
        await pilot.pause()
        assert_picture(app, f"doctor-{size[0]}x{size[1]}")
        await pilot.press("escape", "comma")
        await until(lambda: "allowed_hosts" in screen_text(app))
        await pilot.pause()
        assert_picture(app, f"settings-{size[0]}x{size[1]}")
