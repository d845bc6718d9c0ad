"""An endpoint whose stored secrets cannot be opened: shown, refused where it matters, free to change otherwise."""

from __future__ import annotations

import itertools
from typing import Literal

from orchestrator.contract.command import (
    Accepted,
    Command,
    DisableEndpoint,
    EnableEndpoint,
    Outcome,
    RefusalCode,
    Refused,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.secrets import MASK, lost_secrets
from orchestrator.contract.snapshot import EndpointView
from orchestrator.core import events as ev
from orchestrator.core.effects import AnswerCommand, Effect
from orchestrator.core.observe import Surroundings, observe
from orchestrator.core.state import State
from orchestrator.core.step import step
from orchestrator.core.writes import EndpointSaved, Saved
from tests.core.world import ENGINE, START_NS, World, gpus

LOST = {"HF_TOKEN": MASK, "REVISION": "main"}


class Booted:
    """A restart over a ledger whose key did not open what `env` has masked."""

    def __init__(self, env: dict[str, str], wanted: Literal["enabled", "disabled"] = "enabled") -> None:
        spec = EndpointSpec(slug="echo", model="echo", gpu_type="L40", baseline=0, maximum=2, env=env)
        saved = Saved(
            "f" * 32, {"local": 500_000_000}, (EndpointSaved(spec, 1, wanted, None, START_NS),), (),
            (), (), (), (), 7, {}, {}, {}, {}, {}, START_NS,
        )  # fmt: skip
        self.state = State(rules=World().state.rules)
        self.do(ev.Booted(saved, (), ENGINE, gpus("L40:2")))

    def do(self, event: ev.Happening) -> list[Effect]:
        self.state, effects = step(self.state, event, START_NS)
        return effects

    def send(self, command: Command) -> Outcome:
        answers = self.do(ev.CommandReceived(command))
        return next(effect.outcome for effect in answers if isinstance(effect, AnswerCommand))

    def update(self, **changes: object) -> Outcome:
        command = UpdateEndpoint(id=new_id(), slug="echo", changes=EndpointChanges.model_validate(changes))
        return self.send(command)

    def enable(self) -> Outcome:
        return self.send(EnableEndpoint(id=new_id(), slug="echo"))

    @property
    def shown(self) -> EndpointView:
        around = Surroundings(1, 1, "1", "/", "http://127.0.0.1:1", {}, {}, {})
        return observe(self.state, around, START_NS).endpoints[0]


def new_id() -> str:
    return f"command-{next(IDS)}"


IDS = itertools.count()


def test_the_sentence_names_the_variable_and_the_commands() -> None:
    text = lost_secrets("echo", {"A_KEY": MASK, "B_TOKEN": MASK})
    assert text is not None
    assert text.startswith("env.A_KEY, env.B_TOKEN: ")
    assert "`gpudeck endpoint update echo --env A_KEY --env B_TOKEN`, then `gpudeck endpoint enable echo`" in text
    with_others = lost_secrets("echo", LOST)
    assert with_others is not None
    assert "(REVISION; " in with_others
    assert lost_secrets("echo", {"A_KEY": "known", "B": MASK, "C_KEY": ""}) is None


def test_it_is_shown_and_noted_at_once() -> None:
    world = Booted(LOST)
    shown = world.shown
    assert shown.problem is not None
    assert shown.problem.code == "secret_lost"
    assert shown.spec.env == LOST
    assert [event.text for event in world.state.events if event.level == "error"] == [shown.problem.message]


def test_enabling_is_refused_until_it_is_set_again() -> None:
    world = Booted(LOST, wanted="disabled")
    refusal = world.enable()
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.field) == (RefusalCode.INVALID, "env")
    assert "--env HF_TOKEN" in refusal.message
    assert isinstance(world.update(env={"HF_TOKEN": "new"}), Accepted)
    assert isinstance(world.enable(), Accepted)
    assert world.shown.problem is None


def test_other_changes_pass_and_a_mask_for_what_was_never_known_does_not() -> None:
    world = Booted(LOST)
    assert isinstance(world.update(maximum=1), Accepted)
    assert isinstance(world.update(env={**LOST, "REVISION": "dev"}), Accepted)
    refusal = world.update(env={**LOST, "API_KEY": MASK})
    assert isinstance(refusal, Refused)
    assert "give API_KEY anew" in refusal.message
    assert isinstance(world.send(DisableEndpoint(id=new_id(), slug="echo")), Accepted)
