"""Facts about a model folder, without loading weights."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.model.conftest import TINY_CONFIG, TINY_PARAMETERS, tiny_tensors, write_safetensors

from sftprep.errors import ModelError
from sftprep.model.describe import describe_model, parameters_of

Folder = Callable[..., Path]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "parameters", "layers", "hidden", "vocab"),
    [("stories260k", 260_032, 5, 64, 512), ("tinystories-656k", 656_000, 2, 128, 2048)],
)
def test_a_published_model_is_described_exactly(
    shared: Path, name: str, parameters: int, layers: int, hidden: int, vocab: int
) -> None:
    facts = describe_model(str(shared / "models" / name))
    assert facts.parameters == parameters
    assert facts.parameters_from == "safetensors header"
    assert facts.shape is not None
    assert (facts.shape.layers, facts.shape.hidden, facts.shape.vocab) == (layers, hidden, vocab)
    assert facts.shape.parameters == parameters
    assert (facts.architecture, facts.context, facts.dtype) == ("LlamaForCausalLM", 512, "float32")
    assert (facts.chat_template, facts.tokenizer, facts.remote_code) == (False, "BPE", False)


def test_the_count_of_a_small_model_is_the_sum_done_by_hand(tiny_folder: Folder) -> None:
    assert describe_model(str(tiny_folder())).parameters == TINY_PARAMETERS


def test_a_head_stored_beside_tied_embeddings_counts_once(tiny_folder: Folder) -> None:
    folder = tiny_folder()
    stored = tiny_tensors() | {"lm_head.weight": ("F32", (32, 8))}
    write_safetensors(folder / "model.safetensors", stored)
    assert describe_model(str(folder)).parameters == TINY_PARAMETERS


def test_an_untied_head_counts(tiny_folder: Folder) -> None:
    folder = tiny_folder(tie_word_embeddings=False)
    stored = tiny_tensors() | {"lm_head.weight": ("F32", (32, 8))}
    write_safetensors(folder / "model.safetensors", stored)
    assert describe_model(str(folder)).parameters == TINY_PARAMETERS + 32 * 8


def test_stored_buffers_are_no_parameters(tiny_folder: Folder) -> None:
    folder = tiny_folder()
    buffers: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (2,)),
        "h.0.attn.bias": ("F32", (1, 1, 4, 4)),
    }
    write_safetensors(folder / "model.safetensors", tiny_tensors() | buffers)
    assert describe_model(str(folder)).parameters == TINY_PARAMETERS


def test_weights_that_differ_from_the_configuration_are_noted(tiny_folder: Folder) -> None:
    facts = describe_model(str(tiny_folder(num_hidden_layers=3)))
    assert facts.parameters == TINY_PARAMETERS
    assert facts.notes == (f"config.json implies {TINY_PARAMETERS + 592:,} weights, "
                           f"stored: {TINY_PARAMETERS:,}",)  # fmt: skip


def test_shards_are_added_up(tiny_folder: Folder) -> None:
    folder = tiny_folder(weights=False)
    names = list(tiny_tensors())
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, held in parts.items():
        write_safetensors(folder / file, {name: tiny_tensors()[name] for name in held})
    weight_map = {name: file for file, held in parts.items() for name in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert describe_model(str(folder)).parameters == TINY_PARAMETERS


def test_a_missing_shard_is_named(tiny_folder: Folder) -> None:
    folder = tiny_folder(weights=False)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match=r"1 of 1 .* model-00001-of-00002\.safetensors"):
        describe_model(str(folder))


def test_a_shard_outside_the_folder_is_refused(tiny_folder: Folder) -> None:
    folder = tiny_folder(weights=False)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))
    with pytest.raises(ModelError, match="points outside the folder"):
        describe_model(str(folder))


def test_a_pickle_checkpoint_is_counted_by_formula(tiny_folder: Folder) -> None:
    folder = tiny_folder(weights=False)
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    facts = describe_model(str(folder))
    assert facts.parameters == TINY_PARAMETERS
    assert facts.parameters_from == "config.json (formula)"
    assert "pickle" in facts.notes[0]


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"no config\.json \(it holds notes\.txt\)"):
        describe_model(str(tmp_path))


def test_an_adapter_folder_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="LoRA adapter: merge it"):
        describe_model(str(tmp_path))


def test_a_model_without_weights_says_so(tiny_folder: Folder) -> None:
    with pytest.raises(ModelError, match="no weights"):
        describe_model(str(tiny_folder(weights=False)))


@pytest.mark.parametrize("text", ["{", "[1]", "null", "[" * 100_000, '{"a": 1}'])
def test_a_malformed_configuration_is_a_model_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        describe_model(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", -8),
        ("hidden_size", "8"),
        ("num_hidden_layers", True),
        ("vocab_size", 1 << 40),
    ],
)
def test_a_size_that_is_no_positive_number_is_named(
    tiny_folder: Folder, key: str, value: object
) -> None:
    with pytest.raises(ModelError, match=key):
        describe_model(str(tiny_folder(**{key: value})))


def test_an_unknown_family_keeps_its_stored_count(tiny_folder: Folder) -> None:
    folder = tiny_folder(model_type="hyperstripe", hidden_size=None)
    facts = describe_model(str(folder))
    assert facts.shape is None
    assert facts.parameters == TINY_PARAMETERS
    assert "unknown layout" in facts.notes[0]


@pytest.mark.parametrize(
    ("readme", "licence", "expected"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Hi", None, "apache-2.0"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", None, "qwen-research"),
        ("---\nlicense:\n- mit\n---\n", None, "mit"),
        (None, "                Apache License\n          Version 2.0, January 2004", "apache-2.0"),
        (None, "LLAMA 2 COMMUNITY LICENSE AGREEMENT", "llama2"),
        ("# No front matter", "MIT License\n\nCopyright", "mit"),
        ("---\nno end", None, None),
        (None, None, None),
    ],
)
def test_the_licence_is_found(
    tiny_folder: Folder, readme: str | None, licence: str | None, expected: str | None
) -> None:
    folder = tiny_folder()
    if readme is not None:
        (folder / "README.md").write_text(readme)
    if licence is not None:
        (folder / "LICENSE").write_text(licence)
    assert describe_model(str(folder)).licence == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}'),
        ("chat_template.jinja", "{{ messages }}"),
    ],
)
def test_a_chat_template_is_seen(tiny_folder: Folder, name: str, text: str) -> None:
    folder = tiny_folder()
    assert describe_model(str(folder)).chat_template is False
    (folder / name).write_text(text)
    assert describe_model(str(folder)).chat_template is True


def test_code_of_the_author_is_needed_only_for_foreign_architectures(tiny_folder: Folder) -> None:
    own = {"AutoModelForCausalLM": "modeling_x.X"}
    assert describe_model(str(tiny_folder("a", auto_map=own))).remote_code is False
    foreign = tiny_folder("b", auto_map=own, model_type="hyperstripe")
    assert describe_model(str(foreign)).remote_code is True


def test_a_hub_id_offline_gives_advice() -> None:
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set\. Download it"):
        describe_model("some-body/some-model")


@pytest.mark.parametrize("ref", ["/no/such/folder", "./nowhere", "a b c", "x/y/z"])
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(ref: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        describe_model(ref)


def test_a_model_in_the_hub_cache_is_described_offline(tmp_path: Path) -> None:
    store = tmp_path / "hub" / "models--some-body--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(commit)
    folder = store / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG))
    code = (
        "from sftprep.model.describe import describe_model, parameters_of\n"
        "f = describe_model('some-body/tiny')\n"
        "print(f.parameters, f.parameters_from, parameters_of('some-body/tiny'))"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin"}
    source = Path(__file__).parents[2] / "src"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=environment | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    assert out.stdout == f"{TINY_PARAMETERS} config.json (formula) {TINY_PARAMETERS}\n", out.stderr


def test_parameters_are_unknown_rather_than_an_error(tmp_path: Path) -> None:
    assert parameters_of("some-body/some-model") is None
    assert parameters_of("/no/such/folder") is None
    assert parameters_of(str(tmp_path)) is None
    assert parameters_of("") is None


def test_parameters_of_folders_and_catalogue_names(tiny_folder: Folder) -> None:
    assert parameters_of(str(tiny_folder())) == TINY_PARAMETERS
    assert parameters_of("meta-llama/Llama-2-7b-hf") == 6_738_415_616
