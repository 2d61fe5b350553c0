"""Make the model folder that `benchmarks/evaluate.py` scores with: no download, half a minute.

    python benchmarks/evaluate_model.py --data FOLDER --out FOLDER [--spread 4]

A byte-level BPE tokenizer of 8,192 tokens trained on the benchmarks' own texts (about four
characters per token, as usual) and an 8-layer Llama of width 256 with a context of 4,096. The
output layer then does 27% of the arithmetic: SmolLM2-135M 21%, Qwen2.5-0.5B 28%, pythia-160m 31%.
The weights are random. For generation take `--spread 4`: weights so large that what the model
writes never repeats itself, so that evaluate.py can end its answers at different lengths. Its
scores mean nothing; only its speed does.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 8192
WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, CONTEXT = 256, 8, 8, 4, 4096
BOS, EOS = "<s>", "</s>"


def jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def texts(data: Path) -> list[str]:
    """What the tokenizer learns from."""
    found = [f"{row['question']}\n{row['answer']}" for row in jsonl(data / "gsm8k/train.jsonl")]
    found += [
        f"{row['ctx']} {row['endings']}" for row in jsonl(data / "hellaswag/validation.jsonl")
    ]
    found += [
        row["prompt"] + row["canonical_solution"] for row in jsonl(data / "humaneval/test.jsonl")
    ]
    for path in sorted((data / "mmlu/validation").glob("*.jsonl")):
        found += [f"{row['question']} {row['choices']}" for row in jsonl(path)]
    return found


def make_tokenizer(data: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE with BOS in front of every text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts(data), trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=EOS, model_max_length=CONTEXT
    )


def make_model(spread: float) -> LlamaForCausalLM:
    """Seeded random weights, in the layers `spread` times as large as usual."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 8 // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.dim() == 2:
                weight.mul_(spread)
    return model


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with the benchmarks")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--spread", type=float, default=1.0)
    options = parser.parse_args()
    tokenizer = make_tokenizer(options.data)
    make_model(options.spread).eval().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
