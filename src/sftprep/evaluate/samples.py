"""Sample answers: the same held-out prompts, answered by base and SFT model, side by side."""

from collections.abc import Sequence
from itertools import zip_longest

from sftprep.evaluate.instruction import SHORT_WORDS
from sftprep.evaluate.text_quality import exact_match
from sftprep.records import Example, Message, Outcome, Sample


def choose_samples(examples: Sequence[Example], count: int) -> list[Example]:
    """At most `count` rows that end with an answer, the categories taking turns, in row order."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if len(example.messages) > 1 and example.messages[-1].role == "assistant":
            groups.setdefault(example.category or "none", []).append(example)
    turns = zip_longest(*(groups[name] for name in sorted(groups)))
    return [one for turn in turns for one in turn if one is not None][: max(0, count)]


def shown_prompt(messages: Sequence[Message]) -> str:
    """The prompt as a reader sees it: the only user turn, or all turns with their roles."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def side_by_side(
    examples: Sequence[Example], base: Sequence[str] | None, sft: Sequence[str]
) -> list[Sample]:
    """One record per row; short references are judged by exact match."""
    found = []
    for index, example in enumerate(examples):
        reference = example.messages[-1].content
        outcome: Outcome | None = None
        if len(reference.split()) <= SHORT_WORDS:
            outcome = exact_match(sft[index], reference)
        found.append(
            Sample(
                prompt=shown_prompt(example.messages[:-1]),
                reference=reference,
                base=None if base is None else base[index],
                sft=sft[index],
                category=example.category,
                outcome=outcome,
            )
        )
    return found
