"""Time of the stages after training: validation and benchmarks of both models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sftprep.model.hardware import Hardware
from sftprep.model.sample import TYPICAL_BYTES_PER_TOKEN, TokenFit
from sftprep.recipe.sections import Recipe

# Rows that are written side by side (evaluate/generation.py fills its token budget; short prompts).
ROWS_WRITTEN_TOGETHER = 32
# A forward pass is a third of a training step's operations (2 of 6 per weight and token).
FORWARD_SHARE = 1 / 3
# Loading a model, once per stage and model, beside reading its float32 weights at this rate.
LOAD_SECONDS, LOAD_BYTES_PER_SECOND = 1.0, 1e9
# Core seconds that starting, confining and judging one written program take (docs/benchmarks.md).
PROGRAM_SECONDS = 0.18
HOST_CORES = 8  # beside a GPU, where the recipe names a machine that is not here


@dataclass(frozen=True, slots=True)
class Workload:
    """One benchmark on one model, as evaluate/benchmarks/workload.py counts it.

    `read`: characters of prompts and continuations, what neighbours share counted once;
    `written_tokens`: tokens that may be written; `programs`: answers that are run as programs;
    `start_seconds`: reading the items, once. `problem`: why they cannot be read.
    """

    name: str
    items: int
    read: int
    written_tokens: int
    problem: str | None = None
    programs: int = 0
    start_seconds: float = 0.0


Count = Callable[[Recipe], Sequence[Workload]]


@dataclass(frozen=True, slots=True)
class LaterStage:
    """One later piece of work on both models. `problem`: why it cannot be run as it stands."""

    name: str
    items: int
    seconds: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds per token read, per token written, per model loaded, per program run."""

    read: float
    write: float
    load: float = 0.0
    program: float = 0.0


def rates(read_seconds: float, parameters: int, hardware: Hardware) -> Rates:
    """Writing reads every weight once per token and batch, beside the computation."""
    width = 4 if hardware.kind == "cpu" else 2
    weights = width * parameters / hardware.bandwidth / ROWS_WRITTEN_TOGETHER
    load = LOAD_SECONDS + 4 * parameters / LOAD_BYTES_PER_SECOND
    program = PROGRAM_SECONDS / (hardware.cores or HOST_CORES)
    return Rates(read_seconds, read_seconds + weights, load, program)


def later_stages(
    recipe: Recipe,
    work: Sequence[Workload],
    speed: Rates,
    fit: TokenFit | None,
    held_out_tokens: int,
) -> tuple[LaterStage, ...]:
    """Validation, then every benchmark, in seconds for all models that are scored.

    The trained model is taken to write answers as long as those it learned from, the base model to
    write up to the limit.
    """
    models = 2 if recipe.benchmarks.base_model else 1
    size = fit.bytes_per_token if fit else TYPICAL_BYTES_PER_TOKEN
    answer = fit.mean_length * fit.supervised if fit else float("inf")
    section = recipe.validation
    prompts = section.samples + section.instruction_limit
    limit = section.max_new_tokens
    validation = 2 * (held_out_tokens * speed.read + speed.load)
    validation += prompts * (min(limit, answer) + limit) * speed.write
    found = [LaterStage("validate", prompts, validation)]
    if work:
        start = models * speed.load + sum(one.start_seconds for one in work)
        found.append(LaterStage("benchmarks' start", models, start))
    for one in work:
        per_item = one.written_tokens / one.items if one.items else 0.0
        written = one.items * (min(per_item, answer) + (models - 1) * per_item)
        seconds = models * one.read / size * speed.read + written * speed.write
        seconds += models * one.programs * speed.program
        found.append(LaterStage(one.name, one.items, seconds, one.problem))
    return tuple(found)
