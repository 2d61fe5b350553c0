"""The sections of the data report: flat tables and lists of flat tables, ready to be shown.

waterfall       [{step, rows}]                    read -> ... -> train, validation
sources         [{dataset, read, kept, rejected, quarantined, merged, repeats}]
reasons         [{reason, rows, action, why}]     every reason of every row, not only the first
examples        [{reason, id, place, evidence, score}]          up to 5 per reason
lengths         {edges, counts, unit, max_length, quantiles..., }  training tokens of kept rows
task_kinds, categories, openings, diversity, missing_kinds
duplicates      [{kept_id, copies, similarity_min, question}]   10 largest clusters
contamination   [{benchmark, status, rows_dropped, rows_kept}]
contamination_evidence  [{id, place, benchmark, item, coverage, shared, item_text}]
split           {..}, split_strata [{dataset, category, train, validation}], large_groups
repairs         {check: rows}
planted         [{dataset, kind, planted, found, recall, precision}]  sources with labels
topics          [{rows, share, typical_id, question}]           10 largest clusters of questions
coverage        [{domain, benchmark, rows, share, status}]      domains of the benchmarks
health          [{question, measured, wanted, ok}]
detectors       [{detector, ran, how}]
inputs          [{dataset, path, rows, format, licence, sha256}]
limits          [{limit}]
checks          [{check, action, threshold, unit, why, source}]
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sftprep.data.checks import SET_CHECKS, Check
from sftprep.data.contamination import Hit, ItemSet
from sftprep.data.coverage import Variety
from sftprep.data.detectors import detectors as detector_list
from sftprep.data.diversity import Topics
from sftprep.data.duplicates import Twin
from sftprep.data.features import Table
from sftprep.data.intake import Intake, dataset_name
from sftprep.data.labels import load_labels, scores
from sftprep.data.ledger import Count
from sftprep.data.parse import READ_REASONS
from sftprep.data.split import Split
from sftprep.recipe.sections import Recipe, Source
from sftprep.records import Ledger

Section = dict[str, Any]
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
HISTOGRAM_BINS = 40
LARGEST_CLUSTERS = 10
SHOWN_HITS = 20
LIMITS = (
    "Accuracy is not checked beyond arithmetic that can be recomputed with certainty.",
    "Paraphrases of other rows or of benchmark items are out of reach: only wording is compared.",
    "Words are checked for slurs and obscenity; harm in polite words is at most flagged.",
    "Fourteen languages in Latin letters are told apart by function words; all others by their "
    "script only.",
    "Rules were measured on English and code data; other languages get fewer findings.",
)


def waterfall(ledger: Ledger, train: int, validation: int) -> list[Section]:
    """Rows left after each reason; repeats by weight come on top of the kept rows."""
    rows = [{"step": "read", "rows": ledger.read}]
    left = ledger.read
    parts = [("merged", ledger.merged), ("unreadable", ledger.quarantined)]
    for name, count in [*parts, *ledger.rejected.items()]:
        if count:
            left -= count
            rows.append({"step": f"after {name}", "rows": left})
    if train + validation != left:
        rows.append({"step": "with repeats by weight", "rows": train + validation})
    return [*rows, {"step": "train", "rows": train}, {"step": "validation", "rows": validation}]


def sources(counts: Mapping[str, Count]) -> list[Section]:
    """One row per dataset."""
    return [
        {
            "dataset": name,
            "read": count.read,
            "kept": count.kept,
            "rejected": sum(count.rejected.values()),
            "quarantined": count.quarantined,
            "merged": count.merged,
            "repeats": count.repeats,
        }
        for name, count in counts.items()
    ]


def reasons(intake: Intake, checks: Sequence[Check], actions: Mapping[str, str]) -> list[Section]:
    """How often each reason fired, whatever came of it, with what it means."""
    about = {c.id: (str(c.action), c.why) for c in checks}
    about |= {r.id: ("quarantine" if r.quarantined else "drop", r.why) for r in READ_REASONS}
    about |= {s.id: (actions[s.id], s.why) for s in SET_CHECKS}
    about["not_renderable"] = ("drop", "the chat template cannot write this conversation")
    about["not_drawn"] = ("drop", "the source's weight is below 1: only a share of its rows trains")
    found = intake.rejections.all_reasons.most_common()
    return [
        {"reason": name, "rows": n, "action": about[name][0], "why": about[name][1]}
        for name, n in found
    ]


def examples(intake: Intake) -> list[Section]:
    """Up to five rows per reason."""
    shown = intake.rejections.shown
    return [{"reason": name, **row} for name, rows in shown.items() for row in rows]


def lengths(tokens: Sequence[int], max_length: int) -> Section:
    """Quantiles and histogram of training tokens; nothing but the limit when there is no row."""
    if not tokens:
        return {"unit": "tokens", "max_length": max_length}
    values = np.array(tokens, dtype=np.int64)
    counts, edges = np.histogram(values, bins=min(HISTOGRAM_BINS, max(1, int(np.ptp(values)))))
    quantiles = {f"q{round(q * 100)}": round(float(np.quantile(values, q)), 1) for q in QUANTILES}
    return {
        "edges": [round(float(edge), 3) for edge in edges],
        "counts": [int(count) for count in counts],
        "unit": "tokens",
        "max_length": max_length,
        "tokens": int(values.sum()),
        "mean": round(float(values.mean()), 1),
        **quantiles,
    }


def clusters(
    twins: Mapping[int, Twin], table: Table, question_of: Callable[[int], str]
) -> list[Section]:
    """The largest groups of dropped copies, by the row that stayed; with its question."""
    copies: Counter[int] = Counter(twin.kept for twin in twins.values())
    lowest: dict[int, float] = {}
    for twin in twins.values():
        lowest[twin.kept] = min(lowest.get(twin.kept, 1.0), twin.similarity)
    largest = sorted(copies.items(), key=lambda item: (-item[1], table.ids[item[0]]))
    return [
        {
            "kept_id": table.ids[row],
            "copies": n,
            "similarity_min": round(lowest[row], 4),
            "question": question_of(row),
        }
        for row, n in largest[:LARGEST_CLUSTERS]
    ]


def contamination(
    items: ItemSet, dropped: Mapping[str, int], kept: Mapping[str, int]
) -> list[Section]:
    """One row per benchmark of the recipe, checked or not and why."""
    sizes = Counter(name for name, _ in {(i.benchmark, i.id) for i in items.items})
    rows: list[Section] = [
        {
            "benchmark": name,
            "status": "checked",
            "items": sizes[name],
            "rows_dropped": dropped.get(name, 0),
            "rows_kept": kept.get(name, 0),
        }
        for name in items.checked
    ]
    return rows + [
        {"benchmark": name, "status": f"not checked: {why}", "items": None,
         "rows_dropped": None, "rows_kept": None}
        for name, why in items.not_checked.items()
    ]  # fmt: skip


def contamination_evidence(hits: Sequence[Hit], table: Table) -> list[Section]:
    """The first hits with both sides."""
    return [
        {
            "id": table.ids[hit.row],
            "benchmark": hit.item.benchmark,
            "item": hit.item.id,
            "coverage": round(hit.coverage, 4),
            "shared": hit.shared,
            "item_text": hit.item.text[:300],
        }
        for hit in hits[:SHOWN_HITS]
    ]


def topic_sections(
    found: Topics,
    table: Table,
    distinct: Mapping[str, float | None],
    question_of: Callable[[int], str],
) -> dict[str, Any]:
    """Diversity in numbers, and the largest clusters of questions with a row that is typical."""
    total = sum(found.sizes)
    return {
        "diversity": {
            **distinct,
            "topics": len(found.sizes),
            "topic_entropy_nats": round(found.entropy_nats, 4),
            "effective_topics": round(found.effective, 2),
            "largest_topic_share": round(found.sizes[0] / total, 4) if total else None,
        },
        "topics": [
            {
                "rows": size,
                "share": round(size / total, 4),
                "typical_id": table.ids[row],
                "question": question_of(row),
            }
            for size, row in zip(found.sizes[:10], found.central[:10], strict=True)
        ],
    }


def health(recipe: Recipe, ledger: Ledger, prompts: int, variety: Variety) -> list[Section]:
    """Is there enough, and of every kind: rows, unique prompts, the benchmarks' domains."""
    least = recipe.data.minimum_rows
    lacking = [str(row["domain"]) for row in variety.coverage() if row["status"] != "present"]
    return [
        {"question": "rows kept", "measured": ledger.kept, "wanted": least,
         "ok": ledger.kept >= least},
        {"question": "unique prompts", "measured": prompts, "wanted": least,
         "ok": prompts >= least},
        {"question": "domains of the benchmarks missing or thin",
         "measured": ", ".join(lacking) or "none", "wanted": "none", "ok": not lacking},
    ]  # fmt: skip


def planted(
    sources: Sequence[Source], found: Mapping[str, Mapping[int, set[str]]]
) -> list[Section]:
    """How well known defects were found, for every source that has labels."""
    rows = []
    for source in sources:
        if source.labels is None:
            continue
        name = dataset_name(source)
        rows += [
            {
                "dataset": name,
                "kind": score.kind,
                "planted": score.planted,
                "found": score.found,
                "recall": _rounded(score.recall),
                "precision": _rounded(score.precision),
            }
            for score in scores(load_labels(source.labels), found.get(name, {}))
        ]
    return rows


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def detectors(classifier: str | None) -> list[Section]:
    """What was looked for and what was not."""
    return [{"detector": d.id, "ran": d.runs, "how": d.how} for d in detector_list(classifier)]


def checks_table(checks: Sequence[Check]) -> list[Section]:
    """The checks as they ran."""
    return [
        {
            "check": c.id,
            "action": c.action,
            "threshold": c.threshold,
            "unit": c.unit,
            "why": c.why,
            "source": c.source,
        }
        for c in checks
    ]


def strata(shares: Mapping[str, tuple[int, int]]) -> list[Section]:
    """Rows per source and category on both sides; the 50 largest."""
    rows = []
    for name, (train, held_out) in list(shares.items())[:50]:
        dataset, _, category = name.partition("\x1f")
        rows.append(
            {"dataset": dataset, "category": category or None, "train": train,
             "validation": held_out}
        )  # fmt: skip
    return rows


def large_groups(split: Split) -> list[Section]:
    """Groups of related rows that are too large to be held out."""
    return [{"rows": group.rows, "example_id": group.example_id} for group in split.large[:10]]
