"""What each command does, and when it is refused. One function per command; each returns its outcome."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from orchestrator.contract import command as c
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Outcome, RefusalCode, Refused
from orchestrator.contract.endpoint import ROLLING_FIELDS, EndpointSpec, may_call
from orchestrator.contract.faults import InjectFault
from orchestrator.contract.lab import SetSpeed
from orchestrator.contract.secrets import MASK, lost_secrets, still_masked, unmasked
from orchestrator.contract.snapshot import KeyView
from orchestrator.core import credit, keys, notice, rehearsal
from orchestrator.core.admission import Objection, baselines_after_uh, object_to
from orchestrator.core.amounts import at_most
from orchestrator.core.effects import AnswerCommand, GrantKey, Leave, WithdrawKey
from orchestrator.core.endpoint import Endpoint
from orchestrator.core.events import CommandReceived, CommandUndone, Mint
from orchestrator.core.replay import digest_of
from orchestrator.core.state import COMMANDS_KEPT, Account, Answer, Draft, Undo
from orchestrator.core.writes import (
    AccountOpened,
    CommandDone,
    CreditAdded,
    CreditRequired,
    EndpointRemoved,
    EndpointSaved,
    KeyAdded,
    KeyRevoked,
    MailSet,
)

ACCOUNTS_MAX = 100
UNDO_KEPT = 64


def receive(draft: Draft, event: CommandReceived) -> None:
    """Run a command once. The same id again returns the first answer; with another body it is refused."""
    command_id = event.command.id
    digest = digest_of(event.command)
    before = draft.answers.get(command_id)
    if before is not None:
        if before.digest == digest:
            draft.do(AnswerCommand(command_id, before.outcome))
        else:
            text = f"id: {command_id} was used for another command already"
            draft.do(AnswerCommand(command_id, Refused(id=command_id, code=RefusalCode.ID_REUSED, message=text)))
        return
    endpoints, accounts, known_keys = dict(draft.endpoints), dict(draft.accounts), dict(draft.keys)
    outcome = _run(draft, event)
    undo = Undo(
        endpoints={k: endpoints.get(k) for k, v in draft.endpoints.items() if endpoints.get(k) is not v},
        credit_u={k: v.balance_u - accounts[k].balance_u for k, v in draft.accounts.items() if k in accounts},
        accounts=tuple(k for k in draft.accounts if k not in accounts),
        keys={k: known_keys.get(k) for k, v in draft.keys.items() if known_keys.get(k) is not v},
        mails={k: v.mail for k, v in accounts.items() if draft.accounts[k].mail != v.mail},
    )
    kept = list(draft.state.undo.items())[1 - UNDO_KEPT :]
    draft.assign(undo=dict([*kept, (command_id, undo)]))
    draft.command_id = command_id
    draft.do(AnswerCommand(command_id, outcome))
    if isinstance(outcome, Accepted):
        # Refusals are not kept: the same command may pass later, after a top-up.
        draft.write(CommandDone(command_id, digest, outcome, draft.now_ns))
        draft.answers[command_id] = Answer(digest, outcome)
        while len(draft.answers) > COMMANDS_KEPT:
            del draft.answers[next(iter(draft.answers))]


def undo(draft: Draft, event: CommandUndone) -> None:
    """The ledger refused the command's transaction: put back what the command changed, and forget its answer."""
    before = draft.state.undo.get(event.command_id)
    draft.answers.pop(event.command_id, None)
    if before is None:
        return
    for slug, endpoint in before.endpoints.items():
        present = draft.endpoints.get(slug)
        if endpoint is not None:
            draft.endpoints[slug] = endpoint
        elif present is not None:
            draft.endpoints[slug] = replace(present, removed=True)  # any worker it has got meanwhile is drained
    for name, amount in before.credit_u.items():
        account = draft.accounts[name]
        draft.accounts[name] = replace(account, balance_u=account.balance_u - amount)
    for name, mail in before.mails.items():
        draft.accounts[name] = replace(draft.accounts[name], mail=mail)
    for name in before.accounts:
        draft.accounts.pop(name, None)
    for key_id, key in before.keys.items():
        if key is None:
            draft.keys.pop(key_id, None)
            draft.do(WithdrawKey(key_id))
        else:
            draft.keys[key_id] = key
    if draft.state.stop_command == event.command_id:
        draft.assign(stopping=None, stop_command=None)


def _run(draft: Draft, event: CommandReceived) -> Outcome:
    command: Any = event.command
    if draft.state.stopping is not None and not isinstance(command, c.Shutdown):
        return Refused(id=command.id, code=RefusalCode.STOPPING, message="gpudeck is stopping")
    if draft.state.ledger_problem is not None and not isinstance(command, c.Shutdown):
        text = f"the ledger cannot be written ({draft.state.ledger_problem}); nothing was changed"
        return Refused(id=command.id, code=RefusalCode.LEDGER, message=text)
    if isinstance(command, c.CreateKey):
        return _create_key(draft, command, event.mint)
    return _HANDLERS[type(command)](draft, command)


def _create_endpoint(draft: Draft, command: c.CreateEndpoint) -> Outcome:
    objection = _object_to_masks(command.spec) or object_to(draft, command.spec, replaces=None)
    if objection is not None:
        return _refuse(command.id, objection)
    endpoint = Endpoint(
        spec=command.spec,
        model=draft.rules.models[command.spec.model],
        generation=1,
        wanted="enabled",
        since_ns=draft.now_ns,
    )
    _require_credit(draft, command.spec)
    _save(draft, endpoint)
    draft.note("info", f"endpoint {command.spec.slug} created, {command.spec.setup}", endpoint=command.spec.slug)
    return Accepted(id=command.id, message=f"endpoint {command.spec.slug} created")


def _update_endpoint(draft: Draft, command: c.UpdateEndpoint) -> Outcome:
    endpoint = draft.endpoints.get(command.slug)
    if endpoint is None or endpoint.removed:
        return _unknown(draft, command.id, command.slug)
    try:
        spec = command.changes.apply(endpoint.spec)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "spec"
        message = f"{field}: {first['msg'].removeprefix('Value error, ')}"
        return Refused(id=command.id, code=RefusalCode.INVALID, message=message, field=field)
    spec = spec.model_copy(update={"env": unmasked(spec.env, endpoint.spec.env)})
    masks = _object_to_masks(spec, lost=still_masked(endpoint.spec.env))
    if masks is not None:
        return _refuse(command.id, masks)
    if spec == endpoint.spec:
        return Accepted(id=command.id, message=f"endpoint {command.slug} is like that already")
    if endpoint.enabled:
        objection = object_to(draft, spec, replaces=command.slug)
        if objection is not None:
            return _refuse(command.id, objection)
    elif spec.model not in draft.rules.models:
        text = f"model: no model {spec.model!r}"
        return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="model")
    rolls = any(getattr(spec, name) != getattr(endpoint.spec, name) for name in ROLLING_FIELDS)
    updated = replace(
        endpoint,
        spec=spec,
        model=draft.rules.models[spec.model],
        generation=endpoint.generation + rolls,
        crashes=0,
        retry_ns=None,
        problem=None if endpoint.enabled else endpoint.problem,
    )
    _save(draft, updated)
    how = "rolling its workers" if rolls and endpoint.enabled else "in force at once"
    draft.note("info", f"endpoint {command.slug} updated to {spec.setup}, {how}", endpoint=command.slug)
    return Accepted(id=command.id, message=f"endpoint {command.slug} updated, {how}")


def _enable_endpoint(draft: Draft, command: c.EnableEndpoint) -> Outcome:
    endpoint = draft.endpoints.get(command.slug)
    if endpoint is None or endpoint.removed:
        return _unknown(draft, command.id, command.slug)
    if endpoint.enabled:
        draft.endpoints[command.slug] = replace(endpoint, retry_ns=None)
        return Accepted(id=command.id, message=f"endpoint {command.slug} is enabled already")
    lost = lost_secrets(command.slug, endpoint.spec.env)
    if lost is not None:
        return _refuse(command.id, Objection(RefusalCode.INVALID, lost, "env"))
    objection = object_to(draft, endpoint.spec, replaces=command.slug)
    if objection is not None:
        return _refuse(command.id, objection)
    _require_credit(draft, endpoint.spec)
    _save(
        draft,
        replace(endpoint, wanted="enabled", crashes=0, retry_ns=None, problem=None, starved=False,
                since_ns=draft.now_ns),
    )  # fmt: skip
    draft.note("info", f"endpoint {command.slug} enabled", endpoint=command.slug)
    return Accepted(id=command.id, message=f"endpoint {command.slug} enabled")


def _disable_endpoint(draft: Draft, command: c.DisableEndpoint) -> Outcome:
    endpoint = draft.endpoints.get(command.slug)
    if endpoint is None or endpoint.removed:
        return _unknown(draft, command.id, command.slug)
    if endpoint.wanted == "disabled":
        return Accepted(id=command.id, message=f"endpoint {command.slug} is disabled already")
    _save(draft, replace(endpoint, wanted="disabled", problem=None, since_ns=draft.now_ns))
    draft.note("info", f"endpoint {command.slug} disabled, draining", endpoint=command.slug)
    return Accepted(id=command.id, message=f"endpoint {command.slug} disabled, its workers drain")


def _delete_endpoint(draft: Draft, command: c.DeleteEndpoint) -> Outcome:
    endpoint = draft.endpoints.get(command.slug)
    if endpoint is None or endpoint.removed:
        return _unknown(draft, command.id, command.slug)
    draft.endpoints[command.slug] = replace(endpoint, removed=True)
    draft.write(EndpointRemoved(command.slug, draft.now_ns))
    draft.note("info", f"endpoint {command.slug} is being deleted, draining", endpoint=command.slug)
    return Accepted(id=command.id, message=f"endpoint {command.slug} deleted, its workers drain")


def _create_account(draft: Draft, command: c.CreateAccount) -> Outcome:
    if command.name in draft.accounts:
        text = f"name: an account {command.name!r} exists already"
        return Refused(id=command.id, code=RefusalCode.EXISTS, message=text, field="name")
    if len(draft.accounts) >= ACCOUNTS_MAX:
        text = f"name: there are {ACCOUNTS_MAX} accounts already, which is the limit"
        return Refused(id=command.id, code=RefusalCode.LIMIT, message=text, field="name")
    draft.accounts[command.name] = Account(command.name, 0, mail=command.mail)
    draft.write(AccountOpened(command.name, draft.now_ns))
    if command.mail is not None:
        draft.write(MailSet(command.name, command.mail))
    draft.note("info", f"account {command.name} opened")
    return Accepted(id=command.id, message=f"account {command.name} opened")


def _set_mail(draft: Draft, command: c.SetMail) -> Outcome:
    account = draft.accounts.get(command.account)
    if account is None:
        return _no_account(draft, command.id, command.account)
    draft.accounts[account.name] = replace(account, mail=command.mail)
    draft.write(MailSet(account.name, command.mail))
    notice.send_pending(draft, account.name)
    where = command.mail if command.mail is not None else "the operator's address"
    return Accepted(id=command.id, message=f"mail about account {account.name} goes to {where}")


def _top_up(draft: Draft, command: c.TopUp) -> Outcome:
    account = draft.accounts.get(command.account)
    if account is None:
        return _no_account(draft, command.id, command.account)
    draft.accounts[account.name] = replace(account, balance_u=account.balance_u + command.amount_u)
    draft.write(CreditAdded(account.name, command.amount_u, command.id, command.memo, draft.now_ns))
    amount = at_most(command.amount_u)
    draft.note("good", f"account {account.name}: {amount} added")
    return Accepted(id=command.id, message=f"{amount} added to account {account.name}")


def _create_key(draft: Draft, command: c.CreateKey, mint: Mint | None) -> Outcome:
    assert mint is not None, "the controller mints a key for every CreateKey"
    if command.account not in draft.accounts:
        return _no_account(draft, command.id, command.account)
    for slug in command.endpoints:
        endpoint = draft.endpoints.get(slug)
        if endpoint is None or endpoint.removed or not may_call(command.account, endpoint.spec):
            text = f"endpoints: account {command.account} has no endpoint {slug!r}"
            return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="endpoints")
    if keys.active(draft) >= keys.KEYS_MAX:
        text = f"name: there are {keys.KEYS_MAX} keys already, which is the limit; revoke some"
        return Refused(id=command.id, code=RefusalCode.LIMIT, message=text, field="name")
    expires_ns = draft.now_ns + command.ttl_s * SECOND_NS if command.ttl_s is not None else None
    scope = tuple(sorted(set(command.endpoints)))
    draft.keys[mint.key_id] = KeyView(
        id=mint.key_id, account=command.account, name=command.name, created_ns=draft.now_ns, expires_ns=expires_ns,
        endpoints=scope,
    )  # fmt: skip
    draft.write(KeyAdded(mint.key_id, command.account, command.name, mint.digest, draft.now_ns, expires_ns, scope))
    draft.do(GrantKey(mint.key_id, mint.digest, command.account, expires_ns, scope))
    keys.forget_old(draft)
    return Accepted(id=command.id, message=f"key {command.name} created", key_id=mint.key_id)


def _revoke_key(draft: Draft, command: c.RevokeKey) -> Outcome:
    key = draft.keys.get(command.key_id)
    if key is None:
        text = f"key_id: no key {command.key_id!r}"
        return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="key_id")
    if key.revoked_ns is None:
        draft.keys[key.id] = key.model_copy(update={"revoked_ns": draft.now_ns})
        draft.write(KeyRevoked(key.id, draft.now_ns))
        draft.do(WithdrawKey(key.id))
    return Accepted(id=command.id, message=f"key {key.name} revoked")


def _shutdown(draft: Draft, command: c.Shutdown) -> Outcome:
    draft.assign(stopping=command.mode, stop_command=command.id)
    if command.mode == "leave":
        running = len(draft.workers)
        burn = at_most(sum(i.opened.rate_uh for i in draft.intervals.values()))
        draft.note("info", f"gpudeck leaves {running} workers running at {burn}/h")
        draft.do(Leave())
        return Accepted(id=command.id, message=f"{running} workers go on running at {burn}/h")
    draft.note("info", "gpudeck drains and stops all workers")
    return Accepted(id=command.id, message=f"draining {len(draft.workers)} workers, then stopping")


def _save(draft: Draft, endpoint: Endpoint) -> None:
    draft.endpoints[endpoint.slug] = endpoint
    draft.write(EndpointSaved(endpoint.spec, endpoint.generation, endpoint.wanted, None, draft.now_ns))


def _object_to_masks(spec: EndpointSpec, lost: Collection[str] = ()) -> Objection | None:
    """A mask is what a snapshot shows in place of a secret: as a value it could only be a copy of that. What was `lost`
    before may stay so: it must not hold up a change of something else."""
    names = ", ".join(name for name in still_masked(spec.env) if name not in lost)
    text = f"env: {MASK} is how a secret is shown, not its value; give {names} anew"
    return Objection(RefusalCode.INVALID, text, "env") if names else None


def _no_account(draft: Draft, command_id: str, name: str) -> Refused:
    known = ", ".join(draft.accounts)
    text = f"account: no account {name!r} (there are: {known})"
    return Refused(id=command_id, code=RefusalCode.NOT_FOUND, message=text, field="account")


def _require_credit(draft: Draft, spec: EndpointSpec) -> None:
    """The gate again, inside the transaction of the intent: two creates at once cannot both pass."""
    draft.write(CreditRequired(spec.account, credit.gate_u(baselines_after_uh(draft, spec))))


def _refuse(command_id: str, objection: Objection) -> Refused:
    return Refused(
        id=command_id,
        code=objection.code,
        message=objection.message,
        field=objection.field,
        needed_u=objection.needed_u,
        available_u=objection.available_u,
    )


def _unknown(draft: Draft, command_id: str, slug: str) -> Refused:
    known = ", ".join(sorted(draft.endpoints)) or "none"
    text = f"slug: no endpoint {slug!r} (there are: {known})"
    return Refused(id=command_id, code=RefusalCode.NOT_FOUND, message=text, field="slug")


def _set_speed(_: Draft, command: SetSpeed) -> Outcome:
    text = "speed: only a lab has a clock to set (`gpudeck demo --lab`); here time takes its time"
    return Refused(id=command.id, code=RefusalCode.STATE, message=text, field="speed")


def _inject_fault(draft: Draft, command: InjectFault) -> Outcome:
    endpoint = draft.endpoints.get(command.slug)
    if endpoint is None or endpoint.removed:
        return _unknown(draft, command.id, command.slug)
    return rehearsal.inject(draft, command, endpoint)


_HANDLERS: dict[type, Callable[[Draft, Any], Outcome]] = {
    SetSpeed: _set_speed,
    InjectFault: _inject_fault,
    c.CreateEndpoint: _create_endpoint,
    c.UpdateEndpoint: _update_endpoint,
    c.EnableEndpoint: _enable_endpoint,
    c.DisableEndpoint: _disable_endpoint,
    c.DeleteEndpoint: _delete_endpoint,
    c.CreateAccount: _create_account,
    c.SetMail: _set_mail,
    c.TopUp: _top_up,
    c.RevokeKey: _revoke_key,
    c.Shutdown: _shutdown,
}
