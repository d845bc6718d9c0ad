"""Metrics and access log of a real orchestrator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.host import Host
from tests.ports import free_port


async def test_metrics_and_access_log_tell_what_happened(tmp_path: Path) -> None:
    port = free_port()
    host = Host(tmp_path, "process", variables={"GPUDECK_METRICS_PORT": str(port), "GPUDECK_ACCESS_LOG": "true"})
    async with host.running():
        await host.create("0-1")
        async with host.http() as http:
            for _ in range(3):
                assert (await http.post("/v1/echo", json={})).status_code == 200
            assert (await http.post("/v2/echo", json={})).status_code == 202
            async with httpx.AsyncClient(trust_env=False) as scraper, asyncio.timeout(90):
                while True:
                    page = (await scraper.get(f"http://127.0.0.1:{port}/metrics")).text
                    samples = {
                        (s.name, *sorted(s.labels.items())): s.value
                        for family in text_string_to_metric_families(page)
                        for s in family.samples
                    }
                    served = samples.get(("gpudeck_requests_total", ("code", "200"), ("endpoint", "echo")))
                    cold = samples.get(("gpudeck_cold_start_seconds_count", ("endpoint", "echo")))
                    if (served, cold) == (4, 1):
                        break
                    await asyncio.sleep(0.05)
        up = [key for key in samples if key[0] == "gpudeck_scale_events_total" and ("direction", "up") in key]
        assert up, "the cold start was decided by a rule"
        assert samples["gpudeck_credit_microdollars", ("account", "local")] > 0
        assert host.key not in page
    lines = [json.loads(line) for line in host.places.access_log_file.read_text().splitlines()]
    assert [line["status"] for line in lines if line["endpoint"] == "echo"].count(200) == 4
    assert sum(line["status"] == 202 for line in lines) == 1
    assert any(line.get("cold_start") for line in lines)
    assert host.key not in host.places.access_log_file.read_text()
