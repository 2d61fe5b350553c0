"""The model card: README.md with the front matter the Hugging Face hub reads."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sftprep.comparison.lines import value_text
from sftprep.comparison.sources import INSTRUCTION, PERPLEXITY, record_of
from sftprep.errors import StoreError
from sftprep.recipe.sections import Recipe
from sftprep.records import DataReport
from sftprep.report.metadata import baseline_metrics, training_metadata
from sftprep.report.redact import redact_text
from sftprep.report.visible import markdown_safe, visible
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""What the hub takes for a model or data set; anything else stays in the text of the card."""
# Licence ids of the hub that base models carry (huggingface.co/docs/hub/repositories-licenses).
HUB_LICENCES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "openrail", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "gemma", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4",
)  # fmt: skip
HYPERPARAMETERS = (
    "method", "learning_rate", "batch_size", "gradient_accumulation_steps", "max_steps", "epochs",
    "warmup_steps", "lr_scheduler", "weight_decay", "max_length", "max_grad_norm", "precision",
    "train_on", "seed",
)  # fmt: skip


def model_card(run: RunFolder, recipe: Recipe) -> str:
    """Markdown with YAML front matter, from what the run recorded.

    Raises:
        StoreError: the training record or a metric cannot be read.
    """
    metrics = baseline_metrics(run)
    metadata = training_metadata(run, recipe)
    base = redact_text(recipe.model.base)
    parts = [
        "---\n" + _front_matter(run, recipe, metrics) + "---",
        "# SFT baseline",
        f"Supervised fine-tuned from {markdown_safe(_model_name(base))}, with no preference "
        "optimisation. It is the reference for later stages: compare against "
        "`baseline_metrics.json` before replacing it.",
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("sft_baseline")\n'
        'model = AutoModelForCausalLM.from_pretrained("sft_baseline")\n'
        'messages = [{"role": "user", "content": "Hello"}]\n'
        "ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, "
        'return_tensors="pt", return_dict=True)\n'
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0]))\n```",
        "## Results\n\n" + _results(metrics),
        "## Training\n\n" + _training(metadata, recipe),
        "## Data\n\n" + _data(run, recipe),
        "## Limitations\n\n" + _limitations(metrics),
        "Logs, recipe and per-item benchmark answers: `training_logs/`. Full configuration, "
        "versions and hashes: `training_metadata.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(run: RunFolder, recipe: Recipe, metrics: Mapping[str, Any]) -> str:
    licence = base_licence(run, recipe)
    known = licence.lower() if licence and licence.lower() in HUB_LICENCES else "other"
    front: dict[str, Any] = {"license": known}
    if known == "other":
        front["license_name"] = licence or "unknown"
    base = recipe.model.base
    if HUB_NAME.fullmatch(base) and "/" in base:
        front |= {"base_model": redact_text(base), "base_model_relation": "finetune"}
    datasets = _hub_datasets(recipe)
    front |= {"datasets": datasets} if datasets else {}
    front |= {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sft", "instruction-tuning", "sftprep"],
        "metrics": ["perplexity", "accuracy"],
        "model-index": [{"name": "sft_baseline", "results": _index(metrics)}],
    }
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(_visible(front), text)
    return text.getvalue()


def _hub_datasets(recipe: Recipe) -> list[str]:
    """Sources that the hub can link to; files are named in the text only."""
    names = [source.path.removeprefix("hf://datasets/") for source in recipe.data.sources]
    return [
        redact_text(name)
        for name in names
        if "/" in name and HUB_NAME.fullmatch(name) and not Path(name).suffix
        and not Path(name).exists()
    ]  # fmt: skip


def _visible(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def _model_name(base: str) -> str:
    """A hub id as it is; of a folder only its name, because its place means nothing elsewhere."""
    return Path(base).name if Path(base).is_absolute() or base.startswith(".") else base


def _index(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = []
    for key, detail in metrics["metrics"].items():
        if key not in metrics:
            continue  # subsets are not results of the benchmark
        dataset = "held-out rows" if key in (PERPLEXITY, INSTRUCTION) else detail["benchmark"]
        kind = "perplexity" if detail["unit"] == "perplexity" else detail["metric"]
        results.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": dataset, "type": str(dataset).replace(" ", "-")},
                "metrics": [{"type": kind, "name": key, "value": metrics[key]}],
            }
        )
    return results


def base_licence(run: RunFolder, recipe: Recipe) -> str | None:
    """The licence recorded by the models stage for the base model, or None."""
    if not run.models.is_file():
        return None
    try:
        return _licence_below(read_json(run.models), recipe.model.base)
    except StoreError:
        return None


def _licence_below(value: Any, base: str) -> str | None:
    if isinstance(value, dict):
        named = base in (value.get("ref"), value.get("name"), value.get("model"))
        licence = value.get("licence")
        if named and isinstance(licence, str):
            return licence
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found = _licence_below(item, base)
            if found is not None:
                return found
    return None


def _results(metrics: Mapping[str, Any]) -> str:
    lines = ["| metric | SFT | 95% interval | base | n | protocol |", "|---|--:|---|--:|--:|---|"]
    for key, detail in metrics["metrics"].items():
        if not detail["judged"]:
            continue
        unit, ci95 = detail["unit"], detail["ci95"]
        interval = " – ".join(value_text(bound, unit) for bound in ci95) if ci95 else ""
        base = metrics["base"].get(key, metrics["base"].get(f"{key}_subset"))
        base_share = base / 100 if base is not None and unit == "share" else base
        count = f"{detail['n']:,}" if detail["complete"] else (
            f"subset {detail['n']:,} of {detail['n_total']:,}"
        )  # fmt: skip
        cells = (
            key, value_text(detail["value"], unit), interval,
            "" if base is None else value_text(base_share, unit), count, detail["protocol"],
        )  # fmt: skip
        lines.append("| " + " | ".join(markdown_safe(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _training(metadata: Mapping[str, Any], recipe: Recipe) -> str:
    settings = metadata["training_configuration"]
    lines = ["| setting | value |", "|---|---|"]
    for name in HYPERPARAMETERS:
        if settings.get(name) is not None:
            lines.append(f"| {name} | {markdown_safe(str(settings[name]))} |")
    training = metadata["training"]
    loss = metadata["final_training_loss"]
    hours = metadata["training_seconds"] / 3600
    facts = (
        f"{training['steps']:,} of {training['planned_steps']:,} steps "
        f"({markdown_safe(training['stopped'])}), {training['tokens_supervised']:,} supervised "
        f"tokens, final loss {'unknown' if loss is None else f'{loss:.4f}'} nats, {hours:.2f} h, "
        f"started {markdown_safe(str(metadata['training_date'] or 'unknown'))}."
    )
    return facts + "\n\n" + "\n".join(lines)


def _data(run: RunFolder, recipe: Recipe) -> str:
    lines = [
        f"- {markdown_safe(redact_text(s.name or Path(s.path).name))} "
        f"(licence: {markdown_safe(s.licence or 'not stated')})"
        for s in recipe.data.sources
    ]
    if run.data_report.is_file():
        report: DataReport = record_of(DataReport, run.data_report)
        lines.append(
            f"- {report.ledger.read:,} rows read, {report.train:,} for training, "
            f"{report.validation:,} held out, {sum(report.ledger.rejected.values()):,} rejected"
        )
    return "\n".join(lines)


def _limitations(metrics: Mapping[str, Any]) -> str:
    lines = [
        "- No preference optimisation or safety training beyond the filters of the data stage.",
        "- It may state falsehoods; see its truthfulness scores before relying on answers.",
        "- Perplexity is comparable only with the same tokenizer and held-out rows.",
    ]
    if metrics["incomplete"]:
        names = ", ".join(markdown_safe(name) for name in metrics["incomplete"])
        lines.append(f"- Not scored on the full set: {names}.")
    return "\n".join(lines)
