"""`init` writes a recipe that loads, fits the machine and the data, and says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sftprep.errors import DataError, ModelError, RecipeError
from sftprep.model.describe import parameters_of
from sftprep.model.init import write_recipe
from sftprep.model.plan import make_plan
from sftprep.recipe.load import ResolvedRecipe, load_recipe
from sftprep.recipe.template import Line, TextSection, recipe_text, scalar_text

Folder = Callable[..., Path]


def written(out: Path, **arguments: Any) -> ResolvedRecipe:
    return load_recipe(write_recipe(out, **arguments), (), parameters_of)


def many_rows(path: Path, count: int) -> Path:
    """Rows of about 1,000 bytes, so 250 tokens of four bytes."""
    row = {"instruction": "Say it.", "response": "word " * 190}
    path.write_text((json.dumps(row) + "\n") * count)
    return path


def test_the_recipe_loads_and_names_model_and_data(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    folder = tiny_folder()
    recipe = written(tmp_path / "my.yaml", base=str(folder), data=str(rows_file)).recipe
    assert recipe.model.base == str(folder)
    assert [source.path for source in recipe.data.sources] == [str(rows_file)]
    assert recipe.output.run_dir == "runs/my"
    assert recipe.data.minimum_rows == 10_000


def test_the_recipe_plans_without_warnings(tmp_path: Path, tiny_folder: Folder) -> None:
    rows = tmp_path / "short.jsonl"
    rows.write_text('{"instruction": "a", "response": "b"}\n' * 2000)
    recipe = written(tmp_path / "r.yaml", base=str(tiny_folder()), data=str(rows)).recipe
    assert recipe.training.max_length == 64  # the model's context
    plan = make_plan(recipe, None)
    assert plan.fits is True
    assert plan.warnings == ()


def test_the_recipe_may_stand_anywhere(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_folder()
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = written(below / "r.yaml", base="tiny", data="rows.jsonl").recipe
    assert recipe.model.base == str(tmp_path / "tiny")
    assert recipe.data.sources[0].path == str(rows_file)


def test_names_with_blanks_and_hashes_survive(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    folder = tiny_folder("a # b: c")
    odd = rows_file.rename(tmp_path / "rows #1: 'x'.jsonl")
    recipe = written(tmp_path / "r.yaml", base=str(folder), data=str(odd)).recipe
    assert recipe.model.base == str(folder)
    assert recipe.data.sources[0].path == str(odd)


def test_a_long_value_is_kept_apart_from_its_comment(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    folder = tiny_folder("x" * 80)
    recipe = written(tmp_path / "r.yaml", base=str(folder), data=str(rows_file)).recipe
    assert recipe.model.base == str(folder)


def test_much_data_on_a_big_machine_gets_the_stage_documents_values(tmp_path: Path) -> None:
    rows = many_rows(tmp_path / "rows.jsonl", 200)
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as handle:
        handle.write(rows.read_bytes())
        handle.truncate(2 << 30)  # looks like two million rows; sparse, takes no disk
    resolved = written(
        tmp_path / "r.yaml", base="meta-llama/Llama-2-7b-hf", data=str(huge), hardware="1xH200"
    )
    training = resolved.recipe.training
    assert (training.learning_rate, training.batch_size) == (2e-5, 8)
    assert (training.gradient_accumulation_steps, training.max_steps) == (4, 5000)
    assert (training.warmup_steps, training.lr_scheduler) == (500, "cosine")
    assert (training.weight_decay, training.max_length) == (0.01, 2048)
    assert "stage document" in resolved.file.read_text()


def test_little_data_means_few_passes_and_small_steps(tmp_path: Path) -> None:
    rows = many_rows(tmp_path / "rows.jsonl", 3000)
    training = written(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-7B", data=str(rows), hardware="1xH200"
    ).recipe.training
    assert (training.epochs, training.max_steps) == (3, None)
    # 3 x 3000 rows of 250 tokens are 2.1M tokens: 100 steps need less than 11 packed rows each.
    assert training.batch_size * training.gradient_accumulation_steps <= 8
    assert training.warmup_steps < 50


def test_more_devices_do_not_make_a_step_larger(tmp_path: Path) -> None:
    rows = many_rows(tmp_path / "rows.jsonl", 60_000)
    rows_per_step = []
    for name, count in (("1xH200", 1), ("4xH200", 4)):
        training = written(
            tmp_path / f"{count}.yaml", base="Qwen/Qwen2.5-0.5B", data=str(rows), hardware=name
        ).recipe.training
        step = training.batch_size * training.gradient_accumulation_steps * count
        rows_per_step.append(step)
    assert rows_per_step == [32, 32]


def test_a_small_gpu_gets_adapters_with_their_own_learning_rate(
    tmp_path: Path, rows_file: Path
) -> None:
    resolved = written(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-7B", data=str(rows_file), hardware="1xL40S"
    )
    training = resolved.recipe.training
    assert (training.method, training.learning_rate) == ("lora", 2e-4)
    assert resolved.recipe.model.hardware == "1xL40S"
    assert make_plan(resolved.recipe, None).fits is True


def test_several_gpus_split_a_model_that_one_cannot_hold(tmp_path: Path, rows_file: Path) -> None:
    resolved = written(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-7B", data=str(rows_file), hardware="8xH100-80GB"
    )
    assert resolved.recipe.training.parallel == "fsdp"
    assert make_plan(resolved.recipe, None).fits is True


def test_the_memory_in_the_file_is_that_of_its_values(tmp_path: Path, rows_file: Path) -> None:
    path = write_recipe(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-1.5B", data=str(rows_file), hardware="1xH200"
    )
    recipe = load_recipe(path, (), parameters_of).recipe
    assert recipe.training.batch_size < 8  # 120 rows need small steps
    need = make_plan(recipe, None).memory["total"]
    assert f"Needs {need / 2**30:.1f} GiB on 1 x NVIDIA H200" in path.read_text()


def test_what_cannot_fit_is_said_in_the_file(tmp_path: Path, rows_file: Path) -> None:
    path = write_recipe(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-72B", data=str(rows_file), hardware="1xT4"
    )
    assert "DOES NOT FIT on 1 x NVIDIA T4" in path.read_text()


def test_too_few_rows_are_said_in_the_file(tmp_path: Path, rows_file: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", base="Qwen/Qwen2.5-0.5B", data=str(rows_file))
    assert "ONLY ABOUT 120 HERE" in path.read_text()


def test_the_licence_is_judged_for_the_use(tmp_path: Path, rows_file: Path) -> None:
    path = write_recipe(
        tmp_path / "r.yaml", base="Qwen/Qwen2.5-3B", data=str(rows_file), use="commercial"
    )
    assert "does not allow commercial use" in path.read_text()
    assert load_recipe(path).recipe.model.intended_use == "commercial"


def test_an_existing_file_is_not_overwritten(tmp_path: Path, rows_file: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mine")
    with pytest.raises(RecipeError, match="exists already"):
        write_recipe(path, base="Qwen/Qwen2.5-0.5B", data=str(rows_file))
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"use": "fun"}, RecipeError, "use 'fun'"),
        ({"hardware": "abacus"}, RecipeError, "hardware 'abacus'"),
        ({"data": []}, RecipeError, "no data"),
        ({"data": "/no/such.jsonl"}, DataError, "such.jsonl"),
        ({"base": "/no/such"}, ModelError, "no such folder"),
    ],
)
def test_bad_arguments_write_nothing(
    tmp_path: Path, rows_file: Path, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    arguments = {"base": "Qwen/Qwen2.5-0.5B", "data": str(rows_file)} | changes
    with pytest.raises(error, match=text):
        write_recipe(tmp_path / "r.yaml", **arguments)
    assert not (tmp_path / "r.yaml").exists()


# The text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (2e-5, "2e-5"), (0.01, "0.01"), (1e16, "1e16"),
        (5000, "5000"), ("auto", "auto"), ("on", '"on"'), ("null", '"null"'), ("", '""'),
        ("1e-3", '"1e-3"'), ("a: b", '"a: b"'), ("a #b", '"a #b"'),
    ],
)  # fmt: skip
def test_scalars_are_written_as_yaml(value: Any, text: str) -> None:
    assert scalar_text(value) == text


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**9), 10**9),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    )
)  # fmt: skip
def test_any_value_loads_back_as_itself(value: Any) -> None:
    text = recipe_text([], [TextSection("s", [Line("k", value, "why\nnot")])])
    assert YAML(typ="safe").load(text) == {"s": {"k": value}}
