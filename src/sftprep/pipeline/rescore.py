"""Score another checkpoint exactly as a run was scored: what comes after DPO, or a repeat.

The result is a folder that `sftprep compare` reads like a run. Its base model is the run's own
baseline, so that "base against SFT" there reads "before against after".
"""

import shutil
from pathlib import Path

import sftprep
from sftprep.errors import ModelError, StoreError, library_failures
from sftprep.evaluate.benchmarks import benchmark
from sftprep.evaluate.validate import validate
from sftprep.pipeline.environment import environment
from sftprep.pipeline.working import at_work
from sftprep.progress import Progress
from sftprep.recipe.load import ResolvedRecipe
from sftprep.recipe.sections import Recipe
from sftprep.recipe.write import recipe_text
from sftprep.stop import StopSignal
from sftprep.store.durable import full_disk_errors, storage_errors, write_text
from sftprep.store.fingerprint import fingerprint
from sftprep.store.run import RunFolder, monotonic

Step = tuple[str, str]
STEPS: tuple[Step, ...] = (("validate", "held-out rows"), ("benchmark", "benchmarks"))


def rescore(
    resolved: ResolvedRecipe, checkpoint: Path, out: Path, progress: Progress | None = None
) -> RunFolder:
    """Measure `checkpoint` on the held-out rows, prompts and benchmarks of a finished run.

    Finished benchmarks are not redone when the call is repeated after an interruption.

    Args:
        resolved: the recipe of the run, with `output.run_dir` naming its folder.
        checkpoint: a model folder as `save_pretrained` writes it, tokenizer included.
        out: the folder to write; it must not be the run itself.
    Raises:
        ModelError: `checkpoint` is no model folder.
        StoreError: the run has no held-out rows or baseline, or `out` is the run.
        Interrupted: a stop was requested; the same call continues.
    """
    run = RunFolder(Path(resolved.recipe.output.run_dir).absolute())
    folder = RunFolder(out.absolute())
    _check(run, checkpoint, folder)
    recipe = _recipe_for(resolved.recipe, run, folder)
    shown = progress or Progress(quiet=True)
    with at_work(folder) as stop, full_disk_errors(folder.root), library_failures("while scoring"):
        changed = ResolvedRecipe(recipe, resolved.origins, resolved.file)
        write_text(folder.recipe, recipe_text(changed))
        with storage_errors(folder.validation_rows):
            folder.data.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.validation_rows, folder.validation_rows)
        for name, title in STEPS:
            _one(name, title, recipe, folder, checkpoint.absolute(), shown, stop)
    return folder


def _check(run: RunFolder, checkpoint: Path, folder: RunFolder) -> None:
    if folder.root == run.root:
        raise StoreError(f"{folder.root}: --out is the run itself. Give another folder.")
    if not (checkpoint / "config.json").is_file():
        raise ModelError(
            f"{checkpoint}: no config.json here. Give the folder that save_pretrained wrote, with "
            "weights and tokenizer."
        )
    for needed in (run.validation_rows, run.baseline / "config.json"):
        if not needed.is_file():
            raise StoreError(f"{needed}: missing. Finish the run first: `sftprep run` to `save`.")


def _recipe_for(recipe: Recipe, run: RunFolder, folder: RunFolder) -> Recipe:
    model = recipe.model.model_copy(
        update={"base": str(run.baseline), "revision": None, "tokenizer": None}
    )
    benchmarks = recipe.benchmarks.model_copy(update={"base_model": False})
    output = recipe.output.model_copy(update={"run_dir": str(folder.root)})
    return recipe.model_copy(update={"model": model, "benchmarks": benchmarks, "output": output})


def _one(
    name: str,
    title: str,
    recipe: Recipe,
    folder: RunFolder,
    checkpoint: Path,
    progress: Progress,
    stop: StopSignal,
) -> None:
    stop.check(f"scoring the {title}")
    progress.line(f"> {name}: {title} of {checkpoint}")
    started = monotonic()
    print_of = fingerprint(name, sftprep.__version__, str(checkpoint))
    folder.mark(name, "running", print_of, environment=environment())
    if name == "validate":
        validate(recipe, folder, progress, stop, checkpoint)
    else:
        benchmark(recipe, folder, progress, stop, checkpoint)
    folder.mark(name, "done", print_of, seconds=round(monotonic() - started, 3))
