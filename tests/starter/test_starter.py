"""The starter data: what is promised about it is recomputed here, not read from its maker."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from sftprep.starter import MODEL_DIR, write_starter
from sftprep.starter.text import documents
from sftprep.starter.words import HELD_OUT, TRAINING

Row = dict[str, str]
PERSONAL = re.compile(r"@mail\.starter-village|\+44 20 7946|card \d{4}|account of|security number")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("starter")
    write_starter(out)
    return out


@pytest.fixture(scope="module")
def planted(folder: Path) -> dict[int, str]:
    record = json.loads((folder / "planted.json").read_text())
    return {int(line): kind for line, kind in record["defects"].items()}


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[str]:
    return (folder / "instructions.jsonl").read_text().split("\n")[:-1]


@pytest.fixture(scope="module")
def good(lines: list[str], planted: dict[int, str]) -> list[Row]:
    return [json.loads(text) for n, text in enumerate(lines, start=1) if n not in planted]


@pytest.fixture(scope="module")
def held_out(folder: Path) -> list[Row]:
    return [json.loads(t) for t in (folder / "heldout.jsonl").read_text().splitlines()]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[0-9]+", text.lower()))


def split_list(text: str) -> list[str]:
    return text.split(", ")


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_ones(
    folder: Path, tmp_path: Path
) -> None:
    write_starter(tmp_path / "again", seed=0)
    write_starter(tmp_path / "other", seed=1)
    files = [p.relative_to(folder) for p in folder.rglob("*.json*")]
    assert len(files) == 12
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()
    other = (tmp_path / "other" / "instructions.jsonl").read_bytes()
    assert other != (folder / "instructions.jsonl").read_bytes()


def test_more_than_ten_thousand_unique_good_prompts_of_many_kinds_remain(good: list[Row]) -> None:
    assert len({row["instruction"] for row in good}) == len(good) == 14_700
    kinds = Counter(row["category"] for row in good)
    assert len(kinds) == 22
    assert min(kinds.values()) >= 300


def test_every_kind_is_asked_in_at_least_five_wordings(good: list[Row]) -> None:
    starts: dict[str, set[str]] = {}
    for row in good:
        first = " ".join(row["instruction"].split()[:3])
        starts.setdefault(row["category"], set()).add(first)
    assert {kind: len(s) for kind, s in starts.items() if len(s) < 5} == {}


def test_held_out_prompts_cover_every_kind_with_at_least_thirty_prompts(
    good: list[Row], held_out: list[Row]
) -> None:
    kinds = Counter(row["category"] for row in held_out)
    assert set(kinds) == {row["category"] for row in good} - {"problem", "ending"}
    assert len(kinds) == 20
    assert min(kinds.values()) >= 30
    assert len({row["instruction"] for row in held_out}) == len(held_out)


def test_held_out_content_occurs_nowhere_in_the_training_file(
    folder: Path, held_out: list[Row], good: list[Row]
) -> None:
    training = words_of((folder / "instructions.jsonl").read_text())
    assert training & HELD_OUT.content_words() == set()
    assert training & {str(n) for n in HELD_OUT.numbers} == set()
    wording = {"small"}  # "Write in small letters": the wording of a task, not its content
    for row in held_out:
        assert words_of(row["instruction"]) & TRAINING.content_words() <= wording, row
        numbers = {w for w in words_of(row["instruction"]) if w.isdigit()}
        assert numbers <= {str(n) for n in HELD_OUT.numbers}, row


def test_planted_rows_are_recorded_by_line_and_show_their_defect(
    lines: list[str], planted: dict[int, str], folder: Path
) -> None:
    record = json.loads((folder / "planted.json").read_text())
    assert record["rows"] == len(lines) == 15_880
    counts = Counter(planted.values())
    assert record["counts"] == dict(counts)
    assert sum(counts.values()) == 1_180
    text_of = {n: t for n, t in enumerate(lines, start=1) if n in planted}
    by_kind: dict[str, list[Row]] = {}
    for number, kind in planted.items():
        if kind == "json_malformed":
            with pytest.raises(json.JSONDecodeError):
                json.loads(text_of[number])
        else:
            by_kind.setdefault(kind, []).append(json.loads(text_of[number]))
    assert all(row["response"].strip() == "" for row in by_kind["response_empty"])
    assert all("Instruction:" in row["response"] for row in by_kind["records_merged"])
    assert all(PERSONAL.search(row["response"]) for row in by_kind["pii"])
    assert all("language model" in row["response"] for row in by_kind["refusal"])
    assert all("â€" in row["response"] for row in by_kind["encoding_damaged"])
    assert all(row["response"][-1] not in ".!?" for row in by_kind["response_truncated"])
    for row in by_kind["arithmetic_wrong"]:
        a, b, c = map(int, re.findall(r"\d+", row["response"]))
        assert a + b != c
    for row in by_kind["repetition"]:
        sentences = row["response"].split(". ")
        assert len(sentences) >= 8 and len({s.rstrip(".") for s in sentences}) == 1


def test_duplicates_name_the_line_of_their_original(
    lines: list[str], planted: dict[int, str], folder: Path
) -> None:
    record = json.loads((folder / "planted.json").read_text())
    originals = {int(line): int(twin) for line, twin in record["originals"].items()}
    kinds: Counter[str] = Counter()
    for line, twin in originals.items():
        copy, original = json.loads(lines[line - 1]), json.loads(lines[twin - 1])
        kinds[planted[line]] += 1
        if planted[line] == "duplicate_exact":
            assert copy == original
        elif planted[line] == "duplicate_near":
            assert copy["instruction"] != original["instruction"]
            assert copy["response"] == original["response"]
        else:
            assert copy["instruction"] == original["instruction"]
            assert copy["response"] != original["response"]
    assert kinds == {"duplicate_exact": 150, "duplicate_near": 120, "answer_contradicts": 80}


def test_leaked_rows_repeat_a_benchmark_question(
    lines: list[str], planted: dict[int, str], folder: Path
) -> None:
    asked: set[str] = set()
    for name in ("starter_choice", "starter_math"):
        for text in (folder / "benchmarks" / name / "test.jsonl").read_text().splitlines():
            asked.add(json.loads(text)["question"])
    leaked = [json.loads(lines[n - 1]) for n, kind in planted.items() if kind == "benchmark_leak"]
    assert len(leaked) == 50
    for row in leaked:
        assert any(row["instruction"].startswith(question) for question in asked), row


def recompute(row: Row) -> str | None:
    """The answer of a row, derived from its instruction alone; None for kinds not covered."""
    kind, text = row["category"], row["instruction"]
    tail = text.rsplit(": ", 1)[-1]
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if kind == "reverse":
        return ", ".join(reversed(split_list(tail)))
    if kind == "sort":
        return ", ".join(sorted(split_list(tail)))
    if kind == "count":
        return str(tail.count(",") + 1)
    if kind == "upper":
        return tail.upper()
    if kind == "lower":
        return tail.lower()
    if kind == "add":
        return str(sum(numbers))
    if kind == "compare":
        return str(max(numbers) if "larger" in text else min(numbers))
    if kind == "brackets":
        return "[" + "] [".join(split_list(tail)) + "]"
    if kind == "join":
        return " and ".join(split_list(tail))
    return None


def test_answers_agree_with_an_independent_calculation(
    good: list[Row], held_out: list[Row]
) -> None:
    checked: Counter[str] = Counter()
    for row in [*good, *held_out]:
        expected = recompute(row)
        if expected is not None:
            assert row["response"] == expected, row
            checked[row["category"]] += 1
    assert len(checked) == 9
    assert sum(checked.values()) > 5_000


def test_the_base_text_never_shows_the_template_of_fine_tuning() -> None:
    texts = list(itertools.islice(documents(0), 3_000))
    assert texts == list(itertools.islice(documents(0), 3_000))
    assert not any("### Instruction" in t or "### Response" in t for t in texts)
    assert len(set(texts)) > 2_900


def test_the_model_folder_is_small_and_complete() -> None:
    files = {p.name: p.stat().st_size for p in MODEL_DIR.iterdir() if p.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "pretrain_log.jsonl"} <= set(
        files
    )
    assert sum(files.values()) <= 4_000_000
    config = json.loads((MODEL_DIR / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 512
    tokenizer = (MODEL_DIR / "tokenizer_config.json").read_text()
    assert "chat_template" not in json.loads(tokenizer)
    assert not (MODEL_DIR / "chat_template.jinja").exists()
