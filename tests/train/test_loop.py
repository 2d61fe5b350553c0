"""Training runs from rows on disk to an exported folder."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.train.runs import (
    SPECIAL,
    make_example,
    prepared,
    recipe_for,
    run_training,
    tiny_tokenizer,
)
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from sftprep.data.pack import build_cache
from sftprep.data.storage import read_examples, write_examples
from sftprep.data.tokenizer import load_tokenizer
from sftprep.errors import DataError, TrainingError
from sftprep.progress import Progress
from sftprep.records import Message, TrainResult, from_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json, read_jsonl, verify_folder
from sftprep.train.batches import StepPlan
from sftprep.train.logs import read_steps

# Mean loss per step of the run in `test_loss_curve_is_the_golden_one`, nats per token.
GOLDEN = Path(__file__).parent / "golden_curve.json"


def test_loss_curve_is_the_golden_one(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    run_training(recipe_for(base, max_steps=20), run)
    found = [record.loss_nats for record in read_steps(run.steps)]
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


def test_golden_curve_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    """One document per forward pass, labels of -100, torch's own AdamW and schedule."""
    base, run = prepared(tmp_path)
    recipe = recipe_for(base, max_steps=20)
    cache = build_cache(
        list(read_examples(run.train_rows)),
        load_tokenizer(recipe.model),
        max_length=128,
        train_on="responses",
        progress=Progress(quiet=True),
        stop=StopSignal(),
    )
    found = plain_loop(base, StepPlan(cache, recipe.training, 1), 20)
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


def plain_loop(base: Path, plan: StepPlan, steps: int) -> list[float]:
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").train()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=3e-3,
        fused=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, steps)
    optimizer.step()  # nothing to do yet; our first update has the rate of the second
    schedule.step()
    losses = []
    for step in range(1, steps + 1):
        documents = [plan.cache.document(d) for m in plan.micro_batches(step, 0) for d in m]
        total, count = torch.zeros(()), 0
        for document in documents:
            ids = torch.tensor(document.ids, dtype=torch.long)
            labels = torch.where(torch.tensor(document.supervised), ids, -100)
            logits = model(input_ids=ids[None]).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
            count += int((labels != -100).sum())
        optimizer.zero_grad()
        (total / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(total.detach()) / count)
    return losses


def test_first_loss_is_that_of_a_random_model_and_it_falls(tmp_path: Path) -> None:
    base, run = prepared(tmp_path, tie_word_embeddings=False)
    result = run_training(recipe_for(base, max_steps=40, warmup_steps=5), run)
    records = read_steps(run.steps)
    assert records[0].loss_nats == pytest.approx(math.log(100), abs=0.05)
    assert records[-1].loss_nats < 0.8 * records[0].loss_nats
    assert result.base_validation_loss_nats is not None
    assert result.best_validation_loss_nats is not None
    assert result.best_validation_loss_nats < result.base_validation_loss_nats


def test_result_and_logs_are_complete(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    result = run_training(recipe_for(base), run)
    assert from_dict(TrainResult, read_json(run.train_result)) == result
    assert (result.stopped, result.steps, result.planned_steps) == ("completed", 12, 12)
    records = read_steps(run.steps)
    assert sum(r.tokens_real for r in records) == result.tokens_real
    assert [r.step for r in records if r.validation_tokens] == [4, 8, 12]
    assert list((run.train / "tensorboard").iterdir()) != []


def test_one_epoch_sees_every_token_once(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    result = run_training(recipe_for(base, epochs=1), run)
    rows = json.loads(next((run.data / "packed").glob("*/rows.json")).read_text())
    assert len(rows["names"]) in (20, 120)
    # "### Instruction:\n" 17, "x times n" 9, "\n\n" 2, "### Response:\n" 14, BOS and EOS 2,
    # and 1..7 letters: 120 rows hold 17 whole cycles (sum 28) and one row of length 1
    assert result.tokens_real == 120 * 44 + 17 * 28 + 1
    assert result.tokens_supervised == 120 + 17 * 28 + 1


def test_accumulation_equals_a_large_batch(tmp_path: Path) -> None:
    losses = []
    for name, batch, parts in (("a", 4, 1), ("b", 1, 4)):
        base, run = prepared(tmp_path / name)
        settings = {"batch_size": batch, "gradient_accumulation_steps": parts}
        run_training(recipe_for(base, **settings), run)
        losses.append([r.loss_nats for r in read_steps(run.steps)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_exported_folder_stops_by_itself_in_plain_transformers(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    settings = {"max_steps": 150, "batch_size": 4, "gradient_accumulation_steps": 1}
    result = run_training(recipe_for(base, **settings, validate_every=50, save_every=75), run)
    program = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
chat = [{"role": "user", "content": "b times 3"}]
batch = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
out = model.generate(**batch, max_new_tokens=60)[0, batch["input_ids"].shape[1]:].tolist()
print(json.dumps({
    "missing": sorted(report["missing_keys"]),
    "dtype": str(model.dtype),
    "text": tokenizer.decode(batch["input_ids"][0]),
    "length": len(out),
    "last": out[-1],
    "tied": model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(),
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, run.root / result.checkpoint],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["text"] == "<s>### Instruction:\nb times 3\n\n### Response:\n"
    assert (found["missing"], found["dtype"], found["tied"]) == ([], "torch.float32", True)
    assert found["last"] == SPECIAL.index("</s>")
    assert found["length"] < 60


def test_checkpoints_verify_and_old_ones_are_deleted(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    run_training(recipe_for(base, keep_checkpoints=1), run)
    names = sorted(p.name for p in run.train_checkpoints.iterdir())
    assert names == ["best_train", "best_validation", "latest", "step-12"]
    for name in names:
        verify_folder(run.train_checkpoints / name)


def test_early_stop_after_patience(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    recipe = recipe_for(
        base, learning_rate=1.0, max_steps=60, early_stopping_patience=2, validate_every=2
    )
    result = run_training(recipe, run)
    assert result.stopped == "early_stop"
    assert result.best_validation_step is not None
    assert result.steps == result.best_validation_step + 4


def overflow_on(letter: str, base: Path) -> None:
    """Give one letter an embedding whose square overflows: its row has NaN gradients."""
    file = base / "model.safetensors"
    table = {n: t.clone() for n, t in load_file(file).items()}
    letter_id = tiny_tokenizer().convert_tokens_to_ids(letter)
    table["model.embed_tokens.weight"][letter_id] = 3e38
    save_file(table, file, metadata={"format": "pt"})


def test_non_finite_gradient_stops_before_the_update(tmp_path: Path) -> None:
    base, run = prepared(tmp_path, tie_word_embeddings=False)
    overflow_on("Q", base)
    rows = [make_example(i) for i in range(120)]
    bad = Message("user", "Q times 2", False), Message("assistant", "aa", True)
    rows[61] = replace(rows[61], id="overflowing", messages=bad)
    write_examples(run.train_rows, rows)
    recipe = recipe_for(base, max_steps=60, batch_size=1)
    with pytest.raises(TrainingError, match=r"gradient norm nan.*Nothing was updated") as raised:
        run_training(recipe, run)
    done = len(read_jsonl(run.steps))
    flags = read_jsonl(run.flags)
    assert f"step {done + 1}: " in str(raised.value)
    assert [(f["id"], f["step"]) for f in flags] == [
        ("base_loss_suspicious", 1),
        ("loss_not_finite", done + 1),
    ]
    saved = load_file(run.train_checkpoints / f"step-{done}" / "model" / "model.safetensors")
    assert all(bool(torch.isfinite(t).all()) for t in saved.values())


def test_stop_flag_ends_training_with_a_model_to_export(tmp_path: Path) -> None:
    base, run = prepared(tmp_path, tie_word_embeddings=False)  # random: guesses uniformly
    recipe = recipe_for(base, red_flags={"base_loss_suspicious": "stop"}, validate_every=100)
    result = run_training(recipe, run)
    assert (result.stopped, result.steps) == ("red_flag", 1)
    assert [flag.id for flag in result.flags] == ["base_loss_suspicious"]
    verify_folder(run.train_checkpoints / "best_validation")


def test_lora_exports_a_merged_model_and_the_adapter(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base, run = prepared(tmp_path)
    recipe = recipe_for(base, method="lora", export="latest", learning_rate=1e-2)
    result = run_training(recipe, run)
    folder = run.root / result.checkpoint
    merged, original = (load_file(p / "model.safetensors") for p in (folder, base))
    assert set(merged) == set(original)
    assert torch.equal(merged["model.norm.weight"], original["model.norm.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(merged[name], original[name])
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    a, b = (
        next(t for n, t in adapter.items() if f"layers.0.self_attn.q_proj.lora_{x}" in n)
        for x in "AB"
    )
    # rank 16, alpha 32: delta = 2 B A
    torch.testing.assert_close(merged[name], original[name] + 2 * b @ a, rtol=0, atol=1e-6)


def test_lora_run_continues_bit_equal(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.train.test_resume import StopAt, copy_of, outcome

    from sftprep.errors import Interrupted

    base, run = prepared(tmp_path, dropout=0.1)
    recipe = recipe_for(base, method="lora", lora_dropout=0.1)
    run_training(recipe, run)
    stopped = copy_of(run, tmp_path / "stopped")
    with pytest.raises(Interrupted):
        run_training(recipe, stopped, StopAt(15))
    run_training(recipe, stopped)
    assert outcome(stopped)["steps"] == outcome(run)["steps"]


def test_bfloat16_export_keeps_float32_masters(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    result = run_training(recipe_for(base, weights_dtype="bfloat16"), run)
    exported = load_file(run.root / result.checkpoint / "model.safetensors")
    masters = load_file(run.train_checkpoints / "step-12" / "weights.safetensors")
    assert {t.dtype for t in exported.values()} == {torch.bfloat16}
    assert {t.dtype for t in masters.values()} == {torch.float32}
    config = read_json(run.root / result.checkpoint / "config.json")
    assert config["dtype"] == "bfloat16"


def test_bf16_training_follows_fp32_closely(tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        base, run = prepared(tmp_path / precision)
        run_training(recipe_for(base, precision=precision), run)
        losses.append([r.loss_nats for r in read_steps(run.steps)])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path) -> None:
    losses = []
    for choice in ("off", "on"):
        base, run = prepared(tmp_path / choice)
        run_training(recipe_for(base, gradient_checkpointing=choice), run)
        losses.append([r.loss_nats for r in read_steps(run.steps)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_row_longer_than_max_length_is_refused(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    with pytest.raises(DataError, match=r"more than training\.max_length 48"):
        run_training(recipe_for(base, max_length=48), run)


def test_free_memory_and_amx_are_readable() -> None:
    from sftprep.train.precision import choose_precision, free_memory

    assert free_memory("cpu") > 0
    narrow: Any = choose_precision("auto", "cpu", hidden=160)
    assert narrow.dtype == torch.float32
