"""The catalogue's counts are exact: by formula, by published figure, by transformers itself."""

from dataclasses import fields, replace
from typing import Any

import pytest

from sftprep.errors import ModelError
from sftprep.model.aspects import UNPACKED
from sftprep.model.attention import supports_packing
from sftprep.model.catalogue import CatalogueModel, catalogue, facts_for, find_model
from sftprep.model.licences import BY_ID
from sftprep.model.shape import ModelShape, shape_of

# Counts printed by the authors or shown on the model pages, written down independently of the file.
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-8B-Base": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B-Base": 30_532_122_624,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-3-1b-pt": 999_885_952,
    "microsoft/phi-2": 2_779_683_840,
    "allenai/OLMo-7B-hf": 6_888_095_744,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "allenai/Olmo-3-1025-7B": 7_298_011_136,
    "allenai/Olmo-3-1125-32B": 32_233_522_176,
    "HuggingFaceTB/SmolLM3-3B-Base": 3_075_098_624,
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": 1_100_048_384,
    "tiiuae/falcon-rw-1b": 1_311_625_216,
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-xl": 1_557_611_200,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "EleutherAI/gpt-neox-20b": 20_554_567_680,
}

ROWS = catalogue()


def test_there_are_at_least_forty_models_and_no_name_twice() -> None:
    assert len(ROWS) >= 40
    assert len({row.id.lower() for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_count_follows_from_the_shape(row: CatalogueModel) -> None:
    assert row.shape.parameters == row.parameters


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_the_count_is_the_published_one(name: str, count: int) -> None:
    row = find_model(name)
    assert row is not None
    assert row.parameters == count


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_complete(row: CatalogueModel) -> None:
    assert row.licence in BY_ID
    assert row.context >= 1024
    assert row.documentation.startswith("https://")
    assert row.pretraining_data != ""
    assert row.pretraining_tokens is None or 1e11 <= row.pretraining_tokens <= 1e14
    assert row.shape.heads % row.shape.kv_heads == 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_each_fact_has_a_source_and_is_either_checked_or_recalled(row: CatalogueModel) -> None:
    facts = {field.name for field in fields(row)} - {
        "id", "family", "model_type", "documentation", "checked"
    }  # fmt: skip
    assert set(row.sources) == facts
    assert all(address.startswith("https://") for address in row.sources.values())
    assert set(row.checked) | set(row.recalled) == facts
    assert not set(row.checked) & set(row.recalled)


def test_every_family_that_users_ask_for_is_there() -> None:
    families = {row.family for row in ROWS}
    wanted = {
        "Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "Falcon", "Qwen 2.5", "Qwen 3", "Gemma 2",
        "Gemma 3", "Phi", "OLMo 2", "OLMo 3", "SmolLM 2", "SmolLM 3", "Pythia", "TinyLlama",
        "Mistral", "Mixtral", "Granite 3.1",
    }  # fmt: skip
    assert wanted - families == set()


def test_a_mixture_of_experts_works_with_fewer_weights_than_it_has() -> None:
    # Mixtral 8x7B: the paper gives 12.9B active of 46.7B.
    row = find_model("mistralai/Mixtral-8x7B-v0.1")
    assert row is not None
    assert round(row.active_parameters / 1e9, 1) == 12.9


def test_a_dense_model_works_with_all_its_weights() -> None:
    row = find_model("meta-llama/Llama-2-7b-hf")
    assert row is not None
    assert row.active_parameters == row.parameters


def test_names_are_found_whatever_their_case() -> None:
    assert find_model(" META-LLAMA/llama-2-7B-HF ") == find_model("meta-llama/Llama-2-7b-hf")
    assert find_model("no/such") is None


def test_facts_of_a_row_need_no_network() -> None:
    facts = facts_for("mistralai/Mistral-7B-v0.3")
    assert (facts.parameters, facts.parameters_from) == (7_248_023_552, "catalogue")
    with pytest.raises(ModelError):
        facts_for("no/such")


def test_lora_adapters_of_llama_2_7b_have_forty_million_weights() -> None:
    # PEFT prints 39,976,960 trainable parameters for rank 16 on all linear maps of Llama-2-7B:
    # 32 layers x 16 x (4 x (4096 + 4096) + 3 x (4096 + 11008)).
    row = find_model("meta-llama/Llama-2-7b-hf")
    assert row is not None
    assert row.shape.lora_parameters(16) == 39_976_960


def config_of(row: CatalogueModel) -> dict[str, Any]:
    """The row as the config.json of its family."""
    shape = row.shape
    common = {
        "model_type": row.model_type,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "tie_word_embeddings": shape.tied,
    }
    special: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": shape.hidden, "n_layer": shape.layers, "n_head": shape.heads},
        "falcon": {
            "ffn_hidden_size": shape.ffn,
            "multi_query": shape.kv_heads == 1,
            "num_kv_heads": shape.kv_heads,
            "new_decoder_architecture": 1 < shape.kv_heads < shape.heads,
            "parallel_attn": row.id != "tiiuae/falcon-rw-1b",
            "bias": shape.qkv_bias,
            "alibi": row.id == "tiiuae/falcon-rw-1b",
        },
        "qwen3_moe": {
            "moe_intermediate_size": shape.ffn,
            "num_experts": shape.experts,
            "num_experts_per_tok": shape.experts_used,
        },
        "mixtral": {
            "num_local_experts": shape.experts,
            "num_experts_per_tok": shape.experts_used,
        },
    }
    if row.model_type == "falcon":
        del common["head_dim"]  # FalconConfig derives it
    return common | special.get(row.model_type, {})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_shape_is_read_back_from_a_configuration(row: CatalogueModel) -> None:
    assert shape_of(config_of(row)) == row.shape


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_transformers_builds_a_model_of_the_same_size(row: CatalogueModel) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # Two layers suffice: the layers of a model are alike, and 126 of them take long to build.
    thin = replace(row, shape=replace(row.shape, layers=2))
    config = AutoConfig.for_model(**config_of(thin))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == thin.shape.parameters


@pytest.mark.parametrize("kind", sorted({row.model_type for row in ROWS}))
def test_families_that_cannot_be_packed_are_known(kind: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    row = next(row for row in ROWS if row.model_type == kind)
    thin = replace(row, shape=replace(row.shape, layers=1))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_of(thin)))
    assert supports_packing(model) is (kind not in UNPACKED)


@pytest.mark.parametrize("change", [{"num_key_value_heads": -1}, {"head_dim": "x"}])
def test_impossible_heads_are_refused(change: dict[str, Any]) -> None:
    row = find_model("meta-llama/Llama-2-7b-hf")
    assert row is not None
    with pytest.raises(ModelError, match=r"config\.json"):
        shape_of(config_of(row) | change)


def test_a_shape_of_one_layer_is_the_sum_done_by_hand() -> None:
    # GPT-2 style, hidden 2, ffn 8, one head: attention 4*4 weights + 6 + 2 biases = 24; the
    # feed-forward 2*16 weights + 8 + 2 biases = 42; two norms of 4; embeddings 3*2, positions 5*2,
    # final norm 4.
    shape = ModelShape(
        1, 2, 8, 1, 1, 2, 3, tied=True, gated_mlp=False, qkv_bias=True, out_bias=True,
        mlp_bias=True, norm_bias=True, positions=5,
    )  # fmt: skip
    assert shape.parameters == 24 + 42 + 8 + 6 + 10 + 4
