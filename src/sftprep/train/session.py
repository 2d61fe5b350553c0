"""Everything a training process holds, made ready in one place: fresh or from a checkpoint."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from transformers import AutoConfig, PreTrainedTokenizerBase

from sftprep.data.pack import (
    PackedBatch,
    TokenCache,
    assemble,
    document_batches,
    token_cache,
    tokenizer_key,
)
from sftprep.data.render import turn_end_ids
from sftprep.data.tokenizer import load_tokenizer
from sftprep.model.hardware import detect_hardware
from sftprep.model.load import load_model, pick_device
from sftprep.model.loss import DeviceBatch, core_model
from sftprep.model.padding import CPU_PIECE_TOKENS
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe, TrainingSection
from sftprep.records import StepRecord
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder
from sftprep.train.batches import StepPlan
from sftprep.train.checkpoint import (
    BEST_TRAIN,
    BEST_VALIDATION,
    Saved,
    Tensors,
    check_best,
    find_newest,
    finish_save,
)
from sftprep.train.distributed import World, join_world, like
from sftprep.train.learner import build_learner, load_core
from sftprep.train.logs import Logs, read_flags, read_steps
from sftprep.train.optimizer import build_optimizer, restore_optimizer, trainable
from sftprep.train.precision import Precision, export_dtype
from sftprep.train.selfcheck import self_check
from sftprep.train.sensitivity import SwappedRows, swapped_rows
from sftprep.train.state import TrainState, seed_everything
from sftprep.train.trackers import open_trackers

# These do not change a single update: they may differ when a run is continued.
FREE_FIELDS = frozenset(
    {
        "keep_checkpoints",
        "export",
        "red_flags",
        "loggers",
        "log_project",
        "sample_every",
        "async_checkpoints",
        "on_non_finite",
        "parallel",
    }
)
VALIDATION_SEED = 0


@dataclass
class Session:
    """One training process.

    `nll`: loss of a batch under `model`; `records`: all steps so far; `raised`: flag id -> its last
    step; `swapped`: held-out answers under other instructions; `decisions`: what was chosen, why;
    `frugal`: what a step frees is given back to the system.
    """

    recipe: Recipe
    run: RunFolder
    progress: Progress
    stop: StopSignal
    world: World
    model: Any
    nll: Callable[[DeviceBatch], torch.Tensor]
    tokenizer: PreTrainedTokenizerBase
    optimizer: torch.optim.Optimizer
    plan: StepPlan
    held_out: TokenCache
    validation: list[PackedBatch]
    swapped: SwappedRows | None
    precision: Precision
    weights_dtype: torch.dtype
    logs: Logs | None
    state: TrainState
    records: list[StepRecord]
    raised: dict[str, int]
    identity: Mapping[str, Any]
    environment: Mapping[str, Any]
    decisions: Mapping[str, str]
    frugal: bool

    @property
    def section(self) -> TrainingSection:
        """The recipe's training section."""
        return self.recipe.training

    @property
    def filler(self) -> PackedBatch:
        """A small batch for ranks that have no more of their own."""
        return assemble(self.plan.cache, np.zeros(1, np.int64))

    @property
    def exact_export(self) -> bool:
        """True when the model folder of a checkpoint is an exact copy of the master weights."""
        return self.section.method == "full" and self.weights_dtype == torch.float32


def open_session(recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal) -> Session:
    """Load data and model, restore the newest checkpoint if there is one, check everything.

    Raises:
        DataError, ModelError, TrainingError, StoreError: with what to change.
        Interrupted: a stop was requested.
    """
    torch.set_flush_denormal(True)
    world = join_world(pick_device())
    section = recipe.training
    tokenizer = load_tokenizer(recipe.model)
    train_rows, held_out = _caches(recipe, run, world, tokenizer, progress, stop)
    identity = make_identity(recipe, train_rows, held_out, tokenizer)
    saved = _find(run, identity, progress, world)
    seed_everything(section.seed, 0)  # adapters start alike on every rank
    core = load_core(recipe, saved, world, tokenizer, progress)
    stop.check("loading the model")
    if saved is None:
        progress.line(self_check(core, train_rows, turn_end_ids(tokenizer)))
    learner = build_learner(recipe, core, world)
    model, world = learner.model, learner.world
    if world.rank > 0:
        seed_everything(section.seed, world.rank)
    _tell(learner.decisions, progress)
    optimizer = build_optimizer(model, section)
    state = _restore(saved, model, optimizer, world)
    piece = _piece_tokens(world)
    plan = StepPlan(train_rows, section, world.size, state.rows_per_step, piece_tokens=piece)
    state.rows_per_step = plan.rows_per_step
    if world.writes and saved is not None:
        finish_save(run.train_checkpoints, saved, section.keep_checkpoints, progress)
        _forget_lost_best(run, state, progress)
    logs = _logs(run, section, state, model, world) if world.writes else None
    world.barrier()
    return Session(
        recipe=recipe,
        run=run,
        progress=progress,
        stop=stop,
        world=world,
        model=model,
        nll=learner.nll,
        tokenizer=tokenizer,
        optimizer=optimizer,
        plan=plan,
        held_out=held_out,
        validation=_validation_batches(recipe, held_out, world),
        swapped=_swapped(recipe, held_out),
        precision=learner.precision,
        weights_dtype=export_dtype(recipe.output.weights_dtype, stored_dtype(recipe), world.device),
        logs=logs,
        state=state,
        records=read_steps(run.steps),
        raised={flag.id: flag.step for flag in read_flags(run.flags)},
        identity=identity,
        environment=environment(world),
        decisions=learner.decisions,
        frugal=learner.frugal,
    )


def _tell(decisions: Mapping[str, str], progress: Progress) -> None:
    for name, reason in decisions.items():
        progress.line(f"{name} {reason}")


def _caches(
    recipe: Recipe,
    run: RunFolder,
    world: World,
    tokenizer: Any,
    progress: Progress,
    stop: StopSignal,
) -> tuple[TokenCache, TokenCache]:
    """Training and held-out rows as tokens: rank 0 makes them, the others wait for its cache."""
    section = recipe.training
    if not world.writes:
        world.barrier()
    train_rows, held_out = (
        token_cache(
            rows,
            run.data / "packed",
            tokenizer,
            max_length=section.max_length,
            train_on=section.train_on,
            progress=progress,
            stop=stop,
        )
        for rows in (run.train_rows, run.validation_rows)
    )
    if world.writes:
        run.train_checkpoints.mkdir(parents=True, exist_ok=True)
        world.barrier()
    return train_rows, held_out


def _find(
    run: RunFolder, identity: Mapping[str, Any], progress: Progress, world: World
) -> Saved | None:
    saved = find_newest(run.train_checkpoints, identity, progress) if world.writes else None
    saved = cast("Saved | None", world.share(saved))
    if saved is not None:
        progress.line(f"continuing from {saved.folder.name}")
        _warn_environment(saved.environment, environment(world), progress)
    return saved


def _warn_environment(
    before: Mapping[str, Any], now: Mapping[str, Any], progress: Progress
) -> None:
    changed = [f"{k}: {before.get(k)} -> {v}" for k, v in now.items() if before.get(k) != v]
    if changed:
        progress.line(
            "the environment changed, so results will agree closely but not bit for bit: "
            + ", ".join(changed)
        )


def _restore(
    saved: Saved | None, model: Any, optimizer: torch.optim.Optimizer, world: World
) -> TrainState:
    if saved is None:
        return TrainState(started=datetime.now(UTC).isoformat(timespec="seconds"))
    tensors: Tensors = saved.tensors()
    if tensors.weights is not None:
        _fill(trainable(model), tensors.weights)
    restore_optimizer(optimizer, model, tensors.optimizer)
    if world.rank < len(tensors.random):
        tensors.random[world.rank].restore()
    return saved.state


def restore_weights(session: Session, saved: Saved) -> None:
    """Put a checkpoint's weights and optimiser state into the running session."""
    tensors = saved.tensors()
    weights = tensors.weights
    if weights is None:
        weights = load_model(str(saved.model)).state_dict()
        _fill(dict(core_model(session.model).named_parameters()), weights)
    else:
        _fill(trainable(session.model), weights)
    session.optimizer.state.clear()
    restore_optimizer(session.optimizer, session.model, tensors.optimizer)


@torch.no_grad()
def _fill(named: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Copy full tensors into parameters (or their shards) of the same names."""
    for name, weight in named.items():
        weight.copy_(like(weights[name], weight))


def _forget_lost_best(run: RunFolder, state: TrainState, progress: Progress) -> None:
    if state.best_validation_step is not None and not check_best(
        run.train_checkpoints, BEST_VALIDATION, progress
    ):
        progress.line("the best-validation checkpoint is lost: the next validation counts as best")
        state.best_validation = state.best_validation_step = None
    if state.best_train_step is not None and not check_best(
        run.train_checkpoints, BEST_TRAIN, progress
    ):
        state.best_train = state.best_train_step = None


def _piece_tokens(world: World) -> int | None:
    """Tokens of one pass, where a micro-batch is cut into several."""
    return CPU_PIECE_TOKENS if world.device == "cpu" else None


def _validation_batches(recipe: Recipe, held_out: TokenCache, world: World) -> list[PackedBatch]:
    """This rank's share of at most `validation.max_rows` held-out rows, the same at every step."""
    order = np.random.default_rng(VALIDATION_SEED).permutation(len(held_out))
    chosen = np.sort(order[: recipe.validation.max_rows])
    tokens = recipe.training.batch_size * recipe.training.max_length
    tokens = min(tokens, _piece_tokens(world) or tokens)
    batches = document_batches(held_out.lengths, chosen, tokens)
    return [assemble(held_out, documents) for documents in batches[world.rank :: world.size]]


def _logs(
    run: RunFolder, section: TrainingSection, state: TrainState, model: Any, world: World
) -> Logs:
    """Open the logs. The name at trackers stays the same when the run is continued."""
    name = f"{run.root.name}-{state.started.replace(':', '')}"
    hardware = detect_hardware()
    return Logs(
        run,
        state.step - (state.pending is not None),
        open_trackers(section, name, run.train),
        # forward 2, backward 4 per parameter and token (Kaplan et al. 2020); attention left out
        flops_per_token=6.0 * sum(p.numel() for p in model.parameters()),
        peak_flops=hardware.flops * (world.size if world.device.startswith("cuda") else 1),
    )


def _swapped(recipe: Recipe, held_out: TokenCache) -> SwappedRows | None:
    """Held-out answers under other instructions, the same at every validation."""
    order = np.random.default_rng(VALIDATION_SEED).permutation(len(held_out))
    length = recipe.training.max_length
    return swapped_rows(held_out, order, length, recipe.training.batch_size * length)


def make_identity(
    recipe: Recipe, train_rows: TokenCache, held_out: TokenCache, tokenizer: Any
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    section = recipe.training.model_dump(mode="json")
    return {
        **{f"training.{k}": v for k, v in section.items() if k not in FREE_FIELDS},
        "model.base": recipe.model.base,
        "model.revision": recipe.model.revision,
        "tokenizer": tokenizer_key(tokenizer),
        "train_rows": train_rows.key,
        "validation_rows": held_out.key,
        "validation.max_rows": recipe.validation.max_rows,
        "output.weights_dtype": recipe.output.weights_dtype,
    }


def environment(world: World) -> dict[str, Any]:
    """What must be the same for bit-for-bit equality; other values only warn."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if world.device.startswith("cuda") else "cpu",
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }


def stored_dtype(recipe: Recipe) -> torch.dtype | None:
    """Precision of the base model's weights as its config.json says; None when it does not."""
    ref = recipe.model.base
    config = AutoConfig.from_pretrained(
        ref,
        revision=recipe.model.revision,
        trust_remote_code=recipe.model.trust_remote_code,
        local_files_only=Path(ref).is_dir(),
    )
    return cast("torch.dtype | None", config.dtype)
