"""What a step's numbers become on the live line."""

from pathlib import Path

from sftprep.records import StepRecord
from sftprep.store.run import RunFolder
from sftprep.train.logs import Logs


def record(seconds: float) -> StepRecord:
    return StepRecord(
        step=1,
        loss_sum_nats=1200.0,
        tokens_supervised=600,
        tokens_real=1000,
        tokens_padding=0,
        learning_rate=2e-5,
        grad_norm=1.5,
        seconds=seconds,
        memory_bytes=3 * 2**30,
    )


def test_live_line_has_speed_share_of_peak_memory_rate_and_gradient(tmp_path: Path) -> None:
    # 500 tokens/s x 6e9 FLOP each of 1e13 FLOP/s: 30 %
    logs = Logs(RunFolder(tmp_path), 0, flops_per_token=6e9, peak_flops=1e13)
    assert logs.words(record(2.0)) == [
        "500 tokens/s",
        "300 supervised",
        "MFU 30.0%",
        "3.00 GiB",
        "rate 2.00e-05",
        "gradient 1.50",
    ]
    logs.close()


def test_unknown_peak_and_a_clock_that_stood_still_give_no_share_and_no_division(
    tmp_path: Path,
) -> None:
    logs = Logs(RunFolder(tmp_path), 0, flops_per_token=6e9)
    assert logs.words(record(0.0))[:3] == ["0 tokens/s", "0 supervised", "3.00 GiB"]
    logs.close()
