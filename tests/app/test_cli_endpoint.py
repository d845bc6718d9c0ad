"""`gpudeck endpoint` against a scripted orchestrator: what is sent, what is refused, what is waited for."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrator.contract.command import (
    Accepted,
    CreateEndpoint,
    DeleteEndpoint,
    DisableEndpoint,
    EnableEndpoint,
    RefusalCode,
    Refused,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount, ScalingPolicy, Visibility
from orchestrator.contract.query import AskQuote
from orchestrator.contract.snapshot import EndpointState, ProblemView, WorkerState
from tests.app.cli_runner import gpudeck
from tests.app.fake_orchestrator import FakeOrchestrator, endpoint, quote, snapshot, worker
from tests.waiting import until

CREATE = ("endpoint", "create", "new", "--model", "sketch", "--gpu", "L40")

pytestmark = pytest.mark.usefixtures("home")


async def test_create_sends_the_whole_specification(fake: FakeOrchestrator) -> None:
    result = await gpudeck(
        *CREATE, "--workers", "1-3", "--policy", "request_count:2", "--idle-timeout", "5", "--public", "--env", "A=b=c",
        "--execution-timeout", "60", "--queue-timeout", "70", "--concurrency", "2", "--account", "lab",
    )  # fmt: skip
    assert isinstance(fake.commands[0], CreateEndpoint), result.stderr
    spec = fake.commands[0].spec
    assert (spec.slug, spec.baseline, spec.maximum, spec.account, spec.concurrency) == ("new", 1, 3, "lab", 2)
    assert (spec.idle_timeout_s, spec.execution_timeout_s, spec.queue_timeout_s) == (5, 60, 70)
    assert spec.policy == RequestCount(value=2)
    assert spec.visibility is Visibility.PUBLIC
    assert spec.env == {"A": "b=c"}
    assert "at most $17.93/h" in result.stderr, "the worst case is shown before"


@pytest.mark.parametrize(
    ("options", "setup"),
    [
        (("--preset", "dev"), "0-1"), (("--preset", "serverless"), "0-5"), (("--preset", "production"), "2-5"),
        (("--preset", "start"), "1-2"), (("--preset", "start", "--max", "4"), "1-4"),
        (("--baseline", "0", "--max", "2"), "0-2"),
    ],
)  # fmt: skip
async def test_setups(fake: FakeOrchestrator, options: tuple[str, ...], setup: str) -> None:
    await gpudeck(*CREATE, *options)
    assert isinstance(fake.commands[0], CreateEndpoint)
    assert fake.commands[0].spec.setup == setup
    assert fake.commands[0].spec.policy == QueueDelay(seconds=4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--workers 1-2"),
        (("--workers", "2"), "baseline-maximum"),
        (("--workers", "1-2", "--max", "3"), "already says"),
        (("--workers", "3-2"), "baseline: 3 is more than maximum 2"),
        (
            ("--workers", "1-2", "--idle-timeout", "999"),
            "idle_timeout_s: must be at most 300, not 999 (option --idle-timeout)",
        ),
        (("--workers", "1-2", "--policy", "magic"), "no policy 'magic'"),
        (("--workers", "1-2", "--policy", "request_count:x"), "'x' is not a whole number"),
        (("--workers", "1-2", "--policy", "queue_delay:-1"), "seconds: must be at least 0"),
        (("--workers", "1-2", "--policy", "auto:soon"), "'soon' is not seconds"),
        (("--workers", "1-2", "--policy", "auto:0"), "must be at least 0.1, not 0.0 (option --policy auto:…)"),
        (("--workers", "1-2", "--policy", "auto:"), "--policy: '' is not seconds"),
        (("--workers", "١-٢"), "baseline-maximum"),
        (("--workers", "1-2", "--env", "A=1", "--env", "A=2"), "--env: A is given twice"),
        (("--workers", "1-2", "--policy", "concurrency:70"), "target: must be at most 1.0, not 70"),
        (("--workers", "1-2", "--policy", "concurrency:x"), "'x' is not a share of the slots, such as 0.7"),
        (("--workers", "1-2", "--env", "A"), "'A' is not K=V"),
        (("--workers", "1-2", "--env", "1A=x"), "env: '1A' is no variable name"),
        (("--workers", "1-2", "--concurrency", "0"), "concurrency: must be at least 1, not 0"),
    ],
)  # fmt: skip
async def test_a_wrong_specification_names_field_and_limit(
    fake: FakeOrchestrator, options: tuple[str, ...], words: str
) -> None:
    result = await gpudeck(*CREATE, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert fake.commands == []


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("auto", Auto()), ("auto:2.5", Auto(wait_p95_s=2.5)), ("concurrency", Concurrency()),
        ("concurrency:0.5", Concurrency(target=0.5)), ("queue_delay", QueueDelay()), ("request_count", RequestCount()),
    ],
)  # fmt: skip
async def test_policies_by_name_and_number(fake: FakeOrchestrator, written: str, policy: ScalingPolicy) -> None:
    await gpudeck(*CREATE, "--workers", "0-5", "--policy", written)
    assert isinstance(fake.commands[0], CreateEndpoint)
    assert fake.commands[0].spec.policy == policy


async def test_a_wrong_slug_is_a_sentence(fake: FakeOrchestrator) -> None:
    result = await gpudeck("endpoint", "create", "chat", "--model", "m", "--gpu", "L40", "--workers", "1-1")
    assert result.exit_code == 2
    assert "slug: 'chat' is a route of the gateway itself" in result.stderr


async def test_a_dry_run_prints_the_quote_and_creates_nothing(fake: FakeOrchestrator) -> None:
    result = await gpudeck(*CREATE, "--workers", "1-2", "--dry-run")
    assert result.exit_code == 0
    assert "$17.93/h" in result.stdout
    assert "would be accepted" in result.stdout
    assert isinstance(fake.queries[-1], AskQuote)
    assert fake.commands == []
    document = json.loads((await gpudeck(*CREATE, "--workers", "1-2", "--dry-run", "-o", "json")).stdout)
    assert document["quote"]["worst_case_per_hour_u"] == 17_934_000


async def test_no_price_is_not_a_price_of_nothing(fake: FakeOrchestrator) -> None:
    free = {"baseline_per_hour_u": 0, "autoscale_per_hour_each_u": 0, "worst_case_per_hour_u": 0}
    fake.quote = quote("gpu_type: 'X' has no price").model_copy(update={**free, "refusal_field": "gpu_type"})
    result = await gpudeck(*CREATE, "--workers", "1-2", "--dry-run")
    assert "$0.00" not in result.stdout
    assert "$0.00" not in (await gpudeck(*CREATE, "--workers", "1-2")).stderr


async def test_a_dry_run_that_would_be_refused_is_4(fake: FakeOrchestrator) -> None:
    fake.quote = quote("account: needs $64.08, has $1.00")
    result = await gpudeck(*CREATE, "--workers", "1-2", "--dry-run")
    assert result.exit_code == 4
    assert "needs $64.08" in result.stderr


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (RefusalCode.CREDIT, 4), (RefusalCode.GPU, 4), (RefusalCode.LIMIT, 4), (RefusalCode.STATE, 4),
        (RefusalCode.EXISTS, 4), (RefusalCode.INVALID, 2), (RefusalCode.NOT_FOUND, 3), (RefusalCode.LEDGER, 1),
    ],
)  # fmt: skip
async def test_refusals_have_their_codes(fake: FakeOrchestrator, code: RefusalCode, status: int) -> None:
    fake.decide = lambda command: Refused(id=command.id, code=code, message="account: because of this")
    result = await gpudeck(*CREATE, "--workers", "1-2")
    assert result.exit_code == status
    assert "account: because of this" in result.stderr
    assert result.stdout == ""


async def test_wait_returns_when_the_baseline_is_ready(fake: FakeOrchestrator) -> None:
    starting = endpoint("new", state=EndpointState.STARTING, workers=(worker("new", state=WorkerState.STARTING),))
    fake.state = snapshot(starting)
    # The endpoint is listed already, for the wait; so the fake must not call the slug taken.
    fake.decide = lambda command: Accepted(id=command.id, message="created")
    run = asyncio.create_task(gpudeck(*CREATE, "--workers", "1-2", "--wait"))
    await until(lambda: fake.hellos >= 2, what="the feed of --wait")
    await fake.publish(snapshot(endpoint("new", url="http://here/v1/new"), seq=2))
    result = await run
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "http://here/v1/new\n"
    assert "new: starting" in result.stderr


async def test_wait_gives_up_after_its_time(fake: FakeOrchestrator) -> None:
    fake.state = snapshot(endpoint(state=EndpointState.STARTING))
    result = await gpudeck("endpoint", "enable", "sketch", "--wait", "--wait-timeout", "0.2")
    assert result.exit_code == 5
    assert "not ready after 0.2 s (state starting)" in result.stderr


async def test_wait_ends_with_a_failed_endpoint(fake: FakeOrchestrator) -> None:
    problem = ProblemView(code="image_missing", message="no image", log=("pull failed",))
    fake.state = snapshot(endpoint(state=EndpointState.FAILED).model_copy(update={"problem": problem}))
    result = await gpudeck("endpoint", "enable", "sketch", "--wait")
    assert result.exit_code == 1
    assert "no image" in result.stderr
    assert "pull failed" in result.stderr


async def test_update_sends_only_what_changes(fake: FakeOrchestrator) -> None:
    result = await gpudeck("endpoint", "update", "sketch", "--max", "4", "--private")
    assert isinstance(fake.commands[0], UpdateEndpoint), result.stderr
    assert fake.commands[0].changes.model_dump(exclude_none=True) == {"maximum": 4, "visibility": "private"}


async def test_concurrency_goes_back_to_the_models_own(fake: FakeOrchestrator) -> None:
    result = await gpudeck("endpoint", "update", "sketch", "--concurrency", "default")
    assert isinstance(fake.commands[0], UpdateEndpoint), result.stderr
    assert fake.commands[0].changes.model_dump(exclude_none=True) == {"concurrency": "default"}
    made = await gpudeck(*CREATE, "--workers", "1-2", "--concurrency", "default")
    assert isinstance(fake.commands[1], CreateEndpoint), made.stderr
    assert fake.commands[1].spec.concurrency is None
    for wrong, said in (("many", "'many' is neither a whole number nor the word default"), ("0", "concurrency")):
        refused = await gpudeck("endpoint", "update", "sketch", "--concurrency", wrong)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert len(fake.commands) == 2


async def test_update_is_checked_against_what_there_is(fake: FakeOrchestrator) -> None:
    result = await gpudeck("endpoint", "update", "sketch", "--baseline", "3")
    assert result.exit_code == 2
    assert "3 is more than maximum 2" in result.stderr
    assert fake.commands == []
    nothing = await gpudeck("endpoint", "update", "sketch")
    assert nothing.exit_code == 2
    assert "nothing to change" in nothing.stderr


async def test_enable_disable_rm(fake: FakeOrchestrator) -> None:
    assert (await gpudeck("endpoint", "enable", "sketch")).exit_code == 0
    assert (await gpudeck("endpoint", "disable", "sketch")).exit_code == 0
    refused = await gpudeck("endpoint", "rm", "sketch")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert (await gpudeck("endpoint", "rm", "sketch", "--yes")).exit_code == 0
    assert [type(c) for c in fake.commands] == [EnableEndpoint, DisableEndpoint, DeleteEndpoint]
