"""Python functions from their docstrings, judged by tests (HumanEval, Chen et al. 2021).

Form: lm-eval 0.4.13 `humaneval` (version 1): the raw prompt, greedy, its five stop strings, pass@1
with one sample. What the model wrote runs in the sandbox and nowhere else.
"""

from collections.abc import Sequence

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks.metrics import accuracy, by_name, hits
from sftprep.evaluate.benchmarks.protocol import (
    Answered,
    Item,
    Measured,
    Protocol,
    Question,
    Row,
    Setting,
    item_id,
    need,
)
from sftprep.evaluate.engine import GenerateRequest
from sftprep.evaluate.sandbox import Problem, SandboxOutcome, run_many
from sftprep.records import ItemRecord, Outcome

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MAX_NEW_TOKENS = 1024
OUTCOMES: dict[str, Outcome] = {"passed": "correct", "failed": "wrong", "error": "error"}


def read(row: Row) -> Row:
    """Prompt, tests and name of the function (and its task id, when there is one)."""
    fields = ("prompt", "test", "entry_point")
    return {"task_id": row.get("task_id")} | {name: need(row, name, str) for name in fields}


def load(rows: Sequence[Row], shots: Sequence[Row], few_shot: int) -> list[Item]:
    """Items in file order.

    Raises:
        EvaluationError: `few_shot` is not 0.
    """
    if few_shot:
        raise EvaluationError(
            f"humaneval: few_shot is {few_shot}, but the protocol shows no examples. "
            "Remove few_shot from this task."
        )
    docs = [read(row) for row in rows]
    return [Item(item_id(doc), "all", doc) for doc in docs]


def ask_up_to(item: Item, max_new_tokens: int) -> Question:
    """The raw prompt with a limit of its own."""
    return Question(generate=GenerateRequest(item.doc["prompt"], max_new_tokens, STOPS))


def ask(item: Item, setting: Setting) -> Question:
    """The raw prompt as published, 1024 new tokens at most."""
    return ask_up_to(item, MAX_NEW_TOKENS)


def _problem(answered: Answered) -> Problem:
    doc = answered.item.doc
    return Problem(doc["prompt"], answered.text, doc["test"], doc["entry_point"])


def _record(answered: Answered, outcome: SandboxOutcome) -> ItemRecord:
    assert answered.generation is not None
    scored = outcome.status != "error"
    return ItemRecord(
        id=answered.item.id,
        cluster=answered.item.cluster,
        outcome=OUTCOMES[outcome.status],
        score=float(outcome.status == "passed") if scored else None,
        prediction=outcome.status,
        gold="passed",
        loglikelihoods=None,
        text=answered.text,
        prompt_sha256=answered.question.prompt_sha256,
        extra={
            "task_id": answered.item.doc["task_id"],
            "detail": outcome.detail or None,
            "seconds": outcome.seconds,
            "tokens": float(answered.generation.tokens),
            "stop": answered.generation.stop,
        },
    )


def judge(answered: Sequence[Answered], setting: Setting) -> list[ItemRecord]:
    """Run every completion; a fault of the machinery is an error, not a wrong answer."""
    assert setting.tier is not None, "the runner never gets here without a sandbox"
    outcomes = run_many([_problem(one) for one in answered], tier=setting.tier)
    return [_record(one, outcome) for one, outcome in zip(answered, outcomes, strict=True)]


def measure(records: Sequence[ItemRecord]) -> dict[str, Measured]:
    """`pass@1` over the problems that could be judged."""
    return by_name(**{"pass@1": accuracy(hits(records), 0.0)})


PROTOCOL = Protocol("generation", load, ask, judge, measure, runs_code=True)
