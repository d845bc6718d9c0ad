"""The rows of the endpoint form: what can be typed, in the order it is thought of."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from app.format import plain
from app.present import form, offer
from app.present import policy as scaling
from app.present.form import Texts
from app.screens.dialogs.fields import Choice, Field, InlineChoice, ListChoice, TextInput, TextLines, unit
from orchestrator.contract.presets import PRESETS
from orchestrator.contract.secrets import MASK, still_masked
from orchestrator.contract.snapshot import Snapshot

INPUTS = (
    "slug", "baseline", "maximum", "threshold", "idle_timeout_s", "execution_timeout_s", "queue_timeout_s",
    "startup_deadline_s", "queue_limit", "concurrency",
)  # fmt: skip
"""Fields of `Texts` typed into a line; the others are choices, `env` is several lines."""
ADVANCED = ("execution_timeout_s", "queue_timeout_s", "startup_deadline_s", "queue_limit", "concurrency",
            "visibility", "env")  # fmt: skip


class Fold(Static, can_focus=True):
    """The line that opens and closes the advanced part."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "turn", "Open or close", show=False)]
    DEFAULT_CSS = """
    Fold { height: auto; color: $tone-muted; pointer: pointer; text-wrap: nowrap; text-overflow: ellipsis; }
    Fold:focus { color: $tone-accent; text-style: bold; background: $tone-selected; }
    Fold.-wrong { color: $tone-failed; }
    """

    class Toggled(Message):
        """Open or close it."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""

    def show(self, *, is_open: bool, trouble: str | None) -> None:
        """`trouble` is said here because what it is about cannot be seen while closed."""
        text = "timeouts, queue, concurrency, visibility, environment" if trouble is None else f"✖ {trouble}"
        self.set_class(trouble is not None, "-wrong")
        said = f"{'▾' if is_open else '▸'} Advanced    {text}"
        if said != self._said:
            self._said = said
            self.update(Content(said), layout=False)

    def action_turn(self) -> None:
        self.post_message(self.Toggled())

    def on_click(self) -> None:
        self.post_message(self.Toggled())


class EndpointFields(Vertical):
    """All rows. `texts()` is what they say now; everything about meaning is in `app.present.form`."""

    DEFAULT_CSS = """
    EndpointFields { height: auto; }
    EndpointFields #advanced { height: auto; display: none; }
    EndpointFields.-unfolded #advanced { display: block; }
    EndpointFields #fixed-slug { width: auto; text-style: bold; }
    EndpointFields InlineChoice#policy { width: 27; }
    EndpointFields .-summary .hint { height: auto; max-height: 2; padding-left: 0; text-wrap: wrap; }
    """

    def __init__(self, snapshot: Snapshot, texts: Texts, *, fixed_slug: bool) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._texts = texts
        self._fixed_slug = fixed_slug
        self._trouble: str | None = None
        self._fold = Fold()
        self._models, self._gpu_types = ListChoice(id="model"), ListChoice(id="gpu_type")
        self._preset = InlineChoice([(p.name, f"{p.name} {p.baseline}-{p.maximum}") for p in PRESETS], id="preset")
        self._inputs = {name: TextInput(id=name, short=name != "slug", length_max=64) for name in INPUTS}
        self._choices: dict[str, Choice] = {
            "model": self._models,
            "gpu_type": self._gpu_types,
            "account": InlineChoice([(a.name, plain(a.name)) for a in snapshot.accounts], id="account"),
            "policy": InlineChoice(scaling.CHOICES, id="policy"),
            "visibility": InlineChoice(
                [("private", "private: own keys"), ("public", "public: any valid key")], id="visibility"
            ),
        }
        self._env = TextLines(id="env", placeholder="NAME=value, one a line")
        self._summary = Field("", hint="").add_class("-summary")
        self._fields = self._made()

    def _made(self) -> dict[str, Field]:
        """The rows that have a problem of their own, by their first field."""
        inputs, choices = self._inputs, self._choices
        fixed = Static(Content(self._texts.slug), id="fixed-slug")
        workers = (inputs["baseline"], unit("always on"), inputs["maximum"], unit("at most"))
        rows = [
            Field("Model", self._models, names=["model"]),
            Field("GPU", self._gpu_types, names=["gpu_type"]),
            Field("Name (slug)", fixed if self._fixed_slug else inputs["slug"], names=["slug"], hint=""),
            Field("Account", choices["account"], names=["account"]),
            Field("Workers", *workers, names=["baseline", "maximum"]),
            Field("Scaling", choices["policy"], inputs["threshold"], names=["policy"], hint=""),
            Field("Visibility", choices["visibility"], names=["visibility"]),
            Field("Environment", self._env, names=["env"]),
            *(
                Field(label, inputs[name], names=[name], hint=hint)
                for name, label, hint in (
                    ("idle_timeout_s", "Idle timeout", "s, then an extra worker stops"),
                    ("execution_timeout_s", "Execution", "s one request may take"),
                    ("queue_timeout_s", "Queue timeout", "s a request may wait"),
                    ("startup_deadline_s", "Startup", "s until a worker must be ready"),
                    ("queue_limit", "Queue limit", "requests that may wait"),
                    ("concurrency", "Concurrency", ""),
                )
            ),
        ]
        return {row.names[0]: row for row in rows}

    def compose(self) -> ComposeResult:
        rows = self._fields
        yield rows["model"].add_class("-group")
        yield rows["gpu_type"].add_class("-group")
        yield rows["slug"]
        if len(self._snapshot.accounts) > 1 and not self._fixed_slug:
            yield rows["account"]
        yield Field("Preset", self._preset)
        yield self._summary
        yield rows["baseline"].add_class("-group")
        yield rows["policy"]
        yield rows["idle_timeout_s"].add_class("-group")
        yield self._fold
        with Vertical(id="advanced"):
            for name in ADVANCED:
                yield rows[name]
            if still_masked(form.environment(self._texts.env)):
                yield Field("", hint=f"{MASK} keeps the secret that is there")

    def on_mount(self) -> None:
        with self.prevent(TextInput.Changed, TextLines.Changed):
            for name, line in self._inputs.items():
                line.value = getattr(self._texts, name)
            for name, choice in self._choices.items():
                choice.chosen = getattr(self._texts, name)
            self._env.text = self._texts.env
        self.offer(self._snapshot)
        self.explain(self._texts)

    def offer(self, snapshot: Snapshot) -> None:
        """What there is to choose from now."""
        self._snapshot = snapshot
        self._models.offer([model.name for model in snapshot.models], lambda room: offer.model_rows(snapshot, room))
        self._gpu_types.offer(offer.gpu_types(snapshot), lambda room: offer.gpu_rows(snapshot, room))

    def texts(self) -> Texts:
        """The form as typed."""
        found = {name: line.value for name, line in self._inputs.items()}
        found |= {name: choice.chosen or "" for name, choice in self._choices.items()}
        return Texts(**found, env=self._env.text)

    def write(self, name: str, value: str) -> None:
        """Put `value` into the line `name` as if it had been typed."""
        self._inputs[name].value = value

    def explain(self, texts: Texts) -> None:
        """Bring hints and the preset in line with what is typed."""
        preset = form.preset_of(texts.baseline, texts.maximum)
        self._preset.chosen = preset.name if preset else None
        self._summary.hint(preset.summary if preset else "your own setup")
        self._fields["slug"].hint("stays as it is" if self._fixed_slug else f"POST /v1/{texts.slug.strip() or '…'}")
        self._fields["policy"].hint(scaling.HINTS[texts.policy])
        model = next((each for each in self._snapshot.models if each.name == texts.model), None)
        own = f", empty: {model.concurrency} as the model says" if model else ""
        self._fields["concurrency"].hint(f"requests at a time{own}")

    @property
    def unfolded(self) -> bool:
        return self.has_class("-unfolded")

    def unfold(self, is_open: bool) -> None:
        """Show or hide the advanced part."""
        self.set_class(is_open, "-unfolded")
        self._show_fold()

    def _show_fold(self) -> None:
        self._fold.show(is_open=self.unfolded, trouble=None if self.unfolded else self._trouble)

    def show(self, problems: dict[str, str]) -> None:
        """Put each problem beside its field; of a hidden one the fold speaks."""
        for field in self._fields.values():
            field.show(problems)
        self._trouble = next((f"{form.LABELS[n]}: {problems[n]}" for n in ADVANCED if n in problems), None)
        self._show_fold()

    def go_to(self, name: str) -> None:
        """Focus the control of field `name`, unfolding it when it is hidden."""
        if name in ADVANCED:
            self.unfold(True)
        lines: dict[str, Widget] = {
            **self._choices,
            **self._inputs,
            "policy": self._inputs["threshold"],
            "env": self._env,
        }
        if lines[name].is_mounted:
            lines[name].focus()
