"""Loading tokenizers: pad token, template choice, clear errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from sftprep.data.tokenizer import MAX_TEMPLATE_BYTES, built_in_template, load_tokenizer
from sftprep.errors import ModelError
from sftprep.recipe.sections import ModelSection


def folder_with(
    path: Path, special: tuple[str, ...], template: str | None = None, **names: str
) -> Path:
    """A tokenizer folder with the letters a-z and the given special tokens."""
    core = Tokenizer(BPE({c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}, []))
    core.add_special_tokens(list(special))
    path.mkdir(parents=True)
    core.save(str(path / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    if template is not None:
        settings["chat_template"] = template
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def load(path: Path, **section: Any) -> Any:
    return load_tokenizer(ModelSection(base=str(path), **section))


def test_auto_takes_plain_when_the_tokenizer_has_no_template(tmp_path: Path) -> None:
    tokenizer = load(folder_with(tmp_path / "m", ("</s>",), eos_token="</s>"))
    assert tokenizer.chat_template == built_in_template("plain")


def test_auto_keeps_the_tokenizers_own_template(tmp_path: Path) -> None:
    tokenizer = load(folder_with(tmp_path / "m", ("</s>",), "{{ 'own' }}", eos_token="</s>"))
    assert tokenizer.chat_template == "{{ 'own' }}"


def test_a_template_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ 'file' }}")
    path = folder_with(tmp_path / "m", ("</s>",), eos_token="</s>")
    assert load(path, chat_template=str(tmp_path / "t.jinja")).chat_template == "{{ 'file' }}"


def test_template_travels_with_the_saved_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = load(folder_with(tmp_path / "m", ("</s>",), eos_token="</s>"))
    tokenizer.save_pretrained(tmp_path / "out")
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.chat_template == built_in_template("plain")


def test_missing_pad_becomes_the_unknown_token(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "m", ("<unk>", "</s>"), eos_token="</s>", unk_token="<unk>")
    assert load(path).pad_token == "<unk>"


def test_missing_pad_prefers_a_reserved_token_to_the_end_token(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "m", ("</s>", "<|reserved_0|>"), eos_token="</s>")
    assert load(path).pad_token == "<|reserved_0|>"


def test_missing_pad_is_the_end_token_at_last(tmp_path: Path) -> None:
    assert load(folder_with(tmp_path / "m", ("</s>",), eos_token="</s>")).pad_token == "</s>"


def test_no_end_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load(folder_with(tmp_path / "m", ("</s>",)))


def test_chatml_without_its_tokens_is_refused(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "m", ("</s>",), eos_token="</s>")
    with pytest.raises(ModelError, match=r"needs the token <\|im_start\|>"):
        load(path, chat_template="chatml")


def test_missing_folder_is_refused_without_the_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load(tmp_path / "nowhere")


def test_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"needs tokenizer\.json"):
        load(tmp_path / "empty")


def test_unknown_template_name_is_refused(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "m", ("</s>",), eos_token="</s>")
    with pytest.raises(ModelError, match="neither auto, plain, chatml nor a file"):
        load(path, chat_template="alpaca")


def test_giant_template_is_refused(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "m", ("</s>",), "x" * (MAX_TEMPLATE_BYTES + 1), eos_token="</s>")
    with pytest.raises(ModelError, match="65537 bytes"):
        load(path)
