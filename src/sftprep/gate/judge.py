"""The quality gate: every rule of the table on the recorded evidence, written to gate.json."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sftprep.errors import SftprepError
from sftprep.gate import benchmark_rules, rules
from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.gate.rules import Rule
from sftprep.recipe.sections import Recipe
from sftprep.records import GateResult, GateStatus, Verdict, to_dict
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder

# Rule id -> its function. Ids are public; the order is the report's.
GATE_RULES: Mapping[str, Rule] = {
    "training_completed": rules.training_completed,
    "validation_perplexity": rules.validation_perplexity,
    "instruction_following": rules.instruction_following,
    "responses_coherent": rules.responses_coherent,
    "benchmarks_recorded": benchmark_rules.benchmarks_recorded,
    "no_forgetting": benchmark_rules.no_forgetting,
    "checkpoint_saved": rules.checkpoint_saved,
    "data_sufficient": rules.data_sufficient,
    "data_not_leaking": rules.data_not_leaking,
    "data_not_contaminated": rules.data_not_contaminated,
}

JUDGED_STAGES = ("data", "train", "validate", "benchmark", "save")


def judge(recipe: Recipe, run: RunFolder, table: Mapping[str, Rule] = GATE_RULES) -> GateResult:
    """Apply every rule and write gate.json.

    Args:
        table: rules by id; a caller may pass a longer one.
    Raises:
        StoreError: gate.json cannot be written.
    """
    result = judged(recipe, load_evidence(run), table)
    with suppress(SftprepError):  # without a readable run.json nothing says what was judged
        result = replace(result, judged=finished(run.stages()))
    write_json(run.gate, to_dict(result))
    return result


def finished(stages: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the finished stages that the gate looks at, from the table of run.json."""
    return {
        name: str(stages[name].get("fingerprint"))
        for name in JUDGED_STAGES
        if name in stages and stages[name].get("status") == "done"
    }


def outdated(judged: Mapping[str, str], stages: Mapping[str, Any]) -> bool:
    """Whether a stage that was judged has been redone with other inputs, or is being redone."""
    now = finished(stages)
    return any(now.get(name) != fingerprint for name, fingerprint in judged.items())


def judged(
    recipe: Recipe, evidence: Evidence, table: Mapping[str, Rule] = GATE_RULES
) -> GateResult:
    """The verdicts of all rules on loaded evidence; writes nothing."""
    verdicts = tuple(rule(recipe, evidence) for rule in table.values())
    return GateResult(verdict=overall(verdicts), rules=verdicts)


def overall(verdicts: Sequence[Verdict]) -> GateStatus:
    """Fail wins over missing, missing over pass; no rule at all is not a pass."""
    found = {verdict.status for verdict in verdicts}
    if "fail" in found:
        return "fail"
    return "pass" if found == {"pass"} else "undecidable"
