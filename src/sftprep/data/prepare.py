"""The data stage: read, check, deduplicate, decontaminate, split, report."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sftprep.data import leaks, report
from sftprep.data.checks import CHECKS, Action, Check, resolve, set_actions, set_threshold
from sftprep.data.contamination import Hit, ItemSet, find_contaminated, load_items
from sftprep.data.contradictions import contradiction
from sftprep.data.diversity import MIN_TEMPLATE_ROWS, distinct, surplus, topics
from sftprep.data.duplicates import Duplicates, find_duplicates
from sftprep.data.features import Table, prompt_and_response
from sftprep.data.final import Fate, FinalPass
from sftprep.data.intake import Intake, Rejections, dataset_name
from sftprep.data.ledger import Written, check_balanced, ledger_of
from sftprep.data.rowcheck import Context
from sftprep.data.split import Split, assign, shares
from sftprep.data.spool import Spool
from sftprep.data.storage import REJECTED_COLUMNS, writing
from sftprep.data.text import excerpt
from sftprep.data.tokenizer import load_tokenizer
from sftprep.data.trace import tracing
from sftprep.data.weights import copies
from sftprep.errors import DataError
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import DataReport, Reason, to_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import TEMPORARY, storage_errors, write_json
from sftprep.store.run import RunFolder

MAX_ANSWERS = 50  # to one question that are compared with each other
Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing rows found: reasons per row to drop or to flag, and the kept twins.

    `copies`: int64 [N], how often each row trains by the weight of its source.
    """

    drops: dict[int, list[Reason]]
    flags: dict[int, list[Reason]]
    kept_twin: dict[int, int]
    duplicates: Duplicates
    hits: tuple[Hit, ...]
    copies: NDArray[np.int64]


def prepare(
    recipe: Recipe,
    run: RunFolder,
    progress: Progress,
    stop: StopSignal,
    checks: Sequence[Check] = CHECKS,
) -> DataReport:
    """Turn the recipe's sources into training and validation rows.

    Writes run.train_rows, run.validation_rows, run.rejected_rows, and last run.data_report. The
    same files and recipe give the same result; which rows are kept, and on which side of the split,
    does not depend on their order. Fewer than `data.minimum_rows` rows is left to the gate.

    Raises:
        DataError: unreadable sources, too many bad rows, no row left, or nothing to hold out.
        RecipeError: an unknown check or a threshold that has no effect. ModelError: no tokenizer.
    """
    active = resolve(recipe.data.checks, recipe.training.max_length, checks)
    actions = set_actions(recipe.data.checks)
    items = load_items(recipe.benchmarks)
    tokenizer = load_tokenizer(recipe.model)
    with storage_errors(run.data):
        run.data.mkdir(parents=True, exist_ok=True)
        run.data_report.unlink(missing_ok=True)
        work = tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}prepare-", dir=run.data)
    with (
        work as name,
        Spool(Path(name) / "rows.arrow") as spool,
        closing(Table(Path(name))) as table,
        writing(run.rejected_rows, REJECTED_COLUMNS) as writer,
        tracing(run.data_trace, wanted=recipe.data.trace) as trace,
    ):
        train_on, traced = recipe.training.train_on, recipe.data.trace
        classifier = recipe.data.toxicity_classifier
        context = Context(recipe.data.sources, active, tokenizer, train_on, traced, classifier)
        named = frozenset(dataset_name(s) for s in recipe.data.sources if s.labels)
        intake = Intake(
            recipe.data, context, spool, table, Rejections(writer, trace, labelled=named)
        )
        intake.read_all(progress, stop)
        result = _Preparation(recipe, run, progress, stop, intake, items, actions).finish()
    write_json(run.data_report, to_dict(result))
    _say(recipe, result, progress)
    return result


def _say(recipe: Recipe, result: DataReport, progress: Progress) -> None:
    ledger = result.ledger
    progress.line(
        f"data: {ledger.read:,} rows read, {ledger.kept:,} kept ({result.train:,} train, "
        f"{result.validation:,} held out), {sum(ledger.rejected.values()):,} rejected, "
        f"{ledger.quarantined:,} unreadable, {result.leaked_pairs} leaked pairs"
    )
    least = recipe.data.minimum_rows
    if ledger.kept < least or result.unique_prompts < least:
        progress.line(
            f"data: {ledger.kept:,} rows with {result.unique_prompts:,} unique prompts are fewer "
            f"than data.minimum_rows ({least:,}); the gate will fail on it."
        )


@dataclass
class _Preparation:
    """The passes after reading."""

    recipe: Recipe
    run: RunFolder
    progress: Progress
    stop: StopSignal
    intake: Intake
    items: ItemSet
    actions: dict[str, Action]

    def finish(self) -> DataReport:
        """Compare rows, split them, write them; returns the report."""
        if not len(self.intake.table):
            raise DataError(f"no row passed the checks. {self._why_nothing()}")
        compared = self._compare()
        kept = np.ones(len(self.intake.table), dtype=np.bool_)
        kept[list(compared.drops)] = False
        if not kept.any():
            raise DataError(f"no row is left. {self._why_nothing()}")
        first = self._split(kept, compared.duplicates)
        split, moved, leaked = self._without_leaks(first)
        c = compared
        fate = Fate(kept, c.copies, split, c.drops, c.flags, c.kept_twin)
        final = FinalPass(self.run, self.intake, fate)
        written = final.write(self.progress, self.stop)
        check_balanced(self.intake.rejections.counts, written)
        return self._report(compared, split, moved, leaked, kept, final, written)

    def _why_nothing(self) -> str:
        top = self.intake.rejections.all_reasons.most_common(3)
        shown = ", ".join(f"{name} {count}" for name, count in top)
        return f"Most frequent reasons: {shown or 'none'}. Mend the data or adjust data.checks."

    def _compare(self) -> Compared:
        """Contamination first, so that a contaminated row is nobody's kept twin."""
        table, data = self.intake.table, self.recipe.data
        drops: dict[int, list[Reason]] = {}
        flags: dict[int, list[Reason]] = {}
        twin_of: dict[int, int] = {}
        with self.progress.task("comparing rows", 2, "passes") as task:
            hits: list[Hit] = []
            if self.actions["contaminated"] != "off":
                hits = find_contaminated(table, self.items.items, data.contamination_threshold)
            for hit in hits:
                self._sort(hit.row, hit.reason(), drops, flags)
            task.advance(1, "benchmark items")
            self.stop.check("comparing rows")
            alive = np.ones(len(table), dtype=np.bool_)
            alive[list(drops)] = False
            duplicates = find_duplicates(
                table,
                alive,
                data.near_duplicate_threshold,
                exact=self.actions["duplicate_exact"] != "off",
                near=self.actions["duplicate_near"] != "off",
            )
            task.advance(1, "duplicates")
        self.stop.check("comparing rows")
        for row, twin in duplicates.twins.items():
            evidence = f"copy of {table.ids[twin.kept]}, similarity {twin.similarity:.3f}"
            self._sort(row, Reason(twin.reason, evidence, twin.similarity), drops, flags)
            twin_of[row] = twin.kept
        for row, (best, how) in self._contradicting(duplicates).items():
            self._conflict(row, best, how, drops, flags, twin_of)
        self._crowds(duplicates, drops, flags)
        drawn = self._draw(drops)
        return Compared(drops, flags, twin_of, duplicates, tuple(hits), drawn)

    def _draw(self, drops: dict[int, list[Reason]]) -> NDArray[np.int64]:
        """Leave out the rows of sources with a weight below 1 that are not drawn."""
        table = self.intake.table
        weights = np.array(table.weights, dtype=np.float64)
        drawn = copies(table.ids.numbers(), weights, self.recipe.data.seed)
        for row in np.flatnonzero(drawn == 0).tolist():
            if row not in drops:
                evidence = f"the source has weight {weights[row]:g}"
                drops[row] = [Reason("not_drawn", evidence, float(weights[row]))]
        return drawn

    def _crowds(
        self,
        duplicates: Duplicates,
        drops: dict[int, list[Reason]],
        flags: dict[int, list[Reason]],
    ) -> None:
        """Rows beyond what one question or one template may have, among the rows still kept."""
        table, settings = self.intake.table, self.recipe.data.checks
        counts = ~np.array(table.allowed, dtype=np.bool_)
        counts[list(drops)] = False
        order = table.order()
        order = order[counts[order]]
        share = set_threshold(settings, "template_dominant")
        groups = {
            "prompt_crowded": (
                duplicates.prompts.roots() + 1,
                int(set_threshold(settings, "prompt_crowded")),
            ),
            "template_dominant": (
                table.keys("template"),
                max(MIN_TEMPLATE_ROWS, int(share * len(order))),
            ),
        }
        for name, (keys, limit) in groups.items():
            for row, found in surplus(keys, order, limit).items():
                evidence = f"{found.size} rows are asked like {table.ids[found.first]}"
                self._sort(row, Reason(name, evidence, float(found.size)), drops, flags)

    def _contradicting(self, duplicates: Duplicates) -> dict[int, tuple[int, str]]:
        """Rows whose answer contradicts another one to the same question: (preferred row, how)."""
        if self.actions["answers_conflict"] == "off":
            return {}
        groups: dict[int, list[int]] = {}
        for row, best in duplicates.conflicts.items():
            groups.setdefault(best, []).append(row)
        found: dict[int, tuple[int, str]] = {}
        for best, rows in groups.items():
            texts = [
                (row, *prompt_and_response(self.intake.spool.get(row).example.messages))
                for row in rows[:MAX_ANSWERS]
            ]
            for (a, question, answer), (b, _, other) in combinations(texts, 2):
                how = contradiction(question, answer, other)
                if how is not None:
                    found.setdefault(a, (best, how))
                    found.setdefault(b, (best, how))
        return found

    def _conflict(
        self,
        row: int,
        best: int,
        how: str,
        drops: dict[int, list[Reason]],
        flags: dict[int, list[Reason]],
        twin_of: dict[int, int],
    ) -> None:
        """Flag every answer of the question; when conflicts are dropped, the preferred stays."""
        if self.actions["answers_conflict"] == "drop" and row == best:
            return
        other = self.intake.table.ids[best] if row != best else "others"
        reason = Reason("answers_conflict", f"same question as {other}, another answer: {how}")
        self._sort(row, reason, drops, flags)
        if row in drops:
            twin_of.setdefault(row, best)

    def _sort(
        self,
        row: int,
        reason: Reason,
        drops: dict[int, list[Reason]],
        flags: dict[int, list[Reason]],
    ) -> None:
        action = self.actions[reason.id]
        if action == "drop":
            drops.setdefault(row, []).append(reason)
        elif action == "flag":
            flags.setdefault(row, []).append(reason)

    def _split(self, kept: Rows, duplicates: Duplicates) -> Split:
        data = self.recipe.data
        split = assign(
            self.intake.table.ids.numbers(),
            kept,
            duplicates.ties,
            data.validation_fraction,
            data.seed,
        )
        if not split.validation.any():
            raise DataError(
                f"nothing can be held out: all {int(kept.sum())} rows are related to each other "
                "(same or similar questions, passages or answers). Add different data."
            )
        return split

    def _without_leaks(self, split: Split) -> tuple[Split, int, int]:
        """Check the split with other code; move leaking groups to training until none leaks.

        Returns the split, the rows moved, and the leaks left.
        """
        validation = split.validation.copy()
        joined = (split.groups >= 0) & ~validation  # rows not yet compared with the held-out ones
        moved = 0
        threshold = self.recipe.data.near_duplicate_threshold
        while True:
            self.stop.check("checking the split")
            found = leaks.find_leaks(self._final(validation), self._final(joined), threshold)
            if not found:
                return replace(split, validation=validation), moved, 0
            leaking = np.isin(split.groups, list(leaks.groups_of(found, split.groups)))
            if not (validation & ~leaking).any():
                return replace(split, validation=validation), moved, len(found)
            joined = validation & leaking
            moved += int(joined.sum())
            validation &= ~leaking

    def _final(self, rows: Rows) -> Iterator[leaks.FinalRow]:
        for row, messages in self.intake.spool.messages(rows):
            prompt, response = prompt_and_response(messages)
            yield leaks.FinalRow(row, prompt, response)

    def _question(self, row: int) -> str:
        """The beginning of what a row asks, on one line."""
        return excerpt(prompt_and_response(self.intake.spool.get(row).example.messages)[0])

    def _report(
        self,
        compared: Compared,
        split: Split,
        moved: int,
        leaked: int,
        kept: Rows,
        final: FinalPass,
        written: Written,
    ) -> DataReport:
        table, counts = self.intake.table, self.intake.rejections.counts
        ledger = ledger_of(counts.values())
        train, validation = written.train, written.validation
        by_hit = {hit.row: hit.item.benchmark for hit in compared.hits}
        dropped = Counter(name for row, name in by_hit.items() if not kept[row])
        still = Counter(name for row, name in by_hit.items() if kept[row])
        tokens = [table.tokens[row] for row in np.flatnonzero(kept).tolist()]
        prompts = len(np.unique(table.keys("prompt")[kept]))
        rows = np.flatnonzero(kept)
        questions, answers, _ = table.views()
        sections = {
            "waterfall": report.waterfall(ledger, train, validation),
            "sources": report.sources(counts),
            "reasons": report.reasons(self.intake, self.intake.checks, self.actions),
            "examples": report.examples(self.intake),
            "lengths": report.lengths(tokens, self.recipe.training.max_length),
            **final.variety.sections(),
            **report.topic_sections(
                topics(questions, rows), table, distinct(answers, rows), self._question
            ),
            "health": report.health(self.recipe, ledger, prompts, final.variety),
            "duplicates": report.clusters(compared.duplicates.twins, table, self._question),
            "contamination": report.contamination(self.items, dropped, still),
            "contamination_evidence": report.contamination_evidence(compared.hits, table),
            "split": {
                **self._division(split, kept),
                "share": round(validation / ledger.kept, 6),
                "rows_moved_to_train": moved,
                "leaked_pairs": leaked,
            },
            "split_strata": report.strata(shares(table.strata, kept, split.validation)),
            "large_groups": report.large_groups(split),
            "repairs": dict(self.intake.repairs),
            "planted": report.planted(self.recipe.data.sources, self.intake.rejections.by_line),
            "detectors": report.detectors(self.recipe.data.toxicity_classifier),
            "inputs": self.intake.files,
            "limits": [{"limit": text} for text in report.LIMITS],
            "checks": report.checks_table(self.intake.checks),
        }
        return DataReport(
            ledger=ledger,
            train=train,
            validation=validation,
            unique_prompts=prompts,
            leaked_pairs=leaked,
            contaminated={name: still.get(name, 0) for name in self.items.checked},
            flagged=dict(final.flagged.most_common()),
            sections=sections,
        )

    def _division(self, split: Split, kept: Rows) -> dict[str, int | float]:
        """How the rows were to be divided, and into how many groups that stay together."""
        section = self.recipe.data
        return {
            "seed": section.seed,
            "groups": len(np.unique(split.groups[kept])),
            "wanted_share": section.validation_fraction,
        }
