"""A few real steps on a real small model, before training and without a trace in it."""

import json
from pathlib import Path

import pytest

from sftprep.data.storage import write_examples
from sftprep.model.plan import plan_stage
from sftprep.progress import Progress
from sftprep.recipe.load import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.records import Example, Message, SourceRef
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps
from sftprep.train.loop import train
from sftprep.train.probe import LEAST_STEPS, probe


def real_run(folder: Path, shared: Path, steps: int = 40) -> tuple[Recipe, RunFolder]:
    """The 656K model with 300 of its own kind of rows, prepared."""
    run = RunFolder(folder / "run")
    run.data.mkdir(parents=True)
    examples = [
        Example(
            f"{n:016x}",
            SourceRef("stories", "stories.jsonl", n),
            (
                Message("user", f"Tell me story {n}.", False),
                Message("assistant", "One day Lily went to the park. " * (1 + n % 4), True),
            ),
        )
        for n in range(300)
    ]
    write_examples(run.train_rows, examples[20:])
    write_examples(run.validation_rows, examples[:20])
    base = shared / "models" / "tinystories-656k"
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{base: {base}}}\ndata: {{sources: [x.jsonl]}}\n"
        "training: {max_length: 128, batch_size: 4, gradient_accumulation_steps: 1,"
        f" max_steps: {steps}, warmup_steps: 2, learning_rate: 1e-4}}\n"
    )
    return load_recipe(path).recipe, run


@pytest.mark.shared
def test_real_steps_are_taken_and_nothing_is_left_behind(tmp_path: Path, shared: Path) -> None:
    recipe, run = real_run(tmp_path, shared, steps=20_000)
    before = {path.name for path in run.root.iterdir()}
    plan = plan_stage(recipe, run, Progress(quiet=True), StopSignal(), probe)
    assert {path.name for path in run.root.iterdir()} == before | {"plan.json"}
    measured = plan.measured
    assert measured is not None and plan.volume is not None
    assert measured.steps >= LEAST_STEPS
    assert measured.seconds > 0 and measured.save_seconds > 0 and measured.start_seconds > 0
    assert measured.keep_seconds > 0 and measured.finish_seconds > 0
    assert measured.swapped_tokens > 0
    assert plan.volume.steps == measured.total_steps == 20_000
    assert measured.resident_bytes is not None and measured.peak_bytes is not None
    assert measured.peak_bytes > measured.resident_bytes
    written = read_json(run.plan)
    assert written["measured"]["tokens"] == measured.tokens
    assert any("measured here" in line for line in plan.lines())
    assert json.loads(json.dumps(written)) == written


@pytest.mark.shared
def test_training_after_a_look_is_the_same_as_without(tmp_path: Path, shared: Path) -> None:
    losses = []
    for name in ("looked", "straight"):
        folder = tmp_path / name
        folder.mkdir()
        recipe, run = real_run(folder, shared)
        if name == "looked":
            probe(recipe, run, Progress(quiet=True), StopSignal(), 0.1)
        train(recipe, run, Progress(quiet=True), StopSignal())
        losses.append([record.loss_nats for record in read_steps(run.steps)])
    assert losses[0] == losses[1]
