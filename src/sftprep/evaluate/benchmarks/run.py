"""The benchmark stage: every task on the fine-tuned checkpoint and on the base model.

One model is loaded at a time, once, and only when some benchmark is not finished yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sftprep.evaluate.benchmarks.data import Plan, plan_task, subset_key
from sftprep.evaluate.benchmarks.identity import ModelIdentity, identify
from sftprep.evaluate.benchmarks.journal import Journal, read_result, write_items, write_result
from sftprep.evaluate.benchmarks.protocol import Answered, Item, Question, Setting
from sftprep.evaluate.benchmarks.results import build_result, subset_note
from sftprep.evaluate.engine import Engine, load_engine
from sftprep.evaluate.sandbox import UNSAFE, SandboxTier, probe
from sftprep.progress import Progress
from sftprep.recipe.sections import BenchmarksSection, ModelSection, Recipe
from sftprep.records import (
    BenchmarkResult,
    ItemRecord,
    Message,
    TrainResult,
    from_dict,
)
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.fingerprint import fingerprint
from sftprep.store.run import RunFolder, monotonic

CHOICE_ITEMS = 512
GENERATION_ITEMS = 64
"""Items between two saves of finished work."""

NO_SANDBOX = (
    "not scored: no sandbox holds on this machine (needs Linux with Landlock, or bubblewrap). Run "
    "the stage on another machine, or set benchmarks.allow_unsafe_code: true inside a machine you "
    "can lose."
)


@dataclass
class ModelAtWork:
    """One model of the stage; its weights are loaded at the first question."""

    label: str
    ref: str
    folder: Path
    section: ModelSection
    max_tokens_per_batch: int
    loaded: Engine | None = None
    identity: ModelIdentity | None = None

    def engine(self) -> Engine:
        """The engine, loaded once."""
        if self.loaded is None:
            self.loaded = load_engine(
                self.ref, self.section, max_tokens_per_batch=self.max_tokens_per_batch
            )
        return self.loaded

    def who(self) -> ModelIdentity:
        """Hashes of the model; loads it only when its files cannot be found."""
        if self.identity is None:
            found = identify(self.ref, self.section, self.loaded)
            self.identity = found or identify(self.ref, self.section, self.engine())
            assert self.identity is not None
        return self.identity

    def setting(self, tier: SandboxTier | None) -> Setting:
        """Chat template and sandbox for the protocols."""
        from sftprep.data.render import prompt_text

        tokenizer = self.engine().tokenizer

        def chat(text: str) -> str:
            return prompt_text([Message("user", text, False)], tokenizer)

        return Setting(chat, tier)


def benchmark(
    recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal
) -> dict[str, BenchmarkResult]:
    """Score every task of the recipe; finished ones with unchanged inputs are not redone.

    Writes benchmarks/NAME.json, NAME.items.jsonl.gz, and the base model's below benchmarks/base/.

    Returns:
        The fine-tuned model's results by name.
    Raises:
        StoreError: the train stage has not finished.
        RecipeError, EvaluationError: an unknown benchmark, missing data, non-finite scores.
        Interrupted: a stop was requested; finished items are kept.
    """
    section = recipe.benchmarks
    plans = [plan_task(task, section) for task in section.tasks]
    trained = from_dict(TrainResult, read_json(run.train_result))
    tier = sandbox_tier(section) if any(p.benchmark.protocol.runs_code for p in plans) else None
    budget = section.max_tokens_per_batch
    checkpoint = str(run.root / trained.checkpoint)
    sft = ModelAtWork("SFT model", checkpoint, run.benchmarks, recipe.model, budget)
    results = score_model(sft, plans, tier, progress, stop)
    if section.base_model:
        base_ref, base_folder = recipe.model.base, run.benchmarks / "base"
        sft.loaded = None
        base = ModelAtWork("base model", base_ref, base_folder, recipe.model, budget)
        score_model(base, plans, tier, progress, stop)
    return results


def sandbox_tier(section: BenchmarksSection) -> SandboxTier | None:
    """The sandbox that holds here; UNSAFE only if none does and the recipe allows it by name."""
    tier = probe()
    return UNSAFE if tier is None and section.allow_unsafe_code else tier


def score_model(
    model: ModelAtWork,
    plans: Sequence[Plan],
    tier: SandboxTier | None,
    progress: Progress,
    stop: StopSignal,
) -> dict[str, BenchmarkResult]:
    """All benchmarks of one model."""
    results = {}
    for plan in plans:
        stop.check(f"starting {plan.name} on the {model.label}")
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
    settings = describe(plan, model.who(), tier if runs_code else None)
    path = model.folder / f"{plan.name}.json"
    items_path = model.folder / f"{plan.name}.items.jsonl.gz"
    finished = read_result(path, settings["key"])
    if finished is not None and items_path.is_file():
        return finished
    started = monotonic()
    records: list[ItemRecord] = []
    note: str | None = NO_SANDBOX
    journal = Journal(model.folder / f"{plan.name}.items.partial.jsonl", settings["key"])
    if runs_code and tier is None:
        progress.line(f"{plan.name}: {NO_SANDBOX}")
    else:
        records = answer_all(model, plan, tier, journal, progress, stop)
        note = subset_note(plan, records)
    result = build_result(plan, model.ref, model.who(), records, settings, note)
    result = replace(result, seconds=monotonic() - started)
    write_items(items_path, records)
    write_result(path, result)
    journal.remove()
    return result


def describe(plan: Plan, who: ModelIdentity, tier: SandboxTier | None) -> dict[str, Any]:
    """What was asked of whom, with the key that says whether it was already done."""
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
    if benchmark_row.protocol.runs_code:
        settings["sandbox"] = None if tier is None else tier.name
    decides = {name: value for name, value in settings.items() if name != "source"}
    settings["key"] = fingerprint(decides, who.hashes())
    return settings


def answer_all(
    model: ModelAtWork,
    plan: Plan,
    tier: SandboxTier | None,
    journal: Journal,
    progress: Progress,
    stop: StopSignal,
) -> list[ItemRecord]:
    """Records of all items in order; those in the journal are not asked again."""
    done = journal.start()
    places = [place for place in range(len(plan.items)) if place not in done]
    size = CHOICE_ITEMS if plan.benchmark.protocol.form == "choice" else GENERATION_ITEMS
    for first in range(0, len(places), size):
        stop.check(f"scoring {plan.name} on the {model.label}")
        chunk = places[first : first + size]
        label = f"{plan.name}, {model.label}, item {len(done) + 1} of {len(plan.items)}"
        items = [plan.items[place] for place in chunk]
        records = answer(model, plan, items, tier, progress, stop, label)
        journal.append(zip(chunk, records, strict=True))
        done.update(zip(chunk, records, strict=True))
    return [done[place] for place in range(len(plan.items))]


def answer(
    model: ModelAtWork,
    plan: Plan,
    items: Sequence[Item],
    tier: SandboxTier | None,
    progress: Progress,
    stop: StopSignal,
    label: str,
) -> list[ItemRecord]:
    """Ask the model and judge what it says."""
    protocol, setting, engine = plan.benchmark.protocol, model.setting(tier), model.engine()
    questions = [protocol.ask(item, setting) for item in items]
    pairs = list(zip(items, questions, strict=True))
    if protocol.form == "choice":
        flat = [request for question in questions for request in question.scores]
        scores = iter(engine.score(flat, progress, stop, label))
        answered = [Answered(i, q, tuple(next(scores) for _ in q.scores)) for i, q in pairs]
    else:
        answered = _generate(engine, pairs, progress, stop, label)
    return protocol.judge(answered, setting)


def _generate(
    engine: Engine,
    pairs: Sequence[tuple[Item, Question]],
    progress: Progress,
    stop: StopSignal,
    label: str,
) -> list[Answered]:
    requests = [q.generate for _, q in pairs if q.generate is not None]
    texts = engine.generate(requests, progress, stop, label)
    return [Answered(i, q, generation=text) for (i, q), text in zip(pairs, texts, strict=True)]
