"""Warnings by mail, from a crossing in a real orchestrator to a real SMTP server, through crashes of either."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.__main__ import main
from orchestrator.contract.command import SetMail
from tests.e2e.host import ROOT, new_id
from tests.e2e.mailed import MailedHost, mailed_host
from tests.mail.smtp_host import MailHost, serving
from tests.waiting import until


async def spend(host: MailedHost, seconds: float, calls: int = 1) -> None:
    """Calls that keep as many autoscaled workers busy, at $9,000 an hour each."""
    async with host.http() as http:
        await asyncio.gather(*(http.post("/v1/echo", json={"latency_s": seconds}) for _ in range(calls)))


async def create(host: MailedHost, setup: str) -> None:
    await host.create(setup, policy={"kind": "request_count", "value": 1}, idle_timeout_s=1)


def outbox_states(host: MailedHost) -> list[str]:
    with closing(sqlite3.connect(f"{host.places.ledger_file.as_uri()}?mode=ro", uri=True)) as reader:
        return [state for (state,) in reader.execute("SELECT state FROM outbox ORDER BY seq")]


async def test_a_mail_that_is_queued_at_a_crash_is_sent_once_by_the_next_life(tmp_path: Path) -> None:
    async with serving(MailHost("451")) as smtp:
        host = mailed_host(tmp_path, smtp.port)
        await host.start()
        await create(host, "0-1")
        await spend(host, 0.5)
        await until(lambda: smtp.attempts)
        async with asyncio.timeout(60):
            while "451" not in ((await host.account()).mail_problem or ""):
                await asyncio.sleep(0.02)
        await host.kill()
        smtp.fault = ""
        await host.start()
        # in the file, not only on the screen: a crash between the two sends it once more, as at-least-once allows
        await until(lambda: outbox_states(host) == ["sent"])
        assert (await host.account()).mail_problem is None
        await host.kill()
        connections = smtp.connections
        await host.start()
        assert "warning mail 1 sent" in " ".join(e.text for e in (await host.snapshot()).events)
        await host.stop()
    assert smtp.connections == connections
    assert [message["X-Gpudeck-Key"] for message in smtp.received] == ["local/warning/1"]
    assert smtp.recipients == ["op@example.org"]


async def test_the_shut_off_is_mailed_to_the_account_s_own_address(tmp_path: Path) -> None:
    async with serving(MailHost()) as smtp:
        host = mailed_host(tmp_path, smtp.port)
        await host.start()
        await host.accept(SetMail(id=new_id(), account="local", mail="ada@example.org"))
        await host.create("0-4", policy={"kind": "request_count", "value": 1}, credit_u=1)
        load = asyncio.create_task(spend(host, 60, calls=4))
        await until(lambda: len(smtp.received) == 2, timeout_s=90)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        assert (await host.account()).suspended
        assert (await host.verify()).ok
        await host.stop()
    kinds = [message["X-Gpudeck-Key"] for message in smtp.received]
    assert kinds == ["local/warning/1", "local/suspended/1"]
    assert "echo (0-4 x L40, model echo)" in smtp.received[1].get_content()
    assert set(smtp.recipients) == {"ada@example.org"}


def program(host: MailedHost, *arguments: str) -> tuple[int, list[dict[str, str]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments], cwd=ROOT, env=host.environ, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "[]"), done.stderr


async def test_doctor_connects_and_the_test_mail_arrives(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("correct horse\n")
    async with serving(MailHost(), login=True) as smtp:
        host = mailed_host(tmp_path, smtp.port, SMTP_USER="ada", SMTP_PASSWORD_FILE=str(secret))
        code, checks, _ = await asyncio.to_thread(program, host, "doctor")
        mail = next(check for check in checks if check["name"] == "mail")
        assert mail["state"] == "ok"
        assert mail["detail"].endswith("logged in; to op@example.org")
        assert not smtp.received
        code, checks, _ = await asyncio.to_thread(program, host, "mail-test", "ada@example.org")
        assert (code, checks[0]["state"]) == (0, "ok")
        assert smtp.recipients == ["ada@example.org"]
        secret.write_text("wrong\n")
        code, checks, _ = await asyncio.to_thread(program, host, "mail-test")
        assert (code, checks[0]["state"]) == (1, "fail")
        assert "refused user and password" in checks[0]["detail"]
        code, checks, _ = await asyncio.to_thread(program, host, "mail-test", "no address")
        assert (code, checks[0]["state"]) == (1, "fail")


def surround(monkeypatch: pytest.MonkeyPatch, host: MailedHost) -> None:
    """Give this process the environment of the host's orchestrator."""
    for name, value in host.environ.items():
        monkeypatch.setenv(name, value)


def configuration(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code and output of `python -m orchestrator config`, run in this process."""
    return main(["config"]), *capsys.readouterr()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SMTP_HOST": "mail.example.org"}, "smtp_security: none is for a server on this host"),
        ({"SMTP_USER": "ada"}, "smtp_user: needs smtp_password_file"),
        ({"MAIL_FROM": ""}, "mail_from: needed with smtp_host"),
        (
            {"MAIL_TO": "ada@example.org\nBcc: eve@example.org"},
            "mail_to, from GPUDECK_MAIL_TO: Value error, use a plain",
        ),
        ({"SMTP_PORT": "99999"}, "smtp_port, from GPUDECK_SMTP_PORT"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    message: str,
) -> None:
    surround(monkeypatch, mailed_host(tmp_path, 25, **settings))
    code, _, said = configuration(capsys)
    assert code == 78
    assert message in said


def test_a_password_is_never_shown_nor_taken_from_the_settings_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = mailed_host(tmp_path, 25, SMTP_USER="ada", SMTP_PASSWORD="hunter2-secret")
    surround(monkeypatch, host)
    code, shown, said = configuration(capsys)
    assert code == 0
    assert "hunter2" not in shown + said
    host.places.settings_file.write_text('smtp_password = "hunter2-secret"\n')
    code, _, said = configuration(capsys)
    assert code == 78
    assert "does not belong in the settings" in said
    assert "hunter2" not in said + caplog.text
