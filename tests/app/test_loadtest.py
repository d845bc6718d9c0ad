"""The load generator: figures by hand, then against a real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from app.loadtest.engine import Percentiles, Reply, Shot, percentile, rising, run_load, steady, summarise, truthy, whole


def reply(index: int, latency_ms: float, *, at_s: float = 0.0, status: int | None = 200, **more: object) -> Reply:
    return Reply(index=index, at_s=at_s, late_ms=0.0, latency_ms=latency_ms, status=status, **more)  # type: ignore[arg-type]


def test_nearest_rank() -> None:
    sample = [float(n) for n in range(1, 101)]
    assert [percentile(sample, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 1) == 7.0
    assert percentile([], 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_sample_with_enough_below_it(sample: list[float], percent: float) -> None:
    ordered = sorted(sample)
    value = percentile(ordered, percent)
    assert value in ordered
    assert sum(v <= value for v in ordered) >= percent / 100 * len(ordered) - 1e-9


def test_a_summary_counts_what_happened() -> None:
    report = summarise(
        [
            reply(0, 100.0, worker="a", queue_ms=0),
            reply(1, 300.0, worker="b", queue_ms=200, cold_start=True),
            reply(2, 50.0, at_s=1.0, worker="a", queue_ms=10),
            reply(3, 1.0, status=503),
            reply(4, 9_000.0, status=None, error="ConnectError"),
        ]
    )
    assert (report.sent, report.succeeded, report.failed) == (5, 3, 2)
    assert report.per_worker == {"a": 2, "b": 1}
    assert report.latency_ms == Percentiles(100.0, 300.0, 300.0, 300.0), "failures do not count"
    assert report.queue_ms.p50 == 10
    assert report.cold_starts == 1
    assert report.failures == {"HTTP 503": 1, "ConnectError": 1}
    assert report.duration_s == 9.0


def test_nothing_sent_is_a_report_too() -> None:
    report = summarise([])
    assert (report.sent, report.succeeded, report.failed, report.duration_s) == (0, 0, 0, 0.0)
    assert report.latency_ms == Percentiles()


def test_schedules() -> None:
    assert steady(2.0, 2.0, start_s=1.0) == [1.0, 1.5, 2.0, 2.5]
    assert len(steady(0.3, 10)) == 3
    ramp = rising(0.0, 10.0, 10.0)
    assert len(ramp) == 50
    assert ramp == sorted(ramp)
    assert ramp[-1] < 10.0
    assert sum(moment < 5.0 for moment in ramp) == 13, "a quarter of the area lies in the first half"
    assert rising(4.0, 4.0, 1.0) == steady(4.0, 1.0)


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("3.9", 3), (None, None), ("x", None), ("inf", None)])
def test_numbers_in_headers(text: str | None, number: int | None) -> None:
    assert whole(text) == number


def test_flags_in_headers() -> None:
    assert [truthy(t) for t in (None, "", "0", "false", "1", "true", "812")] == [False] * 4 + [True] * 3


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/v1/sketch", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1/sketch"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_every_shot_arrives_with_body_key_and_query(serve: Callable[[Handler], Awaitable[str]]) -> None:
    seen: list[tuple[str, str, str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append((request.headers["x-api-key"], request.headers["content-type"], request.query_string, body))
        headers = {"x-worker-id": f"w{len(seen) % 2}", "x-queue-ms": "5", "x-cold-start": "0"}
        return web.Response(body=body * 2, headers=headers)

    url = await serve(handle)
    heard: list[Reply] = []
    shots = [Shot(0.0, bytes([n]), "image/png", f"n={n}") for n in range(10)]
    report = await run_load(url, "secret", shots, on_reply=heard.append)
    assert report.succeeded == 10
    assert sorted(seen) == [("secret", "image/png", f"n={n}", bytes([n])) for n in range(10)]
    assert report.per_worker == {"w0": 5, "w1": 5} or report.per_worker == {"w1": 5, "w0": 5}
    assert len(heard) == 10
    assert [r.index for r in report.replies] == list(range(10))
    assert all(r.queue_ms == 5 for r in report.replies)


async def test_the_loop_is_open(serve: Callable[[Handler], Awaitable[str]]) -> None:
    """Requests go out although none was answered yet: a closed loop would never reach the second one."""
    arrived = 0
    all_there = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            all_there.set()
        await all_there.wait()
        return web.Response()

    report = await run_load(await serve(handle), "k", [Shot(n / 1_000) for n in range(20)], timeout_s=20)
    assert report.succeeded == 20


async def test_latency_counts_from_the_due_moment(serve: Callable[[Handler], Awaitable[str]]) -> None:
    """With one connection the second request waits for the first; that wait is part of its latency."""

    async def handle(request: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response()

    report = await run_load(await serve(handle), "k", [Shot(0.0), Shot(0.0)], connections=1)
    assert report.latency_ms.maximum is not None
    assert report.latency_ms.maximum >= 390


async def test_failures_are_replies(serve: Callable[[Handler], Awaitable[str]]) -> None:
    never = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if body == b"busy":
            return web.Response(status=503)
        if body == b"slow":
            await never.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    url = await serve(handle)
    report = await run_load(url, "k", [Shot(0, b"busy"), Shot(0, b"broken"), Shot(0, b"slow")], timeout_s=2)
    assert report.failed == 3
    assert [r.status for r in report.replies] == [503, None, None], "half an answer is none"
    assert "HTTP 503" in report.failures
    assert "no answer within 2 s" in report.failures


async def test_nobody_there_is_a_reply() -> None:
    report = await run_load("http://127.0.0.1:9/v1/x", "k", [Shot(0)])
    assert report.failures == {"ConnectError": 1}
