"""Runs the attacks. Started by `test_attacks.py` inside bubblewrap: own processes, no network, the
file system read-only, a small /tmp. It refuses to run anywhere else.

Usage: contained.py OUTER_PID_NAMESPACE OUTER_NETWORK_NAMESPACE < {"name": "body of attack"}
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from sftprep.evaluate.sandbox import SandboxTier, run_problem
from sftprep.evaluate.sandbox.run import holds
from sftprep.evaluate.sandbox.tier import candidates

MODULES = "os, signal, socket, ctypes, subprocess, threading, time"
PROMPT = f"import {MODULES}\n\ndef attack(secret, parent):\n"
GONE_SECONDS = 5.0


def contained(outer_pid: str, outer_net: str) -> bool:
    """True when processes and network are not the caller's, and the root is not writable."""
    own = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "net")]
    writable = os.statvfs("/").f_flag & os.ST_RDONLY == 0
    return own[0] != outer_pid and own[1] != outer_net and not writable


def processes() -> set[int]:
    """Ids of all processes of this namespace."""
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}


def leftovers(before: set[int]) -> int:
    """Processes that are still there when the kernel has had time to bury the killed ones."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := len(processes() - before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def run_attack(body: str, tier: SandboxTier, secret: Path) -> dict[str, object]:
    """One attack, and what it left behind."""
    before, status = processes(), secret.stat()
    test = f"def check(candidate):\n    got = candidate({str(secret)!r}, {os.getpid()})\n"
    test += "    assert got == [], got\n"
    outcome = run_problem(PROMPT, body, test, "attack", timeout_seconds=1.0, tier=tier)
    after = secret.stat()
    return {
        "status": outcome.status,
        "detail": outcome.detail,
        "left_processes": leftovers(before),
        "secret": secret.read_text(),
        "same_file": (after.st_mode, after.st_mtime_ns) == (status.st_mode, status.st_mtime_ns),
        "new_files": sorted(path.name for path in Path("/tmp").iterdir()),
    }


def main() -> None:
    """Print one JSON object: tier -> attack -> findings."""
    if not contained(sys.argv[1], sys.argv[2]):
        sys.exit("refused: not inside a throw-away namespace")
    attacks: dict[str, str] = json.load(sys.stdin)
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    secret = folder / "secret.txt"
    secret.write_text("canary")
    secret.chmod(0o666)
    found = {
        tier.name: {name: run_attack(body, tier, secret) for name, body in attacks.items()}
        for tier in candidates()
        if holds(tier)
    }
    print(json.dumps({"folder": folder.name, "tiers": found}))


if __name__ == "__main__":
    main()
