"""Load on one endpoint: a shape of traffic, its course while it runs, what came out, and the change since before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from app import actions
from app.loadtest import shapes
from app.loadtest.job import Job, LoadFailed, conduct
from app.loadtest.outcome import Archive, Course, Outcome, Second, concluded
from app.loadtest.sample import USUAL, job_of, sample_call
from app.loadtest.shapes import BadShape, Kind, Shape
from app.messages import Dialog, DialogWanted
from app.present import condition, playground
from app.present import loadtest as rows
from app.present.condition import Condition
from app.present.condition import Kind as Shown
from app.present.playground import Unsendable
from app.present.text import BLANK, Line
from app.screens.dialogs.fields import Choice, Field, InlineChoice, TextInput, unit
from app.screens.keyed import KeyedScreen
from app.widgets.panel import Panel
from app.widgets.row_panel import RowPanel
from orchestrator.contract.endpoint import EndpointChanges, notation
from orchestrator.contract.snapshot import EndpointView


@dataclass(frozen=True, slots=True)
class CourseOf:
    """The seconds so far, how many there will be, and what they cost."""

    seconds: tuple[Second, ...]
    planned_s: float
    cost_u: int


class CoursePanel(Panel):
    """`view` is a `CourseOf`."""

    NAME = "Course"
    EMPTY: ClassVar[str] = "Not started. ^s sends the load; requests leave on time whatever the answers do."

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, CourseOf):
            return []
        return rows.course_rows(self.view.seconds, self.view.planned_s, self.view.cost_u, width, height)


@dataclass(frozen=True, slots=True)
class OutcomesOf:
    """Results, newest first, and the setup of the endpoint now."""

    outcomes: tuple[Outcome, ...]
    setup: str
    compared: Outcome | None = None
    """The one that the newest is compared with."""


class OutcomePanel(Panel):
    """`view` is an `OutcomesOf`: the newest result and the comparison."""

    NAME = "Result"
    EMPTY: ClassVar[str] = "No load test of this endpoint has been saved yet."

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, OutcomesOf) or not self.view.outcomes:
            return []
        of = self.view
        lines = rows.outcome_rows(of.outcomes[0], of.setup, width)
        if of.compared is not None:
            lines += [BLANK, *rows.comparison_rows(of.compared, of.outcomes[0], width)]
        return lines


class EarlierPanel(RowPanel):
    """`view` is an `OutcomesOf`; the cursor is on the test that the newest one is compared with."""

    NAME = "Tests"
    EMPTY: ClassVar[str] = "Every finished test is kept here, the newest fifty."

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return self.view.outcomes if isinstance(self.view, OutcomesOf) else ()

    @property
    def compared(self) -> Outcome | None:
        """The test under the cursor, unless that is the newest itself."""
        return self.outcomes[self.index] if self.index > 0 else None

    def row_keys(self) -> list[str]:
        # Counted from the oldest, so that a new test does not move the cursor.
        return [str(number) for number in range(len(self.outcomes), 0, -1)]

    def paint(self, width: int, height: int) -> list[Line]:
        return rows.earlier_rows(self.outcomes, self.index, width)

    def compare_newest(self) -> None:
        """Put the cursor on the test before the newest, or on the only one."""
        if self.outcomes:
            self.select(min(1, len(self.outcomes) - 1))


class LoadTestScreen(KeyedScreen):
    """The load leaves from a process of its own; esc stops it, what came in until then counts."""

    WHERE = actions.Where.LOADTEST
    CSS_PATH = "loadtest.tcss"
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.LOADTEST)

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self.course: Course | None = None
        self._at_s = 0.0
        self._outcomes: tuple[Outcome, ...] = ()
        self._problem: str | None = None
        self._started_ns = 0

    def panels(self) -> ComposeResult:
        with Container(id="bench"):
            with Vertical(id="form"):
                yield Field("Shape", InlineChoice([(each.value, each.value) for each in Kind], id="kind"))
                yield Field("", names=["means"], hint=shapes.MEANS[Kind.RAMP])
                yield Field("Rate", TextInput("20", id="rpm", short=True), unit("RPM"), names=["rpm"])
                yield Field("To", TextInput("100", id="to", short=True), unit("RPM"), names=["to"])
                yield Field("For", TextInput("60", id="seconds", short=True), unit("seconds"), names=["seconds"])
                yield Field("File", TextInput(id="file", placeholder="arrivals.csv", length_max=400), names=["file"])
                yield Field("Call", TextInput(id="call", length_max=400), names=["call", "text", "query"])
            with Vertical(id="seen"):
                yield CoursePanel(id="course")
                yield OutcomePanel(id="outcome")
                yield EarlierPanel(id="earlier")

    def on_mount(self) -> None:
        self.query_one("#kind", Choice).chosen = Kind.RAMP.value
        self.query_one("#call", TextInput).value = USUAL[playground.usual(self.kind_of_model(self.slug))]
        self._arrange()
        self.query_one("#rpm").focus()
        self.run_worker(self._recall(), group="recall")

    async def _recall(self) -> None:
        if (archive := self._archive) is not None:
            self._take_outcomes(await asyncio.to_thread(archive.load))

    def _take_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = tuple(outcomes)
        self.show()
        self.query_one(EarlierPanel).compare_newest()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 100, "-compact")

    @property
    def _archive(self) -> Archive | None:
        kept = self.gpudeck.loadtests
        return Archive(kept / self.slug) if kept else None

    @property
    def running(self) -> bool:
        """Whether load is on its way."""
        return any(worker.group == "load" and worker.is_running for worker in self.workers)

    def show(self) -> None:
        endpoint = self.endpoint(self.slug)
        state = condition.of_feed(self.snapshot, self.feed)
        if self.snapshot is not None and endpoint is None:
            state = Condition(Shown.FAILED, f"{self.slug} no longer exists (esc goes back)")
        course = self.query_one(CoursePanel)
        course.condition = Condition(Shown.FAILED, self._problem) if self._problem else state
        course.note = f"{self.slug} · running, esc stops it" if self.running else self.slug
        if self.course is not None:
            course.view = CourseOf(
                tuple(self.course.seconds(self._at_s)), self.course.shape.seconds, self.course.cost_u
            )
        of = OutcomesOf(self._outcomes, endpoint.spec.setup if endpoint else "")
        earlier, outcome = self.query_one(EarlierPanel), self.query_one(OutcomePanel)
        earlier.condition = outcome.condition = state
        earlier.view, outcome.view = of, replace(of, compared=earlier.compared)

    @on(RowPanel.Moved)
    def _follow(self) -> None:
        self.show()

    @on(Choice.Picked, "#kind")
    def _arrange(self) -> None:
        """Show the fields that this shape has."""
        kind = Kind(self.query_one("#kind", Choice).chosen or Kind.RAMP)
        recorded = kind is Kind.RECORDED
        shown = {"rpm": not recorded, "to": kind in (Kind.RAMP, Kind.SPIKE), "seconds": not recorded, "file": recorded}
        for field in self.query(Field):
            for name in field.names:
                field.display = shown.get(name, True)
            if "means" in field.names:
                field.hint(shapes.MEANS[kind])

    # --- the run

    @on(Input.Submitted)
    async def action_start_load(self) -> None:
        """Start what the form says, or say which field is wrong."""
        endpoint = self.endpoint(self.slug)
        if endpoint is None or self.snapshot is None or self.running:
            return
        try:
            shape = await self._shape()
            job = self._job(shape, endpoint, self.snapshot.gateway_url)
        except (BadShape, Unsendable) as error:
            self._show_problem({error.field: str(error)})
            return
        self._show_problem({})
        self._problem = None
        self.with_key(endpoint, "load test", lambda secret: self._run(job, secret, shape))

    async def _shape(self) -> Shape:
        kind = self.query_one("#kind", Choice).chosen or Kind.RAMP
        instants: list[float] = []
        if kind == Kind.RECORDED:
            instants = await asyncio.to_thread(_read, self.query_one("#file", TextInput).value.strip())
        rpm, to_rpm, seconds = (self._number(name, kind) for name in ("rpm", "to", "seconds"))
        return shapes.checked(kind, rpm, to_rpm, seconds, instants)

    def _number(self, name: str, kind: str) -> float:
        text = self.query_one(f"#{name}", TextInput).value.strip().replace(",", "")
        if kind == Kind.RECORDED or (name == "to" and kind == Kind.CONSTANT):
            return 1.0
        try:
            return float(text)
        except ValueError:
            raise BadShape(name, f"'{text}' is no number") from None

    def _job(self, shape: Shape, endpoint: EndpointView, gateway_url: str) -> Job:
        call = sample_call(
            self.kind_of_model(self.slug), self.query_one("#call", TextInput).value, endpoint, gateway_url
        )
        return job_of(call, shape)

    def _show_problem(self, problems: dict[str, str]) -> None:
        for field in self.query(Field):
            field.show(problems)

    def no_key(self, problem: str) -> None:
        self._problem = problem
        self.show()

    @work(group="load", exclusive=True)
    async def _run(self, job: Job, key: str, shape: Shape) -> None:
        self.course = course = Course(shape)
        self._at_s = 0.0
        self._started_ns = self.snapshot.taken_at_ns if self.snapshot else 0
        try:
            await conduct(job, key, course, lambda: self.endpoint(self.slug), self._tick)
        except LoadFailed as failure:
            self._problem = f"the load generator failed: {failure}"
        finally:
            self._conclude(course)
            self.call_later(self.show)  # when this worker is over, so that the title says so

    def _tick(self, at_s: float) -> None:
        self._at_s = at_s
        self.show()

    def _conclude(self, course: Course) -> None:
        """Keep what came in, also when it was stopped."""
        endpoint = self.endpoint(self.slug)
        if endpoint is None or not course.replies:
            return
        outcome = concluded(course, endpoint, notation(endpoint.spec.policy), self._started_ns)
        self._take_outcomes((outcome, *self._outcomes))
        try:
            if (archive := self._archive) is not None:
                archive.save(outcome)
        except OSError as error:
            self.notify(f"the result is not saved: {error}", severity="error", markup=False)

    # --- afterwards

    def action_earlier_load(self) -> None:
        self.query_one(EarlierPanel).action_move(1)

    def action_later_load(self) -> None:
        self.query_one(EarlierPanel).action_move(-1)

    def action_apply_advice(self) -> None:
        """Open the endpoint's form, filled in with what the newest test suggests; saving is up to the user."""
        endpoint, newest = self.endpoint(self.slug), next(iter(self._outcomes), None)
        if endpoint is None:
            return
        if newest is None or newest.advice is None:
            self.notify("No test has said yet what would do.", severity="warning", markup=False)
        elif newest.advice == endpoint.spec.setup:
            self.notify(f"{self.slug} is set like this already.", markup=False)
        else:
            baseline, _, maximum = newest.advice.partition("-")
            changes = EndpointChanges(baseline=int(baseline), maximum=int(maximum))
            self.post_message(DialogWanted(Dialog.EDIT, self.slug, changes))

    def action_go_back(self) -> None:
        """Stop the load, else leave."""
        if self.running:
            self.workers.cancel_group(self, "load")
        else:
            self.leave()


def _read(name: str) -> list[float]:
    """The instants in a file. Raises BadShape."""
    if not name:
        raise BadShape("file", "name a file with arrival times in seconds, one a line")
    path = Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadShape("file", f"cannot read {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    return shapes.read_instants(path.name, text)
