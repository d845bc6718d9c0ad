"""Following the orchestrator's feed for ever: reconnecting is the feed's business, nobody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from textual.message import Message

from app.messages import FeedLost, SnapshotArrived
from orchestrator.contract.client import OrchestratorClient

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 8.0


async def follow(
    client: OrchestratorClient,
    post: Callable[[Message], object],
    pause: Callable[[float], Awaitable[object]],
    per_second: float = 4.0,
    drawn: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Post `SnapshotArrived` for each frame and `FeedLost` for each break, waiting longer between failed attempts.

    Runs until cancelled. `pause` is given seconds; it is asyncio.sleep outside tests. At most `per_second` frames come,
    and the next one is asked for when `drawn` has returned: a terminal or machine that is slow gets fewer pictures, and
    a key waits for one picture at most.
    """
    delay_s = RETRY_FIRST_S
    while True:
        try:
            async for snapshot in client.snapshots(per_second):
                delay_s = RETRY_FIRST_S
                if drawn is not None:
                    await drawn()  # what a key changed goes first
                post(SnapshotArrived(snapshot))
                if drawn is not None:
                    await drawn()
            reason = "the orchestrator closed the feed"
        except ConnectionError as error:
            reason = str(error) or "no connection to the orchestrator"
        post(FeedLost(reason))
        await pause(delay_s)
        delay_s = min(delay_s * 2, RETRY_MAX_S)
