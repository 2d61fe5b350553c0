"""The trusted side: runs the benchmark's tests against a stand-in for the solution.

Started as `python -I -S -B checker.py CALL_FD REPLY_FD VERDICT_FD RULES` with the job on standard
input. The model's code never enters this process; it answers calls from the other one with plain
values. Standard library only.
"""

import builtins
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftprep.evaluate.sandbox import confine, limits, values
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    import confine
    import limits
    import values

    sys.path.pop(0)


class Slip(BaseException):
    """The other side broke the protocol or ended. A test's `except Exception` cannot hide it."""


class Broken(Exception):
    """The benchmark item itself does not run, or the sandbox did not start."""


class Wire:
    """Calls out, replies in; both capped."""

    def __init__(self, call_fd: int, reply_fd: int) -> None:
        self.call_fd, self.reply_fd = call_fd, reply_fd
        self.waiting = b""

    def send(self, message: dict[str, Any]) -> None:
        """Write one message.

        Raises:
            Slip: nobody reads any more.
        """
        line = values.to_line(message)
        try:
            while line:
                line = line[os.write(self.call_fd, line) :]
        except BrokenPipeError as error:
            raise Slip("the solution ended the process") from error

    def receive(self) -> dict[str, Any]:
        """Read one message.

        Raises:
            Slip: the pipe closed, the line is too long, or it is not a JSON object.
        """
        while b"\n" not in self.waiting:
            piece = os.read(self.reply_fd, 1 << 16)
            if not piece:
                raise Slip("the solution ended the process")
            self.waiting += piece
            if len(self.waiting) > 2 * limits.MESSAGE_BYTES:
                raise Slip("the answer is too long")
        line, _, self.waiting = self.waiting.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Slip("the answer is not a message") from error
        if not isinstance(message, dict):
            raise Slip("the answer is not a message")
        return message


def raised(name: Any) -> Exception:
    """The exception the solution raised, as far as it is a built-in one."""
    kind = getattr(builtins, name, None) if isinstance(name, str) else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(f"{name} in the solution")
        except TypeError:  # kinds that want more than a text, such as UnicodeDecodeError
            return RuntimeError(f"{name} in the solution")
    return RuntimeError("the solution raised an error of its own kind")


def stand_in(wire: Wire) -> Any:
    """A function that sends its arguments to the solver and returns the decoded answer."""
    number = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal number
        number += 1
        wire.send({"n": number, "a": values.encode(arguments), "k": values.encode(named)})
        reply = wire.receive()
        if reply.get("n") != number or isinstance(reply.get("n"), bool):
            raise Slip("an answer to another call")
        if "err" in reply:
            raise raised(reply["err"])
        try:
            return values.decode(reply.get("r"))
        except values.ValueRefused as error:
            raise Slip(str(error)) from error

    return call


def compile_prompt(prompt: str) -> Any:
    """Compile the prompt's helping functions; a signature without docstring gets a body.

    Raises:
        SyntaxError: it is not Python either way.
    """
    try:
        return compile(prompt, "prompt.py", "exec")
    except SyntaxError:
        return compile(f"{prompt}\n    pass\n", "prompt.py", "exec")


def load_tests(job: dict[str, Any], function: Any) -> Any:
    """Execute prompt (its helping functions) and tests; return `check`.

    The entry name is bound to the stand-in after both, so that a test which calls the function by
    name (HumanEval/33 compares the candidate with it) reaches the solution, not the empty prompt.

    Raises:
        Broken: the benchmark file's own text fails.
    """
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile_prompt(job["prompt"]), namespace)  # noqa: S102 (benchmark file)
        exec(compile(job["test"], "test.py", "exec"), namespace)  # noqa: S102 (benchmark file)
        namespace[job["entry"]] = function
        return namespace["check"]
    except Exception as error:
        raise Broken(f"prompt or tests do not run: {type(error).__name__}: {error}") from error


def start_solution(wire: Wire, job: dict[str, Any], verdict_fd: int) -> None:
    """Wait until the solver is closed in, start the clock of the parent, send the solution.

    Raises:
        Broken: the sandbox did not start.
        Slip: the solution does not load.
    """
    try:
        hello = wire.receive()
    except Slip as error:
        raise Broken("the sandbox did not start") from error
    if hello.get("confined") is not True:
        raise Broken(f"the sandbox did not start: {hello.get('refused')}")
    os.write(verdict_fd, values.to_line({"started": True}))
    wire.send({"code": job["prompt"] + job["completion"], "entry": job["entry"]})
    reply = wire.receive()
    if reply.get("ready") is not True:
        name = reply.get("err")
        shown = name[:60] if isinstance(name, str) and name.isidentifier() else "unknown"
        raise Slip(f"the solution does not load: {shown}")


def judge(wire: Wire, job: dict[str, Any], verdict_fd: int) -> tuple[str, str]:
    """Run the tests. Returns (passed | failed | error, why)."""
    try:
        function = stand_in(wire)
        check = load_tests(job, function)
        start_solution(wire, job, verdict_fd)
        check(function)
    except Broken as error:
        return "error", str(error)
    except AssertionError:
        return "failed", "a test does not hold"
    except Slip as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 (whatever a test trips over is a failed test)
        return "failed", f"{type(error).__name__} during the tests"
    return "passed", ""


def main() -> None:
    """Close in, read the job, judge, report."""
    wire, verdict_fd = Wire(int(sys.argv[1]), int(sys.argv[2])), int(sys.argv[3])
    try:
        confine.confine(confine.Confinement(**json.loads(sys.argv[4])))
    except OSError as error:
        os.write(verdict_fd, values.to_line({"status": "error", "detail": str(error)}))
        return
    job = json.loads(sys.stdin.buffer.read())
    status, detail = judge(wire, job, verdict_fd)
    os.write(verdict_fd, values.to_line({"status": status, "detail": detail[:300]}))


if __name__ == "__main__":
    main()
