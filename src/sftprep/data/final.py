"""Last pass: rows go to the training, validation or rejected file, batch by batch."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.coverage import Facts, Variety
from sftprep.data.intake import Intake
from sftprep.data.ledger import Written
from sftprep.data.split import Split
from sftprep.data.spool import NO_FLAGS, Candidate, candidate
from sftprep.data.storage import EXAMPLE_COLUMNS, RowWriter, writing
from sftprep.data.trace import flagged
from sftprep.progress import Progress
from sftprep.records import Reason, Rejected
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder


@dataclass(frozen=True, slots=True)
class Fate:
    """What was decided about the candidates.

    `kept` bool [N]; `copies` int64 [N]: how often a row trains; `drops` and `flags`: reasons by
    row; `twin`: the row that stayed in place of a dropped one.
    """

    kept: NDArray[np.bool_]
    copies: NDArray[np.int64]
    split: Split
    drops: Mapping[int, list[Reason]]
    flags: Mapping[int, list[Reason]]
    twin: Mapping[int, int]


@dataclass
class FinalPass:
    """Writes the files; afterwards holds what the report says about the kept rows."""

    run: RunFolder
    intake: Intake
    fate: Fate
    variety: Variety = field(default_factory=Variety)
    flagged: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Count the kept rows of each group."""
        groups = self.fate.split.groups[self.fate.kept]
        self.group_sizes = np.bincount(groups, minlength=len(self.fate.kept))

    def write(self, progress: Progress, stop: StopSignal) -> Written:
        """Write training and validation rows; rejected ones join those of the first pass."""
        spool = self.intake.spool
        with (
            _both(self.run) as (train, validation),
            progress.task("writing rows", len(spool), "rows") as task,
        ):
            for start, batch in spool.batches():
                stop.check("writing rows")
                self._batch(start, batch, train, validation)
                task.advance(batch.num_rows)
            rejected = self.intake.rejections.writer.rows
            return Written(train.rows, validation.rows, rejected)

    def _batch(self, start: int, batch: Any, train: RowWriter, validation: RowWriter) -> None:
        rows = slice(start, start + batch.num_rows)
        kept, held_out = self.fate.kept[rows], self.fate.split.validation[rows]
        for place in np.flatnonzero(~kept).tolist():
            self._reject(start + place, candidate(batch.slice(place, 1).to_pylist()[0]))
        metas, refused = self._enter_flags(start, batch, kept)
        self._count(batch, kept, held_out, self.fate.copies[rows])
        self._vary(batch, kept, refused)
        out = _with_metas(batch.select(list(EXAMPLE_COLUMNS)), metas)
        training = np.flatnonzero(kept & ~held_out)
        train.add_batch(out.take(np.repeat(training, self.fate.copies[rows][training])))
        validation.add_batch(out.take(np.flatnonzero(kept & held_out)))

    def _enter_flags(
        self, start: int, batch: Any, kept: NDArray[np.bool_]
    ) -> tuple[dict[int, str], set[int]]:
        """Enter flagged rows, or all when a trace is kept; the others need not be looked at.

        Returns the changed meta texts and the refusals, by place in the batch.
        """
        noted = [flags != NO_FLAGS for flags in batch["flags"].to_pylist()]
        noted = [own or start + place in self.fate.flags for place, own in enumerate(noted)]
        places = np.flatnonzero(kept & (np.array(noted) | self.intake.context.trace))
        metas: dict[int, str] = {}
        refused: set[int] = set()
        for place, values in zip(places.tolist(), batch.take(places).to_pylist(), strict=True):
            found = candidate(values)
            flags = (*found.flags, *self.fate.flags.get(start + place, ()))
            meta = self._keep(start + place, found, flags)
            if meta is not None:
                metas[place] = meta
            if any(flag.id == "response_refusal" for flag in flags):
                refused.add(place)
        return metas, refused

    def _vary(self, batch: Any, kept: NDArray[np.bool_], refused: set[int]) -> None:
        """Count what the report says about the kept rows as a whole."""
        columns = (batch[name].to_pylist() for name in ("kind", "domains", "opening", "category"))
        for place, (kind, domains, opening, category) in enumerate(zip(*columns, strict=True)):
            if kept[place]:
                facts = Facts(kind, domains, opening)
                self.variety.add(facts, category, refused=place in refused)

    def _count(
        self,
        batch: Any,
        kept: NDArray[np.bool_],
        held_out: NDArray[np.bool_],
        copies: NDArray[np.int64],
    ) -> None:
        names = batch["dataset"].to_pylist()
        for place in np.flatnonzero(kept).tolist():
            count = self.intake.rejections.count(names[place])
            count.kept += 1
            count.repeats += 0 if held_out[place] else int(copies[place]) - 1

    def _keep(self, row: int, found: Candidate, flags: tuple[Reason, ...]) -> str | None:
        """Enter a kept row into the report and the trace; its meta as JSON when it changed."""
        example = found.example
        has_more = row in self.fate.flags
        if has_more:
            ids = ",".join(flag.id for flag in flags)
            example = replace(example, meta={**example.meta, "flags": ids})
        for flag in flags:
            self.flagged[flag.id] += 1
            self.intake.rejections.note(flag, example.source, example.id)
        side = "validation" if self.fate.split.validation[row] else "train"
        group = int(self.fate.split.groups[row])
        related = (
            f"first {self.intake.table.ids[group]}" if self.group_sizes[group] > 1 else "alone"
        )
        times = 1 if side == "validation" else int(self.fate.copies[row])
        events = flagged(flags)
        events.append(("grouped", "related rows", related, float(self.group_sizes[group])))
        events.append(("drawn", side, f"{times} time(s)", float(times)))
        self.intake.rejections.trace.kept(example, found.events, events, side)
        return json.dumps(dict(example.meta), ensure_ascii=False) if has_more else None

    def _reject(self, row: int, found: Candidate) -> None:
        twin = self.fate.twin.get(row)
        others = (*self.fate.flags.get(row, ()), *found.flags)
        self.intake.rejections.reject(
            Rejected(
                source=found.example.source,
                raw=found.raw,
                reasons=(*self.fate.drops[row], *others),
                example_id=found.example.id,
                kept_id=None if twin is None else self.intake.table.ids[twin],
            ),
            found.events,
        )


@contextmanager
def _both(run: RunFolder) -> Iterator[tuple[RowWriter, RowWriter]]:
    with (
        writing(run.train_rows, EXAMPLE_COLUMNS) as train,
        writing(run.validation_rows, EXAMPLE_COLUMNS) as validation,
    ):
        yield train, validation


def _with_metas(batch: Any, metas: Mapping[int, str]) -> Any:
    """The batch with the meta of some rows exchanged."""
    import pyarrow as pa

    if not metas:
        return batch
    column = batch["meta"].to_pylist()
    for place, meta in metas.items():
        column[place] = meta
    index = batch.schema.get_field_index("meta")
    return batch.set_column(index, "meta", pa.array(column, pa.large_string()))
