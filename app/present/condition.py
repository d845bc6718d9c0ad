"""The four states that every panel draws: loading, live, stale, failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.format import plain, seconds
from orchestrator.contract.snapshot import Snapshot

STALE_AFTER_S: Final = 3
"""Seconds without a frame after which an open feed counts as stale: it should bring several a second."""


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the TUI knows of its connection, without a clock: `silent_s` counts ticks since the last frame."""

    connected: bool = False
    reason: str | None = None
    silent_s: int = 0
    paused: bool = False

    @property
    def stale(self) -> bool:
        """True when what is on the screen may no longer be so."""
        return self.reason is not None or self.silent_s >= STALE_AFTER_S


class Kind(StrEnum):
    LOADING = "loading"
    LIVE = "live"
    STALE = "stale"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Condition:
    """A panel's state; `note` is a sentence when FAILED and the age when STALE."""

    kind: Kind
    note: str = ""


LOADING = Condition(Kind.LOADING, "waiting for the orchestrator")
LIVE = Condition(Kind.LIVE)


def of_feed(snapshot: Snapshot | None, feed: FeedState) -> Condition:
    """Loading until the first frame, failed when it cannot come, stale when frames stopped."""
    if snapshot is None:
        return LOADING if feed.reason is None else Condition(Kind.FAILED, "no connection, trying again")
    if feed.stale:
        return Condition(Kind.STALE, f"stale {seconds(feed.silent_s)}")
    return LIVE


def of_gpus(snapshot: Snapshot | None, feed: FeedState) -> Condition:
    """As the feed, but failed when there are cards and all of them are lost."""
    base = of_feed(snapshot, feed)
    if base.kind is Kind.LIVE and snapshot and snapshot.gpus and all(gpu.state == "lost" for gpu in snapshot.gpus):
        return Condition(Kind.FAILED, "every GPU is lost: the driver no longer answers for them")
    return base


def of_money(snapshot: Snapshot | None, feed: FeedState) -> Condition:
    """As the feed, but failed while the ledger cannot be written."""
    base = of_feed(snapshot, feed)
    if base.kind is Kind.LIVE and snapshot and not snapshot.ledger_ok:
        return Condition(Kind.FAILED, plain(snapshot.ledger_problem or "the ledger is unavailable"))
    return base
