"""The ranks of one run: sums over all of them, and who writes.

Each rank holds the whole model (ddp), and gradients are added over ranks once per step; or each
holds a shard (fsdp, hsdp), and torch's FSDP2 adds and scatters them during backward. Both are exact
for any number of micro-batches per rank, because the loss is divided by the global token count.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from sftprep.errors import ModelError, TrainingError
from sftprep.store.ranks import rank_of, ranks

BUCKET_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class World:
    """This process among its peers; size 1 needs no process group.

    `sharded`: weights are split over ranks, so every rank must run as many micro-batches.
    """

    rank: int
    size: int
    device: str
    sharded: bool = False

    @property
    def local_size(self) -> int:
        """Ranks on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", str(self.size)))

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

    def most(self, count: int) -> int:
        """The largest of a number over ranks."""
        if self.size == 1:
            return count
        largest = torch.tensor(count, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def clip(self, weights: Sequence[nn.Parameter], limit: float) -> Tensor:
        """Clip gradients to a global norm; the norm before clipping."""
        assert not self.sharded or all(isinstance(w, DTensor) for w in weights), "see reshard()"
        norm = torch.nn.utils.clip_grad_norm_(weights, limit, foreach=True)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

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
        if self.size == 1 or self.sharded:
            return  # sharded: added during backward
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
    size, rank = ranks(), rank_of()
    if size == 1:
        return World(0, 1, device)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda"):
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    if not dist.is_initialized():
        # gloo beside nccl: the evaluation stages talk over it
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    return World(rank, size, device)


def shard(root: nn.Module, layers: Sequence[nn.Module], world: World, *, hybrid: bool) -> World:
    """Split weights over ranks with FSDP2, a layer at a time; the rest stays one group.

    Args:
        hybrid: shards within a machine, copies between machines (HSDP).
    Raises:
        ModelError: torch cannot shard this model.
        TrainingError: hybrid, and the machines have different numbers of ranks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    kind = torch.device(world.device).type
    if hybrid:
        copies = world.size // world.local_size
        if world.any(copies * world.local_size != world.size):
            raise TrainingError(
                "training.parallel: hsdp needs as many processes on every machine. Use fsdp."
            )
        mesh = init_device_mesh(
            kind, (copies, world.local_size), mesh_dim_names=("copies", "shards")
        )
    else:
        mesh = init_device_mesh(kind, (world.size,), mesh_dim_names=("shards",))
    try:
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(root, mesh=mesh)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(
            f"this model cannot be sharded ({error}). Use training.parallel: ddp."
        ) from error
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # the loss is already a share of the global sum
            module.set_force_sum_reduction_for_comms(True)
            # an expert that no token of this rank chose has no gradient here
            module.set_reduce_scatter_unused_params(True, recurse=False)
    return replace(world, sharded=True)


def reshard(root: Any) -> None:
    """Split again what a forward without backward left whole.

    FSDP2 keeps the root's weights whole after forward, because a backward needs them at once. As
    long as they are, the model's parameters are not those of the optimiser: they have no gradient
    and no moments.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(root, FSDPModule):
        root.reshard()


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a shard (every rank must ask), or the tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a shard, or the tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(full: Tensor, target: Tensor) -> Tensor:
    """A full tensor in the form of `target`: its shard, or moved to its device."""
    moved = full.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(moved, target.device_mesh, target.placements)
    return moved


FOREVER = timedelta(days=365)


def announce(key: str, word: str) -> None:
    """Rank 0 tells the waiting ranks what comes next."""
    _bulletin().set(_named(key), word)


def awaited(key: str) -> str:
    """Wait, without using the processor, for what rank 0 announces."""
    store = _bulletin()
    store.wait([_named(key)], FOREVER)
    return str(store.get(_named(key)).decode())


def _named(key: str) -> str:
    """The store outlives restarts of the processes."""
    return f"sftprep/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{key}"


def _bulletin() -> Any:
    """The store that torchrun (or rank 0) keeps at MASTER_ADDR:MASTER_PORT."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "False") == "True"
    return dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank_of() == 0 and not agent,
        wait_for_workers=False,
        multi_tenant=True,
        timeout=FOREVER,
    )
