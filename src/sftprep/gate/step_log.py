"""The step log of a run, read as a stream into what rules, diagnosis and report need.

Memory does not grow with the length of the log.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError
from sftprep.gate.spikes import WINDOW, spike_places
from sftprep.records import StepRecord
from sftprep.store.durable import iterate_jsonl

BLOCKS = 8192
"""Up to this many steps are kept one by one; of a longer log every second, fourth, ... step."""
PIECE = 4096  # losses searched for spikes at a time: windows of 50 make 1.6 MB of them
PLACES = 1000  # step numbers kept of spikes and of steps that are not finite


@dataclass(frozen=True, slots=True)
class Places:
    """Steps where something was seen: how many, and the first thousand."""

    count: int = 0
    first: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepLog:
    """What a step log says.

    `kept`: all steps of up to 8,192, of a longer log evenly spaced ones, so that means over them
    are means over the log. `extremes`: of the steps between those, the ones with the lowest and
    highest loss, the largest gradient, the fewest tokens per second, and one that is not finite.
    `validated`: steps with a finite held-out loss, thinned alike with lowest and highest kept.
    `unfinished`: steps with a loss or gradient that is NaN or infinite; `bad_losses` of the loss.
    """

    total: int = 0
    kept: tuple[StepRecord, ...] = ()
    extremes: tuple[StepRecord, ...] = ()
    validated: tuple[StepRecord, ...] = ()
    spikes: Places = Places()
    unfinished: Places = Places()
    bad_losses: int = 0
    peak_memory_bytes: float = 0.0

    def drawn(self) -> list[StepRecord]:
        """Kept and extreme steps in order, the last step among them."""
        return _in_order((*self.kept, *self.extremes))


def read_steps(path: Path) -> StepLog:
    """Read a log once. From a step that was written again on, the later lines count.

    A loss, gradient or rate that was recorded as null (JSON has no NaN) becomes NaN.

    Raises:
        CorruptError: a line has no step number or holds a text for a number.
    """
    turns: list[tuple[int, int]] = []
    log = _read(path, (), turns)
    return _read(path, turns, []) if turns else log


def _read(path: Path, known: Sequence[tuple[int, int]], turns: list[tuple[int, int]]) -> StepLog:
    """One pass.

    Args:
        known: (line, step) where the log goes back; lines before it that it replaces are skipped.
        turns: such places that are found in this pass are added here.
    """
    reading, last, replaced = _Reading(), -1, _Replaced(known)
    for line, row in enumerate(iterate_jsonl(path)):
        try:
            step = _step(row)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptError(f"{path}: a line is not a step record ({error}).") from error
        if replaced.holds(line, step.step):
            continue
        if step.step <= last:
            turns.append((line, step.step))
        last = step.step
        reading.add(step)
    return reading.log()


class _Replaced:
    """Which lines a later line makes obsolete: those of its step and of all later steps."""

    def __init__(self, turns: Sequence[tuple[int, int]]) -> None:
        self.lines = [line for line, _ in turns]
        self.lowest = [step for _, step in turns]
        for place in range(len(turns) - 2, -1, -1):
            self.lowest[place] = min(self.lowest[place], self.lowest[place + 1])
        self.next = 0

    def holds(self, line: int, step: int) -> bool:
        """Whether this line is obsolete; to be asked in the order of the lines."""
        while self.next < len(self.lines) and self.lines[self.next] <= line:
            self.next += 1
        return self.next < len(self.lines) and step >= self.lowest[self.next]


def _step(row: Mapping[str, Any]) -> StepRecord:
    """A record; null is NaN, and what older logs lack or is not measured each step is None."""
    get = row.get
    return StepRecord(
        int(row["step"]),
        _real(row["loss_sum_nats"]),
        _count(row["tokens_supervised"]),
        _count(row["tokens_real"]),
        _count(row["tokens_padding"]),
        _real(row["learning_rate"]),
        _real(row["grad_norm"]),
        _real(row["seconds"]),
        _known(get("memory_bytes")),  # type: ignore[arg-type]
        _known(get("validation_sum_nats")),
        _known(get("validation_tokens")),  # type: ignore[arg-type]
        _known(get("sensitivity_nats")),
    )


def _real(value: Any) -> float:
    return math.nan if value is None else float(value)


def _count(value: Any) -> Any:
    return math.nan if value is None else int(value)


def _known(value: Any) -> float | None:
    return None if value is None else float(value)


Marks = tuple[float, ...]


def _marks(step: StepRecord) -> Marks:
    """Larger is more extreme: low loss, high loss, large gradient, slow, not finite."""
    loss, norm = step.loss_nats, step.grad_norm
    timed = step.seconds > 0 and step.tokens_real >= 0
    slow = -step.tokens_real / step.seconds if timed else -math.inf
    if math.isfinite(loss) and math.isfinite(norm):
        return (-loss, loss, norm, slow, 0.0)
    low, high = (-loss, loss) if math.isfinite(loss) else (-math.inf, -math.inf)
    return (low, high, norm if math.isfinite(norm) else -math.inf, slow, 1.0)


@dataclass(slots=True)
class _Block:
    """Consecutive steps: the first, how many, and the extreme one by each mark."""

    first: StepRecord
    marks: list[float]
    extremes: list[StepRecord]
    size: int = 1

    def take(self, size: int, marks: Sequence[float], extremes: Sequence[StepRecord]) -> None:
        """Take in steps that follow."""
        self.size += size
        for place, mark in enumerate(marks):
            if mark > self.marks[place]:
                self.marks[place], self.extremes[place] = mark, extremes[place]


@dataclass(slots=True)
class _Thinned:
    """At most 8,192 blocks of equal size over a stream of any length, and its last two steps."""

    blocks: list[_Block] = field(default_factory=list)
    size: int = 1
    tail: tuple[StepRecord, ...] = ()

    def add(self, step: StepRecord, marks: Marks) -> None:
        """The next step, with what makes it extreme."""
        self.tail = (*self.tail[-1:], step)
        if self.blocks and self.blocks[-1].size < self.size:
            self.blocks[-1].take(1, marks, [step] * len(marks))
            return
        if len(self.blocks) == BLOCKS:
            for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
                one.take(other.size, other.marks, other.extremes)
            del self.blocks[1::2]
            self.size *= 2
        self.blocks.append(_Block(step, list(marks), [step] * len(marks)))

    def evenly(self) -> tuple[StepRecord, ...]:
        """The first step of every block."""
        return tuple(block.first for block in self.blocks)

    def beside(self) -> tuple[StepRecord, ...]:
        """The extreme steps of the blocks, and the last two steps."""
        found = [step for block in self.blocks if block.size > 1 for step in block.extremes]
        return (*found, *self.tail)


def _in_order(steps: Sequence[StepRecord]) -> list[StepRecord]:
    return [step for _, step in sorted({step.step: step for step in steps}.items())]


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    steps: _Thinned = field(default_factory=_Thinned)
    held: _Thinned = field(default_factory=_Thinned)
    spikes: list[int] = field(default_factory=list)
    spike_count: int = 0
    unfinished: list[int] = field(default_factory=list)
    unfinished_count: int = 0
    bad_losses: int = 0
    total: int = 0
    peak: float = 0.0
    numbers: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    before: int = 0

    def add(self, step: StepRecord) -> None:
        """The next step of the log."""
        marks, held = _marks(step), step.validation_loss_nats
        self.total += 1
        self.steps.add(step, marks)
        if held is not None and math.isfinite(held):
            self.held.add(step, (-held, held))
        if marks[-1]:
            self._note_unfinished(step)
        self.peak = max(self.peak, step.memory_bytes or 0)
        self.numbers.append(step.step)
        self.losses.append(marks[1])
        if len(self.losses) >= PIECE:
            self._search()

    def _note_unfinished(self, step: StepRecord) -> None:
        self.unfinished_count += 1
        self.bad_losses += not math.isfinite(step.loss_nats)
        self.unfinished += [step.step] if len(self.unfinished) < PLACES else []

    def _search(self) -> None:
        """Look for spikes in the piece read last, then keep the losses the next one needs."""
        found = spike_places(self.losses, self.before)
        self.spike_count += len(found)
        self.spikes += [self.numbers[place] for place in found][: PLACES - len(self.spikes)]
        self.numbers, self.losses = self.numbers[-WINDOW:], self.losses[-WINDOW:]
        self.before = len(self.losses)

    def log(self) -> StepLog:
        """The result; nothing is added afterwards."""
        self._search()
        return StepLog(
            total=self.total,
            kept=self.steps.evenly(),
            extremes=tuple(_in_order(self.steps.beside())),
            validated=tuple(_in_order((*self.held.evenly(), *self.held.beside()))),
            spikes=Places(self.spike_count, tuple(self.spikes)),
            unfinished=Places(self.unfinished_count, tuple(self.unfinished)),
            bad_losses=self.bad_losses,
            peak_memory_bytes=self.peak,
        )
