"""Every parser of the tool as `bytes -> anything`, for property tests and coverage-guided fuzzing.

The rule is one for all: a value comes back or a SftprepError is raised, whatever the bytes.
"""

from collections.abc import Callable
from pathlib import Path

from sftprep.errors import SftprepError

Parser = Callable[[bytes, Path], object]


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def recipe(content: bytes, folder: Path) -> object:
    """recipe.yaml."""
    from sftprep.recipe import load_recipe

    return load_recipe(_file(folder, "recipe.yaml", content))


def override(content: bytes, folder: Path) -> object:
    """--set section.key=value."""
    from sftprep.recipe import load_recipe

    text = "model: {base: m}\ndata: {sources: [{path: d.jsonl}]}\noutput: {run_dir: r}\n"
    path = _file(folder, "good.yaml", text.encode())
    return load_recipe(path, ["training.seed=" + content.decode("utf-8", "replace")])


def json_file(content: bytes, folder: Path) -> object:
    """A JSON file of the run folder."""
    from sftprep.store.durable import read_json

    return read_json(_file(folder, "x.json", content))


def log(content: bytes, folder: Path) -> object:
    """steps.jsonl."""
    from sftprep.gate.step_log import read_steps

    return read_steps(_file(folder, "steps.jsonl", content))


def flags(content: bytes, folder: Path) -> object:
    """flags.jsonl."""
    from sftprep.gate.evidence import read_flags

    return read_flags(_file(folder, "flags.jsonl", content))


def run_state(content: bytes, folder: Path) -> object:
    """run.json."""
    from sftprep.store.run import RunFolder

    _file(folder, "run.json", content)
    return RunFolder(folder).stages()


def manifest(content: bytes, folder: Path) -> object:
    """MANIFEST.json of a checkpoint."""
    from sftprep.store.durable import MANIFEST, verify_folder

    _file(folder, f"step-1/{MANIFEST}", content)
    verify_folder(folder / "step-1")
    return None


def weights_header(content: bytes, folder: Path) -> object:
    """A safetensors file."""
    from sftprep.model.headers import read_header

    return read_header(_file(folder, "model.safetensors", content))


def model_config(content: bytes, folder: Path) -> object:
    """config.json of a model folder."""
    from sftprep.model.describe import describe_folder

    _file(folder, "model/config.json", content)
    return describe_folder(folder / "model", "model", weights_needed=False)


def weights_index(content: bytes, folder: Path) -> object:
    """model.safetensors.index.json."""
    from sftprep.model.headers import read_weights

    _file(folder, "model/model.safetensors.index.json", content)
    return read_weights(folder / "model")


def hardware(content: bytes, folder: Path) -> object:
    """model.hardware."""
    from sftprep.model.hardware import parse_hardware

    return parse_hardware(content.decode("utf-8", "replace"))


def metrics(content: bytes, folder: Path) -> object:
    """baseline_metrics.json given to `compare`."""
    from sftprep.comparison.sources import load_side

    return load_side(_file(folder, "baseline_metrics.json", content))


def gate(content: bytes, folder: Path) -> object:
    """gate.json."""
    from sftprep.report.gathered import read_gate
    from sftprep.store.run import RunFolder

    _file(folder, "gate.json", content)
    return read_gate(RunFolder(folder))


def evidence(content: bytes, folder: Path) -> object:
    """validation.json as the gate reads it."""
    from sftprep.gate.evidence import load_evidence
    from sftprep.store.run import RunFolder

    _file(folder, "validation.json", content)
    return load_evidence(RunFolder(folder))


def rows(content: bytes, folder: Path) -> object:
    """A data file."""
    from sftprep.data.load import read_rows

    return list(read_rows(_file(folder, "rows.jsonl", content)))


def csv_rows(content: bytes, folder: Path) -> object:
    """A data file of comma-separated values."""
    from sftprep.data.load import read_rows

    return list(read_rows(_file(folder, "rows.csv", content)))


def transcript(content: bytes, folder: Path) -> object:
    """A data file of plain conversations."""
    from sftprep.data.load import read_rows

    return list(read_rows(_file(folder, "rows.txt", content)))


def row(content: bytes, folder: Path) -> object:
    """One line of a data file, made a conversation; put aside with a reason otherwise."""
    from sftprep.data.formats import to_example
    from sftprep.data.parse import READ_REASONS, RowError, parse_object
    from sftprep.recipe.sections import Source
    from sftprep.records import SourceRef

    source = Source(path="rows.jsonl")
    try:
        return to_example(parse_object(content), None, source, SourceRef("rows", "rows.jsonl", 1))
    except RowError as error:
        assert error.reason.id in {reason.id for reason in READ_REASONS}
        return None


def labels(content: bytes, folder: Path) -> object:
    """Known defects of a data file."""
    from sftprep.data.labels import load_labels

    return load_labels(str(_file(folder, "labels.json", content)))


def model_card(content: bytes, folder: Path) -> object:
    """README.md of a model folder, read for the licence."""
    from sftprep.model.describe import describe_folder

    config = b'{"model_type": "llama"}'
    _file(folder, "model/config.json", config)
    _file(folder, "model/README.md", content)
    return describe_folder(folder / "model", "model", weights_needed=False)


def items(content: bytes, folder: Path) -> object:
    """NAME.items.jsonl.gz of a run given to `compare`."""
    from sftprep.comparison.items import read_items

    return read_items(_file(folder, "mmlu.items.jsonl.gz", content))


def unpacked_items(content: bytes, folder: Path) -> object:
    """The lines of NAME.items.jsonl.gz."""
    import gzip

    return items(gzip.compress(content, 1), folder)


def validation_items(content: bytes, folder: Path) -> object:
    """The lines of validation.items.jsonl.gz."""
    import gzip

    from sftprep.comparison.items import read_validation_items

    path = _file(folder, "validation.items.jsonl.gz", gzip.compress(content, 1))
    return read_validation_items(path)


def margins(content: bytes, folder: Path) -> object:
    """--margin of `compare`."""
    from sftprep.comparison import read_margins

    return read_margins(content.decode("utf-8", "replace").split())


def prompts(content: bytes, folder: Path) -> object:
    """validation.instruction_prompts."""
    from sftprep.evaluate.instruction import read_prompts

    return read_prompts(_file(folder, "prompts.jsonl", content))


def benchmark_rows(content: bytes, folder: Path) -> object:
    """A benchmark file."""
    from sftprep.evaluate.benchmarks.data import read_rows as read_items

    return read_items(_file(folder, "test.jsonl", content))


def packed_benchmark_rows(content: bytes, folder: Path) -> object:
    """A gzipped benchmark file."""
    from sftprep.evaluate.benchmarks.data import read_rows as read_items

    return read_items(_file(folder, "test.jsonl.gz", content))


def journal(content: bytes, folder: Path) -> object:
    """The journal of an unfinished benchmark."""
    from sftprep.evaluate.benchmarks.journal import Journal

    return Journal(_file(folder, "x.items.partial.jsonl", content), "key").start()


PARSERS: dict[str, Parser] = {
    "recipe": recipe,
    "override": override,
    "json_file": json_file,
    "log": log,
    "flags": flags,
    "run_state": run_state,
    "manifest": manifest,
    "weights_header": weights_header,
    "model_config": model_config,
    "weights_index": weights_index,
    "hardware": hardware,
    "metrics": metrics,
    "gate": gate,
    "evidence": evidence,
    "rows": rows,
    "csv_rows": csv_rows,
    "transcript": transcript,
    "row": row,
    "labels": labels,
    "model_card": model_card,
    "items": items,
    "unpacked_items": unpacked_items,
    "validation_items": validation_items,
    "margins": margins,
    "prompts": prompts,
    "benchmark_rows": benchmark_rows,
    "packed_benchmark_rows": packed_benchmark_rows,
    "journal": journal,
}
# These import torch with their package.
NEED_TORCH = frozenset({"benchmark_rows", "packed_benchmark_rows", "journal", "prompts"})

# Beginnings that lead deep into the parsers; the fuzzer starts from these too.
SEEDS: dict[str, list[bytes]] = {
    "recipe": [
        b"model: {base: m}\ndata: {sources: [{path: d.jsonl}]}\ntraining: {learning_rate: 2e-5}\n",
        b"model:\n  base: &a [m]\ndata: *a\n",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
        b"model: {base: m}\nmodel: {base: n}\n",
        b"model: !!python/object/apply:os.system [id]\n",
        b"[" * 5000,
        b"? [a]\n: b\n",
        b"training: {max_steps: 1e400, seed: 0x" + b"f" * 400 + b"}\n",
    ],
    "log": [
        b'{"step": 1, "tokens_supervised": 1, "tokens_real": 2, "loss_sum_nats": 1.0}\n',
        b'{"step": 1e400}\n',
        b'{"step": "1"}\n',
    ],
    "run_state": [b'{"version": 1, "stages": {"data": {"status": "done"}}}', b'{"stages": 1}'],
    "manifest": [b'{"version": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}'],
    "weights_header": [
        (70).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":1}}' + b"0" * 8,
        b"\xff" * 8 + b"{}",
    ],
    "model_config": [
        b'{"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2,'
        b' "num_attention_heads": 4, "intermediate_size": 64}',
        b'{"model_type": "llama", "vocab_size": 1099511627776, "hidden_size": -1}',
        b'{"model_type": ["llama"], "text_config": {"auto_map": {}}}',
    ],
    "metrics": [b'{"mmlu": 45.2}', b'{"mmlu": 1e999}', b'{"metrics": {"mmlu": {"judged": true}}}'],
    "gate": [b'{"verdict": "pass", "rules": [], "version": 1}'],
    "hardware": [b"8xH100-80GB", b"99999999999999999xH100"],
    "row": [
        b'{"instruction": "a", "input": "b", "response": "c"}',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
        b'{"prompt": "a", "chosen": "b", "rejected": "c"}',
    ],
    "csv_rows": [b"instruction,response\na,b\n", b'instruction,response\n"a""\n,"b\n', b"\xff\xfe"],
    "transcript": [b"User: a\nAssistant: b\n\nUser: c\nAssistant: d\n"],
    "labels": [b'{"defects": {"1": "refusal"}, "originals": {"2": 1}}'],
    "model_card": [b"---\nlicense: apache-2.0\nbase_model:\n- a/b\n---\n# A model\n"],
    "items": [b"\x1f\x8b\x08\x00"],
    "unpacked_items": [
        b'{"id": "a", "cluster": null, "outcome": "correct", "score": 1.0, "prediction": "A",'
        b' "gold": "A", "prompt_hash": "x"}\n'
    ],
    "validation_items": [b'{"id": "a", "nll": 1.0, "tokens": 3, "correct": true}\n'],
    "margins": [b"0.02", b"mmlu=0.02 gsm8k=0.1"],
    "prompts": [b'{"instruction": "Say a.", "response": "a"}\n'],
    "rows": [b'{"instruction": "a", "response": "b"}\n', b"[[[", b"\x1f\x8b\x08", b"PAR1"],
}  # fmt: skip


def refused_or_read(name: str, content: bytes, folder: Path) -> None:
    """Call one parser; anything but a value or a SftprepError passes through to the caller."""
    try:
        PARSERS[name](content, folder)
    except SftprepError as error:
        assert str(error) != "", "an error without a message"
