"""Everything a training process holds, made ready in one place: fresh or from a checkpoint."""

import platform
from collections.abc import Mapping
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
from sftprep.errors import ModelError
from sftprep.model.attention import use_packed_attention
from sftprep.model.load import load_model, pick_device
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
)
from sftprep.train.distributed import World, join_world
from sftprep.train.logs import Logs, read_flags, read_steps
from sftprep.train.lora import add_adapters
from sftprep.train.optimizer import build_optimizer, restore_optimizer, trainable
from sftprep.train.precision import Precision, choose_precision, export_dtype, wants_checkpointing
from sftprep.train.selfcheck import self_check
from sftprep.train.state import TrainState, seed_everything

# These do not change a single update: they may differ when a run is continued.
FREE_FIELDS = frozenset({"keep_checkpoints", "export", "red_flags"})
VALIDATION_SEED = 0


@dataclass
class Session:
    """One training process. `records`: all steps so far; `raised`: flag id -> its last step."""

    recipe: Recipe
    run: RunFolder
    progress: Progress
    stop: StopSignal
    world: World
    model: Any
    tokenizer: PreTrainedTokenizerBase
    optimizer: torch.optim.AdamW
    plan: StepPlan
    validation: list[PackedBatch]
    precision: Precision
    weights_dtype: torch.dtype
    logs: Logs | None
    state: TrainState
    records: list[StepRecord]
    raised: dict[str, int]
    identity: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def section(self) -> TrainingSection:
        """The recipe's training section."""
        return self.recipe.training

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
    if not world.writes:
        world.barrier()  # rank 0 tokenises, the others open its cache
    train_rows, held_out = _caches(recipe, run, tokenizer, progress, stop)
    if world.writes:
        run.train_checkpoints.mkdir(parents=True, exist_ok=True)
        world.barrier()
    identity = make_identity(recipe, train_rows, held_out, tokenizer)
    saved = _find(run, identity, progress, world)
    seed_everything(section.seed, world.rank)
    model, precision = _model(recipe, saved, world, tokenizer, progress)
    stop.check("loading the model")
    if saved is None:
        progress.line(self_check(model, train_rows, turn_end_ids(tokenizer)))
    optimizer = build_optimizer(model, section)
    state = _restore(saved, model, optimizer, world)
    if world.writes and saved is not None:
        _forget_lost_best(run, state, progress)
    logs = Logs(run, state.step - (state.pending is not None)) if world.writes else None
    world.barrier()
    return Session(
        recipe=recipe,
        run=run,
        progress=progress,
        stop=stop,
        world=world,
        model=model,
        tokenizer=tokenizer,
        optimizer=optimizer,
        plan=StepPlan(train_rows, section, world.size),
        validation=_validation_batches(recipe, held_out, world),
        precision=precision,
        weights_dtype=export_dtype(recipe.output.weights_dtype, stored_dtype(recipe), world.device),
        logs=logs,
        state=state,
        records=read_steps(run.steps),
        raised={flag.id: flag.step for flag in read_flags(run.flags)},
        identity=identity,
        environment=environment(world),
    )


def _caches(
    recipe: Recipe, run: RunFolder, tokenizer: Any, progress: Progress, stop: StopSignal
) -> tuple[TokenCache, TokenCache]:
    section = recipe.training
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


def _model(
    recipe: Recipe, saved: Saved | None, world: World, tokenizer: Any, progress: Progress
) -> tuple[Any, Precision]:
    section = recipe.training
    exact = saved is not None and not (saved.folder / "weights.safetensors").exists()
    ref = str(saved.model) if saved is not None and exact else recipe.model.base
    core = load_model(
        ref,
        revision=recipe.model.revision if ref == recipe.model.base else None,
        device=world.device,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    rows = core.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{ref}: the tokenizer has {len(tokenizer)} tokens, the model only {rows}. "
            "Set model.tokenizer to the model's own."
        )
    if not use_packed_attention(core):
        progress.line(
            f"{type(core).__name__} has no exchangeable attention: documents are padded instead of "
            "packed, which is slower."
        )
    precision = choose_precision(
        section.precision, world.device, int(core.config.get_text_config().hidden_size)
    )
    progress.line(f"precision {precision.reason}")
    on, why = wants_checkpointing(section, core, world.device, precision.dtype)
    if on:
        # renamed in transformers 5.20; the old name goes in version 6
        enable = getattr(core, "activation_checkpointing_enable", None)
        (enable or core.gradient_checkpointing_enable)({"use_reentrant": False})
        progress.line(f"gradient checkpointing on: {why}")
    model: Any = core
    if section.method == "lora":
        if on:
            core.enable_input_require_grads()
        model = add_adapters(core, section)
    model.train()
    return model, precision


def _restore(
    saved: Saved | None, model: Any, optimizer: torch.optim.AdamW, world: World
) -> TrainState:
    if saved is None:
        return TrainState(started=datetime.now(UTC).isoformat(timespec="seconds"))
    tensors: Tensors = saved.tensors()
    if tensors.weights is not None:
        named = trainable(model)
        with torch.no_grad():
            for name, weight in tensors.weights.items():
                named[name].copy_(weight)
    restore_optimizer(optimizer, model, tensors.optimizer)
    if world.rank < len(tensors.random):
        tensors.random[world.rank].restore()
    return saved.state


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


def _validation_batches(recipe: Recipe, held_out: TokenCache, world: World) -> list[PackedBatch]:
    """This rank's share of at most `validation.max_rows` held-out rows, the same at every step."""
    order = np.random.default_rng(VALIDATION_SEED).permutation(len(held_out))
    chosen = np.sort(order[: recipe.validation.max_rows])
    tokens = recipe.training.batch_size * recipe.training.max_length
    batches = document_batches(held_out, chosen, tokens)
    return [assemble(held_out, documents) for documents in batches[world.rank :: world.size]]


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
