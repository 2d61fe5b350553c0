"""What happened to one row, by its id or its place (`file:line`)."""

from sftprep.data.storage import read_examples, read_rejected
from sftprep.errors import DataError
from sftprep.records import Example, Rejected
from sftprep.store.run import RunFolder

MIN_PREFIX = 6  # characters of an id that are enough


def explain(run: RunFolder, row: str) -> list[str]:
    """Lines that say where a row went and why.

    Args:
        run: a run whose data stage is done. row: an id (or its first 6 characters or more), or
            `file:line` as shown in reports.
    Raises:
        DataError: no such row. StoreError: the data stage has not run.
    """
    lines: list[str] = []
    for name, path in (("training", run.train_rows), ("validation", run.validation_rows)):
        for example in read_examples(path):
            if _is_meant(row, example.id, example.source.file, example.source.line, example):
                lines += _kept(example, name)
    for rejected in read_rejected(run.rejected_rows):
        place = rejected.source
        if _is_meant(row, rejected.example_id, place.file, place.line, None):
            lines += _rejected(rejected)
    if not lines:
        raise DataError(
            f"{row}: no such row in {run.data}. Give an id from the report, or file:line."
        )
    return lines


def _is_meant(
    row: str, example_id: str | None, file: str, line: int, example: Example | None
) -> bool:
    if row == f"{file}:{line}":
        return True
    known = [example_id, example.meta.get("id_before_repair") if example else None]
    if len(row) < MIN_PREFIX:
        return False
    return any(name is not None and name.startswith(row) for name in known)


def _kept(example: Example, where: str) -> list[str]:
    source = example.source
    lines = [
        f"{example.id}: kept, in the {where} set ({source.dataset}, {source.file}:{source.line})"
    ]
    if example.meta.get("flags"):
        lines.append(f"  flagged: {example.meta['flags']}")
    if "id_before_repair" in example.meta:
        mended = [k for k in example.meta if k.endswith("_original")]
        lines.append(
            f"  repaired: {', '.join(mended)}; id before: {example.meta['id_before_repair']}"
        )
    return lines


def _rejected(rejected: Rejected) -> list[str]:
    source = rejected.source
    name = rejected.example_id or "unreadable row"
    lines = [f"{name}: rejected ({source.dataset}, {source.file}:{source.line})"]
    for reason in rejected.reasons:
        score = "" if reason.score is None else f" [{reason.score:g}]"
        lines.append(f"  {reason.id}{score}: {reason.evidence}")
    if rejected.kept_id:
        lines.append(f"  the row that stayed: {rejected.kept_id}")
    return lines
