"""API keys as a table, and a new one on the only occasion its secret is shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from app.format import age, plain, seconds
from app.present import table
from app.present.table import Column
from app.present.text import ERROR, GOOD, Line, Span, Tone, line
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import may_call
from orchestrator.contract.limits import KEY_ENDPOINTS_MAX
from orchestrator.contract.snapshot import EndpointView, KeyView

NO_KEYS: Final = "No keys yet. Press n to create one: endpoints answer nobody without a key."
_COLUMNS: Final = (
    Column("name", "NAME", 12, grow=True, grow_max=28),
    Column("state", "STATE", 9),
    Column("id", "KEY", 9, rank=2),
    Column("account", "ACCOUNT", 8, rank=4, grow=True, grow_max=14),
    Column("scope", "MAY CALL", 9, rank=5, grow=True, grow_max=24),
    Column("created", "CREATED", 13, rank=3, right=True),
    Column("expires", "EXPIRES", 12, right=True),
    Column("used", "LAST USED", 13, right=True),
)


def ordered(keys: tuple[KeyView, ...], now_ns: int) -> tuple[KeyView, ...]:
    """Keys that work first, the newest of them on top."""
    return tuple(sorted(keys, key=lambda key: (key.state_at(now_ns) != "active", -key.created_ns)))


def _chosen(room: int) -> list[tuple[Column, int]]:
    return table.choose(_COLUMNS, room, _gap(room))


def _gap(room: int) -> int:
    return 2 if room >= 90 else 1


def head(room: int) -> Line:
    """The titles of `rows`."""
    return table.head(_chosen(room), _gap(room))


def rows(keys: tuple[KeyView, ...], now_ns: int, room: int) -> list[Line]:
    """One row a key."""
    chosen, gap = _chosen(room), _gap(room)
    return [table.row(_cells(key, now_ns), chosen, gap) for key in keys]


def _cells(key: KeyView, now_ns: int) -> dict[str, Line]:
    state = key.state_at(now_ns)
    works = state == "active"
    tone = Tone.PLAIN if works else Tone.FAINT
    mark = Span("● active", GOOD) if works else Span(f"✖ {state}", ERROR if state == "expired" else Tone.MUTED)
    return {
        "name": line(Span(plain(key.name), tone)),
        "state": line(mark),
        "id": line(Span(plain(key.id), Tone.MUTED)),
        "account": line(Span(plain(key.account), Tone.MUTED)),
        "scope": line(Span(plain(" ".join(key.endpoints)) or "all", Tone.PLAIN if key.endpoints else Tone.MUTED)),
        "created": line(Span(ago(key.created_ns, now_ns), tone)),
        "expires": line(Span(_expiry(key, now_ns), tone)),
        "used": line(Span("never" if key.last_used_ns is None else ago(key.last_used_ns, now_ns), tone)),
    }


class ScopeRow(NamedTuple):
    """An endpoint as the form for a new key offers it."""

    slug: str
    text: Line


def all_row() -> Line:
    """The row of a key that is confined to nothing."""
    return line(Span("all, those made later too"))


def scope_rows(endpoints: Sequence[EndpointView], account: str, ticked: Collection[str]) -> list[ScopeRow]:
    """What `account` may call, its own first; then what is `ticked` and not among it, which a refusal will name."""
    found = [each for each in endpoints if may_call(account, each.spec)]
    found.sort(key=lambda each: (each.spec.account != account, each.spec.slug))
    rows = [ScopeRow(each.spec.slug, _scope_text(each, account)) for each in found]
    lost = sorted(set(ticked) - {row.slug for row in rows})
    return rows + [ScopeRow(slug, line(Span(plain(slug)), Span("  cannot be called by it", ERROR))) for slug in lost]


def _scope_text(endpoint: EndpointView, account: str) -> Line:
    spec = endpoint.spec
    whose = "" if spec.account == account else f", public, of {plain(spec.account)}"
    return line(Span(plain(spec.slug)), Span(f"  {plain(spec.model)} on {plain(spec.gpu_type)}{whose}", Tone.MUTED))


def scope_problem(slugs: Collection[str]) -> str | None:
    """Why a key cannot be confined to `slugs`, or None."""
    if len(slugs) <= KEY_ENDPOINTS_MAX:
        return None
    return f"a key is confined to at most {KEY_ENDPOINTS_MAX} endpoints, not {len(slugs)}"


def ago(then_ns: int, now_ns: int) -> str:
    """As `app.format.age`, without the seconds that nobody reads of a key minutes old."""
    span_s = (now_ns - then_ns) // SECOND_NS
    return age(then_ns, now_ns) if span_s < 60 or span_s >= 3_600 else f"{span_s // 60} m ago"


def _expiry(key: KeyView, now_ns: int) -> str:
    if key.expires_ns is None:
        return "never"
    left_s = (key.expires_ns - now_ns) // SECOND_NS
    return "past" if left_s <= 0 else f"in {seconds(left_s)}"


def recipe(gateway_url: str) -> str:
    """A call that shows that the key works; it needs no endpoint."""
    return f'curl -sS {plain(gateway_url)}/v1/get-user-credits -H "x-api-key: $GPUDECK_KEY"'


def export(secret: str) -> str:
    """The line that puts the key where `recipe` and the curl lines of the endpoints look for it."""
    return f"export GPUDECK_KEY={plain(secret)}"
