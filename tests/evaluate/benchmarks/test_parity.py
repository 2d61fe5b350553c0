"""Prompts and decisions equal lm-evaluation-harness 0.4.13's, string by string, on real data."""

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.benchmarks.their_tasks import (
    PLAIN,
    build_task,
    folder_of,
    has_own_reading,
    items_of,
)

from sftprep.evaluate.benchmarks import (
    constraints,
    gsm8k,
    hellaswag,
    humaneval,
    ifeval,
    mmlu,
    truthfulqa,
)
from sftprep.evaluate.benchmarks.data import read_rows
from sftprep.evaluate.benchmarks.protocol import Answered, Item, Protocol, Setting
from sftprep.evaluate.engine import Engine
from sftprep.progress import Progress
from sftprep.stop import StopSignal

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("offline")]

pytest.importorskip("lm_eval")
if metadata.version("lm_eval") != "0.4.13":
    pytest.skip("the strings are those of lm_eval 0.4.13", allow_module_level=True)

SUBJECTS = ("anatomy", "high_school_us_history", "moral_scenarios")
DOCS = 40
FIELDS = ("doc_to_text", "gen_prefix")


def their_pairs(task: Any, limit: int) -> dict[int, list[tuple[str, Any]]]:
    """(context, continuation or generation arguments) by document."""
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    found: dict[int, list[tuple[str, Any]]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance.args)
    return found


def assert_same_choices(protocol: Protocol, items: list[Item], pairs: dict[int, Any]) -> None:
    assert pairs
    for place, theirs in pairs.items():
        ours = [(r.context, r.continuation) for r in protocol.ask(items[place], PLAIN).scores]
        assert ours == theirs


@pytest.mark.parametrize("subject", SUBJECTS)
def test_mmlu_prompts(shared: Path, tmp_path: Path, subject: str) -> None:
    data = shared / "data/benchmarks/mmlu"
    task = build_task(f"mmlu_{subject}", data, tmp_path, "num_fewshot: 5\n")
    items = [item for item in items_of("mmlu", shared) if item.cluster == subject]
    assert_same_choices(mmlu.PROTOCOL, items, their_pairs(task, DOCS))


@pytest.mark.parametrize("shots", [0, 5])
def test_mmlu_cloze_prompts(shared: Path, tmp_path: Path, shots: int) -> None:
    data = shared / "data/benchmarks/mmlu"
    task = build_task("mmlu_anatomy_continuation", data, tmp_path, f"num_fewshot: {shots}\n")
    items = [i for i in items_of("mmlu_cloze", shared, shots) if i.cluster == "anatomy"]
    assert_same_choices(mmlu.CLOZE, items, their_pairs(task, DOCS))


def test_hellaswag_prompts_with_examples(shared: Path, tmp_path: Path) -> None:
    # The shared training split has five rows; the form does not depend on the number.
    extra = "num_fewshot: 5\nfewshot_split: train\nfewshot_config:\n  sampler: first_n\n"
    task = build_task("hellaswag", shared / "data/benchmarks/hellaswag", tmp_path, extra)
    items = items_of("hellaswag", shared, 5)
    assert_same_choices(hellaswag.PROTOCOL, items, their_pairs(task, DOCS))


def test_hellaswag_prompts(shared: Path, tmp_path: Path) -> None:
    task = build_task("hellaswag", shared / "data/benchmarks/hellaswag", tmp_path)
    assert_same_choices(
        hellaswag.PROTOCOL, items_of("hellaswag", shared), their_pairs(task, 10 * DOCS)
    )


def test_gsm8k_prompts(shared: Path, tmp_path: Path) -> None:
    data = shared / "data/benchmarks/gsm8k"
    extra = "dataset_name: default\nfewshot_config:\n  sampler: first_n\n"
    if "config_name: main" in (data / "README.md").read_text():
        extra = extra.replace("default", "main")
    pairs = their_pairs(build_task("gsm8k", data, tmp_path, extra), DOCS)
    shots = [gsm8k.read(row) for row in read_rows(data / "train.jsonl")[:5]]
    assert len(pairs) == DOCS
    for item, theirs in zip(items_of("gsm8k", shared), pairs.values(), strict=False):
        ((context, arguments),) = theirs
        request = gsm8k.ask(item, PLAIN).generate
        assert request is not None
        assert gsm8k.prompt(item.doc, shots) == context
        assert list(request.stop) == arguments["until"]


@pytest.mark.parametrize("form", ["mc1", "mc2"])
def test_truthfulqa_prompts(shared: Path, tmp_path: Path, form: str) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    data = shared / "data/benchmarks/truthfulqa"
    pairs = their_pairs(build_task(f"truthfulqa_{form}", data, tmp_path), 100)
    for item, theirs in zip(items_of("truthfulqa", shared), pairs.values(), strict=False):
        asked = {(r.context, r.continuation) for r in truthfulqa.ask(item, PLAIN).scores}
        choices = item.doc[f"{form}_targets"]["choices"]
        context = next(iter(asked))[0]
        assert [(context, f" {choice}") for choice in choices] == theirs
        assert set(theirs) <= asked


@pytest.fixture(scope="module")
def trained(shared: Path) -> tuple[Engine, Any]:
    """Our engine and lm-eval's `hf` model around the same pre-trained weights, float32."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "models/tinystories-656k"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Engine(model, tokenizer), HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)


def assert_same_decisions(
    trained: tuple[Engine, Any], task: Any, protocol: Protocol, items: list[Item], limit: int | None
) -> dict[str, tuple[float, float]]:
    """Score documents with both; returns the metrics (ours, theirs) as means."""
    engine, other = trained
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    their_scores = other.loglikelihood(task.instances, disable_tqdm=True)
    by_doc: dict[int, list[tuple[float, bool]]] = {}
    for instance, found in zip(task.instances, their_scores, strict=True):
        by_doc.setdefault(instance.doc_id, []).append(found)
    sums: dict[str, list[tuple[float, float]]] = {}
    for place, doc in task.doc_iterator(rank=0, limit=limit, world_size=1):
        item = items[place]
        question = protocol.ask(item, PLAIN)
        scores = engine.score(question.scores, Progress(quiet=True), StopSignal(), "parity")
        (record,) = protocol.judge([Answered(item, question, tuple(scores))], PLAIN)
        asked = {r.continuation: s for r, s in zip(question.scores, scores, strict=True)}
        own = [i for i in task.instances if i.doc_id == place]
        for instance, (value, greedy) in zip(own, by_doc[place], strict=True):
            # lm-eval adds up in float32, whose step is 6e-5 at 500 nats.
            near = pytest.approx(value, abs=1e-4, rel=3e-7)
            assert asked[instance.args[1]].loglikelihood == near
            assert asked[instance.args[1]].is_greedy == greedy
        for name, value in task.process_results(doc, by_doc[place]).items():
            mine = record.extra.get(METRIC_NAMES.get(task.config.task, name), record.score)
            # A share of probability (MC2) moves by half of what the log-likelihoods may differ.
            assert mine == pytest.approx(float(value), abs=5e-5), (name, item.id)
            sums.setdefault(name, []).append((float(str(mine)), float(value)))
    return {n: (sum(a for a, _ in v), sum(b for _, b in v)) for n, v in sums.items()}


METRIC_NAMES = {"ours_truthfulqa_mc1": "mc1", "ours_truthfulqa_mc2": "mc2"}
SCORED = {
    "mmlu_anatomy": (mmlu.PROTOCOL, "mmlu", "num_fewshot: 5\n"),
    "hellaswag": (hellaswag.PROTOCOL, "hellaswag", ""),
    "truthfulqa_mc1": (truthfulqa.PROTOCOL, "truthfulqa", ""),
    "truthfulqa_mc2": (truthfulqa.PROTOCOL, "truthfulqa", ""),
}


@pytest.mark.parametrize("name", SCORED)
def test_log_likelihoods_decisions_and_metrics_equal_lm_evals(
    shared: Path, tmp_path: Path, trained: tuple[Engine, Any], name: str
) -> None:
    protocol, data, extra = SCORED[name]
    task = build_task(name, shared / "data/benchmarks" / data, tmp_path, extra)
    items = items_of(data, shared)
    if data == "mmlu":
        items = [i for i in items if i.cluster == "anatomy"]
    found = assert_same_decisions(trained, task, protocol, items, 16)
    assert found
    for ours, theirs in found.values():
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["hellaswag", "truthfulqa_mc1", "truthfulqa_mc2"])
def test_every_item_is_scored_and_decided_as_by_lm_eval(
    shared: Path, tmp_path: Path, trained: tuple[Engine, Any], name: str
) -> None:
    protocol, data, extra = SCORED[name]
    task = build_task(name, shared / "data/benchmarks" / data, tmp_path, extra)
    items = items_of(data, shared)
    for ours, theirs in assert_same_decisions(trained, task, protocol, items, None).values():
        assert ours == pytest.approx(theirs, abs=1e-5 * len(items))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_subject_of_mmlu_is_decided_as_by_lm_eval(
    shared: Path, tmp_path: Path, trained: tuple[Engine, Any]
) -> None:
    items = items_of("mmlu", shared)
    subjects = sorted({item.cluster for item in items})
    assert len(subjects) == 57
    for subject in subjects:
        task = build_task(
            f"mmlu_{subject}", shared / "data/benchmarks/mmlu", tmp_path, "num_fewshot: 5\n"
        )
        own = [item for item in items if item.cluster == subject]
        found = assert_same_decisions(trained, task, mmlu.PROTOCOL, own, 4)
        assert found["acc"][0] == found["acc"][1]


def test_truthfulqa_mass_equals_theirs_where_theirs_is_a_number(shared: Path) -> None:
    np = pytest.importorskip("numpy")
    values, labels = np.array([-3.0, -1.5, -8.0, -2.0]), [1, 0, 1, 1]
    weights = np.exp(values) / np.sum(np.exp(values))
    expected = float(weights[np.array(labels) == 1].sum())
    assert truthfulqa.true_mass(list(values), labels) == pytest.approx(expected, abs=1e-15)


def test_humaneval_instruct_prompts_are_those_of_its_yaml(shared: Path) -> None:
    from ruamel.yaml import YAML

    text = (folder_of("humaneval") / "humaneval_instruct.yaml").read_text()
    config = YAML(typ="safe").load(text.replace("!function ", ""))
    chat = Setting(chat=lambda asked: f"[{asked}]")
    for item in items_of("humaneval_instruct", shared):
        request = humaneval.ask_instruct(item, chat).generate
        assert request is not None
        parts = [config[name].replace("{{ prompt }}", item.doc["prompt"]) for name in FIELDS]
        assert request.prompt == f"[{parts[0]}]{parts[1]}"
        assert request.stop == humaneval.STOPS


def test_humaneval_prompts_and_stops_are_those_of_its_yaml(shared: Path) -> None:
    # lm-eval's task cannot be loaded offline (it fetches a metric at import), so its file is read.
    from ruamel.yaml import YAML

    text = (folder_of("humaneval") / "humaneval.yaml").read_text().replace("!function ", "")
    config = YAML(typ="safe").load(text)
    for item in items_of("humaneval", shared):
        request = humaneval.ask(item, PLAIN).generate
        assert request is not None
        assert request.prompt == item.doc["prompt"]
        assert list(request.stop) == config["generation_kwargs"]["until"]
        assert request.max_new_tokens == config["generation_kwargs"]["max_gen_toks"]
    assert config["doc_to_text"] == "{{prompt}}"


def test_ifeval_prompts(shared: Path, tmp_path: Path, their_ifeval: Any) -> None:
    task = build_task("ifeval", shared / "data/benchmarks/ifeval", tmp_path)
    task.build_all_requests(
        limit=DOCS, rank=0, world_size=1, apply_chat_template=True,
        chat_template=lambda turns, **_: f"<{turns[-1]['content']}>", tokenizer_name="none",
    )  # fmt: skip
    setting = Setting(chat=lambda text: f"<{text}>")
    items = items_of("ifeval", shared)
    assert len(task.instances) == DOCS
    for item, instance in zip(items, task.instances, strict=False):
        request = ifeval.ask(item, setting).generate
        assert request is not None
        assert request.prompt == instance.args[0]
        assert request.max_new_tokens == instance.args[1]["max_gen_toks"]


ANSWERS = (
    "Here is my answer.\n\n* first point\n* second point\n\nP.S. Do not forget, please.",
    '"My answer is maybe."',
    "<<A Title>>\n\nSECTION 1\nText, with commas.\nSECTION 2\nMore *highlighted* **words** [name].",
    "no commas here and only small letters in this rather long english sentence about a story",
    "THE WHOLE ANSWER IS IN CAPITAL LETTERS AND IT IS ENGLISH. IS THERE ANYTHING ELSE?",
    '{"a": [1, 2, 3], "b": "text"}',
    "```json\n{\"x\": 1}\n```",
    "One answer here.\n******\nAnother answer there.",
    "Paragraph one.\n***\nParagraph two.\n***\nParagraph three.",
    "Weekend plans.\n\nPresident of all.\n\n\n\nIs there anything else I can help with?",
    "Der schnelle braune Fuchs springt über den faulen Hund und läuft dann schnell nach Hause.",
    "ಇದು ಕನ್ನಡ ಭಾಷೆಯಲ್ಲಿ ಬರೆದ ಒಂದು ವಾಕ್ಯ ಮತ್ತು ಇನ್ನೊಂದು ವಾಕ್ಯ",
    "- a\n- b\n- c\n[address] [name] [date] [city] [zip] [x] [y]",
    "*\n* x\n*** y\n  - z",
    "",
    "12345",
)  # fmt: skip


def test_ifeval_decisions(shared: Path, their_ifeval: Any) -> None:
    rows = read_rows(shared / "data/benchmarks/ifeval/train.jsonl")
    compared, seen = 0, set()
    for place, row in enumerate(rows[::2]):
        texts = [ANSWERS[(place + i) % len(ANSWERS)] for i in range(2)]
        texts.append(row["prompt"] + "\nThen the answer.")
        for identity, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            if has_own_reading(identity, kwargs):
                continue
            example = their_ifeval.InputExample(0, [identity], row["prompt"], [kwargs])
            for text in texts:
                for loose in (False, True):
                    their = getattr(
                        their_ifeval,
                        f"test_instruction_following_{'loose' if loose else 'strict'}",
                    )(example, text).follow_instruction_list
                    arguments = (row["prompt"], text, [identity], [kwargs], loose)
                    assert constraints.check_instructions(*arguments) == their, (identity, text)
                    compared += 1
            seen.add(identity)
    assert len(seen) == 24
    assert compared > 2000


@pytest.mark.parametrize(
    "text", ["#### 5", "x #### 1,200.", "So $5.", "5", "-3 or 4.50", "none", "", "#### -7 #### 8"]
)
def test_gsm8k_readings_equal_lm_evals_filters(shared: Path, text: str) -> None:
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    ignore = [",", "\\$", "(?s).*#### ", "\\.$"]
    for gold in ("4 + 1\n#### 5", "#### 1200", "#### 4.50", "#### -7", "#### 8"):
        for pattern, group, ours in (
            (r"#### (\-?[0-9\.\,]+)", 0, gsm8k.strict(text)),
            (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, gsm8k.flexible(text)),
        ):
            reader = RegexFilter(regex_pattern=pattern, group_select=group)
            ((theirs,),) = reader.apply([[text]], [{}])
            score = exact_match_hf_evaluate([theirs], [gold], ignore, ignore_case=True)
            hit = ours is not None and gsm8k.normal(ours) == gsm8k.normal(gold)
            assert float(hit) == score["exact_match"]
