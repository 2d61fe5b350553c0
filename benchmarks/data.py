"""Speed and memory of the data stage; every result is checked before it is timed.

    python benchmarks/data.py parse --rows 1000000     parse and drop exact copies
    python benchmarks/data.py stage --rows 1000000     the whole stage, then the same again (cached)
    python benchmarks/data.py tokenise --rows 3000     tokens and masks against TRL's SFTTrainer
    python benchmarks/data.py parsers --rows 20000     json and orjson on the same rows

Rows are synthetic: sentences of random words with Zipf frequencies, about 60 words (490 bytes) per
row, 2 % exact copies and 1 % near copies. The same seed gives the same file.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

MIB = 1 << 20
EXACT, NEAR = 0.02, 0.01
TASKS = (
    "Describe how",
    "Explain why",
    "Summarise how",
    "Compare when",
    "Tell me where",
    "List what",
)
SYLLABLES = ("ba", "den", "fi", "gor", "hal", "jin", "ka", "lum", "mer", "no", "pel", "qua", "ri",
             "sto", "tan", "ulo", "ver", "wi", "yor", "zam")  # fmt: skip


def vocabulary(size: int, rng: random.Random) -> list[str]:
    """Different pronounceable words."""
    found: dict[str, None] = {}
    while len(found) < size:
        found["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3))))] = None
    return list(found)


def rows(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Synthetic rows; copies are of earlier rows."""
    rng = random.Random(seed)
    words = vocabulary(6_000, rng)
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(words))))
    recent: list[dict[str, str]] = []

    def sentence(low: int, high: int) -> str:
        picked = rng.choices(words, cum_weights=weights, k=rng.randint(low, high))
        return " ".join(picked)

    for number in range(count):
        draw = rng.random()
        if recent and draw < EXACT:
            yield rng.choice(recent)
            continue
        if recent and draw < EXACT + NEAR:
            old = rng.choice(recent)
            first, _, rest = old["response"].partition(". ")
            yield {**old, "response": f"{first}. {rest} Indeed so."}
            continue
        question = f"{rng.choice(TASKS)} {sentence(8, 16)}, please?"
        body = [sentence(8, 14).capitalize() + "." for _ in range(rng.randint(2, 6))]
        row = {"instruction": question, "response": " ".join(body)}
        if number % 50 == 0:
            recent = [*recent[-199:], row]
        yield row


def write(path: Path, count: int, seed: int) -> None:
    """The synthetic set as JSON lines."""
    with path.open("w", encoding="utf-8") as handle:
        for row in rows(count, seed):
            handle.write(json.dumps(row) + "\n")


def pss_of_tree(root: int) -> int:
    """Bytes of memory of a process and its children, shared pages counted once (PSS)."""
    total = 0
    queue = [root]
    while queue:
        pid = queue.pop()
        try:
            folder = Path("/proc") / str(pid)
            text = (folder / "smaps_rollup").read_text()
            total += next(int(li.split()[1]) for li in text.splitlines() if li.startswith("Pss:"))
            for task in (folder / "task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, StopIteration):
            continue
    return total << 10


@dataclass(frozen=True)
class Measured:
    """A command: wall and processor seconds and the highest memory (bytes), all processes together,
    and the JSON it printed last."""

    seconds: float
    processor: float
    peak: int
    found: dict[str, Any]


def processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(command: list[str]) -> Measured:
    """Run a command of this file and watch it."""
    start, before = time.perf_counter(), processor_seconds()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], pss_of_tree(process.pid))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    found = json.loads(out.strip().splitlines()[-1])
    return Measured(seconds, processor_seconds() - before, peak[0], found)


def parse(path: Path) -> dict[str, Any]:
    """Read, parse and understand every row; keep the first of each exact copy."""
    from array import array

    import numpy as np

    from sftprep.data.features import row_key
    from sftprep.data.formats import to_example
    from sftprep.data.load import read_rows
    from sftprep.data.parse import row_object
    from sftprep.recipe.sections import Source
    from sftprep.records import SourceRef

    start, before = time.perf_counter(), time.process_time()
    source = Source(path=str(path))
    keys = array("Q")
    for raw in read_rows(path):
        place = SourceRef("bench", path.name, raw.line)
        keys.append(row_key(to_example(row_object(raw), "instruction_response", source, place)))
    unique = len(np.unique(np.frombuffer(keys, dtype=np.uint64)))
    return {
        "rows": len(keys),
        "unique": unique,
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
    }


def stage(path: Path, run: Path, model: str, processes: int | None) -> dict[str, Any]:
    """The data stage as `sftprep run RECIPE --until data` runs it; a finished one is not redone."""
    from sftprep.pipeline import run as run_pipeline
    from sftprep.progress import Progress
    from sftprep.recipe import load_recipe
    from sftprep.store.durable import read_json
    from sftprep.store.run import RunFolder

    recipe = run.parent / "recipe.yaml"
    extra = "" if processes is None else f", processes: {processes}"
    recipe.write_text(
        f"model: {{base: {model}}}\n"
        f"data: {{sources: [{path}], max_bad_fraction: 0.1{extra}}}\n"
        f"benchmarks: {{tasks: []}}\noutput: {{run_dir: {run}}}\n"
    )
    start = time.perf_counter()
    run_pipeline(
        load_recipe(recipe, [], lambda base: None), first=None, until="data", progress=Progress()
    )
    seconds = time.perf_counter() - start
    ledger = read_json(RunFolder(run).data_report)["ledger"]
    return {"seconds": seconds, "ledger": ledger}


def report_parse(path: Path, unique: int) -> None:
    """Print the parse pass, in a process of its own."""
    found = measured([sys.executable, __file__, "_parse", "--file", str(path)]).found
    assert found["unique"] == unique, f"{found['unique']} unique rows, {unique} were written"
    each = found["processor"] / found["rows"] * 1e6
    print(
        f"parse + exact copies: {found['rows']:,} rows in {found['seconds']:.1f} s, "
        f"{found['processor']:.1f} s of processor time ({each:.1f} us/row), "
        f"peak {found['peak'] / MIB:.0f} MiB, {unique:,} unique"
    )


def report_stage(path: Path, run: Path, model: str, processes: int | None) -> None:
    """Print the whole stage, and the same command again."""
    command = [sys.executable, __file__, "_stage", "--file", str(path), "--run", str(run)]
    command += ["--model", model] + ([] if processes is None else ["--processes", str(processes)])
    run = measured(command)
    ledger = run.found["ledger"]
    each = run.processor / ledger["read"] * 1e3
    print(
        f"whole stage: {ledger['read']:,} rows in {run.seconds:.1f} s with start-up and "
        f"{run.processor:.0f} s of processor time ({each:.2f} ms/row), "
        f"peak {run.peak / MIB:.0f} MiB of all processes; kept {ledger['kept']:,}, rejected "
        f"{ledger['rejected']}",
        flush=True,
    )
    again = measured(command)
    assert again.found["ledger"] == ledger, "the second run gave another ledger"
    print(
        f"the same command again (cache hit): {again.found['seconds']:.2f} s, with start-up "
        f"{again.seconds:.2f} s"
    )


def unique_rows(path: Path) -> int:
    """Different lines of the file, counted without our code."""
    with path.open("rb") as handle:
        return len({hash(line) for line in handle})


def tokenise(count: int, model: str, rounds: int) -> None:
    """Tokens and masks: `render_many` against TRL's preparation, one thread, alternating."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from sftprep.data.render import render_many
    from sftprep.data.tokenizer import load_tokenizer
    from sftprep.recipe.sections import ModelSection
    from sftprep.records import Message

    tokenizer = load_tokenizer(ModelSection(base=model))
    data = list(rows(count, 3))
    talks = [
        (Message("user", r["instruction"], False), Message("assistant", r["response"], True))
        for r in data
    ]
    theirs = trl_preparation(data, tokenizer)
    ours_seconds, their_seconds = [], []
    for _ in range(rounds):
        start = time.process_time()
        ours = render_many(talks, tokenizer)
        ours_seconds.append(time.process_time() - start)
        start = time.process_time()
        prepared = theirs()
        their_seconds.append(time.process_time() - start)
        for mine, other in zip(ours, prepared, strict=True):
            assert mine.ids.tolist() == other["input_ids"], "other ids"
            masks = [label != -100 for label in other["labels"]]
            assert mine.supervised.tolist() == masks, "other masks"
    ratios = [t / o for t, o in zip(their_seconds, ours_seconds, strict=True)]
    tokens = sum(len(r.ids) for r in ours)
    print(
        f"tokens and masks: {count:,} rows, {tokens:,} tokens, identical ids and masks; processor "
        f"seconds ours {min(ours_seconds):.2f}, TRL {min(their_seconds):.2f}; "
        f"ratio per round {', '.join(f'{r:.1f}' for r in ratios)}"
    )


def trl_preparation(data: list[dict[str, str]], tokenizer: Any) -> Any:
    """TRL's own preparation of prompt/completion rows, as a function without arguments."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    turns = [
        {
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
        for row in data
    ]
    made = datasets.Dataset.from_list(turns)
    trainer = SFTTrainer.__new__(SFTTrainer)  # its preparation without a model
    trainer._tokenizer = tokenizer
    trainer.completion_only_loss = True
    trainer.chat_template = None
    arguments = SFTConfig(output_dir="unused", max_length=None, packing=False, report_to=[],
                          use_cpu=True, bf16=False, dataset_num_proc=None)  # fmt: skip

    def go() -> list[dict[str, Any]]:
        prepared = trainer._prepare_dataset(made, tokenizer, arguments, False, None, "train")
        return list(prepared)

    return go


def parsers(count: int) -> None:
    """What orjson would save: both parse the same rows."""
    from sftprep.data.parse import parse_object

    lines = [json.dumps(row).encode() for row in rows(count, 5)]
    start = time.perf_counter()
    strict = [parse_object(line) for line in lines]
    ours = (time.perf_counter() - start) / count * 1e6
    print(f"parse_object (json, duplicate keys refused): {ours:.1f} us/row")
    try:
        import orjson
    except ImportError:
        print("orjson is not installed")
        return
    start = time.perf_counter()
    loose = [orjson.loads(line) for line in lines]
    print(
        f"orjson (last of two keys wins): {(time.perf_counter() - start) / count * 1e6:.1f} us/row"
    )
    assert strict == loose


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "part", choices=["parse", "stage", "tokenise", "parsers", "_parse", "_stage"]
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int)
    parser.add_argument(
        "--model", default=str(Path(__file__).parents[1] / "src/sftprep/starter/model")
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--run", type=Path)
    chosen = parser.parse_args()
    if chosen.part == "_parse":
        print(json.dumps(parse(chosen.file)))
    elif chosen.part == "_stage":
        print(json.dumps(stage(chosen.file, chosen.run, chosen.model, chosen.processes)))
    elif chosen.part == "tokenise":
        tokenise(chosen.rows, chosen.model, chosen.rounds)
    elif chosen.part == "parsers":
        parsers(chosen.rows)
    else:
        with tempfile.TemporaryDirectory() as name:
            path = chosen.file or Path(name) / "rows.jsonl"
            if not path.exists():
                write(path, chosen.rows, seed=1)
            if chosen.part == "parse":
                report_parse(path, unique_rows(path))
            else:
                report_stage(path, Path(name) / "run", chosen.model, chosen.processes)


if __name__ == "__main__":
    main()
