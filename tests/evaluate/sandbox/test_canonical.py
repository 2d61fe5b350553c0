"""HumanEval's own solutions, and empty ones, through the strongest sandbox."""

import json
from pathlib import Path

import pytest

from sftprep.evaluate.sandbox import Problem, SandboxTier, run_many


@pytest.mark.shared
@pytest.mark.parametrize(
    ("completion", "status"), [("canonical_solution", "passed"), ("    return None\n", "failed")]
)
def test_all_164_canonical_solutions_pass_and_all_164_empty_ones_fail(
    shared: Path, held: dict[str, SandboxTier], completion: str, status: str
) -> None:
    assert held, "no sandbox holds on this machine"
    lines = (shared / "data/benchmarks/humaneval/test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    problems = [
        Problem(r["prompt"], r.get(completion, completion), r["test"], r["entry_point"])
        for r in rows
    ]
    outcomes = run_many(problems, timeout_seconds=20.0, tier=next(iter(held.values())))
    wrong = [(r["task_id"], o) for r, o in zip(rows, outcomes, strict=True) if o.status != status]
    assert len(rows) == 164
    assert wrong == []
