"""What learns: the model as it is trained, its loss on a batch, and the choices behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from sftprep.errors import ModelError, TrainingError
from sftprep.model.attention import packed_attention_stays_eager, use_packed_attention
from sftprep.model.footprint import keep_freed
from sftprep.model.load import fit_vocabulary, load_model
from sftprep.model.loss import DeviceBatch, token_nll
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe, TrainingSection
from sftprep.train.checkpoint import Saved
from sftprep.train.distributed import World, shard
from sftprep.train.lora import add_adapters
from sftprep.train.neftune import add_noise
from sftprep.train.precision import Precision, choose_precision, wants_checkpointing
from sftprep.train.selfcheck import own_attention, packs_exactly


class TokenNll(nn.Module):
    """`token_nll` as a module, so that sharding can gather weights around it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: DeviceBatch) -> Tensor:
        """NLL of each supervised token, float32 [S]."""
        return token_nll(self.model, batch)


@dataclass(frozen=True)
class Learner:
    """`nll` gives the loss of a batch under `model`; `decisions`: what was chosen, and why.

    `frugal`: memory is short, so what a step frees is given back to the system.
    """

    model: Any
    nll: Callable[[DeviceBatch], Tensor]
    precision: Precision
    world: World
    decisions: dict[str, str]
    frugal: bool


def load_core(
    recipe: Recipe, saved: Saved | None, world: World, tokenizer: Any, progress: Progress
) -> PreTrainedModel:
    """The base model, or the exact copy in a checkpoint, with packed attention where it has it.

    Raises:
        ModelError: unreadable, or smaller than the tokenizer's own vocabulary; adapters with
            tokens that are new to the model.
        MissingDependencyError: 4-bit weights without bitsandbytes.
        TrainingError: 4-bit weights on a CPU.
    """
    if recipe.training.lora_base_4bit and not world.device.startswith("cuda"):
        # on CPUs with 16-bit AVX-512 bitsandbytes 0.50 repacks weights when a model is evaluated,
        # and their product has no derivative afterwards
        raise TrainingError("training.lora_base_4bit needs a GPU. Set it to false on this machine.")
    exact = saved is not None and not (saved.folder / "weights.safetensors").exists()
    ref = str(saved.model) if saved is not None and exact else recipe.model.base
    core = load_model(
        ref,
        revision=recipe.model.revision if ref == recipe.model.base else None,
        device=world.device,
        trust_remote_code=recipe.model.trust_remote_code,
        four_bit=recipe.training.lora_base_4bit,
    )
    _fit_vocabulary(core, recipe, ref, tokenizer, progress)
    _pack(core, progress)
    return core


def _pack(core: PreTrainedModel, progress: Progress) -> None:
    """Packed attention where it is exact; otherwise documents are padded."""
    if not use_packed_attention(core):
        why = "has no exchangeable attention"
    elif not packs_exactly(core):
        own_attention(core)
        why = "cannot be packed exactly"
    else:
        return
    progress.line(
        f"{type(core).__name__} {why}: documents are padded instead of packed, which is slower."
    )


def _fit_vocabulary(
    core: PreTrainedModel, recipe: Recipe, ref: str, tokenizer: Any, progress: Progress
) -> None:
    added = fit_vocabulary(core, tokenizer, ref)
    if added and recipe.training.method == "lora":
        raise ModelError(
            f"{ref}: {added} tokens of the tokenizer are new to the model, and adapters do not "
            "train embeddings. Use training.method: full, or a tokenizer without them."
        )
    if added:
        progress.line(f"{added} tokens are new to the model: each starts as the mean of the others")


def build_learner(recipe: Recipe, core: PreTrainedModel, world: World) -> Learner:
    """Adapters, checkpointing, noise, compilation and sharding, in this order.

    Raises:
        MissingDependencyError: an optional package is not installed.
        ModelError: the model type cannot be adapted or sharded.
    """
    section = recipe.training
    precision = choose_precision(
        section.precision, world.device, int(core.config.get_text_config().hidden_size)
    )
    decisions = {"precision": precision.reason}
    on, why = wants_checkpointing(section, core, world.device, precision.dtype)
    decisions["gradient checkpointing"] = f"{'on' if on else 'off'}: {why}"
    if world.device == "cpu":
        keep_freed(not on)
    if on:
        # renamed in transformers 5.20; the old name goes in version 6
        enable = getattr(core, "activation_checkpointing_enable", None)
        (enable or core.gradient_checkpointing_enable)({"use_reentrant": False})
    model: Any = core
    if section.method == "lora":
        if on:
            core.enable_input_require_grads()
        model = add_adapters(core, section)
    if section.neftune_alpha is not None:
        add_noise(core, section.neftune_alpha)
    compiled, why = wants_compile(section, world.device)
    decisions["compile"] = f"{'on' if compiled else 'off'}: {why}"
    if compiled:
        compile_layers(core)
    nll = TokenNll(model)
    if world.size > 1:
        kind, why = choose_parallel(section)
        decisions["parallel"] = f"{kind}: {why}"
        if kind != "ddp":
            world = shard(nll, transformer_layers(core), world, hybrid=kind == "hsdp")
    model.train()
    return Learner(model, nll, precision, world, decisions, frugal=on and world.device == "cpu")


def transformer_layers(core: PreTrainedModel) -> list[nn.Module]:
    """The repeated layers, found as the longest module list.

    Raises:
        ModelError: the model has none.
    """
    lists = [list(m) for m in core.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise ModelError(
            f"{type(core).__name__} has no list of layers to shard or compile. Set "
            "training.parallel: ddp and training.compile: off."
        )
    return max(lists, key=len)


def wants_compile(section: TrainingSection, device: str) -> tuple[bool, str]:
    """Resolve `training.compile`; auto: on a GPU only, where kernels are launched one by one."""
    if section.compile != "auto":
        return section.compile == "on", "as the recipe says"
    if section.lora_base_4bit:
        return False, "4-bit layers call their own kernels"
    if device.startswith("cuda"):
        return True, "fuses the small operations between matrix products"
    return False, "gains little on a CPU"


def compile_layers(core: PreTrainedModel) -> None:
    """Compile each layer once for any number of tokens; attention over documents stays as it is."""
    packed_attention_stays_eager()
    for layer in transformer_layers(core):
        layer.compile(dynamic=True)


def choose_parallel(section: TrainingSection) -> tuple[str, str]:
    """Resolve `training.parallel` for several ranks; auto: copies, as the plan counts it."""
    if section.parallel != "auto":
        return section.parallel, "as the recipe says"
    return "ddp", "every rank holds the model; fsdp splits it where that does not fit"
