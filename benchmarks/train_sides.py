"""The two sides of benchmarks/train.py: our loop and TRL's trainer, each timed step by step."""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from train_rows import make_run, recipe_of

TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "padded": {},
    "length_grouped": {"train_sampling_strategy": "group_by_length"},
    "packed": {"packing": True},
}
TRL_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}
WARM_STEPS = 1  # the first step allocates memory and fills caches


class EnoughError(Exception):
    """All timed steps are done: the rest of the run (last validation, save) is not measured."""


class Clock:
    """When each step ended, by the wall and in processor seconds of this process.

    On a GPU the first and the last one wait for the device.
    """

    def __init__(self, last: int, device: str) -> None:
        self.last, self.device = last, device
        self.ends: list[tuple[float, float]] = []

    def advance(self) -> None:
        """One more step is done."""
        if self.device == "cuda" and len(self.ends) + 1 in (WARM_STEPS, self.last):
            import torch

            torch.cuda.synchronize()
        self.ends.append((time.monotonic(), time.process_time()))

    def rates(self, tokens: list[int]) -> dict[str, float]:
        """Real tokens per second and per processor second over steps WARM_STEPS + 1 .. last."""
        pairs = zip(self.ends[WARM_STEPS - 1], self.ends[self.last - 1], strict=True)
        wall, processor = (end - begin for begin, end in pairs)
        real = sum(tokens[WARM_STEPS : self.last])
        return {"rate": real / wall, "processor_rate": real / processor}


def ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Our loop, from rows on disk."""
    from sftprep.progress import Progress, Task
    from sftprep.stop import StopSignal
    from sftprep.train.logs import read_steps
    from sftprep.train.loop import train

    clock = Clock(WARM_STEPS + options.steps, options.device)

    class Steps:
        """The training task, ended after the last timed step."""

        def advance(self, count: int = 1, note: str = "") -> None:
            """One more step is done."""
            clock.advance()
            if len(clock.ends) == clock.last:
                raise EnoughError

    class Timed(Progress):
        """Hands the training task's ticks to the clock."""

        @contextmanager
        def task(self, label: str, total: int, unit: str = "items") -> Iterator[Task]:
            """Count steps only."""
            with super().task(label, total, unit) as silent:
                yield Steps() if unit == "steps" else silent

    with tempfile.TemporaryDirectory() as place:
        run = make_run(folder, Path(place))
        with suppress(EnoughError):
            train(recipe_of(folder, options, 1000), run, Timed(quiet=True), StopSignal())
        records = read_steps(run.steps)
    found = {
        **clock.rates([r.tokens_real for r in records]),
        "losses": [r.loss_nats for r in records],
    }
    if options.device == "cuda":
        found["peak_bytes"] = max(r.memory_bytes or 0 for r in records)
    return found


def our_plan(folder: Path, options: argparse.Namespace, steps: int) -> list[list[int]]:
    """Which rows our steps see."""
    from sftprep.data.pack import build_cache
    from sftprep.data.storage import read_examples
    from sftprep.data.tokenizer import load_tokenizer
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal
    from sftprep.train.batches import StepPlan

    recipe = recipe_of(folder, options, steps)
    cache = build_cache(
        list(read_examples(folder / "train.parquet")),
        load_tokenizer(recipe.model),
        max_length=options.max_length,
        train_on="responses",
        progress=Progress(quiet=True),
        stop=StopSignal(),
    )
    plan = StepPlan(cache, recipe.training, 1)
    return [
        [d for micro in plan.micro_batches(step, 0) for d in micro.tolist()]
        for step in range(1, steps + 1)
    ]


def trl_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Options of SFTConfig: as many real tokens per step as ours, in every setting."""
    rows = options.batch
    if options.setting != "packed":
        rows = max(1, round(options.batch * options.max_length / options.mean_tokens))
    return {
        "max_steps": options.steps if options.same_rows else WARM_STEPS + options.steps,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": options.accumulation,
        "optim": TRL_OPTIMIZERS[options.optimizer],
        "dataloader_num_workers": 2 if options.device == "cuda" else 0,
        "completion_only_loss": True,
        "max_length": options.max_length,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.01,
        "gradient_checkpointing": False,
        "bf16": options.precision == "bf16",
        "use_cpu": options.device == "cpu",
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "steps" if options.same_rows else "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        **TRL_SETTINGS[options.setting],
    }


def theirs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """TRL's trainer in one of its settings; with `same_rows` on the batches of our plan."""
    import torch
    from datasets import Dataset
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    clock = Clock(WARM_STEPS + options.steps, options.device)
    tokens: list[Any] = []  # of each micro-batch, on the device
    losses: list[float] = []
    plan = our_plan(folder, options, options.steps) if options.same_rows else None

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Clock and losses."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.advance()

        def on_log(self, *args: Any, logs: Any = None, **kwargs: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    class Counting(SFTTrainer):
        """Counts the real tokens that each micro-batch brings along."""

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens.append(inputs.pop("real_tokens"))
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as place:
        trainer = Counting(
            model=AutoModelForCausalLM.from_pretrained(
                folder / "base", attn_implementation=options.trl_attention
            ),
            args=SFTConfig(output_dir=place, **trl_settings(options)),
            train_dataset=Dataset.from_list(json.loads((folder / "trl.json").read_text())),
            processing_class=AutoTokenizer.from_pretrained(folder / "base"),
            callbacks=[Watch()],
        )
        collate = trainer.data_collator

        def counted(features: Any) -> Any:
            real = sum(len(f["input_ids"]) for f in features)
            return {**collate(features), "real_tokens": torch.tensor([real])}

        trainer.data_collator = counted
        if plan:
            loader: Any = DataLoader(
                trainer.train_dataset, batch_sampler=plan, collate_fn=trainer.data_collator
            )
            trainer.get_train_dataloader = lambda: loader
        trainer.train()
    if plan:
        return {"losses": losses}
    counts = [int(t) for t in tokens]
    steps = range(0, len(counts), options.accumulation)
    found = clock.rates([sum(counts[i : i + options.accumulation]) for i in steps])
    if options.device == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
    return found
