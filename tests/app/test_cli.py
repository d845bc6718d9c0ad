"""The command line against a scripted orchestrator on a real socket: data, talk, exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from orchestrator.contract.command import (
    CreateKey,
    RevokeKey,
    Shutdown,
    TopUp,
)
from orchestrator.contract.places import HOME_VARIABLE, places
from orchestrator.contract.query import AskBill, AskLogs, Verification
from orchestrator.contract.snapshot import EndpointState, ProblemView, Snapshot
from tests.app.cli_runner import gpudeck, gpudeck_sync
from tests.app.fake_orchestrator import SECRET, FakeOrchestrator, endpoint, snapshot
from tests.waiting import until

CREATE = ("endpoint", "create", "new", "--model", "sketch", "--gpu", "L40")

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",), ("ps",), ("endpoint", "ls"), ("endpoint", "show", "x"), (*CREATE, "--workers", "1-2"),
        ("endpoint", "enable", "x"), ("call", "x"), ("key", "ls"), ("key", "create"), ("account", "ls"), ("bill",),
        ("ledger", "verify"), ("logs", "x"), ("models",), ("gpus",),
    ],
)  # fmt: skip
def test_nothing_starts_silently(arguments: tuple[str, ...]) -> None:
    result = gpudeck_sync(*arguments)
    assert result.exit_code == 69
    assert "gpudeck is not running: start it with `gpudeck up`" in result.stderr
    assert result.stdout == ""


def test_stopping_what_does_not_run_is_a_success() -> None:
    result = gpudeck_sync("down")
    assert result.exit_code == 0
    assert "not running" in result.stderr


def test_without_a_terminal_the_dashboard_is_refused() -> None:
    result = gpudeck_sync()
    assert result.exit_code == 2
    assert "gpudeck status" in result.stderr


def test_an_unusable_home_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "/" + "x" * 120)
    result = gpudeck_sync("status")
    assert result.exit_code == 78
    assert HOME_VARIABLE in result.stderr


def test_an_unknown_command_is_a_usage_error_with_a_hint() -> None:
    result = gpudeck_sync("staus")
    assert result.exit_code == 2
    assert "did you mean 'status'" in result.stderr


async def test_another_version_says_so(home: Path) -> None:
    async with FakeOrchestrator(places().socket_file, protocol=99):
        result = await gpudeck("status")
        assert result.exit_code == 69
        assert "protocol 99" in result.stderr


async def test_status_is_data_on_stdout(fake: FakeOrchestrator) -> None:
    result = await gpudeck("status")
    assert result.exit_code == 0
    assert "$99.93" in result.stdout
    assert "2 × L40 (SIMULATED)" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("sketch"))
    assert row.split()[:3] == ["sketch", "serving", "1-2"]
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [("-o", "json", "status"), ("status", "-o", "json")])
async def test_json_may_be_asked_for_on_either_side(fake: FakeOrchestrator, arguments: tuple[str, ...]) -> None:
    result = await gpudeck(*arguments)
    assert Snapshot.model_validate_json(result.stdout) == fake.state


async def test_the_inner_option_wins(fake: FakeOrchestrator) -> None:
    result = await gpudeck("-o", "json", "endpoint", "-o", "json", "ls", "-o", "table")
    assert result.stdout.startswith("ENDPOINT")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("ps",), "cost_u"), (("endpoint", "ls"), "spec"), (("models",), "engines"), (("account", "ls"), "balance_u"),
        (("key", "ls"), "account"), (("logs", "sketch"), "lines"),
    ],
)  # fmt: skip
async def test_lists_are_json_arrays(fake: FakeOrchestrator, arguments: tuple[str, ...], key: str) -> None:
    rows = json.loads((await gpudeck(*arguments, "-o", "json")).stdout)
    assert isinstance(rows, list)
    assert key in rows[0]
    table = await gpudeck(*arguments)
    assert table.exit_code == 0
    assert table.stdout


async def test_gpus_and_who_uses_them(fake: FakeOrchestrator) -> None:
    result = await gpudeck("gpus")
    assert "NVIDIA L40 (SIMULATED)" in result.stdout
    assert "sketch/w1" in result.stdout
    assert "L40: 2 in all, 1 reserved for baselines, 1 in use" in result.stderr
    assert len(json.loads((await gpudeck("gpus", "-o", "json")).stdout)["gpus"]) == 2


async def test_an_endpoint_that_is_not_there_is_3(fake: FakeOrchestrator) -> None:
    for arguments in (
        ("endpoint", "show", "nope"), ("ps", "nope"), ("call", "nope"), ("logs", "nope"),
        ("endpoint", "rm", "nope", "-y"), ("endpoint", "update", "nope", "--max", "3"),
    ):  # fmt: skip
        result = await gpudeck(*arguments)
        assert result.exit_code == 3, (arguments, result.stderr)
        assert "nope" in result.stderr


async def test_show_tells_everything(fake: FakeOrchestrator) -> None:
    fake.state = snapshot(
        endpoint(state=EndpointState.FAILED).model_copy(
            update={"problem": ProblemView(code="crash_loop", message="it \x1b[31mcrashed", log=("Traceback",))}
        )
    )
    result = await gpudeck("endpoint", "show", "sketch")
    assert "queue_delay:4" in result.stdout
    assert "it crashed" in result.stdout, "no escape code passes"
    assert "Traceback" in result.stdout


async def test_a_new_key_is_alone_on_stdout(fake: FakeOrchestrator) -> None:
    result = await gpudeck("key", "create", "--name", "ci", "--ttl", "30d")
    assert result.stdout == f"{SECRET}\n"
    assert isinstance(fake.commands[0], CreateKey)
    assert fake.commands[0].ttl_s == 30 * 86_400
    assert "only time" in result.stderr
    bad = await gpudeck("key", "create", "--ttl", "soon")
    assert bad.exit_code == 2
    assert "90s, 15m, 12h or 30d" in bad.stderr


async def test_key_ls_hides_what_no_longer_works(fake: FakeOrchestrator) -> None:
    assert "old" not in (await gpudeck("key", "ls")).stdout
    everything = (await gpudeck("key", "ls", "--all")).stdout
    assert "expired" in everything
    assert (await gpudeck("key", "rm", "key-1", "-y")).exit_code == 0
    assert isinstance(fake.commands[0], RevokeKey)


@pytest.mark.parametrize(("text", "amount_u"), [("100", 100_000_000), ("$12.50", 12_500_000), ("0.000001", 1)])
async def test_credit_is_exact(fake: FakeOrchestrator, text: str, amount_u: int) -> None:
    assert (await gpudeck("account", "topup", "local", text)).exit_code == 0
    assert isinstance(fake.commands[0], TopUp)
    assert fake.commands[0].amount_u == amount_u


@pytest.mark.parametrize("text", ["much", "0.0000001", "NaN", "inf", "-5", "0", "1,5", "1e9", "٣", "1000001"])
async def test_no_amount_is_no_credit(fake: FakeOrchestrator, text: str) -> None:
    result = await gpudeck("account", "topup", "local", "--", text)
    assert result.exit_code == 2, result.stderr
    assert "DOLLARS: " in result.stderr
    assert fake.commands == []


async def test_the_bill(fake: FakeOrchestrator) -> None:
    table = await gpudeck("bill", "--month", "2026-03")
    assert isinstance(fake.queries[-1], AskBill)
    assert fake.queries[-1].month == "2026-03"
    assert "$2.67/h" in table.stdout
    assert "$0.06" in table.stdout
    assert "running" in (await gpudeck("bill", "--lines")).stdout
    assert json.loads((await gpudeck("bill", "-o", "json")).stdout)["total_u"] == 66_750
    assert (await gpudeck("bill", "--account", "nobody")).exit_code == 3
    for month in ("March", "2026-13", "9999-12"):
        wrong = await gpudeck("bill", "--month", month)
        assert wrong.exit_code == 2
        assert f"month: must be a month from 1970-01 to 2199-12, such as 2026-03, not {month}" in wrong.stderr


async def test_verify_fails_loudly(fake: FakeOrchestrator) -> None:
    assert (await gpudeck("ledger", "verify")).exit_code == 0
    fake.verification = Verification(ok=False, intervals=1, entries=2, drift_u=3, problems=("interval i1: 3 too much",))
    result = await gpudeck("ledger", "verify")
    assert result.exit_code == 1
    assert "interval i1: 3 too much" in result.stderr


async def test_logs(fake: FakeOrchestrator) -> None:
    fake.log_lines = ("plain", "red\x1b[31m")
    result = await gpudeck("logs", "sketch", "--tail", "7")
    assert result.stdout == "w1 | plain\nw1 | red\n"
    assert (await gpudeck("logs", "sketch", "w1")).stdout == "plain\nred\n"
    assert fake.queries[0] == AskLogs(slug="sketch", tail=7)
    wrong = await gpudeck("logs", "sketch", "--tail", "0")
    assert wrong.exit_code == 2
    assert "tail: must be at least 1, not 0" in wrong.stderr


async def test_following_logs_in_json_is_an_object_a_line(fake: FakeOrchestrator) -> None:
    fake.log_lines = ("red\x1b[31m",)
    run = asyncio.create_task(gpudeck("logs", "sketch", "-f", "-o", "json"))
    await until(lambda: len(fake.queries) >= 2)
    await fake.close()
    lines = (await run).stdout.splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["red\x1b[31m"]


async def test_following_logs_ends_with_the_orchestrator(fake: FakeOrchestrator) -> None:
    run = asyncio.create_task(gpudeck("logs", "sketch", "-f"))
    await until(lambda: len(fake.queries) >= 1)
    fake.log_lines = ("starting", "ready", "more")
    await until(lambda: len(fake.queries) >= 3)
    await fake.close()
    result = await run
    assert result.exit_code == 69
    assert result.stdout.splitlines() == ["w1 | starting", "w1 | ready", "w1 | more"]


@pytest.mark.parametrize(("flags", "mode"), [((), "drain"), (("--drain",), "drain"), (("--leave",), "leave")])
async def test_down_waits_for_the_end(fake: FakeOrchestrator, flags: tuple[str, ...], mode: str) -> None:
    result = await gpudeck("down", *flags, "--timeout", "1")
    shutdown = fake.commands[0]
    assert isinstance(shutdown, Shutdown)
    assert shutdown.mode == mode
    # The fake lives in this very process, which of course does not end: the wait for the process runs out.
    assert result.exit_code == 5


async def test_down_is_told_one_way(fake: FakeOrchestrator) -> None:
    result = await gpudeck("down", "--drain", "--leave")
    assert result.exit_code == 2
    assert "one of --drain and --leave" in result.stderr
    assert fake.commands == []


@pytest.mark.parametrize("timeout_s", ["nan", "-1"])
async def test_a_time_to_wait_is_a_time(fake: FakeOrchestrator, timeout_s: str) -> None:
    result = await gpudeck("down", "--timeout", timeout_s)
    assert result.exit_code == 2
    assert "--timeout" in result.stderr
    assert fake.commands == []


async def test_up_attaches_to_what_runs(fake: FakeOrchestrator) -> None:
    result = await gpudeck("up", "--engine", "process")
    assert result.exit_code == 0
    assert "already running" in result.stdout
    assert "already running: --engine had no effect" in result.stderr
    assert json.loads((await gpudeck("up", "-o", "json")).stdout)["started"] is False


async def test_version(fake: FakeOrchestrator) -> None:
    document = json.loads((await gpudeck("version", "-o", "json")).stdout)
    assert document["orchestrator"]["version"] == "9.9"
    await fake.close()
    assert "not running" in (await gpudeck("version")).stdout
