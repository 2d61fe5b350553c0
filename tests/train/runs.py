"""Small runs for the training tests: rows, a tiny model and a recipe, all made on the spot."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sftprep.data.storage import write_examples
from sftprep.progress import Progress
from sftprep.recipe.sections import (
    DataSection,
    ModelSection,
    OutputSection,
    Recipe,
    Source,
    TrainingSection,
    ValidationSection,
)
from sftprep.records import Example, Message, SourceRef, TrainResult
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder
from sftprep.train.loop import train

LETTERS = [chr(c) for c in range(32, 127)] + ["\n"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def tiny_tokenizer() -> Any:
    """One token per printable character, and four special tokens: 100 ids."""
    vocab = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
    core = Tokenizer(BPE(vocab, [], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def write_base(folder: Path, *, dropout: float = 0.0, **changes: Any) -> Path:
    """A random Llama of 31,000 parameters with its tokenizer."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "tie_word_embeddings": True,
        "attention_dropout": dropout,
        **changes,
    }
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def make_example(number: int) -> Example:
    """A counting task: repeat a letter some times."""
    letter, times = chr(97 + number % 26), 1 + number % 7
    turns = (
        Message("user", f"{letter} times {times}", False),
        Message("assistant", letter * times, True),
    )
    return Example(f"row{number}", SourceRef("set", "rows.jsonl", number + 1), turns)


def write_rows(run: RunFolder, *, train_rows: int = 120, held_out: int = 20) -> None:
    """Write both parquet files of a run."""
    run.data.mkdir(parents=True, exist_ok=True)
    write_examples(run.train_rows, [make_example(i) for i in range(train_rows)])
    write_examples(run.validation_rows, [make_example(i) for i in range(1000, 1000 + held_out)])


def recipe_for(base: Path, *, weights_dtype: Any = "auto", **training: Any) -> Recipe:
    """A recipe of twelve quick steps; `training` overrides."""
    settings: dict[str, Any] = {
        "learning_rate": 3e-3,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "warmup_steps": 2,
        "max_length": 128,
        "validate_every": 4,
        "save_every": 4,
        "precision": "fp32",
        **training,
    }
    if settings.get("epochs") is not None:
        settings["max_steps"] = None
    return Recipe(
        model=ModelSection(base=str(base)),
        data=DataSection(sources=(Source(path="rows.jsonl"),)),
        training=TrainingSection(**settings),
        validation=ValidationSection(),
        output=OutputSection(weights_dtype=weights_dtype),
    )


def prepared(tmp_path: Path, **base: Any) -> tuple[Path, RunFolder]:
    """A base model and a run folder with rows."""
    run = RunFolder(tmp_path / "run")
    write_rows(run)
    return write_base(tmp_path / "base", **base), run


def run_training(recipe: Recipe, run: RunFolder, stop: StopSignal | None = None) -> TrainResult:
    """Train quietly on one thread."""
    torch.set_num_threads(1)
    return train(recipe, run, Progress(quiet=True), stop or StopSignal())
