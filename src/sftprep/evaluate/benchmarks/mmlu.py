"""Four-choice knowledge questions, answered by a letter (MMLU, Hendrycks et al. 2021).

Form: lm-eval 0.4.13 `mmlu`: the first five dev questions of the subject in order, letters " A" to
" D" scored as continuations, micro average; the macro average over subjects beside it.
"""

from collections.abc import Sequence

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks.metrics import accuracy, by_name, hits, macro
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
    margin,
    need,
)
from sftprep.evaluate.engine import ScoreRequest
from sftprep.records import ItemRecord

LETTERS = "ABCD"
CHANCE = 0.25


def read(row: Row) -> Row:
    """The fields of one question; `answer` may be an index or a letter.

    Raises:
        EvaluationError: not four choices, or an answer outside them.
    """
    answer, choices = row.get("answer"), need(row, "choices", list)
    if isinstance(answer, str) and answer in LETTERS and answer:
        answer = LETTERS.index(answer)
    if len(choices) != 4 or isinstance(answer, bool) or answer not in (0, 1, 2, 3):
        raise EvaluationError(
            f"question {row.get('question')!r}: needs four choices and an answer 0..3 or A..D, has "
            f"{len(choices)} choices and answer {row.get('answer')!r}. Correct the row."
        )
    question, subject = need(row, "question", str), need(row, "subject", str)
    return {"question": question, "subject": subject, "choices": choices, "answer": answer}


def load(rows: Sequence[Row], shots: Sequence[Row], few_shot: int) -> list[Item]:
    """Items with the first `few_shot` dev questions of their own subject.

    Raises:
        EvaluationError: a subject has too few dev questions.
    """
    by_subject: dict[str, list[Row]] = {}
    for row in map(read, shots):
        by_subject.setdefault(row["subject"], []).append(row)
    items = []
    for doc in map(read, rows):
        subject = doc["subject"]
        chosen = tuple(by_subject.get(subject, ())[:few_shot])
        if len(chosen) < few_shot:
            raise EvaluationError(
                f"subject {subject!r}: {len(chosen)} example questions, few_shot asks for "
                f"{few_shot}. Add the dev file, or set few_shot: 0 for this task."
            )
        items.append(Item(item_id(doc), subject, doc, chosen))
    return items


def block(doc: Row) -> str:
    """Question and lettered choices, up to `Answer:`."""
    lines = [f"{letter}. {c}" for letter, c in zip(LETTERS, doc["choices"], strict=True)]
    return "\n".join([doc["question"].strip(), *lines, "Answer:"])


def ask(item: Item, setting: Setting) -> Question:
    """One context, four letters."""
    subject = item.cluster.replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    solved = "".join(f"{block(s)} {LETTERS[s['answer']]}\n\n" for s in item.shots)
    context = head + solved + block(item.doc)
    return Question(tuple(ScoreRequest(context, f" {letter}") for letter in LETTERS))


def judge_one(answered: Answered) -> ItemRecord:
    """The most likely letter is the answer; a tie is no answer and counts as wrong."""
    values = answered.loglikelihoods
    chosen, gold = best(values), answered.item.doc["answer"]
    correct = chosen == gold
    return ItemRecord(
        id=answered.item.id,
        cluster=answered.item.cluster,
        outcome="correct" if correct else ("unparsed" if chosen is None else "wrong"),
        score=float(correct),
        prediction=None if chosen is None else LETTERS[chosen],
        gold=LETTERS[gold],
        loglikelihoods=values,
        text=None,
        prompt_sha256=answered.question.prompt_sha256,
        extra={"margin": margin(values), "note": "tie" if chosen is None else None},
    )


def judge(answered: Sequence[Answered], setting: Setting) -> list[ItemRecord]:
    """One record per item."""
    return [judge_one(one) for one in answered]


def measure(records: Sequence[ItemRecord]) -> dict[str, Measured]:
    """`acc` over all questions and `acc_macro` over subjects."""
    subjects: dict[str, list[bool]] = {}
    for record in records:
        subjects.setdefault(record.cluster, []).extend(hits([record]))
    groups = [group for group in subjects.values() if group]
    return by_name(acc=accuracy(hits(records), CHANCE), acc_macro=macro(groups, CHANCE))


PROTOCOL = Protocol("choice", load, ask, judge, measure)
