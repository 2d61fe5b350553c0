"""What training can be told: non-finite steps, fp16, noise, samples, adapters, trackers."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.runs import make_example, prepared, recipe_for, run_training
from tests.train.test_loop import overflow_on
from tests.train.test_redflags_real import poison_at
from tests.train.test_resume import StopAt, copy_of, outcome

from sftprep.data.storage import write_examples
from sftprep.errors import Interrupted, MissingDependencyError, TrainingError
from sftprep.records import Message
from sftprep.store.durable import read_jsonl
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps
from sftprep.train.neftune import noise


def overflowing(tmp_path: Path) -> tuple[Path, RunFolder]:
    """A run in which one row has NaN gradients."""
    base, run = prepared(tmp_path, tie_word_embeddings=False)
    overflow_on("Q", base)
    examples = [make_example(i) for i in range(120)]
    bad = Message("user", "Q times 2", False), Message("assistant", "aa", True)
    examples[61] = replace(examples[61], id="overflowing", messages=bad)
    write_examples(run.train_rows, examples)
    return base, run


@pytest.mark.parametrize("answer", ["skip", "lower_rate", "rollback"])
def test_non_finite_step_is_left_out_and_training_goes_on(tmp_path: Path, answer: str) -> None:
    base, run = overflowing(tmp_path)
    # 44 tokens and letters a row, 2 documents in 128 tokens: one epoch is 60 steps of batch 1
    recipe = recipe_for(
        base,
        max_steps=60,
        batch_size=1,
        gradient_accumulation_steps=1,
        on_non_finite=answer,
        validate_every=30,
        save_every=10,
    )
    result = run_training(recipe, run)
    bad = [f for f in result.flags if f.id == "loss_not_finite"]
    assert [f.action for f in bad] == [answer]
    records = read_steps(run.steps)
    assert {r.step for r in records} == set(range(1, 61)) - {bad[0].step}
    assert all(math.isfinite(r.loss_nats) and math.isfinite(r.grad_norm) for r in records)
    weights = load_file(run.root / result.checkpoint / "model.safetensors")
    assert all(bool(torch.isfinite(t).all()) for t in weights.values())
    if answer == "lower_rate" and bad[0].step > 3:
        before, after = (
            next(r for r in records if r.step == s).learning_rate
            for s in (bad[0].step - 1, bad[0].step + 1)
        )
        assert after < 0.6 * before


def test_too_many_bad_steps_in_a_row_stop_training(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    handle = poison_at(5)  # the weight stays NaN: leaving out steps does not help
    try:
        with pytest.raises(TrainingError, match="Nothing was updated"):
            run_training(recipe_for(base, max_steps=40, on_non_finite="skip"), run)
    finally:
        handle.remove()
    actions = [flag["action"] for flag in read_jsonl(run.flags) if flag["id"] == "loss_not_finite"]
    assert actions == ["skip"] * 10 + ["stop"]


def test_fp16_lowers_its_scale_until_gradients_are_finite_and_follows_fp32(tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "fp16"):
        base, run = prepared(tmp_path / precision)
        run_training(recipe_for(base, precision=precision), run)
        losses.append([r.loss_nats for r in read_steps(run.steps)])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_noise_has_the_size_of_the_document_not_of_the_pack() -> None:
    torch.manual_seed(0)
    found = noise(torch.zeros(1, 5000, 8), torch.tensor([4000, 1000]))[0]
    # uniform in (-a, a) has standard deviation a / sqrt(3); a = 1 / sqrt(length * 8)
    for part, length in ((found[:4000], 4000), (found[4000:], 1000)):
        assert float(part.std()) == pytest.approx(1 / math.sqrt(3 * length * 8), rel=0.02)
        assert float(part.abs().max()) <= 1 / math.sqrt(length * 8)


def test_neftune_changes_training_but_not_validation_and_resumes_bit_equal(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    plain = copy_of(run, tmp_path / "plain")
    stopped = copy_of(run, tmp_path / "stopped")
    recipe = recipe_for(base, neftune_alpha=5.0)
    noisy, silent = run_training(recipe, run), run_training(recipe_for(base), plain)
    assert noisy.base_validation_loss_nats == silent.base_validation_loss_nats
    assert read_steps(run.steps)[0].loss_nats != read_steps(plain.steps)[0].loss_nats
    with pytest.raises(Interrupted):
        run_training(recipe, stopped, StopAt(15))
    run_training(recipe, stopped)
    assert outcome(stopped)["steps"] == outcome(run)["steps"]


def test_sample_answers_are_logged_and_change_no_update(tmp_path: Path) -> None:
    base, run = prepared(tmp_path, dropout=0.1)
    plain = copy_of(run, tmp_path / "plain")
    run_training(recipe_for(base, sample_every=6), run)
    run_training(recipe_for(base), plain)
    samples = read_jsonl(run.train / "samples.jsonl")
    assert [s["step"] for s in samples] == [6] * 4 + [12] * 4
    assert all(s["prompt"].endswith("### Response:\n") for s in samples)
    assert outcome(run)["steps"] == outcome(plain)["steps"]


def test_dora_exports_the_merged_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base, run = prepared(tmp_path)
    recipe = recipe_for(
        base, method="lora", lora_weight_decomposed=True, export="latest", learning_rate=1e-2
    )
    result = run_training(recipe, run)  # compares the reloaded export with the model in memory
    adapter = load_file(run.root / result.checkpoint / "adapter" / "adapter_model.safetensors")
    assert any("lora_magnitude_vector" in name for name in adapter)
    assert not any(
        "lora" in n for n in load_file(run.root / result.checkpoint / "model.safetensors")
    )


def test_four_bit_base_on_a_cpu_is_refused_clearly(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    recipe = recipe_for(base, method="lora", lora_base_4bit=True)
    with pytest.raises(TrainingError, match=r"lora_base_4bit needs a GPU"):
        run_training(recipe, run)


def test_eight_bit_optimiser_on_a_cpu_is_refused_clearly(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    with pytest.raises((TrainingError, MissingDependencyError), match=r"adamw_8bit needs"):
        run_training(recipe_for(base, optimizer="adamw_8bit"), run)


@pytest.mark.parametrize("kind", ["wandb", "mlflow", "trackio"])
def test_tracker_gets_the_steps_offline(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(kind)  # after the settings: some are read at import
    base, run = prepared(tmp_path)
    run_training(recipe_for(base, loggers=(kind,), log_project="tests"), run)
    assert LOGGED[kind](tmp_path, run) == pytest.approx(
        [r.loss_nats for r in read_steps(run.steps)], rel=1e-6
    )


def _wandb(tmp_path: Path, run: RunFolder) -> list[float]:
    """The offline file has no public reader; its numbers are JSON text, written by a service."""
    losses = [r.loss_nats for r in read_steps(run.steps)]
    found: list[float] = []
    for _ in range(100):
        files = [p for p in (run.train / "wandb").rglob("*.wandb") if p.is_file()]
        content = b"".join(p.read_bytes() for p in files)
        found = [value for value in losses if json.dumps(value).encode() in content]
        if len(found) == len(losses):
            break
        time.sleep(0.1)
    return found


def _mlflow(tmp_path: Path, run: RunFolder) -> list[float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment: Any = client.get_experiment_by_name("tests")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 1
    history = client.get_metric_history(found[0].info.run_id, "train/loss_nats")
    return [m.value for m in sorted(history, key=lambda m: m.step)]


def _trackio(tmp_path: Path, run: RunFolder) -> list[float]:
    import sqlite3

    file = next((tmp_path / "trackio").rglob("*.db"))
    with sqlite3.connect(file) as connection:
        rows = connection.execute("select metrics from metrics order by step").fetchall()
    return [json.loads(r[0])["train/loss_nats"] for r in rows]


LOGGED = {"wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def test_missing_tracker_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    base, run = prepared(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sftprep\[wandb\]'"):
        run_training(recipe_for(base, loggers=("wandb",)), run)
