"""What creating and editing share: the form, its problems, the price that follows every valid change."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widgets import Input, TextArea

from app.messages import Dialog, DialogWanted, QuestionAnswered, QuestionAsked
from app.present import form, offer
from app.present.form import Reading, Texts
from app.present.offer import Offer
from app.present.text import ERROR, Line
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.endpoint_fields import EndpointFields, Fold
from app.screens.dialogs.fields import Choice, Lines, ListChoice
from orchestrator.contract.command import Command, Refused
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.presets import PRESETS
from orchestrator.contract.query import AskQuote
from orchestrator.contract.snapshot import Snapshot

_ROOMY = 36


class EndpointForm(DialogScreen):
    """Fields at the left, price at the right; on a small terminal the price is a strip under the scrolling fields.

    A field's problem shows once the user has touched that field, or has tried to submit. One quote is asked for at a
    time: when its answer comes and the form has moved on, the newest specification is asked for next.
    """

    COMPACT = (116, 30)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Submit"),
        Binding("ctrl+t,t", "top_up", "Top up", show=False),
        Binding("down", "app.focus_next", "Next field", show=False),
        Binding("up", "app.focus_previous", "Previous field", show=False),
    ]
    DEFAULT_CSS = """
    EndpointForm #frame { width: 118; max-height: 96%; }
    EndpointForm.-roomy EndpointFields .-group { margin-bottom: 1; }
    EndpointForm #columns { layout: horizontal; height: auto; max-height: 1fr; }
    EndpointForm #fields { width: 1fr; height: auto; max-height: 30; scrollbar-size-vertical: 1; padding-right: 1; }
    EndpointForm #price { width: 36; height: auto; padding-left: 2; border-left: solid $tone-frame; }
    EndpointForm.-compact #frame { width: 100%; height: 100%; max-height: 100%; }
    EndpointForm.-compact #columns { layout: vertical; height: 1fr; }
    EndpointForm.-compact #fields { height: 1fr; max-height: 100%; padding-right: 0; }
    EndpointForm.-compact #price {
        width: 1fr; max-height: 10; padding: 0; overflow-y: auto; border-left: none; border-top: solid $tone-frame;
    }
    EndpointForm.-compact #status, EndpointForm.-compact #buttons { margin-top: 0; }
    """

    def __init__(self, snapshot: Snapshot, slug: str | None = None) -> None:
        super().__init__(snapshot, slug)
        self.original = self.edited()
        self.start = self.initial()
        self.reading = Reading(None, {})
        self.offer = Offer()
        self._asked: EndpointSpec | None = None
        self._touched: set[str] = set()
        self._refusal: dict[str, str] = {}

    def edited(self) -> EndpointSpec | None:
        """The specification that an edit began with; None for a new endpoint."""
        return None

    def initial(self) -> Texts:
        """The texts that the form opens with."""
        raise NotImplementedError

    def make(self, command_id: str, spec: EndpointSpec) -> Command:
        """The command that submitting sends."""
        raise NotImplementedError

    def body(self) -> ComposeResult:
        with Container(id="columns"):
            with VerticalScroll(id="fields", can_focus=False):
                yield EndpointFields(self.seen, self.start, fixed_slug=self.original is not None)
            with Vertical(id="price"):
                yield Lines(self._price, id="offer")

    @property
    def rows(self) -> EndpointFields:
        """The fields."""
        return self.query_one(EndpointFields)

    def fit(self, width: int, height: int) -> None:
        self.set_class(height >= _ROOMY, "-roomy")
        self.query_one("#fields").styles.max_height = None if self.has_class("-compact") else max(height - 12, 10)
        self.query_one("#model", ListChoice).rows_max = min(max(height - 20, 4), 8)
        self.query_one("#gpu_type", ListChoice).rows_max = min(max(height - 21, 3), 5)
        self.query_one("#offer", Lines).paint(self._price)

    def show(self) -> None:
        self.rows.offer(self.seen)
        self.look()

    def look(self) -> None:
        """Everything that follows from what is typed: hints, problems, price."""
        texts = self.rows.texts()
        self.reading = form.read(texts, self.seen, self.original)
        self.rows.explain(texts)
        self._show_problems()
        if self.reading.spec is not None:
            self._want_quote(self.reading.spec)
        self.query_one("#offer", Lines).paint(self._price)

    def _show_problems(self) -> None:
        reading = self.reading
        shown = {name: text for name, text in reading.problems.items() if name in self._touched}
        quote = self.offer.quote
        if quote is not None and quote.refusal is not None and reading.spec == self.offer.spec:
            field = quote.refusal_field or ""
            # Credit has its own line in the price; a second one beside the baseline would say it twice.
            if field in form.LABELS and not quote.refusal.startswith("credit:"):
                shown.setdefault(field, _without_field(quote.refusal, field))
        self.rows.show({**shown, **self._refusal})

    def _price(self, room: int) -> list[Line]:
        reading = self.reading
        lines = offer.waiting(self.offer, complete=reading.spec is not None, room=room)
        spec, quote = self.offer.spec, self.offer.quote
        if not lines and spec is not None and quote is not None:
            paint = offer.strip if self.has_class("-compact") else offer.panel
            lines = paint(spec, quote, self.seen, room)
        return [*lines, *self.more_price(room)]

    def more_price(self, room: int) -> list[Line]:
        """Lines below the price."""
        return []

    def _want_quote(self, spec: EndpointSpec) -> None:
        if self._asked is None and spec != self.offer.spec:
            self._asked = spec
            self.post_message(QuestionAsked(AskQuote(spec=spec)))

    @on(QuestionAnswered)
    def _take_quote(self, event: QuestionAnswered) -> None:
        if not isinstance(event.query, AskQuote) or event.query.spec != self._asked:
            return
        spec, self._asked = event.query.spec, None
        if self.reading.spec == spec or self.offer.quote is None:
            self.offer = Offer(spec, event.answer, event.problem)
        self.look()

    def on_screen_resume(self) -> None:
        """Back from topping up: the credit check is out of date."""
        if self.offer.spec is not None:
            self.offer = Offer(None, self.offer.quote, None)
            self.look()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.changed("policy" if event.input.id == "threshold" else event.input.id or "")

    @on(TextArea.Changed)
    def _typed_lines(self, event: TextArea.Changed) -> None:
        self.changed(event.text_area.id or "")

    @on(Choice.Picked)
    def _picked(self, event: Choice.Picked) -> None:
        if event.choice.id == "preset":
            preset = next(each for each in PRESETS if each.name == event.key)
            self.rows.write("baseline", str(preset.baseline))
            self.rows.write("maximum", str(preset.maximum))
        else:
            self.changed(event.choice.id or "")

    @on(Fold.Toggled)
    def _fold(self) -> None:
        self.rows.unfold(not self.rows.unfolded)

    @on(Input.Submitted)
    def _next_field(self) -> None:
        self.focus_next()

    def changed(self, name: str) -> None:
        """Field `name` says something else than before."""
        self._touched.add(name)
        self._refusal.pop(name, None)
        self.look()

    def action_top_up(self) -> None:
        self.post_message(DialogWanted(Dialog.TOP_UP))

    def action_submit(self) -> None:
        """Send it; with problems, go to the first one instead."""
        reading = self.reading
        if reading.spec is None:
            self._touched |= set(form.LABELS)
            self._show_problems()
            first = next(name for name in form.LABELS if name in reading.problems)
            self.rows.go_to(first)
            self.say(f"Not sent: {form.LABELS[first]} {reading.problems[first]}.".replace("..", "."), ERROR, "✖ ")
            return
        self.submit(reading.spec)

    def submit(self, spec: EndpointSpec) -> None:
        """Send the command for `spec`."""
        self.send(lambda command_id: self.make(command_id, spec))

    def refused(self, command: Command, outcome: Refused) -> None:
        """Beside its field where it has one; what was typed stays."""
        field = outcome.field or ""
        if field in form.LABELS:
            self._refusal = {field: _without_field(outcome.message, field)}
            self._show_problems()
            self.rows.go_to(field)
            if outcome.needed_u is not None:
                self.say("Not enough credit: ^t tops up, then send it again.", ERROR, "✖ ")
        else:
            self.say_problem(outcome.message)


def _without_field(message: str, field: str) -> str:
    """A refusal starts with the name of its field, which the form shows already."""
    return message.removeprefix(f"{field}: ")
