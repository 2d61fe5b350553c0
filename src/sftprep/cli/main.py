"""`sftprep ...`: parse, call the pipeline, print. Exit 0 done or pass, 1 gate failed or regression,
2 user error, 3 not decidable, 75 stopped but resumable.

Rooms are imported inside the commands, so that `sftprep --help` needs no tensors.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import sftprep
from sftprep.cli import stages
from sftprep.cli.output import fail, print_json, progress_for
from sftprep.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_UNDECIDABLE,
    RecipeError,
    SftprepError,
    SftprepWarning,
    StoreError,
    library_failures,
)
from sftprep.model.footprint import settle_allocator

app = typer.Typer(
    name="sftprep",
    help="Prepare a validated SFT baseline, with recorded metrics and a verdict, before DPO.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXIT_BY_OUTCOME = {
    "no_loss_beyond_margin": EXIT_DONE,
    "regressed": EXIT_FAILED,
    "cannot_tell": EXIT_UNDECIDABLE,
}
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"sftprep {sftprep.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options common to all commands."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, recipe and run.")] = Path(
        "sftprep-demo"
    ),
    json: Json = False,
) -> None:
    """The whole stage on the embedded starter model and data: offline, on a CPU, minutes."""
    from sftprep.pipeline.demo import write_demo

    recipe = write_demo(out)
    stages.run_recipe(recipe, (), None, None, json)


@app.command()
def init(
    base: Annotated[str | None, typer.Option(help="Base model: folder or hub id.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="File or folder with instruction data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Recipe to write.")] = Path("recipe.yaml"),
    hardware: Annotated[
        str | None, typer.Option(help="For example 8xH100-80GB; default: this machine.")
    ] = None,
    use: Annotated[
        str | None, typer.Option(help="Intended use: research (default) or commercial.")
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Folder with one sub-folder per benchmark.")
    ] = None,
    benchmark_limit: Annotated[
        int | None, typer.Option(help="Use a subset of this many items of each benchmark.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Run folder; default: runs/RECIPE.")] = None,
) -> None:
    """Write a commented recipe with recommended values and their source.

    On a terminal it asks for what is not given; elsewhere --base and --data are needed.
    """
    from sftprep.cli.ask import answers
    from sftprep.model.init import write_recipe

    given = answers(base, data or [], use)
    path = write_recipe(
        out,
        base=given.base,
        data=given.data,
        hardware=hardware,
        use=given.use,
        benchmarks=benchmarks,
        benchmark_limit=benchmark_limit,
        run_dir=name,
    )
    print(f"wrote {path}. Next: sftprep run {path} --dry-run, then sftprep run {path}")


stages.register(app)


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(help="Run folder, checkpoint or metrics file.")],
    candidate: Annotated[Path, typer.Argument(help="The same, after the change.")],
    confidence: Annotated[float, typer.Option(help="Confidence of the family of tests.")] = 0.95,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="Tolerated loss, 0.02 for all or mmlu=0.02 for one; may be repeated."),
    ] = None,
    repeat: Annotated[
        Path | None, typer.Option(help="The baseline scored again: its differences are noise.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML report here.")] = None,
    json: Json = False,
) -> None:
    """Did it get worse? Paired statistics; exit 0 no loss, 1 regressed, 3 cannot tell."""
    from sftprep.comparison import DEFAULT_MARGIN, comparison_lines, read_margins
    from sftprep.comparison import compare as run_compare

    margins = read_margins(margin or ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SftprepWarning)  # the comparison lists them itself
        comparison = run_compare(
            baseline,
            candidate,
            confidence=confidence,
            margin=margins.pop("", DEFAULT_MARGIN),
            margins=margins,
            repeat=repeat,
        )
    if report is not None:
        from sftprep.report.comparison_page import write_comparison_report

        print(f"wrote {write_comparison_report(comparison, report)}", file=sys.stderr)
    if json:
        print_json(comparison)
    else:
        print("\n".join(comparison_lines(comparison)))
    raise typer.Exit(EXIT_BY_OUTCOME[comparison.outcome])


@app.command()
def diagnose(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    apply: Annotated[
        Path | None, typer.Option(help="Write a new recipe with the proposed changes.")
    ] = None,
    json: Json = False,
) -> None:
    """What went wrong, why, and what to change."""
    from sftprep.diagnose import apply_patch, diagnosis_lines
    from sftprep.diagnose import diagnose as run_diagnose
    from sftprep.store.run import RunFolder

    folder = RunFolder(run)
    diagnosis = run_diagnose(folder)
    if json:
        print_json(diagnosis)
    else:
        print("\n".join(diagnosis_lines(diagnosis)))
    if apply is not None and not diagnosis.patch:
        print(f"{apply} not written: no found cause asks for another recipe", file=sys.stderr)
    elif apply is not None:
        apply_patch(folder.recipe, diagnosis.patch, apply)
        print(f"wrote {apply}. Next: sftprep run {apply} --set output.run_dir={run}-next",
              file=sys.stderr)  # fmt: skip


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="Run folder with a saved baseline.")],
    repo: Annotated[
        str | None, typer.Option(help="owner/name; default: output.push_to_hub of the run.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Create it as public.")] = False,
    any_verdict: Annotated[
        bool, typer.Option("--any-verdict", help="Push although the gate did not pass.")
    ] = False,
) -> None:
    """Send the saved baseline to the Hugging Face hub; needs a passing gate."""
    from sftprep.pipeline.push import push as push_run
    from sftprep.recipe import load_recipe
    from sftprep.report.gathered import read_gate
    from sftprep.store.run import RunFolder

    output = load_recipe(RunFolder(run).recipe).recipe.output
    name = repo or output.push_to_hub
    if name is None:
        raise RecipeError(f"{run}: where to? Give --repo owner/name or set output.push_to_hub.")
    gate = read_gate(RunFolder(run))
    if not any_verdict and (gate is None or gate.verdict != "pass"):
        state = "has not judged this run" if gate is None else f"says {gate.verdict}"
        raise StoreError(f"{run}: the gate {state}. --any-verdict pushes it all the same.")
    private = output.hub_private and not public
    print(push_run(RunFolder(run), name, private=private, progress=progress_for()))


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="Which; default: list them.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Validate this file instead of printing the schema.")
    ] = None,
) -> None:
    """Print a published JSON Schema, or validate a file against it."""
    from sftprep.report import published

    if check is not None:
        from sftprep.store.durable import read_json

        name = name or published.name_of(check)
        published.require_valid(name, read_json(check), check)
        print(f"{check}: a valid {name}")
    elif name is None:
        print("\n".join(published.SCHEMAS))
    else:
        print_json(published.schema(name))


@app.command()
def chat(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint or run folder.")],
) -> None:
    """Talk to a checkpoint in the terminal (Ctrl-D ends)."""
    from sftprep.evaluate.chat import chat as run_chat

    folder = Path(checkpoint)
    baseline = folder / "checkpoints" / "sft_baseline"
    run_chat(str(baseline if baseline.is_dir() else checkpoint))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; turns our errors into one message and an exit code."""
    settle_allocator(os.environ)
    # Finding pydantic plugins reads the metadata of every installed package: 30 ms at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    progress = progress_for()
    try:
        with library_failures("at work"):
            result: Any = app(args=arguments, standalone_mode=False)
    except SftprepError as error:
        sys.exit(fail(error, progress))
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("click", "typer") and hasattr(
            error, "show"
        ):
            error.show()
            sys.exit(2)
        raise
    sys.exit(result if isinstance(result, int) else 0)
