"""`sftprep run` and one command per stage, all on the same recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sftprep.cli.output import print_json, progress_for, relative
from sftprep.errors import EXIT_DONE, EXIT_FAILED, EXIT_UNDECIDABLE, RecipeError
from sftprep.progress import show
from sftprep.store.ranks import is_first

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file or run folder.")]
RecipeOrRuns = Annotated[
    Path, typer.Argument(help="Recipe file or run folder; a folder of runs gives an index.")
]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value, may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
EXIT_BY_VERDICT = {"pass": EXIT_DONE, "fail": EXIT_FAILED, "undecidable": EXIT_UNDECIDABLE}

# Stage -> help of its command. The order is the pipeline's.
STAGE_HELP = {
    "models": "Rank base models: size, licence, context, fit to the data.",
    "data": "Check, deduplicate, decontaminate and split instruction data.",
    "plan": "Predict memory, time and cost.",
    "train": "Supervised fine-tuning with validation and red flags.",
    "validate": "Perplexity, samples, instruction following: base against SFT.",
    "benchmark": "Score the capability benchmarks.",
    "save": "Export the baseline checkpoint with metrics and metadata.",
    "gate": "Judge the run: pass, fail or not decidable.",
    "report": "Write the HTML report of a run, or an index of a folder of runs.",
}


def resolve(path: Path, overrides: Sequence[str]) -> Any:
    """Load a recipe file, or the recipe of a run folder."""
    from sftprep.model.describe import parameters_of
    from sftprep.recipe import load_recipe

    overrides = list(overrides)
    if path.is_dir():
        if not (path / "recipe.yaml").is_file():
            raise RecipeError(f"{path}: no recipe.yaml in this folder; give a recipe or a run.")
        overrides.append(f"output.run_dir={path}")
        path = path / "recipe.yaml"
    return load_recipe(path, overrides, parameters_of)


def register(app: typer.Typer) -> None:
    """Add `run` and the stage commands to the application."""
    app.command()(run)
    for name, text in STAGE_HELP.items():
        app.command(name, help=text)(OWN_COMMAND.get(name) or _command(name))


def run(
    recipe: RecipeArgument,
    set_: Override = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Redo this stage and all later ones.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe with origins and stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Run all stages; finished ones are not redone, interrupted ones continue."""
    if dry_run:
        resolved = resolve(recipe, set_ or ())
        if json:
            origins = dict(resolved.origins)
            print_json({"recipe": resolved.recipe.model_dump(mode="json"), "origins": origins})
        else:
            print("\n".join(resolved.lines()))
        return
    run_recipe(recipe, set_ or (), from_, until, json)


def run_recipe(
    path: Path, overrides: Sequence[str], first: str | None, until: str | None, json: bool
) -> None:
    """Run the pipeline and print the closing summary; exits by the verdict."""
    from sftprep.pipeline import run as run_pipeline
    from sftprep.pipeline.push import push_if_asked
    from sftprep.store.run import RunFolder

    resolved, progress = resolve(path, overrides), progress_for()
    result = run_pipeline(resolved, first=first, until=until, progress=progress)
    code = finish(result, json)
    if is_first():
        push_if_asked(resolved.recipe.output, RunFolder(result.folder), result.gate, progress)
    raise typer.Exit(code)


def finish(result: Any, json: bool) -> int:
    """Print the closing summary or JSON; returns the exit status of the verdict."""
    if not is_first():
        return EXIT_DONE  # rank 0 speaks
    verdict = result.gate.verdict if result.gate else None
    if json:
        from sftprep.records import to_dict

        document = {"run": str(result.folder), "done": result.done, "skipped": result.skipped}
        print_json(document | {"gate": to_dict(result.gate) if result.gate else None})
    else:
        from sftprep.report.summary import print_summary
        from sftprep.store.run import RunFolder

        print_summary(RunFolder(result.folder))
    return EXIT_BY_VERDICT[verdict] if verdict else EXIT_DONE


def _command(name: str) -> Any:
    def command(recipe: RecipeArgument, set_: Override = None, json: Json = False) -> None:
        one_stage(name, recipe, set_ or (), json)

    return command


def benchmark(
    recipe: RecipeArgument,
    set_: Override = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Score this model folder as the run was scored (after DPO, say)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --checkpoint: folder for its scores.")
    ] = None,
    json: Json = False,
) -> None:
    """Score the capability benchmarks."""
    if (checkpoint is None) != (out is None):
        raise RecipeError("--checkpoint and --out go together: which model, and where to write.")
    if checkpoint is None or out is None:
        one_stage("benchmark", recipe, set_ or (), json)
        return
    from sftprep.pipeline.rescore import rescore

    run = rescore(resolve(recipe, set_ or ()), checkpoint, out, progress_for())
    if json:
        print_json({"run": str(run.root), "checkpoint": str(checkpoint)})
    else:
        print(
            f"benchmark: {relative(run.root)}. Next: sftprep compare {recipe} {relative(run.root)}"
        )


def one_stage(name: str, recipe: Path, overrides: Sequence[str], json: bool) -> None:
    """Run one stage and say where its result is."""
    from sftprep.pipeline import run_stage
    from sftprep.pipeline.stages import BY_NAME
    from sftprep.store.durable import read_json
    from sftprep.store.run import RunFolder

    result = run_stage(name, resolve(recipe, overrides), progress=progress_for())
    if name == "gate" or not is_first():
        raise typer.Exit(finish(result, json))
    output = BY_NAME[name].output(RunFolder(result.folder))
    if json:
        document = read_json(output) if output.suffix == ".json" else None
        print_json({"run": str(result.folder), "stage": name, "result": document})
    else:
        print(f"{name}: {relative(output)}")


def models(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="A recipe or run folder; or models (folders, hub ids) to rank."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Instruction data to hold them against.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="For example 1xA100-40GB; default: this machine.")
    ] = None,
    use: Annotated[str | None, typer.Option(help="research (default) or commercial.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the ranking to this file.")] = None,
    top: Annotated[int, typer.Option(help="Show at most this many models.")] = 10,
    set_: Override = None,
    json: Json = False,
) -> None:
    """Rank base models: size, licence, context, fit to the data. Without models: the catalogue."""
    if targets and len(targets) == 1 and is_recipe(Path(targets[0])):
        given = [("model.hardware", hardware), ("model.intended_use", use)]
        overrides = [*(set_ or ()), *(f"{key}={value}" for key, value in given if value)]
        if data:
            raise RecipeError("--data and a recipe: the recipe names its data; give one of them.")
        one_stage("models", Path(targets[0]), overrides, json)
        return
    from sftprep.model.ranking import models_lines, rank_models
    from sftprep.store.durable import write_json

    document = rank_models(
        targets or (), data=data or (), hardware=hardware, use=use or "research",
        progress=progress_for(),
    )  # fmt: skip
    if out is not None:
        write_json(out, document)
    if json:
        print_json(document)
    else:
        print(show("\n".join(models_lines(document, top))))


def is_recipe(path: Path) -> bool:
    """True for a recipe file or a run folder, false for a model."""
    if path.is_dir():
        return (path / "recipe.yaml").is_file() and not (path / "config.json").is_file()
    return path.is_file() or path.suffix in (".yaml", ".yml")


def data(
    recipe: Annotated[
        Path,
        typer.Argument(help="Recipe file or run folder; or the word explain.", metavar="RECIPE"),
    ],
    row: Annotated[
        str | None,
        typer.Argument(help="After explain: an id (6 characters are enough) or file:line."),
    ] = None,
    where: Annotated[
        Path | None,
        typer.Argument(help="After the row: recipe or run folder; default: recipe.yaml."),
    ] = None,
    set_: Override = None,
    preview: Annotated[
        int | None, typer.Option(help="Print this many rows as the model will see them.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="What happened to the row of this id or file:line.")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Keep everything that happened to every row.")
    ] = False,
    json: Json = False,
) -> None:
    """Check, deduplicate, decontaminate and split instruction data.

    `sftprep data explain ID [RUN]` says what happened to one row.
    """
    overrides = [*(set_ or ()), *(["data.trace=true"] if trace else [])]
    if row is not None:
        if str(recipe) != "explain":
            raise RecipeError(f"{row}: one recipe is enough. For one row: sftprep data explain ID.")
        recipe, explain = where or Path("recipe.yaml"), row
    if preview is not None:
        _preview(recipe, overrides, preview)
    elif explain is not None:
        _explain(recipe, overrides, explain, json)
    else:
        one_stage("data", recipe, overrides, json)


def _explain(recipe: Path, overrides: Sequence[str], row: str, json: bool) -> None:
    from sftprep.data.explain import explain
    from sftprep.progress import show
    from sftprep.store.run import RunFolder

    lines = explain(RunFolder(Path(resolve(recipe, overrides).recipe.output.run_dir)), row)
    if json:
        print_json({"row": row, "lines": lines})
    else:
        print("\n".join(map(show, lines)))


def report(recipe: RecipeOrRuns, set_: Override = None, json: Json = False) -> None:
    """Write the HTML report of a run, or the index of a folder of runs."""
    if recipe.is_dir() and not (recipe / "recipe.yaml").is_file():
        from sftprep.report.runs_index import write_index

        path = write_index(recipe)
        if json:
            print_json({"index": str(path)})
        else:
            print(f"report: {relative(path)}")
    elif recipe.is_dir() and not _judged(recipe):
        from sftprep.report import render_report
        from sftprep.store.run import RunFolder

        path = render_report(RunFolder(recipe))  # of what there is so far, also while it runs
        if json:
            print_json({"run": str(recipe), "stage": "report", "result": None})
        else:
            print(f"report: {relative(path)}")
    else:
        one_stage("report", recipe, set_ or (), json)


def _judged(folder: Path) -> bool:
    from sftprep.store.run import RunFolder

    return bool(RunFolder(folder).stages().get("gate", {}).get("status") == "done")


def _preview(recipe: Path, overrides: Sequence[str], count: int) -> None:
    """Rows as the model sees them; supervised text is green, or in guillemets when piped."""
    from rich.console import Console
    from rich.text import Text

    from sftprep.data.preview import preview as preview_rows

    console = Console(highlight=False)
    for segments in preview_rows(resolve(recipe, overrides).recipe, count):
        line = Text()
        for text, supervised in segments:
            shown = show(text)
            if supervised and not console.is_terminal:
                shown = f"«{shown}»"
            line.append(shown, style="bold green" if supervised else "dim")
        console.print(line)
        console.rule()


def plan(
    recipe: RecipeArgument,
    hardware: Annotated[
        list[str] | None,
        typer.Option(help="Plan for this machine instead, e.g. 8xH100-80GB@2.50; repeatable."),
    ] = None,
    set_: Override = None,
    json: Json = False,
) -> None:
    """Predict memory, time and cost.

    With prepared data it measures a few real steps and writes plan.json. Before that, or for other
    machines (--hardware), it estimates from the data as it stands and writes nothing.
    """
    from sftprep.store.run import RunFolder

    resolved = resolve(recipe, set_ or ())
    wanted = resolved.recipe
    ready = RunFolder(Path(wanted.output.run_dir)).data_report.is_file()
    if ready and not hardware:
        one_stage("plan", recipe, set_ or (), json)
        return
    from dataclasses import asdict

    from sftprep.evaluate.benchmarks.workload import workloads
    from sftprep.model.outlook import outlook

    plans = outlook(wanted, hardware or [wanted.model.hardware], lambda r: workloads(r.benchmarks))
    if json:
        print_json({"plans": [asdict(one) for one in plans]})
        return
    print(show("\n\n".join("\n".join(one.lines()) for one in plans)))
    if not ready:
        print("\nEstimated from the data as it stands; `sftprep data` counts it exactly.")


# Stages whose command has options of its own.
OWN_COMMAND: dict[str, Any] = {
    "data": data,
    "models": models,
    "plan": plan,
    "benchmark": benchmark,
    "report": report,
}
