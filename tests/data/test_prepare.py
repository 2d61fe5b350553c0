"""The whole data stage on small files: where every row goes, and what the report says."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.data.data_rows import clean_rows, pair, write_jsonl

from sftprep.data.explain import explain
from sftprep.data.prepare import prepare
from sftprep.data.preview import preview
from sftprep.data.storage import read_examples, read_rejected
from sftprep.errors import DataError, Interrupted, RecipeError
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import DataReport, Example, Rejected, from_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder

MakeRecipe = Callable[..., Recipe]
Prepare = Callable[..., tuple[DataReport, RunFolder]]
BENCHMARK_ITEM = (
    "A baker fills seven trays with twelve rolls each and sells all but nine of them before noon."
)


def kept(run: RunFolder) -> list[Example]:
    return [*read_examples(run.train_rows), *read_examples(run.validation_rows)]


def rejected(run: RunFolder) -> dict[int, Rejected]:
    return {row.source.line: row for row in read_rejected(run.rejected_rows)}


def test_clean_rows_are_all_kept_and_split(tmp_path: Path, run_data: Prepare) -> None:
    report, run = run_data(write_jsonl(tmp_path / "a.jsonl", clean_rows(200)))
    assert (report.ledger.read, report.ledger.kept, dict(report.ledger.rejected)) == (200, 200, {})
    assert report.train + report.validation == 200
    assert 2 <= report.validation <= 25
    assert report.unique_prompts == 200
    assert report.leaked_pairs == 0
    assert len(list(read_examples(run.train_rows))) == report.train
    assert len(list(read_examples(run.validation_rows))) == report.validation
    assert len({e.id for e in kept(run)}) == 200
    assert dict(report.flagged) == {}


def test_the_report_on_disk_is_the_report_returned(tmp_path: Path, run_data: Prepare) -> None:
    report, run = run_data(write_jsonl(tmp_path / "a.jsonl", clean_rows(50)))
    again = from_dict(DataReport, read_json(run.data_report))
    assert json.dumps(asdict(again), sort_keys=True) == json.dumps(asdict(report), sort_keys=True)


def test_no_row_left_is_an_error_with_the_reasons(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [pair(f"Name bird {k}.", "N/A") for k in range(5)])
    with pytest.raises(DataError, match=r"no row passed the checks.*response_placeholder 5"):
        run_data(path)


def test_rows_that_are_all_related_cannot_be_split(tmp_path: Path, run_data: Prepare) -> None:
    rows = [pair("Name a bird.", f"{word} indeed") for word in ("Robin", "Owl", "Jay")]
    with pytest.raises(DataError, match="nothing can be held out: all 3 rows"):
        run_data(write_jsonl(tmp_path / "a.jsonl", rows))


def test_few_rows_are_said_and_left_to_the_gate(
    tmp_path: Path, recipe_for: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(write_jsonl(tmp_path / "a.jsonl", clean_rows(20)), minimum_rows=21)
    report = prepare(recipe, RunFolder(tmp_path / "run"), Progress(), StopSignal())
    assert report.ledger.kept == 20
    assert "fewer than data.minimum_rows (21)" in " ".join(capsys.readouterr().err.split())


def test_duplicates_name_the_row_that_stays(tmp_path: Path, run_data: Prepare) -> None:
    rows = [*clean_rows(30), pair("Name a bird.", "Robin."), pair("name a  bird.", "ROBIN.")]
    report, run = run_data(write_jsonl(tmp_path / "a.jsonl", rows))
    assert dict(report.ledger.rejected) == {"duplicate_exact": 1}
    (row,) = rejected(run).values()
    twin = next(e for e in kept(run) if e.id == row.kept_id)
    assert twin.messages[0].content.lower() == "name a bird."
    assert row.reasons[0].score == 1.0
    assert report.sections["duplicates"] == [
        {"kept_id": row.kept_id, "copies": 1, "similarity_min": 1.0, "question": "Name a bird."}
    ]


def test_repeats_of_an_allowed_source_stay_on_one_side(tmp_path: Path, run_data: Prepare) -> None:
    rows = [pair("Who are you?", "I am Bo, a small model.")] * 4
    path = write_jsonl(tmp_path / "identity.jsonl", rows)
    more = write_jsonl(tmp_path / "a.jsonl", clean_rows(500))
    report, run = run_data(more, {"path": str(path), "allow_duplicates": True})
    assert report.ledger.kept == 504
    sides = Counter(e.source.dataset for e in read_examples(run.validation_rows))
    assert sides["identity"] in (0, 4)
    assert report.leaked_pairs == 0


def with_benchmark(folder: Path) -> dict[str, Any]:
    write_jsonl(folder / "bench" / "maths" / "test.jsonl", [{"question": BENCHMARK_ITEM}])
    return {"data_dir": str(folder / "bench"), "tasks": ["maths", "mmlu"]}


def test_contaminated_rows_are_dropped_with_evidence(tmp_path: Path, run_data: Prepare) -> None:
    rows = [*clean_rows(30), pair(f"{BENCHMARK_ITEM} How many are left?", "75 rolls.")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report, run = run_data(path, benchmarks=with_benchmark(tmp_path))
    (row,) = rejected(run).values()
    assert row.source.line == 31
    assert row.reasons[0].id == "contaminated"
    assert "maths test.jsonl:1: 100% covered" in row.reasons[0].evidence
    assert dict(report.contaminated) == {"maths": 0}
    checked, missing = report.sections["contamination"]
    assert (checked["benchmark"], checked["rows_dropped"]) == ("maths", 1)
    assert (missing["benchmark"], missing["rows_dropped"]) == ("mmlu", None)
    assert missing["status"].startswith("not checked: no items found")


def test_contaminated_rows_that_are_only_flagged_are_counted_for_the_gate(
    tmp_path: Path, run_data: Prepare
) -> None:
    rows = [*clean_rows(30), pair(f"{BENCHMARK_ITEM} How many are left?", "75 rolls.")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report, run = run_data(
        path, benchmarks=with_benchmark(tmp_path), checks={"contaminated": {"action": "flag"}}
    )
    assert dict(report.contaminated) == {"maths": 1}
    assert report.flagged["contaminated"] == 1
    assert [e.meta["flags"] for e in kept(run) if "flags" in e.meta] == ["contaminated"]


def test_longer_rows_than_max_length_are_dropped_whole(tmp_path: Path, run_data: Prepare) -> None:
    # one token per byte; `plain` adds <s>, "### Instruction:\n" (17), "\n\n### Response:\n" (16)
    # and </s>, so 35 tokens around prompt and answer
    asked = "Name me a bird of the sea, of a lake, of a river and of a meadow."
    given = (
        "Gull, then the grebe, then the heron that fishes in a stream, then the lark of fields, "
        "then owl. "
    )
    assert (len(asked), len(given)) == (65, 97)
    rows = [
        *clean_rows(20),
        pair(asked, given + "Ok."),
        pair(asked.replace("Name", "Say"), given + "Jays."),
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report, run = run_data(path, max_length=200)
    (row,) = rejected(run).values()
    assert (row.source.line, row.reasons[0].id, row.reasons[0].score) == (22, "too_long", 201.0)
    assert report.sections["lengths"]["q100"] == 200.0
    assert report.sections["lengths"]["max_length"] == 200
    assert sum(report.sections["lengths"]["counts"]) == report.ledger.kept


def test_conflicting_answers_are_flagged_or_dropped_as_the_recipe_says(
    tmp_path: Path, run_data: Prepare
) -> None:
    rows = [
        *clean_rows(30),
        pair("What is the capital of Chad?", "It is Lima."),
        pair("What is the capital of Chad?", "Oslo."),
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report, _ = run_data(path)
    assert dict(report.flagged) == {"answers_conflict": 2}
    report, run = run_data(path, checks={"answers_conflict": {"action": "drop"}})
    assert dict(report.ledger.rejected) == {"answers_conflict": 1}
    (row,) = rejected(run).values()
    assert row.source.line == 32
    assert row.kept_id in {e.id for e in kept(run)}


def test_repaired_rows_are_kept_and_counted(tmp_path: Path, run_data: Prepare) -> None:
    rows = [
        *clean_rows(20),
        {"instruction": "Name a bird.", "input": "N/A", "output": "Robin.</s>"},
    ]
    report, run = run_data(write_jsonl(tmp_path / "a.jsonl", rows))
    (row,) = [e for e in kept(run) if "id_before_repair" in e.meta]
    assert [m.content for m in row.messages] == ["Name a bird.", "Robin."]
    assert report.sections["repairs"] == {"input_placeholder": 1, "control_token_trailing": 1}


def test_a_limit_and_a_category_of_the_source_are_used(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", clean_rows(40))
    source = {"path": str(path), "limit": 25, "category": "qa", "name": "mine", "licence": "MIT"}
    report, run = run_data(source)
    assert report.ledger.read == 25
    assert {e.category for e in kept(run)} == {"qa"}
    assert {(e.source.dataset, e.source.licence) for e in kept(run)} == {("mine", "MIT")}
    assert report.sections["inputs"][0]["rows"] == 25


def test_each_source_has_its_own_limit_even_under_one_name(
    tmp_path: Path, run_data: Prepare
) -> None:
    rows = clean_rows(60)
    one = write_jsonl(tmp_path / "a.jsonl", rows[:30])
    two = write_jsonl(tmp_path / "b.jsonl", rows[30:])
    report, _ = run_data(*({"path": str(p), "limit": 20, "name": "both"} for p in (one, two)))
    assert report.sections["sources"] == [
        {
            "dataset": "both",
            "read": 40,
            "kept": 40,
            "rejected": 0,
            "quarantined": 0,
            "merged": 0,
            "repeats": 0,
        }
    ]


def test_a_folder_is_a_source_and_places_are_relative_to_it(
    tmp_path: Path, run_data: Prepare
) -> None:
    rows = clean_rows(40)
    write_jsonl(tmp_path / "set" / "a.jsonl", rows[:20])
    write_jsonl(tmp_path / "set" / "sub" / "b.jsonl", rows[20:])
    report, run = run_data(tmp_path / "set")
    assert {e.source.file for e in kept(run)} == {"a.jsonl", "sub/b.jsonl"}
    assert report.sections["sources"][0]["dataset"] == "set"


SOME_BAD = [
    pair("Name a bird.", "Robin."), pair("name a bird", "Robin."), pair("Say it.", ""),
    pair("Say it now.", "What the fuck."), pair("Which sum?", "2 + 2 = 5"),
    {"instruction": "Only this."}, pair("Name it", "N/A"),
]  # fmt: skip


def test_the_same_files_give_the_same_bytes(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*clean_rows(60), *SOME_BAD])
    _, first = run_data(path)
    _, second = run_data(path)
    for name in ("train_rows", "validation_rows", "rejected_rows", "data_report"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()


def test_the_order_of_rows_changes_neither_what_is_kept_nor_its_side(
    tmp_path: Path, run_data: Prepare
) -> None:
    rows = [*clean_rows(120), *SOME_BAD]
    shuffled = list(rows)
    random.Random(2).shuffle(shuffled)
    results = []
    for name, arranged in (("a", rows), ("b", shuffled)):
        _, run = run_data(write_jsonl(tmp_path / name / "set.jsonl", arranged))
        train = sorted(e.id for e in read_examples(run.train_rows))
        results.append((train, sorted(e.id for e in read_examples(run.validation_rows))))
    assert results[0] == results[1]


def test_another_seed_gives_another_split(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", clean_rows(200))
    sides = [
        {e.id for e in read_examples(run_data(path, seed=seed)[1].validation_rows)}
        for seed in (0, 1)
    ]
    assert sides[0] != sides[1]


def test_an_unknown_check_is_a_recipe_error(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", clean_rows(5))
    with pytest.raises(RecipeError, match="Did you mean 'toxic_words'"):
        run_data(path, checks={"toxic_word": {}})


def test_a_stop_request_leaves_no_report_and_no_scratch_files(
    tmp_path: Path, recipe_for: MakeRecipe
) -> None:
    recipe = recipe_for(write_jsonl(tmp_path / "a.jsonl", clean_rows(20)))
    run = RunFolder(tmp_path / "run")
    stop = StopSignal()
    stop.request("SIGTERM")
    with pytest.raises(Interrupted):
        prepare(recipe, run, Progress(quiet=True), stop)
    assert list(run.data.iterdir()) == []


def test_the_report_states_detectors_and_limits(tmp_path: Path, run_data: Prepare) -> None:
    report, _ = run_data(write_jsonl(tmp_path / "a.jsonl", clean_rows(20)))
    ran = {d["detector"]: d["ran"] for d in report.sections["detectors"]}
    assert ran["toxic_words"] is True
    assert ran["toxicity_classifier"] is False
    assert any("not checked beyond arithmetic" in row["limit"] for row in report.sections["limits"])
    assert len(report.sections["inputs"][0]["sha256"]) == 64
    steps = [row["step"] for row in report.sections["waterfall"]]
    assert (steps[0], steps[-2:]) == ("read", ["train", "validation"])


def test_preview_shows_the_rendered_text_and_what_is_supervised(
    tmp_path: Path, recipe_for: MakeRecipe
) -> None:
    rows = [pair("Say it.", ""), pair("Name a bird.", "R\u00f6bin \U0001f600."), *clean_rows(5)]
    shown = preview(recipe_for(write_jsonl(tmp_path / "a.jsonl", rows)), 2)
    assert shown[0] == [
        ("<s>### Instruction:\nName a bird.\n\n### Response:\n", False),
        ("R\u00f6bin \U0001f600.</s>", True),
    ]
    assert len(shown) == 2


def test_preview_of_several_turns_marks_each_trained_answer(
    tmp_path: Path, recipe_for: MakeRecipe
) -> None:
    turns = [
        {"role": "user", "content": "Hello you."}, {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Good night."},
    ]  # fmt: skip
    recipe = recipe_for(write_jsonl(tmp_path / "a.jsonl", [{"messages": turns}]))
    (row,) = preview(recipe, 5)
    supervised = [text for text, on in row if on]
    assert supervised == ["Good day.</s>", "Good night.</s>"]


def test_explain_says_what_happened_to_a_row(tmp_path: Path, run_data: Prepare) -> None:
    rows = [*clean_rows(30), *SOME_BAD]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    _, run = run_data(path)
    first = next(iter(read_examples(run.train_rows)))
    (line,) = explain(run, first.id[:8])
    assert line == f"{first.id}: kept, in the training set (a, a.jsonl:{first.source.line})"
    assert any("toxic_words" in text for text in explain(run, "a.jsonl:34"))
    copies = [r for r in rejected(run).values() if r.kept_id]
    assert copies
    lines_ = explain(run, f"a.jsonl:{copies[0].source.line}")
    assert lines_[-1] == f"  the row that stayed: {copies[0].kept_id}"
    with pytest.raises(DataError, match="no such row"):
        explain(run, "0" * 16)
