"""The pass criteria, one pure function each. The healthy condition is stated, so NaN fails."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sftprep.comparison.paired import shares_effect
from sftprep.comparison.pairs import scores_effect
from sftprep.errors import SftprepError
from sftprep.gate import remedies
from sftprep.gate.evidence import Evidence
from sftprep.recipe.sections import Recipe
from sftprep.records import Metric, Verdict, VerdictStatus

RELOAD_TOLERANCE = 1e-4  # relative; same weights, same rows: only summation order may differ
STOPPED_WELL = ("completed", "early_stop")

Rule = Callable[[Recipe, Evidence], Verdict]


@dataclass(frozen=True, slots=True)
class Found:
    """What one rule found: the words that fill a verdict."""

    status: VerdictStatus
    measured: str
    required: str
    why: str
    remedy: str = ""

    def verdict(self, rule: str, unit: str) -> Verdict:
        """The public record; a passing rule needs no remedy."""
        remedy = "" if self.status == "pass" else self.remedy
        return Verdict(rule, self.status, self.measured, self.required, unit, self.why, remedy)


def not_recorded(evidence: Evidence, stage: str, required: str, command: str) -> Found:
    """A measurement that is not there never passes; says whether it is absent or unreadable."""
    why = evidence.problems.get(stage) or f"the {stage} stage has recorded nothing"
    return Found("missing", "not recorded", required, why, f"run `sftprep {command} RUN`")


def training_completed(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Training ended on its own terms, with a finite loss and no stopping red flag."""
    required = "completed or early stop, finite final loss"
    train = evidence.train
    if train is None:
        found = not_recorded(evidence, "train", required, "train")
        return found.verdict("training_completed", "state")
    loss = train.final_loss_nats
    stops = [flag for flag in train.flags if flag.action == "stop"]
    measured = f"{train.stopped} at step {train.steps} of {train.planned_steps}, " + (
        "no final loss" if loss is None else f"final loss {loss:.4g}"
    )
    finite = loss is not None and math.isfinite(loss)
    if train.stopped in STOPPED_WELL and finite and not stops:
        found = Found("pass", measured, required, "training ended as planned")
    else:
        why = f"red flag '{stops[-1].id}': {stops[-1].evidence}" if stops else (
            f"training stopped by '{train.stopped}'" if finite else "the final loss is not finite"
        )  # fmt: skip
        found = Found("fail", measured, required, why, remedies.for_training(recipe, evidence))
    return found.verdict("training_completed", "state")


def validation_perplexity(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Held-out perplexity is below the limit and below the base model's."""
    limit = recipe.gate.max_validation_perplexity
    required = f"< {limit:g} and below the base model"
    validation = evidence.validation
    if validation is None:
        found = not_recorded(evidence, "validation", required, "validate")
    elif validation.base is None:
        why = "the base model was not measured on the same rows"
        measured = f"{validation.sft.perplexity:.4g}"
        found = Found("missing", measured, required, why, "run `sftprep validate RUN` again")
        if not validation.sft.perplexity < limit:
            found = Found("fail", measured, required, "above the limit",
                          remedies.for_perplexity(recipe, evidence))  # fmt: skip
    else:
        sft, base = validation.sft.perplexity, validation.base.perplexity
        measured = f"{sft:.4g} (base {base:.4g})"
        below_limit, below_base = sft < limit, sft < base
        if below_limit and below_base:
            why = f"below the limit and below the base model{_p_of_perplexity(recipe, evidence)}"
            found = Found("pass", measured, required, why)
        else:
            why = "not below the limit" if not below_limit else "not below the base model"
            remedy = remedies.for_perplexity(recipe, evidence)
            found = Found("fail", measured, required, why, remedy)
    return found.verdict("validation_perplexity", "perplexity")


def _p_of_perplexity(recipe: Recipe, evidence: Evidence) -> str:
    """The paired test of "not below base" over the held-out rows, as an addition to the reason.

    Empty without rows, or when the two models count tokens differently.
    """
    try:
        base, sft = evidence.nats(base=True), evidence.nats(base=False)
        same = sft is not None and base is not None and sft.weights == base.weights
        effect = scores_effect(sft, base, recipe.gate.confidence) if sft and base and same else None
    except SftprepError:
        return ""  # rows that cannot be read say nothing; the rule rests on the two perplexities
    return f" ({effect.n:,} paired rows, p {p_text(effect.p_worse)})" if effect else ""


def instruction_following(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Accuracy on held-out instructions reaches the threshold and is above base beyond chance."""
    threshold, confidence = recipe.gate.min_instruction_following, recipe.gate.confidence
    required = f">= {threshold:.0%} and above base at {confidence:.0%} confidence"
    validation = evidence.validation
    if validation is None:
        found = not_recorded(evidence, "validation", required, "validate")
        return found.verdict("instruction_following", "share")
    sft = validation.sft.instruction_following
    base = validation.base.instruction_following if validation.base else None
    measured = f"{_share(sft)} (base {_share(base)}, n {sft.n})"
    remedy = remedies.for_instructions(recipe, evidence)
    if sft.value is None:
        why = "no instruction was scored"
        found = Found("missing", measured, required, why, "run `sftprep validate RUN` again")
    elif not sft.value >= threshold:
        found = Found("fail", measured, required, "below the threshold", remedy)
    elif base is None or base.value is None or not (sft.n and base.n):
        why = "the base model was not measured on the same instructions"
        found = Found("missing", measured, required, why, "run `sftprep validate RUN` again")
    else:
        found = _above_base(evidence, sft, base, confidence, measured, required, remedy)
    return found.verdict("instruction_following", "share")


def _above_base(
    evidence: Evidence,
    sft: Metric,
    base: Metric,
    confidence: float,
    measured: str,
    required: str,
    remedy: str,
) -> Found:
    try:
        p_value, how = _p_not_above(evidence, sft, base, confidence)
    except SftprepError as error:
        again = "run `sftprep validate RUN` again"
        return Found("missing", measured, required, str(error), again)
    if p_value <= 1 - confidence:
        why = f"above base, one-sided p {p_text(p_value)} ({how})"
        return Found("pass", measured, required, why)
    why = f"not above base beyond chance (one-sided p {p_text(p_value)}, {how})"
    return Found("fail", measured, required, why, remedy)


def _p_not_above(
    evidence: Evidence, sft: Metric, base: Metric, confidence: float
) -> tuple[float, str]:
    """One-sided p of "SFT is not better than base" and how it was tested; NaN counts as 1.

    Paired on the prompts when their outcomes were kept, else as two separate shares.
    """
    assert sft.value is not None and base.value is not None
    if not (0 <= sft.value <= 1 and 0 <= base.value <= 1):
        return 1.0, "not a share"
    after, before = evidence.followed(base=False), evidence.followed(base=True)
    effect = scores_effect(after, before, confidence) if after and before else None
    if effect is not None:
        return effect.p_worse, f"{effect.n} paired prompts"
    return shares_effect(sft.value, sft.n, base.value, base.n, confidence).p_worse, "not paired"


def p_text(p_value: float) -> str:
    """A p-value as people write it."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def _share(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "not measured"
    return f"{100 * metric.value:.1f}%"


def responses_coherent(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Answers end by themselves, are not empty and do not loop."""
    gate = recipe.gate
    required = (
        f"stopped >= {gate.min_stop_rate:.0%}, empty <= {gate.max_empty_rate:.0%}, "
        f"repetitive <= {gate.max_repetitive_rate:.0%}"
    )
    validation = evidence.validation
    if validation is None:
        found = not_recorded(evidence, "validation", required, "validate")
        return found.verdict("responses_coherent", "share")
    rates = validation.sft.rates
    names = ("stopped", "empty", "repetitive")
    absent = [name for name in names if name not in rates]
    measured = ", ".join(f"{name} {100 * rates[name]:.1f}%" for name in names if name in rates)
    if absent:
        why = f"not measured: {', '.join(absent)}"
        found = Found("missing", measured or "not recorded", required, why,
                      "run `sftprep validate RUN` again")  # fmt: skip
        return found.verdict("responses_coherent", "share")
    healthy = {
        "stopped": rates["stopped"] >= gate.min_stop_rate,
        "empty": rates["empty"] <= gate.max_empty_rate,
        "repetitive": rates["repetitive"] <= gate.max_repetitive_rate,
    }
    wrong = [name for name in names if not healthy[name]]
    if wrong:
        remedy = remedies.for_coherence(wrong)
        found = Found("fail", measured, required, f"outside its limit: {', '.join(wrong)}", remedy)
    else:
        found = Found("pass", measured, required, "all three rates within their limits")
    return found.verdict("responses_coherent", "share")


def checkpoint_saved(recipe: Recipe, evidence: Evidence) -> Verdict:
    """The exported checkpoint is intact and, loaded again, gives the recorded perplexity."""
    required = f"intact files, reloads to the same perplexity (relative {RELOAD_TOLERANCE:g})"
    saved = evidence.checkpoint
    if saved is None:
        found = not_recorded(evidence, "checkpoint", required, "save")
        return found.verdict("checkpoint_saved", "perplexity")
    recorded, again = saved.perplexity_recorded, saved.perplexity_reloaded
    measured = f"recorded {recorded:.6g}, reloaded {again:.6g}"
    remedy = "run `sftprep save RUN` again; if it stays, `sftprep run RUN --from validate`"
    if saved.fault is not None:
        found = Found("fail", measured, required, saved.fault, remedy)
    elif not saved.loads:
        found = Found("fail", measured, required, "the checkpoint does not load", remedy)
    elif recorded > 0 and abs(again / recorded - 1) <= RELOAD_TOLERANCE:
        found = Found("pass", measured, required, "files match their manifest and reload")
    else:
        why = "the reloaded model is not the validated one"
        found = Found("fail", measured, required, why, remedy)
    return found.verdict("checkpoint_saved", "perplexity")


def data_sufficient(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Enough rows survived the checks, and enough different prompts among them."""
    minimum = recipe.data.minimum_rows
    required = f">= {minimum:,} rows and unique prompts"
    if evidence.data is None:
        found = not_recorded(evidence, "data", required, "data")
        return found.verdict("data_sufficient", "rows")
    rows, prompts = evidence.data.ledger.kept, evidence.data.unique_prompts
    measured = f"{rows:,} rows, {prompts:,} unique prompts"
    if rows >= minimum and prompts >= minimum:
        found = Found("pass", measured, required, "enough rows and prompts")
    else:
        why = "too few rows" if not rows >= minimum else "too few different prompts"
        remedy = remedies.for_data(recipe, evidence)
        found = Found("fail", measured, required, why, remedy)
    return found.verdict("data_sufficient", "rows")


def data_not_leaking(recipe: Recipe, evidence: Evidence) -> Verdict:
    """No training row has a twin among the held-out rows."""
    required = "0 leaked pairs, held-out rows present"
    if evidence.data is None:
        found = not_recorded(evidence, "data", required, "data")
        return found.verdict("data_not_leaking", "pairs")
    pairs, held_out = evidence.data.leaked_pairs, evidence.data.validation
    measured = f"{pairs} leaked pairs, {held_out:,} held-out rows"
    if pairs == 0 and held_out > 0:
        found = Found("pass", measured, required, "train and held-out rows are disjoint")
    elif pairs == 0:
        remedy = "raise data.validation_fraction or add data"
        found = Found("missing", measured, required, "nothing was held out", remedy)
    else:
        why = "training rows have near twins in the held-out set, so perplexity is too good"
        remedy = "lower data.near_duplicate_threshold, then run `sftprep run RUN --from data`"
        found = Found("fail", measured, required, why, remedy)
    return found.verdict("data_not_leaking", "pairs")


def data_not_contaminated(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Training rows do not hold items of the benchmarks."""
    limit = recipe.gate.max_contaminated
    required = f"<= {limit} rows that overlap benchmark items"
    if evidence.data is None:
        found = not_recorded(evidence, "data", required, "data")
        return found.verdict("data_not_contaminated", "rows")
    counts = evidence.data.contaminated
    total = sum(counts.values())
    unchecked = [task.name for task in recipe.benchmarks.tasks if task.name not in counts]
    measured = f"{total} overlapping rows" + (
        f" ({', '.join(f'{name} {n}' for name, n in counts.items() if n)})" if total else ""
    )
    if not total <= limit:
        why = "benchmark items in the training data make their scores too good"
        remedy = "set data.checks.contaminated.action: drop, then run `sftprep run RUN --from data`"
        found = Found("fail", measured, required, why, remedy)
    elif unchecked:
        why = f"not checked against {', '.join(unchecked)}"
        remedy = "set benchmarks.data_dir (or the tasks' paths), then `sftprep run RUN --from data`"
        found = Found("missing", measured, required, why, remedy)
    else:
        found = Found("pass", measured, required, "within the limit")
    return found.verdict("data_not_contaminated", "rows")
