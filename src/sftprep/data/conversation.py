"""What a check sees of one conversation: prompt, instruction, passage and answers as texts."""

from dataclasses import dataclass
from functools import cached_property

from sftprep.data.text import is_code, words
from sftprep.data.wordlists import word_list
from sftprep.records import Example


@dataclass(frozen=True)
class Row:
    """One conversation with the texts that checks ask for, each computed at most once.

    `own_tokens`: special tokens of the tokenizer that is trained with.
    `tokens`: length in training tokens, None when it was not rendered (yet).
    `toxicity`: score 0..1 of the recipe's classifier, None without one.
    """

    example: Example
    own_tokens: tuple[str, ...] = ()
    tokens: int | None = None
    toxicity: float | None = None

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Assistant turns that are trained on."""
        return tuple(m.content for m in self.example.messages if m.role == "assistant" and m.train)

    @cached_property
    def response(self) -> str:
        """The last answer, "" when there is none."""
        return self.answers[-1] if self.answers else ""

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """User turns."""
        return tuple(m.content for m in self.example.messages if m.role == "user")

    @cached_property
    def prompt(self) -> str:
        """All user turns."""
        return "\n\n".join(self.questions)

    @cached_property
    def passage(self) -> str:
        """The separate input of a row that has one, else ""."""
        return self.example.meta.get("input", "")

    @cached_property
    def instruction(self) -> str:
        """The first user turn without its separate input."""
        first = self.questions[0] if self.questions else ""
        if self.passage and first.endswith(self.passage):
            return first[: -len(self.passage)].rstrip()
        return first

    @cached_property
    def response_words(self) -> list[str]:
        """Folded words of the last answer."""
        return words(self.response)

    @cached_property
    def prompt_words(self) -> list[str]:
        """Folded words of all user turns."""
        return words(self.prompt)

    @cached_property
    def stems(self) -> frozenset[str]:
        """First four letters of every word of every turn, for quick looks."""
        return frozenset(word[:4] for content in self.contents for word in words(content))

    @cached_property
    def folded_prompt(self) -> str:
        """All user turns and the separate input in lower case, for quick looks."""
        return f"{self.prompt}\n{self.passage}".lower()

    @cached_property
    def folded_answers(self) -> str:
        """Answers in lower case, for quick looks."""
        return "\n".join(self.answers).lower()

    @cached_property
    def answer_is_code(self) -> bool:
        """The last answer is mostly source code."""
        return is_code(self.response)

    @cached_property
    def about_code(self) -> bool:
        """Question or answer is source code, or the question is about programming."""
        return _about_code(self.prompt_words) or self.answer_is_code or is_code(self.prompt)

    @cached_property
    def asks_for_code(self) -> bool:
        """The question names programming or shows a code fence, whatever the answer looks like."""
        return asks_for_code(self.prompt)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """All turns, whoever speaks."""
        return tuple(m.content for m in self.example.messages)


# Names of languages and tools; words that programming shares with daily life count in pairs.
_CODE_WORDS = frozenset(word_list("code_words"))
_SHARED_WORDS = frozenset(word_list("shared_code_words"))


def _about_code(found: list[str]) -> bool:
    present = _SHARED_WORDS.intersection(found)
    return not _CODE_WORDS.isdisjoint(found) or len(present) >= 2


def asks_for_code(text: str) -> bool:
    """The text names programming or shows a code fence."""
    return "```" in text or _about_code(words(text))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check found: text to show and, where there is one, the number that was compared."""

    text: str
    score: float | None = None
