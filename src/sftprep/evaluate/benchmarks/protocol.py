"""What every benchmark module speaks: items in, questions to the model, judged records out."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sftprep.errors import EvaluationError
from sftprep.evaluate.engine import GenerateRequest, Generation, Score, ScoreRequest
from sftprep.evaluate.sandbox import SandboxTier
from sftprep.records import ItemRecord
from sftprep.store.fingerprint import hash_text

Row = Mapping[str, Any]
K_VALUES = (1, 5, 10, 100)
"""pass@k is given for those of these that the number of samples allows."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with what belongs to it.

    `id`: first 16 hex digits of sha256 over the fields a protocol uses, so that the same question
    from a folder and from the hub has the same id. `shots`: solved examples in the order shown.
    """

    id: str
    cluster: str
    doc: Row
    shots: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked for one item: continuations to score, or a text to write.

    `samples`: how many texts; more than one only with a temperature.
    """

    scores: tuple[ScoreRequest, ...] = ()
    generate: GenerateRequest | None = None

    samples: int = 1

    def requests(self, item: "Item") -> list[GenerateRequest]:
        """One request per sample, each with a seed made of the item and its number alone."""
        assert self.generate is not None, "this protocol scores continuations"
        if self.samples == 1:
            return [self.generate]
        return [
            replace(self.generate, seed=int(hash_text(f"sample {n} of {item.id}")[:8], 16))
            for n in range(self.samples)
        ]

    @property
    def prompt_sha256(self) -> str:
        """Hash of everything the model gets to see."""
        if self.generate is not None:
            return hash_text(self.generate.prompt)
        return hash_text(json.dumps([[r.context, r.continuation] for r in self.scores]))


@dataclass(frozen=True, slots=True)
class Answered:
    """An item with the model's answer: one Score per request, or its Generation(s)."""

    item: Item
    question: Question
    scores: tuple[Score, ...] = ()
    generation: Generation | None = None
    further: tuple[Generation, ...] = ()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All samples, the first one first."""
        return () if self.generation is None else (self.generation, *self.further)

    @property
    def loglikelihoods(self) -> tuple[float, ...]:
        """Scores in request order.

        Raises:
            EvaluationError: one is NaN or infinite; an argmax over it would mean nothing.
        """
        values = tuple(score.loglikelihood for score in self.scores)
        if not all(math.isfinite(value) for value in values):
            raise EvaluationError(
                f"item {self.item.id}: log-likelihoods {values} are not finite: the model is "
                "broken or its precision is too low. Load it in float32, look at the training log."
            )
        return values

    @property
    def text(self) -> str:
        """What the model wrote."""
        assert self.generation is not None, "this protocol scores continuations"
        return self.generation.text


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a question: the chat template as a function, and the sandbox."""

    chat: Callable[[str], str]
    tier: SandboxTier | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One number over all judged items; `metrics.to_metric` turns it into the record."""

    value: float
    stderr: float | None
    ci95: tuple[float, float] | None
    n: int
    chance: float | None


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one kind of benchmark is loaded, asked, judged and measured.

    `load(rows, shots, few_shot)` makes items of parsed rows; `code` hashes are not needed because
    `version` rises with every change that could move a number. `may_sample`: several samples per
    item make sense (pass@k).
    """

    form: Literal["choice", "generation"]
    load: "Load"
    ask: Callable[[Item, Setting], Question]
    judge: Callable[[Sequence[Answered], Setting], list[ItemRecord]]
    measure: Callable[[Sequence[ItemRecord]], dict[str, Measured]]
    uses_chat_template: bool = False
    runs_code: bool = False
    may_sample: bool = False


Load = Callable[[Sequence[Row], Sequence[Row], int], list[Item]]
"""(rows, example rows, examples per prompt) to items."""


def item_id(doc: Row) -> str:
    """First 16 hex digits of sha256 over the canonical JSON of the fields."""
    text = json.dumps(doc, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def need(row: Row, field: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a benchmark row.

    Raises:
        EvaluationError: it is missing or has another type; the message shows the row.
    """
    value = row.get(field)
    if not isinstance(value, kind):
        raise EvaluationError(
            f"benchmark row {json.dumps(row, default=str)[:120]}...: field {field!r} is {value!r}. "
            "Use the file format of the published set (see docs/evaluation.md)."
        )
    return value


def need_texts(row: Row, field: str) -> list[str]:
    """A field that is a list of texts.

    Raises:
        EvaluationError: it is missing, no list, or holds something else; the message shows the row.
    """
    values: list[str] = need(row, field, list)
    for place, value in enumerate(values):
        need({f"{field}[{place}]": value}, f"{field}[{place}]", str)
    return values


def best(values: Sequence[float]) -> int | None:
    """Index of the largest value; None when two share it: a tie is nobody's answer."""
    top = max(values)
    places = [index for index, value in enumerate(values) if value == top]
    return places[0] if len(places) == 1 else None


def per_character(values: Sequence[float], texts: Sequence[str]) -> list[float]:
    """Log-likelihoods divided by the characters of their texts, none of which is empty."""
    return [value / len(text) for value, text in zip(values, texts, strict=True)]


def margin(values: Sequence[float]) -> float:
    """Largest minus second largest value: how near the decision was to flipping."""
    ordered = sorted(values, reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else math.inf
