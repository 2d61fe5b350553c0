"""The demo: the embedded starter model, data and benchmarks, and a recipe for them."""

from pathlib import Path

from sftprep.starter import MODEL_DIR, write_starter
from sftprep.store.durable import storage_errors, write_text

RECIPE = """\
# Written by `sftprep demo`: the embedded starter model and data, offline, on a CPU.
model:
  base: {model}
data:
  sources:
    - path: starter/instructions.jsonl
      name: starter
      licence: Apache-2.0
      labels: starter/planted.json   # what was planted: the report states how much was found
  max_bad_fraction: 0.02   # a few unreadable lines are planted on purpose
  checks:                  # flagged by default; the planted ones must not train
    response_refusal: {{action: drop}}
    personal_data: {{action: drop}}
    assistant_boilerplate: {{action: drop}}
training:
  learning_rate: 7e-4
  batch_size: 6
  gradient_accumulation_steps: 1
  max_steps: null
  epochs: 3
  warmup_steps: 25
  max_length: 256
  validate_every: 150
  save_every: 400
validation:
  max_rows: 500
  instruction_prompts: starter/heldout.jsonl
  instruction_limit: 640
  max_new_tokens: 48
benchmarks:
  data_dir: starter/benchmarks
  tasks: [starter_choice, starter_code, starter_math, starter_truth, starter_endings,
          starter_constraints]
gate:
  min_instruction_following: 0.8
output:
  run_dir: {run}
"""


def write_demo(out: Path) -> Path:
    """Write starter files and the recipe below `out`; returns the recipe.

    Writing the same files again changes nothing, so a repeated demo continues or skips.
    """
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_starter(out / "starter")
    recipe = out / "recipe.yaml"
    write_text(recipe, RECIPE.format(model=MODEL_DIR, run=(out / "run").absolute()))
    return recipe
