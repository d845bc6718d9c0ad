"""Answers why: reads the decision journal for front ends, and replays it on demand."""

from __future__ import annotations

import asyncio
import json

from orchestrator.contract.decision import AskDecisions, DecisionInputs, DecisionLine, Decisions
from orchestrator.contract.query import Unanswered
from orchestrator.core.decisions import Decided
from orchestrator.core.scaling import dump
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import LedgerError


async def explain(metrics: MetricsStore | None, query: AskDecisions) -> Decisions | Unanswered:
    """The lines that `query` asks for. Replaying takes its time in another thread."""
    if metrics is None:
        return Unanswered(code="unavailable", message="decisions: none are kept here")
    try:
        entries = await asyncio.wrap_future(metrics.decisions(query.slug, query.until_ns, query.last))
    except LedgerError as error:
        return Unanswered(code="unavailable", message=str(error))
    return await asyncio.to_thread(decisions_of, query, entries)


def decisions_of(query: AskDecisions, entries: tuple[Decided, ...]) -> Decisions:
    """The journal's entries as lines."""
    return Decisions(slug=query.slug, lines=tuple(line_of(entry, replay=query.replay) for entry in entries))


def line_of(entry: Decided, *, replay: bool) -> DecisionLine:
    """One entry; with `replay` its inputs, and whether they lead to the same decision again."""
    inputs = None
    if replay and entry.inputs is not None:
        inputs = DecisionInputs(
            policy=entry.inputs.policy.model_dump(mode="json"),
            memory=json.loads(json.dumps(dump(entry.inputs.memory))),  # tuples are no JSON
            seen=json.loads(json.dumps(entry.inputs.seen._asdict())),
        )
    return DecisionLine(
        at_ns=entry.at_ns,
        before=entry.before,
        desired=entry.desired,
        asked=entry.asked,
        live=entry.live,
        rule=entry.why.rule,
        why=str(entry.why),
        sentence=entry.why.sentence,
        numbers=entry.why.numbers,
        obstacle=entry.obstacle,
        inputs=inputs,
        same=entry.agrees() if replay else None,
    )
