"""The examples load, name real files, and are what their comments say."""

from pathlib import Path

import pytest

from sftprep.model.describe import parameters_of
from sftprep.model.plan import make_plan
from sftprep.recipe import Recipe, load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
ON_SHARED_DATA = ("tinystories.yaml", "stories260k.yaml")


def test_every_example_is_tested() -> None:
    found = {path.name for path in EXAMPLES.glob("*.yaml")}
    assert found == {*ON_SHARED_DATA, "llama-7b.yaml"}


def loaded(name: str) -> Recipe:
    return load_recipe(EXAMPLES / name, (), parameters_of).recipe


@pytest.mark.shared
@pytest.mark.parametrize("name", ON_SHARED_DATA)
def test_an_example_names_files_that_exist(name: str, shared: Path) -> None:
    recipe = loaded(name)
    paths = [recipe.model.base, *(source.path for source in recipe.data.sources)]
    paths += [*recipe.model.candidates, str(recipe.benchmarks.data_dir)]
    assert [path for path in paths if not Path(path).exists()] == []


@pytest.mark.shared
@pytest.mark.parametrize("name", ON_SHARED_DATA)
def test_an_example_fits_an_ordinary_machine(name: str, shared: Path) -> None:
    plan = make_plan(loaded(name), None)
    assert int(plan.memory["total"]) < 2 << 30
    assert plan.volume is not None
    assert plan.volume.tokens < 1_000_000


def test_the_llama_example_holds_the_stage_documents_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SFT_DATA", str(tmp_path))
    training = loaded("llama-7b.yaml").training
    assert (training.learning_rate, training.batch_size) == (2e-5, 8)
    assert (training.gradient_accumulation_steps, training.max_steps) == (4, 5000)
    assert (training.warmup_steps, training.lr_scheduler) == (500, "cosine")
    assert (training.weight_decay, training.max_length) == (0.01, 2048)
