"""The model, rows and recipe that the benchmarks of training share."""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def read_rows(options: argparse.Namespace) -> list[dict[str, str]]:
    """Instruction and response pairs: a JSON list, or made-up words of the same lengths."""
    if options.data is not None:
        table = json.loads(Path(options.data).read_text(encoding="utf-8"))
        return [
            {
                "prompt": "\n\n".join(filter(None, (row["instruction"], row.get("input", "")))),
                "response": row.get("response") or row.get("output") or "",
            }
            for row in table
        ]
    random = np.random.default_rng(0)
    lengths = np.exp(random.normal(np.log(95), 0.7, 4000)).clip(12, 900).astype(int)
    rows = []
    for length in lengths:
        words = [f"w{i}" for i in random.integers(0, 12_000, length)]
        cut = max(1, int(0.4 * length))
        rows.append({"prompt": " ".join(words[:cut]), "response": " ".join(words[cut:])})
    return rows


def write_base(folder: Path, rows: list[dict[str, str]], options: argparse.Namespace) -> int:
    """A random Llama with a tokenizer trained on the rows; returns its number of parameters."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=options.vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet
    )
    core.train_from_iterator((text for row in rows for text in row.values()), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate or options.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads or max(1, options.hidden // 64),
        num_key_value_heads=options.kv_heads,
        max_position_embeddings=options.max_length,
        tie_word_embeddings=not options.untied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write base model and rows once; facts about them."""
    from sftprep.data.render import prompt_text, render_many
    from sftprep.data.storage import write_examples
    from sftprep.data.tokenizer import load_tokenizer
    from sftprep.recipe.sections import ModelSection
    from sftprep.records import Example, Message, SourceRef

    rows = [r for r in read_rows(options) if r["prompt"].strip() and r["response"].strip()]
    parameters = write_base(folder / "base", rows, options)
    tokenizer = load_tokenizer(ModelSection(base=str(folder / "base")))
    examples = [
        Example(
            f"row{i}",
            SourceRef("rows", "rows", i + 1),
            (Message("user", r["prompt"], False), Message("assistant", r["response"], True)),
        )
        for i, r in enumerate(rows)
    ]
    rendered = render_many([e.messages for e in examples], tokenizer, "responses")
    kept = [(e, r) for e, r in zip(examples, rendered, strict=True) if len(r.ids) <= 512]
    kept = kept[: options.rows]
    write_examples(folder / "train.parquet", [e for e, _ in kept])
    write_examples(folder / "validation.parquet", [e for e, _ in kept[:2]])
    table = [
        {
            "prompt": prompt_text(e.messages[:1], tokenizer),
            "completion": e.messages[1].content + str(tokenizer.eos_token),
        }
        for e, _ in kept
    ]
    (folder / "trl.json").write_text(json.dumps(table), encoding="utf-8")
    lengths = [len(r.ids) for _, r in kept]
    supervised = sum(int(r.supervised.sum()) for _, r in kept)
    return {
        "parameters": parameters,
        "rows": len(kept),
        "mean_tokens": round(statistics.fmean(lengths), 1),
        "supervised_share": round(supervised / sum(lengths), 2),
    }


def recipe_of(folder: Path, options: argparse.Namespace, steps: int, **changes: Any) -> Any:
    """Our recipe."""
    from sftprep.recipe.sections import DataSection, ModelSection, Recipe, Source, TrainingSection

    settings = {
        "max_steps": steps,
        "batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulation,
        "optimizer": options.optimizer,
        "warmup_steps": 0,
        "lr_scheduler": "constant",
        "learning_rate": 1e-4,
        "max_length": options.max_length,
        "precision": options.precision,
        "gradient_checkpointing": "off",
        "validate_every": 10_000,
        "save_every": 10_000,
        **changes,
    }
    return Recipe(
        model=ModelSection(base=str(folder / "base")),
        data=DataSection(sources=(Source(path="rows"),)),
        training=TrainingSection(**settings),
    )


def make_run(folder: Path, place: Path) -> Any:
    """A run folder in `place` with the rows prepared in `folder`."""
    from sftprep.store.run import RunFolder

    run = RunFolder(place / "run")
    run.data.mkdir(parents=True)
    for name in ("train", "validation"):
        shutil.copyfile(folder / f"{name}.parquet", run.data / f"{name}.parquet")
    return run
