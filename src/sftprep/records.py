"""The records that cross a stage or touch disk. Frozen; their keys are API.

Missing is `None`, never 0, "" or NaN. Losses are natural logarithms (nats), shares and accuracies
lie in 0..1; percentages appear only in reports and in the flat keys of `baseline_metrics.json`.
"""

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, cast

RECORD_VERSION = 1

Role = Literal["system", "user", "assistant", "tool"]
Outcome = Literal["correct", "wrong", "unparsed", "error"]
VerdictStatus = Literal["pass", "fail", "missing"]
GateStatus = Literal["pass", "fail", "undecidable"]
FlagAction = Literal["warn", "stop", "skip", "rollback", "lower_rate"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `train` marks turns whose tokens may be supervised."""

    role: Role
    content: str
    train: bool


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where a row came from: `line` is 1-based (a row number for files without lines)."""

    dataset: str
    file: str
    line: int
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation that may be trained on.

    `id` is the first 16 hex digits of sha256 over the canonical messages.
    """

    id: str
    source: SourceRef
    messages: tuple[Message, ...]
    tools: str | None = None
    category: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a check fired: `id` says what is wrong (`response_empty`), `evidence` shows it."""

    id: str
    evidence: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that does not train, kept with every reason. `kept_id`: the twin that stayed."""

    source: SourceRef
    raw: str
    reasons: tuple[Reason, ...]
    example_id: str | None = None
    kept_id: str | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rows in = kept + rejected (by first reason) + quarantined + merged."""

    read: int
    kept: int
    rejected: Mapping[str, int]
    quarantined: int
    merged: int

    @property
    def balanced(self) -> bool:
        """True when no row is lost and none is counted twice."""
        out = self.kept + sum(self.rejected.values()) + self.quarantined + self.merged
        return self.read == out


@dataclass(frozen=True, slots=True)
class DataReport:
    """What the data stage did. `sections` holds what the HTML report shows beside the numbers."""

    ledger: Ledger
    train: int
    validation: int
    unique_prompts: int
    leaked_pairs: int
    contaminated: Mapping[str, int]
    flagged: Mapping[str, int]
    sections: Mapping[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step. Loss is a sum and a count, never a mean of means.

    `memory_bytes`: peak of the step on a GPU, resident memory after it on a CPU.
    `sensitivity_nats`: held-out NLL per token under another row's instruction minus under the own.
    """

    step: int
    loss_sum_nats: float
    tokens_supervised: int
    tokens_real: int
    tokens_padding: int
    learning_rate: float
    grad_norm: float
    seconds: float
    memory_bytes: int | None = None
    validation_sum_nats: float | None = None
    validation_tokens: int | None = None
    sensitivity_nats: float | None = None

    @property
    def loss_nats(self) -> float:
        """Mean loss per supervised token; NaN when nothing was supervised."""
        return self.loss_sum_nats / self.tokens_supervised if self.tokens_supervised else math.nan

    @property
    def validation_loss_nats(self) -> float | None:
        """Mean held-out loss per supervised token, or None when not measured at this step."""
        if self.validation_sum_nats is None or not self.validation_tokens:
            return None
        return self.validation_sum_nats / self.validation_tokens


@dataclass(frozen=True, slots=True)
class RedFlag:
    """Something a person should know while it runs, with its remedy."""

    id: str
    step: int
    evidence: str
    cause: str
    remedy: str
    action: FlagAction


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How training ended. `stopped`: completed | early_stop | red_flag | max_time."""

    stopped: str
    steps: int
    planned_steps: int
    final_loss_nats: float | None
    base_validation_loss_nats: float | None
    best_validation_loss_nats: float | None
    best_validation_step: int | None
    best_train_step: int | None
    seconds: float
    tokens_real: int
    tokens_supervised: int
    checkpoint: str
    flags: tuple[RedFlag, ...] = ()
    started: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured number with what is needed to trust and compare it.

    `value`, `stderr`, `ci95` and `chance` are in the unit named by `unit` (shares are 0..1).
    `complete` is true only for the full published set. `value` None means not scored.
    """

    value: float | None
    stderr: float | None
    ci95: tuple[float, float] | None
    n: int
    n_total: int
    complete: bool
    chance: float | None
    protocol: str
    few_shot: int = 0
    unit: str = "share"
    higher_is_better: bool = True
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One benchmark item as scored; good enough for paired statistics later."""

    id: str
    cluster: str
    outcome: Outcome
    score: float | None
    prediction: str | None
    gold: str
    loglikelihoods: tuple[float, ...] | None
    text: str | None
    prompt_sha256: str
    extra: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One benchmark on one model: headline metrics and counts of the four outcomes."""

    name: str
    headline: str
    metrics: Mapping[str, Metric]
    outcomes: Mapping[str, int]
    seconds: float
    model: str
    typical_range: tuple[float, float] | None = None
    note: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Token-weighted perplexity of held-out responses; bits per byte compare tokenizers."""

    perplexity: float
    bits_per_byte: float
    nll_nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelValidation:
    """One model on the held-out data.

    `rates`: shares in 0..1 by name: stopped, empty, repetitive, over_long, language_match.
    `sensitivity_nats`: mean NLL per token of a response under a swapped instruction minus under its
    own; about 0 for a model that ignores instructions.
    """

    perplexity: float
    bits_per_byte: float
    nll_nats: float
    tokens: int
    bytes: int
    instruction_following: Metric
    rates: Mapping[str, float]
    by_category: Mapping[str, Any] = field(default_factory=dict)
    sensitivity_nats: float | None = None
    by_source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Base and SFT model on the same held-out data."""

    sft: ModelValidation
    base: ModelValidation | None
    seconds: float
    rows: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt answered by base and SFT, side by side."""

    prompt: str
    reference: str | None
    base: str | None
    sft: str
    category: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate rule: what was measured, what is required, and the remedy."""

    rule: str
    status: VerdictStatus
    measured: str
    required: str
    unit: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """All rules. A missing measurement never passes: it makes the gate undecidable.

    `judged`: fingerprint of each stage whose records were looked at, as run.json had them.
    """

    verdict: GateStatus
    rules: tuple[Verdict, ...]
    version: int = RECORD_VERSION
    judged: Mapping[str, str] = field(default_factory=dict)


def to_dict(record: Any) -> dict[str, Any]:
    """Plain JSON-ready values of a record (tuples become lists)."""
    return asdict(record)


def to_json(record: Any) -> str:
    """One line of strict JSON. Raises ValueError on NaN or Inf: they are never written."""
    return json.dumps(asdict(record), ensure_ascii=False, allow_nan=False, sort_keys=False)


@cache
def _adapter(kind: Hashable) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cast(Any, kind))


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild a record; pydantic checks the types.

    Raises:
        pydantic.ValidationError: a key is missing or a value has the wrong type.
    """
    record: T = _adapter(cast(Hashable, kind)).validate_python(dict(values))
    return record
