"""The front ends' door to asynchronous calls: a Desk that answers what is about them and passes everything else on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from orchestrator.contract.command import Accepted, Command, Outcome, RefusalCode, Refused
from orchestrator.contract.deferred import (
    AskRequest,
    AskRequests,
    CancelRequest,
    RequestList,
    RequestShown,
    RequestState,
    RotateWebhookSecret,
)
from orchestrator.contract.frames import Answer
from orchestrator.contract.query import Query, Unanswered
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps
from orchestrator.control.desk import Desk
from orchestrator.deferred.desk import DeferredDesk
from orchestrator.deferred.records import Record
from orchestrator.deferred.signing import KeyUnusable
from orchestrator.deferred.store import StoreError
from orchestrator.deferred.telling import view_of

_UNKNOWN = "no such call, or its hour is over"


class DeferredFront:
    """`accounts` names those there are."""

    def __init__(self, inner: Desk, desk: DeferredDesk, accounts: Callable[[], Collection[str]]) -> None:
        self._inner = inner
        self._desk = desk
        self._accounts = accounts

    def observing(self) -> Steps[Snapshot]:
        return self._inner.observing()

    async def answer(self, query: Query) -> Answer:
        try:
            match query:
                case AskRequests():
                    return await self._listed(query)
                case AskRequest(request_id=request_id, account=account):
                    record = await self._find(request_id, account)
                    if record is None:
                        return Unanswered(code="not_found", message=f"request {request_id}: {_UNKNOWN}")
                    return RequestShown(request=view_of(self._desk.as_it_waits(record)))
                case _:
                    return await self._inner.answer(query)
        except StoreError as error:
            return Unanswered(code="unavailable", message=str(error))

    async def submit(self, command: Command) -> Outcome:
        try:
            match command:
                case CancelRequest():
                    return await self._cancel(command)
                case RotateWebhookSecret():
                    return await self._rotate(command)
                case _:
                    return await self._inner.submit(command)
        except (StoreError, KeyUnusable) as error:
            return Refused(id=command.id, code=RefusalCode.LEDGER, message=f"nothing was changed: {error}")

    async def _listed(self, query: AskRequests) -> RequestList:
        found, counts = await asyncio.wrap_future(
            self._desk.store.listed(query.account, query.slug, query.states, query.limit)
        )
        views = tuple(view_of(self._desk.as_it_waits(record)) for record in found)
        return RequestList(requests=views, counts=counts)

    async def _find(self, request_id: str, account: str | None) -> Record | None:
        """None for one that is not there, or not the account's."""
        record = await asyncio.wrap_future(self._desk.store.find(request_id))
        return record if record is not None and account in (None, record.account) else None

    async def _cancel(self, command: CancelRequest) -> Outcome:
        request_id = command.request_id
        record = await self._find(request_id, command.account)
        if record is None:
            text = f"request_id: {request_id}: {_UNKNOWN}"
            return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="request_id")
        if await self._desk.end_by_owner(request_id) is None and record.state is not RequestState.CANCELLED:
            record = await self._find(request_id, command.account) or record
            if record.state.over and record.state is not RequestState.CANCELLED:
                text = f"request {request_id} is {record.state} already; there is nothing to cancel"
                return Refused(id=command.id, code=RefusalCode.STATE, message=text, field="request_id")
        return Accepted(id=command.id, message=f"request {request_id} of {record.slug} is cancelled")

    async def _rotate(self, command: RotateWebhookSecret) -> Outcome:
        account = command.account
        if account not in self._accounts():
            known = ", ".join(self._accounts())
            text = f"account: no account {account!r} (there are: {known})"
            return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="account")
        secret = await self._desk.courier.rotate(account, command.id)
        text = f"webhooks of account {account} are signed with a new secret; one made before goes on for a day"
        return Accepted(id=command.id, message=text, secret=secret)
