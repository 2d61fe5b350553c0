"""Instruction following: paired on the prompts when their outcomes were kept."""

import gzip
import json

from tests.gate.example_run import edit
from tests.gate.judging import verdict_of

from sftprep.store.run import RunFolder


def write_outcomes(run: RunFolder, sft: int, base: int, swaps: int) -> None:
    """500 prompts: `sft` and `base` of them followed; `swaps` that only the base model follows."""
    rows = [
        {"id": str(n), "nll": None, "tokens": None, "base_nll": None, "correct": n < sft,
         "base_correct": n < base - swaps or n >= 500 - swaps}
        for n in range(500)
    ]  # fmt: skip
    with gzip.open(run.root / "validation.items.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    for side, hits in (("sft", sft), ("base", base)):
        edit(
            run.validation,
            lambda v, s=side, h=hits: v[s]["instruction_following"].update(  # type: ignore[misc]
                value=h / 500
            ),
        )


def test_instruction_following_is_paired_when_the_prompts_were_kept(run: RunFolder) -> None:
    # 10 of 500 more: too few for two separate shares, clear when no prompt got worse (p = 2^-11)
    write_outcomes(run, sft=310, base=300, swaps=0)
    found = verdict_of(run, "instruction_following")
    assert (found.status, found.why) == (
        "pass",
        "above base, one-sided p < 0.001 (500 paired prompts)",
    )
    (run.root / "validation.items.jsonl.gz").unlink()
    assert verdict_of(run, "instruction_following").status == "fail"


def test_a_gain_within_the_flips_of_the_prompts_is_not_above_base(run: RunFolder) -> None:
    write_outcomes(run, sft=310, base=305, swaps=100)  # 105 better, 100 worse
    found = verdict_of(run, "instruction_following")
    assert found.status == "fail"
    assert found.why.startswith("not above base beyond chance")


def test_damaged_rows_make_instruction_following_missing(run: RunFolder) -> None:
    (run.root / "validation.items.jsonl.gz").write_bytes(b"torn")
    found = verdict_of(run, "instruction_following")
    assert found.status == "missing"
    assert "truncated or not gzip" in found.why
