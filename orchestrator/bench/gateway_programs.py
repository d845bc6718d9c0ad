"""The programs of the measurement as child processes: started, pinned to a core, asked for their CPU time and memory,
and ended together."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from orchestrator.bench import gateway_configs as configs
from orchestrator.clock import Now
from orchestrator.contract.base import SECOND_NS

START_NS: Final = 15 * SECOND_NS
END_S: Final = 5.0
NAMES: Final = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk"}
"""Program to Debian's package."""
PLACES: Final = ("/usr/sbin", "/usr/local/sbin")
"""Where nginx and haproxy are, which is not on everybody's PATH."""
TREE: Final = Path(__file__).resolve().parents[2]


class BenchError(Exception):
    """The measurement cannot be made; the message says which program, and what it said."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what."""

    proxy: int
    load: frozenset[int]

    def __str__(self) -> str:
        if self.proxy in self.load:
            return "proxy, load and upstreams share the only core"
        return f"proxy on core {self.proxy}, load and upstreams on {', '.join(map(str, sorted(self.load)))}"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers: a proxy, or the upstreams themselves (`process` None)."""

    name: str
    port: int
    behind: bool = False
    """It is a proxy, which is asked for `/v1/{slug}/...`."""
    process: subprocess.Popen[bytes] | None = None

    def cpu_ns(self) -> tuple[int, int]:
        """CPU time of the process so far, in user and in kernel mode; zeros without a process."""
        if self.process is None:
            return 0, 0
        whole_ns = _cpu_ns(self.process.pid)
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        user, kernel = int(fields[11]), int(fields[12])
        kernel_ns = whole_ns * kernel // max(user + kernel, 1)  # ticks of 10 ms are too coarse for more than the share
        return whole_ns - kernel_ns, kernel_ns

    def waited_ns(self) -> int:
        """Time the process could have run so far, and had to wait for its core; 0 without a process."""
        return 0 if self.process is None else _schedule(self.process.pid)[1]

    def memory_bytes(self) -> int:
        """Resident memory of the process; 0 without one."""
        if self.process is None:
            return 0
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1_024


def find_program(name: str) -> str | None:
    """The path of `name`, or None when it is not installed."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PLACES))


def missing_programs() -> list[str]:
    """Those of NAMES that are not installed."""
    return [name for name in NAMES if find_program(name) is None]


def choose_cores() -> Cores:
    """The last core this process may use for the proxy, all others for the load."""
    mine = sorted(os.sched_getaffinity(0))
    return Cores(mine[-1], frozenset(mine[:-1] or mine))


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return tuple(sock.getsockname()[1] for sock in sockets)


def busy_ns(cores: Collection[int]) -> int:
    """Time that `cores` have spent on any program, since the machine started. Without interrupts, whose work on the
    loopback device is ours and booked on nobody."""
    tick_ns = SECOND_NS // os.sysconf("SC_CLK_TCK")
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    return sum(sum(map(int, row[1:4])) for row in rows if int(row[0][3:]) in cores) * tick_ns


class Stage:
    """Every program of one run, in a directory of its own. Used as a context: at its end nothing is left."""

    def __init__(self, directory: Path, cores: Cores, now: Now) -> None:
        self._directory = directory
        self._cores = cores
        self._now = now
        self._running: list[subprocess.Popen[bytes]] = []
        self.workers: tuple[int, ...] = ()
        self.streams: tuple[int, ...] = ()
        self.paced: tuple[int, ...] = ()
        """Ports on which the paced load answers for itself, while there is one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            self.end(process)

    def start_upstreams(self) -> Target:
        """nginx on two ports and a streaming worker on two more; the target is the first of them, without a proxy."""
        first, second, third, fourth, *paced = free_ports(6)
        self.workers, self.streams, self.paced = (first, second), (third, fourth), tuple(paced)
        (self._directory / "large").write_bytes(b"x" * configs.LARGE_BYTES)
        self._start_nginx("upstream", configs.nginx_upstream((first, second), str(self._directory)), self._cores.load)
        module = [sys.executable, "-m", "orchestrator.bench.gateway_stream", str(third), str(fourth)]
        self._start("stream", module, self._cores.load)
        self._await_port("nginx", first)
        self._await_port("stream", third)
        return Target("direct", first)

    def start_gateway(self, name: str, tree: Path, profile: Path | None = None) -> Target:
        """The gateway of the source tree `tree`. With `profile` it runs under cProfile and writes that file."""
        served = Path(__file__).with_name("gateway_served.py")
        command = [sys.executable, "-P", str(served), "--key", configs.KEY]
        routes = {configs.SLUG: self.workers, configs.STREAM_SLUG: self.streams, configs.PACED_SLUG: self.paced}
        for slug, ports in routes.items():
            command += ["--route", f"{slug}={','.join(map(str, ports))}"]
        if profile is not None:
            command += ["--profile", str(profile)]
        process = self._start(name, command, {self._cores.proxy}, tree=tree)
        return Target(name, int(self._first_line(name, process)["port"]), behind=True, process=process)

    def start_proxy(self, name: str) -> Target:
        """nginx or haproxy as a proxy."""
        (port,) = free_ports(1)
        core = {self._cores.proxy}
        if name == "nginx":
            config = configs.nginx_proxy(port, self.workers, self.streams, self.paced)
            process = self._start_nginx("proxy", config, core)
        else:
            file = self._directory / "haproxy.cfg"
            config = configs.haproxy_proxy(port, self.workers, self.streams, self.paced)
            file.write_text(config, encoding="ascii")
            process = self._start(name, [_path(name), "-db", "-f", str(file)], core)
        self._await_port(name, port)
        return Target(name, port, behind=True, process=process)

    def own_ns(self) -> int:
        """CPU time of everything started here so far, and of this process."""
        running = sum(_cpu_ns(process.pid) for process in self._running if process.poll() is None)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        mine = resource.getrusage(resource.RUSAGE_SELF)
        return running + int((ended.ru_utime + ended.ru_stime + mine.ru_utime + mine.ru_stime) * SECOND_NS)

    def run_load(self, command: Sequence[str], timeout_s: float) -> dict[str, Any]:
        """Run a load generator on the load's cores; the last JSON object it printed. Raises BenchError."""
        process = self._start(Path(command[0]).name, command, self._cores.load)
        return self._figures_of(process, command, timeout_s)

    def run_undisturbed(self, command: Sequence[str], target: Target, timeout_s: float) -> tuple[dict[str, Any], float]:
        """The same, with real-time priority for the load and `target` where that is allowed. Also returned is how much
        of its running time `target` was kept waiting for its core: other programs did that, not its own code. The load
        must pause by itself. Raises BenchError."""
        process = self._start(Path(command[0]).name, command, self._cores.load)
        measured = [process.pid] if target.process is None else [process.pid, target.process.pid]
        before_ns = target.waited_ns()
        begin_ns = self._now()
        with ExitStack() as stack:
            if self._cores.proxy not in self._cores.load:  # on a single core nothing else would get a turn
                for pid in measured:
                    stack.enter_context(_first_served(pid))
            figures = self._figures_of(process, command, timeout_s)
        return figures, (target.waited_ns() - before_ns) / (self._now() - begin_ns)

    def _figures_of(self, process: subprocess.Popen[bytes], command: Sequence[str], timeout_s: float) -> dict[str, Any]:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{command[0]} did not end within {timeout_s:g} s") from error
        finally:
            self.end(process)
            self._running.remove(process)
        for line in reversed((out + b"\n" + err).decode(errors="replace").splitlines()):
            if line.startswith("{"):
                document: dict[str, Any] = json.loads(line)
                return document
        raise BenchError(f"{' '.join(command[:3])} printed no figures: {err.decode(errors='replace').strip()[-300:]}")

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end, then make it."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _start_nginx(self, name: str, config: str, cores: set[int] | frozenset[int]) -> subprocess.Popen[bytes]:
        home = self._directory / f"nginx-{name}"
        home.mkdir()
        (home / "nginx.conf").write_text(config, encoding="ascii")
        return self._start("nginx", [_path("nginx"), "-e", "stderr", "-p", str(home), "-c", "nginx.conf"], cores)

    def _start(
        self, name: str, command: Sequence[str], cores: set[int] | frozenset[int], tree: Path = TREE
    ) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree)},
            )
        except OSError as error:
            raise BenchError(f"{name} cannot be started: {error}") from error
        self._running.append(process)
        os.sched_setaffinity(process.pid, cores)
        return process

    def _await_port(self, name: str, port: int) -> None:
        """Return when somebody listens. Raises BenchError with what the program said."""

        def answers() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        self._await(name, answers)

    def _first_line(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        out = process.stdout
        assert out is not None, "stdout is a pipe"
        self._await(name, lambda: bool(select.select([out], [], [], 0)[0]))
        line = out.readline()
        if not line:
            raise BenchError(f"{name} ended at once: {self._said(process)}")
        document: dict[str, Any] = json.loads(line)
        return document

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        end_ns = self._now() + START_NS
        while not ready():
            ended = [process for process in self._running if process.poll() is not None]
            if ended:
                raise BenchError(f"{name} did not start: {self._said(ended[0])}")
            if self._now() > end_ns:
                raise BenchError(f"{name} did not answer within {START_NS // SECOND_NS} s")
            select.select([], [], [], 0.02)

    @staticmethod
    def _said(process: subprocess.Popen[bytes]) -> str:
        assert process.stderr is not None, "stderr is a pipe"
        lines = process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"it ended with status {process.returncode} and said nothing"


@contextmanager
def _first_served(pid: int) -> Iterator[None]:
    """Real-time priority for the process `pid`; without the right to give it, nothing happens."""
    _schedule_threads(pid, os.SCHED_RR, first=2, others=1)
    try:
        yield
    finally:
        _schedule_threads(pid, os.SCHED_OTHER, first=0, others=0)


def _schedule_threads(pid: int, policy: int, *, first: int, others: int) -> None:
    """The first thread of a process before its others, and these before other programs: one that were left behind with
    a lock would hold up the first."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            thread = int(task.name)
            os.sched_setscheduler(thread, policy, os.sched_param(first if thread == pid else others))


def _schedule(pid: int) -> tuple[int, int]:
    """CPU time of the process's first thread, and its time in the queue for a core, in nanoseconds: all of these
    programs have one thread that works."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    return int(ran), int(waited)


def _cpu_ns(pid: int) -> int:
    return _schedule(pid)[0]


def _path(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise BenchError(f"{name} is not installed: apt-get install {NAMES[name]}")
    return path
