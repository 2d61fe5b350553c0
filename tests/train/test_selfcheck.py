"""What must hold before training starts, and models for which it does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.model.tiny_models import MODELS, tiny_model
from tests.train.runs import prepared, recipe_for, run_training
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sftprep.data.pack import TokenCache
from sftprep.errors import TrainingError
from sftprep.model.attention import supports_packing, use_packed_attention
from sftprep.progress import Progress
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps
from sftprep.train.loop import train
from sftprep.train.selfcheck import (
    check_accumulation,
    check_packing,
    check_turn_ends,
    choose_documents,
    packs_exactly,
    self_check,
)

LLAMA = MODELS["qwen2"]
# Layers that mix tokens without attention, attention with sinks, and models that pass nothing on.
NOT_PACKED: dict[str, dict[str, Any]] = {
    "lfm2": {**LLAMA, "block_ff_dim": 128, "layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {
        **LLAMA,
        "head_dim": 16,
        "lru_width": 64,
        "block_types": ["recurrent", "attention"],
        "attention_window_size": 16,
    },
    "gpt_oss": {
        **LLAMA,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
    },
    "nemotron": LLAMA,
}


def unusual(kind: str) -> Any:
    """A random model of a kind that must not be packed, told to pack all the same."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**NOT_PACKED[kind])).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    assert use_packed_attention(model)
    return model


def rows(*lengths: int) -> TokenCache:
    """Random rows whose second half is supervised."""
    ids = np.random.default_rng(0).integers(4, 100, sum(lengths)).astype(np.int32)
    supervised = np.concatenate([np.arange(n) >= n // 2 for n in lengths])
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    return TokenCache(ids, supervised, starts, tuple(f"row{i}" for i in range(len(lengths))), "")


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_attention_that_can_be_exchanged_packs_exactly(kind: str) -> None:
    model = tiny_model(kind)
    if supports_packing(model):
        use_packed_attention(model)
    assert packs_exactly(model) is True


@pytest.mark.parametrize("kind", sorted(NOT_PACKED))
def test_a_model_whose_documents_would_see_each_other_is_found(kind: str) -> None:
    assert packs_exactly(unusual(kind)) is False


def random_base(tmp_path: Path, kind: str) -> tuple[Path, RunFolder]:
    base, run = prepared(tmp_path)
    config = CONFIG_MAPPING[kind](**{**NOT_PACKED[kind], "vocab_size": 100})
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    return base, run


@pytest.mark.parametrize("kind", ["gpt_oss", "lfm2", "nemotron"])
def test_such_a_model_is_trained_padded_and_says_so(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = random_base(tmp_path, kind)
    result = train(recipe_for(base, max_steps=2), run, Progress(), StopSignal())
    assert result.steps == 2
    assert all(record.tokens_padding > 0 for record in read_steps(run.steps))
    spoken = capsys.readouterr().err
    assert "cannot be packed exactly: documents are padded" in spoken
    assert "self-check passed" in spoken


def test_a_model_that_scores_padded_rows_differently_is_refused(tmp_path: Path) -> None:
    """RecurrentGemma of transformers 5.23 does: its recurrence reads the padding."""
    base, run = random_base(tmp_path, "recurrent_gemma")
    with pytest.raises(TrainingError, match="documents of one batch give other losses"):
        run_training(recipe_for(base), run)


def test_packed_losses_that_differ_from_separate_ones_stop_training() -> None:
    with pytest.raises(TrainingError, match="documents of one batch give other losses"):
        check_packing(unusual("recurrent_gemma"), rows(12, 9), np.array([0, 1]))


def test_gradients_that_depend_on_the_split_stop_training() -> None:
    with pytest.raises(TrainingError, match="a batch and its parts give different gradients"):
        check_accumulation(unusual("recurrent_gemma"), rows(12, 9), np.array([0, 1]))


def test_a_row_without_a_supervised_turn_end_is_named() -> None:
    cache = rows(6, 5)
    ids = np.array(cache.ids)
    ids[[5, 10]] = 2, 7  # the last tokens of both rows
    bad = TokenCache(ids, cache.supervised, cache.starts, cache.names, "")
    with pytest.raises(TrainingError, match=r"1 rows do not end .* row row1"):
        check_turn_ends(bad, (2,))
    check_turn_ends(bad, (2, 7))


def test_documents_are_of_all_lengths_and_within_the_room() -> None:
    cache = rows(*range(10, 110))  # picked: 10, 29, 49, 69, 89, 109
    assert cache.lengths[choose_documents(cache)].tolist() == [10, 29, 49, 69, 89, 109]
    assert cache.lengths[choose_documents(cache, 100)].tolist() == [10, 29, 49]
    assert cache.lengths[choose_documents(cache, 1)].tolist() == [10, 29]


def test_the_check_leaves_no_gradient_and_no_other_mode(tmp_path: Path) -> None:
    model = tiny_model("llama").train()
    use_packed_attention(model)
    ids = np.full(40, 5, np.int32)
    ids[[19, 39]] = 2
    cache = TokenCache(ids, np.arange(40) % 20 > 9, np.array([0, 20, 40]), ("a", "b"), "")
    assert "2 of 2 rows" in self_check(model, cache, (2,))
    assert model.training is True
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_the_check_of_a_model_of_34_million_takes_less_than_ten_seconds() -> None:
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=6,
    )
    model = LlamaForCausalLM(config)
    assert 30e6 < model.num_parameters() < 40e6
    use_packed_attention(model)
    cache = rows(*[60, 100, 130, 160, 200, 300] * 10)
    ids = np.array(cache.ids)
    ids[cache.starts[1:] - 1] = 2
    cache = TokenCache(ids, cache.supervised, cache.starts, cache.names, "")
    said = self_check(model, cache, (2,))
    assert float(said.rsplit(" in ", 1)[1].removesuffix(" s")) < 10
