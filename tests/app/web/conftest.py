"""`gpudeck web` as a process, over a scripted orchestrator."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.contract.places import HOME_VARIABLE, places
from tests.app.fake_orchestrator import FakeOrchestrator

ROOT = Path(__file__).resolve().parents[3]
needs_terminal = pytest.mark.skipif(
    importlib.util.find_spec("textual_serve") is None, reason="the extra gpudeck[web] is not installed"
)


@dataclass
class Served:
    """A running `gpudeck web`."""

    address: str
    process: asyncio.subprocess.Process

    @property
    def base(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.address).query)["token"][0]


@asynccontextmanager
async def web(home: Path, *arguments: str) -> AsyncIterator[Served]:
    """`gpudeck web` on a port that the system chose; afterwards it must end by SIGTERM with status 0."""
    environ = {**os.environ, HOME_VARIABLE: str(home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "web", "--port", "0", "-o", "json", *arguments,
        cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(90):
            text = (await process.stdout.readuntil(b"}")).decode()
        yield Served(json.loads(text)["url"], process)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(90):
            code = await process.wait()
    assert code == 0


@pytest.fixture
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A home with a scripted orchestrator in it, whose one endpoint is `sketch`."""
    root = tmp_path_factory.mktemp("w")
    async with FakeOrchestrator(places({HOME_VARIABLE: str(root)}).socket_file):
        yield root


Start = Callable[..., Awaitable[Served]]


@pytest.fixture
async def start(home: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        yield lambda *arguments: stack.enter_async_context(web(home, *arguments))
