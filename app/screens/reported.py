"""A screen about one report, which a process of its own makes when the screen opens and again on request."""

from __future__ import annotations

from typing import Any

from textual import work

from app.present import condition
from app.present.condition import Condition, Kind
from app.reporting import NoReport, Request
from app.screens.live import LiveScreen


class ReportedScreen(LiveScreen):
    """Subclasses say what to run and how to read what it prints; what was read last stays in `report`.

    Leaving the screen ends a process that is still at it.
    """

    WAITING: str
    """What is being done meanwhile, in a few words."""

    report: Any = None
    problem: str | None = None

    def request(self) -> Request:
        """What to run."""
        raise NotImplementedError

    def read(self, document: Any) -> Any:
        """The report in a printed document. Raises ValueError for another document."""
        raise NotImplementedError

    def arrived(self) -> None:
        """There is a new `report`, and it has been shown."""

    @property
    def running(self) -> bool:
        """Whether a report is being made."""
        return any(worker.group == "report" and worker.is_running for worker in self.workers)

    def state(self) -> Condition:
        """The condition of panels about the report: they need no feed, and a former report outlives a failure."""
        if self.report is not None:
            return condition.LIVE
        return Condition(Kind.LOADING, self.WAITING) if self.problem is None else Condition(Kind.FAILED, self.problem)

    @work(group="report", exclusive=True)
    async def make_report(self) -> None:
        """Run it and show what came of it."""
        self.problem = None
        self.show()
        try:
            self.report = self.read(await self.gpudeck.reporter(self.request()))
        except NoReport as error:
            self.problem = str(error)
        except ValueError:
            self.problem = "the report is of another version of gpudeck: quit and start gpudeck again"
        self.call_later(self._conclude)  # when this worker is over, so that `running` says so

    def _conclude(self) -> None:
        self.show()
        if self.problem is None:
            self.arrived()
        elif self.report is not None:
            self.notify(self.problem, title="No new report", severity="error", timeout=12, markup=False)

    def action_ask_again(self) -> None:
        if not self.running:
            self.make_report()
