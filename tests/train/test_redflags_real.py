"""Red flags on real training: silent when healthy, firing when one thing is made wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.faults import RATE, flags_of, run_of, shuffled, starter_rows

from sftprep.errors import TrainingError
from sftprep.store.durable import read_jsonl

pytestmark = pytest.mark.slow
ROWS = starter_rows()[:6000]


def test_healthy_run_raises_nothing(tmp_path: Path) -> None:
    result = run_of(tmp_path / "run", rows=ROWS)
    assert flags_of(result) == set()
    assert result.best_validation_loss_nats is not None
    assert result.base_validation_loss_nats is not None
    assert result.best_validation_loss_nats < 0.5 * result.base_validation_loss_nats


def test_rate_a_hundred_times_too_high_diverges(tmp_path: Path) -> None:
    result = run_of(tmp_path / "run", rows=ROWS, learning_rate=100 * RATE, max_steps=40)
    assert "loss_diverging" in flags_of(result)


def test_shuffled_labels_show_as_weak_instruction_signal(tmp_path: Path) -> None:
    # the base model reads its instructions: at a third of the rate 160 steps do not undo that
    result = run_of(tmp_path / "run", rows=shuffled(ROWS), learning_rate=3 * RATE)
    assert "weak_instruction_signal" in flags_of(result)


def test_two_hundred_rows_for_thirty_epochs_overfit(tmp_path: Path) -> None:
    result = run_of(tmp_path / "run", rows=ROWS[:200], max_steps=None, epochs=30)
    assert "validation_loss_increasing" in flags_of(result)


def test_batch_of_one_at_a_high_rate_oscillates(tmp_path: Path) -> None:
    result = run_of(
        tmp_path / "run", rows=ROWS, batch_size=1, learning_rate=10 * RATE, max_steps=110
    )
    assert "loss_oscillating" in flags_of(result)


def poison_at(forward: int) -> torch.utils.hooks.RemovableHandle:
    """Make one weight NaN at the n-th training forward of a decoder, as a bad chip would."""
    left = [forward]

    def hook(module: torch.nn.Module, args: object) -> None:
        if type(module).__name__ == "LlamaModel" and module.training:
            left[0] -= 1
            if left[0] == 0:
                with torch.no_grad():
                    module.norm.weight[0] = float("nan")  # type: ignore[operator,union-attr]

    return torch.nn.modules.module.register_module_forward_pre_hook(hook)


def test_nan_weight_stops_before_the_update_with_the_last_good_state_named(tmp_path: Path) -> None:
    handle = poison_at(30)
    try:
        with pytest.raises(TrainingError, match=r"step \d+: loss nan") as raised:
            run_of(tmp_path / "run", rows=ROWS, save_every=10, max_steps=50)
    finally:
        handle.remove()
    assert "Nothing was updated" in str(raised.value)
    flags = read_jsonl(tmp_path / "run" / "train" / "flags.jsonl")
    assert [f["id"] for f in flags] == ["loss_not_finite"]


def test_rollback_heals_a_nan_weight(tmp_path: Path) -> None:
    handle = poison_at(30)
    try:
        result = run_of(
            tmp_path / "run", rows=ROWS, save_every=10, max_steps=50, on_non_finite="rollback"
        )
    finally:
        handle.remove()
    assert [(f.id, f.action) for f in result.flags] == [("loss_not_finite", "rollback")]
    assert (result.stopped, result.steps) == ("completed", 50)
    weights = load_file(tmp_path / "run" / result.checkpoint / "model.safetensors")
    assert all(bool(torch.isfinite(t).all()) for t in weights.values())
