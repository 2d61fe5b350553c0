"""Where a benchmark's items come from: a file, a folder, or the hub; and which of them are used."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sftprep.errors import EvaluationError, RecipeError
from sftprep.evaluate.benchmarks.protocol import Item, Row, item_id
from sftprep.evaluate.benchmarks.table import Benchmark, find
from sftprep.files import open_plain
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask
from sftprep.store.fingerprint import fingerprint

SUBSET_SEED = "sftprep subset 1"
ENDINGS = (".jsonl", ".jsonl.gz")
MAX_FILE_BYTES = 1 << 30  # unpacked; the largest benchmark file (MMLU) has 7 MB
SAMPLING_TEMPERATURE, SAMPLING_TOP_P = 0.2, 0.95
"""For pass@k, as in Chen et al. 2021 (pass@1) and lm-eval's `humaneval_64`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Texts written per item. Temperature 0 is greedy."""

    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0

    @property
    def name(self) -> str:
        """As it stands in the protocol's name."""
        if self.temperature == 0:
            return "greedy"
        return f"n{self.samples}-t{self.temperature:g}-p{self.top_p:g}"


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Plan:
    """One benchmark ready to be asked.

    `items`: those that are used; `total`: size of the published set (or of the file, where there is
    none); `data_sha256`: hash over all items and examples found, used or not.
    """

    benchmark: Benchmark
    items: tuple[Item, ...]
    total: int
    few_shot: int
    data_sha256: str
    source: str
    sampling: Sampling = GREEDY

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name

    @property
    def protocol_id(self) -> str:
        """Protocol with shots and version, e.g. `mmlu/5shot-letter/v1`."""
        own = self.benchmark.protocol_id.format(shots=self.few_shot)
        return own.replace("greedy", self.sampling.name)


def read_rows(path: Path) -> list[Row]:
    """Parse a JSONL file (`.gz` too).

    Raises:
        EvaluationError: unreadable, or a line is not a JSON object.
    """
    rows: list[Row] = []
    try:
        with open_plain(path) as plain:
            handle = gzip.GzipFile(fileobj=plain) if path.suffix == ".gz" else plain
            raw = handle.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise EvaluationError(f"{path}: cannot be read ({error}). Check the file.") from error
    if len(raw) > MAX_FILE_BYTES:
        raise EvaluationError(f"{path}: more than {MAX_FILE_BYTES >> 20} MiB. Check the file.")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{path}:{number}: not JSON ({error}). Mend the line.") from error
        if not isinstance(row, dict):
            raise EvaluationError(f"{path}:{number}: not a JSON object. Mend the line.")
        rows.append(row)
    return rows


def _split_files(folder: Path, split: str) -> list[Path]:
    for ending in ENDINGS:
        if (folder / f"{split}{ending}").is_file():
            return [folder / f"{split}{ending}"]
    below = folder / split
    return sorted(p for p in below.glob("*") if p.name.endswith(ENDINGS)) if below.is_dir() else []


def _read_split(folder: Path, splits: Sequence[str]) -> list[Row] | None:
    for split in splits:
        files = _split_files(folder, split)
        if files:
            return [row for path in files for row in _with_subject(read_rows(path), path)]
    return None


def _with_subject(rows: list[Row], path: Path) -> list[Row]:
    """MMLU's per-subject files name the subject in the file name."""
    name = path.name.split(".")[0]
    if path.parent.name not in ("test", "dev", "validation"):
        return rows
    return [row if "subject" in row else {**row, "subject": name} for row in rows]


def _from_hub(benchmark: Benchmark, split_names: Sequence[str]) -> list[Row]:
    assert benchmark.hub is not None
    import datasets

    path, name = benchmark.hub
    rows: list[Row] = list(datasets.load_dataset(path, name, split=split_names[0]))
    return rows


def _missing(benchmark: Benchmark, looked: str, why: str) -> EvaluationError:
    files = ", ".join(f"{split}.jsonl" for split in benchmark.splits)
    return EvaluationError(
        f"benchmark {benchmark.name}: no items in {looked} (wanted {files}){why}. "
        "Put the files there, set benchmarks.data_dir or the task's path, or remove "
        f"{benchmark.name} from benchmarks.tasks."
    )


def _locate(benchmark: Benchmark, task: BenchmarkTask, section: BenchmarksSection) -> Path | None:
    if task.path is not None:
        return Path(task.path)
    if section.data_dir is not None:
        return Path(section.data_dir) / task.folder
    return None


def find_rows(
    benchmark: Benchmark, task: BenchmarkTask, section: BenchmarksSection, few_shot: int
) -> tuple[list[Row], list[Row], str]:
    """(test rows, example rows, where they came from).

    Raises:
        EvaluationError: nothing there; the message names the folder that was looked at.
    """
    place = _locate(benchmark, task, section)
    if place is not None and place.is_file():
        shots = _read_split(place.parent, benchmark.shot_splits) if few_shot else None
        return _with_subject(read_rows(place), place), shots or [], str(place)
    if place is not None and place.is_dir():
        rows = _read_split(place, benchmark.splits)
        if rows is None:
            raise _missing(benchmark, str(place), "")
        return (
            rows,
            (_read_split(place, benchmark.shot_splits) or []) if few_shot else [],
            str(place),
        )
    if task.path is not None:
        raise _missing(benchmark, str(place), ": it does not exist")
    return _try_hub(benchmark, place, few_shot)


def _try_hub(
    benchmark: Benchmark, place: Path | None, few_shot: int
) -> tuple[list[Row], list[Row], str]:
    looked = str(place) if place is not None else "benchmarks.data_dir (not set)"
    if benchmark.hub is None:
        raise _missing(benchmark, looked, "")
    try:
        rows = _from_hub(benchmark, benchmark.splits)
        shots = _from_hub(benchmark, benchmark.shot_splits) if few_shot else []
    except ImportError as error:
        raise _missing(
            benchmark, looked, ", and the hub needs the datasets package (pip install datasets)"
        ) from error
    except Exception as error:  # datasets raises many kinds; all mean: not there
        why = f", and the hub cannot be reached ({type(error).__name__})"
        raise _missing(benchmark, looked, why) from error
    return rows, shots, f"hub {benchmark.hub[0]}"


def choose(items: Sequence[Item], limit: int | None) -> list[Item]:
    """A fixed subset with every cluster in proportion, in the original order.

    The same items for every model and every run: places are given by a hash of the item, seats to
    clusters by largest remainder. `limit` None or at least len(items): all.
    """
    if limit is None or limit >= len(items):
        return list(items)
    clusters: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        clusters.setdefault(item.cluster, []).append(index)
    exact = {name: limit * len(places) / len(items) for name, places in clusters.items()}
    seats = {name: int(share) for name, share in exact.items()}
    open_seats = limit - sum(seats.values())
    by_remainder = sorted(exact, key=lambda name: (seats[name] - exact[name], _rank(name)))
    for name in by_remainder[:open_seats]:
        seats[name] += 1
    chosen: list[int] = []
    for name, places in clusters.items():
        chosen += sorted(places, key=lambda i: (_rank(items[i].id), i))[: seats[name]]
    return [items[index] for index in sorted(chosen)]


def _rank(text: str) -> str:
    return hashlib.sha256(f"{SUBSET_SEED} {text}".encode()).hexdigest()


def hash_items(items: Sequence[Item]) -> str:
    """Hex sha256 over all items with their examples, in order."""
    known: dict[int, str] = {}  # by identity: MMLU shows the same five rows to a whole subject
    for item in items:
        for shot in item.shots:
            if id(shot) not in known:
                known[id(shot)] = item_id(shot)
    facts = [(item.id, item.cluster, [known[id(s)] for s in item.shots]) for item in items]
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def plan_task(task: BenchmarkTask, section: BenchmarksSection) -> Plan:
    """Read one benchmark's items and choose those to use.

    Raises:
        RecipeError: an unknown benchmark.
        EvaluationError: missing or unusable data.
    """
    benchmark = find(task.name)
    few_shot = benchmark.few_shot if task.few_shot is None else task.few_shot
    rows, shots, source = find_rows(benchmark, task, section, few_shot)
    items = benchmark.protocol.load(rows, shots, few_shot)
    if not items:
        raise _missing(benchmark, source, ": the file is empty")
    chosen = choose(items, task.limit if task.limit is not None else section.limit)
    total = benchmark.items if benchmark.items is not None else len(items)
    sampling = choose_sampling(benchmark, task)
    return Plan(benchmark, tuple(chosen), total, few_shot, hash_items(items), source, sampling)


def choose_sampling(benchmark: Benchmark, task: BenchmarkTask) -> Sampling:
    """Greedy, or as many samples as the recipe asks for.

    Raises:
        RecipeError: this benchmark is answered once, or several samples would all be the same.
    """
    if task.samples == 1 and task.temperature is None:
        return GREEDY
    if not benchmark.protocol.may_sample:
        raise RecipeError(
            f"benchmarks.tasks: {benchmark.name} is answered once, greedily. Remove samples and "
            "temperature from this task."
        )
    temperature = SAMPLING_TEMPERATURE if task.temperature is None else task.temperature
    if temperature == 0 and task.samples > 1:
        raise RecipeError(
            f"benchmarks.tasks: {benchmark.name}: {task.samples} samples at temperature 0 are all "
            f"the same. Set a temperature (the usual one is {SAMPLING_TEMPERATURE})."
        )
    return Sampling(task.samples, temperature, SAMPLING_TOP_P if temperature else 1.0)


def subset_key(plan: Plan) -> str:
    """Short hash of the items that are used."""
    return fingerprint([item.id for item in plan.items])
