"""Text as the data checks see it: normal form, words, stable word hashes, scripts, code.

Legend: word hashes are uint32 (xxh32 of the folded word), keys are 64-bit (xxh3 of a normal form).
Both are stable across processes and row orders, so nothing downstream depends on either.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

Words = NDArray[np.uint32]

# Scripts written without spaces: each character counts as one word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# ASCII bytes to lower case, and all that is in no word to a space: six times as fast as WORD.
_ASCII_WORDS = bytes(
    ord(chr(c).lower()) if c < 128 and WORD.match(chr(c)) else 32 for c in range(256)
)
_CACHE_LIMIT = 500_000  # words; about 60 MB, then the cache starts anew

SCRIPTS: tuple[tuple[str, str], ...] = (
    ("latin", "A-Za-z\u00c0-\u024f\u1e00-\u1eff"),
    ("greek", "\u0370-\u03ff"),
    ("cyrillic", "\u0400-\u052f"),
    ("hebrew", "\u0590-\u05ff"),
    ("arabic", "\u0600-\u06ff\u0750-\u077f"),
    ("devanagari", "\u0900-\u097f"),
    ("bengali", "\u0980-\u09ff"),
    ("thai", "\u0e00-\u0e7f"),
    ("kana", "\u3040-\u30ff"),
    ("han", "\u3400-\u4dbf\u4e00-\u9fff"),
    ("hangul", "\uac00-\ud7af"),
)
_OTHER_SCRIPT = re.compile("[" + "".join(span for _, span in SCRIPTS[1:]) + "]")
_SCRIPT_PATTERNS = tuple((name, re.compile(f"[{span}]")) for name, span in SCRIPTS)

_CODE_LINE = re.compile(
    r"""^\s*(?:
        (?:def|class|import|from|return|elif|else|try|except|print|echo|end|let|const|var|function
          |public|private|static|void|int|using|package|require|fn|func|SELECT|FROM|WHERE|JOIN
          |INSERT|UPDATE|DELETE|CREATE|ORDER|GROUP|VALUES)\b.*[\w)\]};:>"'=,*]
      | (?:if|for|while|switch)\s*\(?.*[:{)]
      | \#include\b.* | <[/!?]?\w[^>]*>.* | @\w+.* | //.* | /\*.* | \*/.*
      | [\w.\[\]"'$>-]+\s*(?:[-+*/|]?=|:=|<-)\s*\S.*
      | [\w.$]+\(.*\)[;:]? | [\[\](){}]+[;,]?.{0,3} | .*[;{}]
      )\s*$""",
    re.VERBOSE,
)


class _Hashes(dict[str, int]):
    """xxh32 of every word met so far."""

    def __missing__(self, word: str) -> int:
        value = self[word] = xxhash.xxh32_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


_hashes = _Hashes()


def normal(text: str) -> str:
    """Compatibility form, case folded, white space collapsed: equal for copies of one text."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def key(text: str) -> int:
    """64-bit hash of the normal form (two different texts of 1M collide once in 4e7 runs)."""
    return int(xxhash.xxh3_64_intdigest(normal(text).encode("utf-8", "surrogatepass")))


@lru_cache(maxsize=256)
def words(text: str) -> list[str]:
    """Folded words; punctuation is dropped, digits stay, unspaced scripts give characters.

    The last texts are remembered, because every check asks again: do not change the list.
    """
    return folded_words(text)


def folded_words(text: str) -> list[str]:
    """As `words`, for texts that nobody will ask about again."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def word_hashes(text: str) -> Words:
    """Hash of each word, in order: shape [words]."""
    return hashes_of(words(text))


def hashes_of(found: Sequence[str]) -> Words:
    """Hash of each of the folded words, in order: shape [words]."""
    if len(_hashes) > _CACHE_LIMIT:
        _hashes.clear()
    return np.fromiter(map(_hashes.__getitem__, found), dtype=np.uint32, count=len(found))


def script_shares(text: str) -> dict[str, float]:
    """Share of letters per script, over letters of known scripts; empty when there are none."""
    if text.isascii():
        return {"latin": 1.0} if any(c.isalpha() for c in text) else {}
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPT_PATTERNS}
    total = sum(counts.values())
    return {name: n / total for name, n in counts.items() if n} if total else {}


def has_other_script(text: str) -> bool:
    """True when some letter is of a known script other than Latin."""
    return not text.isascii() and _OTHER_SCRIPT.search(text) is not None


def code_share(text: str) -> float:
    """Share of non-blank lines that look like source code; 0 when there is no line.

    Lines over 200 characters count as prose.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return 0.0
    return sum(len(li) <= 200 and _CODE_LINE.match(li) is not None for li in lines) / len(lines)


def is_code(text: str) -> bool:
    """True when the text is mostly source code, markup or a query, or holds a code fence."""
    return "```" in text or code_share(text) >= 0.5


def excerpt(text: str, start: int = 0, end: int | None = None, width: int = 160) -> str:
    """A span with a little text around it, on one line, as evidence."""
    end = min(len(text), start + width) if end is None else end
    room = max(0, width - (end - start)) // 2
    left, right = max(0, start - room), min(len(text), max(end, start) + room)
    right = min(right, left + 2 * width)
    body = " ".join(text[left:right].split())
    return f"{'...' if left else ''}{body}{'...' if right < len(text) else ''}"


def first_words(texts: Iterable[str], limit: int) -> str:
    """The first `limit` words of the first non-empty text, for labels."""
    for text in texts:
        if text.strip():
            return " ".join(text.split()[:limit])
    return ""
