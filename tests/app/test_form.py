"""The form without a terminal: every text becomes the right value or a problem that names the limit."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from app.present import credit, form, offer
from app.present import policy as scaling
from app.present.form import LABELS, Invalid, Texts
from app.present.text import text, width
from orchestrator.contract.endpoint import (
    Auto,
    Concurrency,
    EndpointChanges,
    EndpointSpec,
    QueueDelay,
    RequestCount,
    ScalingPolicy,
    Visibility,
    notation,
)
from orchestrator.contract.limits import RESERVED_SLUGS, slug_problem
from orchestrator.contract.query import AskQuote, Quote
from orchestrator.contract.secrets import MASK
from orchestrator.contract.snapshot import EndpointState, EngineKind, EngineView, ModelView, PriceView
from tests.app import fakes

GOOD = Texts(slug="mine", model="sketch", gpu_type="L40")
PROCESS = EngineView(kind=EngineKind.PROCESS, ok=True, detail="local processes")


def spec(**more: object) -> EndpointSpec:
    return EndpointSpec.model_validate(
        {"slug": "mine", "model": "sketch", "gpu_type": "L40", "baseline": 1, "maximum": 2, **more}
    )


def quote(**more: object) -> Quote:
    asked = spec(baseline=2, maximum=5)
    return fakes.example_answer(AskQuote(spec=asked)).model_copy(update=more)


def test_a_good_form_is_the_specification() -> None:
    typed = replace(
        GOOD, slug=" mine ", baseline="2", maximum="5", policy="request_count", threshold="8", idle_timeout_s="30",
        concurrency="4", visibility="public", env="# a comment\n\nHF_TOKEN=a=b\nDEBUG=",
    )  # fmt: skip
    found = form.read(typed, fakes.rich())
    assert found.problems == {}
    assert found.spec == spec(
        baseline=2, maximum=5, policy=RequestCount(value=8), idle_timeout_s=30, concurrency=4,
        visibility=Visibility.PUBLIC, env={"HF_TOKEN": "a=b", "DEBUG": ""},
    )  # fmt: skip


@pytest.mark.parametrize(
    "one",
    [
        spec(),
        spec(baseline=0, maximum=10, policy=QueueDelay(seconds=0.5), concurrency=7, env={"A": "1", "B": "x=y z"}),
        spec(policy=RequestCount(value=9), visibility=Visibility.PUBLIC, queue_limit=0, startup_deadline_s=7_200),
        spec(account="team", idle_timeout_s=1, execution_timeout_s=86_400, queue_timeout_s=1),
        spec(policy=Concurrency(target=0.55)),
        spec(policy=Auto(wait_p95_s=2.5)),
    ],
)
def test_a_specification_survives_being_typed(one: EndpointSpec) -> None:
    assert form.read(Texts.of(one), fakes.rich()).spec == one


BAD = [
    ("slug", "", "1 to 63 characters"),
    ("slug", "Mine", "a-z"),
    ("slug", "-mine", "not starting or ending"),
    ("slug", "m" * 64, "1 to 63"),
    ("slug", "sketch", "exists already"),
    ("slug", "models", "route of the gateway"),
    ("slug", "[bold]", "a-z"),
    ("model", "", "choose a model"),
    ("model", "nope", "knows no model nope"),
    ("gpu_type", "", "choose a GPU type"),
    ("gpu_type", "TPU", "no price in 2025-seed"),
    ("baseline", "", "needs a whole number of workers"),
    ("baseline", "-1", "-1 is out of range: use 0 to 9,999"),
    ("baseline", "1.5", "'1.5' is not a whole number"),
    ("baseline", "two", "'two' is not a whole number"),
    ("baseline", "٣", "is not a whole number"),
    ("baseline", "9" * 40, "is not a whole number"),
    ("maximum", "0", "0 is out of range: use 1 to 9,999"),
    ("maximum", "", "needs a whole number"),
    ("threshold", "", "needs a delay in seconds from 0 to 3,600"),
    ("threshold", "3601", "from 0 to 3,600"),
    ("threshold", "nan", "'nan' is not a delay"),
    ("threshold", "-1", "'-1' is not a delay"),
    ("threshold", "1e3", "'1e3' is not a delay"),
    ("idle_timeout_s", "0", "use 1 to 300 seconds"),
    ("idle_timeout_s", "301", "301 is out of range: use 1 to 300 seconds"),
    ("execution_timeout_s", "86401", "86,401 is out of range: use 1 to 86,400 seconds"),
    ("queue_timeout_s", "0", "1 to 86,400"),
    ("startup_deadline_s", "7201", "1 to 7,200"),
    ("queue_limit", "100001", "0 to 100,000 requests"),
    ("concurrency", "0", "1 to 1,024"),
    ("concurrency", "1025", "1 to 1,024"),
    ("env", "FOO", "line 1: write NAME=value"),
    ("env", "A=1\nA=2", "line 2: A is there twice"),
    ("env", "A=1\n\n1B=2", "'1B' is no variable name"),
    ("env", "A=" + "x" * 4_097, "at most 4096 characters"),
    ("env", "\n".join(f"V{n}=1" for n in range(65)), "at most 64 variables, not 65"),
]


@pytest.mark.parametrize(("field", "typed", "said"), BAD)
def test_bad_text_is_a_problem_beside_its_field(field: str, typed: str, said: str) -> None:
    found = form.read(replace(GOOD, **{field: typed}), fakes.rich())
    assert found.spec is None
    beside = "policy" if field == "threshold" else field
    assert list(found.problems) == [beside]
    assert said in found.problems[beside]
    assert beside in LABELS


def test_problems_of_several_fields_come_together() -> None:
    found = form.read(replace(GOOD, slug="", baseline="x", idle_timeout_s="0"), fakes.rich())
    assert set(found.problems) == {"slug", "baseline", "idle_timeout_s"}


def test_the_maximum_counts_all_workers() -> None:
    found = form.read(replace(GOOD, baseline="5", maximum="2"), fakes.rich())
    assert found.problems == {"maximum": "counts all workers, so it is at least the baseline, 5"}


def test_more_than_ten_workers_is_the_orchestrators_decision() -> None:
    assert form.read(replace(GOOD, baseline="1", maximum="40"), fakes.rich()).spec is not None


def test_request_count_takes_whole_numbers_only() -> None:
    found = form.read(replace(GOOD, policy="request_count", threshold="0.5"), fakes.rich())
    assert "whole number of requests for each worker from 1 to 10,000" in found.problems["policy"]


@pytest.mark.parametrize(
    ("policy", "typed", "said"),
    [
        ("concurrency", "0", "'0' is not a share of the slots in percent from 1 to 100, such as 70"),
        ("concurrency", "101", "from 1 to 100"),
        ("concurrency", "", "needs a share of the slots"),
        ("auto", "0", "'0' is not a wait in seconds from 0.1 to 3,600, such as 10 or 0.5"),
        ("auto", "3601", "from 0.1 to 3,600"),
        ("auto", "soon", "'soon' is not a wait"),
    ],
)
def test_the_number_of_a_policy_has_its_own_limits(policy: str, typed: str, said: str) -> None:
    found = form.read(replace(GOOD, policy=policy, threshold=typed), fakes.rich())
    assert said in found.problems["policy"]


@pytest.mark.parametrize(
    "policy", [Auto(wait_p95_s=5, wait_price=3), Concurrency(target=0.5, stable_s=120, panic_s=10)]
)
def test_an_edit_keeps_what_the_form_does_not_show_of_a_policy(policy: ScalingPolicy) -> None:
    before = spec(policy=policy)
    assert form.read(Texts.of(before), fakes.rich(), before).spec == before
    moved = form.read(replace(Texts.of(before), threshold="60"), fakes.rich(), before).spec
    assert moved is not None
    assert moved.policy != policy
    assert dict(moved.policy) | {"target": 0, "wait_p95_s": 0} == dict(policy) | {"target": 0, "wait_p95_s": 0}


def test_policies_have_words_and_a_notation() -> None:
    told = [(scaling.words(each), notation(each)) for each in (QueueDelay(seconds=0.5), RequestCount(value=3))]
    told += [(scaling.words(each), notation(each)) for each in (Concurrency(), Auto(), Auto(wait_price=2))]
    assert told == [
        ("queue delay 0.5 s", "queue_delay:0.5"),
        ("3 requests a worker", "request_count:3"),
        ("70% of slots in use", "concurrency:0.7"),
        ("auto, p95 wait 10 s", "auto:10"),
        ("auto, p95 wait 10 s, 2 worker-s a second", "auto:10"),
    ]
    assert [kind for kind, _ in scaling.CHOICES] == list(scaling.HINTS)


def test_a_model_of_another_engine_is_refused_with_the_reason_but_kept_by_an_edit() -> None:
    host = fakes.rich(engine=PROCESS)
    found = form.read(replace(GOOD, model="vllm"), host)
    assert found.problems == {"model": "vLLM needs the docker engine; this host runs the process engine"}
    kept = spec(model="vllm")
    assert form.read(replace(Texts.of(kept), maximum="3"), host, kept).problems == {}


def test_an_edit_keeps_its_slug_and_a_gpu_type_that_went_away() -> None:
    kept = spec(slug="sketch", gpu_type="A40")
    assert form.read(Texts.of(kept), fakes.rich(), kept).spec == kept


def test_an_emptied_concurrency_goes_back_to_the_models_own() -> None:
    kept = spec(concurrency=4)
    found = form.read(replace(Texts.of(kept), concurrency=" "), fakes.rich(), kept)
    assert found.spec is not None
    assert [(change.before, change.after) for change in form.diff(kept, found.spec)] == [("4", "model's own")]
    changes = form.update(kept, found.spec)
    assert changes == EndpointChanges(concurrency="default")
    assert changes.apply(kept) == found.spec


def test_a_masked_secret_is_kept_by_an_edit_and_refused_where_there_is_none_to_keep() -> None:
    kept = spec(env={"HF_TOKEN": MASK, "MODE": "a"})
    found = form.read(replace(Texts.of(kept), env=f"HF_TOKEN={MASK}\nMODE=b"), fakes.rich(), kept)
    assert found.spec is not None
    assert form.update(kept, found.spec) == EndpointChanges(env={"HF_TOKEN": MASK, "MODE": "b"})
    for original in (None, spec()):
        lost = form.read(replace(GOOD, env=f"HF_TOKEN={MASK}"), fakes.rich(), original)
        assert "HF_TOKEN is only a mask" in lost.problems["env"]


def test_a_priced_type_that_is_not_here_is_refused() -> None:
    host = fakes.rich()
    host = host.model_copy(
        update={"prices": (*host.prices, PriceView(gpu_type="A100", baseline_uh=4_320_000, autoscale_uh=21_888_000))}
    )
    assert form.read(replace(GOOD, gpu_type="A100"), host).problems == {"gpu_type": "A100 is not in this host"}
    assert offer.gpu_types(host) == ("L40", "H100", "A100")


@pytest.mark.parametrize(
    ("model", "taken", "slug"),
    [
        ("sketch", set(), "sketch"),
        ("sketch", {"sketch"}, "sketch-2"),
        ("sketch", {"sketch", "sketch-2", "sketch-3"}, "sketch-4"),
        ("Llama 3.1 (70B)", set(), "llama-3-1-70b"),
        ("models", set(), "models-1"),
        ("…", set(), "endpoint"),
        ("", {"endpoint"}, "endpoint-2"),
        ("x" * 200, set(), "x" * 56),
    ],
)
def test_the_suggested_slug_is_free_and_valid(model: str, taken: set[str], slug: str) -> None:
    assert form.suggest_slug(model, taken) == slug
    assert slug_problem(slug) is None


@pytest.mark.parametrize("name", sorted(RESERVED_SLUGS))
def test_no_reserved_slug_is_ever_suggested(name: str) -> None:
    assert slug_problem(form.suggest_slug(name, ())) is None


@pytest.mark.parametrize(
    ("typed", "amount_u"),
    [
        ("100", 100_000_000), ("$12.50", 12_500_000), (" 12.5 ", 12_500_000), ("0.000001", 1), (".5", 500_000),
        ("5.", 5_000_000), ("1,000", 1_000_000_000), ("1,000,000", 1_000_000_000_000), ("0.1", 100_000),
        ("1000000.000000", 1_000_000_000_000), ("0000007", 7_000_000), ("123456.654321", 123_456_654_321),
    ],
)  # fmt: skip
def test_amounts_are_read_digit_by_digit(typed: str, amount_u: int) -> None:
    assert form.parse_amount(typed) == amount_u


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "needs an amount"), ("$", "needs an amount"), ("0", "more than $0"), ("0.000000", "more than $0"),
        ("-5", "is no amount"), ("12,50", "is no amount"), ("1e6", "is no amount"), ("five", "is no amount"),
        (".", "is no amount"), ("1.0000001", "7 decimals, at most 6"), ("1000000.000001", "more than $1,000,000"),
        ("1000001", "more than $1,000,000"), ("9" * 400, "more than $1,000,000"), ("٣", "is no amount"),
        ("1 000", "is no amount"), ("1,00", "is no amount"), ("nan", "is no amount"), ("5\x1b[31m", "is no amount"),
    ],
)  # fmt: skip
def test_bad_amounts_say_why(typed: str, said: str) -> None:
    with pytest.raises(Invalid, match=said.replace("$", r"\$")) as caught:
        form.parse_amount(typed)
    assert "\x1b" not in str(caught.value)


def test_keys_have_a_name_and_perhaps_days_to_live() -> None:
    assert form.key_name(" ci pipeline ") == "ci pipeline"
    assert form.key_ttl_s("") is None
    assert form.key_ttl_s("30") == 30 * 86_400
    for name in ("", "-x", "x" * 65, "a/b"):
        with pytest.raises(Invalid, match="1 to 64"):
            form.key_name(name)
    for days in ("0", "3651", "x"):
        with pytest.raises(Invalid, match="3,650"):
            form.key_ttl_s(days)


def test_the_form_knows_every_field() -> None:
    assert set(LABELS) == set(EndpointSpec.model_fields)
    assert {each.name for each in fields(Texts)} == (set(LABELS) | {"threshold"})


def test_a_diff_says_old_and_new_and_which_changes_roll() -> None:
    before = spec(env={"KEPT": "1", "SECRET": "old", "GONE": "x"})
    after = before.model_copy(
        update={
            "model": "echo", "maximum": 4, "policy": RequestCount(value=3), "concurrency": 2,
            "env": {"KEPT": "1", "SECRET": "hunter2", "NEW": "y"},
        }
    )  # fmt: skip
    told = {change.field: (change.before, change.after, change.rolls) for change in form.diff(before, after)}
    assert told == {
        "model": ("sketch", "echo", True),
        "maximum": ("2", "4", False),
        "policy": ("queue delay 4 s", "3 requests a worker", False),
        "concurrency": ("model's own", "2", True),
        "env": ("3 set", "+NEW ~SECRET −GONE", True),
    }
    rows = "\n".join(text(each) for each in offer.diff_rows(form.diff(before, after), 60))
    assert "hunter2" not in rows
    assert "rolls the workers" in rows
    changes = form.update(before, after)
    assert changes.model_dump(exclude_none=True).keys() == told.keys()
    assert changes.apply(before) == after


def test_a_diff_of_figures_applies_at_once() -> None:
    rows = [text(each) for each in offer.diff_rows(form.diff(spec(), spec(maximum=3)), 40)]
    assert rows == ["✔ maximum  2 → 3", "✔ applies at once, the workers go on."]
    assert offer.diff_rows((), 40)[0][0].text == "Nothing has changed yet."


def test_the_price_says_every_figure_of_the_quote() -> None:
    one, snapshot = spec(baseline=2, maximum=5), fakes.rich(gpus=fakes.example_gpus(simulated=True))
    for lines in (offer.panel(one, quote(), snapshot, 34), offer.strip(one, quote(), snapshot, 74)):
        told = "\n".join(text(each) for each in lines)
        for figure in ("$5.34/h", "$15.26/h", "$0.0042/s", "$51.13/h", "$142.37", "$128.16", "$53.40", "1 of 4"):
            assert figure in told, figure
        assert "SIMULATED" in told
        assert "✔ credit ok" in told


@pytest.mark.parametrize(
    ("balance_u", "refusal", "said"),
    [
        (128_160_000, None, "✔ credit ok"),
        (128_159_999, "credit: x", "✖ short by $0.01  ^t tops up"),
        (66_860_000, "credit: x", "✖ short by $61.30  ^t tops up"),
        (66_860_000, None, "▲ below 24 h; a decrease always passes"),
    ],
)
def test_the_credit_check_names_what_is_missing(balance_u: int, refusal: str | None, said: str) -> None:
    lines = offer.panel(spec(), quote(balance_u=balance_u, refusal=refusal), fakes.rich(), 40)
    assert said in [text(each) for each in lines]


@pytest.mark.parametrize("room", [34, 44, 58, 74, 100])
def test_no_price_line_is_wider_than_its_room(room: int) -> None:
    snapshot = fakes.rich(engine=PROCESS, gpus=fakes.example_gpus(simulated=True))
    asked = spec(baseline=0, maximum=9_999)
    changes = form.diff(spec(), spec(model="echo", maximum=7, env={f"NAME_{n}": "1" for n in range(30)}))
    painted = [
        *offer.panel(asked, quote(balance_u=0, refusal="credit: x"), snapshot, room),
        *offer.strip(asked, quote(balance_u=0), snapshot, room),
        *offer.diff_rows(changes, room),
        *offer.diff_rows(changes, room, compact=True),
        *offer.waiting(offer.Offer(problem="the orchestrator is gone " * 5), complete=True, room=room),
        *credit.rows(snapshot, snapshot.accounts[0], 10**12, room),
    ]
    if room >= 50:
        painted += [*offer.model_rows(snapshot, room), *offer.gpu_rows(snapshot, max(room, 56))]
    assert [text(each) for each in painted if width(each) > max(room, 56 if "free" in text(each) else 0)] == []


def test_foreign_text_in_the_catalogue_is_cleaned() -> None:
    model = ModelView(name="m", title="\x1b[31mBad[/]", summary="x\x07", kind="text", concurrency=1, engines=())
    row = text(offer.model_rows(fakes.rich(models=(model,)), 90)[0])
    assert "\x1b" not in row
    assert "\x07" not in row
    assert "Bad[/]" in row


def test_a_top_up_lengthens_the_runways_of_enabled_endpoints_only() -> None:
    snapshot = fakes.rich()
    account = snapshot.accounts[0]
    # sketch 2 x L40 and thumbs 0 x L40 are on; llama-70b has given up and costs nothing.
    assert credit.burns_uh(snapshot, account) == (5_340_000, 35_868_000, 51_132_000 + 76_320_000)
    rows = [text(each).split() for each in credit.rows(snapshot, account, 100_000_000, 60)]
    assert rows[1] == ["balance", "$642.37", "$742.37"]
    assert rows[2][:2] == ["at", "baseline"]
    off = tuple(each.model_copy(update={"state": EndpointState.DISABLED}) for each in snapshot.endpoints)
    assert credit.burns_uh(fakes.rich(endpoints=off), account)[0] == 0
    assert credit.hours(9_000_000, 10_000_000, 1_000_000) == 0
    assert credit.hours(9_000_000, 10_000_000, 0) is None
