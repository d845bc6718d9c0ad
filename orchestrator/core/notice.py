"""What is told about credit, once per downward crossing: an event always, a mail when mail is configured.

Each crossing has a number of its own per account, on disk in the transaction of its event; (account, kind, number) is
the dedupe key of its mail. A warning is re-armed by recovery: at once when the balance would do for the burn that it
was about, else when the balance has been enough for an hour, so that the end of every burst is no recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.contract.base import DOLLAR_U, HOUR_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.core import credit
from orchestrator.core.amounts import at_least, at_most
from orchestrator.core.effects import SendMail
from orchestrator.core.events import MailAttempted
from orchestrator.core.state import Account, Draft
from orchestrator.core.writes import CreditWatched, MailKey, MailKind, MailQueued, MailTried

CALM_NS = HOUR_NS
"""A balance that has been enough for so long, at whatever burn there was, has recovered without a top-up."""


def watch_warning(draft: Draft, account: Account, balance_u: int, burn: credit.Burn, smoothed_uh: int) -> Account:
    """The account with its warning fired, kept or re-armed, at `smoothed_uh` micro-dollars per hour."""
    low = smoothed_uh > 0 and balance_u < credit.WARNING_HOURS * smoothed_uh
    account = replace(account, burn_uh=smoothed_uh, warned=low)
    if low and not account.alerted_uh:
        account = replace(account, warnings=account.warnings + 1, alerted_uh=smoothed_uh, calm_since_ns=None)
        hours = balance_u / smoothed_uh
        draft.note("warning", f"account {account.name}: credit lasts {hours:.1f} h at the current burn")
        _record(draft, account)
        left = credit.hours_left(balance_u, smoothed_uh) or 0.0
        subject = f"gpudeck: credit of account {account.name} is low, its endpoints stop in {left:.1f} h"
        body = _warning_text(draft, account, balance_u, burn, smoothed_uh)
        _queue(draft, account, "warning", account.warnings, subject, body)
    elif low:
        account = replace(account, calm_since_ns=None)
    elif account.alerted_uh:
        calm_since_ns = draft.now_ns if account.calm_since_ns is None else account.calm_since_ns
        account = replace(account, calm_since_ns=calm_since_ns)
        enough = balance_u >= credit.WARNING_HOURS * account.alerted_uh
        if enough or draft.now_ns - calm_since_ns >= CALM_NS:
            account = replace(account, alerted_uh=0, calm_since_ns=None)
            _record(draft, account)
    return account


def tell_suspension(draft: Draft, account: Account, balance_u: int, stopped: Sequence[EndpointSpec]) -> Account:
    """The account with one more suspension: `stopped` are the endpoints that it turned off."""
    shown = at_most(balance_u)
    draft.note("error", f"account {account.name}: balance {shown} is below $10.00, endpoints are turned off")
    account = replace(account, suspended=True, suspensions=account.suspensions + 1)
    _record(draft, account)
    subject = f"gpudeck: endpoints of account {account.name} are stopped, balance {shown}"
    body = _suspension_text(draft, account, balance_u, stopped)
    _queue(draft, account, "suspended", account.suspensions, subject, body)
    return account


def attempted(draft: Draft, event: MailAttempted) -> None:
    """A mail was handed over, could not be yet, or never will be."""
    key = event.key
    if key not in draft.state.mails or key.account not in draft.accounts:
        return
    draft.write(MailTried(key, event.state, event.attempts, event.problem, draft.now_ns))
    account = draft.accounts[key.account]
    draft.accounts[key.account] = replace(account, mail_problem=event.problem)
    if event.state != "queued":
        draft.assign(mails={k: mail for k, mail in draft.state.mails.items() if k != key})
    name = f"account {key.account}: {key.kind} mail {key.crossing_no}"
    if event.state == "sent":
        draft.note("info", f"{name} sent")
    elif event.state == "failed":
        draft.note("error", f"{name} is undeliverable: {event.problem}")
    elif event.attempts <= 1:
        draft.note("warning", f"{name} is not delivered yet: {event.problem}")


def send_pending(draft: Draft, account: str | None = None) -> None:
    """Ask again for every mail that is not delivered: after a restart, or for one account when its address changed."""
    for key, mail in draft.state.mails.items():
        if account in (None, key.account) and key.account in draft.accounts:
            draft.do(SendMail(mail, draft.accounts[key.account].mail))


def _record(draft: Draft, account: Account) -> None:
    draft.write(CreditWatched(account.name, account.warnings, account.alerted_uh, account.suspensions, draft.now_ns))


def _queue(draft: Draft, account: Account, kind: MailKind, number: int, subject: str, body: str) -> None:
    if not draft.rules.mails:
        return
    mail = MailQueued(MailKey(account.name, kind, number), subject, body, draft.now_ns)
    draft.write(mail)
    draft.assign(mails={**draft.state.mails, mail.key: mail})
    draft.do(SendMail(mail, account.mail))


def _warning_text(draft: Draft, account: Account, balance_u: int, burn: credit.Burn, smoothed_uh: int) -> str:
    enabled = [e.spec for e in draft.endpoints.values() if e.spec.account == account.name and e.enabled]
    missing_u = credit.FLOOR_U + 24 * smoothed_uh - balance_u
    return "\n".join(
        [
            f"The credit of account {account.name} is below {credit.WARNING_HOURS} hours at its current burn.",
            "",
            *_figures(balance_u, burn),
            "",
            "What happens next: below $10.00 all endpoints of this account are turned",
            "off. Requests in flight get a moment to finish, new ones are refused with",
            "402, and nothing resumes by itself.",
            *(["Turned on now:", *_list(enabled)] if enabled else []),
            "",
            "To add credit, so that it lasts 24 h at the current burn (in the dashboard: t):",
            f"  gpudeck account topup {_quoted(account.name)} {_typed(max(missing_u, DOLLAR_U))}",
            "",
            "You are told once; again only after the credit has recovered.",
            "",
        ]
    )


def _suspension_text(draft: Draft, account: Account, balance_u: int, stopped: Sequence[EndpointSpec]) -> str:
    priced = [(spec, draft.book.price(spec.gpu_type)) for spec in stopped]
    needed_u = credit.gate_u(sum(credit.baseline_uh(spec, price) for spec, price in priced if price is not None))
    missing_u = max(needed_u - balance_u, DOLLAR_U)
    return "\n".join(
        [
            f"The balance of account {account.name} is {at_most(balance_u)}, below the floor of $10.00.",
            "",
            "These endpoints have been turned off:",
            *_list(stopped),
            "They refuse requests with 402. Their workers get a moment to finish, stop,",
            "and cost nothing after that.",
            "",
            "Nothing resumes by itself. To go on:",
            f"  gpudeck account topup {_quoted(account.name)} {_typed(missing_u)}",
            *(f"  gpudeck endpoint enable {spec.slug}" for spec in stopped),
            f"All of them together need a balance of {at_least(needed_u)}: 24 h of their",
            "baselines, and at least $10.",
            "",
        ]
    )


def _figures(balance_u: int, burn: credit.Burn) -> list[str]:
    lines = [f"Balance        {at_most(balance_u)}", f"Burn now       {at_most(burn.current_uh)}/h"]
    lines.append("Until the balance is $10.00:")
    for name, rate_uh in (
        ("baseline", burn.baseline_uh), ("current", burn.current_uh), ("worst case", burn.worst_case_uh),
    ):  # fmt: skip
        hours = credit.hours_left(balance_u, rate_uh)
        left = "no end, nothing is spent" if hours is None else f"{hours:.1f} h at {at_most(rate_uh)}/h"
        lines.append(f"  {name:<12} {left}")
    return lines


def _list(specs: Sequence[EndpointSpec]) -> list[str]:
    return [f"  {spec.slug} ({spec.setup} x {spec.gpu_type}, model {spec.model})" for spec in specs]


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _typed(amount_u: int) -> str:
    """What is needed, as it is typed: to a shell `$1` is something else."""
    return at_least(amount_u).removeprefix("$").replace(",", "")
