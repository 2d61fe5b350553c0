"""Which documents each step sees: a pure function of (seed, step), so resuming needs no replay."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sftprep.data.pack import (
    Ints,
    PackedBatch,
    TokenCache,
    assemble,
    document_batches,
    pack,
)
from sftprep.recipe.sections import TrainingSection


@dataclass
class StepPlan:
    """Rows of `max_length` tokens divided evenly over the steps of an epoch.

    An epoch has a fixed number of steps (that of epoch 0), and its rows are spread evenly over
    them: no row is dropped and no step is a small remainder. `rows_per_step` is that of the recipe
    and the number of ranks (0 on entry), or that of a checkpoint written by another number of
    ranks: then each rank takes as many micro-batches as it needs. `piece_tokens`: a micro-batch is
    cut into pieces of at most so many tokens (or one longer document), each a pass of its own.
    """

    cache: TokenCache
    section: TrainingSection
    world_size: int
    rows_per_step: int = 0
    steps_per_epoch: int = 0
    piece_tokens: int | None = None
    _epoch: int = -1
    _rows: list[Ints] = field(default_factory=list)

    def __post_init__(self) -> None:
        section = self.section
        if self.rows_per_step == 0:
            self.rows_per_step = (
                section.batch_size * section.gradient_accumulation_steps * self.world_size
            )
        self.steps_per_epoch = max(1, math.ceil(len(self._rows_of(0)) / self.rows_per_step))

    @property
    def total_steps(self) -> int:
        """Planned optimiser steps."""
        if self.section.max_steps is not None:
            return self.section.max_steps
        assert self.section.epochs is not None
        return max(1, math.ceil(self.section.epochs * self.steps_per_epoch))

    def words(self) -> str:
        """What a step holds on average."""
        rows = len(self._rows_of(0)) / self.steps_per_epoch
        real = int(self.cache.lengths.sum()) / self.steps_per_epoch
        supervised = int(np.count_nonzero(self.cache.supervised)) / self.steps_per_epoch
        fill = real / (rows * self.section.max_length)
        return (
            f"a step holds {real:,.0f} tokens on average, {supervised:,.0f} of them supervised, in "
            f"{rows:,.1f} rows of {self.section.max_length:,}, filled to {fill:.1%}"
        )

    def _rows_of(self, epoch: int) -> list[Ints]:
        if epoch != self._epoch:
            lengths: NDArray[np.int64] = self.cache.lengths
            self._rows = pack(lengths, self.section.max_length, seed=self.section.seed, epoch=epoch)
            self._epoch = epoch
        return self._rows

    def micro_batches(self, step: int, rank: int) -> list[Ints]:
        """Document indices of each micro-batch or piece of a step (1-based) on a rank.

        May be empty, with more ranks than rows.
        """
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        rows = self._rows_of(epoch)
        begin, end = (len(rows) * p // self.steps_per_epoch for p in (place, place + 1))
        mine = rows[begin:end][rank :: self.world_size]
        count = math.ceil(self.rows_per_step / (self.section.batch_size * self.world_size))
        cuts = [len(mine) * i // count for i in range(count + 1)]
        batches = [np.concatenate(mine[a:b]) for a, b in pairwise(cuts) if b > a]
        if self.piece_tokens is None:
            return batches
        lengths = self.cache.lengths
        return [p for whole in batches for p in document_batches(lengths, whole, self.piece_tokens)]


def prefetched(plan: StepPlan, first: int, last: int, rank: int) -> Iterator[list[PackedBatch]]:
    """Batches of steps first..last, the next step being assembled while this one computes."""

    def load(step: int) -> list[PackedBatch]:
        return [assemble(plan.cache, documents) for documents in plan.micro_batches(step, rank)]

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead: Future[list[PackedBatch]] = pool.submit(load, first)
        for step in range(first, last + 1):
            batches = ahead.result()
            if step < last:
                ahead = pool.submit(load, step + 1)
            yield batches
