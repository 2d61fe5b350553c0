"""A whole small run, made once: the starter model, a few hundred rows, a few steps."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sftprep.starter import MODEL_DIR, write_starter

SMALL_RECIPE = """\
model:
  base: {model}
data:
  sources:
    - path: starter/instructions.jsonl
      limit: 600
  minimum_rows: 300
  max_bad_fraction: 0.1
training:
  learning_rate: 1e-3
  batch_size: 4
  gradient_accumulation_steps: 2
  max_steps: 12
  warmup_steps: 2
  max_length: 128
  validate_every: 6
  save_every: 4
validation:
  max_rows: 40
  samples: 3
  instruction_prompts: starter/heldout.jsonl
  instruction_limit: 20
  max_new_tokens: 12
benchmarks:
  data_dir: starter/benchmarks
  limit: 6
  tasks: [starter_choice, starter_math, starter_truth]
output:
  run_dir: {run}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


def sftprep(*arguments: str | Path, cwd: Path | None = None, timeout: float = 280) -> Outcome:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sftprep", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def write_small_recipe(folder: Path, text: str = SMALL_RECIPE) -> Path:
    """Starter files and a small recipe below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_starter(folder / "starter")
    recipe = folder / "recipe.yaml"
    recipe.write_text(text.format(model=MODEL_DIR, run=folder / "run"), encoding="utf-8")
    return recipe


@dataclass(frozen=True)
class SmallRun:
    """A finished small run."""

    recipe: Path
    folder: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The whole pipeline once, through the command line."""
    folder = tmp_path_factory.mktemp("small")
    recipe = write_small_recipe(folder)
    outcome = sftprep("run", recipe, "--json")
    assert outcome.code in (0, 1, 3), outcome.err
    assert json.loads(outcome.out)["run"] == str(folder / "run")
    return SmallRun(recipe, folder / "run", outcome)
