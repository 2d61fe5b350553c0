"""Answers in the making: prompts that fit, tokens as they come, and when an answer has ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sftprep.errors import EvaluationError
from sftprep.evaluate.encode import Ids, encode_batch, encode_texts
from sftprep.evaluate.engine import Engine, GenerateRequest, Generation, StopReason, prefix_id


class ReadsText(Protocol):
    """What turning requests into token ids needs to know of a model."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""

    @property
    def max_length(self) -> int:
        """Tokens the model sees at once."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""


TAIL_TOKENS = 8
"""Tokens decoded beyond a stop string's own characters when looking for it."""


@dataclass(slots=True)
class Writing:
    """One answer in the making: `ids` are the prompt's, `tokens` the new ones."""

    number: int
    request: GenerateRequest
    ids: Ids
    limit: int
    end_ids: frozenset[int]
    draws: np.random.Generator
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.ids) + len(self.tokens)

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer at most."""
        return len(self.ids) + self.limit


def prepare(engine: ReadsText, requests: Sequence[GenerateRequest]) -> list[Writing]:
    """Encode prompts and make them fit; longest first, so memory runs out at once or never."""
    ids = encode_texts(engine.tokenizer, [request.prompt for request in requests])
    bare = [i for i, request in enumerate(requests) if not request.add_special_tokens]
    texts = [requests[i].prompt for i in bare]
    for i, one in zip(
        bare, encode_batch(engine.tokenizer, texts, {"add_special_tokens": False}), strict=True
    ):
        ids[i] = one
    found = [_writing(engine, i, request, ids[i]) for i, request in enumerate(requests)]
    return sorted(found, key=lambda one: (-one.longest, one.number))


def _writing(engine: ReadsText, number: int, request: GenerateRequest, ids: Ids) -> Writing:
    if request.max_new_tokens < 1:
        raise EvaluationError(
            f"request {number}: max_new_tokens is {request.max_new_tokens}. Ask for at least 1."
        )
    if not ids.size:
        ids = np.asarray([prefix_id(engine.tokenizer)], np.int32)
    room = max(engine.max_length - request.max_new_tokens, engine.max_length // 2, 1)
    ids = ids[-room:]
    limit = max(1, min(request.max_new_tokens, engine.max_length - len(ids)))
    known = engine.tokenizer.get_added_vocab()
    special = {known[text] for text in request.stop if text in known}
    draws = np.random.default_rng(request.seed)
    return Writing(number, request, ids, limit, engine.eos_ids | special, draws)


def spelled_end(tokenizer: Any) -> tuple[str, ...]:
    """The end token's text as a stop string: a model that spells it out has ended, too.

    lm-eval 0.4.13 adds it to the stop strings of every task.
    """
    return () if tokenizer.eos_token is None else (str(tokenizer.eos_token),)


class Reader:
    """Takes tokens as they are written and says when an answer has ended."""

    def __init__(
        self,
        engine: Engine,
        finish: Callable[[Writing, Generation], None],
        on_text: Callable[[str], None] | None,
    ) -> None:
        self.engine = engine
        self.finish = finish
        self.on_text = on_text

    def accept(self, one: Writing, token: int) -> bool:
        """Add a token; true when the answer is finished (and has been reported)."""
        one.tokens.append(token)
        if self.on_text is not None:
            self.on_text(self._text(one, one.tokens)[0])
        reason: StopReason | None = None
        if token in one.end_ids:
            reason = "eos" if token in self.engine.eos_ids else "stop_string"
        elif self._meets_stop(one):
            reason = "stop_string"
        elif len(one.tokens) == one.limit:
            reason = "length"
        if reason is None:
            return False
        body = one.tokens[:-1] if token in one.end_ids else one.tokens
        text, cut = self._text(one, body)
        self.finish(one, Generation(text, len(one.tokens), "stop_string" if cut else reason))
        return True

    def _meets_stop(self, one: Writing) -> bool:
        if not one.request.stop:
            return False
        tail = one.tokens[-(max(map(len, one.request.stop)) + TAIL_TOKENS) :]
        return self._text(one, tail)[1] and self._text(one, one.tokens)[1]

    def _text(self, one: Writing, tokens: Sequence[int]) -> tuple[str, bool]:
        """Text before the first stop string, and whether one was there."""
        text: str = self.engine.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        places = [text.find(word) for word in one.request.stop if word]
        first = min((place for place in places if place >= 0), default=None)
        return (text, False) if first is None else (text[:first], True)
