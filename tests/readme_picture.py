"""Draws the README's picture from a real run: real processes, real requests, the real TUI.

    python -m tests.readme_picture [SECONDS]      writes assets/dashboard.svg

Two endpoints under load on declared GPUs for about a minute, then one screenshot at 120x40.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

import httpx

from app.app import GpudeckApp
from app.client import SocketClient
from orchestrator.contract.endpoint import RequestCount
from tests.e2e.host import ROOT, Host

TARGET = ROOT / "assets" / "dashboard.svg"
SIZE = (120, 40)


async def pictures(host: Host, seconds: float) -> None:
    """A wave of drawings: idle, busy, too much for one worker, idle again."""
    picture = (ROOT / "assets" / "images" / "landscape.jpg").read_bytes()
    headers = {"content-type": "image/jpeg", "x-api-key": host.key}
    loop = asyncio.get_running_loop()
    start = loop.time()
    end = start + seconds
    async with httpx.AsyncClient(base_url=host.url, headers=headers, trust_env=False, timeout=120) as http:
        calls: set[asyncio.Task[httpx.Response]] = set()
        while loop.time() < end:
            busy = ((loop.time() - start) % 20) < 12
            calls.add(asyncio.create_task(http.post("/v1/sketch?operation=stylise", content=picture)))
            await asyncio.sleep(0.085 if busy else 1.1)
        await asyncio.gather(*calls)


async def questions(host: Host, seconds: float) -> None:
    """A few slow calls at a time, so that two or three workers are busy."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with httpx.AsyncClient(
        base_url=host.url, headers={"x-api-key": host.key}, trust_env=False, timeout=120
    ) as http:

        async def ask() -> None:
            while loop.time() < end:
                await http.post("/v1/answers", json={"latency_s": 0.4, "tokens": 20})

        await asyncio.gather(*(ask() for _ in range(3)))


async def draw(seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as directory:
        host = Host(Path(directory), "process", gpus="L40:5,H100:1")
        await host.start()
        try:
            policy = RequestCount(value=3)
            await host.create("1-2", slug="sketch", model="sketch", policy=policy, idle_timeout_s=8)
            await host.create("1-3", slug="answers", policy=RequestCount(value=1), idle_timeout_s=20)
            await host.create("0-5", slug="nightly", gpu_type="H100")
            await host.until_ready(1, "sketch")
            load = asyncio.gather(pictures(host, seconds), questions(host, seconds + 5))
            await asyncio.sleep(seconds - 6)
            app = GpudeckApp(SocketClient(host.places.socket_file))
            async with app.run_test(size=SIZE) as pilot:
                while app.snapshot is None:
                    await pilot.pause(0.1)
                await pilot.pause(2.5)
                TARGET.write_text(clean(app.export_screenshot(title="gpudeck")), encoding="utf-8")
            await load
        finally:
            await host.stop()


def clean(svg: str) -> str:
    """Without fonts from elsewhere: a README picture loads nothing, and trailing blanks are no content."""
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    asyncio.run(draw(float(sys.argv[1]) if len(sys.argv) > 1 else 70.0))
