"""The report: complete, partial, hostile and large runs; no scripts, no requests, no crash."""

import json
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.gate.example_run import edit, write_run

from sftprep.gate import judge
from sftprep.recipe import load_recipe
from sftprep.records import RedFlag, Sample, to_json
from sftprep.report import render_report, summary_lines
from sftprep.report.page import prose
from sftprep.report.runs_index import read_run
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder

PAYLOADS = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "\x1b[31mred\x1b[0m\u202egnp.exe\u200b",
)


class Elements(HTMLParser):
    """Counts elements, collects attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(run: RunFolder) -> str:
    return render_report(run).read_text(encoding="utf-8")


def write_models(run: RunFolder) -> None:
    """models.json of two candidates; the chosen one ranks second and states no licence."""
    aspects = [
        {"name": "size", "standing": "good", "text": "0.4M parameters: trains in full"},
        {"name": "licence", "standing": "unknown", "text": "no licence is stated"},
    ]
    rows = [
        {"rank": 1, "ref": "hub/rival-1b", "role": "candidate", "usable": True, "fit": "full",
         "parameters": 1_000_000_000, "licence": "apache-2.0", "aspects": aspects[:1]},
        {"rank": 2, "ref": "models/starter-0.4m", "role": "base", "usable": True, "fit": "full",
         "parameters": 400_000, "licence": None, "aspects": aspects},
    ]  # fmt: skip
    write_json(run.models, {"version": 1, "base": "models/starter-0.4m",
                            "recommended": "hub/rival-1b", "intended_use": "research",
                            "ranking": rows, "suggestions": []})  # fmt: skip


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = write_run(tmp_path_factory.mktemp("page") / "run", steps=100)
    write_models(run)
    judge(load_recipe(run.recipe).recipe, run)
    return run


@pytest.fixture
def run(complete: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_verdict_comes_first(complete: RunFolder) -> None:
    text = Elements(page_of(complete)).text
    assert text.index("PASS") < text.index("Held-out perplexity") < text.index("Quality gate")


def test_a_failing_rule_shows_its_remedy_at_the_top(run: RunFolder) -> None:
    edit(run.validation, lambda v: v["sft"].update(perplexity=24.0))
    judge(load_recipe(run.recipe).recipe, run)
    text = Elements(page_of(run)).text
    top = text[: text.index("Quality gate")]
    assert "FAIL" in top and "Validation perplexity" in top and "max_steps" in top


def test_every_section_is_there(complete: RunFolder) -> None:
    text = Elements(page_of(complete)).text
    for part in (
        "near_duplicate", "Jaccard 0.91", "instructions.jsonl:88", "The sea is calm at night.",
        "loss_spike", "25.0%", "30–70%", "2 CPU cores, 24 GiB", "recipe.yaml:8", "torch",
        "11,400", "Length of training rows", "Of 2 candidates hub/rival-1b ranks first",
        "0.87 times the expected time, inside the predicted range", "MANIFEST.json",
    ):  # fmt: skip
        assert part in text, part
    assert "Not run yet" not in text


def test_what_does_not_decide_and_should_be_known_stands_on_the_first_screen(
    complete: RunFolder,
) -> None:
    text = Elements(page_of(complete)).text
    top = text[: text.index("Quality gate")]
    assert "1 red flag during training: loss spike" in top
    assert "Licence of the base model: no licence is stated" in top


def test_two_rules_with_one_remedy_say_it_once(run: RunFolder) -> None:
    judge(load_recipe(run.recipe).recipe, run)
    edit(run.gate, lambda v: v.update(verdict="fail"))

    def fail_both(gate: Any) -> None:
        for rule in gate["rules"][1:3]:
            rule.update(status="fail", remedy="train longer, once")

    edit(run.gate, fail_both)
    page = page_of(run)
    assert page.count("train longer, once") == 1
    assert "the same as for Validation perplexity" in Elements(page).text


def test_the_page_loads_nothing_and_runs_nothing(complete: RunFolder) -> None:
    page = page_of(complete)
    found = Elements(page)
    assert "script" not in found.tags and "link" not in found.tags and "img" not in found.tags
    assert all(link.startswith("#") for link in found.links)
    assert not any(name.startswith("on") for name in found.attributes)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "url(" not in page and "@import" not in page


def test_an_empty_run_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(RunFolder(tmp_path / "empty"))
    text = Elements(page).text
    assert "GATE NOT RUN YET" in text
    assert text.count("Not run yet") == 8


STAGE_FILES = (
    "gate.json", "validation.json", "samples.jsonl", "plan.json", "run.json", "recipe.yaml",
    "data/report.json", "data/rejected.parquet", "train/result.json", "train/steps.jsonl",
    "train/flags.jsonl", "benchmarks/mmlu.json", "save.json", "models.json",
)  # fmt: skip


@pytest.mark.parametrize("name", STAGE_FILES)
def test_a_missing_file_never_breaks_the_page(run: RunFolder, name: str) -> None:
    (run.root / name).unlink()
    assert "</html>" in page_of(run)


@pytest.mark.parametrize("content", ["{torn", "[]", "{}", "null", '{"version": 99}\n{"a": 1}\n'])
@pytest.mark.parametrize("name", STAGE_FILES)
def test_a_damaged_file_never_breaks_the_page(run: RunFolder, name: str, content: str) -> None:
    (run.root / name).write_text(content, encoding="utf-8")
    assert "</html>" in page_of(run)


def test_a_damaged_file_is_listed(run: RunFolder) -> None:
    run.validation.write_text("{torn", encoding="utf-8")
    assert "validation.json: not valid JSON" in Elements(page_of(run)).text


def poison(run: RunFolder, text: str) -> None:
    """Put a text into every field of data or model origin."""
    flag = RedFlag(text, 5, text, text, text, "warn")
    run.flags.write_text(to_json(flag) + "\n", encoding="utf-8")
    edit(run.train_result, lambda v: v.update(flags=[json.loads(to_json(flag))]))
    sample = Sample(text, text, text, text, text, "correct")
    run.samples.write_text(to_json(sample) + "\n", encoding="utf-8")
    edit(run.data_report, lambda v: v["ledger"].update(rejected={text: 2180}))
    edit(
        run.data_report,
        lambda v: v["sections"].update(
            {text: {text: text}, "rows": [{text: text}], "lengths": v["sections"]["lengths"]}
        ),
    )
    edit(run.benchmarks / "mmlu.json", lambda v: v.update(note=text))
    edit(run.plan, lambda v: v.update(hardware_label=text, stage_document=text, warnings=[text]))
    rule = {"status": "fail"} | dict.fromkeys(("why", "measured", "required", "remedy"), text)
    edit(run.gate, lambda v: v["rules"][0].update(rule, rule=text))
    edit(run.validation, lambda v: v["hashes"].update({text: text}))
    edit(run.state, lambda v: v["stages"]["save"]["environment"].update({text: text}))
    edit(run.models, lambda v: v["ranking"][0].update(ref=text, licence=text, fit=text))
    edit(run.models, lambda v: v["ranking"][1]["aspects"][1].update(text=text, name=text))
    write_poisoned_rejections(run, text)


def write_poisoned_rejections(run: RunFolder, text: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    reasons = json.dumps([{"id": text, "evidence": text, "score": None}])
    row = {"reason": text, "reasons": reasons, "file": text, "line": 1, "raw": text}
    pq.write_table(pa.Table.from_pylist([row]), run.rejected_rows)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_adds_no_element_and_no_attribute(
    run: RunFolder, tmp_path: Path, payload: str
) -> None:
    shutil.copytree(run.root, tmp_path / "twin")
    twin = RunFolder(tmp_path / "twin")
    poison(twin, "plain")
    benign = Elements(page_of(twin))
    poison(run, payload)
    page = page_of(run)
    hostile = Elements(page)
    assert hostile.tags == benign.tags
    assert hostile.attributes == benign.attributes
    assert "\x1b" not in page and "\u202e" not in page and "\u200b" not in page
    assert payload.translate({0x1B: "\\x1b", 0x202E: "\\u202e", 0x200B: "\\u200b"}) in hostile.text


def test_secrets_do_not_reach_the_page(run: RunFolder) -> None:
    text = run.recipe.read_text().replace("models/starter-0.4m", "https://u:canary@hub/model")
    run.recipe.write_text(text)
    edit(run.state, lambda v: v["stages"]["save"]["environment"].update(hf_token="canary"))
    assert "canary" not in page_of(run)


def test_numbers_that_are_not_finite_are_shown_not_hidden(run: RunFolder) -> None:
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    rows[50]["loss_sum_nats"] = None
    run.steps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit(run.validation, lambda v: v["sft"].update(perplexity=float("nan")))
    text = Elements(page_of(run)).text
    assert "Steps with a loss that is not finite: 1." in text
    assert "nan" in text


def test_a_step_log_without_the_optional_fields_is_still_drawn(run: RunFolder) -> None:
    needed = ("step", "loss_sum_nats", "tokens_supervised", "tokens_real", "tokens_padding",
              "learning_rate", "grad_norm", "seconds")  # fmt: skip
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    run.steps.write_text("".join(json.dumps({k: r[k] for k in needed}) + "\n" for r in rows))
    text = Elements(page_of(run)).text
    assert "could not be read" not in text
    assert "Numbers behind the curves (21 of 100 steps)" in text


def test_backticks_become_code_and_stay_escaped() -> None:
    assert prose("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"
    assert prose("one ` only <b>") == "one ` only &lt;b&gt;"


def test_a_run_of_100_000_steps_is_rendered_within_its_limits(tmp_path: Path) -> None:
    run = write_run(tmp_path / "long", steps=100_000)
    started = time.process_time()
    path = render_report(run)
    assert time.process_time() - started < 5
    assert path.stat().st_size < 2_000_000


def test_the_summary_is_plain_text_with_verdict_figures_and_next_command(
    complete: RunFolder,
) -> None:
    lines = summary_lines(complete)
    assert lines[0] == "Quality gate: PASS"
    assert any(line.split() == ["mmlu", "42.0%", "46.0%"] for line in lines)
    assert any(line.split() == ["held-out", "perplexity", "22.2", "3.31"] for line in lines)
    assert lines[-1].startswith("next: after preference optimisation, sftprep compare ")


def test_the_summary_of_a_failure_names_rules_and_points_at_diagnose(run: RunFolder) -> None:
    edit(run.data_report, lambda v: v.update(leaked_pairs=4))
    judge(load_recipe(run.recipe).recipe, run)
    lines = summary_lines(run)
    assert lines[0] == "Quality gate: FAIL"
    assert lines[1].split()[:2] == ["FAIL", "data_not_leaking:"]
    assert lines[-1] == f"next: sftprep diagnose {run.root}"


def test_the_summary_of_an_empty_run_says_what_to_do(tmp_path: Path) -> None:
    lines = summary_lines(RunFolder(tmp_path / "none"))
    assert lines[0] == "Quality gate: gate not run yet"
    assert lines[-1] == f"next: sftprep run {tmp_path / 'none'}"


def test_the_summary_is_printed_without_colour_when_piped(
    complete: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.report import print_summary

    print_summary(complete)
    out = capsys.readouterr().out
    assert out.splitlines() == summary_lines(complete)
    assert "\x1b" not in out


def test_a_run_without_a_verdict_still_has_a_report(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.cli.main import main

    run.gate.unlink()
    with pytest.raises(SystemExit) as end:
        main(["report", str(run.root)])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert "GATE NOT RUN YET" in run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["train", "validate", "save"])
def test_a_verdict_older_than_the_run_is_not_shown(run: RunFolder, stage: str) -> None:
    assert summary_lines(run)[0] == "Quality gate: PASS"
    run.mark(stage, "running", "other inputs")
    run.mark(stage, "done", "other inputs")
    assert summary_lines(run)[0] == "Quality gate: gate not run yet"
    assert "GATE NOT RUN YET" in page_of(run)
    assert read_run(run.root, run.root.parent).verdict is None


def test_a_stage_redone_with_the_same_inputs_leaves_the_verdict_as_it_is(run: RunFolder) -> None:
    same = run.stages()["train"]["fingerprint"]
    run.mark("train", "running", same)
    assert summary_lines(run)[0] == "Quality gate: gate not run yet"
    run.mark("train", "done", same)
    run.mark("report", "running", "f")
    assert summary_lines(run)[0] == "Quality gate: PASS"
