"""The embedded starter: a small base model, instruction data and benchmarks of our own making.

`sftprep demo` runs the whole stage on it, offline, on a CPU. Everything but the weights is
generated here; scripts/starter/pretrain.py makes the weights.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from sftprep.starter.benchmarks import benchmark_splits, leaked_rows
from sftprep.starter.defects import plant
from sftprep.starter.tasks import good_rows, held_out_rows

__all__ = ["MODEL_DIR", "write_starter"]

MODEL_DIR: Path = Path(__file__).parent / "model"

SPARE_ROWS = 900  # good rows given up to make defective ones of
LEAKS = (("starter_choice", 30), ("starter_math", 20))


def _write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def write_starter(folder: Path, seed: int = 0) -> None:
    """Write the starter's data below `folder`; the same seed writes the same bytes.

    instructions.jsonl: training rows (instruction, response, category) with planted defects;
    planted.json: what was planted, by line number from 1, and the originals of duplicates;
    heldout.jsonl: prompts of words and numbers absent from the training rows, with answers;
    benchmarks/NAME/SPLIT.jsonl: the starter benchmarks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    benchmarks = benchmark_splits(seed)
    rows = good_rows(seed)
    planted = plant(seed, rows[SPARE_ROWS:], rows[:SPARE_ROWS], leaked_rows(benchmarks, LEAKS))
    instructions = "".join(line + "\n" for line in planted.lines)
    (folder / "instructions.jsonl").write_text(instructions, encoding="utf-8")
    kinds = sorted(set(planted.defects.values()))
    record = {
        "rows": len(planted.lines),
        "counts": {k: sum(1 for v in planted.defects.values() if v == k) for k in kinds},
        "defects": {str(line): kind for line, kind in sorted(planted.defects.items())},
        "originals": {str(line): twin for line, twin in sorted(planted.twins.items())},
    }
    (folder / "planted.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _write_lines(folder / "heldout.jsonl", held_out_rows(seed))
    for name, splits in benchmarks.items():
        for split, items in splits.items():
            _write_lines(folder / "benchmarks" / name / f"{split}.jsonl", items)
