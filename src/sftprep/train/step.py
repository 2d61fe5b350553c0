"""One optimiser step, and one pass over the held-out rows."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sftprep.data.pack import PackedBatch
from sftprep.errors import TrainingError
from sftprep.model.loss import TokenLoss, to_device, token_nll
from sftprep.records import StepRecord
from sftprep.store.run import monotonic
from sftprep.train.optimizer import trainable
from sftprep.train.schedule import learning_rate
from sftprep.train.session import Session


class NotFiniteError(Exception):
    """Loss or gradient is NaN or infinite; the weights have not been changed."""

    def __init__(self, record: StepRecord, rows: tuple[str, ...]) -> None:
        super().__init__(f"step {record.step}")
        self.record = record
        self.rows = rows


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
    tokens, real_tokens = session.world.sum(supervised, real)
    sums = _backward(session, batches, tokens)
    weights = list(trainable(session.model).values())
    session.world.add_gradients(weights)
    norm = torch.nn.utils.clip_grad_norm_(weights, session.section.max_grad_norm, foreach=True)
    host = torch.stack([*sums, norm.double()]).tolist() if sums else [float(norm)]
    (loss_sum,) = session.world.sum(math.fsum(host[:-1]))
    rate = _rate(session, step)
    record = StepRecord(
        step=step,
        loss_sum_nats=loss_sum,
        tokens_supervised=int(tokens),
        tokens_real=int(real_tokens),
        tokens_padding=0,
        learning_rate=rate,
        grad_norm=host[-1],
        seconds=monotonic() - begin,
        memory_bytes=_memory(session),
    )
    if not (math.isfinite(loss_sum) and math.isfinite(host[-1])):
        session.optimizer.zero_grad(set_to_none=True)
        raise NotFiniteError(record, _rows(session, batches, host[:-1]))
    for group in session.optimizer.param_groups:
        group["lr"] = rate
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    return record


def _backward(session: Session, batches: Sequence[PackedBatch], tokens: float) -> list[Tensor]:
    """Accumulate gradients; the NLL sum of each micro-batch, float64, still on the device."""
    sums: list[Tensor] = []
    for batch in batches:
        if session.world.size == 1 and session.stop.requested is not None:
            session.optimizer.zero_grad(set_to_none=True)
            session.stop.check(f"training step {session.state.step + 1}")
        moved = to_device(batch, session.world.device)
        with session.precision.context(session.world.device):
            nll_S = token_nll(session.model, moved)
        (nll_S.sum() / tokens).backward()  # type: ignore[no-untyped-call]
        sums.append(nll_S.detach().double().sum())
    return sums


def _rate(session: Session, step: int) -> float:
    section = session.section
    return learning_rate(
        step,
        peak=section.learning_rate,
        warmup=section.warmup_steps,
        total=session.plan.total_steps,
        shape=section.lr_scheduler,
        min_ratio=section.min_lr_ratio,
    )


def _memory(session: Session) -> int | None:
    device = session.world.device
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None


def _rows(
    session: Session, batches: Sequence[PackedBatch], sums: Sequence[float]
) -> tuple[str, ...]:
    """Ids of the rows in the first micro-batch whose loss is not finite, else of all."""
    bad = [b for b, value in zip(batches, sums, strict=True) if not math.isfinite(value)]
    names = session.plan.cache.names
    return tuple(names[d] for b in (bad[:1] or batches) for d in b.documents.tolist())


@torch.no_grad()
def held_out_loss(session: Session) -> TokenLoss:
    """Token-weighted loss on the held-out rows: a sum and a count over all ranks.

    Raises:
        Interrupted: a stop was requested.
        TrainingError: the loss is not finite.
    """
    model, sums, tokens = session.model, [], 0
    model.eval()
    try:
        for batch in session.validation:
            if session.world.size == 1:
                session.stop.check("validating")
            moved = to_device(batch, session.world.device)
            with session.precision.context(session.world.device):
                sums.append(token_nll(model, moved).double().sum())
            tokens += batch.supervised
    finally:
        model.train()
    own = float(torch.stack(sums).sum()) if sums else 0.0
    nats, count = session.world.sum(own, tokens)
    if not math.isfinite(nats):
        raise TrainingError(
            f"the validation loss at step {session.state.step} is {nats}. Lower "
            "training.learning_rate, or try training.precision: fp32."
        )
    return TokenLoss(nats, int(count))
