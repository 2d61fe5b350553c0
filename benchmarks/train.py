"""Training throughput of sftprep against TRL's packed SFTTrainer on this machine's CPU.

Both train the same random Llama on the same rows (packed, loss on responses, AdamW, no gradient
checkpointing), in alternating rounds, so that other work on the machine hits both. Reported is the
ratio of median real tokens per second; the first step of each round does not count.

    python benchmarks/train.py --hidden 256 --layers 6 --vocabulary 8192 --max-length 512 --batch 4
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sftprep.data.render import prompt_text
from sftprep.data.storage import write_examples
from sftprep.data.tokenizer import load_tokenizer
from sftprep.progress import Progress
from sftprep.recipe.sections import DataSection, ModelSection, Recipe, Source, TrainingSection
from sftprep.records import Example, Message, SourceRef
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps
from sftprep.train.loop import train

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "###", "Instruction", "Response", ":"]


def write_base(folder: Path, options: argparse.Namespace) -> None:
    """A random Llama with a tokenizer of one token per word."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*SPECIAL, *(f"w{i}" for i in range(options.vocabulary - len(SPECIAL)))]
    core = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(SPECIAL[:4])
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
        intermediate_size=options.hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        max_position_embeddings=options.max_length,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_rows(options: argparse.Namespace) -> list[Example]:
    """Conversations with log-normal lengths, median a sixth of a row, 60 % of it answer."""
    random = np.random.default_rng(0)
    room = options.max_length - 16
    lengths = np.exp(random.normal(np.log(options.max_length / 6), 0.7, options.rows))
    rows = []
    for number, length in enumerate(lengths.clip(10, room).astype(int)):
        words = [f"w{i}" for i in random.integers(0, options.vocabulary - len(SPECIAL), length)]
        cut = max(1, int(0.4 * length))
        turns = (
            Message("user", " ".join(words[:cut]), False),
            Message("assistant", " ".join(words[cut:]), True),
        )
        rows.append(Example(f"row{number}", SourceRef("made", "rows", number + 1), turns))
    return rows


def ours(base: Path, rows: list[Example], options: argparse.Namespace) -> float:
    """Median real tokens per second of our loop."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.data.mkdir()
        write_examples(run.train_rows, rows)
        write_examples(run.validation_rows, rows[:4])
        recipe = Recipe(
            model=ModelSection(base=str(base)),
            data=DataSection(sources=(Source(path="rows"),)),
            training=TrainingSection(
                max_steps=options.steps + 1,
                batch_size=options.batch,
                gradient_accumulation_steps=1,
                warmup_steps=1,
                max_length=options.max_length,
                precision=options.precision,
                gradient_checkpointing="off",
                validate_every=10_000,
                save_every=10_000,
            ),
        )
        train(recipe, run, Progress(quiet=True), StopSignal())
        return statistics.median(r.tokens_real / r.seconds for r in read_steps(run.steps)[1:])


def theirs(base: Path, rows: list[Example], options: argparse.Namespace) -> float:
    """Median real tokens per second of TRL with packing."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    tokenizer = load_tokenizer(ModelSection(base=str(base)))
    table = [
        {
            "prompt": prompt_text(row.messages[:1], tokenizer),
            "completion": row.messages[1].content + tokenizer.eos_token,
        }
        for row in rows
    ]
    rates: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Tokens per second of each step."""

        begin = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.begin = time.monotonic()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            rates.append(tokens[0] / (time.monotonic() - self.begin))

    tokens = [0]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_steps=options.steps + 1,
            per_device_train_batch_size=options.batch,
            packing=True,
            completion_only_loss=True,
            max_length=options.max_length,
            gradient_checkpointing=False,
            bf16=options.precision == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base),
            args=settings,
            train_dataset=Dataset.from_list(table),
            processing_class=AutoTokenizer.from_pretrained(base),
            callbacks=[Clock()],
        )
        collate = trainer.data_collator

        def counted(features: Any) -> Any:
            tokens[0] = sum(len(f["input_ids"]) for f in features)
            return collate(features)

        trainer.data_collator = counted
        trainer.train()
    return statistics.median(rates[1:])


def main() -> None:
    """Alternate, then print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {
        "hidden": 256,
        "layers": 6,
        "vocabulary": 8192,
        "max-length": 512,
        "batch": 4,
        "rows": 600,
        "steps": 6,
        "rounds": 3,
        "threads": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = make_rows(options)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        write_base(base, options)
        pairs = [
            (ours(base, rows, options), theirs(base, rows, options)) for _ in range(options.rounds)
        ]
    mine, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(
        json.dumps(
            {
                "settings": vars(options),
                "tokens_per_second": {"sftprep": round(mine), "trl": round(other)},
                "ratios": [round(a / b, 2) for a, b in pairs],
                "median_ratio": round(statistics.median(a / b for a, b in pairs), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
