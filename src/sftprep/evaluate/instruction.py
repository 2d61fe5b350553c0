"""Does the model do what it is told? Prompts with a checkable answer, judged without a judge model.

Prompts come from a file of the user, or by default from `constraints.jsonl` (verifiable
constraints, written for this project; none is met by accident) plus short held-out rows. Accuracy
counts `correct` over all prompts: an empty or failed answer is not a missing one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from sftprep.errors import DataError, SftprepError
from sftprep.evaluate.benchmarks.metrics import accuracy
from sftprep.evaluate.engine import Generation
from sftprep.evaluate.language import same_language
from sftprep.evaluate.text_quality import (
    exact_match,
    is_empty,
    is_over_long,
    is_repetitive,
    normalise,
)
from sftprep.files import read_plain
from sftprep.records import Example, Message, Metric, Outcome, to_dict
from sftprep.store.fingerprint import fingerprint

SHORT_WORDS = 8
"""Held-out responses up to this many words are judged by exact match."""
PROTOCOL = "instruction_following/exact-or-constraints/v1"
RATES = ("stopped", "empty", "repetitive", "over_long", "language_match")
MAX_PROMPT_BYTES = 64 << 20
LANGUAGE_ASKED = "language:"
"""Start of the constraint ids that name the language of the answer themselves."""
_CHECK_FAILURES = (KeyError, TypeError, ValueError, IndexError, SftprepError)


@dataclass(frozen=True, slots=True)
class InstructionPrompt:
    """One prompt: `reference` for exact match, or constraint ids with their arguments.

    `source`: the data set or file it came from."""

    messages: tuple[Message, ...]
    category: str
    reference: str | None = None
    constraints: tuple[str, ...] = ()
    arguments: tuple[Mapping[str, Any], ...] = ()
    source: str = "built-in"

    @property
    def text(self) -> str:
        """What is asked: the last user turn."""
        return self.messages[-1].content

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over the turns and what is expected."""
        asked = (self.messages, self.reference, self.constraints, self.arguments)
        return fingerprint([to_dict(one) for one in asked[0]], asked[1:])

    @property
    def language_like(self) -> str | None:
        """A text in the expected language; None when a constraint names the language."""
        if any(one.startswith(LANGUAGE_ASKED) for one in self.constraints):
            return None
        return self.reference if self.reference is not None else self.text


def read_prompts(path: Path) -> list[InstructionPrompt]:
    """Prompts of a JSONL file.

    A line is {"instruction", "response", "category"?}, judged by exact match, or
    {"prompt", "instruction_id_list", "kwargs", "category"?} as in IFEval.

    Raises:
        DataError: the file or a line cannot be used; the message names the line.
    """
    try:
        lines = read_plain(path, MAX_PROMPT_BYTES).decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Correct validation.instruction_prompts."
        ) from error
    found = [_prompt(f"{path}:{i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DataError(f"{path}: no prompt in it. Add lines or remove the key from the recipe.")
    return [replace(one, source=path.name) for one in found]


def _prompt(where: str, line: str) -> InstructionPrompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}). Write one object per line.") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: {type(row).__name__} instead of an object.")
    category = str(row.get("category") or "none")
    if _texts(row, "instruction", "response"):
        messages = (Message("user", row["instruction"], False),)
        return InstructionPrompt(messages, category, reference=row["response"])
    ids, arguments = row.get("instruction_id_list"), row.get("kwargs")
    if _texts(row, "prompt") and isinstance(ids, list) and isinstance(arguments, list):
        if len(ids) != len(arguments) or not ids:
            raise DataError(
                f"{where}: {len(ids)} instruction ids and {len(arguments)} kwargs. Give one kwargs "
                "object per id, and at least one."
            )
        asked = (Message("user", row["prompt"], False),)
        found = InstructionPrompt(
            asked, category, None, tuple(ids), tuple(k or {} for k in arguments)
        )
        _probe(where, found)
        return found
    raise DataError(
        f"{where}: neither instruction and response (texts) nor prompt, instruction_id_list and "
        f"kwargs; found {', '.join(sorted(map(str, row))) or 'no key'}."
    )


def _texts(row: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(row.get(name), str) and row[name].strip() for name in names)


def _probe(where: str, prompt: InstructionPrompt) -> None:
    try:
        _met(prompt, "probe")
    except _CHECK_FAILURES as error:
        raise DataError(
            f"{where}: the constraints {', '.join(map(str, prompt.constraints))} cannot be checked "
            f"({error}). Use the ids and arguments of IFEval."
        ) from error


def built_in_prompts() -> list[InstructionPrompt]:
    """The constraints that ship with sftprep."""
    text = (files("sftprep.evaluate") / "constraints.jsonl").read_text(encoding="utf-8")
    return [_prompt(f"constraints.jsonl:{i}", line) for i, line in enumerate(text.splitlines(), 1)]


def held_out_prompts(examples: Sequence[Example], limit: int) -> list[InstructionPrompt]:
    """Held-out rows whose response is short enough for exact match, at most `limit`."""
    found: list[InstructionPrompt] = []
    for example in examples:
        last = example.messages[-1]
        if last.role != "assistant" or len(example.messages) < 2 or len(found) == max(0, limit):
            continue
        if 0 < len(last.content.split()) <= SHORT_WORDS:
            asked = tuple(example.messages[:-1])
            category, source = example.category or "none", example.source.dataset
            found.append(InstructionPrompt(asked, category, last.content, source=source))
    return found


def _met(prompt: InstructionPrompt, text: str) -> bool:
    """All constraints hold. Case constraints do not look at the language: guessing it from a short
    answer would make the result depend on an optional package."""
    from sftprep.evaluate.benchmarks.constraints import LanguageUnknown, check_instructions

    asked = [dict(one) for one in prompt.arguments]
    needs_language = any(one.startswith(LANGUAGE_ASKED) for one in prompt.constraints)
    detect = None if needs_language else _any_language
    try:
        met = check_instructions(prompt.text, text, prompt.constraints, asked, detect=detect)
    except LanguageUnknown as error:
        raise ValueError("the language check needs the package langdetect") from error
    return all(met)


def _any_language(text: str) -> str | None:
    return None


def judge(prompt: InstructionPrompt, text: str) -> Outcome:
    """`correct`, `wrong`, `unparsed` (nothing written) or `error` (the check itself failed)."""
    if prompt.reference is not None:
        return exact_match(text, prompt.reference)
    if is_empty(text):
        return "unparsed"
    try:
        return "correct" if _met(prompt, text) else "wrong"
    except _CHECK_FAILURES:
        return "error"


def following(outcomes: Sequence[Outcome], available: int, prompts_hash: str) -> Metric:
    """Accuracy with Wilson 95% interval; `value` None when no prompt was asked.

    Args:
        available: prompts there were before a limit; the metric is complete when all were asked.
    """
    measured = accuracy([outcome == "correct" for outcome in outcomes], 0.0)
    return Metric(
        value=None if measured is None else measured.value,
        stderr=None if measured is None else measured.stderr,
        ci95=None if measured is None else measured.ci95,
        n=len(outcomes),
        n_total=available,
        complete=0 < len(outcomes) == available,
        chance=0.0,
        protocol=PROTOCOL,
        hashes={"prompts": prompts_hash},
    )


def outcomes_by_category(
    prompts: Sequence[InstructionPrompt], outcomes: Sequence[Outcome]
) -> dict[str, dict[str, int]]:
    """The four outcomes per category."""
    found: dict[str, dict[str, int]] = {}
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        counts = found.setdefault(
            prompt.category, {"correct": 0, "wrong": 0, "unparsed": 0, "error": 0}
        )
        counts[outcome] += 1
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Written:
    """An answer with what it is measured against. `fits`: the reference is well below the length
    limit, so an answer that runs into the limit is the model's fault. `language_like`: a text in
    the language the answer should have (the reference, else the question)."""

    generation: Generation
    reference: str | None
    fits: bool
    language_like: str | None = None


def rates(answers: Sequence[Written]) -> dict[str, float]:
    """Shares of answers that stopped by themselves, are empty, loop, are over-long, or are in the
    language of the question.

    `stopped` counts only answers whose reference fits the length limit; a looping text that is
    exactly the reference is not a loop; `language_match` counts only answers whose language can be
    told. Nothing to count: no entries, never 0.
    """
    fitting = [one for one in answers if one.fits]
    if not answers:
        return {}
    found = {
        "empty": _share(answers, lambda one: is_empty(one.generation.text)),
        "repetitive": _share(answers, _loops),
        "over_long": _share(answers, _over_long),
    }
    if fitting:
        found["stopped"] = _share(fitting, lambda one: one.generation.stop != "length")
    told = [same for one in answers if (same := _in_language(one)) is not None]
    if told:
        found["language_match"] = sum(told) / len(told)
    return {name: found[name] for name in RATES if name in found}


def _in_language(one: Written) -> bool | None:
    if one.language_like is None:
        return None
    return same_language(one.generation.text, one.language_like)


def _share(answers: Sequence[Written], holds: Callable[[Written], bool]) -> float:
    return sum(map(holds, answers)) / len(answers)


def _loops(one: Written) -> bool:
    text = one.generation.text
    same = one.reference is not None and normalise(text) == normalise(one.reference)
    return is_repetitive(text) and not same


def _over_long(one: Written) -> bool:
    hit_limit = one.generation.stop == "length"
    return is_over_long(one.generation.text, one.reference, hit_limit=hit_limit)


def swapped_instructions(
    examples: Sequence[Example], limit: int
) -> list[tuple[tuple[Message, ...], tuple[Message, ...]]]:
    """Pairs (own conversation, the same response under another row's instruction).

    Rows with one user turn; the other instruction comes from half the list away and differs.
    """
    single = [one for one in examples if _single_turn(one)][:limit]
    found = []
    for index, example in enumerate(single):
        other = single[(index + len(single) // 2) % len(single)]
        if other.messages[-2].content == example.messages[-2].content:
            continue
        swapped = (*example.messages[:-2], other.messages[-2], example.messages[-1])
        found.append((example.messages, swapped))
    return found


def _single_turn(example: Example) -> bool:
    roles = [message.role for message in example.messages]
    return roles[-2:] == ["user", "assistant"] and roles.count("user") == 1
