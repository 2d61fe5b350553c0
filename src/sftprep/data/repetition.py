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
MAX_PERIOD = 8  # words, or lines of code, of a loop's round
MIN_ROUNDS = 4
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
MIN_WORDS = 30
SAME_SENTENCES = 4
SENTENCE_REPEATS = 0.6  # plans and lists say a line again and again below that


def response_repetitive(row: Row, threshold: float) -> Evidence | None:
    """The answer loops. Score: share of its 6-word windows, sentences or rounds that came before.

    Tables and requests to repeat are exempt; prose about code (patterns, matrices) must repeat
    CODE_REPEATS. Answers under MIN_WORDS words count when a sentence comes SAME_SENTENCES times, a
    word six times in a row, or a phrase MIN_ROUNDS times; code when its lines go round.
    """
    found = _loop(row, threshold)
    return None if found is None or _asked(row.prompt) else found


def _loop(row: Row, threshold: float) -> Evidence | None:
    if _is_table(row.response):
        return None
    limit = max(threshold, CODE_REPEATS) if row.about_code else threshold
    if row.answer_is_code:
        return _rounds([line.strip() for line in row.response.split("\n")], 2, limit)
    found = row.response_words
    run = _run(row.response, found)
    if run is not None and not row.about_code and not run.group(1).isdigit():
        share = len(run.group()) / len(row.response)
        if share >= limit:
            return Evidence(f"'{run.group(1)}' over and over; {share:.0%} of the answer", share)
    parts = _SENTENCES.split(row.response)
    again = _same_in_a_row(parts) if len(parts) - len(set(parts)) >= SAME_SENTENCES - 1 else None
    if again is not None and not row.about_code and 1 - 1 / again[1] >= limit:
        return Evidence(f"'{excerpt(again[0])}' {again[1]} times in a row", 1 - 1 / again[1])
    sentences = Counter(s.strip().lower() for s in parts if len(s) > 8)
    if sentences and max(sentences.values()) >= SAME_SENTENCES:
        share = 1 - len(sentences) / sum(sentences.values())
        if share >= max(limit, SENTENCE_REPEATS):
            return Evidence(f"'{excerpt(sentences.most_common(1)[0][0])}' again and again", share)
    if len(found) < MIN_WORDS:
        return None if row.about_code else _rounds(found, 2, limit)
    if len(set(found)) > (1 - limit) * len(found) + 6:
        return None  # more different words than a text with this share of repeats can have
    if row.response.isascii() and row.response.count(" ") < MIN_ROUNDS:
        return None  # a pattern, a key or a link
    windows = Counter(zip(*(found[k:] for k in range(6)), strict=False))
    share = 1 - len(windows) / sum(windows.values())
    if share < limit and not (share >= threshold and _copies(found)):
        return None
    most = max(windows, key=lambda w: windows[w])
    return Evidence(f"'{' '.join(most)}' {windows[most]} times; {share:.0%} repeated", share)


def _same_in_a_row(parts: list[str]) -> tuple[str, int] | None:
    """A sentence of four words that comes SAME_SENTENCES times in a row or more, and how often."""
    run, last = 1, ""
    best = ("", 0)
    for part in parts:
        run = run + 1 if part == last else 1
        last = part
        if run > best[1] and part.count(" ") >= 3:
            best = (part, run)
    return best if best[1] >= SAME_SENTENCES else None


def _copies(found: list[str]) -> bool:
    """The whole text is three copies or more of one."""
    return any(len(found) % k == 0 and found == found[: len(found) // k] * k for k in range(3, 9))


def _rounds(parts: list[str], least: int, limit: float) -> Evidence | None:
    """Words or lines that go round: MIN_ROUNDS times the same `least` to MAX_PERIOD in a row."""
    if len(parts) - len(set(parts)) < max(
        (MIN_ROUNDS - 1) * least, limit * len(parts) - MAX_PERIOD
    ):
        return None
    for period in range(least, MAX_PERIOD + 1):
        run = longest = end = 0
        for place in range(period, len(parts)):
            run = run + 1 if parts[place] == parts[place - period] else 0
            if run > longest:
                longest, end = run, place + 1
        whole = parts[end - period : end]
        share = (longest + period) / len(parts)
        different = len(set(whole)) > 1 and any(any(map(str.isalpha, part)) for part in whole)
        if longest >= (MIN_ROUNDS - 1) * period and share >= max(limit, 0.5) and different:
            return Evidence(f"'{excerpt(' '.join(whole))}' over and over; {share:.0%}", share)
    return None


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
