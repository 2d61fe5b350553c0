"""Answers that loop: windows of words, sentences or single words over and over."""

import re
from collections import Counter
from operator import eq

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt

CODE_REPEATS = 0.8
_ASKS_TO_REPEAT = re.compile(
    r"\b(?:repeat\w*|\w+ times|chant|refrain|chorus|song|lyrics|poem|echo|mantra|rap|limerick"
    r"|pattern)\b",
    re.IGNORECASE,
)
_NOT_A_REQUEST = re.compile(r"\b(?:how many|ancient|modern|several|at|some) times\b", re.IGNORECASE)
_WORD_RUN = re.compile(r"\b(\w{1,20})(?:[\s,.!-]+\1\b){5,}", re.IGNORECASE)
_SHORT_RUN = re.compile(r"([^\W\d_]{1,6}?)\1{9,}", re.IGNORECASE)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
MIN_WORDS = 30
SAME_SENTENCES = 4
SENTENCE_REPEATS = 0.6  # plans and lists say a line again and again below that


def response_repetitive(row: Row, threshold: float) -> Evidence | None:
    """The answer loops. Score: share of its 6-word windows, or of its sentences, that came before.

    Code, tables and requests to repeat are exempt; prose about code (patterns, matrices) must
    repeat CODE_REPEATS. Answers under MIN_WORDS words count when a sentence comes SAME_SENTENCES
    times or a word six times in a row.
    """
    found = _loop(row, threshold)
    return None if found is None or _asked(row.prompt) else found


def _loop(row: Row, threshold: float) -> Evidence | None:
    if row.answer_is_code or _is_table(row.response):
        return None
    limit = max(threshold, CODE_REPEATS) if row.about_code else threshold
    found = row.response_words
    run = _run(row.response, found)
    if run is not None and not row.about_code and not run.group(1).isdigit():
        share = len(run.group()) / len(row.response)
        if share >= limit:
            return Evidence(f"'{run.group(1)}' over and over; {share:.0%} of the answer", share)
    sentences = Counter(s.strip().lower() for s in _SENTENCES.split(row.response) if len(s) > 8)
    if sentences and max(sentences.values()) >= SAME_SENTENCES:
        share = 1 - len(sentences) / sum(sentences.values())
        if share >= max(limit, SENTENCE_REPEATS):
            return Evidence(f"'{excerpt(sentences.most_common(1)[0][0])}' again and again", share)
    if len(found) < MIN_WORDS or len(set(found)) > (1 - limit) * len(found) + 6:
        return None  # more different words than a text with this share of repeats can have
    windows = Counter(zip(*(found[k:] for k in range(6)), strict=False))
    share = 1 - len(windows) / sum(windows.values())
    if share < limit:
        return None
    most = max(windows, key=lambda w: windows[w])
    return Evidence(f"'{' '.join(most)}' {windows[most]} times; {share:.0%} repeated", share)


def _run(text: str, found: list[str]) -> re.Match[str] | None:
    """One word, or a few letters, over and over.

    Plain ASCII is searched only when two neighbouring words are equal, or a word has ten letters
    that recur: without that there is no run.
    """
    plain = text.isascii()
    run = None
    if not plain or any(map(eq, found, found[1:])):
        run = _WORD_RUN.search(text)
    if run is None and (not plain or any(len(w) >= 10 and _SHORT_RUN.search(w) for w in found)):
        run = _SHORT_RUN.search(text)
    return run


def _asked(prompt: str) -> bool:
    return _ASKS_TO_REPEAT.search(_NOT_A_REQUEST.sub("", prompt)) is not None


def _is_table(text: str) -> bool:
    lines = [line for line in text.split("\n") if line.strip()]
    marked = sum(line.count("|") >= 2 or line.count("\t") >= 2 for line in lines)
    return bool(lines) and marked / len(lines) >= 0.4
