"""Signals and hangs, without tensors: the process says what happened and exits 75."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sftprep.errors import EXIT_RESUMABLE, Interrupted, StoreError
from sftprep.stop import REPEAT_SECONDS, StopSignal, handling_signals, stall_seconds, watching

HANG = """
import sys, time
from sftprep.stop import REPEAT_SECONDS, StopSignal, watching
def the_place_that_hangs():
    {hang}
with watching(StopSignal(), 0.3):
    the_place_that_hangs()
"""
TAKES_NO_NOTICE = """
import time
from sftprep.stop import REPEAT_SECONDS, StopSignal, handling_signals
with handling_signals(StopSignal()):
    print("ready", flush=True)
    while True: time.sleep(0.01)
"""


def hung(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANG.format(hang=code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_hang_ends_with_stacks_advice_and_the_resumable_status() -> None:
    done = hung("time.sleep(60)")
    assert done.returncode == EXIT_RESUMABLE
    assert "the_place_that_hangs" in done.stderr
    assert "Run the same command to continue" in done.stderr


def test_a_hang_that_holds_the_interpreter_lock_is_ended_too() -> None:
    # PyDLL does not release the lock: no Python thread runs until the call returns.
    done = hung("import ctypes; ctypes.PyDLL(None).sleep(60)")
    assert done.returncode == 1
    assert "the_place_that_hangs" in done.stderr


def test_signs_of_life_keep_the_process_running() -> None:
    code = (
        "import time; from sftprep.stop import StopSignal, watching\nstop = StopSignal()\n"
        "with watching(stop, 0.4):\n"
        "    for _ in range(12): time.sleep(0.1); stop.check('working')\n"
        "print('finished')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTPREP_STALL_SECONDS", text)
    with pytest.raises(StoreError, match="SFTPREP_STALL_SECONDS"):
        stall_seconds()


def test_zero_turns_the_watchdog_off() -> None:
    with watching(StopSignal(), 0.0):
        pass
    assert StopSignal.alive_at == 0.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_each_stop_signal_is_named_at_the_next_check(number: signal.Signals) -> None:
    stop = StopSignal()
    with handling_signals(stop), pytest.raises(Interrupted, match=number.name):
        os.kill(os.getpid(), number)
        stop.check("testing")


def test_a_second_signal_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_NO_NOTICE], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(REPEAT_SECONDS + 0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == EXIT_RESUMABLE


def test_a_signal_that_a_launcher_passes_on_once_more_is_not_a_second_one() -> None:
    stop = StopSignal()
    with handling_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested == "SIGTERM"
