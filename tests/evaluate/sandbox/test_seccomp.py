"""The table of refused system calls."""

import re
import struct
from pathlib import Path

import pytest

from sftprep.evaluate.sandbox.seccomp import CLONE, CLONE3, DENIED, IOCTL, PRLIMIT64, build_filter

HEADERS = (
    (0, Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+)\s+(\d+)"),
    (1, Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
)
OWN = {"clone": CLONE, "clone3": CLONE3, "ioctl": IOCTL, "prlimit64": PRLIMIT64}


@pytest.mark.parametrize(("column", "header", "pattern"), HEADERS)
def test_the_numbers_are_those_of_the_kernel_headers(
    column: int, header: Path, pattern: str
) -> None:
    if not header.is_file():
        pytest.skip(f"{header} is not installed")
    known = {name: int(number) for name, number in re.findall(pattern, header.read_text())}
    wrong = {
        name: (numbers[column], known[name])
        for name, numbers in (DENIED | OWN).items()
        if name in known and numbers[column] is not None and numbers[column] != known[name]
    }
    assert wrong == {}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_lands_inside_and_the_last_step_returns(machine: str) -> None:
    program = build_filter(machine)
    steps = [struct.unpack("=HBBI", program[i : i + 8]) for i in range(0, len(program), 8)]
    jumps = [(at, yes, no) for at, (code, yes, no, _) in enumerate(steps) if code & 7 == 5]
    assert len(steps) < 4096
    assert all(at + 1 + max(yes, no) < len(steps) for at, yes, no in jumps)
    assert steps[-1][0] == 0x06
