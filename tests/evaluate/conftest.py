"""A byte-level tokenizer trained here and random models of about 0.1 M parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sftprep.data.tokenizer import built_in_template
from sftprep.evaluate.engine import Engine

TEXT = """The cat sat on the mat. The dog ran to the park and back again. One day a small bird came.
Question: What is the answer? Answer: one, two, three, four or five apples and seven pears.
### Instruction: Name a colour. ### Response: red, blue or green. Once upon a time there was a girl.
"""
CONTEXT = 128


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """512 byte-level tokens; BOS in front of every text, as Llama's tokenizer does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXT.splitlines(), trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    found = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    found.chat_template = built_in_template("plain")
    return found


def build_model(name: str, vocabulary: int) -> Any:
    """A random model whose scores are far from flat, so that decisions do not hang on noise.

    Rotary, learned positions, a sliding window of 24 tokens, windowed and full layers mixed, ALiBi
    (no usable position ids).
    """
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.2}
    rotary = {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        **ends,
    }
    small = {"vocab_size": vocabulary, "n_layer": 2, "n_head": 4, **ends}
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**rotary)).eval()
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=48, n_positions=CONTEXT, **small)).eval()
    if name == "mistral_window":
        return MistralForCausalLM(MistralConfig(sliding_window=24, **rotary)).eval()
    if name == "gemma3":
        kinds = ["sliding_attention", "full_attention"]
        config = Gemma3TextConfig(sliding_window=24, layer_types=kinds, head_dim=12, **rotary)
        return Gemma3ForCausalLM(config).eval()
    assert name == "bloom"
    return BloomForCausalLM(BloomConfig(hidden_size=48, seq_length=CONTEXT, **small)).eval()


@pytest.fixture(scope="session")
def make_engine(tokenizer: Any) -> Callable[..., Engine]:
    """An engine with a fresh model: `make_engine("gpt2", max_tokens_per_batch=256)`."""

    def make(name: str = "llama", max_tokens_per_batch: int = 8192) -> Engine:
        model = build_model(name, len(tokenizer))
        return Engine(model, tokenizer, max_tokens_per_batch=max_tokens_per_batch)

    return make


@pytest.fixture(scope="session")
def saved_model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder on disk, with its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    build_model("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
