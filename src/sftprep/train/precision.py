"""Precision and memory choices, each with the reason that is printed."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sftprep.errors import ModelError
from sftprep.model.hardware import detect_cpu, detect_hardware
from sftprep.model.settings import job_for
from sftprep.model.shape import shape_of
from sftprep.recipe.sections import TrainingSection
from sftprep.store.ranks import ranks

# Narrower matrices leave the bf16 tiles of a CPU idle while every weight is still converted:
# at width 160 bf16 trained at 0.7 to 0.9 times the speed of fp32 (alternating runs, AMX CPU).
CPU_BF16_MIN_HIDDEN = 512

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """Compute dtype of forward and backward; master weights and loss are float32 in any case."""

    dtype: torch.dtype
    reason: str

    @property
    def scales_loss(self) -> bool:
        """True when gradients would underflow without a scaled loss."""
        return self.dtype == torch.float16

    def context(self, device: str) -> AbstractContextManager[object]:
        """Autocast for 16 bits, nothing for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(torch.device(device).type, self.dtype)


def choose_precision(choice: str, device: str, hidden: int) -> Precision:
    """Resolve `training.precision`."""
    if choice != "auto":
        return Precision(DTYPES[choice], f"{choice}, as training.precision says")
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported():
            return Precision(torch.bfloat16, "bf16: this GPU computes it natively")
        return Precision(torch.float16, "fp16 with a scaled loss: this GPU has no bf16")
    if not cpu_has_amx():
        return Precision(torch.float32, "fp32: this CPU has no bf16 matrix unit")
    if hidden < CPU_BF16_MIN_HIDDEN:
        return Precision(
            torch.float32,
            f"fp32: faster than bf16 on a CPU at width {hidden} < {CPU_BF16_MIN_HIDDEN}",
        )
    return Precision(torch.bfloat16, "bf16: this CPU has a bf16 matrix unit (AMX)")


def cpu_has_amx() -> bool:
    """True when Linux lists amx_bf16 among the CPU's features."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def wants_checkpointing(
    section: TrainingSection, model: PreTrainedModel, device: str, dtype: torch.dtype
) -> tuple[bool, str]:
    """Resolve `training.gradient_checkpointing`; auto: what the memory plan says for this device.

    The plan knows 32 and 16 bits; ranks of one CPU share its memory.
    """
    if section.gradient_checkpointing != "auto":
        return section.gradient_checkpointing == "on", "as the recipe says"
    try:
        shape = shape_of(model.config.get_text_config().to_dict())
    except ModelError:
        return True, "the model's layout is unknown, and recomputing is the safe side"
    if device == "cpu":
        cpu = detect_cpu()
        hardware = replace(cpu, memory_bytes=cpu.memory_bytes // ranks())
    else:
        hardware = replace(detect_hardware(), count=ranks())
    if device.startswith("cuda"):  # a container may lack nvidia-smi
        total = torch.cuda.get_device_properties(device).total_memory
        hardware = replace(hardware, kind="cuda", memory_bytes=total)
    chosen = {"precision": "fp32" if dtype == torch.float32 else "bf16"}
    section = section.model_copy(update=chosen)
    _, _, choices = job_for(shape, model.num_parameters(), section, hardware)
    choice = next(c for c in choices if c.key == "training.gradient_checkpointing")
    return choice.value == "on", choice.why


def free_memory(device: str) -> int:
    """Bytes that can still be allocated on a device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def export_dtype(choice: str, stored: torch.dtype | None, device: str) -> torch.dtype:
    """Resolve `output.weights_dtype`.

    auto keeps float32 for a float32 base and for CPU runs (what was trained is what is measured),
    else bfloat16.
    """
    if choice != "auto":
        return torch.bfloat16 if choice == "bfloat16" else torch.float32
    if stored in (None, torch.float32) or not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16
