"""The ranks of one run: sums over all of them, and who writes.

Each rank holds the whole model; gradients are added over ranks once per step. That is exact for any
number of micro-batches per rank, because the loss is divided by the global token count.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class World:
    """This process among its peers; size 1 needs no process group."""

    rank: int
    size: int
    device: str

    @property
    def writes(self) -> bool:
        """Only rank 0 touches the run folder."""
        return self.rank == 0

    def sum(self, *values: float) -> tuple[float, ...]:
        """Add numbers over ranks in float64."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def any(self, flag: bool) -> bool:
        """True when any rank says so, so that all ranks stop at the same place."""
        return self.sum(float(flag))[0] > 0 if self.size > 1 else flag

    def barrier(self) -> None:
        """Wait for the other ranks."""
        if self.size > 1:
            dist.barrier()

    def share(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def gather_bytes(self, values: Tensor) -> list[Tensor]:
        """A uint8 tensor of every rank, in rank order (equal sizes)."""
        if self.size == 1:
            return [values]
        table = [torch.empty_like(values, device=self.device) for _ in range(self.size)]
        dist.all_gather(table, values.to(self.device))
        return [t.cpu() for t in table]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over ranks in buckets; a rank without a gradient counts as zero."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            size += parameter.grad.numel() * parameter.grad.element_size()
            if size >= BUCKET_BYTES:
                _add(bucket)
                bucket, size = [], 0
        if bucket:
            _add(bucket)


def _add(gradients: list[Tensor]) -> None:
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    place = 0
    for gradient in gradients:
        count = gradient.numel()
        gradient.copy_(flat[place : place + count].view_as(gradient))
        place += count


def join_world(device: str) -> World:
    """Read torchrun's variables and join; a single process otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1, device)
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda"):
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return World(rank, size, device)
