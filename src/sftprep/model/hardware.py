"""What this machine can compute: detected, or named by the user as `8xH100-80GB@2.50`."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from sftprep.errors import RecipeError
from sftprep.model.accelerators import ACCELERATORS, Accelerator

GIB = 1 << 30
AUTO = "auto"
# Share of a core's peak that training in AMX tiles reaches, which mostly wait for data: 1.8M to 63M
# parameters, torch 2.13, a 2.1 GHz Xeon. More threads reach less on small models; the plan's range
# covers that, and real steps replace it.
AMX_EFFICIENCY = 0.036
# GPUs compute fp32 about eight times slower than bf16 (between TF32 and the plain fp32 units).
GPU_FP32_SHARE = 1 / 8
# Operations per cycle and core in bf16 tiles: 1024 multiply-adds (Intel's optimisation manual).
AMX_FLOPS_PER_CYCLE = 2048
# In fp32, two fused multiply-adds a cycle (Intel and AMD optimisation manuals), and the share of it
# that training's products reach: AVX-512 on the Xeon above, AVX2 on a 2.45 GHz Zen 3 (66 GFLOP/s).
FP32_UNITS = (("avx512f", 64, 0.64), ("avx2", 32, 0.85), ("asimd", 16, 0.64))
SCALAR = ("scalar", 4, 0.64)
DEFAULT_GHZ = 2.5
CPU_BANDWIDTH = 10e9  # bytes/s and core that a thread really streams on a server
NVIDIA_SMI_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine or cluster of equal devices.

    Per device: `memory_bytes`; `flops`, the peak per second in bf16 (fp16); `efficiency`, the share
    of it that training usually reaches; `fp32_rate`, what training reaches in fp32, FLOP/s;
    `bandwidth` in bytes/s; `dollars_per_hour`, None when unknown. `detected`: it is this machine.
    """

    kind: str
    device: str
    count: int
    memory_bytes: int
    flops: float
    efficiency: float
    fp32_rate: float
    bandwidth: float
    bf16: bool
    source: str
    cores: int | None = None
    features: tuple[str, ...] = ()
    dollars_per_hour: float | None = None
    price_source: str | None = None
    detected: bool = False

    @property
    def label(self) -> str:
        """For example `8 x NVIDIA H100 80GB`."""
        size = f"{self.memory_bytes / GIB:.0f} GiB"
        if self.kind == "cpu":
            return f"{self.device}, {self.cores} cores, {size}"
        return f"{self.count} x {self.device} ({size} each)"


def parse_hardware(text: str) -> Hardware:
    """Hardware from `[COUNTx]NAME[-MEMORYGB][@DOLLARS]`, e.g. `8xH100-80GB@2.50`, or `auto`.

    Less memory than a device has means a slice of it (MIG), with the same share of its speed;
    `cpu-8GB` is this machine's CPU with that much memory.

    Raises:
        RecipeError: not of this form, or no such accelerator in the table.
    """
    if text.strip().lower() == AUTO:
        return detect_hardware()
    pattern = r"(?:(\d{1,5})\s*[x*]\s*)?([^@]+?)(?:[-\s](\d{1,4})\s*gi?b)?(?:@(\d+(?:\.\d+)?))?"
    match = re.fullmatch(pattern, text.strip(), re.IGNORECASE)
    if match is None or match[1] == "0":
        raise RecipeError(_unknown(text))
    name, memory = match[2], int(match[3]) if match[3] else None
    if name.lower() == "cpu" and match[1] in (None, "1"):
        cpu = detect_cpu()
        return replace(cpu, memory_bytes=memory * GIB, detected=False) if memory else cpu
    found = [a for a in ACCELERATORS if a.matches(name)]
    exact = [a for a in found if memory is None or a.memory_gb == memory]
    larger = [a for a in found if memory is not None and a.memory_gb > memory]
    if not exact and not larger:
        raise RecipeError(_unknown(text))
    price = float(match[4]) if match[4] else None
    count = int(match[1] or 1)
    if exact:
        return _hardware(exact[0], count, price)
    assert memory is not None
    return _slice(_hardware(min(larger, key=lambda a: a.memory_gb), count, price), memory)


def _slice(whole: Hardware, memory_gb: int) -> Hardware:
    """A part of each device, with its share of speed and price."""
    share = memory_gb * GIB / whole.memory_bytes
    return replace(
        whole,
        device=f"{whole.device} slice",
        memory_bytes=memory_gb * GIB,
        flops=whole.flops * share,
        fp32_rate=whole.fp32_rate * share,
        bandwidth=whole.bandwidth * share,
        dollars_per_hour=None if whole.dollars_per_hour is None else whole.dollars_per_hour * share,
        source=f"{share:.0%} of {whole.source}",
    )


def _unknown(text: str) -> str:
    names = ", ".join(f"{a.name}-{a.memory_gb}GB" for a in ACCELERATORS)
    return (
        f"hardware '{text}': expected auto or COUNTxNAME-MEMORYGB@DOLLARS_PER_HOUR, for example "
        f"8xH100-80GB@2.50. Known: {names}."
    )


def _hardware(row: Accelerator, count: int, price: float | None = None) -> Hardware:
    return Hardware(
        kind=row.kind,
        device=f"{row.maker} {row.name}",
        count=count,
        memory_bytes=row.memory_bytes,
        flops=row.flops,
        efficiency=row.efficiency,
        fp32_rate=row.flops * row.efficiency * GPU_FP32_SHARE,
        bandwidth=row.bandwidth,
        bf16=row.bf16,
        source=row.source,
        dollars_per_hour=price if price is not None else row.dollars_per_hour,
        price_source="given" if price is not None else row.price_source,
    )


def detect_hardware() -> Hardware:
    """This machine: its GPUs as `nvidia-smi` shows them, Apple silicon, or the CPU."""
    gpus = _nvidia()
    if gpus:
        return gpus
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return _apple()
    return detect_cpu()


def _nvidia() -> Hardware | None:
    program = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible == "":
        return None
    query = "--query-gpu=index,uuid,name,memory.total,compute_cap"
    try:
        answer = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return hardware_from_smi(answer.stdout, visible)


def hardware_from_smi(text: str, visible: str | None = None) -> Hardware | None:
    """Hardware from the lines `index, uuid, name, memory MiB, compute capability`.

    Mixed machines count the devices like the smallest one. `visible`: CUDA_VISIBLE_DEVICES.
    """
    rows = [[part.strip() for part in line.split(",")] for line in text.strip().splitlines()]
    rows = [row for row in rows if len(row) == 5 and row[3].isdigit()]
    if visible is not None:
        wanted = [name.strip() for name in visible.split(",")]
        rows = [r for r in rows if r[0] in wanted or any(w and r[1].startswith(w) for w in wanted)]
    if not rows:
        return None
    name, memory = min(((row[2], int(row[3]) << 20) for row in rows), key=lambda pair: pair[1])
    capability = min(float(row[4]) if re.fullmatch(r"\d+\.\d+", row[4]) else 0.0 for row in rows)
    known = [a for a in ACCELERATORS if a.kind == "cuda" and a.matches(name)]
    near = min(known, key=lambda a: abs(a.memory_bytes - memory), default=None)
    flops, efficiency = (near.flops, near.efficiency) if near else (50e12, 0.3)
    return Hardware(
        kind="cuda",
        device=name,
        count=len(rows),
        memory_bytes=memory,
        flops=flops,
        efficiency=efficiency,
        fp32_rate=flops * efficiency * GPU_FP32_SHARE,
        bandwidth=near.bandwidth if near else 500e9,
        bf16=capability >= 8.0,
        source=near.source if near else "not in the table: 50 TFLOP/s assumed",
        detected=True,
    )


def _apple() -> Hardware:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(
        kind="mps",
        device="Apple silicon",
        count=1,
        memory_bytes=int(memory * 0.7),  # the share Metal recommends as working set
        flops=2.6e12,
        efficiency=0.3,
        fp32_rate=2.6e12 * 0.3,
        bandwidth=68e9,
        bf16=False,
        source="lower bound: Apple M1, 8 GPU cores, fp32",
        cores=os.cpu_count(),
        detected=True,
    )


def detect_cpu() -> Hardware:
    """This machine's CPU, as far as this process may use it (affinity and container limits)."""
    return cpu_from_info(_read("/proc/cpuinfo"), usable_cores(), usable_memory())


def cpu_from_info(info: str, cores: int, memory: int) -> Hardware:
    """A CPU from the text of /proc/cpuinfo, which may be empty."""
    flags = set(re.findall(r"\w+", _line(info, "flags") or _line(info, "Features") or ""))
    ghz = float(_line(info, "cpu MHz") or DEFAULT_GHZ * 1000) / 1000
    unit, per_cycle, share = next((row for row in FP32_UNITS if row[0] in flags), SCALAR)
    cycles = max(ghz, 1.0) * 1e9 * cores
    fp32_rate = per_cycle * cycles * share
    amx = "amx_bf16" in flags
    if amx:
        unit, per_cycle, share = "amx_bf16", AMX_FLOPS_PER_CYCLE, AMX_EFFICIENCY
    features = ("amx_bf16", "avx512f", "avx512_bf16", "avx2", "asimd")
    return Hardware(
        kind="cpu",
        device=_line(info, "model name") or platform.processor() or platform.machine(),
        count=1,
        memory_bytes=memory,
        flops=per_cycle * cycles,
        efficiency=share,
        fp32_rate=fp32_rate,
        bandwidth=CPU_BANDWIDTH * cores,
        bf16=amx,
        source=f"{cores} cores x {max(ghz, 1.0):.1f} GHz x {per_cycle} FLOP per cycle ({unit})",
        cores=cores,
        features=tuple(name for name in features if name in flags),
        detected=True,
    )


def usable_cores() -> int:
    """Cores this process may use: affinity, and the CPU quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return max(cores, 1)


def usable_memory() -> int:
    """Bytes this process may use: physical memory, and the limit of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() and int(limit) > 0 else total


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _line(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None
