"""Training throughput, loss curve and peak memory of sftprep against TRL's SFTTrainer.

Both train the same random Llama on the same rows (loss on responses, AdamW, the same precision, no
gradient checkpointing). Every measurement is a process of its own, in alternating rounds, so that
other work on the machine hits both; TRL runs in its padded, length-grouped and packed settings and
the best one counts. Before anything is timed, the two loss curves over the same batches are
compared. Reported: ratio of real tokens per second per round, peak memory of each process (of the
device, on a GPU).

    python benchmarks/train.py --shape rows      # about 8 rows of 130 tokens per step
    python benchmarks/train.py --shape packed    # 8 rows packed to 1024 tokens per step
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from train_rows import prepare
from train_sides import TRL_SETTINGS, ours, theirs

# Options that every measurement must be told.
SHARED = (
    "hidden", "layers", "vocabulary", "max_length", "batch", "accumulation", "optimizer", "steps",
    "threads", "precision", "mean_tokens", "device", "trl_attention",
)  # fmt: skip


def child(folder: Path, options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    same = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in SHARED]
    command = [sys.executable, __file__, *same, *arguments, "--worker", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(folder: Path, options: argparse.Namespace) -> None:
    """Body of a child: measure, print one JSON line."""
    if options.setting == "ours":
        from sftprep.model.footprint import settle_allocator

        settle_allocator(os.environ)  # as the command line does, before torch is imported
    import torch

    torch.set_num_threads(options.threads)
    found = ours(folder, options) if options.setting == "ours" else theirs(folder, options)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("\n" + json.dumps({"peak_bytes": resident, **found}))


def compare_curves(folder: Path, options: argparse.Namespace) -> float:
    """Largest relative difference of the two loss curves over the same batches."""
    same = (
        "--steps=5", "--precision=fp32", "--accumulation=1", "--optimizer=adamw",
        "--trl-attention=sdpa",
    )  # fmt: skip
    mine = child(folder, options, *same, "--setting=ours")["losses"][:5]
    other = child(folder, options, *same, "--setting=padded", "--same-rows")["losses"]
    return max(abs(a - b) / b for a, b in zip(mine, other, strict=True))


def _share_of_peak(
    rates: list[float], parameters: int, options: argparse.Namespace
) -> dict[str, float]:
    """Model FLOP utilisation on real tokens: 6 FLOP per token and value of a matrix.

    Attention is left out, and so is the embedding table where it is not the head too.
    """
    if options.peak_tflops is None:
        return {}
    matrices = parameters - (options.vocabulary * options.hidden if options.untied else 0)
    rate = statistics.median(rates) * 6 * matrices
    return {"mfu": round(rate / options.peak_tflops / 1e12, 3)}


def measure(folder: Path, parameters: int, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of alternating measurements."""
    names = ("ours", *options.against.split(","))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(child(folder, options, "--setting", name))
            print(f"{name}: {_words(found[name][-1])}", file=sys.stderr, flush=True)
    wall, processor = (_ratios(found, kind) for kind in ("rate", "processor_rate"))
    best = min(wall, key=lambda name: statistics.median(wall[name]))
    rates = {name: [round(one["rate"]) for one in found[name]] for name in names}
    return {
        "tokens_per_second": rates,
        **_share_of_peak([one["rate"] for one in found["ours"]], parameters, options),
        "trl_best": best,
        "ratios": wall,
        "processor_time_ratios": processor,
        "median_ratio": statistics.median(wall[best]),
        "peak_mib": {n: max(one["peak_bytes"] for one in found[n]) >> 20 for n in names},
    }


def _words(one: dict[str, Any]) -> str:
    return (
        f"{one['rate']:,.0f} tokens/s, {one['processor_rate']:,.0f} per processor second, "
        f"{one['peak_bytes'] >> 20:,} MiB"
    )


def _ratios(found: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, list[float]]:
    """Our rate over that of each TRL setting, round by round."""
    return {
        name: [round(a[kind] / b[kind], 2) for a, b in zip(found["ours"], rounds, strict=True)]
        for name, rounds in found.items()
        if name != "ours"
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options; a shape presets batch and steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=("rows", "packed"), default="rows")
    parser.add_argument("--data", help="JSON list of instruction, input, response (or output)")
    parser.add_argument("--against", default=",".join(TRL_SETTINGS), help="TRL settings to run")
    parser.add_argument("--setting", choices=("ours", *TRL_SETTINGS), help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--same-rows", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mean-tokens", type=float, default=130.0, help=argparse.SUPPRESS)
    parser.add_argument("--no-curves", action="store_true", help="skip the loss curves")
    for name, value in {
        "hidden": 512,
        "layers": 8,
        "vocabulary": 16384,
        "max-length": 1024,
        "accumulation": 1,
        "rows": 1200,
        "rounds": 3,
        "threads": 2,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    for name in ("intermediate", "heads", "kv-heads", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--untied", action="store_true", help="a head of its own")
    parser.add_argument("--optimizer", choices=("adamw", "adamw_8bit"), default="adamw")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--trl-attention", default="sdpa", help="attn_implementation for TRL")
    parser.add_argument("--peak-tflops", type=float, help="bf16 peak, for the share reached (MFU)")
    options = parser.parse_args(arguments)
    if options.batch is None:
        options.batch = 1 if options.shape == "rows" else 8
    if options.steps is None:
        options.steps = 10 if options.shape == "rows" else 2
    return options


def settle_precision(options: argparse.Namespace) -> str:
    """Replace `auto` by what our trainer chooses here, for both sides; its reason."""
    from sftprep.train.precision import choose_precision

    chosen = choose_precision(options.precision, options.device, options.hidden)
    options.precision = "fp32" if "float32" in str(chosen.dtype) else "bf16"
    return chosen.reason


def main() -> None:
    """Prepare, compare the curves, alternate, print JSON."""
    options = parse()
    if options.worker is not None:
        work(options.worker, options)
        return
    precision = settle_precision(options)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        facts = prepare(folder, options)
        options.mean_tokens = facts["mean_tokens"]
        curves = None if options.no_curves else compare_curves(folder, options)
        found = {
            "model_and_rows": facts,
            "curve_difference": curves,
            **measure(folder, facts["parameters"], options),
        }
    print(json.dumps({"shape": options.shape, "precision": precision, **found}))


if __name__ == "__main__":
    main()
