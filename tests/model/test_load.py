"""Loading models: every weight present, finite and of the right shape, or a clear error."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.tiny_models import tiny_model

from sftprep.errors import ModelError
from sftprep.model.load import load_model, pick_device


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama", tie_word_embeddings=False).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def change(folder: Path, name: str, weight: torch.Tensor | None) -> None:
    """Replace or delete one tensor of the folder."""
    file = folder / "model.safetensors"
    table = load_file(file)
    assert name in table
    table = {n: t.clone() for n, t in table.items() if n != name}
    if weight is not None:
        table[name] = weight
    save_file(table, file, metadata={"format": "pt"})


def test_loaded_weights_are_the_saved_ones_in_eval_mode(folder: Path) -> None:
    model = load_model(str(folder))
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(model.lm_head.weight, saved["lm_head.weight"])
    assert (model.training, model.dtype) == (False, torch.float32)


def test_dtype_is_the_one_asked_for(folder: Path) -> None:
    assert load_model(str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weight_is_named(folder: Path, value: float) -> None:
    weight = torch.zeros(500, 64)
    weight[3, 5] = value
    change(folder, "lm_head.weight", weight)
    with pytest.raises(ModelError, match=r"1 of 32000 values of lm_head\.weight"):
        load_model(str(folder))


def test_missing_weight_is_never_replaced_by_a_random_one(folder: Path) -> None:
    change(folder, "model.norm.weight", None)
    with pytest.raises(ModelError, match=r"would be random, e\.g\. model\.norm\.weight"):
        load_model(str(folder))


def test_wrong_shape_is_an_error(folder: Path) -> None:
    change(folder, "model.norm.weight", torch.ones(32))
    with pytest.raises(ModelError, match=r"model\.norm\.weight|shape"):
        load_model(str(folder))


def test_truncated_file_is_an_error(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


def test_folder_without_weights_is_an_error(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_model(str(folder))


def test_missing_folder_is_an_error_without_the_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_model(str(tmp_path / "nowhere"))


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    canary = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_model(str(folder))
    assert not canary.exists()


def test_device_is_cpu_without_a_gpu() -> None:
    assert pick_device() == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "parameters"), [("stories260k", 260_032), ("tinystories-656k", 656_000)]
)
def test_real_models_load(shared: Path, name: str, parameters: int) -> None:
    assert load_model(str(shared / "models" / name)).num_parameters() == parameters
