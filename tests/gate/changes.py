"""What may be wrong with a run folder: changes of a healthy one, each a function of the folder."""

from collections.abc import Callable
from typing import Any

from tests.gate.example_run import edit, items_of, paired_hits, write_items

from sftprep.store.run import RunFolder

Change = Callable[[RunFolder], None]


def both(*changes: Change) -> Change:
    def change(run: RunFolder) -> None:
        for one in changes:
            one(run)

    return change


def in_train(**values: Any) -> Change:
    return lambda run: edit(run.train_result, lambda v: v.update(values))


def in_sft(**values: Any) -> Change:
    return lambda run: edit(run.validation, lambda v: v["sft"].update(values))


def in_following(**values: Any) -> Change:
    return lambda run: edit(
        run.validation, lambda v: v["sft"]["instruction_following"].update(values)
    )


def in_rates(**values: Any) -> Change:
    return lambda run: edit(run.validation, lambda v: v["sft"]["rates"].update(values))


def in_mmlu(**values: Any) -> Change:
    return lambda run: edit(
        run.benchmarks / "mmlu.json", lambda v: v["metrics"]["acc"].update(values)
    )


def in_save(**values: Any) -> Change:
    return lambda run: edit(run.root / "save.json", lambda v: v.update(values))


def in_data(**values: Any) -> Change:
    return lambda run: edit(run.data_report, lambda v: v.update(values))


def in_ledger(**values: Any) -> Change:
    return lambda run: edit(run.data_report, lambda v: v["ledger"].update(values))


def without(*parts: str) -> Change:
    return lambda run: run.root.joinpath(*parts).unlink()


def no_base(run: RunFolder) -> None:
    edit(run.validation, lambda v: v.update(base=None))


def no_base_benchmarks(run: RunFolder) -> None:
    for path in (run.benchmarks / "base").iterdir():
        path.unlink()


def forgotten(run: RunFolder) -> None:
    """The base model was far better on MMLU: 60% against 46%."""
    before, _ = paired_hits(800, 0.60, 0.60, 3)
    write_items(run.benchmarks / "base" / "mmlu.items.jsonl.gz", items_of("mmlu", before, "acc"))
    edit(run.benchmarks / "base" / "mmlu.json", lambda v: v["metrics"]["acc"].update(value=0.6))


def unscored_items(run: RunFolder) -> None:
    edit(run.benchmarks / "mmlu.json", lambda v: v["outcomes"].update(error=3))


def changed_weights(run: RunFolder) -> None:
    (run.baseline / "model.safetensors").write_bytes(b"Weights")


def no_manifest(run: RunFolder) -> None:
    (run.baseline / "MANIFEST.json").unlink()


def drop_rates(run: RunFolder) -> None:
    edit(run.validation, lambda v: v["sft"].update(rates={}))


def red_flag(run: RunFolder) -> None:
    flag = {"id": "loss_not_finite", "step": 9, "evidence": "loss is NaN", "cause": "c",
            "remedy": "halve the rate", "action": "stop"}  # fmt: skip
    edit(run.train_result, lambda v: v.update(flags=[flag]))
