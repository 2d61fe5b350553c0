"""Writing answers: continuous batching with greedy or seeded decoding.

Finished rows make room for waiting prompts while the others go on, so no row waits for the longest
answer. A beginning that all prompts share is encoded once.

Shapes: B new rows, R rows at work, L columns, K keys, V vocabulary.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from sftprep.errors import EvaluationError
from sftprep.evaluate.decoding import choose, write_singly
from sftprep.evaluate.engine import Engine, Finished, GenerateRequest, Generation
from sftprep.evaluate.rows import (
    Prefix,
    encode_prefix,
    free_memory,
    is_out_of_memory,
    layer_masks,
)
from sftprep.evaluate.scoring import takes_trees
from sftprep.evaluate.sharing import common_prefix
from sftprep.evaluate.slots import RecordingCache, SlotCache
from sftprep.evaluate.writing import Reader, Writing, prepare
from sftprep.progress import Progress
from sftprep.stop import StopSignal

CACHE_TOKENS_PER_BATCH_TOKEN = 4
"""Cached tokens of all rows, in multiples of the token budget of a forward pass."""
MAX_ROWS = 256
REFILL_SHARE = 8
"""New prompts enter when one in this many slots is free: one prefill pass serves several."""
MIN_PREFIX = 32
"""Shared tokens from which encoding them once pays."""


def generate(
    engine: Engine,
    requests: Sequence[GenerateRequest],
    progress: Progress,
    stop: StopSignal,
    label: str,
    on_text: Callable[[str], None] | None = None,
    finished: Finished | None = None,
) -> list[Generation]:
    """See `Engine.generate`. `on_text` is called with the text so far of every answer's new token;
    meant for a single request.
    """
    found: dict[int, Generation] = {}
    with progress.task(label, len(requests), "answers") as task:

        def finish(one: Writing, result: Generation) -> None:
            found[one.number] = result
            if finished is not None:
                finished(one.number, result)
            task.advance()

        reader = Reader(engine, finish, on_text)
        write = _write_batched if takes_trees(engine) else write_singly
        with torch.inference_mode():
            write(engine, prepare(engine, requests), reader, lambda: stop.check(label))
    return [found[number] for number in range(len(requests))]


def _write_batched(
    engine: Engine, waiting: list[Writing], reader: Reader, check: Callable[[], None]
) -> None:
    """Run batches until all is written; when memory runs out, go on with half the rows."""
    done: set[int] = set()
    prefix = _shared_prefix(engine, waiting)
    rows = MAX_ROWS
    while waiting:
        budget = CACHE_TOKENS_PER_BATCH_TOKEN * engine.max_tokens_per_batch
        rows = max(1, min(rows, budget // waiting[0].longest, len(waiting)))
        batch = Batch(engine, waiting, rows, prefix, reader)
        try:
            batch.run(check)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if rows == 1:
                raise EvaluationError(
                    f"out of memory while writing a single answer of up to {waiting[0].longest} "
                    "tokens. Use fewer new tokens, a smaller model or a device with more memory."
                ) from error
            rows //= 2
            engine.max_tokens_per_batch = max(1, engine.max_tokens_per_batch // 2)
        done |= batch.finished
        waiting = [one for one in waiting if one.number not in done]
        for one in waiting:
            one.tokens.clear()
            one.draws = np.random.default_rng(one.request.seed)
        del batch
        free_memory()


def _shared_prefix(engine: Engine, waiting: Sequence[Writing]) -> Prefix | None:
    if len(waiting) < 2:
        return None
    first, length = waiting[0].ids, len(waiting[0].ids)
    for one in waiting:
        length = common_prefix(first, one.ids, min(length, len(one.ids) - 1))
    return encode_prefix(engine, first[:length]) if length >= MIN_PREFIX else None


class Batch:
    """Rows written together, their cache and the prompts that wait for a row to become free."""

    def __init__(
        self,
        engine: Engine,
        waiting: Sequence[Writing],
        rows: int,
        prefix: Prefix | None,
        reader: Reader,
    ) -> None:
        self.engine = engine
        self.queue = deque(waiting)
        self.rows = rows
        self.active: list[Writing] = []
        """Row by row, in the order of the cache's slots."""
        self.cache = SlotCache(rows)
        self.prefix = prefix
        self.reader = reader
        self.finished: set[int] = set()

    def run(self, check: Callable[[], None]) -> None:
        """Write until all is written; `check` may raise between tokens."""
        while self.queue or self.active:
            check()
            self._refill()
            if self.active:
                self._step()

    def _refill(self) -> None:
        enough = max(1, self.rows // REFILL_SHARE)
        while self.queue and (free := self.rows - len(self.active)) >= enough:
            before = 0 if self.prefix is None else self.prefix.length
            longest = len(self.queue[0].ids) - before
            count = max(1, self.engine.tokens_per_pass // longest)
            self._prefill([self.queue.popleft() for _ in range(min(count, free, len(self.queue)))])

    def _prefill(self, chosen: Sequence[Writing]) -> None:
        """Encode prompts into the next free slots, and take each one's first token."""
        before = 0 if self.prefix is None else self.prefix.length
        lengths = [len(one.ids) - before for one in chosen]
        ids_BL = np.zeros((len(chosen), max(lengths)), np.int64)
        for row, one in enumerate(chosen):
            ids_BL[row, : lengths[row]] = one.ids[before:]
        device = self.engine.model.device
        kept = np.unique(np.asarray(lengths) - 1)
        cache = DynamicCache() if self.prefix is None else RecordingCache(self.prefix)
        inputs = {} if self.prefix is None else self._behind_prefix(ids_BL.shape)
        logits_BKV = self.engine.model(
            input_ids=torch.from_numpy(ids_BL).to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.from_numpy(kept).to(device),
            **inputs,
        ).logits
        place = (len(self.active), len(chosen))
        if self.prefix is not None:
            pairs = zip(self.prefix.keys, self.prefix.values, strict=True)
            self.cache.fill(*place, [*pairs], 0)
            states = cache.recorded
        else:
            states = [(layer.keys, layer.values) for layer in cache.layers]
        self.cache.fill(*place, states, before)
        self.active.extend(chosen)
        columns = np.searchsorted(kept, np.asarray(lengths) - 1)
        logits_BV = logits_BKV[torch.arange(len(chosen)), torch.from_numpy(columns)]
        self._accept(place[0], choose(logits_BV, chosen))

    def _behind_prefix(self, shape: tuple[int, int]) -> dict[str, Any]:
        rows, length = shape
        assert self.prefix is not None
        before, device = self.prefix.length, self.engine.model.device
        positions_BL = torch.arange(before, before + length, device=device).expand(rows, length)
        keys_BK = torch.arange(before + length, device=device).expand(rows, -1)
        seen_BLK = keys_BK[:, None, :] <= positions_BL[:, :, None]
        mask = layer_masks(self.engine, seen_BLK, positions_BL, keys_BK)
        return {"position_ids": positions_BL, "attention_mask": mask}

    def _step(self) -> None:
        """One token for every row."""
        last = [one.tokens[-1] for one in self.active]
        lengths = [one.length - 1 for one in self.active]
        if not self.queue:
            self.cache.keep(len(self.active))
        device = self.engine.model.device
        positions_R1 = torch.tensor(lengths, device=device)[:, None]
        self.cache.begin_step(positions_R1[:, 0], max(lengths) + 1)
        keys_RK = torch.arange(self.cache.visible, device=device).expand(len(last), -1)
        seen_R1K = keys_RK[:, None, :] <= positions_R1[:, :, None]
        logits_R1V = self.engine.model(
            input_ids=torch.tensor(last, device=device)[:, None],
            position_ids=positions_R1,
            attention_mask=layer_masks(self.engine, seen_R1K, positions_R1, keys_RK),
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        self._accept(0, choose(logits_R1V[:, -1], self.active))

    def _accept(self, first: int, tokens: Sequence[int]) -> None:
        """A token for each row from `first` on; the last rows take the places of ended ones."""
        rows = range(first, first + len(tokens))
        pairs = zip(rows, tokens, strict=True)
        ended = [row for row, token in pairs if self.reader.accept(self.active[row], token)]
        for row in reversed(ended):
            self.finished.add(self.active[row].number)
            last = self.active.pop()
            if row < len(self.active):
                self.cache.move(len(self.active), row, last.length)
                self.active[row] = last
