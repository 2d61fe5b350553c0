"""The untrusted side: runs the model's code and answers calls. Standard library only.

Started as `python -I -S -B solver.py READ_FD WRITE_FD RULES`. It closes itself in before it reads a
single byte of model code. Whatever that code does to this process, all it can produce is answers.
"""

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


class Wire:
    """Lines over two pipes."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.waiting = b""

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other side is gone."""
        while b"\n" not in self.waiting:
            piece = os.read(self.read_fd, 1 << 16)
            if not piece:
                return None
            self.waiting += piece
        line, _, self.waiting = self.waiting.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; too long a value becomes an error."""
        line = values.to_line(message)
        if len(line) > limits.MESSAGE_BYTES:
            line = values.to_line({"n": message.get("n"), "err": "OverflowError"})
        while line:
            line = line[os.write(self.write_fd, line) :]


def answer(function: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Call the solution once; an exception is answered by the name of its type."""
    try:
        arguments = values.decode(call["a"])
        named = values.decode(call["k"])
        return {"n": call["n"], "r": values.encode(function(*arguments, **named))}
    except Exception as error:  # noqa: BLE001 (model code may raise anything)
        return {"n": call["n"], "err": type(error).__name__}


def load(job: dict[str, Any]) -> Any:
    """Execute the solution's text and return its function."""
    namespace: dict[str, Any] = {"__name__": "solution"}
    exec(compile(job["code"], "solution.py", "exec"), namespace)  # noqa: S102 (the sandbox)
    return namespace[job["entry"]]


def main() -> None:
    """Close in, say so, load the solution, answer calls until the pipe closes."""
    wire = Wire(int(sys.argv[1]), int(sys.argv[2]))
    try:
        confine.confine(confine.Confinement(**json.loads(sys.argv[3])))
    except OSError as error:
        wire.send({"refused": str(error)})
        return
    wire.send({"confined": True})
    job = wire.receive()
    if job is None:
        return
    try:
        function = load(job)
    except Exception as error:  # noqa: BLE001 (model code may raise anything)
        wire.send({"err": type(error).__name__})
        return
    wire.send({"ready": True})
    while (call := wire.receive()) is not None:
        wire.send(answer(function, call))


if __name__ == "__main__":
    main()
