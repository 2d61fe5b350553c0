"""Saving from a session: copied at a step boundary, written while training goes on.

The model folder of a step is written once and linked from there. All writing happens in one thread
in the order of the calls, so a best model is on disk before the step that remembers it.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sftprep.data.pack import PackedBatch, assemble
from sftprep.errors import TrainingError
from sftprep.model.load import load_model
from sftprep.model.loss import core_model, sum_nll, to_device
from sftprep.progress import show
from sftprep.store.durable import read_json, seal, storage_errors, verify_folder
from sftprep.train.checkpoint import (
    BEST_TRAIN,
    BEST_VALIDATION,
    Saved,
    SealedModel,
    Tensors,
    save_model_copy,
    save_step,
    step_folders,
)
from sftprep.train.distributed import local, whole
from sftprep.train.export import merged_weights, write_model
from sftprep.train.optimizer import optimizer_tensors, trainable
from sftprep.train.precision import free_memory
from sftprep.train.selfcheck import choose_documents
from sftprep.train.session import Session, restore_weights
from sftprep.train.state import RandomStates, TrainState
from sftprep.train.step import evaluating

# Reloading a float32 folder is exact; 16-bit weights round each one by up to 0.4 %.
MAX_EXPORT_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


class Model:
    """The model of one step: its tensors, and its folder once the writer has made it."""

    def __init__(self, session: Session, step: int, *, copy: bool) -> None:
        self.session = session
        self.step = step
        self.folder = session.run.train_checkpoints / f".tmp-model-{step}"
        self.weights = _weights(session, copy=copy)
        self.adapter = _adapter(session, copy=copy)
        self._sealed: SealedModel | None = None

    def sealed(self) -> SealedModel:
        """Write and sync the folder, at most once."""
        if self._sealed is None:
            session = self.session
            shutil.rmtree(self.folder, ignore_errors=True)
            with storage_errors(self.folder):
                write_model(
                    self.folder,
                    session.model,
                    session.tokenizer,
                    session.weights_dtype,
                    self.weights,
                )
                if self.adapter is not None:
                    session.model.save_pretrained(
                        self.folder / "adapter", state_dict=dict(self.adapter)
                    )
                self._sealed = SealedModel(self.folder, seal(self.folder))
            self.weights, self.adapter = {}, None
        return self._sealed

    def discard(self) -> None:
        """Delete the folder; links to its files stay."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Saver:
    """Writes checkpoints of one session. `model`: that of the newest step asked for."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.model: Model | None = None
        self.pool: ThreadPoolExecutor | None = None
        self.jobs: list[Future[object]] = []
        if session.world.writes and writes_beside(session):
            self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def _ending(self) -> bool:
        state = self.session.state
        return state.stopped is not None or state.step >= self.session.plan.total_steps

    def _model(self) -> Model | None:
        """The model as it is now; None on ranks that do not write."""
        session, step = self.session, self.session.state.step
        if not (session.world.writes or session.world.sharded):
            return None
        if self.model is not None and self.model.step == step:
            return self.model if session.world.writes else None
        self.wait()  # one copy in memory at a time
        if self.model is not None:
            self.model.discard()
        copy = self.pool is not None and not self._ending()
        self.model = Model(session, step, copy=copy)
        return self.model if session.world.writes else None

    def _do(self, job: Callable[[], object]) -> None:
        if self.pool is None or self._ending():
            self.wait()
            job()
        else:
            self.jobs.append(self.pool.submit(job))

    def wait(self) -> None:
        """Let the writer finish.

        Raises:
            StoreError, DiskFullError: what a job met.
        """
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.result()

    def close(self) -> None:
        """End the writer and delete scratch folders."""
        if self.pool is not None:
            self.pool.shutdown(wait=True)
        if self.model is not None:
            self.model.discard()

    def keep_model(self, name: str, note: dict[str, float]) -> None:
        """Commit the model as it is now under `best_validation` or `best_train`."""
        assert name in (BEST_VALIDATION, BEST_TRAIN)
        model = self._model()
        if model is None:
            return
        about = {"step": model.step, **note}
        root = self.session.run.train_checkpoints
        self._do(lambda: save_model_copy(root, name, model.sealed(), about))

    def save(self, boundary: RandomStates) -> None:
        """Commit everything needed to continue from the last step boundary."""
        session = self.session
        random = _gather(session, boundary)
        model = self._model()
        if model is None and not session.world.sharded:
            return
        keeps = session.world.writes
        copy = self.pool is not None and not self._ending()
        optimizer = _on_host(optimizer_tensors(session.optimizer, session.model), keeps, copy)
        weights = None
        if not session.exact_export:
            weights = _on_host(trainable(session.model), keeps, copy)
        if model is None:
            return
        tensors, state = Tensors(optimizer, random, weights), replace(session.state)
        self._do(lambda: self._write_step(model, state, tensors))

    def _write_step(self, model: Model, state: TrainState, tensors: Tensors) -> None:
        session = self.session
        save_step(
            session.run.train_checkpoints,
            model.sealed,
            state,
            tensors,
            identity=session.identity,
            environment=session.environment,
            keep=session.section.keep_checkpoints,
        )

    def has_checkpoint(self) -> bool:
        """True when there is a step to go back to."""
        self.wait()
        return bool(
            self.session.world.share(bool(step_folders(self.session.run.train_checkpoints)))
        )

    def roll_back(self) -> None:
        """Weights and optimiser of the newest step checkpoint; data and rate go on from here."""
        self.wait()
        self.session.world.barrier()
        _, folder = step_folders(self.session.run.train_checkpoints)[0]
        state = TrainState.from_json(read_json(folder / "state.json")["state"])
        restore_weights(self.session, Saved(folder, state, {}))
        self.session.progress.line(f"weights of {folder.name} restored; the bad rows are skipped")

    def verify_export(self, folder: Path) -> None:
        """Reload the exported folder from disk and compare it with what was trained.

        Compared is the held-out loss recorded when it was saved, or the model in memory when the
        export is the newest one. Every rank must call it.

        Raises:
            TrainingError: the folder is missing, or gives another loss than the model in memory.
        """
        world, batch = self.session.world, self._probe()
        memory = None
        if self._exported_step() == self.session.state.step and (world.writes or world.sharded):
            memory = self._loss_in_memory(batch)
        if not world.writes:
            return
        if not folder.is_dir():
            raise TrainingError(
                f"{folder}: no such checkpoint. Set training.export to one that exists."
            )
        verify_folder(folder.parent)
        found = sum_nll(load_model(str(folder), device=world.device), batch)
        if not math.isfinite(found.nats):
            raise TrainingError(f"{folder}: the exported model's loss is {found.nats}.")
        if memory is not None:
            self._compare(folder, memory, found.nats / found.tokens)

    def _probe(self) -> PackedBatch:
        cache = self.session.plan.cache
        return assemble(cache, choose_documents(cache))

    def _exported_step(self) -> int | None:
        state = self.session.state
        steps = {
            "best_validation": state.best_validation_step,
            "best_train": state.best_train_step,
            "latest": state.step,
        }
        return steps[self.session.section.export]

    def _loss_in_memory(self, batch: PackedBatch) -> float:
        with evaluating(self.session):
            nll_S = self.session.nll(to_device(batch, self.session.world.device))
        return float(nll_S.double().sum()) / batch.supervised

    def _compare(self, folder: Path, memory: float, reloaded: float) -> None:
        difference = abs(memory - reloaded)
        limit = MAX_EXPORT_DIFFERENCE[self.session.weights_dtype]
        if self.session.section.lora_base_4bit:
            limit = MAX_EXPORT_DIFFERENCE[torch.bfloat16]  # 4-bit layers compute in bf16
        if not difference <= limit:
            raise TrainingError(
                show(
                    f"{folder}: reloaded from disk its loss differs by {difference:.3g} nats from "
                    "the trained model. The folder must not be used; please report the model type."
                )
            )


def _gather(session: Session, boundary: RandomStates) -> tuple[RandomStates, ...]:
    """The random states of all ranks, on every rank."""
    if session.world.size == 1:
        return (boundary,)
    import torch.distributed as dist

    table: list[RandomStates | None] = [None] * session.world.size
    dist.all_gather_object(table, boundary)
    return tuple(states for states in table if states is not None)


def writes_beside(session: Session) -> bool:
    """Resolve `training.async_checkpoints`; auto: when memory holds a second copy twice over."""
    choice = session.section.async_checkpoints
    if choice != "auto":
        return choice == "on"
    weights = sum(p.numel() * p.element_size() for p in session.model.parameters())
    moments = 8 * sum(p.numel() for p in trainable(session.model).values())
    return bool(free_memory("cpu") > 2 * (weights + moments))


def _weights(session: Session, *, copy: bool) -> dict[str, Tensor]:
    """The weights to export under the base model's names; tied ones stay one tensor."""
    core = core_model(session.model)
    table = merged_weights(core) if core is not session.model else core.state_dict()
    return _on_host(table, session.world.writes, copy)


def _adapter(session: Session, *, copy: bool) -> dict[str, Tensor] | None:
    if session.section.method != "lora":
        return None
    return _on_host(trainable(session.model), session.world.writes, copy)


def _on_host(table: Mapping[str, Tensor], keeps: bool, copy: bool) -> dict[str, Tensor]:
    """The full tensors on the host; shared ones stay shared.

    Shards are gathered one at a time, on every rank; only a rank that `keeps` them gets any.

    Args:
        copy: give each storage of its own, so that training may go on.
    """
    seen: dict[tuple[Any, ...], Tensor] = {}
    out = {}
    for name, tensor in table.items():
        own = local(tensor.detach())
        key = (own.data_ptr(), own.shape, own.stride(), own.dtype)
        if key not in seen or own.numel() == 0:
            full = whole(tensor.detach())  # every rank must ask, and equally often
            seen[key] = full.to("cpu", copy=copy).contiguous() if keeps else own
        if keeps:
            out[name] = seen[key]
    return out
