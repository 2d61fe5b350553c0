"""Everything that is done to rows one by one: parse, read, repair, check, count tokens, hash.

A chunk of raw rows goes in, Arrow batches and counts come out. Nothing else is read or written, so
a chunk can be checked in this process, in another one or on another machine with the same result.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sftprep.data.checks import Check, Findings, run_checks
from sftprep.data.classifier import classified
from sftprep.data.conversation import Row
from sftprep.data.coverage import Facts, facts_of
from sftprep.data.features import Features, features_of
from sftprep.data.formats import instances_apart, to_example
from sftprep.data.parse import QUARANTINED, RowError, row_object
from sftprep.data.rawrow import RawRow, raw_text
from sftprep.data.repairs import repaired
from sftprep.data.spool import kept_batch
from sftprep.data.storage import REJECTED_COLUMNS, rejected_row, schema_of
from sftprep.errors import DataError, ModelError
from sftprep.recipe.sections import Source
from sftprep.records import Example, Reason, Rejected, SourceRef

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXAMPLES_PER_REASON = 5
_NO_RESPONSE = ("response_missing", "response_empty")


@dataclass(frozen=True, slots=True)
class Context:
    """What every chunk needs, and what stays the same for all of them."""

    sources: tuple[Source, ...]
    checks: tuple[Check, ...]
    tokenizer: "PreTrainedTokenizerBase"
    train_on: str
    trace: bool = False
    classifier: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows of one file. `source`: index; `file`: number; `name`: as in `SourceRef`."""

    source: int
    file: int
    path: str
    name: str
    dataset: str
    format: str | None
    rows: tuple[RawRow, ...]
    ends_file: bool


@dataclass
class Tally:
    """Counts of a chunk, of a file or of a data set.

    `shown`: a few rows per reason. `by_line`: reasons of rejected rows, for sources with labels.
    """

    read: int = 0
    merged: int = 0
    quarantined: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[dict[str, str | float | None]]] = field(default_factory=dict)
    by_line: dict[int, set[str]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    no_response: int = 0
    first_no_response: str = ""

    def note(self, reason: Reason, source: SourceRef, example_id: str | None) -> None:
        """Count a reason, with the row as an example while there are few."""
        self.reasons[reason.id] += 1
        shown = self.shown.setdefault(reason.id, [])
        if len(shown) < EXAMPLES_PER_REASON:
            place = f"{source.file}:{source.line}"
            shown.append(
                {"id": example_id, "place": place, "evidence": reason.evidence[:300],
                 "score": reason.score}
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked chunk: Arrow batches of rows that may train (`spool.kept_schema`) and of rejected
    rows; `traced`: (rejected row's columns, events) pairs when the run keeps a trace."""

    kept: Any
    rejected: Any
    tally: Tally
    traced: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """One row that may train, with all that later passes need of it."""

    example: Example
    raw: str
    flags: tuple[Reason, ...]
    tokens: int
    features: Features
    facts: Facts
    events: str


def check_chunk(chunk: Chunk, context: Context) -> Checked:
    """Check the rows of a chunk.

    Raises:
        ModelError: the chat template refuses every row.
    """
    return _ChunkCheck(chunk, context).run()


@dataclass(frozen=True, slots=True)
class _Read:
    raw: RawRow
    example: Example
    repairs: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Found(_Read):
    """`derived`: what later passes need of a row that no check dropped."""

    findings: Findings
    derived: tuple[Features, Facts] | None


class _ChunkCheck:
    def __init__(self, chunk: Chunk, context: Context) -> None:
        self.chunk = chunk
        self.context = context
        self.source = context.sources[chunk.source]
        self.tally = Tally()
        self.kept: list[Kept] = []
        self.rejected: list[dict[str, Any]] = []
        self.traced: list[dict[str, Any]] = []
        self.own_tokens = tuple(str(t) for t in context.tokenizer.all_special_tokens)
        self.length_checks = [c for c in context.checks if c.id == "too_long"]

    def run(self) -> Checked:
        import pyarrow as pa

        found = self._checked([item for raw in self.chunk.rows for item in self._read(raw)])
        self._measure(found)
        kept = kept_batch(self.kept, self.chunk.file, self.source)
        rejected = pa.RecordBatch.from_pylist(self.rejected, schema=schema_of(REJECTED_COLUMNS))
        return Checked(kept, rejected, self.tally, tuple(self.traced))

    def _read(self, raw: RawRow) -> Iterator[_Read]:
        """Parse, read and repair one raw row, which may hold several conversations."""
        try:
            values = instances_apart(row_object(raw))
        except RowError as error:
            self._count(raw, 1)
            self._reject(raw, error.reason)
            return
        self._count(raw, len(values))
        for value in values:
            try:
                example = to_example(value, self.chunk.format, self.source, self._place(raw))
            except RowError as error:
                self._reject(raw, error.reason)
                continue
            self.tally.formats[example.meta["format"]] += 1
            example, repairs = repaired(example, self.context.checks)
            self.tally.repairs.update(repair.id for repair in repairs)
            yield _Read(raw, example, repairs)

    def _checked(self, rows: Sequence[_Read]) -> list[_Found]:
        scores = classified([item.example for item in rows], self.context.classifier)
        found = []
        for item, score in zip(rows, scores, strict=True):
            row = Row(item.example, self.own_tokens, toxicity=score)
            findings = run_checks(row, self.context.checks)
            # At once, while the words of its texts are still remembered.
            derived = None if findings.drops else (features_of(item.example), facts_of(row))
            found.append(_Found(item.raw, item.example, item.repairs, findings, derived))
        return found

    def _count(self, raw: RawRow, values: int) -> None:
        self.tally.read += values + raw.rows - 1
        self.tally.merged += raw.rows - 1

    def _measure(self, found: Sequence[_Found]) -> None:
        """Lengths in training tokens of rows that passed; the rest is rejected here."""
        passed = [item.example for item in found if not item.findings.drops]
        lengths = iter(token_lengths(passed, self.context.tokenizer, self.context.train_on))
        for item in found:
            if item.findings.drops:
                self._reject(item.raw, *item.findings.drops, *item.findings.flags, found=item)
                continue
            tokens = next(lengths)
            if isinstance(tokens, str):
                self._reject(item.raw, Reason("not_renderable", tokens), found=item)
                continue
            late = run_checks(Row(item.example, tokens=tokens), self.length_checks)
            if late.drops:
                self._reject(item.raw, *late.drops, *item.findings.flags, found=item)
            else:
                self._keep(item, tokens)

    def _keep(self, item: _Found, tokens: int) -> None:
        example, flags = item.example, item.findings.flags
        if flags:
            ids = ",".join(flag.id for flag in flags)
            example = dataclasses.replace(example, meta={**example.meta, "flags": ids})
        events = _events(item, tokens) if self.context.trace else ""
        assert item.derived is not None, "a dropped row is kept"
        features, facts = item.derived
        self.kept.append(Kept(example, raw_text(item.raw), flags, tokens, features, facts, events))

    def _place(self, raw: RawRow) -> SourceRef:
        chunk = self.chunk
        return SourceRef(chunk.dataset, chunk.name, raw.line, self.source.licence)

    def _reject(self, raw: RawRow, *reasons: Reason, found: _Found | None = None) -> None:
        first = reasons[0]
        tally = self.tally
        place = f"{self.chunk.path}:{raw.line}"
        if first.id in QUARANTINED:
            tally.quarantined += 1
            if len(tally.bad) < 3:
                tally.bad.append(f"{place}: {first.id}: {first.evidence}")
        else:
            tally.rejected[first.id] += 1
        if first.id in _NO_RESPONSE:
            tally.no_response += 1
            tally.first_no_response = tally.first_no_response or place
        example_id = found.example.id if found else None
        source = self._place(raw)
        row = rejected_row(Rejected(source, raw_text(raw), reasons, example_id))
        self.rejected.append(row)
        for reason in reasons:
            tally.note(reason, source, example_id)
        if self.source.labels is not None:
            tally.by_line.setdefault(raw.line, set()).update(reason.id for reason in reasons)
        if self.context.trace:
            events = _events(found, None) if found else "[]"
            self.traced.append({**row, "events": events})


def _events(item: _Found, tokens: int | None) -> str:
    """What happened to a row so far, as JSON text: [[step, id, evidence, score], ...]."""
    events: list[list[Any]] = [["read", item.example.meta["format"], "", None]]
    events += [["repaired", r.id, r.evidence, r.score] for r in item.repairs]
    if tokens is not None:
        events.append(["measured", "tokens", "", tokens])
    return json.dumps(events, ensure_ascii=False)


def token_lengths(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase", train_on: str
) -> Iterator[int | str]:
    """Length of each conversation in training tokens, or why it cannot be rendered.

    Raises:
        ModelError: the template refuses every row of the batch.
    """
    from sftprep.data.render import token_counts

    if not examples:
        return
    try:
        yield from token_counts([e.messages for e in examples], tokenizer, train_on)
        return
    except (DataError, ModelError):
        pass  # some row cannot be rendered: find out which
    results: list[int | str] = []
    problem: ModelError | None = None
    for example in examples:
        try:
            results += token_counts([example.messages], tokenizer, train_on)
        except DataError as error:
            results.append(str(error))
        except ModelError as error:
            problem = error
            results.append(str(error))
    if problem is not None and all(isinstance(r, str) for r in results):
        raise problem
    yield from results
