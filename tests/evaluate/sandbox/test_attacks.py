"""Real attacks, run only inside a throw-away namespace (bubblewrap); skipped where there is none.

DANGER: never run the texts below elsewhere. Each is the body of `attack(secret, parent)` and
returns the list of what it got through; for bombs the verdict is `failed` and no trace is left.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "src"

SYSCALL = """    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    got = []
    def call(name, number, *arguments):
        if libc.syscall(number, *arguments) >= 0:
            got.append(name)
"""
TRY = """    got = []
    def attempt(name, action):
        try:
            action()
            got.append(name)
        except OSError:
            pass
"""

# name: (body, verdict that must come out)
ATTACKS: dict[str, tuple[str, str]] = {
    "reads files": (
        TRY + "    import os\n"
        "    for path in (secret, '/etc/passwd', '/etc/hostname', '/proc/self/environ',\n"
        "                 '/proc/1/environ', f'/proc/{parent}/environ', f'/proc/{parent}/mem'):\n"
        "        attempt(path, lambda: open(path, 'rb').read(1))\n"
        "    attempt('list', lambda: os.listdir(os.path.dirname(secret)))\n    return got\n",
        "passed",
    ),
    "writes files": (
        TRY + "    import os\n    folder = os.path.dirname(secret)\n"
        "    for path in (secret, folder + '/new', '/tmp/new', '/new', '/dev/shm/new', 'new'):\n"
        "        attempt(path, lambda: open(path, 'wb').write(b'x'))\n"
        "    attempt('mkdir', lambda: os.mkdir('/tmp/made'))\n"
        "    attempt('unlink', lambda: os.unlink(secret))\n"
        "    attempt('rename', lambda: os.rename(secret, secret + '2'))\n"
        "    attempt('symlink', lambda: os.symlink('/etc', '/tmp/link'))\n"
        "    attempt('hard link', lambda: os.link(secret, '/tmp/link'))\n"
        "    attempt('chmod', lambda: os.chmod(secret, 0o777))\n"
        "    attempt('utime', lambda: os.utime(secret, (0, 0)))\n"
        "    attempt('truncate', lambda: os.truncate(secret, 0))\n    return got\n",
        "passed",
    ),
    "opens sockets": (
        TRY + "    import socket\n"
        "    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):\n"
        "        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):\n"
        "            attempt(f'{family} {kind}', lambda: socket.socket(family, kind))\n"
        "    attempt('pair', socket.socketpair)\n    return got\n",
        "passed",
    ),
    "signals others": (
        TRY + "    import os, signal\n"
        "    for pid in (parent, -1, 1):\n"
        "        attempt(f'kill {pid}', lambda: os.kill(pid, signal.SIGKILL))\n    return got\n",
        "passed",
    ),
    "signals by raw calls": (
        SYSCALL + "    call('kill', 62, -1, 9)\n    call('tkill', 200, parent, 9)\n"
        "    call('tgkill', 234, parent, parent, 9)\n"
        "    call('sigqueue', 129, parent, 9, bytes(128))\n"
        "    call('pidfd', 434, parent, 0)\n"
        "    call('x32 kill', 62 + 0x40000000, -1, 9)\n    return got\n",
        "failed",  # the x32 entry ends the process
    ),
    "looks into others": (
        SYSCALL + "    call('attach', 101, 16, parent, 0, 0)\n"
        "    call('seize', 101, 0x4206, parent, 0, 0)\n"
        "    call('read memory', 310, parent, None, 0, None, 0, 0)\n"
        "    call('limits', 302, parent, 0, bytes(16), None)\n"
        "    call('priority', 141, 0, parent, 19)\n"
        "    call('affinity', 203, parent, 8, bytes([1] + [0] * 7))\n    return got\n",
        "passed",
    ),
    "enters namespaces and mounts": (
        SYSCALL + "    call('unshare', 272, 0x10000000)\n    call('unshare net', 272, 0x40000000)\n"
        "    call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, None)\n"
        "    call('chroot', 161, b'/tmp')\n    call('setns', 308, 0, 0)\n"
        "    call('fsopen', 430, b'tmpfs', 0)\n    call('pivot', 155, b'/', b'/')\n"
        "    call('setuid', 105, 0)\n    call('setresuid', 117, 0, 0, 0)\n    return got\n",
        "passed",
    ),
    "uses exotic calls": (
        SYSCALL + "    call('io_uring', 425, 1, bytes(120))\n"
        "    call('bpf', 321, 0, bytes(64), 64)\n"
        "    call('userfaultfd', 323, 0)\n    call('keyctl', 250, 0, -3, 0, 0, 0)\n"
        "    call('perf', 298, bytes(128), 0, -1, -1, 0)\n    call('memfd', 319, b'x', 0)\n"
        "    call('shared memory', 29, 0, 4096, 0o1777)\n    call('queue', 68, 0, 0o1777)\n"
        "    call('inotify', 254, 0, b'/', 2)\n    call('personality', 135, 0x40000)\n"
        "    call('newer', 462, 0, 0, 0)\n    return got\n",
        "passed",
    ),
    "starts programs": (
        TRY + "    import os, subprocess\n"
        "    attempt('fork', os.fork)\n    attempt('exec', lambda: os.execv('/bin/sh', ['sh']))\n"
        "    attempt('subprocess', lambda: subprocess.run(['/bin/true']))\n"
        "    attempt('spawn', lambda: os.posix_spawn('/bin/true', ['true'], {}))\n"
        "    attempt('session', os.setsid)\n    return got\n",
        "passed",
    ),
    "forks without end": (
        "    import os\n    while True:\n        try:\n            os.fork()\n"
        "        except OSError:\n            pass\n",
        "failed",
    ),
    "leaves a daemon": (
        "    import os, time\n    try:\n        if os.fork() == 0:\n            os.setsid()\n"
        "            time.sleep(600)\n    except OSError:\n        return []\n"
        "    return ['daemon']\n",
        "passed",
    ),
    "eats memory": ("    hoard = []\n    while True:\n        hoard.append(bytearray(1 << 24))\n",
                    "failed"),
    "starts threads that eat memory": (
        "    import threading\n    def eat():\n        hoard = []\n        while True:\n"
        "            hoard.append(bytearray(1 << 24))\n    for _ in range(20):\n"
        "        threading.Thread(target=eat).start()\n    while True:\n        pass\n",
        "failed",
    ),
    "fills the disk": (
        TRY + "    import os\n"
        "    for path in ('/tmp/big', 'big', '/dev/shm/big', secret + 'big'):\n"
        "        attempt(path, lambda: open(path, 'wb').write(bytes(1 << 20)))\n    return got\n",
        "passed",
    ),
    "floods every descriptor": (
        "    import os\n    while True:\n        for fd in range(8):\n            try:\n"
        "                os.write(fd, b'x' * 65536)\n            except OSError:\n"
        "                pass\n",
        "failed",
    ),
    "ignores signals and sleeps": (
        "    import signal, time\n    for number in range(1, 32):\n        try:\n"
        "            signal.signal(number, signal.SIG_IGN)\n        except (OSError, ValueError):\n"
        "            pass\n    time.sleep(600)\n",
        "failed",
    ),
    "crashes": ("    import ctypes\n    ctypes.string_at(0)\n", "failed"),
    "recurses without end": (
        "    import sys\n    sys.setrecursionlimit(1 << 30)\n    def down():\n"
        "        return down() + 1\n    return down()\n",
        "failed",
    ),
}  # fmt: skip

TIERS = ("bwrap+landlock+seccomp", "landlock+seccomp", "bwrap+seccomp")


def throw_away(command: list[str]) -> list[str]:
    """The command inside own process, network and mount namespaces, with a read-only root."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("attacks run only inside a throw-away namespace: bubblewrap is not installed")
    around = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/"]
    around += ["--proc", "/proc", "--dev", "/dev", "--size", str(64 << 20), "--tmpfs", "/tmp"]
    around += ["--chdir", "/tmp", "--setenv", "PYTHONPATH", str(SOURCES), "--remount-ro", "/"]
    if subprocess.run([*around, "/bin/true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("attacks run only inside a throw-away namespace: bubblewrap does not start")
    return [*around, *command]


@pytest.fixture(scope="module")
def findings() -> dict[str, Any]:
    if platform.machine() != "x86_64":
        pytest.skip("the attacks use system-call numbers of x86_64")
    outer = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "net")]
    command = throw_away([sys.executable, str(HERE / "contained.py"), *outer])
    bodies = json.dumps({name: body for name, (body, _) in ATTACKS.items()})
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=250, input=bodies
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_attack_program_refuses_to_run_outside_a_namespace() -> None:
    outer = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "net")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, str(HERE / "contained.py"), *outer]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, input="{}"
    )
    assert done.returncode == 1
    assert "refused" in done.stderr


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_gets_nothing_and_leaves_nothing(
    findings: dict[str, Any], tier: str, name: str
) -> None:
    if tier not in findings["tiers"]:
        pytest.skip(f"{tier} does not hold inside the namespace")
    found = findings["tiers"][tier][name]
    assert found["status"] == ATTACKS[name][1], found["detail"]
    assert found["left_processes"] == 0
    assert (found["secret"], found["same_file"]) == ("canary", True)
    assert found["new_files"] == [findings["folder"]]
