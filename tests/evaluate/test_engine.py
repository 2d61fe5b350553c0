"""What the engine reads from a model's files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig, GPT2Config, LlamaConfig

from sftprep.errors import EvaluationError, ModelError
from sftprep.evaluate.engine import Engine, context_length, load_engine, prefix_id, stop_ids
from sftprep.recipe.sections import ModelSection

Make = Callable[..., Engine]


def test_the_context_length_comes_from_the_config() -> None:
    tokenizer = SimpleNamespace(model_max_length=77)
    assert context_length(LlamaConfig(max_position_embeddings=4096), tokenizer) == 4096
    assert context_length(GPT2Config(n_positions=1024), tokenizer) == 1024


def test_without_a_config_value_the_tokenizer_decides_and_then_2048() -> None:
    config = AutoConfig.for_model("bloom")
    assert context_length(config, SimpleNamespace(model_max_length=77)) == 77
    assert context_length(config, SimpleNamespace(model_max_length=int(1e30))) == 2048


def test_end_tokens_are_those_of_generation_config_and_tokenizer() -> None:
    tokenizer = SimpleNamespace(eos_token_id=2, name_or_path="x")
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[7, 9]))
    assert stop_ids(model, tokenizer) == {2, 7, 9}
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    assert stop_ids(model, tokenizer) == {2}


def test_a_model_that_could_never_stop_is_refused() -> None:
    tokenizer = SimpleNamespace(eos_token_id=None, name_or_path="x")
    with pytest.raises(ModelError, match=r"Set eos_token in tokenizer_config\.json"):
        stop_ids(SimpleNamespace(generation_config=None), tokenizer)


def test_an_empty_context_is_bos_else_eos_else_an_error() -> None:
    assert prefix_id(SimpleNamespace(bos_token_id=5, eos_token_id=2)) == 5
    assert prefix_id(SimpleNamespace(bos_token_id=None, eos_token_id=2)) == 2
    with pytest.raises(EvaluationError, match="neither a BOS nor an EOS"):
        prefix_id(SimpleNamespace(bos_token_id=None, eos_token_id=None, name_or_path="x"))


def test_an_engine_is_loaded_from_a_folder(saved_model: Path) -> None:
    engine = load_engine(str(saved_model), ModelSection(base=str(saved_model)))
    assert engine.max_length == 128
    assert engine.eos_ids == {1}
    assert engine.model.training is False


def test_a_missing_folder_is_a_model_error(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(ModelError):
        load_engine(str(tmp_path / "absent"), ModelSection(base="x"))
