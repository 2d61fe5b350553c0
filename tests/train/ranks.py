"""The ranks of one run over several processes, all forked from one that has imported torch.

usage: python -m tests.train.ranks BASE RUN SETTINGS_JSON COUNT [PER_MACHINE] [STEPS]
PER_MACHINE: processes of one machine (all of them); STEPS: rank 0 is asked to stop after that many.
Under torchrun (COUNT 0) this process is one rank.
"""

import json
import os
import socket
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.fsdp  # imported once, before the fork
from tests.train.runs import recipe_for, run_training

from sftprep.errors import Interrupted
from sftprep.stop import StopSignal
from sftprep.store.ranks import rank_of
from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps


class StopAfter(StopSignal):
    """Requests a stop on rank 0 alone, as soon as that many steps are logged."""

    def __init__(self, run: RunFolder, steps: int) -> None:
        super().__init__()
        self.run, self.steps = run, steps

    def alive(self) -> None:
        super().alive()
        if rank_of() == 0 and len(read_steps(self.run.steps)) >= self.steps:
            self.requested = "SIGTERM"


def one_rank(base: Path, run: RunFolder, settings: dict[str, Any], steps: int | None) -> None:
    """Train as the rank that the environment names."""
    stop = StopSignal() if steps is None else StopAfter(run, steps)
    with nullcontext() if steps is None else suppress(Interrupted):
        run_training(recipe_for(base, **settings), run, stop)
    dist.destroy_process_group()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def main() -> None:
    """Fork the ranks; exit 1 when one of them failed."""
    base, run, settings, *numbers = sys.argv[1:]
    count, per_machine, steps = (int(n) for n in [*numbers, "0", "0"][:3])
    job = (Path(base), RunFolder(Path(run)), json.loads(settings), steps or None)
    if count == 0:
        return one_rank(*job)
    torch.set_num_threads(1)
    per_machine = per_machine or count
    os.environ.update(
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(per_machine),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(free_port()),
    )
    children = []
    for rank in range(count):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank % per_machine))
            one_rank(*job)
            os._exit(0)
    failed = [os.waitpid(child, 0)[1] for child in children]
    raise SystemExit(int(any(failed)))


if __name__ == "__main__":
    main()
