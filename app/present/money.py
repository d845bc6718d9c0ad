"""Cost and credit: what is spent now and today, what is left, and how long it lasts at three burns."""

from __future__ import annotations

from typing import Final

from app.format import fit, money, plain, rate_per_hour, rate_per_second, runway
from app.present.chart import area, meter, ruled
from app.present.lanes import Density
from app.present.text import ERROR, WARNING, Line, Span, Tone, line, spread, width
from orchestrator.contract.snapshot import AccountView

WARNING_H: Final = 10
_SCALE_H: Final = 24
NO_ACCOUNT: Final = "No account yet."


def balance_tone(account: AccountView) -> Tone:
    """Red once the endpoints are stopped, amber below the warning line."""
    if account.suspended or account.balance_u < account.floor_u:
        return ERROR
    return WARNING if account.warned else Tone.ACCENT


def rows(
    account: AccountView,
    series_u: tuple[int, ...],
    room: int,
    height: int,
    density: Density,
    others: tuple[AccountView, ...] = (),
) -> list[Line]:
    """Balance, burn and three runways in lines of at most `room` cells; the balances of `others` in place of the
    chart, as far as `height` lines go."""
    compact = density is Density.COMPACT
    tone = balance_tone(account)
    balance = Span(money(account.balance_u), Tone.STRONG if tone is Tone.ACCENT else tone)
    burn = line(
        Span(rate_per_hour(account.per_hour_u), Tone.STRONG),
        Span(f"  {rate_per_second(account.per_hour_u)}" if account.per_hour_u else "", Tone.MUTED),
    )
    spent = line(
        Span("today ", Tone.MUTED),
        Span(money(account.today_u)),
        Span("  month ", Tone.MUTED),
        Span(money(account.month_u)),
    )
    if compact:
        now = line(Span("now ", Tone.MUTED), Span(rate_per_hour(account.per_hour_u)))
        named = line(Span("balance ", Tone.MUTED), balance)
        return [
            spread(named if width(named) + 1 + width(now) <= room else line(balance), now, room),
            *_runways(account, room, name_room=11),
            *_others(others, room, height - 4),
        ]
    lines = [spread(line(Span("balance", Tone.MUTED)), line(balance), room)]
    if others:
        lines.extend(_others(others, room, max(height - 8, 1)))
    tall = 0 if others else min(max(height - 8, 0), 4)
    if tall and len(series_u) > 1:
        lines.extend(_balance_chart(account, series_u, room, tall))
    lines.append(spread(line(Span("cost now", Tone.MUTED)), burn, room))
    lines.append(spread(line(Span("spent", Tone.MUTED)), spent, room))
    lines.append(
        spread(line(Span("runway", Tone.MUTED)), line(Span(f"of {_SCALE_H} h · ╋ {WARNING_H} h", Tone.FAINT)), room)
    )
    lines.extend(_runways(account, room, name_room=11))
    lines.append(_limits(account))
    return lines


def _balance_chart(account: AccountView, series_u: tuple[int, ...], room: int, tall: int) -> list[Line]:
    """The balance from nothing up, so that its distance from the two lines is what one sees."""
    tone = balance_tone(account)
    top = max(*series_u, account.warning_at_u * 5 // 4, 1)
    chart = area(series_u, room, tall, tone=Tone.TRACK if tone is Tone.ACCENT else tone, top=top)
    chart = ruled(chart, account.floor_u, f"{money(account.floor_u)} ", ERROR, top=top)
    if account.warning_at_u > account.floor_u:
        chart = ruled(chart, account.warning_at_u, f"{WARNING_H} h ", WARNING, top=top)
    return chart


def _others(others: tuple[AccountView, ...], room: int, tall: int) -> list[Line]:
    """The balances of the other accounts, the most urgent first; the last of `tall` lines may stand for several."""
    if tall <= 0:
        return []
    ordered = sorted(others, key=lambda a: (balance_tone(a) is Tone.ACCENT, balance_tone(a) is WARNING))
    shown = ordered if len(ordered) <= tall else ordered[: tall - 1]
    lines = [_other(account, room) for account in shown]
    left = len(ordered) - len(shown)
    if left:
        lines.append(line(Span(f"+{left} more: `gpudeck account ls`", Tone.FAINT)))
    return lines


def _other(account: AccountView, room: int) -> Line:
    tone = balance_tone(account)
    burn = f"{rate_per_hour(account.per_hour_u)}  " if account.per_hour_u else ""
    figure = line(Span(burn, Tone.MUTED), Span(money(account.balance_u), Tone.PLAIN if tone is Tone.ACCENT else tone))
    return spread(line(Span(fit(plain(account.name), max(room - 26, 6)).rstrip(), Tone.MUTED)), figure, room)


def _runways(account: AccountView, room: int, name_room: int) -> list[Line]:
    left = account.runway
    return [
        _runway(name, hours, room, name_room)
        for name, hours in (
            ("baseline", left.baseline_h),
            ("current", left.current_h),
            ("worst case", left.worst_case_h),
        )
    ]


def _runway(name: str, hours: float | None, room: int, name_room: int) -> Line:
    figure_room = 10
    bar = max(room - name_room - figure_room - 1, 6)
    tone = Tone.ACCENT if hours is None or hours >= WARNING_H else WARNING if hours > 1 else ERROR
    share = 1.0 if hours is None else hours / _SCALE_H
    return line(
        Span(fit(name, name_room), Tone.MUTED),
        meter(share, bar, Tone.TRACK if hours is None else tone, mark=WARNING_H / _SCALE_H),
        Span(
            " " + fit(runway(hours), figure_room, right=True),
            Tone.MUTED if hours is None else Tone.PLAIN if tone is Tone.ACCENT else tone,
        ),
    )


def _limits(account: AccountView) -> Line:
    if account.suspended:
        return line(Span(f"■ stopped below {money(account.floor_u)}; top up (t), then enable", ERROR))
    if not account.per_hour_u:
        return line(Span(f"no spending · stops below {money(account.floor_u)}", Tone.FAINT))
    warn = Span(f"warns at {money(account.warning_at_u)}", WARNING if account.warned else Tone.FAINT)
    return line(warn, Span(f" · stops below {money(account.floor_u)}", Tone.FAINT))
