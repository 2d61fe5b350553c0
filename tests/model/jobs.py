"""The job that memory, settings and time are asked about in several test files."""

from dataclasses import replace

from sftprep.model.catalogue import find_model
from sftprep.model.hardware import parse_hardware
from sftprep.model.job import Job
from sftprep.model.shape import ModelShape


def shape_named(name: str) -> ModelShape:
    row = find_model(name)
    assert row is not None
    return row.shape


LLAMA = shape_named("meta-llama/Llama-2-7b-hf")
H100 = parse_hardware("1xH100-80GB")


def job(**changes: object) -> Job:
    """Llama-2-7B, 8 rows of 2048 tokens, bf16, no checkpointing."""
    base = Job(LLAMA, LLAMA.parameters, "full", "bf16", 8, 2048, False)
    return replace(base, **changes)  # type: ignore[arg-type]
