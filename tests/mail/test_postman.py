"""Delivery against a real SMTP server that fails, stalls, drops, encrypts, lies, and recovers."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.effects import SendMail
from orchestrator.core.events import MailAttempted
from orchestrator.core.writes import MailKey, MailQueued
from orchestrator.mail.letter import message_id
from orchestrator.mail.postman import NOBODY, Postman
from orchestrator.mail.server import SmtpServer, Unreachable
from tests.mail.smtp_host import Fault, MailHost, serving
from tests.ports import free_port
from tests.waiting import until

T0 = 1_760_000_000 * SECOND_NS
INSTANCE = "c0ffee" * 5
KEY = MailKey("my team", "warning", 3)
MAIL = MailQueued(KEY, "gpudeck: credit lasts 9.4 h", "Balance $26.70\n.\nafter a lone dot\n", T0)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


def certificate(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def plain(host: MailHost, timeout_s: float = 5.0) -> SmtpServer:
    return SmtpServer("127.0.0.1", host.port, "none", timeout_s=timeout_s)


@asynccontextmanager
async def posting(
    server: SmtpServer, *, timeout_s: float = 10.0, operator: str | None = "op@example.org", first_pause_s: float = 0.01
) -> AsyncIterator[tuple[Postman, list[MailAttempted]]]:
    reports: list[MailAttempted] = []
    postman = Postman(
        server, reports.append, sender="deck@example.org", operator=operator, instance=INSTANCE,
        first_pause_s=first_pause_s, timeout_s=timeout_s,
    )  # fmt: skip
    try:
        yield postman, reports
    finally:
        await postman.close()


def states(reports: list[MailAttempted]) -> list[str]:
    return [report.state for report in reports]


async def test_a_mail_arrives_as_it_was_written() -> None:
    async with serving(MailHost()) as host, posting(plain(host)) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: reports)
    assert reports == [MailAttempted(KEY, "sent", 1, None)]
    (message,) = host.received
    assert host.recipients == ["ada@example.org"]
    assert message["Message-ID"] == message_id(KEY, INSTANCE)
    assert message["Subject"] == MAIL.subject
    assert message["Date"].datetime.timestamp() * SECOND_NS == T0
    assert message.get_content().replace("\r\n", "\n") == MAIL.body
    assert message["From"] == "gpudeck <deck@example.org>"


async def test_without_an_address_of_its_own_the_operator_gets_it_and_without_one_nobody() -> None:
    async with serving(MailHost()) as host:
        async with posting(plain(host)) as (postman, reports):
            postman.post(SendMail(MAIL, None))
            await until(lambda: reports)
        async with posting(plain(host), operator=None) as (postman, reports):
            postman.post(SendMail(MAIL, None))
            await until(lambda: reports)
            assert reports == [MailAttempted(KEY, "queued", 0, NOBODY)]
            postman.post(SendMail(MAIL, "late@example.org"))
            await until(lambda: len(reports) == 2)
    assert host.recipients == ["op@example.org", "late@example.org"]


@pytest.mark.parametrize("fault", ["451", "stall", "drop_mid_data", "mute"])
async def test_what_fails_for_now_is_tried_again_until_it_recovers(fault: Fault) -> None:
    async with serving(MailHost(fault)) as host, posting(plain(host, 0.3)) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: len(reports) >= 3)
        assert set(states(reports)) == {"queued"}
        assert not host.received
        host.fault = ""
        host.released.set()
        await until(lambda: reports[-1].state == "sent")
    # More than one, if the answer to one that was taken came too late for these short times.
    assert {message["Message-ID"] for message in host.received} == {message_id(KEY, INSTANCE)}
    assert [r.attempts for r in reports] == list(range(1, len(reports) + 1))
    assert reports[0].problem is not None
    assert reports[0].problem.isprintable()
    assert "\x1b" not in reports[0].problem


async def test_a_server_that_is_not_there_yet() -> None:
    port = free_port()
    async with posting(SmtpServer("127.0.0.1", port, "none")) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: reports)
        assert reports[0].problem == f"127.0.0.1:{port}: Connection refused"
        async with serving(MailHost(), port=port):
            await until(lambda: reports[-1].state == "sent")


@pytest.mark.parametrize("fault", ["550", "552_data", "550_from"])
async def test_what_is_refused_for_good_is_not_tried_again(fault: Fault) -> None:
    async with serving(MailHost(fault)) as host, posting(plain(host)) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: reports)
        host.fault = ""
        postman.post(SendMail(replace(MAIL, key=KEY._replace(crossing_no=4)), "ada@example.org"))
        await until(lambda: len(reports) == 2)
    assert states(reports) == ["failed", "sent"]
    assert f"answered {fault[:3]} " in str(reports[0].problem)
    assert len(host.received) == 1


async def test_an_answer_that_is_lost_sends_a_copy_with_the_same_id() -> None:
    async with serving(MailHost("drop_after_data")) as host, posting(plain(host)) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: reports)
        host.fault = ""
        await until(lambda: reports[-1].state == "sent")
    assert len(host.received) >= 2
    assert {message["Message-ID"] for message in host.received} == {message_id(KEY, INSTANCE)}


async def test_an_attempt_has_an_end_though_every_operation_is_quick_enough() -> None:
    """The whole attempt is limited too: a server may keep every single answer just within its time."""
    async with serving(MailHost("stall")) as host, posting(plain(host, 60), timeout_s=0.3) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: reports)
        assert reports[0].problem == "it took longer than 0.3 s"


async def test_starttls_with_a_login(ca: trustme.CA, trusted: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    async with serving(MailHost(), certificate(ca), login=True) as host:
        server = SmtpServer(
            "127.0.0.1", host.port, "starttls", user="ada", password_file=secret, ca_file=trusted, timeout_s=5.0
        )
        async with posting(server) as (postman, reports):
            postman.post(SendMail(MAIL, "ada@example.org"))
            await until(lambda: len(reports) == 2)
            assert reports[0].problem == f"127.0.0.1:{host.port} refused user and password (535)"
            secret.write_text("correct horse\n")  # rotated: the next attempt reads it
            await until(lambda: reports[-1].state == "sent")
    assert host.encrypted == [True]
    assert host.logins == 1


async def test_tls_from_the_first_byte(ca: trustme.CA, trusted: Path) -> None:
    async with serving(MailHost(), certificate(ca), implicit=True, login=True) as host:
        server = SmtpServer(
            "127.0.0.1", host.port, "tls", user="ada", password=SecretStr("correct horse"), ca_file=trusted
        )
        async with posting(server) as (postman, reports):
            postman.post(SendMail(MAIL, "ada@example.org"))
            await until(lambda: reports)
    assert states(reports) == ["sent"]
    assert host.encrypted == [True]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_wrong_certificate_is_refused(ca: trustme.CA, trusted: Path, wrong: str, implicit: bool) -> None:
    context = certificate(ca, "elsewhere.test") if wrong == "name" else certificate(trustme.CA())
    async with serving(MailHost(), context, implicit=implicit, login=True) as host:
        server = SmtpServer(
            "127.0.0.1", host.port, "tls" if implicit else "starttls", user="ada",
            password=SecretStr("correct horse"), ca_file=trusted,
        )  # fmt: skip
        async with posting(server, first_pause_s=60) as (postman, reports):
            postman.post(SendMail(MAIL, "ada@example.org"))
            await until(lambda: reports)
    assert states(reports) == ["queued"]
    assert f"the certificate of 127.0.0.1:{host.port} is not trusted" in str(reports[0].problem)
    assert host.logins == 0
    assert not host.received


async def test_a_server_without_starttls_gets_neither_password_nor_mail() -> None:
    async with serving(MailHost(), login=True) as host:
        server = SmtpServer("127.0.0.1", host.port, "starttls", user="ada", password=SecretStr("correct horse"))
        async with posting(server, first_pause_s=60) as (postman, reports):
            postman.post(SendMail(MAIL, "ada@example.org"))
            await until(lambda: reports)
    assert "does not offer" in str(reports[0].problem)
    assert host.logins == 0


async def test_pauses_double_up_to_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            await asyncio.Event().wait()

    port = free_port()
    monkeypatch.setattr("orchestrator.mail.postman.asyncio.sleep", sleep)
    async with posting(SmtpServer("127.0.0.1", port, "none"), first_pause_s=5.0) as (postman, reports):
        postman.post(SendMail(MAIL, "ada@example.org"))
        while len(reports) < 12:
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(int))])
    assert pauses[:9] == [5, 10, 20, 40, 80, 160, 320, 600, 600]


async def test_closing_does_not_wait_for_a_server_that_stalls() -> None:
    loop = asyncio.get_running_loop()
    async with serving(MailHost("stall")) as host, posting(plain(host, 60), timeout_s=60) as (postman, _):
        postman.post(SendMail(MAIL, "ada@example.org"))
        await until(lambda: host.attempts)
        before = loop.time()
        await postman.close()
        assert loop.time() - before < 20


async def test_nothing_secret_is_logged_or_shown(
    ca: trustme.CA, trusted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(MailHost(password="other"), certificate(ca), login=True) as host:
        server = SmtpServer(
            "127.0.0.1", host.port, "starttls", user="ada", password=SecretStr("hunter2-secret"), ca_file=trusted
        )
        async with posting(server) as (postman, reports):
            postman.post(SendMail(MAIL, "ada@example.org"))
            await until(lambda: len(reports) >= 2)
            seen = repr((server, postman, reports, server.attempt()))
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("orchestrator"))
    assert "refused user and password" in ours
    assert "hunter2" not in ours + seen


async def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    async with serving(MailHost(), login=True) as host:
        server = SmtpServer("127.0.0.1", host.port, "none", user="ada", password_file=tmp_path / "none")
        with pytest.raises(Unreachable, match=r"smtp_password_file .*none: No such file"):
            await asyncio.to_thread(server.attempt().check)


async def test_the_check_logs_in_and_sends_nothing(ca: trustme.CA, trusted: Path) -> None:
    async with serving(MailHost(), certificate(ca), login=True) as host:
        server = SmtpServer(
            "127.0.0.1", host.port, "starttls", user="ada", password=SecretStr("correct horse"), ca_file=trusted
        )
        said = await asyncio.to_thread(server.attempt().check)
    assert said == f"127.0.0.1:{host.port}, STARTTLS, logged in"
    assert not host.received
