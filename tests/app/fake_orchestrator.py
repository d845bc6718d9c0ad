"""A scripted control server: the frames of contract/frames.py over a real Unix socket, with a small made-up state.

It answers as the orchestrator would for the cases the front end cares about, and misbehaves on request (closes, stays
silent, speaks another protocol), so that client and CLI are tested against a real peer without the whole orchestrator.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from orchestrator.contract.base import DOLLAR_U, PROTOCOL_VERSION, SECOND_NS
from orchestrator.contract.command import (
    Accepted,
    Command,
    CreateEndpoint,
    CreateKey,
    DeleteEndpoint,
    Outcome,
    RefusalCode,
    Refused,
    Shutdown,
)
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.feed import told
from orchestrator.contract.frames import (
    CLIENT_FRAMES,
    FRAME_BYTES_MAX,
    Answer,
    Answered,
    Ask,
    Error,
    Hello,
    More,
    Send,
    Sent,
    ServerFrame,
    SnapshotAnswer,
    Subscribe,
)
from orchestrator.contract.query import (
    AskBill,
    AskLogs,
    AskQuote,
    AskSnapshot,
    AskVerify,
    Bill,
    BillLine,
    LogLines,
    Logs,
    Query,
    Quote,
    Unanswered,
    Verification,
)
from orchestrator.contract.snapshot import (
    AccountView,
    CapacityView,
    ColdStartView,
    CostView,
    EndpointState,
    EndpointView,
    EngineKind,
    EngineView,
    GpuView,
    KeyView,
    ModelView,
    PriceView,
    RunwayView,
    Snapshot,
    Tier,
    TrafficView,
    WorkerState,
    WorkerView,
)
from orchestrator.contract.steps import finished

NOW_NS = 1_760_000_000 * SECOND_NS
SECRET = "gpd_fake_secret"
INSTANCE = "test-instance"


def worker(endpoint: str = "sketch", label: str = "w1", state: WorkerState = WorkerState.READY) -> WorkerView:
    return WorkerView(
        id=f"{endpoint}-{label}",
        label=label,
        endpoint=endpoint,
        state=state,
        tier=Tier.BASELINE if label == "w1" else Tier.AUTOSCALE,
        gpu_uuid=f"GPU-{label}",
        engine_ref="4711",
        address="127.0.0.1:9000",
        running=0,
        served=7,
        intent_ns=NOW_NS - 90 * SECOND_NS,
        ready_ns=NOW_NS - 89 * SECOND_NS if state is WorkerState.READY else None,
        idle_since_ns=NOW_NS,
        cold_start=ColdStartView(created_ms=12, started_ms=30, healthy_ms=900, first_byte_ms=1_100),
        cost_u=66_750,
    )


def endpoint(
    slug: str = "sketch",
    *,
    state: EndpointState = EndpointState.SERVING,
    workers: tuple[WorkerView, ...] | None = None,
    url: str = "http://127.0.0.1:1/v1/sketch",
) -> EndpointView:
    return EndpointView(
        spec=EndpointSpec(slug=slug, model="sketch", gpu_type="L40", baseline=1, maximum=2),
        state=state,
        generation=1,
        concurrency=1,
        url=url,
        workers=(worker(slug),) if workers is None else workers,
        traffic=TrafficView(rpm=12, p50_ms=150, p95_ms=420, served_total=7),
        cost=CostView(per_hour_u=2_670_000, today_u=66_750, total_u=66_750, worst_case_per_hour_u=17_934_000),
    )


def snapshot(*endpoints: EndpointView, seq: int = 1) -> Snapshot:
    views = endpoints or (endpoint(),)
    gpu = GpuView(
        uuid="GPU-w1", index=0, type="L40", name="NVIDIA L40", simulated=True, memory_total_bytes=48 * 1024**3,
        worker_id="sketch-w1", endpoint="sketch",
    )  # fmt: skip
    return Snapshot(
        seq=seq,
        taken_at_ns=NOW_NS,
        started_at_ns=NOW_NS - 3_600 * SECOND_NS,
        instance=INSTANCE,
        pid=os.getpid(),
        version="0.1.0",
        home="/nowhere",
        gateway_url="http://127.0.0.1:1",
        engine=EngineView(kind=EngineKind.PROCESS, ok=True, detail="local child processes"),
        simulated_gpus=True,
        price_book="2025-seed",
        gpus=(gpu, gpu.model_copy(update={"uuid": "GPU-w2", "index": 1, "worker_id": None, "endpoint": None})),
        capacity=(CapacityView(gpu_type="L40", total=2, reserved=1, in_use=1),),
        endpoints=views,
        accounts=(
            AccountView(
                name="local", balance_u=99_933_250, per_hour_u=2_670_000, today_u=66_750, month_u=66_750,
                warning_at_u=26_700_000, floor_u=10 * DOLLAR_U, warned=False, suspended=False,
                runway=RunwayView(baseline_h=33.7, current_h=33.7, worst_case_h=5.0),
            ),
        ),
        keys=(
            KeyView(id="key-1", account="local", name="mine", created_ns=NOW_NS - 60 * SECOND_NS),
            KeyView(id="key-2", account="local", name="old", created_ns=1, expires_ns=NOW_NS - SECOND_NS),
        ),
        models=(
            ModelView(name="sketch", title="Sketch", summary="Image in, image out", kind="image", concurrency=1,
                      engines=(EngineKind.PROCESS, EngineKind.DOCKER)),
        ),
        prices=(PriceView(gpu_type="L40", baseline_uh=2_670_000, autoscale_uh=15_264_000),),
        events=(),
    )  # fmt: skip


def bill() -> Bill:
    line = BillLine(
        interval_id="i1", endpoint="sketch", worker_id="sketch-w1", label="w1", gpu_type="L40", tier=Tier.BASELINE,
        rate_uh=2_670_000, start_ns=NOW_NS - 90 * SECOND_NS, end_ns=None, seconds=90.0, amount_u=66_750, absorbed=False,
    )  # fmt: skip
    return Bill(
        account="local", month=None, lines=(line,), total_u=66_750, absorbed_u=0, topped_up_u=100_000_000,
        balance_u=99_933_250,
    )  # fmt: skip


def quote(refusal: str | None = None) -> Quote:
    return Quote(
        baseline_per_hour_u=2_670_000, autoscale_per_hour_each_u=15_264_000, worst_case_per_hour_u=17_934_000,
        gate_u=64_080_000, warning_at_u=26_700_000, balance_u=100_000_000, gpus_total=2, gpus_free=2, refusal=refusal,
        refusal_field="account" if refusal else None,
    )  # fmt: skip


class FakeOrchestrator:
    """`async with FakeOrchestrator(path) as fake:`; `fake.commands` and `fake.queries` record what was asked."""

    def __init__(self, path: Path, *, protocol: int = PROTOCOL_VERSION, state: Snapshot | None = None) -> None:
        self.path = path
        self.protocol = protocol
        self.state = state or snapshot()
        self.commands: list[Command] = []
        self.queries: list[Query] = []
        self.outcomes: dict[str, Outcome] = {}
        self.quote = quote()
        self.verification = Verification(ok=True, intervals=1, entries=2, drift_u=0, problems=())
        self.log_lines: tuple[str, ...] = ("starting", "ready")
        self.decide: Callable[[Command], Outcome | None] = lambda command: None
        """Overrides the answer to a command when it returns one."""
        self.drop_next_answer = False
        """Carry out the next command, then close the connection instead of answering: the lost answer."""
        self.silent = False
        self.hellos = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: dict[asyncio.StreamWriter, asyncio.Event] = {}
        """Set when the feed's last frame has been taken."""
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> FakeOrchestrator:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=FRAME_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and drop every connection: the orchestrator is gone."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self.hang_up()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        """Drop the connections there are; new ones are welcome."""
        for writer in list(self._writers):
            writer.close()

    async def publish(self, state: Snapshot) -> None:
        """Make `state` the current one and send it to every feed."""
        async with self._changed:
            self.state = state
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.silent:
                await reader.read()
                return
            self._write(writer, Hello(protocol=self.protocol, version="9.9", pid=os.getpid(), instance=INSTANCE))
            while line := await reader.readline():
                await self._frame(line, writer)
        except ConnectionError:
            return
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _frame(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        frame = CLIENT_FRAMES.validate_json(line)
        if isinstance(frame, Hello):
            self.hellos += 1
        elif isinstance(frame, Subscribe):
            feed = asyncio.create_task(self._feed(writer))
            self._tasks.add(feed)
            feed.add_done_callback(self._tasks.discard)
        elif isinstance(frame, More):
            self._taken[writer].set()
        elif isinstance(frame, Send):
            outcome = self._run(frame.command)
            if self.drop_next_answer:
                self.drop_next_answer = False
                writer.close()
                return
            self._write(writer, Sent(tag=frame.tag, outcome=outcome))
            if isinstance(frame.command, Shutdown) and isinstance(outcome, Accepted):
                closing = asyncio.create_task(self.close())
                closing.add_done_callback(lambda _: None)
        elif isinstance(frame, Ask):
            self.queries.append(frame.query)
            answer = self._answer(frame.query)
            if isinstance(answer, Error):
                self._write(writer, answer.model_copy(update={"tag": frame.tag}))
            else:
                self._write(writer, Answered(tag=frame.tag, answer=answer))

    async def _feed(self, writer: asyncio.StreamWriter) -> None:
        taken = self._taken[writer] = asyncio.Event()
        before: Snapshot | None = None
        while not writer.is_closing():
            async with self._changed:
                while self.state is before:
                    await self._changed.wait()
            taken.clear()
            after = self.state
            self._write(writer, finished(told(before, after)))
            before = after
            await taken.wait()

    def _run(self, command: Command) -> Outcome:
        """Replays the first answer for a known id, as contract/command.py demands."""
        self.commands.append(command)
        if command.id not in self.outcomes:
            self.outcomes[command.id] = self.decide(command) or self._outcome(command)
        return self.outcomes[command.id]

    def _outcome(self, command: Command) -> Outcome:
        known = {e.spec.slug for e in self.state.endpoints}
        if isinstance(command, CreateEndpoint) and command.spec.slug in known:
            return Refused(id=command.id, code=RefusalCode.EXISTS, message="slug: taken", field="slug")
        if isinstance(command, DeleteEndpoint) and command.slug not in known:
            return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=f"no endpoint {command.slug}")
        if isinstance(command, CreateKey):
            return Accepted(id=command.id, message="key created", key_id="key-9", secret=SECRET)
        return Accepted(id=command.id, message=f"{command.kind} done")

    def _answer(self, query: Query) -> Answer | Error:
        if isinstance(query, AskSnapshot):
            return SnapshotAnswer(snapshot=self.state)
        if isinstance(query, AskQuote):
            return self.quote
        if isinstance(query, AskBill):
            if query.account != "local":
                return Unanswered(code="not_found", message=f"no account '{query.account}'")
            return bill()
        if isinstance(query, AskVerify):
            return self.verification
        if isinstance(query, AskLogs):
            if query.slug not in {e.spec.slug for e in self.state.endpoints}:
                return Unanswered(code="not_found", message=f"no endpoint '{query.slug}'")
            if query.tail == 4_999:
                return Error(code="internal", message="the log reader failed")
            return Logs(workers=(LogLines(worker_id="sketch-w1", label="w1", lines=self.log_lines),))
        raise AssertionError(json.dumps(query.model_dump()))

    @staticmethod
    def _write(writer: asyncio.StreamWriter, frame: ServerFrame) -> None:
        if not writer.is_closing():
            writer.write(frame.model_dump_json().encode() + b"\n")
