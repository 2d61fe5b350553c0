"""Which ending follows? (HellaSwag, Zellers et al. 2019.)

Form: lm-eval 0.4.13 `hellaswag`, 0-shot or with the first rows of the training split as examples
(10-shot is what the first Open LLM Leaderboard showed, with examples drawn per question): `acc`
picks the ending with the highest log-likelihood, `acc_norm` the highest per character; papers
report `acc_norm`, so that is the headline.
"""

import re
from collections.abc import Sequence

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks.judging import choice_record, one_by_one
from sftprep.evaluate.benchmarks.metrics import accuracy, by_name, hits
from sftprep.evaluate.benchmarks.protocol import (
    Answered,
    Item,
    Measured,
    Protocol,
    Question,
    Row,
    Setting,
    best,
    item_id,
    need,
    need_texts,
    per_character,
)
from sftprep.evaluate.engine import ScoreRequest
from sftprep.records import ItemRecord

CHANCE = 0.25


def clean(text: str) -> str:
    """Take out what WikiHow left in the texts: `[title]` marks and other brackets."""
    lines = text.strip().replace(" [title]", ". ").split("\n")
    return "\n".join(_without_brackets(line) for line in lines).replace("  ", " ")


def _without_brackets(line: str) -> str:
    """Only up to the last closing bracket, so that a line of opening ones takes linear time."""
    end = line.rfind("]") + 1
    return re.sub(r"\[.*?\]", "", line[:end]) + line[end:]


def read(row: Row) -> Row:
    """The fields of one item; the label is an index, often stored as text.

    Raises:
        EvaluationError: not four endings, an empty one, or a label outside them.
    """
    endings = [clean(ending) for ending in need_texts(row, "endings")]
    label = str(row.get("label"))
    if label not in ("0", "1", "2", "3") or len(endings) != 4 or not all(endings):
        raise EvaluationError(
            f"item {row.get('ind')!r}: needs four non-empty endings and a label 0..3, has "
            f"{endings!r} and label {row.get('label')!r}. Use "
            "the validation split: the test labels are secret."
        )
    start = need(row, "ctx_a", str) + " " + need(row, "ctx_b", str).capitalize()
    query = clean(need(row, "activity_label", str) + ": " + start)
    activity = row["activity_label"]
    return {"query": query, "endings": endings, "label": int(label), "activity_label": activity}


def load(rows: Sequence[Row], shots: Sequence[Row], few_shot: int) -> list[Item]:
    """Items; with `few_shot`, the first rows of the training split as examples.

    Raises:
        EvaluationError: fewer examples than asked for.
    """
    chosen = tuple(read(row) for row in shots[:few_shot])
    if len(chosen) < few_shot:
        raise EvaluationError(
            f"hellaswag: {len(chosen)} example rows, few_shot asks for {few_shot}. Add train.jsonl."
        )
    docs = [read(row) for row in rows]
    return [Item(item_id(doc), doc["activity_label"], doc, chosen) for doc in docs]


def ask(item: Item, setting: Setting) -> Question:
    """One context, four endings."""
    solved = "".join(f"{s['query']} {s['endings'][s['label']]}\n\n" for s in item.shots)
    context = solved + item.doc["query"]
    return Question(tuple(ScoreRequest(context, f" {end}") for end in item.doc["endings"]))


def judge_one(answered: Answered) -> ItemRecord:
    """Score is `acc_norm`; both readings stand in `extra`."""
    values, gold = answered.loglikelihoods, answered.item.doc["label"]
    normed = per_character(values, answered.item.doc["endings"])
    chosen, plain = best(normed), best(values)
    return choice_record(
        answered,
        normed,
        chosen=None if chosen is None else str(chosen),
        gold=str(gold),
        extra={"acc": float(plain == gold), "acc_norm": float(chosen == gold)},
    )


def measure(records: Sequence[ItemRecord]) -> dict[str, Measured]:
    """`acc_norm` (headline) and `acc`."""
    return by_name(
        acc_norm=accuracy(hits(records, "acc_norm"), CHANCE),
        acc=accuracy(hits(records, "acc"), CHANCE),
    )


PROTOCOL = Protocol("choice", load, ask, one_by_one(judge_one), measure)
