"""compare() on rows and groups: pairing, clusters, and the noise of two scorings."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.candidates import checkpoint_of, row, worsen
from tests.gate.example_run import edit, items_of, write_items

from sftprep.comparison import compare
from sftprep.errors import CorruptError, EvaluationError
from sftprep.store.run import RunFolder


def write_rows(run: RunFolder, nats: list[float], followed: list[bool]) -> None:
    """validation.items.jsonl.gz as the validation stage writes it, and the perplexity it gives."""
    import gzip

    rows: list[dict[str, Any]] = [
        {"id": f"row{number}", "category": "c", "source": "s", "nll": value, "tokens": 10,
         "base_nll": 25.0, "base_tokens": 10, "correct": None, "base_correct": None}
        for number, value in enumerate(nats)
    ]  # fmt: skip
    rows += [
        {"id": f"prompt{number}", "category": "c", "source": "s", "nll": None, "tokens": None,
         "base_nll": None, "correct": hit, "base_correct": False}
        for number, hit in enumerate(followed)
    ]  # fmt: skip
    with gzip.open(run.root / "validation.items.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    perplexity = math.exp(sum(nats) / (10 * len(nats)))
    share = sum(followed) / len(followed)

    def change(values: Any) -> None:
        values["sft"].update(perplexity=perplexity)
        values["sft"]["instruction_following"].update(
            value=share, n=len(followed), n_total=len(followed)
        )

    edit(run.validation, change)


def test_perplexity_and_instructions_are_paired_when_their_rows_were_kept(
    run: RunFolder, other: RunFolder
) -> None:
    before = [10 + number % 7 for number in range(200)]
    write_rows(run, [float(v) for v in before], [n % 5 > 0 for n in range(300)])
    after = [v + 0.3 + 0.1 * (n % 3) for n, v in enumerate(before)]
    write_rows(other, after, [n % 5 > 0 and n % 10 > 1 for n in range(300)])
    comparison = compare(run.root, other.root)
    perplexity, following = (
        row(comparison, "validation_perplexity"),
        row(comparison, "instruction_following"),
    )
    # mean loss rises by 0.3 + 0.1 * 199 / 200 nats per row of ten tokens
    assert perplexity.change == pytest.approx(-(0.3 + 0.1 * 199 / 200) / 10)
    assert (perplexity.n, perplexity.outcome) == (200, "regressed")
    assert perplexity.method.startswith("paired items")
    assert (following.worse, following.better, following.n) == (30, 0, 300)
    assert following.outcome == "regressed"


def test_pairing_finds_what_the_unpaired_test_cannot(run: RunFolder, other: RunFolder) -> None:
    followed = [n % 2 > 0 for n in range(300)]
    nats = [12.0 + n % 5 for n in range(200)]
    write_rows(run, nats, followed)
    write_rows(other, nats, [hit and n > 20 for n, hit in enumerate(followed)])
    margins = {"instruction_following": 0.01}
    paired = row(compare(run.root, other.root, margins=margins), "instruction_following")
    for folder in (run, other):
        (folder.root / "validation.items.jsonl.gz").unlink()
    unpaired = row(compare(run.root, other.root, margins=margins), "instruction_following")
    assert (paired.outcome, unpaired.outcome) == ("regressed", "cannot_tell")


def test_rows_that_do_not_give_the_recorded_perplexity_are_refused(
    run: RunFolder, other: RunFolder
) -> None:
    nats = [12.0 + n % 5 for n in range(200)]
    for folder in (run, other):
        write_rows(folder, nats, [True, False])
    edit(other.validation, lambda v: v["sft"].update(perplexity=9.0))
    with pytest.raises(CorruptError, match="recorded is 9"):
        compare(run.root, other.root)


def test_a_saved_checkpoint_keeps_the_rows_of_its_validation(
    run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    for folder in (run, other):
        write_rows(folder, [12.0 + n % 5 for n in range(200)], [True, False] * 20)
    saved = checkpoint_of(run, tmp_path / "sft_baseline")
    assert compare(saved, other.root).changes == compare(run.root, other.root).changes


def test_subjects_that_change_together_count_as_fewer_witnesses(
    run: RunFolder, other: RunFolder
) -> None:
    import dataclasses

    worsen(other, "mmlu", 0.06)
    from sftprep.comparison.items import read_items

    for folder in (run, other):
        path = folder.benchmarks / "mmlu.items.jsonl.gz"
        records = list(read_items(path).values())
        write_items(
            path,
            [dataclasses.replace(r, cluster=f"subject {n // 40}") for n, r in enumerate(records)],
        )
    found = row(compare(run.root, other.root), "mmlu")
    assert found.clusters == 20
    assert "cluster-robust" in found.method


def scored_again(run: RunFolder, folder: Path, flips: int) -> RunFolder:
    """The baseline scored again: this many MMLU items change sides, half each way."""
    from sftprep.comparison.items import read_items

    shutil.copytree(run.root, folder)
    again = RunFolder(folder)
    path = again.benchmarks / "mmlu.items.jsonl.gz"
    hits = [item.score == 1.0 for item in read_items(path).values()]
    for wanted in (True, False):
        places = [n for n, hit in enumerate(hits) if hit is wanted][-flips // 2 :]
        for place in places:
            hits[place] = not wanted
    write_items(path, items_of("mmlu", hits, "acc"))
    return again


def test_a_loss_within_the_noise_of_the_baseline_is_not_called_one(
    run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    worsen(other, "mmlu", 0.03)
    assert row(compare(run.root, other.root), "mmlu").outcome == "regressed"
    noisy = scored_again(run, tmp_path / "again", 80)
    found = row(compare(run.root, other.root, repeat=noisy.root), "mmlu")
    assert found.outcome == "cannot_tell"
    assert found.noise is not None
    assert found.noise >= 0.03
    assert found.why == "worse beyond chance, but two scorings of the baseline differ more"


def test_a_repeat_with_other_weights_is_no_noise_floor(
    run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    again = scored_again(run, tmp_path / "again", 2)
    for folder, weights in ((run, "1" * 16), (again, "2" * 16)):
        edit(
            folder.benchmarks / "mmlu.json",
            lambda v, w=weights: v["metrics"]["acc"]["hashes"].update(weights=w),  # type: ignore[misc]
        )
    with pytest.raises(EvaluationError, match="other weights"):
        compare(run.root, other.root, repeat=again.root)
