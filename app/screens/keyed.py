"""A screen that calls an endpoint itself, with a key made for that and revoked when the screen closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

from textual import on

from app.messages import CommandAnswered, CommandRequested, CommandUnanswered
from app.screens.live import LiveScreen
from orchestrator.contract.command import Accepted, CreateKey, RevokeKey
from orchestrator.contract.snapshot import EndpointView

KEY_TTL_S: Final = 12 * 3_600
"""Should gpudeck be killed before it can revoke the key, it ends by itself."""


class KeyedScreen(LiveScreen):
    """Subclasses call `with_key`; the secret is held in memory only and never shown."""

    _key: tuple[str, str] | None = None
    """Id and secret."""
    _waiting: tuple[str, Callable[[str], object]] | None = None
    """Id of the command that makes the key, and who waits for it."""

    def with_key(self, endpoint: EndpointView, name: str, use: Callable[[str], object]) -> None:
        """Call `use` with the secret of a key confined to `endpoint`, now or when it is there; or `no_key` is called.
        While one is being made, a second call is ignored."""
        if self._key is not None:
            use(self._key[1])
        elif self._waiting is None:
            spec = endpoint.spec
            make = CreateKey(id=uuid4().hex, account=spec.account, name=name, ttl_s=KEY_TTL_S, endpoints=(spec.slug,))
            self._waiting = (make.id, use)
            self.post_message(CommandRequested(make, quiet=True))

    def no_key(self, problem: str) -> None:
        """There is no key, for the reason given."""
        raise NotImplementedError

    @on(CommandAnswered)
    def _take_key(self, event: CommandAnswered) -> None:
        if self._waiting is None or event.command.id != self._waiting[0]:
            return
        event.stop()
        use, self._waiting = self._waiting[1], None
        outcome = event.outcome
        if isinstance(outcome, Accepted) and outcome.key_id and outcome.secret:
            self._key = (outcome.key_id, outcome.secret)
            use(outcome.secret)
        else:
            self.no_key(f"no key for the call: {outcome.message}")

    @on(CommandUnanswered)
    def _take_silence(self, event: CommandUnanswered) -> None:
        if self._waiting is not None and event.command.id == self._waiting[0]:
            event.stop()
            self._waiting = None
            self.no_key(f"no key for the call: {event.reason}")

    def leave(self) -> None:
        """Close the screen and revoke its key."""
        if self._key is not None:
            self.app.post_message(CommandRequested(RevokeKey(id=uuid4().hex, key_id=self._key[0]), quiet=True))
        self.app.pop_screen()
