"""Conversations to token ids and loss masks.

The whole conversation becomes one text and is tokenised once, so that training sees what a user's
`apply_chat_template` gives. What is supervised is decided in characters and mapped to tokens by
offsets: a mask never searches for token patterns.

How the characters are found: every sequence of roles is rendered once with markers in place of the
contents. That gives the literal text between contents; rows are then joined from literals and
contents, and compared with a real rendering unless the template is one of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sftprep.data.piececount import piece_counter
from sftprep.data.scaffold import (
    Scaffold,
    added_tokens,
    build_scaffold,
    is_built_in,
    render_text,
    rewritten_spans,
    special_ids,
    special_pattern,
)
from sftprep.errors import DataError, ModelError
from sftprep.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainOn = Literal["responses", "all_turns", "full"]
Ids = NDArray[np.int32]
Mask = NDArray[np.bool_]
ENCODE_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Rendered:
    """One conversation: `ids` int32 [T], `supervised` bool [T] (this token counts in the loss)."""

    ids: Ids
    supervised: Mask


@dataclass(frozen=True, slots=True)
class _Text:
    """One rendered row: spans in characters, [start, end), of contents and supervised parts."""

    text: str
    contents: tuple[tuple[int, int], ...]
    answers: tuple[tuple[int, int], ...]
    special: int


def render_many(
    conversations: Sequence[Sequence[Message]],
    tokenizer: "PreTrainedTokenizerBase",
    train_on: str = "responses",
) -> list[Rendered]:
    """Tokenise conversations with their loss masks.

    Args:
        conversations: turns in order; `Message.train` marks assistant turns to learn.
        tokenizer: from `load_tokenizer`; its chat template writes BOS and the turn ends.
        train_on: `responses` (assistant turns with `train`), `all_turns` (every assistant turn),
            `full` (every token but the first, which nothing predicts).
    Raises:
        ModelError: the template has no turn end, refuses the roles or writes BOS twice.
        DataError: a conversation has nothing to learn from, or its template rewrites contents.
    """
    if train_on not in ("responses", "all_turns", "full"):
        raise DataError(f"training.train_on: {train_on!r}. Use responses, all_turns or full.")
    scaffolds: dict[tuple[str, ...], Scaffold] = {}
    texts = [
        _text_of(index, turns, tokenizer, train_on, scaffolds)
        for index, turns in enumerate(conversations)
    ]
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    masker = _Masker(tokenizer, train_on)
    rendered: list[Rendered] = []
    for start in range(0, len(texts), ENCODE_ROWS):
        chunk = texts[start : start + ENCODE_ROWS]
        encodings = backend.encode_batch([t.text for t in chunk], add_special_tokens=False)
        for place, (text, encoding) in enumerate(zip(chunk, encodings, strict=True), start=start):
            rendered.append(masker.row(place, text, encoding))
    return rendered


def token_counts(
    conversations: Sequence[Sequence[Message]],
    tokenizer: "PreTrainedTokenizerBase",
    train_on: str = "responses",
) -> list[int]:
    """Tokens of each conversation, as `render_many` would give, without the masks.

    The masks of the first conversation of each sequence of roles are made all the same, so that a
    template that cannot be masked is found.

    Raises:
        ModelError, DataError: as `render_many`.
    """
    scaffolds: dict[tuple[str, ...], Scaffold] = {}
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    masker = _Masker(tokenizer, train_on)
    texts: list[_Text] = []
    whole: list[int] = []
    for index, turns in enumerate(conversations):
        known = len(scaffolds)
        texts.append(_text_of(index, turns, tokenizer, train_on, scaffolds))
        if len(scaffolds) > known or masker.has_special(texts[-1]):
            whole.append(index)
    counter = piece_counter(tokenizer)
    counts = [counter.count(t.text) if counter is not None else None for t in texts]
    for index in whole:
        encoding = backend.encode(texts[index].text, add_special_tokens=False)
        counts[index] = len(masker.row(index, texts[index], encoding).ids)
    rest = [t.text for t, count in zip(texts, counts, strict=True) if count is None]
    lengths = iter(_encoded_lengths(rest, backend))
    return [next(lengths) if count is None else count for count in counts]


def _encoded_lengths(texts: Sequence[str], backend: Any) -> list[int]:
    counts: list[int] = []
    for start in range(0, len(texts), ENCODE_ROWS):
        chunk = texts[start : start + ENCODE_ROWS]
        counts += map(len, backend.encode_batch_fast(chunk, add_special_tokens=False))
    return counts


def prompt_text(messages: Sequence[Message], tokenizer: "PreTrainedTokenizerBase") -> str:
    """The text after which the model answers; tokenise it without added special tokens.

    Raises:
        ModelError: the template refuses the roles.
    """
    return render_text([_as_dict(m) for m in messages], tokenizer, generate=True)


def turn_end_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Token ids that end an answer: the template's turn end first, then EOS if it differs.

    Raises:
        ModelError: the template writes no end-of-turn token.
    """
    scaffold = build_scaffold(("user", "assistant"), tokenizer)
    known = added_tokens(tokenizer)
    ends = [known[scaffold.turn_end(1)], int(tokenizer.eos_token_id)]
    return tuple(dict.fromkeys(ends))


def _as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _answers(turns: Sequence[Message], train_on: str) -> list[int]:
    if train_on == "responses":
        return [i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.train]
    return [i for i, turn in enumerate(turns) if turn.role == "assistant"]


def _text_of(
    index: int,
    turns: Sequence[Message],
    tokenizer: Any,
    train_on: str,
    scaffolds: dict[tuple[str, ...], Scaffold],
) -> _Text:
    answers = _answers(turns, train_on)
    if not answers:
        raise DataError(
            f"conversation {index}: no assistant turn to learn from. Drop it, or mark a turn."
        )
    roles = tuple(turn.role for turn in turns)
    if roles not in scaffolds:
        scaffolds[roles] = build_scaffold(roles, tokenizer)
    scaffold = scaffolds[roles]
    text, contents = scaffold.join([turn.content for turn in turns])
    if is_built_in(tokenizer) or text == render_text([_as_dict(t) for t in turns], tokenizer):
        spans = tuple(
            (contents[i][0] - scaffold.lead(i), contents[i][1] + scaffold.tail(i)) for i in answers
        )
        return _Text(text, contents, spans, scaffold.special)
    text, spans = rewritten_spans(index, [_as_dict(t) for t in turns], answers, tokenizer, scaffold)
    return _Text(text, spans, spans, scaffold.special)


class _Masker:
    """Turns encodings into ids and masks; holds per-tokenizer tables built once."""

    def __init__(self, tokenizer: Any, train_on: str) -> None:
        self.tokenizer = tokenizer
        self.full = train_on == "full"
        self.end_ids = frozenset(added_tokens(tokenizer).values())
        self.is_special = special_ids(tokenizer)
        self.bos = tokenizer.bos_token_id
        self.pieces: dict[int, list[int]] = {}
        self.special_text = special_pattern(tokenizer)

    def has_special(self, text: _Text) -> bool:
        """True when the contents hold the text of special tokens."""
        pattern = self.special_text
        return pattern is not None and len(pattern.findall(text.text)) != text.special

    def row(self, index: int, text: _Text, encoding: Any) -> Rendered:
        """Ids and mask of one row; asserts that each answer's last supervised token ends a turn."""
        ids = np.array(encoding.ids, dtype=np.int32)
        if int(self.is_special[ids].sum()) != text.special:
            return self._slow_row(index, text, encoding, ids)
        self._check_bos(ids)
        mask = np.zeros(len(ids), dtype=bool)
        for start, end in text.answers:
            first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
            if first is None or last is None:  # a character that no token covers
                return self._slow_row(index, text, encoding, ids)
            if first and encoding.token_to_chars(first - 1) == (start, start):
                first -= 1  # a token without characters of its own marks the beginning
            if int(ids[last]) not in self.end_ids:
                self._raise_end(index)
            mask[first : last + 1] = True
        return self._finished(ids, mask)

    def _slow_row(self, index: int, text: _Text, encoding: Any, ids: Ids) -> Rendered:
        """As `row`, by the offsets of every token."""
        offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        if int(self.is_special[ids].sum()) != text.special:
            ids, offsets = self._content_as_text(text, ids, offsets)
        self._check_bos(ids)
        mask = np.zeros(len(ids), dtype=bool)
        for start, end in text.answers:
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < end)
            inside |= (offsets[:, 0] == offsets[:, 1]) & (offsets[:, 0] == start)
            places = np.flatnonzero(inside)
            if len(places) == 0 or int(ids[places[-1]]) not in self.end_ids:
                self._raise_end(index)
            mask |= inside
        return self._finished(ids, mask)

    def _finished(self, ids: Ids, mask: Mask) -> Rendered:
        if self.full:
            mask[:] = True
        mask[0] = False
        return Rendered(ids, mask)

    def _raise_end(self, index: int) -> None:
        raise ModelError(
            f"conversation {index}: the answer's last supervised token does not end a turn. "
            "The tokenizer splits the template's turn end; use model.chat_template: plain."
        )

    def _check_bos(self, ids: Ids) -> None:
        if self.bos is not None and len(ids) > 1 and ids[0] == self.bos and ids[1] == self.bos:
            raise ModelError(
                f"the chat template writes {self.tokenizer.bos_token} twice. Remove one from it."
            )

    def _content_as_text(
        self, text: _Text, ids: Ids, offsets: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """Special-token strings inside contents become ordinary pieces, never BOS or EOS."""
        new_ids: list[int] = []
        new_offsets: list[tuple[int, int]] = []
        for token, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
            inside = any(a <= start and end <= b for a, b in text.contents)
            pieces = [token]
            if inside and end > start and self.is_special[token]:
                pieces = self._pieces(token, text.text[start:end])
            new_ids += pieces
            new_offsets += [(start, end)] * len(pieces)
        return np.asarray(new_ids, np.int32), np.asarray(new_offsets, np.int64).reshape(-1, 2)

    def _pieces(self, token: int, string: str) -> list[int]:
        if token not in self.pieces:
            backend = self.tokenizer.backend_tokenizer
            before = backend.encode_special_tokens
            backend.encode_special_tokens = True
            try:
                self.pieces[token] = backend.encode(string, add_special_tokens=False).ids
            finally:
                backend.encode_special_tokens = before
        return self.pieces[token]
