"""How well the checks find defects that are known: recall and precision per labelled kind.

A labels file is JSON: `defects` gives the kind of defect by line number (from 1), `originals` the
line of the row that a duplicate or a contradiction belongs to; the starter's `planted.json` is one.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from sftprep.errors import DataError

Places = Mapping[int, Set[str]]  # line -> ids of everything found there

# The reasons that are right for a kind of defect. A kind that is no key stands for itself.
RIGHT_REASONS: Mapping[str, frozenset[str]] = {
    "duplicate_exact": frozenset({"duplicate_exact", "duplicate_near"}),
    "duplicate_near": frozenset({"duplicate_exact", "duplicate_near"}),
    "answer_contradicts": frozenset({"answers_conflict"}),
    "toxic": frozenset({"toxic_words"}),
    "pii": frozenset({"personal_data"}),
    "secret": frozenset({"secret_inside"}),
    "refusal": frozenset({"response_refusal", "assistant_boilerplate"}),
    "repetition": frozenset({"response_repetitive"}),
    "response_truncated": frozenset({"response_truncated", "ending_missing"}),
    "benchmark_leak": frozenset({"contaminated"}),
    "json_malformed": frozenset({"json_invalid"}),
}


@dataclass(frozen=True, slots=True)
class Labels:
    """Known defects of one file: kind by line, and the line each copy or contradiction repeats."""

    defects: Mapping[int, str]
    originals: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Score:
    """One kind: `planted` rows, `found` of them, `fired` rows with a right reason, `right` of them.

    A copy counts as found when its original was dropped in its place.
    """

    kind: str
    planted: int
    found: int
    fired: int
    right: int

    @property
    def recall(self) -> float | None:
        """Share of planted rows that were found; None without any."""
        return self.found / self.planted if self.planted else None

    @property
    def precision(self) -> float | None:
        """Share of findings that were planted, as this or another kind the reason is right for."""
        return self.right / self.fired if self.fired else None


def load_labels(path: str) -> Labels:
    """Read a labels file.

    Raises:
        DataError: it is missing or not of this form.
    """
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        defects = {int(line): str(kind) for line, kind in content["defects"].items()}
        originals = {int(k): int(v) for k, v in content.get("originals", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: not a labels file ({error}). Write {{"defects": {{"LINE": "KIND"}}}}, or '
            "remove labels from the source."
        ) from error
    return Labels(defects, originals)


def scores(labels: Labels, found: Places) -> list[Score]:
    """Recall and precision of every labelled kind, by kind."""
    related: dict[int, set[str]] = {}
    for line, kind in labels.defects.items():
        related.setdefault(line, set()).add(kind)
        if line in labels.originals:  # either of the two may be the one that is named
            related.setdefault(labels.originals[line], set()).add(kind)
    results = []
    for kind in sorted(set(labels.defects.values())):
        right = RIGHT_REASONS.get(kind, frozenset({kind}))
        lines = [line for line, name in labels.defects.items() if name == kind]
        hit = [
            n for n in lines if _fires(found, n, right) or _fires(found, _twin(labels, n), right)
        ]
        fired = [line for line in found if _fires(found, line, right)]
        good = [line for line in fired if _right_for(related.get(line, set())) & right]
        results.append(Score(kind, len(lines), len(hit), len(fired), len(good)))
    return results


def _fires(found: Places, line: int, right: frozenset[str]) -> bool:
    return bool(found.get(line, frozenset()) & right)


def _twin(labels: Labels, line: int) -> int:
    return labels.originals.get(line, 0)


def _right_for(kinds: Set[str]) -> frozenset[str]:
    """Every reason that is right for one of the kinds."""
    return frozenset().union(*(RIGHT_REASONS.get(kind, {kind}) for kind in kinds))
