"""What a head means, as a value that can be compared: however it was arrived at, it must be the same."""

from __future__ import annotations

import hashlib

from orchestrator.gateway import wire
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import RequestHead, scan_request
from orchestrator.gateway.limits import Limits
from orchestrator.gateway.recall import Recall
from orchestrator.gateway.websocket import read_offer

WORKED_OUT = ("back", "digest", "place")
"""Kept for the next time; None as long as nobody has asked."""


def reading(head: RequestHead) -> dict[str, object]:
    """Everything a head says, with what is worked out of it later and may be there already."""
    said = {name: getattr(head, name) for name in RequestHead.__slots__ if name not in WORKED_OUT}
    worker_gets = wire.request_head(head, b"/t", b"", b"", b"")
    digest = head.digest or hashlib.sha256(head.key or b"").digest()
    return said | {"worker_gets": worker_gets, "digest": digest}


class CheckedRecall(Recall):
    """Compares whatever it recalls with what the scanner says."""

    __slots__ = ("recalled",)

    def __init__(self) -> None:
        super().__init__()
        self.recalled = 0

    def again(self, data: bytes, limits: Limits) -> tuple[RequestHead, int] | None:
        found = super().again(data, limits)
        if found is not None:
            head, size = found
            assert data.index(b"\r\n\r\n") == size - 4
            scanned = scan_request(data[: size - 4], limits.fields, limits.target_bytes)
            if head.accept is not None:  # it has been admitted before
                read_offer(scanned)
            assert reading(head) == reading(scanned)
            self.recalled += 1
        return found


def take(recall: Recall, data: bytes, limits: Limits) -> RequestHead | int:
    """What a connection does with a head that has come whole: the head, or the status it is refused with."""
    found = recall.again(data, limits)
    if found is not None:
        return found[0]
    try:
        return recall.read(data, data.index(b"\r\n\r\n"), limits)
    except Refusal as refusal:
        return refusal.status
