"""What TRL's trainer reports of one model and the same rows: the measurements of docs/peers.md.

    python benchmarks/peers.py --model MODEL --rows ROWS.json

1. The evaluation loss at several batch sizes, beside the loss weighted by tokens.
2. The losses it logs while it trains a model with a NaN in its weights.

ROWS: a JSON list of {"instruction", "input", "output"}.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

BATCH_SIZES = (1, 4, 16, 32)
STEPS = 3
QUIET = {
    "report_to": [], "save_strategy": "no", "use_cpu": True, "bf16": False, "disable_tqdm": True,
    "gradient_checkpointing": False, "max_length": 512, "logging_steps": 1, "seed": 0,
}  # fmt: skip


def read_rows(path: Path, count: int) -> Any:
    """The first rows as TRL's prompt and completion."""
    from datasets import Dataset

    rows = json.loads(path.read_text(encoding="utf-8"))[:count]
    return Dataset.from_list([
        {"prompt": "\n".join(filter(None, (row["instruction"], row["input"]))) + "\n",
         "completion": row["output"]}
        for row in rows
    ])  # fmt: skip


def trainer_for(model: Any, tokenizer: Any, rows: Any, **settings: Any) -> Any:
    """TRL's SFTTrainer with its defaults but for what a CPU and a quiet run need."""
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(output_dir=tempfile.mkdtemp(), **(QUIET | settings))
    return SFTTrainer(
        model=model, args=config, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )


def weighted_loss(model: Any, prepared: Any) -> tuple[float, int]:
    """Sum of the nats of all completion tokens over their number, row by row."""
    import torch

    nats, tokens = 0.0, 0
    model.eval()
    for row in prepared:
        ids = torch.tensor([row["input_ids"]])
        wanted = torch.tensor([row["labels"]])[:, 1:] >= 0
        with torch.no_grad():
            scores = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
        found = -scores.gather(-1, ids[:, 1:, None])[..., 0]
        nats += float(found[wanted].double().sum())
        tokens += int(wanted.sum())
    return nats / tokens, tokens


def main() -> None:
    """Print both measurements."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--count", type=int, default=256)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model)
    rows = read_rows(options.rows, options.count)
    for size in BATCH_SIZES:
        trainer = trainer_for(model, tokenizer, rows, per_device_eval_batch_size=size)
        loss = trainer.evaluate()["eval_loss"]
        print(f"TRL eval_loss, batch size {size}: {loss:.4f}, perplexity {math.exp(loss):.2f}")
    loss, tokens = weighted_loss(model, trainer.eval_dataset)
    print(f"weighted by tokens ({tokens:,}): {loss:.4f}, perplexity {math.exp(loss):.2f}")
    model.model.norm.weight.data[0] = math.nan
    trainer = trainer_for(model, tokenizer, rows, max_steps=STEPS)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"TRL, a NaN in the weights, losses logged in {STEPS} steps: {logged}")


if __name__ == "__main__":
    main()
