"""The starter sets: the public protocols' code, short limits, own names, never their scores.

The embedded starter model has read word problems, scenes and small functions in just the form that
the public protocols show (without few-shot block or primer), so the plain form gives signal before
and after fine-tuning. A model of its size stays at chance with letters, so four-choice questions
are put as instructions and each choice is scored as the response; constraints are chat by nature.
"""

from collections.abc import Sequence
from dataclasses import replace

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks import gsm8k, hellaswag, humaneval, ifeval, mmlu, truthfulqa
from sftprep.evaluate.benchmarks.protocol import Answered, Item, Question, Row, Setting
from sftprep.evaluate.engine import ScoreRequest
from sftprep.records import ItemRecord

MATH_TOKENS = 48
CODE_TOKENS = 48
CONSTRAINT_TOKENS = 48


def load_choice(rows: Sequence[Row], shots: Sequence[Row], few_shot: int) -> list[Item]:
    """MMLU's rows without examples.

    Raises:
        EvaluationError: `few_shot` is not 0: an instruction stands alone.
    """
    if few_shot:
        raise EvaluationError(
            f"starter_choice: few_shot is {few_shot}, but the protocol shows no examples. "
            "Remove few_shot from this task."
        )
    return mmlu.load(rows, (), 0)


def ask_choice(item: Item, setting: Setting) -> Question:
    """The question as an instruction, the text of each choice as its response."""
    context = setting.chat(item.doc["question"])
    return Question(tuple(ScoreRequest(context, choice) for choice in item.doc["choices"]))


def ask_math(item: Item, setting: Setting) -> Question:
    """GSM8K's prompt."""
    return gsm8k.ask_up_to(item, MATH_TOKENS)


def ask_truth(item: Item, setting: Setting) -> Question:
    """The bare question before each answer; the primer is about another world."""
    context = item.doc["question"]
    texts = truthfulqa.answers(item.doc)
    return Question(tuple(ScoreRequest(context, f" {text}") for text in texts))


def ask_code(item: Item, setting: Setting) -> Question:
    """HumanEval's prompt."""
    return humaneval.ask_up_to(item, CODE_TOKENS)


def ask_constraints(item: Item, setting: Setting) -> Question:
    """IFEval's prompt in the chat template."""
    return ifeval.ask_up_to(item, setting, CONSTRAINT_TOKENS)


def judge_constraints(answered: Sequence[Answered], setting: Setting) -> list[ItemRecord]:
    """IFEval's checks; the set is English by construction, so nothing detects the language."""
    return [ifeval.judge_one(one, detect=lambda text: "en") for one in answered]


CHOICE = replace(mmlu.PROTOCOL, load=load_choice, ask=ask_choice, uses_chat_template=True)
ENDINGS = hellaswag.PROTOCOL
MATH = replace(gsm8k.PROTOCOL, ask=ask_math)
TRUTH = replace(truthfulqa.PROTOCOL, ask=ask_truth)
CODE = replace(humaneval.PROTOCOL, ask=ask_code)
CONSTRAINTS = replace(ifeval.PROTOCOL, ask=ask_constraints, judge=judge_constraints)
