"""Tokenizer folders that are broken on purpose: one error that names the folder, no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sftprep.data.tokenizer import load_tokenizer
from sftprep.data.tokenizerguard import growth
from sftprep.errors import ModelError, library_failures
from sftprep.recipe.sections import ModelSection
from sftprep.starter import MODEL_DIR

TEXTS = {
    "not JSON": "not json",
    "empty": "",
    "null": "null",
    "a list": "[]",
    "a number": "3",
    "deep": "[" * 100_000,
}
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no model": lambda t: t.pop("model"),
    "vocabulary is a list": lambda t: t["model"].update(vocab=[1, 2]),
    "negative id": lambda t: t["model"].update(vocab={"a": -1}),
    "giant id": lambda t: t["model"].update(vocab={"a": 4_000_000_000}),
    "bad merges": lambda t: t["model"].update(merges=["a"]),
    "unknown type": lambda t: t["model"].update(type="Evil"),
    "bad pattern": lambda t: t.update(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "(a"},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "a letter becomes a million": lambda t: t.update(
        normalizer={
            "type": "Sequence",
            "normalizers": [{
                "type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10
            }] * 6,
        }
    ),
}  # fmt: skip
CONFIGS = {
    "settings are a list": "[]",
    "own code": '{"auto_map": {"AutoTokenizer": ["evil.E", null]}, "tokenizer_class": "E"}',
    "template is a number": '{"chat_template": 3, "tokenizer_class": "PreTrainedTokenizerFast",'
    ' "eos_token": "</s>"}',
    "end token is a table": '{"eos_token": {"a": 1}, "tokenizer_class": "PreTrainedTokenizerFast"}',
    "endless template": json.dumps({
        "chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "</s>",
    }),
}  # fmt: skip


def refused(folder: Path, name: str, text: str) -> None:
    """Copy the starter model with one file replaced, and expect one error."""
    shutil.copytree(MODEL_DIR, folder)
    for template in folder.glob("chat_template*"):
        template.unlink()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=str(folder)):
        load_tokenizer(ModelSection(base=str(folder)))


@pytest.mark.parametrize("case", TEXTS)
def test_a_tokenizer_file_that_is_none_is_refused(case: str, tmp_path: Path) -> None:
    refused(tmp_path / "model", "tokenizer.json", TEXTS[case])


@pytest.mark.parametrize("case", CHANGES)
def test_a_tokenizer_with_a_broken_part_is_refused(case: str, tmp_path: Path) -> None:
    values = json.loads((Path(str(MODEL_DIR)) / "tokenizer.json").read_text(encoding="utf-8"))
    CHANGES[case](values)
    refused(tmp_path / "model", "tokenizer.json", json.dumps(values))


@pytest.mark.parametrize("case", CONFIGS)
def test_broken_tokenizer_settings_are_refused(case: str, tmp_path: Path) -> None:
    refused(tmp_path / "model", "tokenizer_config.json", CONFIGS[case])


def test_growth_is_the_product_of_the_rules_in_a_sequence() -> None:
    rules = normalizers.Sequence(
        [normalizers.Prepend("_"), normalizers.Replace(" ", "_"), normalizers.Lowercase()]
    )
    assert growth(json.loads(rules.__getstate__())) == 4
    assert growth(json.loads(normalizers.Replace(Regex("a*"), "x" * 9).__getstate__())) == 10


def test_a_pattern_that_takes_too_many_steps_is_one_error_within_seconds() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"x": 0}, merges=[], unk_token="x"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    what = "gave up while reading .* the tokenizer is damaged or hostile"
    with pytest.raises(ModelError, match=what), library_failures("while reading"):
        tokenizer.encode("x" * 40)
