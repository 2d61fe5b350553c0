"""Hostile recipes, models, templates and run folders: one message, bounded, no traceback."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sftprep.data.scaffold import render_text
from sftprep.data.templateguard import check_template, limited_rendering
from sftprep.data.tokenizer import load_tokenizer
from sftprep.errors import EvaluationError, ModelError, RecipeError, StoreError
from sftprep.model.describe import describe_folder
from sftprep.model.headers import read_header, read_weights
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import ModelSection
from sftprep.starter import MODEL_DIR
from sftprep.store.run import RunFolder

GOOD = "model: {base: m}\ndata: {sources: [{path: d.jsonl}]}\noutput: {run_dir: r}\n"
RECIPES = {
    "alias bomb": 'a: &a ["x","x"]\n' + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)
    ),
    "one alias": "model: &m {base: x}\ndata: *m\n",
    "merge key": "x: &x {a: 1}\nmodel:\n  <<: *x\n",
    "duplicate key": GOOD + "model: {base: other}\n",
    "duplicate nested key": "model: {base: a, base: b}\n",
    "deep nesting": "a: " + "[" * 10_000 + "]" * 10_000,
    "deep flow maps": "{a: " * 5000 + "1" + "}" * 5000,
    "python object": "model: !!python/object/apply:os.system ['touch /tmp/canary']\n",
    "binary tag": "model: !!binary aGk=\n",
    "list instead of table": "- model\n- data\n",
    "text instead of table": "model",
    "empty": "",
    "number for text": "model: {base: 5}\ndata: {sources: 3}\n",
    "huge number": GOOD + "training: {max_steps: 1" + "0" * 5000 + "}\n",
    "infinite rate": GOOD + "training: {learning_rate: .inf}\n",
    "not a number": GOOD + "training: {learning_rate: .nan}\n",
    "two documents": GOOD + "---\n" + GOOD,
    "NUL": "model: {base: 'a\0b'}\n",
    "terminal escape": "model: {base: \"\\e]0;owned\\a\", oops: 1}\n",
    "markup": "model: {base: '[link=http://x]y[/link]', oops: 1}\n",
    "two megabytes": "# " + "x" * (2 << 20) + "\n" + GOOD,
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_one_clear_error_within_seconds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPES[name], encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(RecipeError, match=r"recipe\.yaml") as raised:
        load_recipe(path)
    assert time.monotonic() - started < 5
    assert len(str(raised.value)) < 4000


def test_a_recipe_that_is_not_text_is_refused(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"\x80abc", os.urandom(64) + b"\xff"):
        (tmp_path / "recipe.yaml").write_bytes(content)
        with pytest.raises(RecipeError):
            load_recipe(tmp_path / "recipe.yaml")


def header(table: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "empty file": b"",
    "seven bytes": b"1234567",
    "length beyond the file": struct.pack("<Q", 1 << 62) + b"{}",
    "not JSON": header(b"{{{{"),
    "a list": header([1, 2]),
    "deep": header(b"[" * 200_000),
    "missing data": header({"a": ONE}),
    "data left over": header({"a": ONE}, b"0" * 9),
    "overlap": header({"a": ONE, "b": ONE}, b"0" * 8),
    "a gap": header({"a": {**ONE, "data_offsets": [8, 16]}}, b"0" * 16),
    "backwards": header({"a": {**ONE, "data_offsets": [8, 0]}}, b"0" * 8),
    "negative": header({"a": {**ONE, "shape": [-2]}}, b"0" * 8),
    "unknown dtype": header({"a": {**ONE, "dtype": "F128"}}, b"0" * 8),
    "shape is text": header({"a": {**ONE, "shape": "22"}}, b"0" * 8),
    "shape overflows": header({"a": {**ONE, "shape": [1 << 62, 1 << 62]}}, b"0" * 8),
    "floats as offsets": header({"a": {**ONE, "data_offsets": [0.0, 8.0]}}, b"0" * 8),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_malformed_weight_file_is_refused_before_anything_is_loaded(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_header(tmp_path / "model.safetensors")


def model_folder(folder: Path, **config: object) -> Path:
    """A folder with a config.json and nothing else."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_config_that_lies_about_sizes_builds_nothing(tmp_path: Path) -> None:
    folder = model_folder(
        tmp_path / "m", model_type="llama", vocab_size=1 << 40, hidden_size=1 << 20,
        num_hidden_layers=1 << 20, num_attention_heads=1, intermediate_size=1 << 30,
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        describe_folder(folder, "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_shard_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", model_type="llama")
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="outside the folder"):
        read_weights(folder)


TEMPLATES = {
    "endless loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "doubling text": "{% set n = namespace(t='x' * 1000) %}{% for i in range(40) %}"
    "{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t | length }}",
    "one huge text": "{{ 'x' * 99999999999 }}",
    "huge output": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "only with an answer": "{% if messages | length > 1 %}{% for a in range(99999) %}"
    "{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}ok",
    "inside a generation tag": "{% generation %}{% for a in range(99999) %}"
    "{% for b in range(99999) %}{% endfor %}{% endfor %}{% endgeneration %}",
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_endless_or_greedy_chat_template_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        check_template(TEMPLATES[name], "model")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}",
        "{{ raise_exception('no') }}",  # found out by the real rendering
        "{% if %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
        "{{ lipsum | attr('__globals__') }}",
    ],
)
def test_other_templates_are_left_to_the_real_rendering_and_run_nothing(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_template(template, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_rendering_that_does_not_end_in_this_process_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sftprep.data.templateguard.RENDER_SECONDS", 0.2)
    with pytest.raises(ModelError, match="did not end"), limited_rendering():
        while True:
            pass


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'x' * 9999999999 }}",
        "{% set n = namespace(t='x' * 1000) %}{% for i in range(40) %}{% set n.t = n.t ~ n.t %}"
        "{% endfor %}",
    ],
)
def test_a_template_that_waits_for_real_rows_gets_a_gibibyte_at_most(bomb: str) -> None:
    waits = "{% if messages[0].content != 'text' %}" + bomb + "{% endif %}ok"
    check_template(waits, "model")
    tokenizer = load_tokenizer(ModelSection(base=str(MODEL_DIR)))
    tokenizer.chat_template = waits
    with pytest.raises(ModelError, match="needs more than 1024 MiB"):
        render_text([{"role": "user", "content": "a real row"}], tokenizer)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


RUN_STATES = {
    "another version": {"version": 99, "stages": {}},
    "no version": {"stages": {}},
    "a list": [],
    "stages are a list": {"version": 1, "stages": [1]},
    "a stage is a number": {"version": 1, "stages": {"data": 3}},
}


@pytest.mark.parametrize("name", RUN_STATES)
def test_a_run_folder_of_another_version_or_hand_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN_STATES[name]), encoding="utf-8")
    with pytest.raises(StoreError, match=r"run\.json"):
        RunFolder(tmp_path).stages()


# Exit status and arguments; `diagnose` and `report` are there for broken runs too: they list what
# they cannot read.
COMMANDS: dict[str, tuple[int, list[str]]] = {
    "diagnose": (0, ["diagnose", "{run}"]),
    "compare": (2, ["compare", "{run}", "{run}"]),
    "gate": (2, ["gate", "{run}"]),
    "report": (0, ["report", "{run}"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_hand_written_run_folder_gives_a_message_and_no_traceback(
    command: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "benchmarks").mkdir(parents=True)
    (run / "train").mkdir()
    files = {
        "run.json": '{"version": 1, "stages": {"data": {"status": "done"}}}',
        "recipe.yaml": GOOD,
        "validation.json": "[[[",
        "gate.json": '{"verdict": 7}',
        "train/steps.jsonl": '{"step": "x"}\n',
        "train/flags.jsonl": "[]\n",
        "benchmarks/mmlu.json": '{"name": 1}',
    }
    for name, text in files.items():
        (run / name).write_text(text, encoding="utf-8")
    expected, words = COMMANDS[command]
    arguments = [word.format(run=run) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "sftprep", *arguments],
        capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


def test_a_packed_benchmark_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    from sftprep.evaluate.benchmarks import data

    monkeypatch.setattr(data, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "test.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (2 << 20)))
    with pytest.raises(EvaluationError, match="more than 1 MiB"):
        data.read_rows(path)
