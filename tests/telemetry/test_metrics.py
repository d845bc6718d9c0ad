"""What Prometheus is told: read back with the parser of its own client library, and compared with what happened."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Snapshot
from orchestrator.core.decisions import Decided
from orchestrator.core.scaling import Reason
from orchestrator.core.traffic import Meter
from orchestrator.telemetry.exposition import Buckets, Family, render
from orchestrator.telemetry.metrics import BOUNDS_S, COLD_BOUNDS_S, Backlog, Doors, Metrics, _merged
from orchestrator.telemetry.server import SCRAPES_MAX, MetricsServer
from tests.app.fake_orchestrator import NOW_NS, endpoint, snapshot, worker
from tests.gateway.rig import Rig
from tests.waiting import until

MS_NS = 1_000_000


def parsed(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    """The one sample of that name and those labels; None when there is none."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, f"{name}{labels} is not one series"
    return found[0] if found else None


def metrics_of(rig: Rig, state: Callable[[], Snapshot] = snapshot) -> Metrics:
    hub = rig.gateway.hub
    return Metrics(
        state,
        rig.table,
        lambda: Backlog({"sketch": 3}, {"sketch": 4_096}, 2),
        lambda: Doors(rig.gateway.connections, rig.gateway.worker_connections, hub.refused),
    )


def test_every_awkward_value_survives_the_format() -> None:
    family = Family("gpudeck_odd", "gauge", 'a "help" with \\ and\nlines')
    family.add(1.5, name='qu"ote', path="back\\slash", text="two\nlines", empty="")
    family.add(None, name="unknown")
    family.add(math.inf, name="inf")
    (sample, infinite) = parsed(render([family, Family("gpudeck_none", "gauge", "left out")]))["gpudeck_odd"].samples
    assert sample.labels == {"name": 'qu"ote', "path": "back\\slash", "text": "two\nlines", "empty": ""}
    assert (sample.value, infinite.value) == (1.5, math.inf)


def test_a_histogram_is_cumulative_and_ends_at_infinity() -> None:
    family = Family("gpudeck_h_seconds", "histogram", "h")
    family.add(Buckets((0.5, 1.0), (2, 0, 1), 7.25), endpoint="a")
    samples = {(s.name, s.labels.get("le")): s.value for s in parsed(render([family]))["gpudeck_h_seconds"].samples}
    assert samples == {
        ("gpudeck_h_seconds_bucket", "0.5"): 2,
        ("gpudeck_h_seconds_bucket", "1.0"): 2,
        ("gpudeck_h_seconds_bucket", "+Inf"): 3,
        ("gpudeck_h_seconds_sum", None): 7.25,
        ("gpudeck_h_seconds_count", None): 3,
    }


@pytest.mark.parametrize("span_us", [0, 1_023, 1_024, 1_025, 999_999, 1_048_575, 1_048_577, 600_000_000, 4_000_000_000])
def test_the_meters_buckets_are_merged_exactly(span_us: int) -> None:
    meter = Meter()
    meter.record(SECOND_NS, total_ns=span_us * 1_000, queue_ns=0, failed=False, status=200)
    totals = meter.totals()
    merged = _merged(totals.total_buckets, totals.total_ns)
    below = [sum(merged.counts[: place + 1]) for place in range(len(BOUNDS_S))]
    assert below == [int(span_us / 1e6 < bound) for bound in BOUNDS_S]
    assert sum(merged.counts) == 1
    assert merged.total == span_us / 1e6


def test_totals_outlive_the_minutes_that_are_drained() -> None:
    meter = Meter()
    drained = 0
    for n in range(1, 101):
        meter.record(n * SECOND_NS, total_ns=n * MS_NS, queue_ns=MS_NS, failed=n % 10 == 0, status=200)
        if n % 7 == 0 and (counts := meter.drain()) is not None:
            drained += sum(counts.total.values())
    counts = meter.drain()
    assert counts is not None
    assert drained + sum(counts.total.values()) == 90
    totals = meter.totals()
    assert (sum(totals.total_buckets), totals.statuses) == (90, {200: 100})
    assert totals.queue_ns == 90 * MS_NS


async def test_requests_are_counted_by_status_and_timed(rig: Rig) -> None:
    await rig.workers("a")
    for target in ("/v1/sketch/x", "/v1/sketch/x", "/v1/sketch/failing", "/v1/sketch/die"):
        await rig.call("POST", target)
    await rig.call("GET", "/v1/sketch/x", key="wrong")
    await rig.call("GET", "/nowhere")
    text = render(metrics_of(rig).collect())
    families = parsed(text)
    for code, count in (("200", 2), ("500", 1), ("502", 1)):
        assert value(families, "gpudeck_requests_total", endpoint="sketch", code=code) == count
    assert value(families, "gpudeck_request_duration_seconds_count", endpoint="sketch") == 2
    duration_s = value(families, "gpudeck_request_duration_seconds_sum", endpoint="sketch")
    assert duration_s is not None
    assert 0 < duration_s < 10
    assert value(families, "gpudeck_refused_requests_total", code="401", reason="key_invalid") == 1
    assert value(families, "gpudeck_refused_requests_total", code="404", reason="no_such_path") == 1
    assert value(families, "gpudeck_deferred_requests", endpoint="sketch") == 3
    assert value(families, "gpudeck_webhooks_owed") == 2
    for name, family in families.items():
        assert name.startswith(("gpudeck_", "process_")), name
        assert family.documentation, name
        assert family.type in ("counter", "gauge", "histogram"), name


async def test_a_client_that_leaves_is_499(rig: Rig) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/slow")
    async with asyncio.timeout(60):
        while not rig.upstreams[0].seen:
            await asyncio.sleep(0.01)
        caller.close()
        while value(parsed(render(metrics_of(rig).collect())), "gpudeck_requests_total", code="499") != 1:
            await asyncio.sleep(0.01)


async def test_the_state_is_shown_without_secrets_or_unknown_values(rig: Rig) -> None:
    state = snapshot(endpoint(workers=(worker(), worker(label="w2"))))
    text = render(metrics_of(rig, lambda: state).collect())
    families = parsed(text)
    assert value(families, "gpudeck_workers", endpoint="sketch", state="ready", kind="baseline") == 1
    assert value(families, "gpudeck_workers", endpoint="sketch", state="ready", kind="autoscale") == 1
    assert value(families, "gpudeck_endpoint_state", endpoint="sketch") == 1
    assert value(families, "gpudeck_credit_microdollars", account="local") == 99_933_250
    assert value(families, "gpudeck_runway_seconds", account="local") == pytest.approx(33.7 * 3_600)
    assert value(families, "gpudeck_spend_microdollars_total", endpoint="sketch", kind="charged") == 66_750
    assert value(families, "gpudeck_build_info", version="0.1.0", engine="process") == 1
    assert (
        value(families, "gpudeck_gpu_memory_total_bytes", index="0") == 48 * 1024**3 or "gpudeck_gpu" in text.decode()
    )
    assert "gpudeck_gpu_power_watts" not in families, "what the hardware does not tell has no series"
    assert b"key-1" not in text


async def test_scaling_and_cold_starts_are_counted_once(rig: Rig) -> None:
    metrics = metrics_of(rig)
    why = Reason("queue_delay", "because", {})
    metrics.decided(Decided("sketch", 1, None, 2, 2, 0, why))
    metrics.decided(Decided("sketch", 2, 2, 1, 1, 2, why))
    metrics.decided(Decided("sketch", 3, 1, 1, 2, 1, why, obstacle="no_gpu"))
    seen = [("w1", "sketch", 0, 3 * SECOND_NS), ("w2", "sketch", 0, None)]
    metrics.watch(seen)
    metrics.watch(seen)
    families = parsed(render(metrics.collect()))
    for direction in ("up", "down"):
        assert (
            value(families, "gpudeck_scale_events_total", endpoint="sketch", direction=direction, reason="queue_delay")
            == 1
        )
    assert value(families, "gpudeck_cold_start_seconds_count", endpoint="sketch") == 1
    assert value(families, "gpudeck_cold_start_seconds_bucket", endpoint="sketch", le="2.5") == 0
    assert value(families, "gpudeck_cold_start_seconds_bucket", endpoint="sketch", le="5.0") == 1
    assert len(COLD_BOUNDS_S) == 12


async def test_an_endpoint_that_is_deleted_leaves_no_series(rig: Rig) -> None:
    metrics = metrics_of(rig)
    rig.add_route("gone")
    for slug in ("sketch", "gone"):
        metrics.decided(Decided(slug, 1, None, 2, 2, 0, Reason("queue_delay", "because", {})))
        metrics.watch([(f"w-{slug}", slug, 0, SECOND_NS)])
    assert b'"gone"' in render(metrics.collect())
    del rig.table.routes["gone"]
    text = render(metrics.collect())
    assert b'"gone"' not in text
    assert b'gpudeck_scale_events_total{endpoint="sketch"' in text
    assert b'gpudeck_cold_start_seconds_count{endpoint="sketch"} 1' in text


async def scrape(port: int, *lines: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(60):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), body


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET /metrics HTTP/1.1", "Host: localhost"), 200),
        (("GET /metrics?x HTTP/1.1", "Host: 127.0.0.1:9464"), 200),
        (("HEAD /metrics HTTP/1.1", "Host: localhost"), 200),
        (("GET / HTTP/1.1", "Host: localhost"), 404),
        (("POST /metrics HTTP/1.1", "Host: localhost"), 405),
        (("GET /metrics HTTP/1.1", "Host: evil.example"), 421),
        (("GET /metrics HTTP/1.1", "Host: localhost", "Origin: https://evil.example"), 403),
        (("GET /metrics HTTP/1.1",), 400),
        (("nonsense",), 400),
    ],
)
async def test_the_port_answers_scrapes_and_nothing_else(lines: tuple[str, ...], status: int) -> None:
    server = MetricsServer(lambda: b"gpudeck_up 1\n", lambda: NOW_NS)
    assert await server.start(0)
    answered, body = await scrape(server.port, *lines)
    assert answered == status
    assert (body == b"gpudeck_up 1\n") is (status == 200 and not lines[0].startswith("HEAD"))
    await server.close()


async def test_scrapers_that_never_ask_keep_nobody_out() -> None:
    """Each is a descriptor, and requests need those."""
    server = MetricsServer(lambda: b"gpudeck_up 1\n", lambda: NOW_NS)
    assert await server.start(0)
    standing = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(SCRAPES_MAX + 8)]
    assert await scrape(server.port, "GET /metrics HTTP/1.1", "Host: localhost") == (200, b"gpudeck_up 1\n")
    assert len(server._open) <= SCRAPES_MAX
    assert await standing[0][0].read() == b"", "the oldest makes way"
    for _, writer in standing:
        writer.transport.abort()
    await until(lambda: not server._open, what="all to be gone")
    await server.close()


async def test_a_scraper_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.telemetry.server.SCRAPE_S", 2.0)
    serving: list[asyncio.StreamWriter] = []

    def page() -> bytes:
        serving.extend(server._open)
        return b"x" * 16 * 1024**2

    server = MetricsServer(page, lambda: NOW_NS)
    assert await server.start(0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.transport.pause_reading()
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: serving, what="the page to be asked for")
    await until(lambda: not server._open, what="it to be cut off")
    await until(lambda: serving[0].transport.get_write_buffer_size() == 0, what="the page to be given up")
    writer.transport.abort()
    await server.close()


async def test_a_taken_port_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first, second = (MetricsServer(lambda: b"", lambda: NOW_NS) for _ in range(2))
    assert await first.start(0)
    assert not await second.start(first.port)
    assert f"port {first.port} on 127.0.0.1 is taken" in caplog.text
    assert "metrics_port" in caplog.text
    await second.close()
    await first.close()
