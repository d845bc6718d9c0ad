"""The endpoint form without a terminal: texts as typed become a specification, or a problem beside each field.

Every limit is the contract's (`orchestrator.contract.limits`, design.md section 1); nothing here is a second opinion.
What only the orchestrator can know (credit, reservations, the operator's limit on workers) comes with the quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from app.format import clip, plain
from app.present import policy as scaling
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.endpoint import (
    ROLLING_FIELDS,
    Auto,
    Concurrency,
    EndpointChanges,
    EndpointSpec,
    QueueDelay,
    RequestCount,
    ScalingPolicy,
    Visibility,
)
from orchestrator.contract.limits import (
    CONCURRENCY,
    EXECUTION_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    NAME_PATTERN,
    QUEUE_LIMIT,
    QUEUE_TIMEOUT_S,
    STARTUP_DEADLINE_S,
    Environment,
    slug_problem,
)
from orchestrator.contract.presets import PRESETS, Preset
from orchestrator.contract.secrets import MASK, still_masked
from orchestrator.contract.snapshot import ModelView, Snapshot

LABELS: Final[Mapping[str, str]] = {
    "slug": "slug", "model": "model", "gpu_type": "GPU type", "account": "account", "baseline": "baseline",
    "maximum": "maximum", "policy": "scaling", "idle_timeout_s": "idle timeout",
    "execution_timeout_s": "execution timeout", "queue_timeout_s": "queue timeout",
    "startup_deadline_s": "startup deadline", "queue_limit": "queue limit", "concurrency": "concurrency",
    "visibility": "visibility", "env": "environment",
}  # fmt: skip
"""Every field of `EndpointSpec` as the user reads it."""

WORKERS: Final = (0, 9_999)
"""What the form itself takes: the operator may have raised `workers_max`, so the quote says what is too much."""
TOP_UP_MAX_U: Final = 1_000_000 * DOLLAR_U
TTL_DAYS: Final = (1, 3_650)
_AMOUNT: Final = re.compile(r"(\d{1,3}(?:,\d{3})+|\d*)(?:\.(\d*))?")
_DECIMALS: Final = 6
_ENVIRONMENT: Final = TypeAdapter(Environment)


class Invalid(ValueError):
    """A text that is no value of its field. The message is a sentence that names the limit, without the field."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The form as typed. `threshold` is the number of the chosen policy (`app.present.policy`)."""

    slug: str = ""
    model: str = ""
    gpu_type: str = ""
    account: str = "local"
    baseline: str = "1"
    maximum: str = "2"
    policy: str = "queue_delay"
    threshold: str = "4"
    idle_timeout_s: str = "10"
    execution_timeout_s: str = "600"
    queue_timeout_s: str = "600"
    startup_deadline_s: str = "900"
    queue_limit: str = "1000"
    concurrency: str = ""
    visibility: str = "private"
    env: str = ""

    @classmethod
    def of(cls, spec: EndpointSpec) -> Texts:
        """`spec` as one would type it; `read` gives it back."""
        policy = spec.policy
        return cls(
            slug=spec.slug,
            model=spec.model,
            gpu_type=spec.gpu_type,
            account=spec.account,
            baseline=str(spec.baseline),
            maximum=str(spec.maximum),
            policy=policy.kind,
            threshold=scaling.number(policy),
            idle_timeout_s=str(spec.idle_timeout_s),
            execution_timeout_s=str(spec.execution_timeout_s),
            queue_timeout_s=str(spec.queue_timeout_s),
            startup_deadline_s=str(spec.startup_deadline_s),
            queue_limit=str(spec.queue_limit),
            concurrency="" if spec.concurrency is None else str(spec.concurrency),
            visibility=spec.visibility.value,
            env="\n".join(f"{name}={value}" for name, value in spec.env.items()),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """Either `spec`, or at least one entry in `problems`: field name to a sentence for the user."""

    spec: EndpointSpec | None
    problems: Mapping[str, str]


def read(texts: Texts, snapshot: Snapshot, original: EndpointSpec | None = None) -> Reading:
    """The specification that `texts` say, on the host of `snapshot`; `original` is what an edit began with.

    An edit is not held against a choice it leaves alone: an endpoint keeps a model that another engine ran.
    """
    problems: dict[str, str] = {}
    values: dict[str, Any] = {"account": texts.account, "visibility": texts.visibility}

    def take(field: str, parse: Callable[[], Any]) -> None:
        try:
            values[field] = parse()
        except Invalid as error:
            problems[field] = str(error)

    taken = frozenset() if original else frozenset(endpoint.spec.slug for endpoint in snapshot.endpoints)
    take("slug", lambda: _slug(texts.slug, taken))
    kept_model = original is not None and texts.model == original.model
    take("model", lambda: texts.model if kept_model else _model(texts.model, snapshot))
    kept_gpu = original is not None and texts.gpu_type == original.gpu_type
    take("gpu_type", lambda: texts.gpu_type if kept_gpu else _gpu_type(texts.gpu_type, snapshot))
    take("baseline", lambda: whole(texts.baseline, WORKERS, "workers"))
    take("maximum", lambda: whole(texts.maximum, (1, WORKERS[1]), "workers"))
    take("policy", lambda: _policy(texts.policy, texts.threshold, original))
    take("idle_timeout_s", lambda: whole(texts.idle_timeout_s, IDLE_TIMEOUT_S, "seconds"))
    take("execution_timeout_s", lambda: whole(texts.execution_timeout_s, EXECUTION_TIMEOUT_S, "seconds"))
    take("queue_timeout_s", lambda: whole(texts.queue_timeout_s, QUEUE_TIMEOUT_S, "seconds"))
    take("startup_deadline_s", lambda: whole(texts.startup_deadline_s, STARTUP_DEADLINE_S, "seconds"))
    take("queue_limit", lambda: whole(texts.queue_limit, QUEUE_LIMIT, "requests"))
    take("concurrency", lambda: _concurrency(texts.concurrency))
    take("env", lambda: _environment(texts.env, original))
    if values.get("baseline", 0) > values.get("maximum", WORKERS[1]):
        problems["maximum"] = f"counts all workers, so it is at least the baseline, {values['baseline']}"
    if problems:
        return Reading(None, problems)
    try:
        return Reading(EndpointSpec.model_validate(values), {})
    except ValidationError as error:
        return Reading(None, _problems_of(error))


def _problems_of(error: ValidationError) -> dict[str, str]:
    """The contract's own objections, for a rule of it that the form does not repeat."""
    found = {}
    for each in error.errors(include_url=False, include_input=False):
        field = str(each["loc"][0]) if each["loc"] else "maximum"
        found[field] = each["msg"].removeprefix("Value error, ")
    return found


def whole(text: str, limits: tuple[int, int], unit: str) -> int:
    """A whole number within `limits`, both included. Raises Invalid."""
    low, high = limits
    wanted = f"a whole number of {unit} from {low:,} to {high:,}"
    digits = text.strip()
    if not digits:
        raise Invalid(f"needs {wanted}")
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", digits):
        raise Invalid(f"'{_shown(digits)}' is not {wanted}")
    if not low <= int(digits) <= high:
        raise Invalid(f"{int(digits):,} is out of range: use {low:,} to {high:,} {unit}")
    return int(digits)


def decimal(text: str, limits: tuple[float, float], wanted: str, such_as: str) -> float:
    """A number with at most three decimals within `limits`, both included. Raises Invalid."""
    low, high = limits
    typed = text.strip()
    if not re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,3})?", typed) or not low <= float(typed) <= high:
        shown = f"'{_shown(typed)}' is not" if typed else "needs"
        raise Invalid(f"{shown} {wanted} from {low:,g} to {high:,g}, such as {such_as}")
    return float(typed)


def _shown(text: str) -> str:
    return clip(plain(text), 24)


def _slug(text: str, taken: Collection[str]) -> str:
    slug = text.strip()
    problem = slug_problem(slug)
    if problem is not None:
        raise Invalid(problem.removeprefix("slug: "))
    if slug in taken:
        raise Invalid(f"an endpoint {slug} exists already on this host")
    return slug


def model_objection(model: ModelView, snapshot: Snapshot) -> str | None:
    """Why the engine in use cannot run `model`, or None when it can."""
    engine = snapshot.engine.kind
    if engine in model.engines:
        return None
    able = " or ".join(kind.value for kind in model.engines) or "another"
    return f"needs the {able} engine; this host runs the {engine.value} engine"


def _model(name: str, snapshot: Snapshot) -> str:
    model = next((each for each in snapshot.models if each.name == name), None)
    if model is None:
        raise Invalid("choose a model" if not name else f"this host knows no model {_shown(name)}")
    if objection := model_objection(model, snapshot):
        raise Invalid(f"{plain(model.title)} {objection}")
    return name


def gpu_objection(gpu_type: str, snapshot: Snapshot) -> str | None:
    """Why no worker of this type can run here, or None when one can."""
    if all(price.gpu_type != gpu_type for price in snapshot.prices):
        return f"has no price in {plain(snapshot.price_book)}"
    if not any(each.total for each in snapshot.capacity if each.gpu_type == gpu_type):
        return "is not in this host"
    return None


def _gpu_type(name: str, snapshot: Snapshot) -> str:
    if not name:
        raise Invalid("choose a GPU type")
    if objection := gpu_objection(name, snapshot):
        raise Invalid(f"{_shown(name)} {objection}")
    return name


def _policy(kind: str, threshold: str, original: EndpointSpec | None) -> ScalingPolicy:
    """The policy of `kind` with this number; what else it was told (by the command line) stays as it was."""
    before = dict(original.policy) if original is not None and original.policy.kind == kind else {}
    match kind:
        case "request_count":
            return RequestCount(value=whole(threshold, (1, 10_000), "requests for each worker"))
        case "concurrency":
            share = decimal(threshold, (1, 100), "a share of the slots in percent", "70")
            return Concurrency(**{**before, "target": share / 100})
        case "auto":
            wait_s = decimal(threshold, (0.1, 3_600), "a wait in seconds", "10 or 0.5")
            return Auto(**{**before, "wait_p95_s": wait_s})
        case _:
            return QueueDelay(seconds=decimal(threshold, (0, 3_600), "a delay in seconds", "4 or 0.5"))


def _concurrency(text: str) -> int | None:
    """Empty is the model's own figure."""
    return whole(text, CONCURRENCY, "requests at a time") if text.strip() else None


def environment(text: str) -> dict[str, str]:
    """KEY=VALUE lines; empty lines and lines that start with # do not count. Raises Invalid naming the line."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        entry = raw.strip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, value = entry.partition("=")
        if not equals:
            raise Invalid(f"line {number}: write NAME=value")
        if name.strip() in found:
            raise Invalid(f"line {number}: {_shown(name)} is there twice")
        found[name.strip()] = value
    try:
        return _ENVIRONMENT.validate_python(found)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Invalid(clip(plain(reason), 120)) from error


def _environment(text: str, original: EndpointSpec | None) -> dict[str, str]:
    found = environment(text)
    known = still_masked(original.env) if original is not None else []
    lost = [name for name in still_masked(found) if name not in known]
    if lost:
        raise Invalid(f"{_shown(lost[0])} is only a mask, {MASK}: type the secret itself")
    return found


def suggest_slug(model: str, taken: Collection[str]) -> str:
    """A free slug that reads like the model's name: `sketch`, then `sketch-2`."""
    base = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:56].strip("-") or "endpoint"
    if slug_problem(base) is not None:
        base = f"{base}-1"
    number, slug = 2, base
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug


def preset_of(baseline: str, maximum: str) -> Preset | None:
    """The preset these two texts amount to, if any."""
    typed = (baseline.strip(), maximum.strip())
    return next((each for each in PRESETS if typed == (str(each.baseline), str(each.maximum))), None)


def parse_amount(text: str) -> int:
    """Micro-dollars of `100`, `$12.50`, `1,000` or `0.000001`, digit by digit: no float is involved. Raises Invalid."""
    digits = text.strip().removeprefix("$").strip()
    if not digits:
        raise Invalid("needs an amount in dollars, such as 50 or 12.50")
    match = _AMOUNT.fullmatch(digits)
    if match is None or not re.search(r"[0-9]", digits) or not digits.isascii():
        raise Invalid(f"'{_shown(digits)}' is no amount; write dollars as 50, 12.50 or 1,000")
    whole_part, decimals = match[1].replace(",", ""), match[2] or ""
    if len(decimals) > _DECIMALS:
        raise Invalid(f"has {len(decimals)} decimals, at most {_DECIMALS} count (one micro-dollar)")
    if len(whole_part.lstrip("0")) > 7:
        raise Invalid("is more than $1,000,000, the most of one top-up")
    amount_u = int(whole_part or "0") * DOLLAR_U + int(decimals.ljust(_DECIMALS, "0"))
    if amount_u == 0:
        raise Invalid("must be more than $0")
    if amount_u > TOP_UP_MAX_U:
        raise Invalid("is more than $1,000,000, the most of one top-up")
    return amount_u


def key_name(text: str) -> str:
    """The name of a key or an account. Raises Invalid."""
    name = text.strip()
    if not NAME_PATTERN.fullmatch(name):
        raise Invalid("use 1 to 64 letters, digits, spaces, dots, - and _, with a letter or digit at both ends")
    return name


def key_ttl_s(text: str) -> int | None:
    """Seconds of a time to live typed in days; empty means for ever. Raises Invalid."""
    return whole(text, TTL_DAYS, "days") * 86_400 if text.strip() else None


@dataclass(frozen=True, slots=True)
class Change:
    """One field of an edit, in words."""

    field: str
    before: str
    after: str
    rolls: bool
    """True when the workers have to be replaced for it."""

    @property
    def label(self) -> str:
        return LABELS[self.field]


def diff(before: EndpointSpec, after: EndpointSpec) -> tuple[Change, ...]:
    """What an edit changes, in the order of the form."""
    return tuple(
        Change(field, *_told(field, before, after), field in ROLLING_FIELDS)
        for field in LABELS
        if getattr(before, field) != getattr(after, field)
    )


def update(before: EndpointSpec, after: EndpointSpec) -> EndpointChanges:
    """The same as the contract takes it: changed fields only."""
    changed = {change.field: getattr(after, change.field) for change in diff(before, after)}
    if changed.get("concurrency", 0) is None:
        changed["concurrency"] = "default"
    return EndpointChanges(**changed)


def _told(field: str, before: EndpointSpec, after: EndpointSpec) -> tuple[str, str]:
    if field == "env":
        return _environment_told(before.env, after.env)
    return _value(getattr(before, field)), _value(getattr(after, field))


def _environment_told(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, str]:
    """Names only: a value may be a secret."""
    marks = [f"+{name}" for name in after if name not in before]
    marks += [f"~{name}" for name in after if name in before and after[name] != before[name]]
    marks += [f"−{name}" for name in before if name not in after]
    return f"{len(before)} set" if before else "none", " ".join(marks)


def _value(value: object) -> str:
    match value:
        case QueueDelay() | RequestCount() | Concurrency() | Auto():
            return scaling.words(value)
        case Visibility():
            return value.value
        case None:
            return "model's own"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))
