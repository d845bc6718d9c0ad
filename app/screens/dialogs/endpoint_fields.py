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
from app.present.form import Texts
from app.screens.dialogs.fields import Choice, Field, InlineChoice, ListChoice, TextInput, TextLines, unit
from orchestrator.contract.presets import PRESETS
from orchestrator.contract.snapshot import Snapshot

INPUTS = (
    "slug", "baseline", "maximum", "threshold", "idle_timeout_s", "execution_timeout_s", "queue_timeout_s",
    "startup_deadline_s", "queue_limit", "concurrency",
)  # fmt: skip
"""Fields of `Texts` typed into a line; the others are choices, `env` is several lines."""
CHOICES = ("model", "gpu_type", "account", "policy", "visibility")
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

    def show(self, *, is_open: bool, trouble: str | None) -> None:
        """`trouble` is said here because what it is about cannot be seen while closed."""
        text = "timeouts, queue, concurrency, visibility, environment" if trouble is None else f"✖ {trouble}"
        self.set_class(trouble is not None, "-wrong")
        self.update(Content(f"{'▾' if is_open else '▸'} Advanced    {text}"))

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

    def compose(self) -> ComposeResult:
        yield Field("Model", ListChoice(id="model"), names=["model"]).add_class("-group")
        yield Field("GPU", ListChoice(id="gpu_type"), names=["gpu_type"]).add_class("-group")
        yield Field("Name (slug)", self._slug(), names=["slug"], hint="")
        if len(self._snapshot.accounts) > 1:
            yield Field("Account", InlineChoice(self._accounts(), id="account"), names=["account"])
        presets = [(each.name, f"{each.name} {each.baseline}-{each.maximum}") for each in PRESETS]
        yield Field("Preset", InlineChoice(presets, id="preset"))
        yield Field("", hint="").add_class("-summary")
        yield Field(
            "Workers",
            TextInput(id="baseline", short=True),
            unit("always on"),
            TextInput(id="maximum", short=True),
            unit("at most"),
            names=["baseline", "maximum"],
        ).add_class("-group")
        yield Field(
            "Scaling",
            InlineChoice([("queue_delay", "queue delay"), ("request_count", "requests")], id="policy"),
            TextInput(id="threshold", short=True),
            names=["policy"],
            hint="",
        )
        yield Field(
            "Idle timeout",
            TextInput(id="idle_timeout_s", short=True),
            names=["idle_timeout_s"],
            hint="s, then an extra worker stops",
        ).add_class("-group")
        yield Fold()
        with Vertical(id="advanced"):
            yield from self._advanced()

    def _advanced(self) -> ComposeResult:
        for name, label, hint in (
            ("execution_timeout_s", "Execution", "s one request may take"),
            ("queue_timeout_s", "Queue timeout", "s a request may wait"),
            ("startup_deadline_s", "Startup", "s until a worker must be ready"),
            ("queue_limit", "Queue limit", "requests that may wait"),
            ("concurrency", "Concurrency", ""),
        ):
            yield Field(label, TextInput(id=name, short=True), names=[name], hint=hint)
        visible = [("private", "private: own keys"), ("public", "public: any valid key")]
        yield Field("Visibility", InlineChoice(visible, id="visibility"), names=["visibility"])
        yield Field("Environment", TextLines(id="env", placeholder="NAME=value, one a line"), names=["env"])

    def _slug(self) -> Widget:
        if self._fixed_slug:
            return Static(Content(self._texts.slug), id="fixed-slug")
        return TextInput(id="slug", length_max=64)

    def _accounts(self) -> list[tuple[str, str]]:
        return [(account.name, plain(account.name)) for account in self._snapshot.accounts]

    def on_mount(self) -> None:
        with self.prevent(TextInput.Changed, TextLines.Changed):
            for name in INPUTS:
                for field in self.query(f"TextInput#{name}").results(TextInput):
                    field.value = getattr(self._texts, name)
            for name in CHOICES:
                for choice in self._choices(name):
                    choice.chosen = getattr(self._texts, name)
            self.query_one("#env", TextLines).text = self._texts.env
        self.offer(self._snapshot)
        self.explain()

    def _choices(self, name: str) -> list[Choice]:
        return list(self.query(f"#{name}").results(Choice))

    def offer(self, snapshot: Snapshot) -> None:
        """What there is to choose from now."""
        self._snapshot = snapshot
        models = [model.name for model in snapshot.models]
        self.query_one("#model", ListChoice).offer(models, lambda room: offer.model_rows(snapshot, room))
        self.query_one("#gpu_type", ListChoice).offer(
            offer.gpu_types(snapshot), lambda room: offer.gpu_rows(snapshot, room)
        )

    def texts(self) -> Texts:
        """The form as typed."""
        found = {name: each.value for name in INPUTS for each in self.query(f"#{name}").results(TextInput)}
        found |= {name: each.chosen or "" for name in CHOICES for each in self._choices(name)}
        found["env"] = self.query_one("#env", TextLines).text
        return Texts(**{"slug": self._texts.slug, "account": self._texts.account, **found})

    def write(self, name: str, value: str) -> None:
        """Put `value` into the line `name` as if it had been typed."""
        self.query_one(f"#{name}", TextInput).value = value

    def explain(self) -> None:
        """Bring hints and the preset in line with what is typed."""
        texts = self.texts()
        preset = form.preset_of(texts.baseline, texts.maximum)
        self.query_one("#preset", InlineChoice).chosen = preset.name if preset else None
        self.query_one(".-summary", Field).hint(preset.summary if preset else "your own setup")
        self._field("slug").hint("stays as it is" if self._fixed_slug else f"POST /v1/{texts.slug.strip() or '…'}")
        by_delay = texts.policy == "queue_delay"
        self._field("policy").hint("s waiting: one more" if by_delay else "per worker")
        model = next((each for each in self._snapshot.models if each.name == texts.model), None)
        own = f", empty: {model.concurrency} as the model says" if model else ""
        self._field("concurrency").hint(f"requests at a time{own}")

    def _field(self, name: str) -> Field:
        return next(field for field in self.query(Field) if name in field.names)

    @property
    def unfolded(self) -> bool:
        return self.has_class("-unfolded")

    def unfold(self, is_open: bool) -> None:
        """Show or hide the advanced part."""
        self.set_class(is_open, "-unfolded")
        self._show_fold()

    def _show_fold(self) -> None:
        self.query_one(Fold).show(is_open=self.unfolded, trouble=None if self.unfolded else self._trouble)

    def show(self, problems: dict[str, str]) -> None:
        """Put each problem beside its field; of a hidden one the fold speaks."""
        for field in self.query(Field):
            field.show(problems)
        self._trouble = next((f"{form.LABELS[n]}: {problems[n]}" for n in ADVANCED if n in problems), None)
        self._show_fold()

    def go_to(self, name: str) -> None:
        """Focus the control of field `name`, unfolding it when it is hidden."""
        if name in ADVANCED:
            self.unfold(True)
        for control in self.query(f"#{'threshold' if name == 'policy' else name}"):
            control.focus()
