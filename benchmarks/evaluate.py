"""Our engine against lm-evaluation-harness's `hf` backend: same model, same real items, in turns.

    python benchmarks/evaluate.py --model FOLDER --data FOLDER [--items 40] [--rounds 3]
        [--random-width 256]

`--data` holds mmlu/, hellaswag/ and truthfulqa/ as JSONL. Before any timing the scores must be
equal to 1e-4 per request. `--random-width` takes only the tokenizer from the folder and scores with
a random 4-layer Llama of that width and a context of 4,096 tokens, for folders whose own context is
too short for five shots. lm-eval runs at the fastest of three batch sizes. Processor time and wall
time are given, because other work on the machine slows both sides in turns, not alike.
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sftprep.evaluate.engine import Engine, ScoreRequest
from sftprep.progress import Progress
from sftprep.stop import StopSignal

LETTERS = ("A", "B", "C", "D")
BATCH_SIZES = (4, 16, 64)
TOLERANCE_NATS = 1e-4
PRIMER = "Q: What is human life expectancy?\nA: It is about 73 years.\n\n"
PRIMER_REPEATS = 6
SUBJECT = "anatomy"

Pairs = list[tuple[str, str]]


def jsonl(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def question(row: dict[str, Any], answer: str = "") -> str:
    """One MMLU question as it is shown, with or without its letter."""
    choices = "\n".join(f"{k}. {c}" for k, c in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{choices}\nAnswer:{answer}"


def mmlu(data: Path, items: int) -> Pairs:
    """Five shots of one subject in front of every question."""
    shots = jsonl(data / "mmlu" / "dev" / f"{SUBJECT}.jsonl", 5)
    head = f"The following are multiple choice questions (with answers) about {SUBJECT}.\n\n"
    head += "".join(question(shot, f" {LETTERS[shot['answer']]}") + "\n\n" for shot in shots)
    rows = jsonl(data / "mmlu" / "test" / f"{SUBJECT}.jsonl", items)
    return [(head + question(row), f" {letter}") for row in rows for letter in LETTERS]


def hellaswag(data: Path, items: int) -> Pairs:
    """No shots, four endings."""
    rows = jsonl(data / "hellaswag" / "validation.jsonl", items)
    return [
        (f"{row['activity_label']}: {row['ctx']}", f" {end}")
        for row in rows
        for end in row["endings"]
    ]


def truthfulqa(data: Path, items: int) -> Pairs:
    """A primer of about the usual length, MC1 and MC2 answers as lm-eval asks for them: both."""
    rows = jsonl(data / "truthfulqa" / "validation.jsonl", items)
    return [
        (f"{PRIMER * PRIMER_REPEATS}Q: {row['question']}\nA:", f" {choice}")
        for row in rows
        for kind in ("mc1_targets", "mc2_targets")
        for choice in row[kind]["choices"]
    ]


TASKS: dict[str, Callable[[Path, int], Pairs]] = {
    "mmlu 5-shot": mmlu,
    "hellaswag 0-shot": hellaswag,
    "truthfulqa mc1+mc2": truthfulqa,
}


def random_model(width: int, vocabulary: int) -> Any:
    """A 4-layer Llama with seeded random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config).eval()


def ours(engine: Engine, pairs: Pairs) -> list[tuple[float, bool]]:
    """Scores of our engine."""
    asked = [ScoreRequest(context, continuation) for context, continuation in pairs]
    found = engine.score(asked, Progress(quiet=True), StopSignal(), "benchmark")
    return [(one.loglikelihood, one.is_greedy) for one in found]


def theirs(engine: Engine, pairs: Pairs, batch_size: int) -> list[tuple[float, bool]]:
    """Scores of lm-eval's model around the same weights."""
    model = HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=batch_size)
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    found: list[tuple[float, bool]] = model.loglikelihood(asked, disable_tqdm=True)
    return found


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(engine: Engine, pairs: Pairs, rounds: int) -> dict[str, float]:
    """Equal scores first; then both in turns, medians over the rounds."""
    found, expected = ours(engine, pairs), theirs(engine, pairs, BATCH_SIZES[1])
    gap = max(abs(a[0] - b[0]) for a, b in zip(found, expected, strict=True))
    flips = sum(a[1] != b[1] for a, b in zip(found, expected, strict=True))
    if gap > TOLERANCE_NATS or flips:
        raise SystemExit(f"scores differ: {gap:.2g} nats, {flips} decisions; nothing was timed")
    best = min(BATCH_SIZES, key=lambda size: timed(lambda: theirs(engine, pairs, size))[1])
    mine, other = [], []
    for _ in range(rounds):
        mine.append(timed(lambda: ours(engine, pairs)))
        other.append(timed(lambda: theirs(engine, pairs, best)))
    wall = statistics.median(b[0] / a[0] for a, b in zip(mine, other, strict=True))
    processor = statistics.median(b[1] / a[1] for a, b in zip(mine, other, strict=True))
    return {
        "requests": len(pairs),
        "largest_gap_nats": gap,
        "lm_eval_batch_size": best,
        "ours_seconds": statistics.median(one[0] for one in mine),
        "lm_eval_seconds": statistics.median(one[0] for one in other),
        "times_faster_wall": wall,
        "times_faster_processor": processor,
    }


def main() -> None:
    """One JSON line per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--data", required=True, type=Path, help="folder with the benchmarks")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--random-width", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if options.random_width:
        model = random_model(options.random_width, len(tokenizer))
    else:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    engine = Engine(model, tokenizer)
    for name, items in TASKS.items():
        row = compare(engine, items(options.data, options.items), options.rounds)
        print(json.dumps({"task": name, **row}), flush=True)


if __name__ == "__main__":
    main()
