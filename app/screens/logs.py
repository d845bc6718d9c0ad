"""Following the logs of an endpoint's workers. Every line is foreign text: cleaned, clipped, never parsed."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.reactive import reactive

from app import actions
from app.messages import QuestionAnswered, QuestionAsked
from app.present import condition
from app.present import logs as log_rows
from app.present.condition import Condition, Kind
from app.present.text import Line
from app.screens.filtered import FilteredScreen
from app.widgets.chrome import FilterBar
from app.widgets.panel import Panel
from orchestrator.contract.query import AskLogs, LogLines, Logs

POLL_S: Final = 1.0
TAIL: Final = 400


class LogPanel(Panel):
    """`view` is a tuple of `LogLines`; shows those of `worker` (None: all) that contain `needle`."""

    NAME = "Logs"
    EMPTY: ClassVar[str] = "No log lines yet."
    needle: reactive[str] = reactive("")
    level: reactive[log_rows.Level] = reactive(log_rows.Level.ALL)

    class LookedBack(Message):
        """Somebody scrolled up, to read what is not the newest."""

    def action_move(self, step: int) -> None:
        super().action_move(step)
        if step < 0:
            self.post_message(self.LookedBack())

    def action_move_to(self, index: int) -> None:
        super().action_move_to(index)
        if index >= 0:
            self.post_message(self.LookedBack())

    def action_page_up(self) -> None:
        super().action_page_up()
        self.post_message(self.LookedBack())

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.LookedBack())

    def paint(self, width: int, height: int) -> list[Line]:
        found: tuple[LogLines, ...] = self.view if isinstance(self.view, tuple) else ()
        return log_rows.rows(found, self.needle, width, self.level)

    def _extra(self) -> object:
        return self.needle, self.level

    def watch_needle(self) -> None:
        self._repaint()

    def watch_level(self) -> None:
        self._repaint()


class LogsScreen(FilteredScreen):
    """Asks for the newest lines once a second while it is in front; answers for another worker are too late."""

    WHERE = actions.Where.LOGS
    LISTED = LogPanel
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.LOGS)
    DEFAULT_CSS = """
    LogsScreen LogPanel { height: 1fr; }
    """

    def __init__(self, slug: str, worker: str | None = None) -> None:
        super().__init__()
        self.slug = slug
        self.worker = worker
        self._following = True
        self._problem: str | None = None

    def panels(self) -> ComposeResult:
        yield LogPanel(id="lines")
        yield FilterBar()

    def on_mount(self) -> None:
        self.query_one(LogPanel).focus()
        self.set_interval(POLL_S, self.ask)
        self.ask()

    def ask(self) -> None:
        """Want the newest lines, unless nobody would see them."""
        if self.is_current and not self.feed.paused:
            self.post_message(QuestionAsked(self._query))

    @property
    def _query(self) -> AskLogs:
        return AskLogs(slug=self.slug, worker=self.worker, tail=TAIL)

    @on(QuestionAnswered)
    def _take(self, event: QuestionAnswered) -> None:
        if event.query != self._query:
            return
        self._problem = event.problem
        panel = self.query_one(LogPanel)
        if isinstance(event.answer, Logs):
            panel.view = event.answer.workers
        self.show()
        if self._following:
            self.call_after_refresh(panel.scroll_end, animate=False)

    def show(self) -> None:
        panel = self.query_one(LogPanel)
        state = condition.of_feed(self.snapshot, self.feed)
        if state.kind is Kind.LIVE and self._problem is not None:
            state = Condition(Kind.FAILED, self._problem)
        panel.condition, panel.needle = state, self.needle
        following = "following" if self._following else "holding, f follows"
        levels = "" if panel.level is log_rows.Level.ALL else f" · {panel.level}"
        panel.note = f"{self.slug} · {self._label()} · {following}{levels}"

    def _workers(self) -> list[tuple[str, str]]:
        endpoint = self.endpoint(self.slug)
        return [(worker.id, worker.label) for worker in endpoint.workers] if endpoint else []

    def _label(self) -> str:
        return "all workers" if self.worker is None else dict(self._workers()).get(self.worker, self.worker)

    def action_next_worker(self) -> None:
        self._step(1)

    def action_previous_worker(self) -> None:
        self._step(-1)

    def _step(self, step: int) -> None:
        choices: list[str | None] = [None, *(worker_id for worker_id, _ in self._workers())]
        at = choices.index(self.worker) if self.worker in choices else 0
        self.worker = choices[(at + step) % len(choices)]
        self.query_one(LogPanel).view = ()
        self.show()
        self.ask()

    def action_next_level(self) -> None:
        """All lines, warnings and errors, errors alone, and all again."""
        panel = self.query_one(LogPanel)
        panel.level = log_rows.LEVELS[(log_rows.LEVELS.index(panel.level) + 1) % len(log_rows.LEVELS)]
        self.show()

    @on(LogPanel.LookedBack)
    def _hold(self) -> None:
        """The next lines must not pull away what is being read."""
        self._following = False
        self.show()

    def action_follow_logs(self) -> None:
        self._following = not self._following
        self.show()
        if self._following:
            self.query_one(LogPanel).scroll_end(animate=False)
