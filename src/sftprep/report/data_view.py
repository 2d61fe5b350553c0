"""The data section: where rows went, how long they are, why rows were rejected."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sftprep.records import DataReport
from sftprep.report import charts
from sftprep.report.gathered import Gathered

EXAMPLE_LIMIT = 600
TABLE_LIMIT = 20
SHOWN_ELSEWHERE = ("waterfall", "examples")
SHOWN_OPEN = ("health", "planted", "coverage", "detectors")
WIDEST_AXIS = 4  # the length axis ends at max_length unless that is further away than this


def data_section(found: Gathered) -> dict[str, Any] | None:
    """Waterfall, lengths, rejections with examples and what else the data stage measured."""
    report = found.evidence.data
    if report is None:
        return None
    meaning = _meaning(report.sections.get("reasons"))
    reasons = sorted(report.ledger.rejected.items(), key=lambda pair: -pair[1])
    return {
        "report": report,
        "balanced": report.ledger.balanced,
        "waterfall": waterfall(report),
        "reasons": [
            {
                "id": name,
                "count": f"{count:,}",
                "why": meaning.get(name, ""),
                "examples": _examples(found, name),
            }
            for name, count in reasons
            if count
        ],
        "lengths": _lengths(report.sections.get("lengths")),
        "facts": [
            ("unique prompts", f"{report.unique_prompts:,}"),
            ("longest training row", _longest(report.sections.get("lengths"))),
            ("pairs leaked between training and held-out rows", f"{report.leaked_pairs:,}"),
            ("rows flagged, kept", f"{sum(report.flagged.values()):,}"),
            ("rows that overlap benchmarks", f"{sum(report.contaminated.values()):,}"),
        ],
        "tables": _tables(report.sections),
    }


def _tables(sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What else was measured as small tables, those that stand open first."""
    found = [
        table
        for name, value in sections.items()
        if name not in SHOWN_ELSEWHERE and (table := _table(name, value)) is not None
    ]
    return sorted(found, key=lambda table: not table["open"])


def waterfall(report: DataReport) -> Markup:
    """Bars from rows read down to training and held-out rows."""
    ledger = report.ledger
    bars = [charts.Bar("rows read", 0, ledger.read, "base", f"{ledger.read:,}")]
    left = ledger.read
    losses = [
        ("unreadable", ledger.quarantined),
        ("merged", ledger.merged),
        *sorted(ledger.rejected.items(), key=lambda pair: -pair[1]),
    ]
    for name, count in losses:
        if count:
            left -= count
            bars.append(charts.Bar(name, max(left, 0), count, "lost", f"−{count:,}"))
    bars.append(charts.Bar("held out", 0, report.validation, "held", f"{report.validation:,}"))
    bars.append(charts.Bar("training", 0, report.train, "sft", f"{report.train:,}"))
    return charts.bar_chart("Rows from reading to training", bars, ledger.read)


def _meaning(rows: Any) -> dict[str, str]:
    """What each reason means, from the data report's `reasons` section."""
    tables = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return {str(row.get("reason")): str(row.get("why") or "") for row in tables}


def _examples(found: Gathered, reason: str) -> list[dict[str, str]]:
    return [
        {"place": row.place, "evidence": row.evidence, "raw": _cut(row.raw)}
        for row in found.rejected.get(reason, ())
    ]


def _cut(text: str) -> str:
    return text if len(text) <= EXAMPLE_LIMIT else f"{text[:EXAMPLE_LIMIT]} …"


def _lengths(value: Any) -> Markup:
    """A histogram from {"edges": [...], "counts": [...], "unit": "tokens"}; else nothing."""
    if not isinstance(value, Mapping):
        return Markup()
    edges, counts = value.get("edges"), value.get("counts")
    if not (_numbers(edges) and _numbers(counts)):
        return Markup()
    unit = str(value.get("unit", "tokens"))
    limit, longest = value.get("max_length"), edges[-1]  # type: ignore[index]
    title = "Length of training rows"
    if isinstance(limit, int | float) and longest < limit <= WIDEST_AXIS * longest:
        edges, counts = [*edges, limit], [*counts, 0]  # type: ignore[misc]
        title = f"Length of training rows; the axis ends at max_length ({limit:,})"
    return charts.histogram(title, edges, counts, unit)  # type: ignore[arg-type]


def _longest(value: Any) -> str:
    """ "812 of 2,048 tokens", or nothing when no row was measured."""
    if not isinstance(value, Mapping) or not isinstance(value.get("q100"), int | float):
        return ""
    return f"{value['q100']:,.0f} of {value.get('max_length', 0):,} {value.get('unit', '')}"


def _numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(v, int | float) for v in value)


def _table(name: str, value: Any) -> dict[str, Any] | None:
    """A small table from a flat table or a list of flat tables; deeper values are left out."""
    title = name.replace("_", " ")
    if isinstance(value, Mapping):
        rows = [(str(k), _cell(v)) for k, v in value.items() if _is_cell(v)]
        head: Sequence[str] = ("", "")
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        head = [str(key) for key, item in value[0].items() if _is_cell(item)]
        rows = [tuple(_cell(item.get(key)) for key in head) for item in value]  # type: ignore[misc]
    else:
        return None
    if not rows:
        return None
    more = max(0, len(rows) - TABLE_LIMIT)
    return {
        "title": title,
        "open": name in SHOWN_OPEN,
        "head": head,
        "rows": rows[:TABLE_LIMIT],
        "more": more,
    }


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "" if value is None else _cut(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
