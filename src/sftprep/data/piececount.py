"""Tokens of a text, counted piece by piece: nearly every word of a large set was met before.

Byte-level BPE tokenizers cut a text with a pattern and merge inside the cuts only. In the patterns
listed here no cut runs from a character over a space that follows it. So a text may be cut before
each single space, and the tokens of its parts add up to those of the whole. Tokenizers and texts
for which that is not certain are left to the tokenizer. Why: docs/decisions/0020.
"""

import json
import re
from typing import Any
from weakref import WeakKeyDictionary

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = rf"{_LETTERS}|\p{{N}}{{1,3}}{_REST}"
QWEN_2 = rf"{_LETTERS}|\p{{N}}{_REST}"
CUTS_AT_SPACES = frozenset((GPT_2, LLAMA_3, QWEN_2))
HARMLESS_CUTS = frozenset((r"\n", r"\p{N}", r"\p{N}{1,3}"))  # in themselves they know no context
MAX_PIECES = 200_000  # remembered, about 25 MB; then the memory starts anew
LONGEST_PIECE = 64  # characters, of those that are remembered
_SPACE_AFTER_SPACE = re.compile(r"\s ")
_SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")


class _Counts(dict[str, int]):
    """Tokens of every piece met so far, each with `before` in front of it."""

    def __init__(self, backend: Any, before: str) -> None:
        super().__init__()
        self._backend = backend
        self._before = before

    def __missing__(self, piece: str) -> int:
        count = len(self._backend.encode(self._before + piece, add_special_tokens=False).ids)
        if len(self) >= MAX_PIECES:
            self.clear()
        if len(piece) <= LONGEST_PIECE:
            self[piece] = count
        return count


class PieceCounter:
    """Counts tokens of one tokenizer."""

    def __init__(self, backend: Any) -> None:
        self._first = _Counts(backend, "")
        self._further = _Counts(backend, " ")

    def count(self, text: str) -> int | None:
        """Tokens of a text without added ones; None when it must be tokenised as a whole."""
        if not text.isascii():
            return None
        has_runs = _SPACE_AFTER_SPACE.search(text) is not None
        first, *further = _SINGLE_SPACE.split(text) if has_runs else text.split(" ")
        return self._first[first] + sum(map(self._further.__getitem__, further))


_counters: "WeakKeyDictionary[Any, PieceCounter | None]" = WeakKeyDictionary()


def piece_counter(tokenizer: Any) -> PieceCounter | None:
    """The counter of a tokenizer; None for one whose texts cannot be cut at spaces."""
    backend = tokenizer.backend_tokenizer
    if tokenizer not in _counters:
        _counters[tokenizer] = PieceCounter(backend) if _can_be_cut(tokenizer) else None
    return _counters[tokenizer]


def _can_be_cut(tokenizer: Any) -> bool:
    from tokenizers import models, normalizers

    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, models.BPE) or backend.model.dropout is not None:
        return False
    if not isinstance(backend.normalizer, normalizers.NFC | None):  # NFC leaves ASCII as it is
        return False
    if any(_touches_spaces(token) for token in tokenizer.added_tokens_decoder.values()):
        return False
    return backend.pre_tokenizer is not None and _cuts_at_spaces(
        json.loads(backend.pre_tokenizer.__getstate__())
    )


def _touches_spaces(token: Any) -> bool:
    """The token swallows spaces around it, or holds a single one: a cut may go through it."""
    single = " " in token.content and not _SPACE_AFTER_SPACE.search(token.content)
    return bool(token.lstrip or token.rstrip or token.single_word or single)


def _cuts_at_spaces(step: dict[str, Any]) -> bool:
    """The steps before merging are known, and one of them cuts at spaces."""
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    found = False
    for each in steps:
        pattern = each["pattern"].get("Regex") if each["type"] == "Split" else None
        if each["type"] == "ByteLevel":
            if each["add_prefix_space"]:
                return False
            found = found or each["use_regex"]
        elif each["type"] == "Split" and each["behavior"] == "Isolated" and not each["invert"]:
            if pattern not in CUTS_AT_SPACES | HARMLESS_CUTS:
                return False
            found = found or pattern in CUTS_AT_SPACES
        elif each["type"] != "Digits":
            return False
    return found
