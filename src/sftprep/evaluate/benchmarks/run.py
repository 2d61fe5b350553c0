"""The benchmark stage: every task on the fine-tuned checkpoint and on the base model.

One model is loaded at a time, once, and only when some benchmark is not finished yet.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sftprep.evaluate.benchmarks.at_work import ModelAtWork
from sftprep.evaluate.benchmarks.data import GREEDY, Plan, Sampling, plan_task, subset_key
from sftprep.evaluate.benchmarks.harness import (
    PREFIX,
    HarnessPlan,
    plan_harness,
    run_harness,
)
from sftprep.evaluate.benchmarks.journal import (
    Answers,
    Journal,
    read_result,
    write_items,
    write_result,
)
from sftprep.evaluate.benchmarks.protocol import Answered, Item, Question, Setting
from sftprep.evaluate.benchmarks.results import build_result, subset_note
from sftprep.evaluate.engine import GenerateRequest, Generation
from sftprep.evaluate.sandbox import UNSAFE, SandboxTier, probe
from sftprep.evaluate.team import leading
from sftprep.evaluate.writing import spelled_end
from sftprep.progress import Progress
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask, Recipe
from sftprep.records import (
    BenchmarkResult,
    ItemRecord,
    TrainResult,
    from_dict,
)
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.fingerprint import fingerprint
from sftprep.store.run import RunFolder, monotonic

ITEMS_PER_SAVE = 512
"""Scored items between two saves; written answers are saved one by one."""

NO_SANDBOX = (
    "not scored: no sandbox holds on this machine (needs Linux with Landlock, or bubblewrap). The "
    "answers are kept: run the stage on the same folder on another machine, or set "
    "benchmarks.allow_unsafe_code: true inside a machine you can lose."
)


def benchmark(
    recipe: Recipe,
    run: RunFolder,
    progress: Progress,
    stop: StopSignal,
    checkpoint: Path | None = None,
) -> dict[str, BenchmarkResult]:
    """Score every task of the recipe; finished ones with unchanged inputs are not redone.

    Writes benchmarks/NAME.json, NAME.items.jsonl.gz, and the base model's below benchmarks/base/.

    Args:
        checkpoint: the model to score; default: the one that the train stage chose.
    Returns:
        The fine-tuned model's results by name.
    Raises:
        StoreError: the train stage has not finished.
        RecipeError, EvaluationError: an unknown benchmark, missing data, non-finite scores.
        Interrupted: a stop was requested; finished items are kept.
    """
    section = recipe.benchmarks
    plans = [make_plan(task, section) for task in section.tasks]
    if checkpoint is None:
        checkpoint = run.root / from_dict(TrainResult, read_json(run.train_result)).checkpoint
    runs_code = any(isinstance(p, Plan) and p.benchmark.protocol.runs_code for p in plans)
    tier = sandbox_tier(section) if runs_code else None
    budget = section.max_tokens_per_batch
    with leading() as team:
        common = (recipe.model, budget, team, section.engine)
        sft = ModelAtWork("SFT model", str(checkpoint), run.benchmarks, *common)
        results = score_model(sft, plans, tier, progress, stop)
        if section.base_model:
            base_ref, base_folder = recipe.model.base, run.benchmarks / "base"
            sft.loaded = sft.loaded_writer = None
            base = ModelAtWork("base model", base_ref, base_folder, *common)
            score_model(base, plans, tier, progress, stop)
    return results


def make_plan(task: BenchmarkTask, section: BenchmarksSection) -> Plan | HarnessPlan:
    """One entry of the recipe: an own protocol, or a task of lm-eval."""
    if task.name.startswith(PREFIX):
        return plan_harness(task, section)
    return plan_task(task, section)


def sandbox_tier(section: BenchmarksSection) -> SandboxTier | None:
    """The sandbox that holds here; UNSAFE only if none does and the recipe allows it by name."""
    tier = probe()
    return UNSAFE if tier is None and section.allow_unsafe_code else tier


def score_model(
    model: ModelAtWork,
    plans: Sequence[Plan | HarnessPlan],
    tier: SandboxTier | None,
    progress: Progress,
    stop: StopSignal,
) -> dict[str, BenchmarkResult]:
    """All benchmarks of one model."""
    results = {}
    for plan in plans:
        stop.check(f"starting {plan.name} on the {model.label}")
        if isinstance(plan, HarnessPlan):
            results[plan.name] = score_harness(model, plan, progress, stop)
        else:
            results[plan.name] = score_plan(model, plan, tier, progress, stop)
    return results


def score_plan(
    model: ModelAtWork,
    plan: Plan,
    tier: SandboxTier | None,
    progress: Progress,
    stop: StopSignal,
) -> BenchmarkResult:
    """One benchmark of one model: taken from disk, continued, or done."""
    runs_code = plan.benchmark.protocol.runs_code
    settings = describe(plan, model, tier if runs_code else None)
    path = model.folder / f"{plan.name}.json"
    items_path = model.folder / f"{plan.name}.items.jsonl.gz"
    journal = Journal(model.folder / f"{plan.name}.items.partial.jsonl", settings["key"])
    partial = model.folder / f"{plan.name}.answers.partial.jsonl"
    answers = Answers(partial, settings["answers_key"])

    def forget(note: str | None) -> None:
        journal.remove()
        if note != NO_SANDBOX:
            answers.remove()

    finished = read_result(path, settings["key"])
    if finished is not None and items_path.is_file():
        forget(finished.note)  # a kill right after the result was written left them
        return finished
    started = monotonic()
    records: list[ItemRecord] = []
    note: str | None = NO_SANDBOX
    if runs_code and tier is None:
        progress.line(f"{plan.name}: {NO_SANDBOX}")
        write_answers(model, plan, range(len(plan.items)), answers, progress, stop)
    else:
        records = answer_all(model, plan, tier, journal, answers, progress, stop)
        note = subset_note(plan, records)
    result = build_result(plan, model.ref, model.who(), records, settings, note)
    result = replace(result, seconds=monotonic() - started)
    write_items(items_path, records)
    write_result(path, result)
    forget(note)
    return result


def score_harness(
    model: ModelAtWork, plan: HarnessPlan, progress: Progress, stop: StopSignal
) -> BenchmarkResult:
    """One task of lm-eval: taken from disk, or done as a whole."""
    path = model.folder / f"{plan.name}.json"
    items_path = model.folder / f"{plan.name}.items.jsonl.gz"
    finished = read_result(path, plan.settings(model.who())["key"])
    if finished is not None and items_path.is_file():
        return finished
    started = monotonic()
    result, records = run_harness(plan, model.engine(), model.ref, model.who(), progress, stop)
    result = replace(result, seconds=monotonic() - started)
    write_items(items_path, records)
    write_result(path, result)
    return result


def describe(plan: Plan, model: ModelAtWork, tier: SandboxTier | None) -> dict[str, Any]:
    """What was asked of whom, with the key that says whether it was already done.

    `answers_key` leaves the sandbox out: answers stay good when they are judged on another machine.
    """
    benchmark_row = plan.benchmark
    settings: dict[str, Any] = {
        "protocol": plan.protocol_id,
        "few_shot": plan.few_shot,
        "form": benchmark_row.protocol.form,
        "chat_template": benchmark_row.protocol.uses_chat_template,
        "data": plan.data_sha256,
        "source": plan.source,
        "items": subset_key(plan),
    }
    engine = model.writer_name() if benchmark_row.protocol.form == "generation" else None
    if engine is not None:
        settings["engine"] = engine
    if plan.sampling != GREEDY:
        settings["sampling"] = asdict(plan.sampling)
    decides = {name: value for name, value in settings.items() if name != "source"}
    settings["answers_key"] = fingerprint(decides, model.who().hashes())
    if benchmark_row.protocol.runs_code:
        settings["sandbox"] = decides["sandbox"] = None if tier is None else tier.name
    settings["key"] = fingerprint(decides, model.who().hashes())
    return settings


def answer_all(
    model: ModelAtWork,
    plan: Plan,
    tier: SandboxTier | None,
    journal: Journal,
    answers: Answers,
    progress: Progress,
    stop: StopSignal,
) -> list[ItemRecord]:
    """Records of all items in order; those in the journal are not asked again."""
    done = journal.start()
    places = [place for place in range(len(plan.items)) if place not in done]
    written: dict[int, Answered] = {}
    if plan.benchmark.protocol.form == "generation" and places:
        written = write_answers(model, plan, places, answers, progress, stop)
    for first in range(0, len(places), ITEMS_PER_SAVE):
        stop.check(f"scoring {plan.name} on the {model.label}")
        chunk = places[first : first + ITEMS_PER_SAVE]
        label = f"{plan.name}, {model.label}, item {len(done) + 1} of {len(plan.items)}"
        setting = model.setting(tier)
        if plan.benchmark.protocol.form == "choice":
            items = [plan.items[place] for place in chunk]
            answered = score_items(model, plan, items, setting, progress, stop, label)
        else:
            answered = [written[place] for place in chunk]
        records = plan.benchmark.protocol.judge(answered, setting)
        journal.append(zip(chunk, records, strict=True))
        done.update(zip(chunk, records, strict=True))
    return [done[place] for place in range(len(plan.items))]


def score_items(
    model: ModelAtWork,
    plan: Plan,
    items: Sequence[Item],
    setting: Setting,
    progress: Progress,
    stop: StopSignal,
    label: str,
) -> list[Answered]:
    """Log-likelihoods of all continuations of these items."""
    questions = [plan.benchmark.protocol.ask(item, setting) for item in items]
    flat = [request for question in questions for request in question.scores]
    scores = iter(model.engine().score(flat, progress, stop, label))
    return [
        Answered(item, question, tuple(next(scores) for _ in question.scores))
        for item, question in zip(items, questions, strict=True)
    ]


def write_answers(
    model: ModelAtWork,
    plan: Plan,
    places: Sequence[int],
    answers: Answers,
    progress: Progress,
    stop: StopSignal,
) -> dict[int, Answered]:
    """Answers of these items; each is on disk as soon as it is written.

    All are asked in one call, so that no row waits for the longest answer of a group.
    """
    setting = model.setting(None)
    asked = {
        place: sampled(plan.benchmark.protocol.ask(plan.items[place], setting), plan.sampling)
        for place in places
    }
    found = answers.start()
    ends = spelled_end(model.tokenizer())
    requests: dict[tuple[int, int], GenerateRequest] = {}
    for place, question in asked.items():
        for number, request in enumerate(question.requests(plan.items[place])):
            if (place, number) not in found:
                requests[place, number] = replace(request, stop=(*request.stop, *ends))
    keys = [*requests]

    def finished(number: int, answer: Generation) -> None:
        found[keys[number]] = answer
        answers.append(*keys[number], answer)

    if keys:
        label = f"{plan.name}, {model.label}"
        model.writer().generate([*requests.values()], progress, stop, label, finished)
    answered = {}
    for place, question in asked.items():
        first, *further = [found[place, number] for number in range(question.samples)]
        answered[place] = Answered(
            plan.items[place], question, generation=first, further=tuple(further)
        )
    return answered


def sampled(question: Question, sampling: Sampling) -> Question:
    """The question with the samples and the temperature the recipe asks for."""
    if question.generate is None or sampling == GREEDY:
        return question
    request = replace(question.generate, temperature=sampling.temperature, top_p=sampling.top_p)
    return replace(question, generate=request, samples=sampling.samples)
