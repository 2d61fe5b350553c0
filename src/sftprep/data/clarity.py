"""Checks on whether the question can be understood and the answer adds to it."""

import re
from functools import lru_cache
from itertools import pairwise

from sftprep.data.conversation import Evidence, Row
from sftprep.data.language import ANY_LANGUAGE, language_of
from sftprep.data.text import excerpt, words
from sftprep.data.wordlists import word_list

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_LATIN_WORD = re.compile(r"(?<![\w@#./\\-])[A-Za-z]{4,}(?![\w@./\\-])")
_VOWELLESS = re.compile(r"[^aeiouyAEIOUY]{4,}")
_VOWELLESS_SHORT = re.compile(r"[^aeiouyAEIOUY]{2,}|[a-z]")
_LONG_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxz]{6,}", re.IGNORECASE)
# Pairs of letters inside no English word (own count over dolly-3k's and gsm8k's questions), and
# runs of a keyboard row.
_NEVER_PAIRED = re.compile(
    r"a[a]|b[ghknpqxz]|c[bdfgjmpvwxz]|d[xz]|f[bdghjkmnpqvxz]|g[cjkqvxz]|h[gjkvxz]|i[y]"
    r"|j[bcdfghjklmnpqrstvwxyz]|k[kqvxz]|l[hjqxz]|m[dgjkqvxz]|p[jqvxz]"
    r"|q[abcdefghijklmnopqrstvwxyz]|r[xz]|s[jvxz]|t[jkqvx]|u[hjw]|v[bcdfghjklmnpqrstvwxz]"
    r"|w[gjquvwxz]|x[bdfgjklmnrsvxz]|y[hjkqvxy]|z[bdfghjkmnpqrstvwx]"
)
_KEYBOARD = re.compile(
    r"^(?:(?:asdf|sdfg|dfgh|fghj|ghjk|hjkl|qwer|wert|erty|rtyu|tyui|yuio|uiop|zxcv|xcvb|cvbn|vbnm"
    r"|jkl|asd|qwe|zxc|fgh|lkj)+[a-z]{0,4}|(.)\1{3,}|([a-z]{2,3})\2{2,})$"
)
_NOT_PROSE = re.compile(
    r"\b(?:decrypt|decode|encode|encrypt|cipher|unscramble|anagram|abbreviat\w*|acronym\w*"
    r"|scrambled|rearrange|letters|hash|base64|rot13|sequence|dna|rna|protein|morse)\b",
    re.IGNORECASE,
)


_ASCII_LETTERS_AND_DIGITS = bytes(c for c in range(128) if chr(c).isalnum())
_BARE_VERBS = frozenset(word_list("bare_verbs"))


def instruction_too_short(row: Row, threshold: float) -> Evidence | None:
    """Fewer letters and digits in all user turns than `threshold`, or a bare verb ("Explain.").

    A wide character counts 2. The bare verb counts in a single turn without input.
    """
    if len(row.questions) == 1 and len(row.prompt) < 40:
        found = words(row.prompt)
        if 0 < len(found) <= 2 and _BARE_VERBS.issuperset(found) and threshold > 0:
            return Evidence(
                f"{row.prompt.strip()!r}: what to work on is not said", float(len(found))
            )
    count = 0
    for match in _LETTER_OR_DIGIT.finditer(row.prompt):
        count += 2 if ord(match.group()) >= 0x1100 else 1
        if count >= threshold:
            return None
    if not count:
        return None
    return Evidence(f"{row.prompt.strip()[:40]!r}: {count} letters and digits", float(count))


def instruction_garbled(row: Row, threshold: float) -> Evidence | None:
    """Keyboard noise: share of longer Latin words that nobody could pronounce, or of odd signs.

    At least 2 such words, or nothing else; code, ciphers, anagrams, acronyms and other languages
    than English are exempt.
    """
    text = row.instruction[:1000]
    found = _garbled(text, threshold)
    return None if found is None or row.about_code or _NOT_PROSE.search(text) else found


def _garbled(text: str, threshold: float) -> Evidence | None:
    found = [w for w in _LATIN_WORD.findall(text) if not w.isupper()]
    bad = [w for w in found if _is_noise(w)]
    share = len(bad) / len(found) if found else 0.0
    enough = bad and share >= threshold and (len(bad) >= 2 or len(words(text)) == 1)
    if enough and text.isascii() and language_of(words(text)) in (None, "English"):
        return Evidence(f"{', '.join(bad[:5])} in: {excerpt(text)}", share)
    strange, pairs = _strange_pairs(text[:300])
    if strange >= threshold + (MORE_STRANGE if pairs < LONG_PAIRS else 0.1):
        return Evidence(
            f"{strange:.0%} of the pairs of letters are rare in: {excerpt(text)}", strange
        )
    short = re.findall(r"[A-Za-z]+", text)
    if len(short) >= 3 and all(
        _VOWELLESS_SHORT.fullmatch(w) or _KEYBOARD.match(w.lower()) for w in short
    ):
        return Evidence(f"no word in: {excerpt(text)}", 1.0) if threshold <= 1 else None
    bare = "".join(text.split())
    odd = len(bare.encode("ascii", "ignore").translate(None, _ASCII_LETTERS_AND_DIGITS))
    if (
        len(bare) >= 8
        and odd / len(bare) >= max(threshold, 0.5)
        and not any(c.isdigit() for c in bare)
    ):
        return Evidence(
            f"{odd} of {len(bare)} signs are no letters: {excerpt(text)}", odd / len(bare)
        )
    return None


# Pairs of neighbouring letters that make up nine tenths of English text (own count over dolly-3k).
_COMMON_PAIRS = frozenset(word_list("common_pairs"))
MIN_PAIRS, LONG_PAIRS = 8, 30
MORE_STRANGE = 0.3  # random letters have three rare pairs in four, English one in ten
MOST_KNOWN = 0.12  # share of function words from which a text is one of some language


def _strange_pairs(text: str) -> tuple[float, int]:
    """Share of neighbouring letters that are rare in English, and their number.

    0 for a text with the function words of some language.
    """
    found = words(text)
    known = sum(len(w) > 2 and w in ANY_LANGUAGE for w in found)
    if known > MOST_KNOWN * len(found) or not text.isascii():
        return 0.0, 0
    letters = [w.lower() for w in _LATIN_RUN.findall(text) if not w.isupper()]
    pairs = [a + b for word in letters for a, b in pairwise(word)]
    if len(pairs) < MIN_PAIRS:
        return 0.0, 0
    return 1 - sum(map(_COMMON_PAIRS.__contains__, pairs)) / len(pairs), len(pairs)


_LATIN_RUN = re.compile(r"(?<![\w@#./\\-])[A-Za-z]{3,}(?![\w@./\\-])")


@lru_cache(maxsize=50_000)
def _is_noise(word: str) -> bool:
    if _VOWELLESS.fullmatch(word) or _LONG_CLUSTER.search(word):
        return True
    if not word.islower():
        return False
    return _KEYBOARD.match(word) is not None or (
        len(word) >= 5 and _NEVER_PAIRED.search(word) is not None
    )


def response_echo(row: Row, threshold: float) -> Evidence | None:
    """The answer repeats the question and adds nothing. `threshold`: words from which it counts."""
    answer = row.response_words
    if not answer or len(answer) < threshold or len(row.response) > 3 * len(row.prompt) + 20:
        return None
    asked = [words(text) for text in {row.instruction, *row.questions[-1:]}]
    if any(_only_repeats(answer, text) for text in asked):
        return None if _ASKS_FOR_SAME.search(row.instruction) else Evidence(excerpt(row.response))
    changes = len(answer) >= ECHO_OF_INPUT and _ASKS_FOR_CHANGE.match(row.instruction)
    if changes and not row.about_code:
        return Evidence(excerpt(row.response)) if answer == words(row.passage) else None
    return None


ECHO_OF_INPUT = 8  # words: shorter passages may be right as they are
_LABELS = frozenset(("question", "q", "instruction", "prompt", "task", "user", "input"))


def _only_repeats(answer: list[str], asked: list[str]) -> bool:
    """The answer is the question once or more, perhaps with a label before."""
    start = 1 if answer[0] in _LABELS and answer[:1] != asked[:1] else 0
    times, rest = divmod(len(answer) - start, len(asked)) if asked else (0, 1)
    return times > 0 and rest == 0 and answer[start:] == asked * times


_ASKS_FOR_SAME = re.compile(
    r"\b(?:repeat|copy|echo|rewrite|correct|edit|proofread|paraphrase|punctuat\w*|after me)\b", re.I
)
_ASKS_FOR_CHANGE = re.compile(
    r"\W*(?:please\s+)?(?:summari[sz]e|shorten|condense|translate|explain|classify|analy[sz]e|answer"
    r"|paraphrase|rephrase|simplify|expand|elaborate|outline|reverse|categori[sz]e|give|write"
    r"|create|generate|describe)\b",
    re.IGNORECASE,
)
