"""Checks on text that belongs between turns: markers of other records, control tokens."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt

_MERGED = re.compile(
    r"""^[ \t]*(?:\#{1,}[ \t]*)?(?:\d{1,3}[.)][ \t]*)?(?:\*\*)?
        (?P<name>Instruction|Task|Input|Output|Response|Prompt|Completion
          |Context|Answer)(?:\*\*)?[ \t]*\d{0,3}[ \t]*:""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_MARKER_WORDS = (
    "instruction",
    "task",
    "human:",
    "user:",
    "assistant:",
    "prompt:",
    'prompt"',
    "question",
    "q:",
    "input:",
    "gpt:",
)
_NUMBERED_RECORD = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:\d{1,3}[.)][ \t]*(?:\*\*)?Instruction\b(?:\*\*)?[ \t]*:"
    r"|(?:Instruction|Task|Example|Record"
    r"|Prompt)[ \t]+\d{1,3}[ \t]*:[ \t]*\n?[ \t]*(?:Instruction|Input|Prompt)\b)",
    re.M | re.I,
)
_INLINE = re.compile(
    r"(?<=[.!?\n\w])\s*(?:#+\s*)?\b(?:Instruction|Prompt"
    r"|Input)\s?\d?:\s.{3,400}?\s(?:#+\s*)?(?:Output|Response|Answer|Completion|Input)\s?\d?:",
    re.S,
)
_JSON_RECORD = re.compile(r"\{\s*\"(?:instruction|prompt|question|messages|conversations)\"\s*:")
_TURNS = re.compile(
    r"^[ \t]*(?:#+[ \t]*|\*\*)?(Human|User|Assistant|GPT|Bot|AI|Chatbot)(?:\*\*)?[ \t]*:", re.M
)
_PAIRS = re.compile(
    r"^[ \t]*(?:#+[ \t]*|\*\*)?(Q|Question|A|Answer)(?:\*\*)?[ \t]*\d{0,3}[ \t]*[:.]", re.M
)
_ASKS_FOR_PAIRS = re.compile(
    r"\b(?:questions?|quiz|faqs?|q ?& ?a|trivia|interview|test|exam|riddles?|jokes?|knock|survey"
    r"|flash ?cards?)\b",
    re.I,
)


_FENCED = re.compile(r"```.*?```", re.DOTALL)


def records_merged(row: Row, threshold: float) -> Evidence | None:
    """The answer runs on into another record: a new instruction, input and output, or new turns.

    `threshold`: different record markers needed; a marker that only a record has (a new user turn
    or instruction after the answer, a record as JSON) counts for two. A question that itself shows
    the markers or asks for a dialogue or for example records is exempt.
    """
    if not any(marker in row.folded_answers for marker in _MARKER_WORDS):
        return None
    answer = _FENCED.sub("", row.response)
    strong = _strong(row, answer)
    if strong is not None and threshold <= 2:
        return Evidence(excerpt(answer, strong.start(), strong.end()), 2.0)
    for pattern in (_MERGED, _TURNS, _PAIRS):
        found = list(pattern.finditer(answer))
        names = {m.group(1).lower() for m in found}
        opens = names & {"instruction", "task", "prompt"}
        if pattern is _MERGED and (not opens or _is_own_task(found[0], names, row)):
            continue
        if pattern is _PAIRS and (
            (found[:1] and found[0].start() == 0) or _ASKS_FOR_PAIRS.search(row.prompt)
        ):
            continue
        if len(names) >= threshold and not _shows(names, row.prompt):
            return Evidence(excerpt(answer, found[0].start(), found[0].end()), float(len(names)))
    return None


def _is_own_task(first: re.Match[str], names: set[str], row: Row) -> bool:
    """The answer opens with the heading "Task:", or the question names all of the headings."""
    heading = first.start() == 0 and first.group("name").lower() == "task"
    return heading or names.issubset(row.prompt_words)


def _strong(row: Row, answer: str) -> re.Match[str] | None:
    numbered = _NUMBERED_RECORD.search(answer)
    if (
        numbered
        and "instruction" not in row.prompt_words
        and "instructions" not in row.prompt_words
    ):
        return numbered
    record = _JSON_RECORD.search(answer)
    if (
        record
        and record.start() > 0
        and not row.asks_for_code
        and not _ASKS_FOR_TURNS.search(row.prompt)
    ):
        return record
    inline = _INLINE.search(answer) if not row.about_code else None
    if inline and not _shows({"instruction", "input", "output"}, row.prompt):
        return inline
    for pattern in (_TURNS, _MERGED):
        later = next((m for m in pattern.finditer(answer) if answer[: m.start()].strip()), None)
        opens = later is not None and later.group(1).lower() in ("human", "user", "instruction")
        if later is not None and opens and not _shows({later.group(1).lower()}, row.prompt):
            first = _TURNS.match(answer) or _MERGED.match(answer)
            if first is None and not row.about_code and len(answer[later.end() :].split()) >= 2:
                return later
    return None


_ASKS_FOR_TURNS = re.compile(
    r"\b(?:dialog|conversation|interview|chat|script|transcript|instruction|prompt|role.?play"
    r"|exchange|template|format|steps?\b|data ?set|recipe|algorithm|few-?shot|test cases?"
    r"|demonstrations?"
    r"|training examples?|examples? for\b)",
    re.IGNORECASE,
)


def _shows(names: set[str], prompt: str) -> bool:
    folded = prompt.lower()
    return any(f"{name}:" in folded for name in names) or bool(_ASKS_FOR_TURNS.search(prompt))


CONTROL_TOKENS: tuple[str, ...] = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|user|>", "<|assistant|>",
    "<|system|>", "<|end|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>",
    "<end_of_turn>", "<|eom_id|>", "<|channel|>", "<|message|>", "<|return|>", "<|pad|>",
    "<|prompter|>", "<|endofturn|>", "<|bos|>", "<|eos"
    "|>", "\u2581</s>", "### Instruction:", "### Response:", "### Human:", "### Assistant:",
)  # fmt: skip
_CONTROL = re.compile("|".join(map(re.escape, CONTROL_TOKENS)))
_TRAILING_CONTROL = re.compile(
    r"\s*(?:</s>|<eos>|<pad>|<\|endoftext\|>|<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<\|end\|>"
    r"|<end_of_turn>|\[EOS\]|\[PAD\])\s*$"
)


def control_token_trailing(row: Row, threshold: float) -> Evidence | None:
    """An answer ends with the end token of some template; the repair cuts it off."""
    for answer in row.answers:
        match = _TRAILING_CONTROL.search(answer[-80:])
        if match is not None and match.start() > 0:
            return Evidence(excerpt(answer, max(0, len(answer) - 40)))
    return None


def without_trailing_control(text: str) -> str:
    """The text without end tokens at its end."""
    while (match := _TRAILING_CONTROL.search(text)) is not None:
        text = text[: match.start()]
    return text


_ABOUT_TOKENS = re.compile(
    r"\b(?:(?:prompt|chat|alpaca|vicuna|llama)\s+(?:prompt\s+)?(?:format|template)s?|chatml"
    r"|(?:special|control|stop)\s+tokens?)\b",
    re.IGNORECASE,
)


def control_tokens_inside(row: Row, threshold: float) -> Evidence | None:
    """A turn holds the literal control text of a chat template or of this tokenizer.

    An answer about templates may show the headings that old ones used, never a token of this
    tokenizer.
    """
    own = tuple(token for token in row.own_tokens if len(token) >= 5)
    for content in row.contents:
        match = _CONTROL.search(content)
        heading = match is not None and match.group().startswith("###")
        if heading and _ABOUT_TOKENS.search(row.prompt):
            match = None
        if match is not None and not _quoted(content, match.start(), match.end()):
            return Evidence(excerpt(content, match.start(), match.end()))
        for token in own:
            if token in content:
                at = content.index(token)
                return Evidence(excerpt(content, at, at + len(token)))
    return None


def _quoted(text: str, start: int, end: int) -> bool:
    """Written about, in backticks or quotes, rather than left behind."""
    marks = "`\"'"
    return start > 0 and text[start - 1] in marks and text[end : end + 1] in tuple(marks)
