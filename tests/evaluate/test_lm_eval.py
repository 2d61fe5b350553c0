"""Parity with lm-evaluation-harness: request by request, on real items and on a random model."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftprep.errors import EvaluationError
from sftprep.evaluate.engine import Engine, GenerateRequest
from sftprep.evaluate.lm_eval_model import as_lm_eval_model, generate_request
from sftprep.progress import Progress

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed")
Make = Callable[..., Engine]
Pairs = list[tuple[str, str]]
LETTERS = ("A", "B", "C", "D")


def jsonl(path: Path, count: int) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def mmlu_question(row: dict[str, Any], answer: str = "") -> str:
    choices = "\n".join(f"{k}. {c}" for k, c in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{choices}\nAnswer:{answer}"


def mmlu(folder: Path) -> Pairs:
    shots = jsonl(folder / "mmlu" / "dev" / "anatomy.jsonl", 2)
    head = "The following are multiple choice questions (with answers) about anatomy.\n\n"
    head += "".join(mmlu_question(s, f" {LETTERS[s['answer']]}") + "\n\n" for s in shots)
    rows = jsonl(folder / "mmlu" / "test" / "anatomy.jsonl", 12)
    return [(head + mmlu_question(row), f" {letter}") for row in rows for letter in LETTERS]


def hellaswag(folder: Path) -> Pairs:
    rows = jsonl(folder / "hellaswag" / "validation.jsonl", 20)
    return [
        (f"{row['activity_label']}: {row['ctx']}", f" {end}")
        for row in rows
        for end in row["endings"]
    ]


def truthfulqa(folder: Path) -> Pairs:
    head = "Q: What is human life expectancy?\nA: It is about 73 years.\n\n" * 3
    rows = jsonl(folder / "truthfulqa" / "validation.jsonl", 12)
    return [
        (f"{head}Q: {row['question']}\nA:", f" {choice}")
        for row in rows
        for choice in row["mc2_targets"]["choices"]
    ]


def instances(kind: str, arguments: list[Any]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, 0) for one in arguments]


def harness(engine: Engine) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=8)


def assert_parity(engine: Engine, pairs: Pairs) -> None:
    asked = instances("loglikelihood", pairs)
    expected = harness(engine).loglikelihood(asked, disable_tqdm=True)
    found = as_lm_eval_model(engine, Progress(quiet=True)).loglikelihood(asked)
    for pair, (value, greedy), (reference, was_greedy) in zip(pairs, found, expected, strict=True):
        assert value == pytest.approx(reference, abs=1e-4), pair
        assert greedy == was_greedy, pair


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mmlu", "hellaswag", "truthfulqa"])
def test_real_items_score_as_in_lm_eval(shared: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "models" / "stories260k"
    engine = Engine(
        AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )
    items = {"mmlu": mmlu, "hellaswag": hellaswag, "truthfulqa": truthfulqa}[name]
    assert_parity(engine, items(shared / "data" / "benchmarks"))


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_edge_cases_score_as_in_lm_eval(make_engine: Make, name: str) -> None:
    long = "The dog ran to the park. " * 30
    assert_parity(
        make_engine(name),
        [
            ("The cat", " sat on the mat"),
            ("The cat ", "sat on the mat"),
            ("The cat \n", "sat"),
            # Not ("", "The cat sat"): lm-eval 0.4.13 mixes up requests with the same tokens that
            # are cut at different places (its cache of one-token answers ignores the cut).
            ("", "One day a bird came"),
            ("<s>The cat", " sat"),
            ("The cat", "\n\nsat"),
            (long, " One day"),
            (long + "A", " small bird came back again"),
            ("Answer:", " A"),
            ("Answer:", " B"),
            ("é ☃", " ✓"),
        ],
    )


def test_rolling_log_likelihoods_are_lm_evals(make_engine: Make) -> None:
    engine = make_engine()
    texts = ["The cat sat on the mat.", "The dog ran to the park and back again. " * 25]
    asked = instances("loglikelihood_rolling", [(text,) for text in texts])
    expected = harness(engine).loglikelihood_rolling(asked, disable_tqdm=True)
    found = as_lm_eval_model(engine, Progress(quiet=True)).loglikelihood_rolling(asked)
    assert found == pytest.approx(expected, abs=1e-3)


def test_answers_are_lm_evals(make_engine: Make) -> None:
    engine = make_engine()
    free = harness(engine).generate_until(
        instances("generate_until", [("The cat", {"until": [], "max_gen_toks": 30})]),
        disable_tqdm=True,
    )[0]
    settings = {"until": [free[9:11], "never"], "max_gen_toks": 30, "do_sample": False}
    asked = instances(
        "generate_until", [(text, dict(settings)) for text in ("The cat", "One day a", "Name")]
    )
    expected = harness(engine).generate_until(asked, disable_tqdm=True)
    assert as_lm_eval_model(engine, Progress(quiet=True)).generate_until(asked) == expected


def test_an_end_token_that_is_spelled_out_ends_the_answer_as_in_lm_eval(make_engine: Make) -> None:
    plain = make_engine()
    settings = {"until": [], "max_gen_toks": 30, "do_sample": False}
    asked = instances("generate_until", [("The cat", settings)])
    (free,) = as_lm_eval_model(plain, Progress(quiet=True)).generate_until(asked)
    tokenizer = copy.deepcopy(plain.tokenizer)
    tokenizer.add_special_tokens({"eos_token": free[9:12]})
    engine = Engine(plain.model, tokenizer)
    (found,) = as_lm_eval_model(engine, Progress(quiet=True)).generate_until(asked)
    assert found == free[: free.index(free[9:12])]
    assert [found] == harness(engine).generate_until(asked, disable_tqdm=True)


def test_generation_settings_become_a_request() -> None:
    assert generate_request("p", {"until": "\n\n", "max_gen_toks": 7}) == GenerateRequest(
        "p", 7, stop=("\n\n",)
    )
    assert generate_request("p", {}).max_new_tokens == 256
    assert generate_request("p", {"do_sample": False, "temperature": 0.7}).temperature == 0.0
    assert generate_request("p", {"do_sample": True, "temperature": 0.7}).temperature == 0.7


def test_an_unknown_generation_setting_is_refused() -> None:
    with pytest.raises(EvaluationError, match="num_beams are not supported"):
        generate_request("p", {"num_beams": 4})
