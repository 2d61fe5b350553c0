"""One optimiser step, and one pass over the held-out rows."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sftprep.data.pack import PackedBatch
from sftprep.errors import TrainingError
from sftprep.model.attention import uses_packed_attention
from sftprep.model.footprint import release
from sftprep.model.loss import TokenLoss, core_model, to_device
from sftprep.model.padding import groups_of
from sftprep.records import StepRecord
from sftprep.store.run import monotonic
from sftprep.train.distributed import reshard
from sftprep.train.optimizer import trainable
from sftprep.train.schedule import rate_at
from sftprep.train.session import Session
from sftprep.train.state import RandomStates

# fp16: the scale is doubled after this many steps without overflow (Micikevicius et al. 2018).
SCALE_GROWTH_STEPS = 2000
MAX_LOSS_SCALE = 2.0**24


class NotFiniteError(Exception):
    """Loss or gradient is NaN or infinite; the weights have not been changed."""

    def __init__(self, record: StepRecord, rows: tuple[str, ...]) -> None:
        super().__init__(f"step {record.step}")
        self.record = record
        self.rows = rows


@dataclass(frozen=True, slots=True)
class _Gradients:
    """What forward and backward gave: NLL sum per micro-batch of this rank, all sums, the norm."""

    sums: list[float]
    loss_sum: float
    norm: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss_sum) and math.isfinite(self.norm)


def run_step(session: Session, batches: Sequence[PackedBatch]) -> StepRecord:
    """Forward, backward and update over all micro-batches of the next step.

    The loss is the sum of NLL over the global number of supervised tokens, so neither the split
    into micro-batches nor the number of ranks changes it.

    Raises:
        Interrupted: a stop was requested before the update; gradients are discarded.
        NotFiniteError: loss or gradient norm is NaN or infinite; nothing was updated.
    """
    begin = monotonic()
    step = session.state.step + 1
    supervised = sum(b.supervised for b in batches)
    real = sum(b.tokens for b in batches)
    padding = 0 if uses_packed_attention(core_model(session.model)) else _padding(batches)
    tokens, real_tokens, padding_tokens = session.world.sum(supervised, real, padding)
    found = _gradients(session, batches, tokens)
    rate = rate_at(session.section, step, session.plan.total_steps) * session.state.rate_scale
    if found.finite:
        for group in session.optimizer.param_groups:
            group["lr"] = rate
        session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    if session.frugal:
        release()  # or holes in the heap add up from step to step
    record = StepRecord(
        step=step,
        loss_sum_nats=found.loss_sum,
        tokens_supervised=int(tokens),
        tokens_real=int(real_tokens),
        tokens_padding=int(padding_tokens),
        learning_rate=rate,
        grad_norm=found.norm,
        seconds=monotonic() - begin,
        memory_bytes=memory_bytes(session.world.device),
    )
    if not found.finite:
        raise NotFiniteError(record, _rows(session, batches, found.sums))
    return record


def _padding(batches: Sequence[PackedBatch]) -> int:
    """Places that padding adds for a model which takes padded rows (model/loss.py)."""
    places = sum(n * longest for b in batches for n, longest in groups_of(b.lengths.tolist()))
    return places - sum(b.tokens for b in batches)


def _gradients(session: Session, batches: Sequence[PackedBatch], tokens: float) -> _Gradients:
    """Clipped gradients of the step; under fp16 repeated with half the scale after an overflow."""
    weights = list(trainable(session.model).values())
    state = session.state
    before = RandomStates.capture() if session.precision.scales_loss else None
    while True:
        scale = state.loss_scale if before is not None else 1.0
        sums = _backward(session, batches, scale / tokens)
        session.world.add_gradients(weights)
        if scale != 1.0:
            torch._foreach_mul_([w.grad for w in weights if w.grad is not None], 1.0 / scale)
        norm = session.world.clip(weights, session.section.max_grad_norm)
        host = torch.stack([*sums, norm.double()]).tolist() if sums else [float(norm)]
        found = _Gradients(host[:-1], session.world.sum(math.fsum(host[:-1]))[0], host[-1])
        if before is None or found.finite or not math.isfinite(found.loss_sum) or scale <= 1.0:
            break
        session.optimizer.zero_grad(set_to_none=True)
        before.restore()
        state.loss_scale, state.scale_steps = scale / 2, 0
    if before is not None and found.finite:
        state.scale_steps += 1
        if state.scale_steps >= SCALE_GROWTH_STEPS:
            state.loss_scale, state.scale_steps = min(2 * scale, MAX_LOSS_SCALE), 0
    return found


def _backward(session: Session, batches: Sequence[PackedBatch], scale: float) -> list[Tensor]:
    """Accumulate gradients; the NLL sum of each micro-batch, float64, still on the device."""
    sums: list[Tensor] = []
    for batch, counts in _in_step(session, batches):
        if session.world.size == 1 and session.stop.requested is not None:
            session.optimizer.zero_grad(set_to_none=True)
            session.stop.check(f"training step {session.state.step + 1}")
        moved = to_device(batch, session.world.device)
        with session.precision.context(session.world.device):
            nll_S = session.nll(moved)
        (nll_S.sum() * (scale if counts else 0.0)).backward()  # type: ignore[no-untyped-call]
        if counts:
            sums.append(nll_S.detach().double().sum())
    return sums


def _in_step(
    session: Session, batches: Sequence[PackedBatch]
) -> Iterator[tuple[PackedBatch, bool]]:
    """The batches, each counted; sharded ranks with fewer repeat a batch that does not count."""
    # asked before the first batch: a rank that asked after fewer would wait for the others' answer
    # while they wait for its weights
    most = session.world.most(len(batches)) if session.world.sharded else 0
    for batch in batches:
        yield batch, True
    for _ in range(most - len(batches)):
        yield session.filler, False


def memory_bytes(device: str) -> int | None:
    """Peak since the last call on a GPU, resident memory of the process on a CPU."""
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * 4096


def _rows(
    session: Session, batches: Sequence[PackedBatch], sums: Sequence[float]
) -> tuple[str, ...]:
    """Ids of the rows in the first micro-batch whose loss is not finite, else of all."""
    bad = [b for b, value in zip(batches, sums, strict=True) if not math.isfinite(value)]
    names = session.plan.cache.names
    return tuple(names[d] for b in (bad[:1] or batches) for d in b.documents.tolist())


def held_out_loss(session: Session) -> TokenLoss:
    """Token-weighted loss on the held-out rows: a sum and a count over all ranks.

    Raises:
        Interrupted: a stop was requested.
        TrainingError: the loss is not finite.
    """
    loss = _loss_of(session, session.validation)
    if not math.isfinite(loss.nats):
        raise TrainingError(
            f"the validation loss at step {session.state.step} is {loss.nats}. Lower "
            "training.learning_rate, or try training.precision: fp32."
        )
    return loss


def instruction_sensitivity(session: Session) -> float | None:
    """Held-out NLL per answer token under another instruction minus under its own, in nats.

    Raises:
        Interrupted: a stop was requested.
    """
    rows = session.swapped
    if rows is None:
        return None
    rank, size = session.world.rank, session.world.size
    own, swapped = (_loss_of(session, part[rank::size]) for part in (rows.own, rows.swapped))
    return swapped.nats / swapped.tokens - own.nats / own.tokens


@contextmanager
def evaluating(session: Session) -> Iterator[None]:
    """No gradients and no dropout inside; ready to train again afterwards."""
    session.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        session.model.train()
        reshard(session.nll)


def _loss_of(session: Session, batches: Sequence[PackedBatch]) -> TokenLoss:
    sums, tokens = [], 0
    with evaluating(session):
        for batch, counts in _in_step(session, batches):
            if session.world.size == 1:
                session.stop.check("validating")
            moved = to_device(batch, session.world.device)
            with session.precision.context(session.world.device):
                part = session.nll(moved).double().sum()
            if counts:
                sums.append(part)
                tokens += batch.supervised
    own = float(torch.stack(sums).sum()) if sums else 0.0
    nats, count = session.world.sum(own, tokens)
    return TokenLoss(nats, int(count))
