"""Loading a recipe: YAML 1.2, origins, overrides, and errors that say where and what."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftprep.errors import RecipeError
from sftprep.recipe import Recipe, load_recipe
from sftprep.recipe.load import MAX_BYTES, flatten
from sftprep.recipe.write import recipe_text

SMALLEST = "model:\n  base: some/model\ndata:\n  sources: [rows.jsonl]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def load(file: Path, text: str, overrides: Sequence[str] = ()) -> Recipe:
    file.write_text(text, encoding="utf-8")
    return load_recipe(file, overrides).recipe


def error_of(file: Path, text: str, overrides: Sequence[str] = ()) -> str:
    with pytest.raises(RecipeError) as caught:
        load(file, text, overrides)
    return str(caught.value)


# Values ------------------------------------------------------------------------------------------


def test_two_keys_are_enough(file: Path) -> None:
    recipe = load(file, SMALLEST)
    assert recipe.model.base == "some/model"
    assert [source.path for source in recipe.data.sources] == ["rows.jsonl"]


def test_the_defaults_are_the_stage_documents_values_for_7b(file: Path) -> None:
    training = load(file, SMALLEST).training
    assert (training.learning_rate, training.batch_size) == (2e-5, 8)
    assert (training.gradient_accumulation_steps, training.max_steps) == (4, 5000)
    assert (training.warmup_steps, training.lr_scheduler) == (500, "cosine")
    assert (training.weight_decay, training.max_length) == (0.01, 2048)


@pytest.mark.parametrize("text", ["2e-5", "2E-5", "0.00002", "2.e-5", "+2e-5", "2e-05"])
def test_floats_are_those_of_yaml_1_2(file: Path, text: str) -> None:
    recipe = load(file, SMALLEST + f"training:\n  learning_rate: {text}\n")
    assert recipe.training.learning_rate == 2e-5


@pytest.mark.parametrize("word", ["off", "on"])
def test_on_and_off_are_words_not_truth_values(file: Path, word: str) -> None:
    recipe = load(file, SMALLEST + f"training:\n  gradient_checkpointing: {word}\n")
    assert recipe.training.gradient_checkpointing == word


def test_a_bare_path_and_a_table_are_both_sources(file: Path) -> None:
    text = (
        "model: {base: m}\ndata:\n  sources:\n    - a.jsonl\n    - path: b.jsonl\n      limit: 3\n"
    )
    sources = load(file, text).data.sources
    assert [(s.path, s.limit) for s in sources] == [("a.jsonl", None), ("b.jsonl", 3)]


def test_benchmarks_may_be_a_plain_list(file: Path) -> None:
    tasks = load(file, SMALLEST + "benchmarks: [gsm8k, {name: mmlu, limit: 5}]\n").benchmarks.tasks
    assert [(task.name, task.limit) for task in tasks] == [("gsm8k", None), ("mmlu", 5)]


def test_epochs_may_stand_instead_of_steps(file: Path) -> None:
    text = SMALLEST + "training:\n  max_steps: null\n  epochs: 3\n"
    training = load(file, text).training
    assert (training.max_steps, training.epochs) == (None, 3.0)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_recipe(file).recipe.model.base == "some/model"


# Errors ------------------------------------------------------------------------------------------


def test_an_unknown_key_names_its_line_and_the_nearest_known_name(file: Path) -> None:
    text = SMALLEST + "training:\n  batch_size: 8\n  learning_rat: 2e-5\n"
    expected = f"{file}:7: training.learning_rat: unknown key. Did you mean 'learning_rate'?"
    assert error_of(file, text) == expected


@pytest.mark.parametrize("key", ["my-key", "a[b", "-", "["])
def test_an_unknown_key_may_look_like_anything(file: Path, key: str) -> None:
    assert f": {key}: unknown key." in error_of(file, SMALLEST + f'"{key}": 1\n')


def test_a_hyphen_for_an_underscore_is_named(file: Path) -> None:
    message = error_of(file, SMALLEST + "training:\n  learning-rate: 1e-5\n")
    assert "training.learning-rate: unknown key. Did you mean 'learning_rate'?" in message


def test_an_unknown_section_names_the_nearest(file: Path) -> None:
    message = error_of(file, SMALLEST + "trainning: {}\n")
    assert message == f"{file}:5: trainning: unknown key. Did you mean 'training'?"


def test_a_key_like_no_other_lists_the_known_ones(file: Path) -> None:
    message = error_of(file, SMALLEST + "output:\n  zzz: 1\n")
    assert message.startswith(f"{file}:6: output.zzz: unknown key. Known: ")
    assert "run_dir" in message


def test_an_unknown_key_of_a_source_is_found_in_its_row(file: Path) -> None:
    text = "model: {base: m}\ndata:\n  sources:\n    - a.jsonl\n    - path: b\n      fromat: x\n"
    message = error_of(file, text)
    assert message.startswith(f"{file}:6: data.sources.1.fromat: unknown key.")
    assert "Did you mean 'format'?" in message


def test_every_problem_is_reported_at_once(file: Path) -> None:
    text = SMALLEST + "training:\n  batch_size: 0\n  warmup_steps: -1\n"
    lines = error_of(file, text).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{file}:6", f"{file}:7"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("learning_rate", "fast", "number"),
        ("learning_rate", ".nan", "less than or equal to 1|greater than 0|finite"),
        ("learning_rate", "0", "greater than 0"),
        ("batch_size", "1.5", "integer"),
        ("max_length", "4", "greater than or equal to 8"),
        ("lr_scheduler", "cosin", "'cosine', 'linear', 'constant' or 'wsd'"),
        ("train_on", "answers", "'responses', 'all_turns' or 'full'"),
    ],
)
def test_a_wrong_value_is_shown_with_its_place(file: Path, key: str, value: str, what: str) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        load(file, SMALLEST + f"training:\n  {key}: {value}\n")
    assert str(caught.value).startswith(f"{file}:6: training.{key}: ")


def test_a_missing_key_is_named(file: Path) -> None:
    message = error_of(file, "model: {}\ndata:\n  sources: [a]\n")
    assert message == f"{file}:1: model.base: required, but not given."


def test_no_source_at_all_is_refused(file: Path) -> None:
    assert "data.sources" in error_of(file, "model: {base: m}\ndata:\n  sources: []\n")


def test_both_or_neither_of_steps_and_epochs_are_refused(file: Path) -> None:
    both = SMALLEST + "training:\n  max_steps: 5\n  epochs: 3\n"
    neither = SMALLEST + "training:\n  max_steps: null\n"
    for text in (both, neither):
        assert "give either max_steps or epochs" in error_of(file, text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1\nb: *x\n", 1),
        ("a: 1\nb: *x\n", 2),
        ("a: &x [1, 2]\n", 1),
        ("a: &x {b: 1}\n", 1),
    ],
)
def test_anchors_and_aliases_are_refused(file: Path, text: str, line: int) -> None:
    assert error_of(file, text).startswith(f"{file}:{line}: YAML anchors and aliases are refused")


def test_an_alias_bomb_is_refused_at_once(file: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    assert "anchors and aliases" in error_of(file, "\n".join(rows))


def test_a_tag_makes_no_object(file: Path) -> None:
    text = "model: {base: m}\ndata: {sources: !!python/object/apply:os.system ['true']}\n"
    with pytest.raises(RecipeError):
        load(file, text)


def test_a_repeated_key_is_refused_with_its_line(file: Path) -> None:
    message = error_of(file, "model: {base: a}\nmodel: {base: b}\n")
    assert message.startswith(f"{file}:2: ")
    assert "duplicate key" in message


@pytest.mark.parametrize(
    "text", ["", "just text", "- a\n- b\n", "3", "a: [1\n", "a: b: c\n", "\ta: 1\n", "%YAML 9\n"]
)
def test_what_is_no_table_of_sections_is_a_recipe_error(file: Path, text: str) -> None:
    assert str(file) in error_of(file, text)


def test_a_syntax_error_names_its_line(file: Path) -> None:
    assert error_of(file, "model:\n  base: m\n bad\n").startswith(f"{file}:3: ")


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such file\. Write one with `sftprep init`"):
        load_recipe(tmp_path / "none.yaml")


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"model: \xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(file)


def test_a_huge_file_is_refused_unread(file: Path) -> None:
    with file.open("wb") as handle:
        handle.truncate(MAX_BYTES + 1)
    with pytest.raises(RecipeError, match="at most"):
        load_recipe(file)


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_deep_nesting_is_refused(file: Path, opening: str) -> None:
    with pytest.raises(RecipeError):
        load(file, "model: " + opening * 5000)


def test_many_rows_are_no_deep_nesting(file: Path) -> None:
    rows = "".join(f"    - {{path: rows{i}.jsonl}}\n" for i in range(300))
    text = f"model: {{base: m}}\ndata:\n  sources:\n{rows}"
    assert len(load(file, text).data.sources) == 300


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_recipe_error(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError):
        load_recipe(file)


# Origins and overrides ---------------------------------------------------------------------------


def test_each_value_has_its_origin(file: Path) -> None:
    file.write_text(SMALLEST + "training:\n  batch_size: 2\n")
    resolved = load_recipe(file, ["training.max_steps=7"], lambda base: 100_000)
    origins = resolved.origins
    assert origins["model.base"] == "recipe.yaml:2"
    assert origins["training.batch_size"] == "recipe.yaml:6"
    assert origins["training.max_steps"] == "--set"
    assert origins["training.learning_rate"].startswith("preset tiny")
    lines = resolved.lines()
    assert "training.batch_size = 2  # recipe.yaml:6" in lines
    assert "training.weight_decay = 0.01  # default" in lines


def test_every_value_of_the_recipe_is_a_line(file: Path) -> None:
    file.write_text(SMALLEST)
    resolved = load_recipe(file)
    values = flatten(resolved.recipe.model_dump(mode="json"))
    assert len(resolved.lines()) == len(values)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
        ("training.max_steps = 10", "training", "max_steps", 10),
        ("benchmarks.base_model=false", "benchmarks", "base_model", False),
        ("model.tokenizer=a=b", "model", "tokenizer", "a=b"),
        ("training.early_stopping_patience=", "training", "early_stopping_patience", None),
        ("training.early_stopping_patience=null", "training", "early_stopping_patience", None),
    ],
)
def test_an_override_is_yaml(file: Path, override: str, section: str, key: str, value: Any) -> None:
    recipe = load(file, SMALLEST, [override])
    assert getattr(getattr(recipe, section), key) == value


def test_the_last_override_wins(file: Path) -> None:
    recipe = load(file, SMALLEST, ["training.seed=1", "training.seed=2"])
    assert recipe.training.seed == 2


def test_an_override_replaces_a_whole_list(file: Path) -> None:
    recipe = load(file, SMALLEST, ["data.sources=[x.jsonl, y.jsonl]"])
    assert [source.path for source in recipe.data.sources] == ["x.jsonl", "y.jsonl"]


def test_an_override_of_a_check_needs_no_section_in_the_file(file: Path) -> None:
    recipe = load(file, SMALLEST, ["data.checks.response_too_short.threshold=5"])
    assert recipe.data.checks["response_too_short"].threshold == 5


def test_a_wrong_override_is_not_blamed_on_the_file(file: Path) -> None:
    message = error_of(file, SMALLEST, ["training.batch_size=0"])
    assert message.startswith("--set: training.batch_size: ")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("training.batch_size", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("training.batch_size=[1", "not valid YAML"),
        ("training.batch_size=&x 1", "anchors"),
        ("model.base.more=1", "'base' is not a table"),
        ("trainin.batch_size=1", "Did you mean 'training'"),
        ("training..batch_size=1", "unknown key"),
    ],
)
def test_a_malformed_override_is_explained(file: Path, override: str, what: str) -> None:
    assert what in error_of(file, SMALLEST, [override])


# Paths and environment ---------------------------------------------------------------------------


def test_a_file_beside_the_recipe_becomes_absolute(file: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert load(file, SMALLEST).data.sources[0].path == str(tmp_path / "rows.jsonl")


def test_a_hub_id_stays_a_hub_id(file: Path) -> None:
    assert load(file, SMALLEST).model.base == "some/model"


def test_environment_variables_are_read_in_paths(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_DATA", "/data/of mine")
    text = (
        "model: {base: '${MY_DATA}/model', candidates: ['${MY_DATA}/other', catalogue]}\n"
        "data: {sources: ['${MY_DATA}/a', {path: '${MY_DATA}/b'}]}\n"
        "benchmarks: {data_dir: '${MY_DATA}/c', tasks: [{name: mmlu, path: '${MY_DATA}/d'}]}\n"
    )
    recipe = load(file, text)
    assert recipe.model.base == "/data/of mine/model"
    assert recipe.model.candidates == ("/data/of mine/other", "catalogue")
    assert [source.path for source in recipe.data.sources] == ["/data/of mine/a", "/data/of mine/b"]
    assert recipe.benchmarks.data_dir == "/data/of mine/c"
    assert recipe.benchmarks.tasks[0].path == "/data/of mine/d"


def test_a_variable_that_is_not_set_is_an_error_with_its_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_THING", raising=False)
    text = "model:\n  base: ${NO_SUCH_THING}/m\ndata: {sources: [a]}\n"
    expected = f"{file}:2: model.base: the environment variable NO_SUCH_THING is not set."
    assert error_of(file, text) == expected


def test_variables_are_read_nowhere_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    text = "model: {base: m}\ndata: {sources: [{path: a, name: '${SECRET}'}]}\n"
    assert load(file, text).data.sources[0].name == "${SECRET}"


def test_benchmarks_given_as_a_list_have_their_paths_read_too(file: Path, tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    recipe = load(file, SMALLEST + "benchmarks: [{name: mmlu, path: items}]\n")
    assert recipe.benchmarks.tasks[0].path == str(tmp_path / "items")


def test_a_benchmark_is_not_mistaken_for_a_folder_of_its_name(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mmlu").mkdir()
    recipe = load(file, SMALLEST + "benchmarks: {tasks: [mmlu, {name: gsm8k}]}\n")
    assert [task.name for task in recipe.benchmarks.tasks] == ["mmlu", "gsm8k"]


def test_a_template_name_is_not_mistaken_for_a_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("not a template")
    recipe = load(file, SMALLEST, ["model.chat_template=plain"])
    assert recipe.model.chat_template == "plain"


# Presets -----------------------------------------------------------------------------------------


def with_size(file: Path, parameters: int | None, text: str = SMALLEST) -> Recipe:
    file.write_text(text)
    return load_recipe(file, (), lambda base: parameters).recipe


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [
        (260_032, 1e-3),
        (360_000_000, 3e-4),
        (3 * 10**9, 5e-5),
        (7 * 10**9, 2e-5),
        (70 * 10**9, 1e-5),
    ],
)
def test_the_learning_rate_follows_the_size(file: Path, parameters: int, rate: float) -> None:
    assert with_size(file, parameters).training.learning_rate == rate


def test_a_70b_model_gets_accumulation_checkpointing_and_bf16(file: Path) -> None:
    training = with_size(file, 70 * 10**9).training
    assert training.gradient_accumulation_steps > 4
    assert (training.gradient_checkpointing, training.precision) == ("on", "bf16")


def test_the_file_wins_over_the_preset(file: Path) -> None:
    text = SMALLEST + "training:\n  learning_rate: 7e-5\n"
    assert with_size(file, 70 * 10**9, text).training.learning_rate == 7e-5


def test_an_unknown_size_keeps_the_defaults(file: Path) -> None:
    assert with_size(file, None).training == load(file, SMALLEST).training


def test_epochs_of_the_file_win_over_the_steps_of_the_preset(file: Path) -> None:
    training = with_size(file, 7 * 10**9, SMALLEST + "training:\n  epochs: 2\n").training
    assert (training.max_steps, training.epochs) == (None, 2.0)


def test_an_empty_training_section_takes_the_preset(file: Path) -> None:
    assert with_size(file, 260_032, SMALLEST + "training:\n").training.learning_rate == 1e-3


def test_an_empty_section_means_its_defaults(file: Path) -> None:
    assert load(file, SMALLEST + "validation:\n").validation.max_rows == 2000


# Writing -----------------------------------------------------------------------------------------


def test_the_resolved_recipe_loads_to_itself(file: Path, tmp_path: Path) -> None:
    file.write_text(SMALLEST)
    resolved = load_recipe(file, ["training.learning_rate=3e-4"], lambda base: 360_000_000)
    again = tmp_path / "again.yaml"
    again.write_text(recipe_text(resolved))
    assert load_recipe(again).recipe == resolved.recipe


def test_loading_never_changes_the_file(file: Path) -> None:
    load(file, SMALLEST, ["training.seed=3"])
    assert file.read_text() == SMALLEST
