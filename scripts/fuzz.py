"""Coverage-guided fuzzing of the parsers with atheris (not in the package: `pip install atheris`).

usage: python scripts/fuzz.py PARSER [libFuzzer options, e.g. -max_total_time=60]
       python scripts/fuzz.py all --seconds 20
The corpus below tests/faults/corpus/PARSER is read; every file in it is a test. What reaches new
code is written to the corpus in FUZZ_CORPUS (default: fuzz-corpus/PARSER), a crash beside it. `all`
fuzzes each parser in a process of its own and prints one JSON line per parser.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
KEPT = ROOT / "tests" / "faults" / "corpus"


def found(name: str) -> Path:
    """Where inputs go that reach new code."""
    return Path(os.environ.get("FUZZ_CORPUS", "fuzz-corpus")) / name


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one parser in this process until libFuzzer's limits are reached."""
    import atheris

    with atheris.instrument_imports(include=["sftprep", "ruamel"]):
        from tests.faults.parsers import PARSERS, SEEDS, refused_or_read

        with tempfile.TemporaryDirectory() as warm, contextlib.suppress(Exception):
            PARSERS[name](b"", Path(warm))  # loads the parser's modules under instrumentation
    found(name).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, [b"{}"])):
        (found(name) / f"seed-{number}").write_bytes(seed)
    with tempfile.TemporaryDirectory() as folder:

        def once(content: bytes) -> None:
            refused_or_read(name, content, Path(folder))

        limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
        places = [str(found(name)), *([str(KEPT / name)] if (KEPT / name).is_dir() else [])]
        crash = f"-artifact_prefix={found(name).parent / name}-"
        atheris.Setup([sys.argv[0], *limits, crash, *options, *places], once)
        atheris.Fuzz()


def fuzz_all(seconds: int) -> int:
    """Every parser in turn; returns how many crashed."""
    from tests.faults.parsers import PARSERS

    crashed = 0
    for name in PARSERS:
        done = subprocess.run(
            [sys.executable, __file__, name, f"-max_total_time={seconds}", "-print_final_stats=1"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said = done.stdout + done.stderr
        runs = re.search(r"stat::number_of_executed_units: (\d+)", said)
        edges = re.findall(r"cov: (\d+)", said)
        crashed += done.returncode != 0
        result = {
            "parser": name,
            "inputs": int(runs[1]) if runs else None,
            "edges": int(edges[-1]) if edges else None,
            "exit": done.returncode,
        }
        if done.returncode != 0:
            result["said"] = said[-1500:]
        print(json.dumps(result), flush=True)
    return crashed


def main() -> None:
    """Fuzz one parser or all; exit 1 on a crash."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parser")
    parser.add_argument("--seconds", type=int, default=20, help="per parser, with `all`")
    given, options = parser.parse_known_args()
    if given.parser == "all":
        raise SystemExit(min(fuzz_all(given.seconds), 1))
    fuzz(given.parser, options)


if __name__ == "__main__":
    main()
