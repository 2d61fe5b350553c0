"""What is trained on one device, in the numbers that memory and time follow from."""

from dataclasses import dataclass
from typing import Literal

from sftprep.model.shape import ModelShape

Method = Literal["full", "lora"]
Precision = Literal["fp32", "bf16", "fp16"]

MOMENTS, MOMENTS_8BIT = 8, 2


@dataclass(frozen=True, slots=True)
class Job:
    """`rows` packed rows of `length` tokens per device and micro-batch.

    `supervised`: share of the tokens that have a loss. `accumulation`: micro-batches per step.
    `places`: padded places per token that attention works on, 0 where it needs no padded copies
    (16 bits on CUDA). `score_span`: attention scores per token and head that are kept for the
    backward pass. `shards`: devices that share one copy of the states (FSDP2); 1: each device holds
    its own (DDP). `four_bit`: the frozen weights of the layers are in NF4. `moment_bytes`: of both
    moments of a trained weight. `piece`: tokens that a micro-batch is cut into, each piece a pass
    of its own; None: one pass.
    """

    shape: ModelShape
    parameters: int
    method: Method
    precision: Precision
    rows: int
    length: int
    checkpointing: bool
    lora_rank: int = 16
    supervised: float = 1.0
    accumulation: int = 1
    places: float = 0.0
    score_span: float = 0.0
    shards: int = 1
    four_bit: bool = False
    moment_bytes: int = MOMENTS
    piece: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens of one pass on one device: of a micro-batch, or of a piece of it."""
        whole = self.rows * self.length
        return whole if self.piece is None else min(whole, max(self.piece, self.length))

    @property
    def passes(self) -> int:
        """Forward and backward passes of one step."""
        return self.accumulation * -(-self.rows * self.length // self.tokens)

    @property
    def trained(self) -> int:
        """Parameters that learn."""
        full = self.method == "full"
        return self.parameters if full else self.shape.lora_parameters(self.lora_rank)
