"""One call through the gateway, its reply as it arrives: shared by `gpudeck call` and the playground.

Nothing here knows a terminal or a screen. Every way in which a call can fail is a `CallFailed` with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx

PROBLEM_TYPE = "application/problem+json"
"""The gateway's own errors; everything else comes from the worker."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call made ready to send."""

    method: str
    url: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()


class CallFailed(Exception):
    """No complete reply. `reason` says which way it failed, the text is for the user."""

    def __init__(self, reason: Literal["timeout", "unreachable", "broken", "url"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


@asynccontextmanager
async def calling(call: Outgoing, key: str, timeout_s: float) -> AsyncIterator[tuple[httpx.Response, float]]:
    """The response, its body unread, and the loop's time when the request left. Raises CallFailed.

    `timeout_s` bounds the whole exchange, the reading of the body within this context included.
    """
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(timeout_s),
            # An HTTP proxy from the environment must never see requests to this machine (trust_env).
            httpx.AsyncClient(trust_env=False, timeout=None) as client,  # noqa: S113  # the line above bounds it
        ):
            started = loop.time()
            async with client.stream(
                call.method,
                call.url,
                content=call.body,
                headers={"x-api-key": key, **call.headers},
                params=httpx.QueryParams(call.query) if call.query else None,
            ) as response:
                yield response, started
    except TimeoutError:
        raise CallFailed("timeout", f"no complete reply within {timeout_s:g} s") from None
    except httpx.ConnectError as error:
        raise CallFailed("unreachable", f"the gateway at {call.url} does not answer: {error}") from error
    except httpx.HTTPError as error:
        raise CallFailed("broken", f"the reply broke off: {str(error) or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise CallFailed("url", str(error)) from error
