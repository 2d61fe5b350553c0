"""What is saved beside the checkpoint: keys, schema, secrets, archive."""

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.gate.example_run import edit, write_run

from sftprep.comparison.items import read_items
from sftprep.errors import CorruptError
from sftprep.recipe import load_recipe
from sftprep.report import archive_logs, baseline_metrics, model_card, training_metadata
from sftprep.report.redact import is_secret_key, redact, redact_text
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("metadata") / "run", steps=40)


TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """The part of JSON Schema that our schemas use; an unknown keyword is a fault of the schema."""
    known = {"$schema", "title", "description", "type", "required", "properties", "enum", "items",
             "additionalProperties", "minimum", "minItems", "maxItems"}  # fmt: skip
    found = [f"{where}: unknown keyword {name}" for name in set(schema) - known]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    number = isinstance(value, bool) and "boolean" not in kinds
    if kinds and (number or not any(isinstance(value, TYPES[kind]) for kind in kinds)):
        return [*found, f"{where}: {type(value).__name__} instead of {kinds}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value} is not one of {schema['enum']}")
    if "minimum" in schema and not value >= schema["minimum"]:
        found.append(f"{where}: {value} below {schema['minimum']}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            found.append(f"{where}: {len(value)} items")
        for index, item in enumerate(value):
            found += faults(item, schema.get("items", {}), f"{where}[{index}]")
    if isinstance(value, dict):
        found += [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            more = schema.get("additionalProperties", {})
            below = schema.get("properties", {}).get(key, more)
            if below is False:
                found.append(f"{where}: {key} is not allowed")
            elif isinstance(below, dict):
                found += faults(item, below, f"{where}.{key}")
    return found


def schema(name: str) -> Any:
    text = (files("sftprep.report") / "schemas" / f"{name}.schema.json").read_text("utf-8")
    return json.loads(text)


def test_the_flat_keys_are_percentages_under_the_public_names(run: RunFolder) -> None:
    metrics = baseline_metrics(run)
    assert metrics["mmlu"] == 46.0
    assert metrics["gsm8k"] == 31.0
    assert metrics["truthfulqa_mc1"] == 33.0
    assert metrics["validation_perplexity"] == 3.31
    assert metrics["instruction_following"] == 82.4
    assert metrics["base"]["mmlu"] == 42.0
    assert metrics["incomplete"] == []


def test_the_detail_stands_beside_the_flat_number(run: RunFolder) -> None:
    detail = baseline_metrics(run)["metrics"]["mmlu"]
    assert (detail["value"], detail["n"], detail["complete"]) == (0.46, 800, True)
    assert (detail["chance"], detail["protocol"]) == (0.25, "mmlu/v1")
    assert detail["hashes"]["data"] == "d" * 16


def test_a_subset_never_has_the_benchmarks_own_key(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    edit(run.benchmarks / "mmlu.json",
         lambda v: v["metrics"]["acc"].update(complete=False, n_total=14042))  # fmt: skip
    metrics = baseline_metrics(run)
    assert "mmlu" not in metrics
    assert (metrics["mmlu_subset"], metrics["incomplete"]) == (46.0, ["mmlu"])
    assert faults(metrics, schema("baseline_metrics")) == []


def test_a_benchmark_that_holds_nan_is_refused_by_its_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    edit(run.benchmarks / "mmlu.json", lambda v: v["metrics"]["acc"].update(value=math.nan))
    with pytest.raises(CorruptError, match=r"mmlu\.json: not valid JSON \(NaN"):
        baseline_metrics(run)


def test_an_unscored_benchmark_is_absent_not_zero(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    edit(run.benchmarks / "mmlu.json", lambda v: v["metrics"]["acc"].update(value=None))
    metrics = baseline_metrics(run)
    assert "mmlu" not in metrics and "mmlu_subset" not in metrics
    assert metrics["metrics"]["mmlu"]["value"] is None
    write_json(tmp_path / "strict.json", metrics)  # strict JSON: raises on NaN


def test_baseline_metrics_follow_their_schema(run: RunFolder) -> None:
    assert faults(baseline_metrics(run), schema("baseline_metrics")) == []


def test_training_metadata_follow_their_schema(run: RunFolder) -> None:
    recipe = load_recipe(run.recipe).recipe
    assert faults(training_metadata(run, recipe), schema("training_metadata")) == []


def test_the_schema_check_sees_faults() -> None:
    wrong = {"version": 2, "incomplete": [1], "metrics": {"mmlu": {}}, "base": {}, "mmlu": "45"}
    found = faults(wrong, schema("baseline_metrics"))
    assert "$.version: 2 is not one of [1]" in found
    assert "$.incomplete[0]: int instead of ['string']" in found
    assert "$.metrics.mmlu: no value" in found
    assert "$.mmlu: str instead of ['number']" in found


def test_metadata_hold_what_the_stage_asks_for(run: RunFolder) -> None:
    metadata = training_metadata(run, load_recipe(run.recipe).recipe)
    assert metadata["training_configuration"]["learning_rate"] == 2e-3
    assert metadata["final_training_loss"] == 1.11
    assert metadata["validation_perplexity"] == 3.31
    assert metadata["benchmark_scores"] == {
        "mmlu": 46.0, "gsm8k": 31.0, "truthfulqa_mc1": 33.0, "truthfulqa_mc2": 46.6667,
    }  # fmt: skip
    assert metadata["training_date"] == "2026-01-05T09:00:00+00:00"
    assert metadata["training_seconds"] == 20.0
    assert metadata["environment"]["versions"]["torch"] == "2.13"
    assert metadata["recipe"]["training.max_steps"] == {"value": 40, "origin": "--set"}
    assert metadata["recipe"]["training.learning_rate"]["origin"] == "recipe.yaml:8"


SECRET_KEYS = ("token", "hf_token", "apiKey", "API_KEY", "password", "wandb-secret", "key")
PLAIN_KEYS = ("tokens", "tokenizer", "tokens_supervised", "max_tokens_per_batch", "keep", "monkey")


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_the_value_of_a_secret_key_is_hidden(key: str) -> None:
    assert is_secret_key(key) is True
    assert redact({key: "canary-1"}) == {key: "***"}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_other_keys_keep_their_value(key: str) -> None:
    assert redact({key: 17}) == {key: 17}


@pytest.mark.parametrize(
    "text",
    [
        "https://user:canary@host/data",
        "s3://canary@bucket/x",
        "https://host/?access_token=canary&x=1",
        "--hf-token canary",
        "password: canary",
        'api_key = "canary"',
        '{"secret": "canary"}',
        "hf_canarycanarycanarycanary",
        "sk-canary-canarycanarycanary",
        f"{Path.home()}",
    ],
)
def test_secrets_inside_text_are_hidden(text: str) -> None:
    hidden = redact_text(text)
    assert "canary" not in hidden and hidden != text


def test_ordinary_text_is_left_as_it_is() -> None:
    text = "tokens: 512, key point: tokenizer.json at https://host/a?b=1"
    assert redact_text(text.replace("key point", "main point")) == text.replace(
        "key point", "main point"
    )


def test_the_archive_holds_logs_items_and_no_secret(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    recipe = run.recipe.read_text().replace("models/starter-0.4m", "https://u:canary@hub/model")
    run.recipe.write_text(recipe)
    run.event("started", hf_token="canary", url="https://u:canary@host/")
    archive_logs(run, tmp_path / "logs")
    names = {p.relative_to(tmp_path / "logs").as_posix() for p in (tmp_path / "logs").rglob("*")}
    assert {"steps.jsonl", "flags.jsonl", "recipe.yaml", "events.jsonl", "environment.json",
            "train_result.json", "benchmarks/mmlu.items.jsonl.gz",
            "benchmarks/base/mmlu.json"} <= names  # fmt: skip
    texts = [p.read_bytes() for p in (tmp_path / "logs").rglob("*") if p.is_file()]
    assert not any(b"canary" in text for text in texts)
    assert (tmp_path / "logs/steps.jsonl").read_bytes() == run.steps.read_bytes()
    assert len(read_items(tmp_path / "logs/benchmarks/mmlu.items.jsonl.gz")) == 800


def test_the_archive_of_an_empty_run_is_only_its_environment(tmp_path: Path) -> None:
    archive_logs(RunFolder(tmp_path / "none"), tmp_path / "logs")
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["environment.json"]


def front_matter(card: str) -> Any:
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    return YAML(typ="safe").load(text)


def test_the_card_has_front_matter_with_results(run: RunFolder) -> None:
    write_json(run.models, {"ranking": [{"ref": "models/starter-0.4m", "licence": "apache-2.0"}]})
    card = model_card(run, load_recipe(run.recipe).recipe)
    run.models.unlink()
    front = front_matter(card)
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "models/starter-0.4m"
    assert "datasets" not in front  # a file is not a data set of the hub
    metrics = {r["metrics"][0]["name"]: r["metrics"][0]["value"]
               for r in front["model-index"][0]["results"]}  # fmt: skip
    assert metrics["mmlu"] == 46.0
    assert "| learning\\_rate |" in card or "| learning_rate | 0.002 |" in card
    assert "## Limitations" in card


@pytest.mark.parametrize("path", ["hf://datasets/owner/rows", "owner/rows"])
def test_a_data_set_of_the_hub_is_linked(tmp_path: Path, path: str) -> None:
    local = write_run(tmp_path / "run", steps=20)
    text = local.recipe.read_text().replace("data/instructions.jsonl", path)
    local.recipe.write_text(text)
    front = front_matter(model_card(local, load_recipe(local.recipe).recipe))
    assert front["datasets"] == ["owner/rows"]


def test_a_card_without_known_licence_says_so(run: RunFolder) -> None:
    front = front_matter(model_card(run, load_recipe(run.recipe).recipe))
    assert (front["license"], front["license_name"]) == ("other", "unknown")


def test_hostile_names_cannot_leave_their_place_in_the_card(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    evil = "x<img src=x onerror=alert(1)>|`\\n---\\nlicense: mit\\u202e"
    text = run.recipe.read_text().replace("licence: Apache-2.0", f'licence: "{evil}"')
    run.recipe.write_text(text.replace("models/starter-0.4m", f'"{evil}"'))
    card = model_card(run, load_recipe(run.recipe).recipe)
    front = front_matter(card)
    assert front["license"] == "other"
    body = card.split("---\n", 2)[2]
    assert "<img" not in body.replace("\\<img", "")
    assert "\u202e" not in card


def test_the_card_is_what_huggingface_hub_reads(run: RunFolder) -> None:
    from huggingface_hub import ModelCard

    write_json(run.models, {"ranking": [{"ref": "models/starter-0.4m", "licence": "Apache-2.0"}]})
    card = ModelCard(model_card(run, load_recipe(run.recipe).recipe))
    run.models.unlink()
    data: Any = card.data
    assert (data.license, data.base_model) == ("apache-2.0", "models/starter-0.4m")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results["mmlu"] == 46.0
    assert results["validation_perplexity"] == 3.31
    assert data.model_name == "sft_baseline"
    assert "learning_rate" in card.text.replace("\\", "")


@pytest.mark.parametrize("base", ["/data/models/mine", "./mine", "mine"])
def test_a_folder_is_not_named_as_a_hub_model(tmp_path: Path, base: str) -> None:
    local = write_run(tmp_path / "run", steps=20)
    local.recipe.write_text(local.recipe.read_text().replace("models/starter-0.4m", base))
    front = front_matter(model_card(local, load_recipe(local.recipe).recipe))
    assert "base_model" not in front


def test_a_licence_the_hub_does_not_know_is_named_as_other(run: RunFolder) -> None:
    write_json(run.models, {"ranking": [{"ref": "models/starter-0.4m", "licence": "falcon-180b"}]})
    front = front_matter(model_card(run, load_recipe(run.recipe).recipe))
    run.models.unlink()
    assert (front["license"], front["license_name"]) == ("other", "falcon-180b")
