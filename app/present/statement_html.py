"""The statement as one HTML file: no script, no font and no picture from elsewhere; made to be printed on A4. Pure.

Every text that is not ours goes through `text`, which drops control characters and escapes markup.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from app.format import plain, rate_per_hour
from app.present import evidence
from app.present.amounts import day_of, exact_money, hours, instant, minute, split_money
from orchestrator.contract.accounting import ChargeSum, Statement, StatementLine
from orchestrator.contract.base import DAY_NS, HOUR_NS
from orchestrator.contract.snapshot import Tier

STYLE: Final = Path(__file__).with_name("statement.css")
DAYS_SHOWN: Final = 62


def text(value: object) -> str:
    """Foreign text, fit for an element or a quoted attribute."""
    return html.escape(plain(str(value)), quote=True)


def render_html(statement: Statement, lines: Sequence[StatementLine]) -> str:
    """The whole document."""
    title = f"Statement · {text(statement.account)} · {text(evidence.period(statement))}"
    style = STYLE.read_text(encoding="utf-8")
    body = "".join(_body(statement, lines))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>\n{style}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )


def _body(statement: Statement, lines: Sequence[StatementLine]) -> Iterator[str]:
    yield _header(statement, lines)
    yield _summary(statement)
    yield _days(statement, lines)
    yield _charges(statement)
    if statement.topups:
        yield _topups(statement)
    yield _lines(statement, lines)
    yield _footer(statement)


def money(amount_u: int) -> str:
    """Dollars and cents, the four exact places below them smaller."""
    cents, micro = split_money(amount_u)
    sign, digits = ("−", cents[1:]) if amount_u < 0 else ("", cents)
    return f'<span class="money">{sign}${digits}<u>{micro}</u></span>'


def _header(statement: Statement, lines: Sequence[StatementLine]) -> str:
    books = sorted({line.price_book for line in lines})
    facts = [
        ("Period (UTC)", f"{minute(statement.since_ns)} to {minute(statement.until_ns)}"),
        ("Taken", f"{instant(statement.taken_at_ns)[:19]} UTC"),
        ("Price book", ", ".join(books) or "–"),
        ("Ledger", statement.instance),
    ]
    if statement.simulated:
        facts.insert(0, ("SIMULATED", "by a lab: nobody owes this"))
    shown = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts)
    return (
        f'<header><div><p class="brand"><i></i>gpudeck</p><h1>{text(statement.account)}</h1>'
        f'<p class="period">Statement, {text(evidence.period(statement))}</p></div><dl>{shown}</dl></header>\n'
    )


def _summary(statement: Statement) -> str:
    boxes = [
        ("", "Opening balance", statement.opening_u),
        ("+", "Topped up", statement.topped_up_u),
        ("−", "Charged", statement.charged_u),
        ("=", "Closing balance", statement.closing_u),
    ]
    shown = "".join(
        f"<div>{f'<em>{sign}</em>' if sign else ''}<span>{name}</span><b>{money(amount_u)}</b></div>"
        for sign, name, amount_u in boxes
    )
    absorbed = (
        f'<p class="aside">Not charged: {money(statement.absorbed_u)}. Starts that failed, and time in which nobody '
        "could scale down, are on us.</p>"
        if statement.absorbed_u
        else ""
    )
    return f'<section class="sum">{shown}</section>{absorbed}\n'


def _days(statement: Statement, lines: Sequence[StatementLine]) -> str:
    """Charges by day as a picture: each line spread over its days by time. The tables hold the exact amounts."""
    first, last = day_of(statement.since_ns), day_of(max(statement.since_ns, statement.until_ns - 1))
    count = last - first + 1
    if not 1 < count <= DAYS_SHOWN:
        return ""
    spent: dict[Tier, dict[int, int]] = {tier: defaultdict(int) for tier in Tier}
    for line in lines:
        if line.absorbed:
            continue
        end_ns = line.start_ns + line.span_ns
        for day in range(day_of(line.start_ns), day_of(max(line.start_ns, end_ns - 1)) + 1):
            part_ns = min(end_ns, (day + 1) * DAY_NS) - max(line.start_ns, day * DAY_NS)
            spent[line.tier][day] += line.rate_uh * part_ns // HOUR_NS
    days = range(first, last + 1)
    most = max((sum(spent[tier][day] for tier in Tier) for day in days), default=0)
    if most == 0:
        return ""
    width, pitch, high = 700, 700 / count, 84
    bars = []
    for place, day in enumerate(days):
        x, floor = place * pitch + pitch * 0.14, float(high)
        for tier, name in ((Tier.BASELINE, "b"), (Tier.AUTOSCALE, "a")):
            tall = spent[tier][day] * (high - 4) / most
            if tall > 0:
                floor -= tall
                bars.append(
                    f'<rect class="{name}" x="{x:.1f}" y="{floor:.1f}" width="{pitch * 0.72:.1f}" height="{tall:.1f}"/>'
                )
        if place % (7 if count > 14 else 1) == 0:
            bars.append(f'<text x="{x:.1f}" y="98">{instant(day * DAY_NS)[5:10]}</text>')
    return (
        '<figure><figcaption><span><i class="b"></i>baseline</span><span><i class="a"></i>autoscale</span>'
        f"<span>by day, at most {exact_money(most)[:-4]}</span></figcaption>"
        f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img" aria-label="charges by day">'
        f'<line class="axis" x1="0" x2="{width}" y1="{high}" y2="{high}"/>{"".join(bars)}</svg></figure>\n'
    )


def _rate(rate_uh: int, tier: Tier) -> str:
    """As the price book quotes it: baseline by the hour, autoscale by the second where that is exact."""
    if tier is Tier.AUTOSCALE and rate_uh % 3_600 == 0 and rate_uh // 3_600 < 1_000_000:
        digits = f"{rate_uh // 3_600:06d}".rstrip("0") or "0"
        return f"$0.{digits}/s"
    return rate_per_hour(rate_uh)


def _chip(tier: Tier) -> str:
    return f'<span class="chip {tier.value}">{tier.value}</span>'


def _charges(statement: Statement) -> str:
    rows = "".join(_charge(charge) for charge in statement.charges)
    if not rows:
        return "<h2>Charges</h2><p class='soft'>Nothing ran in this period.</p>\n"
    spans = hours(sum(c.span_ns for c in statement.charges))
    absorbed = money(statement.absorbed_u) if statement.absorbed_u else ""
    return (
        "<h2>Charges by endpoint and tier</h2><table><thead><tr><th>Endpoint</th><th>GPU</th><th>Tier</th>"
        '<th class="n">Rate</th><th class="n">Lines</th><th class="n">Time h:m:s</th><th class="n">Not charged</th>'
        f'<th class="n">Amount</th></tr></thead><tbody>{rows}</tbody><tfoot><tr><td colspan="5">Total</td>'
        f'<td class="n">{spans}</td><td class="n">{absorbed}</td><td class="n">{money(statement.charged_u)}</td></tr>'
        "</tfoot></table>\n"
    )


def _charge(charge: ChargeSum) -> str:
    absorbed = f'<span class="soft">{money(charge.absorbed_u)}</span>' if charge.absorbed_u else ""
    return (
        f'<tr><td class="name">{text(charge.endpoint)}</td><td>{text(charge.gpu_type)}</td>'
        f'<td>{_chip(charge.tier)}</td><td class="n soft">{_rate(charge.rate_uh, charge.tier)}</td>'
        f'<td class="n">{charge.intervals:,}</td><td class="n">{hours(charge.span_ns)}</td>'
        f'<td class="n">{absorbed}</td>'
        f'<td class="n">{money(charge.amount_u)}</td></tr>'
    )


def _topups(statement: Statement) -> str:
    rows = "".join(
        f'<tr><td>{instant(t.at_ns)[:19]}</td><td>{text(t.memo)}</td><td class="n soft">{t.txn_id}</td>'
        f'<td class="n">{money(t.amount_u)}</td></tr>'
        for t in statement.topups
    )
    return (
        '<h2>Top-ups</h2><table><thead><tr><th>Time (UTC)</th><th>Note</th><th class="n">Journal row</th>'
        f'<th class="n">Amount</th></tr></thead><tbody>{rows}</tbody></table>\n'
    )


def _lines(statement: Statement, lines: Sequence[StatementLine]) -> str:
    if not lines:
        return ""
    entries = "".join(_line(line, statement) for line in lines)
    return (
        f"<h2>Every line <small>{len(lines):,} · worker, container, evidence, requests</small></h2><table><thead><tr>"
        '<th>Worker</th><th>Charged from, to (UTC)</th><th class="n">Time</th><th class="n">Requests</th>'
        f'<th class="n">Rate</th><th class="n">Amount</th></tr></thead>{entries}</table>\n'
    )


def _line(line: StatementLine, statement: Statement) -> str:
    until = "running" if line.end_ns is None else instant(line.end_ns)
    chip = '<span class="chip free">not charged</span>' if line.absorbed else _chip(line.tier)
    facts = [
        ("Begins", f"{evidence.began(line, statement)}; {evidence.life(line)}"),
        ("Ends", evidence.end_of(line, statement)),
    ]
    shown = "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in facts)
    return (
        f'<tbody class="entry{" free" if line.absorbed else ""}"><tr><td><span class="name">{text(line.endpoint)} '
        f'{text(line.label)}</span><br>{chip}</td><td class="when">{instant(line.start_ns)}<br>{until}</td>'
        f'<td class="n">{hours(line.span_ns)}</td><td class="n">{evidence.requests(line)}</td>'
        f'<td class="n soft">{_rate(line.rate_uh, line.tier)}</td><td class="n pay">{money(line.amount_u)}</td></tr>'
        f'<tr><td colspan="6" class="proof"><dl>{shown}<dt>Worker</dt><dd><code>{text(line.worker_id)}</code>, '
        f"{text(line.model)} generation {line.generation}, {text(line.gpu_type)} "
        f"<code>{text(line.gpu_uuid)}</code>; interval <code>{text(line.interval_id)}</code>, "
        f"price book {text(line.price_book)}</dd>"
        f"<dt>Container</dt><dd><code>{text(line.engine_ref or '–')}</code></dd></dl></td></tr></tbody>\n"
    )


def _footer(statement: Statement) -> str:
    right = statement.closing_u + statement.later_u
    verdict = '<span class="ok">Agrees.</span>' if statement.reconciles else '<span class="no">DOES NOT AGREE.</span>'
    return (
        "<footer><p>A line costs its rate times its time, cut off to whole micro-dollars once over the whole interval, "
        "in your favour. Small digits are millionths of a dollar.</p>"
        f"<p>{verdict} The ledger's balance {money(statement.ledger_balance_u)} less {money(statement.unposted_u)} "
        f"accrued and not posted yet is {money(right)}, the closing balance and what came after the period.</p>"
        f"<p>Journal row {statement.head}, SHA-256 <code>{text(statement.head_hash)}</code>. "
        "<code>gpudeck ledger verify</code> recomputes every amount and the chain of hashes.</p></footer>\n"
    )
