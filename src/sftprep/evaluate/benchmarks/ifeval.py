"""Instructions whose observance a program can check (IFEval, Zhou et al. 2023).

Form: lm-eval 0.4.13 `ifeval` (version 4) with the chat template, greedy, 1280 new tokens at most.
Four numbers: by prompt (all of its instructions) or by instruction, strict or loose. The headline
is the strict one by prompt.
"""

from collections.abc import Sequence
from typing import Any

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks.constraints import (
    LanguageUnknown,
    arguments_of,
    check_instructions,
)
from sftprep.evaluate.benchmarks.judging import load_alone, one_by_one, text_record
from sftprep.evaluate.benchmarks.metrics import accuracy, by_name, hits, ratio
from sftprep.evaluate.benchmarks.protocol import (
    Answered,
    Item,
    Measured,
    Protocol,
    Question,
    Row,
    Setting,
    need,
    need_texts,
)
from sftprep.evaluate.benchmarks.wording import Detect
from sftprep.evaluate.engine import GenerateRequest
from sftprep.records import ItemRecord, Outcome

MAX_NEW_TOKENS = 1280
STRICT, LOOSE = "instruction_strict", "instruction_loose"


def read(row: Row) -> Row:
    """Prompt, instruction ids, and per instruction its own arguments only.

    Raises:
        EvaluationError: an unknown instruction, a missing argument, or lists of unequal length.
    """
    prompt, ids = need(row, "prompt", str), need_texts(row, "instruction_id_list")
    kwargs = need(row, "kwargs", list)
    if len(ids) != len(kwargs) or not ids:
        raise EvaluationError(
            f"prompt {prompt[:60]!r}: {len(ids)} instructions, {len(kwargs)} entries in kwargs. "
            "Give one entry per instruction."
        )
    pairs = zip(ids, kwargs, strict=True)
    own = [arguments_of(prompt, identity, given or {}) for identity, given in pairs]
    return {"prompt": prompt, "instruction_id_list": ids, "kwargs": own}


def ask_up_to(item: Item, setting: Setting, max_new_tokens: int) -> Question:
    """The prompt as one user turn, with a limit of its own."""
    text = setting.chat(item.doc["prompt"])
    request = GenerateRequest(text, max_new_tokens, add_special_tokens=False)
    return Question(generate=request)


def ask(item: Item, setting: Setting) -> Question:
    """The prompt as one user turn, 1280 new tokens at most."""
    return ask_up_to(item, setting, MAX_NEW_TOKENS)


def _check(answered: Answered, detect: Detect | None) -> tuple[list[bool], list[bool]] | None:
    doc = answered.item.doc
    ids, kwargs, text = doc["instruction_id_list"], doc["kwargs"], answered.text
    try:
        strict = check_instructions(doc["prompt"], text, ids, kwargs, False, detect)
        return strict, check_instructions(doc["prompt"], text, ids, kwargs, True, detect)
    except LanguageUnknown:
        return None


def judge_one(answered: Answered, detect: Detect | None = None) -> ItemRecord:
    """Score is 1 when every instruction is followed strictly.

    Without langdetect an answer whose language decides is `unparsed` and has no score: the set is
    then incomplete rather than wrong.
    """
    found = _check(answered, detect)
    ids = answered.item.doc["instruction_id_list"]
    extra: dict[str, Any] = {"instructions": float(len(ids))}
    outcome: Outcome = "unparsed"
    if found is None:
        extra["note"] = "language unknown: pip install langdetect"
    else:
        strict, loose = found
        outcome = "correct" if all(strict) else "wrong"
        extra |= {
            "prompt_strict": float(all(strict)),
            "prompt_loose": float(all(loose)),
            STRICT: sum(strict) / len(strict),
            LOOSE: sum(loose) / len(loose),
        }
    return text_record(
        answered,
        outcome=outcome,
        score=None if found is None else float(all(found[0])),
        prediction=None if found is None else "".join("01"[ok] for ok in found[0]),
        gold=" ".join(ids),
        extra=extra,
    )


def _by_instruction(records: Sequence[ItemRecord], name: str) -> Measured | None:
    parts = []
    for record in records:
        share, count = record.extra.get(name), record.extra.get("instructions")
        if isinstance(share, float) and isinstance(count, float):
            parts.append((share * count, count))
    return ratio(parts, 0.0)


def measure(records: Sequence[ItemRecord]) -> dict[str, Measured]:
    """`prompt_strict` (headline), `prompt_loose`, `instruction_strict`, `instruction_loose`."""
    return by_name(
        prompt_strict=accuracy(hits(records, "prompt_strict"), 0.0),
        prompt_loose=accuracy(hits(records, "prompt_loose"), 0.0),
        instruction_strict=_by_instruction(records, STRICT),
        instruction_loose=_by_instruction(records, LOOSE),
    )


PROTOCOL = Protocol(
    "generation",
    load_alone("ifeval", read),
    ask,
    one_by_one(judge_one),
    measure,
    uses_chat_template=True,
)
