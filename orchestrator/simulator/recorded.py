"""What the deck's files know of an endpoint: its settings, its requests one by one, its prices."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Final

from orchestrator.assets import load_models, load_price_book, load_price_schedule, price_book_names
from orchestrator.clock import system_now
from orchestrator.contract.endpoint import EndpointSpec, Visibility
from orchestrator.contract.places import Places
from orchestrator.core.history import Requests
from orchestrator.core.pricing import Price, PriceBook
from orchestrator.ledger.decisions import read_extent
from orchestrator.ledger.metrics import open_to_read
from orchestrator.ledger.recall import Recalled, recall
from orchestrator.ledger.requests import read_requests
from orchestrator.settings import load_settings

REQUESTS_DEFAULT: Final = 3_000


class Missing(Exception):
    """What was asked about does not exist."""


def known_endpoint(where: Places, slug: str, account: str | None) -> Recalled:
    """The endpoint as the ledger has it; for an `account`, one that it may call. Raises Missing, LedgerError."""
    if not where.ledger_file.exists():
        raise Missing(f"there is no endpoint {slug!r}: gpudeck has not run here yet")
    try:
        known = recall(where.ledger_file, slug)
    except KeyError as error:
        raise Missing(f"there is no endpoint {slug!r} (endpoints: {error.args[0]})") from error
    if account not in (None, known.spec.account) and known.spec.visibility is Visibility.PRIVATE:
        raise Missing(f"account {account!r} has no endpoint {slug!r}")
    return known


def requests_of(where: Places, known: Recalled, newest: int, now_ns: int | None) -> tuple[Requests, int, int]:
    """The `newest` requests, and from when to when (wall nanoseconds) there could be any: since the endpoint was made,
    or since the first of them when older ones are left out; until `now_ns`, else until gpudeck was last there. Raises
    LedgerError."""
    slug = known.spec.slug
    with closing(open_to_read(where.metrics_file)) as connection:
        requests = read_requests(connection, slug, known.created_ns, newest)
        extent_ns = read_extent(connection, slug, known.created_ns)
    arrived_ns = requests.arrived_ns
    oldest_ns, newest_ns = extent_ns or (known.seen_ns, known.created_ns)
    since_ns = arrived_ns[0] if len(arrived_ns) >= newest else oldest_ns
    until_ns = max(known.seen_ns, newest_ns) if now_ns is None else now_ns
    return requests, since_ns, until_ns


def price_of(where: Places, gpu_type: str, book: str | None) -> tuple[str, Price]:
    """The book's name and the price of that GPU type: in `book`, or in the one in force now. Raises Missing."""
    if book is not None and book not in (there := price_book_names(where.prices_dir)):
        raise Missing(f"book: there is no price book {book[:40]!a} (there are: {', '.join(there)})")
    found = load_price_book(book, where.prices_dir) if book is not None else book_in_force(where)
    price = found.price(gpu_type)
    if price is None:
        raise Missing(f"gpu: {found.name} has no price for {gpu_type!r} (it has: {', '.join(found.prices)})")
    return found.name, price


def book_in_force(where: Places) -> PriceBook:
    """Raises SettingsError, AssetError."""
    settings = load_settings(where.settings_file, os.environ, {}).settings
    periods = [(period.book, period.start_ns) for period in settings.price_book]
    return load_price_schedule(periods, where.prices_dir).book_at(system_now()())


def slots_of(where: Places, spec: EndpointSpec) -> int:
    """Requests that one of its workers takes at a time."""
    found = load_models(where.models_dir).get(spec.model)
    return spec.concurrency or (found.concurrency if found is not None else 1)
