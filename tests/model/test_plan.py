"""The plan: memory, time, cost and disk against numbers derived by hand or published."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.model.jobs import H100, job, shape_named

from sftprep.errors import ModelError
from sftprep.model.catalogue import find_model
from sftprep.model.estimate import (
    TimeEstimate,
    money,
    seconds_per_token,
    training_flops,
    training_volume,
)
from sftprep.model.hardware import GIB, cpu_from_info, parse_hardware
from sftprep.model.job import Job
from sftprep.model.plan import (
    compare_with_stage,
    launched,
    make_plan,
    plan_stage,
    record_actual,
)
from sftprep.model.plan_words import readable_seconds
from sftprep.progress import Progress
from sftprep.recipe.load import load_recipe
from sftprep.recipe.sections import Recipe, TrainingSection
from sftprep.records import TrainResult, to_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json, write_json
from sftprep.store.run import RunFolder

Folder = Callable[..., Path]


def recipe_for(tmp_path: Path, base: str, rows: Path, overrides: Sequence[str] = ()) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{base: {base}}}\ndata: {{sources: [{rows}]}}\n")
    return load_recipe(path, overrides).recipe


# Work, time, money -------------------------------------------------------------------------------


def test_flops_are_six_n_d() -> None:
    assert training_flops(7_000_000_000, 1_000_000_000) == 4.2e19


def test_the_stage_documents_run_is_327_million_tokens() -> None:
    volume = training_volume(TrainingSection(), 1, None)
    assert volume is not None
    assert (volume.steps, volume.rows_per_step) == (5000, 32)
    assert volume.tokens == 5000 * 8 * 4 * 2048


def test_epochs_become_steps() -> None:
    training = TrainingSection(
        max_steps=None, epochs=2, batch_size=1, gradient_accumulation_steps=1, max_length=100
    )
    volume = training_volume(training, 1, 970)
    assert volume is not None
    # 2 x 970 tokens, 97 real ones per step of 100 slots: 20 steps.
    assert (volume.steps, volume.epochs) == (20, 2.0)


def test_without_data_epochs_stay_unknown() -> None:
    assert training_volume(TrainingSection(max_steps=None, epochs=3), 1, None) is None


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("meta-llama/Llama-3.1-8B", 5762, 6667),  # torchtitan: plain, compiled
        ("allenai/Olmo-3-1025-7B", 6600, 8400),  # open-instruct's guide and its script
    ],
)
def test_published_speeds_on_h100_lie_within_the_plans_range(
    name: str, least: float, most: float
) -> None:
    # Tokens per second and GPU on 8 x H100. The plan's range: 0.75 to 1.5 times its seconds.
    shape = shape_named(name)
    one = Job(shape, shape.parameters, "full", "bf16", 1, 8192, False)
    planned = 1 / seconds_per_token(one, parse_hardware("8xH100")) / 8
    assert planned / 1.5 < least and most < planned / 0.75


def test_recomputation_costs_a_third_more_compute() -> None:
    rate = {on: seconds_per_token(job(checkpointing=on), H100) for on in (False, True)}
    assert 1.2 < rate[True] / rate[False] < 4 / 3


def test_scores_that_a_cpu_keeps_cost_time() -> None:
    cpu = cpu_from_info("", cores=1, memory=1 << 40)
    plain, kept = (
        seconds_per_token(job(precision="fp32", places=1.0, score_span=span), cpu)
        for span in (0.0, 100.0)
    )
    # 32 layers of 32 heads, 100 scores each: 1,050 operations, and 4 bytes moved six times.
    scores = 32 * 32 * 100
    expected = scores * (1050 / cpu.fp32_rate + 4 * 6 / cpu.bandwidth)
    assert kept - plain == pytest.approx(expected)


def test_more_devices_take_less_time() -> None:
    assert seconds_per_token(job(), parse_hardware("8xH100")) < seconds_per_token(job(), H100) / 7


def test_money_is_devices_times_hours_times_price() -> None:
    assert money(parse_hardware("8xH100@2.5"), 7200) == 8 * 2 * 2.5
    assert money(parse_hardware("8xA40"), 7200) is None


@pytest.mark.parametrize(
    ("parameters", "days", "expected"),
    [
        (7e9, 1.5, "within the usual 1-2 days for small (7B)"),
        (7e9, 0.5, "below the usual 1-2 days"),
        (13e9, 5, "above the usual 2-4 days for medium (13-30B)"),
        (70e9, 4, "within the usual 3-7 days for large (70B+)"),
        (1e6, 1, "begin at 1B"),
    ],
)
def test_the_time_is_held_against_the_stage_document(
    parameters: float, days: float, expected: str
) -> None:
    seconds = days * 86400
    time = TimeEstimate(seconds, seconds, seconds, 0, 1)
    assert expected in compare_with_stage(int(parameters), time)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30, "30 seconds"), (600, "10.0 minutes"), (7200, "2.0 hours"), (172800, "2.0 days")],
)
def test_seconds_are_readable(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


def test_gpus_that_this_launch_does_not_use_are_not_counted() -> None:
    found = replace(parse_hardware("8xH100"), detected=True)
    assert launched(found, {}).count == 1
    assert launched(found, {"WORLD_SIZE": "8"}).count == 8
    assert launched(parse_hardware("8xH100"), {}).count == 8


# The whole plan ----------------------------------------------------------------------------------


def test_what_does_not_fit_comes_with_what_does(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file)
    plan = make_plan(recipe, None, parse_hardware("1xH100-80GB"))
    assert plan.fits is False
    changes = [dict(other.changes) for other in plan.alternatives]
    assert changes[0]["training.method"] == "lora"
    more, larger = plan.alternatives[1:3]
    assert more.text.startswith("2 x NVIDIA H100, parallel: fsdp")
    assert (larger.changes, "1 x NVIDIA H200" in larger.text) == ({}, True)
    smaller = find_model(str(changes[-1]["model.base"]))
    assert smaller is not None
    assert smaller.parameters < 6_738_415_616
    available = plan.memory_available
    assert all(other.memory_bytes < available for other in plan.alternatives if other != larger)


def test_several_devices_hold_a_model_that_one_cannot(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file)
    plan = make_plan(recipe, None, parse_hardware("8xH100-80GB"))
    assert plan.fits is False  # auto: every device holds the whole model
    assert dict(plan.alternatives[0].changes)["training.parallel"] == "fsdp"


def test_a_70b_model_on_one_gpu_is_offered_in_4_bits(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-70b-hf", rows_file)
    plan = make_plan(recipe, None, parse_hardware("1xH100-80GB"))
    assert dict(plan.alternatives[0].changes)["training.lora_base_4bit"] is True


def test_copies_do_not_make_room_however_many_devices(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file)
    one, many = (make_plan(recipe, None, parse_hardware(f"{n}xH100-80GB")) for n in (1, 64))
    assert many.memory["states"] == one.memory["states"]
    assert many.fits is False


def test_a_smaller_batch_is_the_nearest_alternative(tmp_path: Path, rows_file: Path) -> None:
    overrides = ["training.batch_size=64", "training.gradient_accumulation_steps=1"]
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file, overrides)
    plan = make_plan(recipe, None, parse_hardware("1xH200"))
    assert plan.fits is False
    nearest = dict(plan.alternatives[0].changes)
    rows = nearest["training.batch_size"]
    assert rows * nearest["training.gradient_accumulation_steps"] == 64
    assert rows < 64


def test_the_plan_of_the_stage_document_fits_eight_h100_in_shards(
    tmp_path: Path, rows_file: Path
) -> None:
    fsdp = ["training.parallel=fsdp"]
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file, fsdp)
    plan = make_plan(recipe, None, parse_hardware("8xH100-80GB@2"))
    assert plan.fits is True
    assert plan.alternatives == ()
    assert plan.time is not None
    assert plan.dollars == pytest.approx(plan.time.expected * 8 * 2 / 3600)
    assert plan.flops == 6 * 6_738_415_616 * 5000 * 32 * 8 * 2048


def test_unsuitable_settings_are_warned_about(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    overrides = ["training.max_length=128", "training.max_steps=50"]
    recipe = recipe_for(tmp_path, str(tiny_folder()), rows_file, overrides)
    text = "\n".join(make_plan(recipe, None).warnings)
    assert "training.max_length 128 is more than the model's context of 64" in text
    assert "warmup_steps 500 is not less than the 50 steps" in text
    assert "validate_every 100 is more than the 50 steps" in text


def test_a_sound_recipe_has_no_warnings(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    overrides = [
        "training.max_length=64", "training.max_steps=10", "training.warmup_steps=1",
        "training.batch_size=1", "training.gradient_accumulation_steps=1",
        "training.validate_every=5",
    ]  # fmt: skip
    recipe = recipe_for(tmp_path, str(tiny_folder()), rows_file, overrides)
    assert make_plan(recipe, None).warnings == ()


def test_an_unknown_layout_cannot_be_planned(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    folder = tiny_folder(model_type="hyperstripe", hidden_size=None)
    with pytest.raises(ModelError, match="layout"):
        make_plan(recipe_for(tmp_path, str(folder), rows_file), None)


def result_after(seconds: float) -> TrainResult:
    return TrainResult(
        stopped="completed", steps=10, planned_steps=10, final_loss_nats=1.0,
        base_validation_loss_nats=2.0, best_validation_loss_nats=1.0, best_validation_step=10,
        best_train_step=10, seconds=seconds, tokens_real=6400, tokens_supervised=3200,
        checkpoint="train/checkpoints/best_validation/model",
    )  # fmt: skip


def test_the_stage_writes_the_plan_and_training_adds_what_it_took(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    recipe = recipe_for(tmp_path, str(tiny_folder()), rows_file, ["training.max_length=64"])
    plan = plan_stage(recipe, run, Progress(quiet=True), StopSignal())
    written = read_json(run.plan)
    assert written["parameters"] == plan.parameters
    assert written["actual"] is None
    assert plan.time is not None
    write_json(run.train_result, to_dict(result_after(plan.time.expected * 2)))
    record_actual(run)
    actual = read_json(run.plan)["actual"]
    assert actual["seconds_over_planned"] == pytest.approx(2.0)
    assert actual["tokens_per_second"] == pytest.approx(6400 / actual["seconds"])


def test_recording_without_a_plan_does_nothing(tmp_path: Path) -> None:
    record_actual(RunFolder(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_disk_is_counted_per_checkpoint(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    folder = tiny_folder()
    recipe = recipe_for(tmp_path, str(folder), rows_file, ["training.keep_checkpoints=3"])
    plan = make_plan(recipe, None)
    # fp32: 4 bytes of weights and 8 of moments; 3 kept and 1 being written, and 3 model copies.
    assert plan.checkpoint_bytes == 12 * plan.parameters
    assert plan.disk_bytes == 4 * 12 * plan.parameters + 3 * 4 * plan.parameters


def test_a_16_bit_export_keeps_masters_beside_it(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, "meta-llama/Llama-2-7b-hf", rows_file)
    plan = make_plan(recipe, None, parse_hardware("1xH200"))
    assert plan.checkpoint_bytes == (2 + 8 + 4) * 6_738_415_616


def test_the_bf16_limit_is_that_of_the_trainer() -> None:
    from sftprep.model.settings import CPU_BF16_HIDDEN
    from sftprep.train.precision import CPU_BF16_MIN_HIDDEN

    assert CPU_BF16_HIDDEN == CPU_BF16_MIN_HIDDEN


@pytest.mark.shared
def test_a_real_small_model_plans_on_real_rows(tmp_path: Path, shared: Path) -> None:
    rows = shared / "data" / "sft" / "dolly_3k" / "dolly_3k.json"
    base = shared / "models" / "tinystories-656k"
    overrides = ["training.max_length=512", "training.max_steps=null", "training.epochs=1"]
    plan = make_plan(recipe_for(tmp_path, str(base), rows, overrides), None)
    assert plan.volume is not None
    assert plan.tokens_per_epoch is not None
    # The file holds 2,996 rows; the estimate reads the first 200.
    assert 2000 * 100 < plan.tokens_per_epoch < 4000 * 600
    assert plan.memory["total"] < 4 * GIB
    assert json.loads(json.dumps(plan.settings)) == {
        "precision": "fp32", "gradient_checkpointing": "off",
    }  # fmt: skip
