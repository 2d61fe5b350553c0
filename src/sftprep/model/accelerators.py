"""The table of accelerators: memory, dense peak, bandwidth, usual efficiency, list price.

Peaks are the makers' data sheet figures without sparsity, in bf16 (fp16 where a device has no
bf16). Efficiency is the share of that peak which published training runs of 7-8B models reach;
where none is known, the neighbour's. Prices change: give yours as `NAME@DOLLARS`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device. `memory_gb` is the name's figure; `flops` per second, `bandwidth` in bytes/s."""

    name: str
    memory_gb: int
    flops: float
    bandwidth: float
    efficiency: float
    source: str
    dollars_per_hour: float | None = None
    price_source: str | None = None
    bf16: bool = True
    kind: str = "cuda"
    maker: str = "NVIDIA"

    @property
    def memory_bytes(self) -> int:
        """Bytes the driver reports: the figure of the name in GiB, or slightly less."""
        return round(self.memory_gb * (1 << 30) * USABLE.get((self.name, self.memory_gb), 1.0))

    def matches(self, text: str) -> bool:
        """True when a user's or a driver's name means this device."""
        words = re.split(r"[^a-z0-9]+", text.lower())
        parts = self.name.lower().split()
        return all(part in words for part in parts)


# Devices whose memory is sold in decimal GB.
USABLE = {("H200", 141): 0.993, ("B200", 180): 0.993, ("MI300X", 192): 1.0}

_TITAN = "torchtitan, Llama-3.1-8B on 8 x H100: 33-39 % of the peak"
_LLAMA2 = "Llama 2 paper: 1.72M A100 hours for 70B on 2T tokens, 43 % of the peak"
_SHEET = "data sheet; efficiency as its neighbours"
_AWS = "AWS on-demand list price per GPU, us-east-1, recalled"

ACCELERATORS: tuple[Accelerator, ...] = (
    Accelerator("B200", 180, 2250e12, 8000e9, 0.33, _SHEET),
    Accelerator("H200", 141, 989e12, 4800e9, 0.36, f"data sheet; {_TITAN}"),
    Accelerator("H100 PCIe", 80, 756e12, 2000e9, 0.33, _SHEET),
    Accelerator("H100", 80, 989e12, 3350e9, 0.36, f"data sheet; {_TITAN}", 6.88, _AWS),
    Accelerator("A100", 80, 312e12, 2039e9, 0.40, f"data sheet; {_LLAMA2}", 5.12, _AWS),
    Accelerator("A100", 40, 312e12, 1555e9, 0.40, f"data sheet; {_LLAMA2}", 4.10, _AWS),
    Accelerator("L40S", 48, 362e12, 864e9, 0.30, _SHEET),
    Accelerator("A6000", 48, 155e12, 768e9, 0.38, _SHEET),
    Accelerator("A40", 48, 150e12, 696e9, 0.38, _SHEET),
    Accelerator("L4", 24, 121e12, 300e9, 0.30, _SHEET, 0.80, _AWS),
    Accelerator("A10G", 24, 70e12, 600e9, 0.38, _SHEET, 1.01, _AWS),
    Accelerator("A10", 24, 125e12, 600e9, 0.35, _SHEET),
    Accelerator("RTX 5090", 32, 209e12, 1792e9, 0.35, _SHEET),
    Accelerator("RTX 4090", 24, 165e12, 1008e9, 0.35, _SHEET),
    Accelerator("RTX 3090", 24, 71e12, 936e9, 0.38, _SHEET),
    Accelerator("V100", 32, 125e12, 900e9, 0.30, _SHEET, None, None, False),
    Accelerator("V100", 16, 125e12, 900e9, 0.30, _SHEET, 3.06, _AWS, False),
    Accelerator("T4", 16, 65e12, 320e9, 0.25, _SHEET, 0.53, _AWS, False),
    Accelerator("MI300X", 192, 1307e12, 5300e9, 0.28, _SHEET, kind="rocm", maker="AMD"),
    Accelerator("MI250X", 128, 383e12, 3277e9, 0.28, _SHEET, kind="rocm", maker="AMD"),
)
