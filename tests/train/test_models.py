"""Every family of decoder-only models trains, and its export scores as the trainer says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.tiny_models import MODELS
from tests.train.runs import (
    prepared,
    recipe_for,
    run_training,
    tiny_tokenizer,
    write_base,
    write_rows,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from sftprep.data.pack import TokenCache, token_cache
from sftprep.data.tokenizer import load_tokenizer
from sftprep.errors import ModelError
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps

LLAMA = MODELS["qwen2"]
FAMILIES: dict[str, dict[str, Any]] = {
    **MODELS,
    "mixtral": {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        **LLAMA,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "gemma": {**LLAMA, "head_dim": 16},
    "phi": {**MODELS["gpt_neox"]},
    "phi3": LLAMA,
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "stablelm": LLAMA,
}
CLEAN = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def family(folder: Path, kind: str) -> Path:
    """A random model of a family, with a tokenizer of 100 tokens."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**FAMILIES[kind], **CLEAN, "vocab_size": 100})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def held_out(run: RunFolder, recipe: Recipe) -> TokenCache:
    return token_cache(
        run.validation_rows,
        run.data / "packed",
        load_tokenizer(recipe.model),
        max_length=recipe.training.max_length,
        train_on=recipe.training.train_on,
        progress=Progress(quiet=True),
        stop=StopSignal(),
    )


@torch.no_grad()
def plain_loss(folder: Path, rows: TokenCache) -> float:
    """Mean NLL of the supervised tokens by plain transformers, one document at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    nats = 0.0
    for begin, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        ids = torch.tensor(rows.ids[begin:end].astype("int64"))
        keep = torch.tensor(rows.supervised[begin + 1 : end])
        logits = model(input_ids=ids[None]).logits[0, :-1].double()
        nats += float(
            torch.nn.functional.cross_entropy(logits[keep], ids[1:][keep], reduction="sum")
        )
    return nats / int(rows.supervised.sum())


def trained(tmp_path: Path, kind: str, **training: Any) -> tuple[float, float, float]:
    """Held-out loss before, and after by the trainer and by plain transformers."""
    run = RunFolder(tmp_path / "run")
    write_rows(run)
    recipe = recipe_for(family(tmp_path / "base", kind), max_steps=6, save_every=6, **training)
    result = run_training(recipe, run)
    after = read_steps(run.steps)[-1].validation_loss_nats
    assert result.base_validation_loss_nats is not None
    assert after is not None
    plain = plain_loss(run.train_checkpoints / "latest" / "model", held_out(run, recipe))
    return result.base_validation_loss_nats, after, plain


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_family_trains_and_exports_what_was_measured(tmp_path: Path, kind: str) -> None:
    before, after, plain = trained(tmp_path, kind)
    assert after < before
    assert plain == pytest.approx(after, abs=1e-4)


def test_size_and_direction_of_stacked_experts_are_not_learned_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not work with use_dora"):
        trained(tmp_path, "mixtral", method="lora", lora_weight_decomposed=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "decomposed"),
    [(k, d) for k in sorted(FAMILIES) for d in (False, True) if (k, d) != ("mixtral", True)],
)
def test_every_family_takes_adapters(tmp_path: Path, kind: str, decomposed: bool) -> None:
    before, after, plain = trained(
        tmp_path, kind, method="lora", lora_rank=4, lora_weight_decomposed=decomposed
    )
    assert after < before
    assert plain == pytest.approx(after, abs=1e-4)


def with_added(base: Path, folder: Path, *tokens: str) -> Path:
    """The base's tokenizer and more tokens."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_get_rows_that_learn(tmp_path: Path, tied: bool) -> None:
    base, run = prepared(tmp_path, tie_word_embeddings=tied)
    tokenizer = with_added(base, tmp_path / "tokenizer", "<|im_start|>", "<|im_end|>")
    recipe = recipe_for(base)
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(
                update={"tokenizer": str(tokenizer), "chat_template": "chatml"}
            )
        }
    )
    result = run_training(recipe, run)
    folder = run.root / result.checkpoint
    assert read_json(folder / "config.json")["vocab_size"] == 102
    exported: Any = AutoModelForCausalLM.from_pretrained(folder)
    start, end = exported.get_input_embeddings().weight[100:]
    assert not torch.equal(start, end)
    ids = read_json(folder / "generation_config.json")["eos_token_id"]
    assert 101 in (ids if isinstance(ids, list) else [ids])
    assert plain_loss(folder, held_out(run, recipe)) == pytest.approx(
        result.best_validation_loss_nats, abs=1e-4
    )


def test_adapters_and_added_tokens_are_refused_together(tmp_path: Path) -> None:
    base, run = prepared(tmp_path)
    tokenizer = with_added(base, tmp_path / "tokenizer", "<|im_start|>")
    recipe = recipe_for(base, method="lora")
    model = recipe.model.model_copy(update={"tokenizer": str(tokenizer)})
    with pytest.raises(ModelError, match="1 tokens of the tokenizer are new to the model"):
        run_training(recipe.model_copy(update={"model": model}), run)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    write_rows(run)
    base = write_base(tmp_path / "base", vocab_size=60)
    with pytest.raises(ModelError, match="has 100 tokens, the model only 60"):
        run_training(recipe_for(base), run)
