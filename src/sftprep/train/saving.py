"""Saving from a session: the model folder of a step is written once and linked from there."""

import math
import shutil
from pathlib import Path

import torch

from sftprep.data.pack import PackedBatch, assemble
from sftprep.errors import TrainingError
from sftprep.model.load import load_model
from sftprep.model.loss import sum_nll
from sftprep.progress import show
from sftprep.store.durable import storage_errors, verify_folder
from sftprep.train.checkpoint import (
    BEST_TRAIN,
    BEST_VALIDATION,
    Tensors,
    save_model_copy,
    save_step,
)
from sftprep.train.export import write_model
from sftprep.train.optimizer import optimizer_tensors, trainable
from sftprep.train.selfcheck import choose_documents
from sftprep.train.session import Session
from sftprep.train.state import RandomStates

# Reloading a float32 folder is exact; 16-bit weights round each one by up to 0.4 %.
MAX_EXPORT_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


class Saver:
    """Writes checkpoints of one session. `fresh`: (step, folder) of the newest model written."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.fresh: tuple[int, Path] | None = None
        self.scratch = session.run.train_checkpoints / ".tmp-model"

    def _model_folder(self) -> Path:
        """A folder with the model as it is now, written at most once per step."""
        step = self.session.state.step
        if self.fresh is not None and self.fresh[0] == step and self.fresh[1].is_dir():
            return self.fresh[1]
        _remove(self.scratch)
        session = self.session
        with storage_errors(self.scratch):
            write_model(self.scratch, session.model, session.tokenizer, session.weights_dtype)
            if session.section.method == "lora":
                session.model.save_pretrained(self.scratch / "adapter")
        self.fresh = (step, self.scratch)
        return self.scratch

    def keep_model(self, name: str, note: dict[str, float]) -> None:
        """Commit the model as it is now under `best_validation` or `best_train`."""
        assert name in (BEST_VALIDATION, BEST_TRAIN)
        session = self.session
        if session.world.writes:
            about = {"step": session.state.step, **note}
            save_model_copy(session.run.train_checkpoints, name, self._model_folder(), about)

    def save(self, boundary: RandomStates) -> None:
        """Commit everything needed to continue from the last step boundary."""
        session = self.session
        random = _gather(session, boundary)
        if not session.world.writes:
            return
        weights = None
        if not session.exact_export:
            weights = {
                name: weight.detach().cpu().contiguous()
                for name, weight in trainable(session.model).items()
            }
        save_step(
            session.run.train_checkpoints,
            self._model_folder(),
            session.state,
            Tensors(optimizer_tensors(session.optimizer, session.model), random, weights),
            identity=session.identity,
            environment=session.environment,
            keep=session.section.keep_checkpoints,
        )

    def verify_export(self, folder: Path) -> None:
        """Reload the exported folder from disk and compare it with what was trained.

        Compared is the held-out loss recorded when it was saved, or the model in memory when the
        export is the newest one.

        Raises:
            TrainingError: the folder is missing, or gives another loss than the model in memory.
        """
        _remove(self.scratch)
        if not folder.is_dir():
            raise TrainingError(
                f"{folder}: no such checkpoint. Set training.export to one that exists."
            )
        verify_folder(folder.parent)
        model = load_model(str(folder), device=self.session.world.device)
        batch = self._probe()
        reloaded = sum_nll(model, batch)
        if not math.isfinite(reloaded.nats):
            raise TrainingError(f"{folder}: the exported model's loss is {reloaded.nats}.")
        if self._exported_step() == self.session.state.step:
            self._compare(folder, batch, reloaded.nats / reloaded.tokens)

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

    def _compare(self, folder: Path, batch: PackedBatch, reloaded: float) -> None:
        model = self.session.model
        model.eval()
        memory = sum_nll(model, batch)
        model.train()
        difference = abs(memory.nats / memory.tokens - reloaded)
        limit = MAX_EXPORT_DIFFERENCE[self.session.weights_dtype]
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


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
