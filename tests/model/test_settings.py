"""What `auto` means on a machine, and that the trainer means the same."""

from dataclasses import replace

import pytest
from tests.model.jobs import H100, job

from sftprep.model.hardware import Hardware, parse_hardware
from sftprep.model.settings import (
    choose_checkpointing,
    choose_parallel,
    choose_precision,
    job_for,
    shards_of,
)
from sftprep.recipe.sections import TrainingSection


def cpu(**changes: object) -> Hardware:
    found = replace(parse_hardware("1xT4"), kind="cpu", device="CPU", count=1)
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hardware", "hidden", "expected"),
    [
        (H100, 4096, "bf16"),
        (parse_hardware("1xT4"), 4096, "fp16"),
        (cpu(bf16=True), 4096, "bf16"),
        (cpu(bf16=True), 128, "fp32"),
        (cpu(bf16=False), 4096, "fp32"),
    ],
)
def test_auto_precision_follows_the_machine(hardware: Hardware, hidden: int, expected: str) -> None:
    assert choose_precision(TrainingSection(), hidden, hardware).value == expected


def test_a_precision_of_the_recipe_is_kept() -> None:
    choice = choose_precision(TrainingSection(precision="fp32"), 4096, H100)
    assert (choice.value, choice.why) == ("fp32", "the recipe says so")


@pytest.mark.parametrize(("rows", "expected"), [(1, "off"), (8, "on")])
def test_auto_checkpointing_follows_the_memory(rows: int, expected: str) -> None:
    h200 = parse_hardware("1xH200")
    assert choose_checkpointing(TrainingSection(), job(rows=rows), h200).value == expected


@pytest.mark.parametrize(("layers", "hidden", "rows"), [(2, 64, 1), (32, 4096, 8)])
def test_the_trainer_recomputes_exactly_when_the_plan_says_so(
    layers: int, hidden: int, rows: int
) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sftprep.model.hardware import detect_cpu
    from sftprep.model.shape import shape_of
    from sftprep.train.precision import wants_checkpointing

    config = LlamaConfig(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=3 * hidden, vocab_size=1000,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    section = TrainingSection(batch_size=rows, precision="fp32")
    shape = shape_of(config.to_dict())
    planned = choose_checkpointing(
        section, job_for(shape, shape.parameters, section, detect_cpu())[0], detect_cpu()
    )
    assert wants_checkpointing(section, model, "cpu", torch.float32) == (
        planned.value == "on", planned.why,
    )  # fmt: skip
    assert planned.value == ("on" if layers == 32 else "off")


def test_auto_means_what_it_means_to_the_trainer() -> None:
    from sftprep.train.learner import choose_parallel as what_training_takes

    (choice,) = choose_parallel(TrainingSection(), parse_hardware("8xH100-80GB"))
    assert choice.value == what_training_takes(TrainingSection())[0]
    for parallel in ("ddp", "fsdp", "hsdp"):
        section = TrainingSection.model_validate({"parallel": parallel})
        (choice,) = choose_parallel(section, parse_hardware("8xH100-80GB"))
        assert choice.value == what_training_takes(section)[0] == parallel
    assert choose_parallel(TrainingSection(), H100) == []


@pytest.mark.parametrize(
    ("parallel", "devices", "shards"),
    [("auto", 8, 1), ("ddp", 8, 1), ("fsdp", 8, 8), ("hsdp", 4, 4), ("hsdp", 64, 8)],
)
def test_states_are_shared_by_the_devices_of_a_shard_group(
    parallel: str, devices: int, shards: int
) -> None:
    assert shards_of(parallel, devices) == shards
