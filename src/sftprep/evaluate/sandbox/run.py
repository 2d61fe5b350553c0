"""Run one model-written function against its tests, or many of them, two at a time."""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sftprep.evaluate.sandbox.tier import (
    UNSAFE,
    Launch,
    SandboxTier,
    bwrap_command,
    candidates,
    environment,
    imports_in,
    interpreter,
    plain_command,
)

WORKERS = 2
START_SECONDS = 30.0
"""Allowance for starting the two processes, before the clock of the problem runs."""
VERDICT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Problem:
    """One function to write: `completion` continues `prompt`; `test` defines `check(candidate)`."""

    prompt: str
    completion: str
    test: str
    entry_point: str


@dataclass(frozen=True, slots=True)
class SandboxOutcome:
    """`error` is a fault of the machinery or of the benchmark item, never of the solution."""

    status: Literal["passed", "failed", "error"]
    detail: str
    seconds: float


@contextmanager
def _pipes() -> Iterator[list[int]]:
    """Three pipes: call_r, call_w, reply_r, reply_w, verdict_r, verdict_w; closed at the end."""
    fds: list[int] = []
    try:
        for _ in range(3):
            fds += os.pipe()
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _start(command: list[str], fds: tuple[int, ...], env: dict[str, str], stdin: int) -> Any:
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=fds,
        env=env,
        cwd="/",
        start_new_session=True,
    )


def _start_solver(launch: Launch) -> Any:
    if launch.tier.bubblewrap:
        return _start(bwrap_command(launch), launch.fds, {}, subprocess.DEVNULL)
    env = environment(str(interpreter()[1]))
    return _start(plain_command(launch), launch.fds, env, subprocess.DEVNULL)


def _start_checker(launch: Launch) -> Any:
    env = environment(str(interpreter()[1]))
    return _start(plain_command(launch), launch.fds, env, subprocess.PIPE)


def _end(process: Any) -> None:
    """Kill the whole process group, then reap."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            return


def _read_line(fd: int, waiting: bytearray, seconds: float) -> dict[str, Any] | None:
    """The next verdict line; None at the end of the pipe.

    Raises:
        TimeoutError: nothing arrived in time.
    """
    deadline = time.monotonic() + seconds
    while b"\n" not in waiting:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(fd, VERDICT_BYTES)
        if not piece:
            return None
        waiting += piece
    line, _, rest = bytes(waiting).partition(b"\n")
    waiting[:] = rest
    message: dict[str, Any] = json.loads(line)
    return message


def _await_verdict(fd: int, timeout_seconds: float) -> tuple[str, str]:
    """Wait for the start, then for the verdict: (status, detail)."""
    waiting = bytearray()
    try:
        message = _read_line(fd, waiting, START_SECONDS)
    except TimeoutError:
        return "error", f"the sandbox did not start within {START_SECONDS:.0f} s"
    if message is not None and message.get("started"):
        try:
            message = _read_line(fd, waiting, timeout_seconds)
        except TimeoutError:
            return "failed", f"no verdict within {timeout_seconds:g} s"
    if message is None:
        return "error", "the checking process ended without a verdict"
    return str(message["status"]), str(message["detail"])


def run_problem(
    prompt: str,
    completion: str,
    test: str,
    entry_point: str,
    *,
    timeout_seconds: float = 5.0,
    tier: SandboxTier,
) -> SandboxOutcome:
    """Execute `prompt + completion` in the sandbox and its tests in another process.

    Args:
        prompt: start of the file, ending in the function's signature and docstring.
        completion: what the model wrote.
        test: trusted text that defines `check(candidate)`.
        entry_point: name of the function.
        timeout_seconds: wall-clock limit, counted from the moment the sandbox stands.
        tier: from `probe()`; UNSAFE only when the user asked for it by name.
    Returns:
        passed, failed, or error (the machinery or the item is at fault; never counted as wrong).
    """
    job = {"prompt": prompt, "completion": completion, "test": test, "entry": entry_point}
    started = time.monotonic()
    cpu_seconds = int(timeout_seconds) + 5
    processes: list[Any] = []
    with _pipes() as fds:
        call_r, call_w, reply_r, reply_w, verdict_r, verdict_w = fds
        names = imports_in((prompt, completion))
        solver = Launch("solver.py", (call_r, reply_w), tier, cpu_seconds, names)
        names = imports_in((prompt, test))
        checker = Launch("checker.py", (call_w, reply_r, verdict_w), tier, cpu_seconds, names)
        try:
            processes.append(_start_solver(solver))
            processes.append(_start_checker(checker))
            for fd in (call_r, call_w, reply_r, reply_w, verdict_w):
                os.close(fd)
                fds.remove(fd)
            _hand_over(processes[1].stdin, job)
            status, detail = _await_verdict(verdict_r, timeout_seconds)
        except OSError as error:
            status, detail = "error", f"the sandbox did not start: {error}"
        finally:
            for process in processes:
                _end(process)
    seconds = time.monotonic() - started
    return SandboxOutcome(_status(status), detail, seconds)


def _hand_over(stdin: Any, job: dict[str, str]) -> None:
    try:
        stdin.write(json.dumps(job).encode("ascii"))
        stdin.close()
    except BrokenPipeError:
        return  # the checker has ended; its verdict, or the lack of one, says why


def _status(text: str) -> Literal["passed", "failed", "error"]:
    if text == "passed":
        return "passed"
    return "failed" if text == "failed" else "error"


def run_many(
    problems: Sequence[Problem],
    *,
    timeout_seconds: float = 5.0,
    tier: SandboxTier,
    finished: Callable[[int, SandboxOutcome], None] | None = None,
) -> list[SandboxOutcome]:
    """Run problems with two workers; results in the order of `problems`.

    `finished(index, outcome)` is called in the caller's thread as results come in order.
    """

    def one(problem: Problem) -> SandboxOutcome:
        return run_problem(
            problem.prompt,
            problem.completion,
            problem.test,
            problem.entry_point,
            timeout_seconds=timeout_seconds,
            tier=tier,
        )

    with ThreadPoolExecutor(WORKERS) as pool:
        futures: list[Future[SandboxOutcome]] = [pool.submit(one, p) for p in problems]
        outcomes: list[SandboxOutcome] = []
        try:
            for index, future in enumerate(futures):
                outcomes.append(future.result())
                if finished is not None:
                    finished(index, outcomes[-1])
        finally:
            for future in futures:
                future.cancel()
    return outcomes


_PROBE_PROMPT = "def escape(path):\n"
_PROBE_CODE = """    import os
    import socket
    found = []
    try:
        with open(path) as handle:
            handle.read()
        found.append("file")
    except OSError:
        pass
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
        found.append("socket")
    except OSError:
        pass
    try:
        if os.fork() == 0:
            os._exit(0)
        found.append("fork")
    except OSError:
        pass
    return found
"""


def holds(tier: SandboxTier) -> bool:
    """Start the tier and try to read a secret, open a socket and fork in it: all must fail.

    The same code must be able to do all three outside (the secret is a world-readable file), and a
    correct function must pass: a sandbox in which nothing runs is no sandbox either.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret.txt"
        secret.write_text("canary")
        secret.chmod(0o644)
        test = f"def check(candidate):\n    assert candidate({str(secret)!r}) == []\n"
        outcome = run_problem(_PROBE_PROMPT, _PROBE_CODE, test, "escape", tier=tier)
    return outcome.status == "passed"


def probe(tiers: Iterable[SandboxTier] | None = None) -> SandboxTier | None:
    """The strongest tier that holds on this machine, or None: then model code is not run."""
    for tier in candidates() if tiers is None else tiers:
        if tier != UNSAFE and holds(tier):
            return tier
    return None
