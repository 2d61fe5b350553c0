"""The plan in words, one fact per line."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sftprep.model.calibrate import Measured
from sftprep.model.hardware import GIB
from sftprep.model.later import LaterStage

if TYPE_CHECKING:
    from sftprep.model.plan import Plan


def readable_seconds(seconds: float) -> str:
    """For example `13.4 hours`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def plan_lines(plan: "Plan") -> list[str]:
    """The plan in words."""
    need, available = int(plan.memory["total"]), plan.memory_available
    lines = [
        f"model: {plan.model}, {plan.parameters:,} parameters ({plan.parameters_from})",
        f"hardware: {plan.hardware_label}",
        f"memory: {need / GIB:.1f} of {available / GIB:.1f} GiB per device: "
        + ("fits" if plan.fits else "does not fit"),
    ]
    lines.append(f"  {memory_words(plan.memory)}")
    lines += [f"{choice.key}: {choice.value} ({choice.why})" for choice in plan.choices]
    if plan.volume and plan.time:
        epochs = f", {plan.volume.epochs:.1f} epochs" if plan.volume.epochs else ""
        time = plan.time
        lines += [
            f"work: {plan.volume.steps:,} steps, {plan.volume.tokens / 1e6:,.1f}M tokens{epochs}, "
            f"{plan.flops or 0:.2g} FLOP",
            f"time: {readable_seconds(time.expected)} (between {readable_seconds(time.low)} and "
            f"{readable_seconds(time.high)}), {time.tokens_per_second:,.0f} tokens/s",
        ]
    if plan.measured is not None:
        lines.append(measured_words(plan.measured))
    elif plan.measured_why_not is not None:
        lines.append(f"not measured here: {plan.measured_why_not}")
    if plan.later:
        lines.append(later_words(plan.later, plan.total_seconds))
    if plan.dollars is not None:
        lines.append(f"cost: {plan.device_hours:,.1f} device hours, ${plan.dollars:,.0f} "
                     f"({plan.price_source})")  # fmt: skip
    lines.append(f"disk: {plan.disk_bytes / GIB:.2f} GiB ({plan.checkpoint_bytes / GIB:.2f} each)")
    lines.append(f"stage document: {plan.stage_document}")
    lines += [f"would fit: {other.text}" for other in plan.alternatives]
    return lines + [f"warning: {text}" for text in plan.warnings]


def memory_words(memory: Mapping[str, int | bool]) -> str:
    """The parts of the memory in words, in the order they are held."""
    names = {
        "weights": "weights", "gradients": "gradients", "optimiser": "optimiser",
        "activations": "activations", "casts": "16-bit copies",
        "logits": "logits and gradients in flight",
        "buffers": "libraries and buffers",
    }  # fmt: skip
    parts = [f"{words} {memory[key] / GIB:.2f}" for key, words in names.items() if memory[key]]
    text = ", ".join(parts)
    if memory["overlap"]:
        text += f", of which {memory['overlap'] / GIB:.2f} never at the same time"
    return f"{text} GiB" + ("; states sharded over the devices" if memory["sharded"] else "")


def later_words(later: Sequence[LaterStage], total: float | None) -> str:
    """Time after training, stage by stage."""
    parts = ", ".join(f"{stage.name} {readable_seconds(stage.seconds)}" for stage in later)
    return f"afterwards: {parts}; in all {readable_seconds(total or 0.0)}"


def measured_words(measured: Measured) -> str:
    """What the real steps showed."""
    rate = 1 / measured.seconds_per_token if measured.seconds > 0 else 0.0
    text = f"measured here: {measured.steps} steps, {rate:,.0f} tokens/s"
    if measured.peak_bytes is not None:
        text += f", at most {measured.peak_bytes / GIB:.2f} GiB"
    return text
