"""The reply of /v1/chat/completions in OpenAI's form, whole or as stream chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatReply:
    """`created` is always 0: the worker reads no wall clock."""

    identity: str
    model: str
    tokens: Sequence[str]

    def document(self) -> dict[str, object]:
        message = {"role": "assistant", "content": " ".join(self.tokens)}
        usage = {"prompt_tokens": 0, "completion_tokens": len(self.tokens), "total_tokens": len(self.tokens)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    def events(self) -> list[str]:
        """One chunk per token, then one with the finish reason; the `[DONE]` is the sender's."""
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": token} if index == 0 else {"content": f" {token}"}, None)
            for index, token in enumerate(self.tokens)
        ]
        head = self._head("chat.completion.chunk")
        return [
            json.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
            for delta, reason in [*deltas, ({}, "stop")]
        ]

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.identity, "object": kind, "created": 0, "model": self.model}
