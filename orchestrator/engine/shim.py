"""The supervisor of one process-engine worker, started as a file: `python -I -S shim.py DIRECTORY`.

It is to the process engine what containerd-shim is to Docker: it outlives the orchestrator, is the parent of the model,
keeps its log and its memory limit, and leaves evidence of its end. It imports the standard library only, so that it
stays small (about 10 MB) and an upgrade of the project cannot break a supervisor that is running.

Conversation with the engine over its standard streams:

1. The shim leaves its parent, writes shim.json (its pid, start ticks, boot id) and answers one line, `{"pid": n}`.
2. The engine sends the plan, one line of JSON. End of file instead means the engine is gone: the shim ends and no model
   was started, so a record whose shim.json names no model never had one.
3. The shim starts the model, completes shim.json and answers `{"started_ns": n}` or `{"error": text}`.

Afterwards it speaks through files only: stop.json is read on SIGTERM, exit.json is written once, last.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICK_S = 0.25
RESCAN_S = 1.0  # how often the model's family is looked up anew; its memory is read every tick
LEASE_PERIOD_S = 2.0
SQUEEZED_BYTES = 1024 * 1024  # the limit once there is a file `squeeze`: a rehearsal of growth (process_faults.py)
LOG_BYTES_MAX = 10 * 1024 * 1024  # size at which `log` becomes `log.1`: at most twice this on disk for one worker
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = b"500"  # a host short of memory loses models before it loses the orchestrator or this supervisor
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Identity of this boot of the host; "" where the kernel does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def stat_fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from the state (field 3) on. Raises OSError when there is no such process."""
    _, found, rest = Path(f"/proc/{pid}/stat").read_bytes().decode("ascii", "replace").rpartition(") ")
    if not found:
        raise ProcessLookupError(f"process {pid} ended while it was read")
    return rest.split()


def start_ticks(pid: int) -> int | None:
    """Start of the process in clock ticks since boot (field 22): with the pid, its identity. None when unknown."""
    try:
        return int(stat_fields(pid)[19])
    except OSError:
        return None


def descendants(root: int) -> list[int]:
    """Every living process below `root`. One pass over /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - the fast way
    except OSError:
        return []
    for name in names:
        if name.isdecimal():
            try:
                fields = stat_fields(int(name))
            except OSError:
                continue  # ended since the listing
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found = children.get(root, [])[:]
    for pid in found:  # it grows while it is walked: breadth first
        found += children.get(pid, [])
    return found


def kibibytes(path: str, names: tuple[bytes, ...]) -> int:
    """Sum of the named `Name: n kB` lines of a /proc file, in bytes; 0 when it cannot be read."""
    total = 0
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, rest = line.partition(b":")
        total += int(rest.split()[0]) * 1024 if name in names else 0
    return total


def memory_bytes(pids: list[int], limit: int) -> int:
    """Memory that only swapping or killing could free, of all `pids`: anonymous, shared and swapped pages.

    File pages (weights mapped from disk) are left out, as they are of a container's limit under pressure. Pages shared
    between the processes are counted once, but only when the cheap sum is above `limit`: the exact figure is slow.
    """
    total = sum(kibibytes(f"/proc/{pid}/status", (b"RssAnon", b"RssShmem", b"VmSwap")) for pid in pids)
    if total <= limit:
        return total
    exact = sum(kibibytes(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon", b"Pss_Shmem", b"SwapPss")) for pid in pids)
    return exact or total


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` at once: a reader sees the old or the new text, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Log:
    """What the model writes: `log`, and `log.1` with the older part. A full disk loses lines, never the model."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, APPEND, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        try:
            self._size += os.write(self._fd, data)
            if self._size >= LOG_BYTES_MAX:
                self._rotate()
        except OSError:
            return  # the pipe must be drained all the same: a full pipe would stall the model

    def _rotate(self) -> None:
        fresh = self._path.with_name(".log.new")
        descriptor = os.open(fresh, APPEND, 0o600)  # first, so that a failure changes nothing
        self._path.replace(self._path.with_name("log.1"))
        fresh.replace(self._path)
        os.dup2(descriptor, self._fd)
        os.close(descriptor)
        self._size = 0


class Lease:
    """The orchestrator's lock on `path`, seen from outside: is somebody alive who looks after this worker?"""

    def __init__(self, path: str, grace_s: float) -> None:
        self._path = path
        self._grace_s = grace_s
        self._kept = self._open()
        self._held_s = time.monotonic()
        self._next_s = 0.0

    def _open(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _held(self, descriptor: int | None) -> bool:
        if descriptor is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True  # held, or the file system cannot tell: then no worker is ended for it
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False

    def expired(self, now_s: float) -> bool:
        """True once nobody has held the lock for the whole grace; a short grace is looked at more often."""
        if now_s >= self._next_s:
            self._next_s = now_s + min(LEASE_PERIOD_S, max(self._grace_s / 4, 0.05))
            current = self._open()  # the kept one counts too: the file may be deleted under a living orchestrator
            if self._held(current) or self._held(self._kept):
                self._held_s = now_s
            if current is not None:
                os.close(current)
        return now_s - self._held_s > self._grace_s


class Shim:
    """The supervision of one model, from its start to its evidence."""

    def __init__(self, directory: Path, plan: dict[str, Any]) -> None:
        self._directory = directory
        self._plan = plan
        # Ties the engine's wall clock to ours, which counts suspend and never steps: start and end of a worker are
        # measured by one clock even when the wall clock is set in between.
        self._anchor_ns = int(plan["now_ns"]) - clock_ns()
        self._log = Log(directory / "log")
        self._lease = Lease(plan["lease"], float(plan["lease_grace_s"]))
        self._limit = int(plan["memory_bytes"])
        self._wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN: an ignored signal stays ignored after exec
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._model, self._output = 0, -1
        self._cause: str | None = None
        self._detail = ""
        self._kill_at_s: float | None = None
        self._members: list[int] = []
        self._watch_at_s = self._rescan_at_s = 0.0

    def _prctl(self, option: int, value: int) -> None:
        if hasattr(self._libc, "prctl"):
            self._libc.prctl(option, value, 0, 0, 0)

    def start(self) -> dict[str, Any]:
        """Start the model; what shim.json says of it. Raises OSError when it cannot be executed."""
        self._prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the model forks and forgets stays below us, where we can end it
        shim = os.getpid()

        def prepare() -> None:
            # Without the next line a model would outlive a killed shim: a GPU held by nobody.
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(1)
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_bytes(OOM_SCORE)

        self._output, writer = os.pipe2(os.O_CLOEXEC)
        process = subprocess.Popen(
            self._plan["argv"], env=self._plan["env"], cwd=self._directory, stdin=subprocess.DEVNULL,
            stdout=writer, stderr=subprocess.STDOUT, process_group=0,
            preexec_fn=prepare,  # noqa: PLW1509 - safe here: this process has one thread
        )  # fmt: skip
        os.close(writer)  # ours: the end of the model's copies is the end of its output
        process.returncode = 0  # reaped by our own waitpid, not by subprocess
        self._model = process.pid
        started_ns = self._anchor_ns + clock_ns()
        return {"model_pid": self._model, "model_ticks": start_ticks(self._model), "started_ns": started_ns}

    def run(self) -> dict[str, Any]:
        """Supervise until the model has ended; the evidence."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._output, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll(TICK_S * 1000):
                if descriptor == self._output:
                    if data := os.read(self._output, 65_536):
                        self._log.write(data)
                    else:
                        poller.unregister(self._output)
                elif signal.SIGTERM in os.read(self._wake, 512):
                    self._requested()
            status = self._reap()
            if status is not None:
                return self._evidence(status, self._anchor_ns + clock_ns())
            self._watch(time.monotonic())

    def _requested(self) -> None:
        """SIGTERM: the engine wants the worker to end, within the grace that stop.json names."""
        try:
            grace_s = float(json.loads((self._directory / "stop.json").read_bytes())["grace_s"])
        except (OSError, ValueError, KeyError, TypeError):
            grace_s = float(self._plan["stop_grace_s"])
        self._terminate(None, "stopped on request", grace_s)

    def _terminate(self, cause: str | None, detail: str, grace_s: float) -> None:
        self._cause, self._detail = self._cause or cause, self._detail or detail
        deadline_s = time.monotonic() + grace_s
        first = self._kill_at_s is None
        self._kill_at_s = deadline_s if self._kill_at_s is None else min(self._kill_at_s, deadline_s)
        if grace_s <= 0:
            self._end_descendants(wait=False)
        elif first:  # once: many servers take a second SIGTERM for an order to drop their requests
            with contextlib.suppress(ProcessLookupError):  # ended meanwhile: the next reap tells
                os.killpg(self._model, signal.SIGTERM)

    def _watch(self, now_s: float) -> None:
        if now_s < self._watch_at_s:
            return  # woken by output: a chatty model must not make its supervisor busy
        self._watch_at_s = now_s + TICK_S
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._end_descendants(wait=False)
        if now_s >= self._rescan_at_s:
            self._rescan_at_s = now_s + RESCAN_S
            self._members = descendants(os.getpid())
            self._limit = SQUEEZED_BYTES if (self._directory / "squeeze").exists() else self._limit
        used = memory_bytes(self._members, self._limit)
        if used > self._limit and self._cause is None:
            self._terminate("oom", f"used {used >> 20} MiB of memory, the limit is {self._limit >> 20} MiB", 0)
        if self._kill_at_s is None and self._lease.expired(now_s):
            text = f"no orchestrator has been running for {self._plan['lease_grace_s']:g} s"
            self._terminate(None, text, float(self._plan["stop_grace_s"]))

    def _reap(self) -> int | None:
        """Collect everything that ended below us; the wait status of the model once it is among them."""
        found, pid = None, -1
        while pid:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == self._model:
                found = status
        return found

    def _end_descendants(self, wait: bool = True) -> None:
        """Kill all that is left below us, what left the group included. With `wait`, until there is nothing."""
        deadline_s = time.monotonic() + 5.0
        while True:
            left = descendants(os.getpid())
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not wait or not left or time.monotonic() > deadline_s:
                return
            time.sleep(0.01)
            self._reap()

    def _drain(self) -> None:
        os.set_blocking(self._output, False)
        try:
            while data := os.read(self._output, 65_536):
                self._log.write(data)
        except BlockingIOError:
            return  # something holds the pipe open still; all that was written is in the log

    def _evidence(self, status: int, at_ns: int) -> dict[str, Any]:
        self._end_descendants()
        self._drain()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            cause, text = "signal", f"killed by signal {-code} ({signal.strsignal(-code)})"
            text += "" if self._detail else " (by hand, or by the kernel when the host ran out of memory)"
        else:
            cause, text = ("clean" if code == 0 else "error"), f"exited with code {code}"
        detail = f"{self._detail}; {text}" if self._detail else text
        return {"cause": self._cause or cause, "code": code, "at_ns": at_ns, "detail": detail}


def clock_ns() -> int:
    """Nanoseconds since boot, time in suspend included where the system counts it."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def answer(value: dict[str, Any]) -> None:
    """One line to the engine, which may be gone: then nobody needs it."""
    try:
        os.write(1, json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        return


def keep_evidence(path: Path, evidence: dict[str, Any]) -> None:
    """Write it, waiting up to a minute for a full disk to clear. Raises OSError when it cannot be kept."""
    for left in reversed(range(60)):
        try:
            write_json(path, evidence)
            return
        except FileNotFoundError:
            return  # the record was removed by hand: nobody asks any more
        except OSError:
            if not left:
                raise
            time.sleep(1.0)


def main(arguments: list[str]) -> int:
    """0 when the evidence is written, 1 when no model was started."""
    directory = Path(arguments[1]).absolute()
    if os.fork():
        return 0  # the engine waits for this one; the child belongs to init and leaves no zombie with the engine
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file of a model is gigabytes, with the requests in it
    me: dict[str, Any] = {"shim_pid": os.getpid(), "shim_ticks": start_ticks(os.getpid()), "boot_id": boot_id()}
    write_json(directory / "shim.json", me)
    answer({"pid": os.getpid()})
    if not (line := sys.stdin.buffer.readline()).endswith(b"\n"):
        return 1
    shim = Shim(directory, json.loads(line))
    try:
        me |= shim.start()
        write_json(directory / "shim.json", me)
    except OSError as error:
        answer({"error": f"{error.strerror}: {error.filename}"})
        return 1
    answer({"started_ns": me["started_ns"]})
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    keep_evidence(directory / "exit.json", shim.run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
