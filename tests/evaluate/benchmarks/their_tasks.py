"""lm-eval's own tasks on local data, and our items of the same sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sftprep.evaluate.benchmarks.data import plan_task
from sftprep.evaluate.benchmarks.protocol import Item, Setting
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask

lm_eval = pytest.importorskip("lm_eval")
PLAIN = Setting(chat=lambda text: text)


def has_own_reading(identity: str, arguments: Mapping[str, Any]) -> bool:
    """Ours differs by design: no punkt is needed; a letter that is none is counted as it is."""
    if identity == "keywords:letter_frequency":
        return not arguments["letter"].isalpha()
    return identity == "length_constraints:number_sentences"


def folder_of(name: str) -> Path:
    root = Path(lm_eval.__file__).parent / "tasks"
    if name.startswith("mmlu_"):
        return root / ("mmlu/continuation" if name.endswith("_continuation") else "mmlu/default")
    return root / name.partition("_mc")[0]


def build_task(name: str, data: Path, scratch: Path, extra: str = "") -> Any:
    """An lm-eval task on local data, its own YAML included by path."""
    from lm_eval.tasks import TaskManager

    own = folder_of(name) / f"{name.removesuffix('_continuation')}.yaml"
    (scratch / f"ours_{name}.yaml").write_text(
        f"include: {own}\ntask: ours_{name}\ndataset_path: {data}\n{extra}"
    )
    manager = TaskManager(include_path=str(scratch), include_defaults=False)
    return manager.load([f"ours_{name}"])["tasks"][f"ours_{name}"]


def items_of(name: str, shared: Path, few_shot: int | None = None) -> list[Item]:
    section = BenchmarksSection(data_dir=str(shared / "data/benchmarks"))
    return list(plan_task(BenchmarkTask(name=name, few_shot=few_shot), section).items)
