"""Hardware: what the user names, what nvidia-smi prints, what this machine is."""

import os
import sys
from pathlib import Path

import pytest

from sftprep.errors import RecipeError
from sftprep.model.accelerators import ACCELERATORS, Accelerator
from sftprep.model.hardware import (
    GIB,
    cpu_from_info,
    detect_cpu,
    detect_hardware,
    hardware_from_smi,
    parse_hardware,
    usable_cores,
)

H100_LINE = "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559, 9.0"


@pytest.mark.parametrize(
    ("text", "device", "count", "gib"),
    [
        ("8xH100-80GB", "NVIDIA H100", 8, 80),
        ("H100", "NVIDIA H100", 1, 80),
        ("4 x A100-40GB", "NVIDIA A100", 4, 40),
        ("a100-80gb", "NVIDIA A100", 1, 80),
        ("2xRTX 4090", "NVIDIA RTX 4090", 2, 24),
        ("2xRTX-4090", "NVIDIA RTX 4090", 2, 24),
        ("1xH200", "NVIDIA H200", 1, 140),
        ("16xMI300X", "AMD MI300X", 16, 192),
        ("3xT4-16GB@0.5", "NVIDIA T4", 3, 16),
    ],
)
def test_a_name_is_understood(text: str, device: str, count: int, gib: int) -> None:
    hardware = parse_hardware(text)
    assert (hardware.device, hardware.count) == (device, count)
    assert round(hardware.memory_bytes / GIB) == gib
    assert hardware.detected is False


def test_a_price_is_taken_as_given() -> None:
    hardware = parse_hardware("8xH100-80GB@2.50")
    assert (hardware.dollars_per_hour, hardware.price_source) == (2.5, "given")


@pytest.mark.parametrize("text", ["", "0xH100", "H900", "8xH100-133GB", "8x", "H100@", "H100@-1"])
def test_anything_else_is_refused_with_the_known_names(text: str) -> None:
    with pytest.raises(RecipeError, match=r"Known: .*H100-80GB"):
        parse_hardware(text)


@pytest.mark.parametrize("row", ACCELERATORS, ids=lambda row: f"{row.name}-{row.memory_gb}")
def test_each_row_of_the_table_is_found_by_its_own_name(row: Accelerator) -> None:
    hardware = parse_hardware(f"2x{row.name}-{row.memory_gb}GB")
    assert hardware.device == f"{row.maker} {row.name}"
    assert hardware.flops == row.flops
    assert 0.1 < hardware.efficiency < 0.6
    assert 1e13 < hardware.flops < 1e16
    assert 1e11 < hardware.bandwidth < 1e13


def test_nvidia_smi_lines_become_hardware() -> None:
    found = hardware_from_smi(f"{H100_LINE}\n1, GPU-bbbb, NVIDIA H100 80GB HBM3, 81559, 9.0\n")
    assert found is not None
    assert (found.device, found.count, found.bf16) == ("NVIDIA H100 80GB HBM3", 2, True)
    assert found.memory_bytes == 81559 << 20
    assert found.flops == 989e12


def test_an_a100_is_matched_by_its_memory() -> None:
    found = hardware_from_smi("0, GPU-a, NVIDIA A100-SXM4-40GB, 40960, 8.0")
    assert found is not None
    assert found.bandwidth == 1555e9


def test_a_card_before_ampere_has_no_bf16() -> None:
    found = hardware_from_smi("0, GPU-a, Tesla T4, 15360, 7.5")
    assert found is not None
    assert found.bf16 is False


def test_a_mixed_machine_counts_like_its_smallest_card() -> None:
    found = hardware_from_smi(f"{H100_LINE}\n1, GPU-b, Tesla T4, 15360, 7.5")
    assert found is not None
    assert (found.device, found.count, found.bf16) == ("Tesla T4", 2, False)


def test_an_unknown_card_says_that_its_speed_is_assumed() -> None:
    found = hardware_from_smi("0, GPU-a, NVIDIA Q9000, 100000, 12.0")
    assert found is not None
    assert "not in the table" in found.source


@pytest.mark.parametrize(("visible", "count"), [("0", 1), ("0,1", 2), ("GPU-bb", 1), ("7", None)])
def test_only_visible_devices_count(visible: str, count: int | None) -> None:
    text = f"{H100_LINE}\n1, GPU-bbbb, NVIDIA H100 80GB HBM3, 81559, 9.0"
    found = hardware_from_smi(text, visible)
    assert (found.count if found else None) == count


@pytest.mark.parametrize("text", ["", "No devices were found", "0, x, y, [N/A], 9.0"])
def test_output_without_devices_is_no_hardware(text: str) -> None:
    assert hardware_from_smi(text) is None


def test_a_program_named_nvidia_smi_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({H100_LINE!r})\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = detect_hardware()
    assert (found.kind, found.count, found.detected) == ("cuda", 1, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert detect_hardware().kind == "cpu"


def test_a_failing_nvidia_smi_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect_hardware().kind == "cpu"


def cpuinfo(flags: str, name: str = "Some CPU", mhz: int = 2000) -> str:
    return f"processor\t: 0\nmodel name\t: {name}\ncpu MHz\t\t: {mhz}.000\nflags\t\t: fpu {flags}\n"


@pytest.mark.parametrize(
    ("info", "features", "bf16", "peak_per_cycle", "fp32_per_cycle"),
    [
        # Two fused multiply-adds a cycle: 2 x 2 x 16 fp32 values of 512 bits, 8 of 256, 4 of 128.
        (cpuinfo("avx2 avx512f avx512_bf16 amx_tile amx_bf16"),
         ("amx_bf16", "avx512f", "avx512_bf16", "avx2"), True, 2048, 64 * 0.64),
        (cpuinfo("avx2 avx512f"), ("avx512f", "avx2"), False, 64, 64 * 0.64),
        (cpuinfo("avx avx2 fma"), ("avx2",), False, 32, 32 * 0.85),
        ("processor\t: 0\nFeatures\t: fp asimd\n", ("asimd",), False, 16, 16 * 0.64),
        ("", (), False, 4, 4 * 0.64),
    ],
    ids=["AMX", "AVX-512", "AVX2 only", "ARM", "nothing known"],
)  # fmt: skip
def test_a_cpu_is_known_by_its_flags(
    info: str, features: tuple[str, ...], bf16: bool, peak_per_cycle: int, fp32_per_cycle: float
) -> None:
    cpu = cpu_from_info(info, cores=3, memory=5 << 30)
    assert (cpu.features, cpu.bf16, cpu.cores, cpu.memory_bytes) == (features, bf16, 3, 5 << 30)
    ghz = 2.0 if "MHz" in info else 2.5  # assumed where it is not stated
    assert cpu.flops == pytest.approx(peak_per_cycle * ghz * 1e9 * 3)
    assert cpu.fp32_rate == pytest.approx(fp32_per_cycle * ghz * 1e9 * 3)


def test_this_machines_cpu_is_described() -> None:
    cpu = detect_cpu()
    assert (cpu.kind, cpu.count, cpu.detected) == ("cpu", 1, True)
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert cpu.cores == usable_cores()
    assert cpu.memory_bytes > 256 << 20
    assert 0 < cpu.fp32_rate < cpu.flops
    assert f"{cpu.cores} cores" in cpu.label


def test_less_memory_means_a_slice_with_its_share_of_speed() -> None:
    whole, part = parse_hardware("1xA100-40GB@4"), parse_hardware("1xA100-10GB@4")
    assert part.memory_bytes == 10 << 30
    assert part.flops == pytest.approx(whole.flops / 4, rel=0.01)
    assert part.dollars_per_hour == pytest.approx(1.0, rel=0.01)
    assert "25% of" in part.source


def test_a_cpu_may_be_given_other_memory() -> None:
    here, small = parse_hardware("cpu"), parse_hardware("cpu-2GB")
    assert (here.kind, small.kind) == ("cpu", "cpu")
    assert (small.memory_bytes, small.detected) == (2 << 30, False)
    assert here.detected is True
