"""Checks on what is missing from a row or should not be in it: empty, cut, merged, damaged."""

import re
from collections import Counter

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt, is_code, normal

_INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\u00ad]+")
_VISIBLE = re.compile(r"[^\s\u200b-\u200f\u2060\ufeff\u00ad]")
_WORDLIKE = re.compile(r"[^\W_]|[^\x00-\xff]")
_PLACEHOLDER_ANSWER = re.compile(
    r"""[<\[({]?\s*(?:
        no\s?(?:output|response|answer|input)(?:\s(?:needed|required|provided|available))?
      | (?<=[<\[({])(?:output|response|answer|empty)(?=[>\])}])
      | placeholder | todo | tbd | tba | fixme | n\s?/\s?a | lorem\ ipsum.{0,400}
      | (?:insert|your)\ (?:\w+\ )?(?:answer|response|text)(?:\ here)?
      )\s*[>\])}]?[.!]?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ONLY_MARKS = re.compile(r"(?:\.{2,}|\u2026|[-_*#=~]{2,}|\?{2,})")
_PLACEHOLDER_INPUT = re.compile(
    r"""[<\[({"']?\s*(?:
        no\s?-?(?:input|context|text)(?:\s(?:is\s)?(?:needed|required|provided|given|available|necessary))?
      | n\s?/\s?a | not\s(?:applicable|available|required|needed) | none | nil | null | nan | empty
      | input | \.{2,} | - )\s*[>\])}"']?[.!]?""",
    re.VERBOSE | re.IGNORECASE,
)


LONGEST_PLACEHOLDER = 500  # characters


def _stripped(text: str) -> str:
    return _INVISIBLE.sub(" ", text).strip()


def response_empty(row: Row, threshold: float) -> Evidence | None:
    """An answer that is to be learned has no visible character."""
    for number, answer in enumerate(row.answers or ("",), start=1):
        if _VISIBLE.search(answer) is None:
            return Evidence(f"answer {number} of {max(1, len(row.answers))}: {answer[:20]!r}")
    return None


def response_placeholder(row: Row, threshold: float) -> Evidence | None:
    """The whole answer is a stand-in (`<nooutput>`, N/A, nan, ...), never part of a longer text."""
    if len(row.response) > LONGEST_PLACEHOLDER:
        return None
    answer = _stripped(row.response)
    if _PLACEHOLDER_ANSWER.fullmatch(answer) or _ONLY_MARKS.fullmatch(answer):
        return None if _asked_for(answer, row.prompt) else Evidence(excerpt(answer))
    if answer.lower() == "nan" and not row.about_code and not _asked_for(answer, row.prompt):
        return Evidence(answer)
    return None


def _asked_for(answer: str, prompt: str) -> bool:
    """The stand-in occurs in the question, so it may be the right answer."""
    bare = normal(answer).strip(".!<>[](){} ")
    return bool(bare) and bare in normal(prompt)


def instruction_empty(row: Row, threshold: float) -> Evidence | None:
    """A user turn holds no letter and no digit."""
    for number, question in enumerate(row.questions or ("",), start=1):
        if _WORDLIKE.search(question) is None:
            return Evidence(f"user turn {number}: {question[:40]!r}")
    return None


def input_placeholder(row: Row, threshold: float) -> Evidence | None:
    """The separate input is a stand-in such as `Noinput`; the repair blanks it."""
    if not 0 < len(row.passage) <= 60:
        return None
    passage = _stripped(row.passage)
    return Evidence(row.passage[:60]) if _PLACEHOLDER_INPUT.fullmatch(passage) else None


# Words after which an English sentence cannot end. Prepositions and pronouns can ("look at that").
_NEVER_LAST = frozenset(
    [
        "the",
        "a",
        "an",
        "and",
        "or",
        "but",
        "because",
        "although",
        "whose",
        "my",
        "your",
        "our",
        "their",
        "every",
        "its",
        "than",
        "during",
        "between",
        "into",
        "onto",
        "via",
    ]
)
# Words after which a sentence seldom ends: they count when the answer has a whole sentence before.
_SELDOM_LAST = frozenset(
    [
        "to",
        "of",
        "with",
        "for",
        "from",
        "by",
        "at",
        "in",
        "on",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "will",
        "would",
        "can",
        "could",
        "should",
        "because",
        "that",
        "which",
        "who",
        "when",
        "where",
        "i",
        "we",
        "they",
        "he",
        "she",
    ]
)
_SENTENCE_BEFORE = re.compile(r"[a-z)\"][.!?]\s+[A-Z]")
_LAST_WORD = re.compile(r"(?:^|\s)([A-Za-z]+)$")
_ASKS_TO_CONTINUE = re.compile(
    r"\b(?:complete|continue|finish|fill|prefix|first half|beginning|next word|preposition|article"
    r"|conjunction|pronoun|adjective|tokeni[sz]e|lowercase|remove|extract|identify|sort|list"
    r"|reverse|repeat|classify|word)\w*\b",
    re.IGNORECASE,
)


def response_truncated(row: Row, threshold: float) -> Evidence | None:
    """The answer was cut: by the generator's own word, an open code fence, or mid-sentence.

    Only signs that are near certain count; a missing full stop alone is no sign (nine of ten such
    rows are lists, titles or hashtags). `threshold`: words from which the last word is looked at.
    """
    if row.example.meta.get("finish_reason") == "length":
        return Evidence("finish_reason: length")
    answer = row.response.rstrip()
    if answer.count("```") % 2 == 1:
        return Evidence(f"code fence not closed: {excerpt(answer, max(0, len(answer) - 60))}")
    last = _LAST_WORD.search(answer[-40:])
    word = last.group(1) if last is not None else ""
    cut = word in _NEVER_LAST
    cut = cut or (word in _SELDOM_LAST and _SENTENCE_BEFORE.search(answer) is not None)
    if not cut and not (answer.endswith(",") and "\n" not in answer.strip()):
        return None
    if len(row.response_words) < threshold or is_code(answer):
        return None
    if len(row.questions) == 1 and _ASKS_TO_CONTINUE.search(row.instruction):
        return None
    return Evidence(f"ends with: {excerpt(answer, max(0, len(answer) - 60))}")


_MERGED = re.compile(
    r"""^[ \t]*(?:\#{2,}[ \t]*)?(?:\d{1,3}[.)][ \t]*)?(?:\*\*)?
        (?:Instruction|Task|Input|Output|Response)(?:\*\*)?[ \t]*\d{0,3}[ \t]*:""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_MARKER_WORDS = ("instruction", "task", "human:", "user:")
_NUMBERED_RECORD = re.compile(
    r"^[ \t]*(?:###[ \t]*)?\d{1,3}[.)][ \t]*Instruction[ \t]*:", re.M | re.I
)
_TURNS = re.compile(r"^[ \t]*(?:###[ \t]*)?(Human|User|Assistant)[ \t]*:", re.M)


def records_merged(row: Row, threshold: float) -> Evidence | None:
    """The answer runs on into another record: a new instruction, input and output, or new turns.

    `threshold`: different record markers needed. A question that itself shows the markers or asks
    for a dialogue or for example records is exempt.
    """
    answer = row.response
    if not any(marker in row.folded_answers for marker in _MARKER_WORDS):
        return None
    numbered = _NUMBERED_RECORD.search(answer)
    if numbered and "instruction" not in row.prompt_words:
        return Evidence(excerpt(answer, numbered.start(), numbered.end()), 1.0)
    for pattern in (_MERGED, _TURNS):
        found = list(pattern.finditer(answer))
        names = {re.sub(r"[^a-z]", "", m.group().lower()) for m in found}
        if pattern is _MERGED and not names & {"instruction", "task"}:
            continue
        if len(names) >= threshold and not _shows(names, row.prompt):
            return Evidence(excerpt(answer, found[0].start(), found[0].end()), float(len(names)))
    return None


_ASKS_FOR_TURNS = re.compile(
    r"\b(?:dialog|conversation|interview|chat|script|transcript|instruction|prompt|role.?play"
    r"|example|exchange|template)",
    re.IGNORECASE,
)


def _shows(names: set[str], prompt: str) -> bool:
    folded = prompt.lower()
    return any(f"{name}:" in folded for name in names) or bool(_ASKS_FOR_TURNS.search(prompt))


CONTROL_TOKENS: tuple[str, ...] = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|user|>", "<|assistant|>",
    "<|system|>", "<|end|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>",
    "<end_of_turn>", "### Instruction:", "### Response:", "### Human:", "### Assistant:",
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


def control_tokens_inside(row: Row, threshold: float) -> Evidence | None:
    """A turn holds the literal control text of a chat template or of this tokenizer."""
    own = tuple(token for token in row.own_tokens if len(token) >= 5)
    for content in row.contents:
        match = _CONTROL.search(content)
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


CODE_REPEATS = 0.8
_ASKS_TO_REPEAT = re.compile(r"\b(?:repeat|times|chant|refrain|chorus|song|lyrics|poem|echo)", re.I)


def response_repetitive(row: Row, threshold: float) -> Evidence | None:
    """The answer loops. Score: share of its 6-word windows that occurred before.

    Code, tables and requests to repeat are exempt, and answers under 30 words; prose about code
    (patterns, matrices) must repeat CODE_REPEATS of its windows.
    """
    found = row.response_words
    if len(found) < 30 or len(set(found)) > (1 - threshold) * len(found) + 6:
        return None  # more different words than a text with this share of repeats can have
    if row.answer_is_code or _ASKS_TO_REPEAT.search(row.prompt) or _is_table(row.response):
        return None
    windows = Counter(zip(*(found[k:] for k in range(6)), strict=False))
    total = sum(windows.values())
    share = 1 - len(windows) / total
    if share < (max(threshold, CODE_REPEATS) if row.about_code else threshold):
        return None
    most = max(windows, key=lambda w: windows[w])
    return Evidence(f"'{' '.join(most)}' {windows[most]} times; {share:.0%} repeated", share)


def _is_table(text: str) -> bool:
    lines = [line for line in text.split("\n") if line.strip()]
    marked = sum(line.count("|") >= 2 or line.count("\t") >= 2 for line in lines)
    return bool(lines) and marked / len(lines) >= 0.4


_MOJIBAKE = re.compile(
    "\ufffd"
    "|\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6\u00a2\u0080-\u00bf]"
    "|\u00c3[\u0080-\u00bf\u2013\u2014\u2018-\u201e\u2020-\u2026\u2030\u2039\u203a\u20ac\u2122\u0152\u0153\u0160\u0161\u017d\u017e\u0192\u02c6\u02dc]"
    "|\u00c2[\u00a0-\u00bf]"
    "|\u00ef\u00bb\u00bf|[\u0080-\u0084\u0086-\u009f]"
)


def encoding_damaged(row: Row, threshold: float) -> Evidence | None:
    """Replacement characters or UTF-8 read as Latin-1 (mojibake).

    Score: their number in answers plus half their number elsewhere.

    A question that asks to repair an encoding is not told apart: turn the check off for such data.
    """
    score, shown = 0.0, ""
    for message in row.example.messages:
        if message.content.isascii():
            continue
        found = list(_MOJIBAKE.finditer(message.content))
        score += len(found) * (1.0 if message.train else 0.5)
        if found and not shown:
            shown = excerpt(message.content, found[0].start(), found[0].end(), width=60)
    return Evidence(shown, score) if shown and score >= threshold else None


def too_long(row: Row, threshold: float) -> Evidence | None:
    """More training tokens than fit; nothing is ever cut to fit."""
    if row.tokens is None or row.tokens <= threshold:
        return None
    return Evidence(f"{row.tokens} tokens, at most {threshold:g} fit", float(row.tokens))
