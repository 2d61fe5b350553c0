"""How much work the benchmarks of a recipe are, counted on a few items of each."""

from sftprep.errors import SftprepError
from sftprep.evaluate.benchmarks.data import Plan, plan_task
from sftprep.evaluate.benchmarks.protocol import Question, Setting
from sftprep.model.later import Workload
from sftprep.recipe.sections import BenchmarksSection
from sftprep.store.run import monotonic

# Pairs of neighbours looked at: enough for a mean, and each shows what it shares with the next.
PAIRS = 24


def workloads(section: BenchmarksSection) -> list[Workload]:
    """The work of every task on one model; prompts are counted without a chat template."""
    found = []
    for task in section.tasks:
        if task.path is None and section.data_dir is None:
            why = "not counted: benchmarks.data_dir is not set, the hub will be asked"
            found.append(Workload(task.name, 0, 0, 0, why))
            continue
        begin = monotonic()
        try:
            plan = plan_task(task, section)
            found.append(_workload(plan, monotonic() - begin))
        except SftprepError as error:
            found.append(Workload(task.name, 0, 0, 0, str(error)))
    return found


def _workload(plan: Plan, start_seconds: float) -> Workload:
    """Scale the mean of some items to all of them."""
    count = len(plan.items)
    setting = Setting(str)
    firsts = range(0, max(count - 1, 1), max(1, count // PAIRS))
    read = written = 0
    for first in firsts:
        own, neighbour = (
            plan.benchmark.protocol.ask(plan.items[min(i, count - 1)], setting)
            for i in (first, first + 1)
        )
        read += characters(own, neighbour)
        written += own.generate.max_new_tokens if own.generate is not None else 0
    scale = count / len(firsts)
    return Workload(
        plan.name,
        count,
        round(read * scale),
        round(written * scale) * plan.sampling.samples,
        programs=count * plan.sampling.samples if plan.benchmark.protocol.runs_code else 0,
        start_seconds=start_seconds,
    )


def characters(own: Question, neighbour: Question) -> int:
    """What a question adds to what its neighbour already made the model read."""
    shared = _common(_context(own), _context(neighbour))
    if own.generate is not None:
        return len(own.generate.prompt) - shared
    contexts = {score.context for score in own.scores}
    own_read = sum(len(context) for context in contexts) - shared
    return own_read + sum(len(score.continuation) for score in own.scores)


def _context(question: Question) -> str:
    if question.generate is not None:
        return question.generate.prompt
    return question.scores[0].context if question.scores else ""


def _common(one: str, other: str) -> int:
    """Characters that both begin with; the whole text when they are equal counts as nothing."""
    if one == other:
        return 0
    size = min(len(one), len(other))
    return next((i for i in range(size) if one[i] != other[i]), size)
