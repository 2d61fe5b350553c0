"""The step log as a stream: exact for short logs, thinned with its extremes for long ones."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sftprep.errors import CorruptError
from sftprep.gate.spikes import WINDOW, spike_places
from sftprep.gate.step_log import BLOCKS, PLACES, read_steps

ROW: Mapping[str, Any] = {
    "step": 1, "loss_sum_nats": 20.0, "tokens_supervised": 10, "tokens_real": 20,
    "tokens_padding": 0, "learning_rate": 1e-3, "grad_norm": 1.0, "seconds": 0.5,
}  # fmt: skip


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))
    return path


def long_log(path: Path, steps: int, **odd: Mapping[str, Any]) -> Path:
    """Loss 2.0 at every step; `odd` changes single rows, by `s` and the step number."""
    return write(path, ({"step": n, **odd.get(f"s{n}", {})} for n in range(1, steps + 1)))


def test_every_step_of_a_short_log_is_kept(tmp_path: Path) -> None:
    log = read_steps(long_log(tmp_path / "log", 30))
    assert [step.step for step in log.kept] == list(range(1, 31))
    assert (log.total, log.spikes.count, log.unfinished.count) == (30, 0, 0)


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    log = read_steps(tmp_path / "none")
    assert (log.total, log.kept, log.drawn()) == (0, (), [])


def test_a_long_log_keeps_even_steps_and_every_extreme(tmp_path: Path) -> None:
    odd: dict[str, dict[str, Any]] = {
        "s20011": {"loss_sum_nats": 90.0},
        "s20021": {"loss_sum_nats": 1.0},
        "s20031": {"grad_norm": 77.0},
        "s20041": {"seconds": 50.0},
        "s20051": {"loss_sum_nats": None},
    }
    log = read_steps(long_log(tmp_path / "log", 5 * BLOCKS, **odd))
    # 40,960 steps: blocks of 8 are the first power of two with at most 8,192 blocks
    assert [step.step for step in log.kept] == list(range(1, 5 * BLOCKS, 8))
    assert {20011, 20021, 20031, 20041, 20051} <= {step.step for step in log.extremes}
    assert log.drawn()[-1].step == 5 * BLOCKS
    assert (log.total, log.spikes.first, log.unfinished.first) == (40_960, (20011,), (20051,))
    assert log.bad_losses == 1


def test_the_held_out_curve_keeps_its_minimum_and_its_last_two_points(tmp_path: Path) -> None:
    steps = 4 * BLOCKS + 3
    rows = (
        {"step": n, "validation_tokens": 10, "validation_sum_nats": 5.0 if n == 777 else 20.0 + n}
        for n in range(1, steps + 1)
    )
    curve = [step.step for step in read_steps(write(tmp_path / "log", rows)).validated]
    assert 777 in curve
    assert curve[-2:] == [steps - 1, steps]


def test_steps_written_again_replace_what_came_after_the_place_they_go_back_to(
    tmp_path: Path,
) -> None:
    def losses(numbers: Iterable[int], loss: float) -> list[dict[str, Any]]:
        return [{"step": n, "loss_sum_nats": 10 * loss} for n in numbers]

    rows = [*losses(range(1, 9), 3.0), *losses(range(5, 8), 2.0), *losses([6], 1.0)]
    log = read_steps(write(tmp_path / "log", rows))
    found = [(step.step, step.loss_nats) for step in log.kept]
    assert found == [(1, 3.0), (2, 3.0), (3, 3.0), (4, 3.0), (5, 2.0), (6, 1.0)]
    assert log.total == 6


@pytest.mark.parametrize(
    "row", [{"step": None}, {"seconds": "slow"}, {"grad_norm": [1]}, {"tokens_real": 1e999}]
)
def test_a_line_that_is_no_step_is_corrupt(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(CorruptError, match=r"not a step record|not valid JSON"):
        read_steps(write(tmp_path / "log", [row]))


def test_numbers_of_odd_steps_are_listed_up_to_a_thousand_and_all_counted(tmp_path: Path) -> None:
    rows = ({"step": n, "grad_norm": None} for n in range(1, PLACES + 51))
    found = read_steps(write(tmp_path / "log", rows)).unfinished
    assert (found.count, len(found.first)) == (PLACES + 50, PLACES)


def test_a_stream_finds_the_spikes_of_the_whole() -> None:
    draw = random.Random(3)
    losses = [2 + draw.gauss(0, 0.1) + (9 if draw.random() < 0.01 else 0) for _ in range(3000)]
    losses[1500] = math.nan
    whole = spike_places(losses)
    pieces = spike_places(losses[:1000])
    for first in (1000, 2000):
        start = first - WINDOW
        found = spike_places(losses[start : first + 1000], first=WINDOW)
        pieces += [start + place for place in found]
    assert pieces == whole
    assert set(whole) == {n for n, loss in enumerate(losses) if loss > 8 and n >= 10}


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; import numpy\n"
        "from sftprep.gate.step_log import read_steps\n"
        "read_steps(Path(sys.argv[1])); most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(most)"
    )

    def peak_kib(steps: int) -> int:
        path = long_log(tmp_path / str(steps), steps)
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert peak_kib(6 * BLOCKS) - peak_kib(3 * BLOCKS) < 6 << 10
