"""Written answers, and what is read in them, equal lm-evaluation-harness 0.4.13's."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.benchmarks.their_tasks import (
    PLAIN,
    build_task,
    has_own_reading,
    items_of,
)

from sftprep.evaluate.benchmarks import gsm8k, humaneval, ifeval
from sftprep.evaluate.benchmarks.data import read_rows
from sftprep.evaluate.benchmarks.protocol import Answered, Item, Protocol, Question, Setting
from sftprep.evaluate.engine import Engine, Generation
from sftprep.evaluate.writing import spelled_end
from sftprep.progress import Progress
from sftprep.records import ItemRecord
from sftprep.stop import StopSignal

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.usefixtures("offline")]

pytest.importorskip("lm_eval")
if metadata.version("lm_eval") != "0.4.13":
    pytest.skip("the answers are those of lm_eval 0.4.13", allow_module_level=True)

DOCS = 40
NEW_TOKENS = 96
"""Answers of a model this small run to their limit; the real limits are compared as prompts are."""


@pytest.fixture(scope="module")
def with_room(shared: Path) -> tuple[Engine, Any]:
    """The same weights with a context that holds five solved questions."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "models/tinystories-656k"
    model = AutoModelForCausalLM.from_pretrained(folder, max_position_embeddings=4096)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Engine(model, tokenizer), HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)


def answer_alike(
    models: tuple[Engine, Any], questions: list[Question], instances: list[Any]
) -> list[Generation]:
    """Both write; every text is equal. lm-eval's filters have then been applied to theirs."""
    engine, other = models
    asked, ends = [], spelled_end(engine.tokenizer)
    for question, instance in zip(questions, instances, strict=True):
        assert question.generate is not None
        stop = (*question.generate.stop, *ends)
        asked.append(replace(question.generate, max_new_tokens=NEW_TOKENS, stop=stop))
        context, settings = instance.args
        instance.arguments = (context, {**settings, "max_gen_toks": NEW_TOKENS})
    texts = other.generate_until(instances, disable_tqdm=True)
    found = engine.generate(asked, Progress(quiet=True), StopSignal(), "parity")
    for one, text, instance in zip(found, texts, instances, strict=True):
        assert one.text == text
        instance.resps.append(text)
    return found


def records_of(
    protocol: Protocol, items: list[Item], questions: list[Question], found: list[Generation]
) -> list[ItemRecord]:
    triples = zip(items, questions, found, strict=True)
    return protocol.judge([Answered(i, q, generation=g) for i, q, g in triples], PLAIN)


def test_gsm8k_answers_and_both_readings(
    shared: Path, tmp_path: Path, with_room: tuple[Engine, Any]
) -> None:
    data = shared / "data/benchmarks/gsm8k"
    extra = "dataset_name: main\nfewshot_config:\n  sampler: first_n\n"
    task = build_task("gsm8k", data, tmp_path, extra)
    task.build_all_requests(limit=DOCS, rank=0, world_size=1)
    shots = tuple(gsm8k.read(row) for row in read_rows(data / "train.jsonl")[:5])
    items = [replace(item, shots=shots) for item in items_of("gsm8k", shared)[:DOCS]]
    questions = [gsm8k.ask(item, PLAIN) for item in items]
    found = answer_alike(with_room, questions, task.instances)
    task.apply_filters()
    records = records_of(gsm8k.PROTOCOL, items, questions, found)
    for name, reading in (("strict", "strict-match"), ("flexible", "flexible-extract")):
        mine = [record.extra[f"exact_match_{name}"] for record in records]
        theirs = [
            task.process_results(one.doc, [one.filtered_resps[reading]])["exact_match"]
            for one in task.instances
        ]
        assert mine == theirs


def test_ifeval_answers_and_all_four_numbers(
    shared: Path, tmp_path: Path, with_room: tuple[Engine, Any], their_ifeval: Any
) -> None:
    task = build_task("ifeval", shared / "data/benchmarks/ifeval", tmp_path)
    task.build_all_requests(limit=DOCS, rank=0, world_size=1)
    bos = with_room[0].tokenizer.bos_token
    items = items_of("ifeval", shared)[:DOCS]
    # lm-eval puts BOS in front of a plain prompt; behind a template it is the template's business.
    questions = [ifeval.ask(item, Setting(chat=lambda text: bos + text)) for item in items]
    found = answer_alike(with_room, questions, task.instances)
    compared = 0
    for record, item, one in zip(
        records_of(ifeval.PROTOCOL, items, questions, found), items, task.instances, strict=True
    ):
        asked = zip(item.doc["instruction_id_list"], item.doc["kwargs"], strict=True)
        if any(has_own_reading(identity, arguments) for identity, arguments in asked):
            continue
        theirs = task.process_results(one.doc, one.resps)
        for kind in ("strict", "loose"):
            follows = theirs[f"inst_level_{kind}_acc"]
            assert record.extra[f"prompt_{kind}"] == theirs[f"prompt_level_{kind}_acc"]
            assert record.extra[f"instruction_{kind}"] == sum(follows) / len(follows)
        compared += 1
    assert compared > DOCS // 2


def test_humaneval_answers(shared: Path, with_room: tuple[Engine, Any]) -> None:
    from lm_eval.api.instance import Instance

    items = items_of("humaneval", shared)[:DOCS]
    questions = [humaneval.ask(item, PLAIN) for item in items]
    settings = {"until": list(humaneval.STOPS), "do_sample": False}
    instances = [
        Instance("generate_until", dict(item.doc), (item.doc["prompt"], settings), place)
        for place, item in enumerate(items)
    ]
    answer_alike(with_room, questions, instances)
