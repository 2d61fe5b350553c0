"""A small sample of the user's rows, and how a tokenizer cuts them. No weights, no transformers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sftprep.data.formats import detect_format, instances_apart, to_example
from sftprep.data.load import read_rows, source_files
from sftprep.data.parse import RowError, row_object
from sftprep.data.rawrow import RawRow
from sftprep.data.storage import read_examples
from sftprep.errors import SftprepError
from sftprep.model.headers import read_json_file
from sftprep.recipe.sections import DataSection, Source
from sftprep.records import Example, SourceRef
from sftprep.store.run import RunFolder

ROWS_PER_FILE = 200
SAMPLE_ROWS = 1000
QUANTILES = (0.5, 0.9, 0.99, 1.0)
# Without a tokenizer: English text has about four bytes per token in a 32k to 128k vocabulary.
TYPICAL_BYTES_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class RowSample:
    """Prompts and responses of some rows. `rows` estimates all rows from the size of the files."""

    pairs: tuple[tuple[str, str], ...]
    rows: int
    formats: tuple[str, ...]
    prepared: bool
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TokenFit:
    """How a tokenizer cuts the sample. `lengths`: tokens per row by quantile of QUANTILES.

    `unknown` is the share of characters that the vocabulary cannot write (a run of them may be one
    token). `measured` is false without a tokenizer here: TYPICAL_BYTES_PER_TOKEN was used.
    `supervised`: share of the bytes that are responses. `row_lengths`: tokens of each row.
    """

    bytes_per_token: float
    unknown: float | None
    lengths: tuple[int, ...]
    mean_length: float
    rows: int
    measured: bool
    supervised: float = 1.0
    row_lengths: tuple[int, ...] = ()


def as_text(prompt: str, response: str) -> str:
    """The row in the plain template, without special tokens."""
    return f"### Instruction:\n{prompt}\n\n### Response:\n{response}"


def sample_rows(data: DataSection, run: RunFolder | None) -> RowSample:
    """Rows of the prepared training set when it exists, else the first rows of each source file."""
    if run is not None and run.train_rows.is_file():
        return _prepared(run.train_rows)
    pairs: list[tuple[str, str]] = []
    formats: list[str] = []
    rows = 0.0
    problem = None
    for source in data.sources:
        try:
            for path in source_files(source):
                found, share, name = _from_file(path, source)
                pairs += found
                rows += len(found) / share
                formats += [name] if name else []
        except SftprepError as error:
            problem = str(error)
    step = max(1, len(pairs) // SAMPLE_ROWS)
    return RowSample(
        tuple(pairs[::step]), round(rows), tuple(dict.fromkeys(formats)), False, problem
    )


def _prepared(path: Path) -> RowSample:
    every = [_pair(example) for example in read_examples(path)]
    pairs = [pair for pair in every if pair is not None]
    step = max(1, len(pairs) // SAMPLE_ROWS)
    return RowSample(tuple(pairs[::step]), len(every), (), True)


def _from_file(path: Path, source: Source) -> tuple[list[tuple[str, str]], float, str | None]:
    """Pairs of the first rows, the share of the file they are, and its format."""
    raws: list[RawRow] = []
    limit = min(ROWS_PER_FILE, source.limit or ROWS_PER_FILE)
    iterator = read_rows(path)
    complete = False
    while len(raws) < limit:
        raw = next(iterator, None)
        if raw is None:
            complete = True
            break
        raws.append(raw)
    read = sum(raw.size + 2 for raw in raws)
    size = path.stat().st_size * (3 if path.name.endswith((".gz", ".zst", ".parquet")) else 1)
    share = 1.0 if complete or not read else min(1.0, read / max(size, 1))
    if source.limit is not None:
        share = max(share, len(raws) / source.limit)
    objects = []
    for raw in raws:
        try:
            objects += [(raw.line, value) for value in instances_apart(row_object(raw))]
        except RowError:
            continue
    name = source.format if source.format != "auto" else detect_format(
        [row for _, row in objects], str(path), source.columns
    )  # fmt: skip
    pairs = []
    for line, row in objects:
        place = SourceRef(source.name or path.name, str(path), line)
        try:
            pair = _pair(to_example(row, name, source, place))
        except RowError:
            continue
        if pair is not None:
            pairs.append(pair)
    return pairs, share, name


def _pair(example: Example) -> tuple[str, str] | None:
    """Everything before the last assistant turn, and that turn."""
    last = max((i for i, m in enumerate(example.messages) if m.role == "assistant"), default=None)
    if last is None or not example.messages[last].content:
        return None
    prompt = "\n\n".join(m.content for m in example.messages[:last])
    return prompt, example.messages[last].content


def token_fit(pairs: Sequence[tuple[str, str]], folder: str | None) -> TokenFit | None:
    """Measure a tokenizer on the sample; None without rows."""
    if not pairs:
        return None
    texts = [as_text(prompt, response) for prompt, response in pairs]
    sizes = [len(text.encode("utf-8")) for text in texts]
    supervised = sum(len(response.encode("utf-8")) for _, response in pairs) / sum(sizes)
    path = Path(folder) / "tokenizer.json" if folder else None
    if path is None or not path.is_file():
        lengths = [math.ceil(size / TYPICAL_BYTES_PER_TOKEN) + 2 for size in sizes]
        return replace(_fit(lengths, sizes, None, measured=False), supervised=supervised)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown_id = _unknown_id(path)
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    hidden = sum(
        end - start
        for row in encoded
        for token, (start, end) in zip(row.ids, row.offsets, strict=True)
        if token == unknown_id
    )
    unknown = hidden / sum(len(text) for text in texts)
    fit = _fit([len(e.ids) + 2 for e in encoded], sizes, unknown, measured=True)
    return replace(fit, supervised=supervised)


def _fit(
    lengths: list[int], sizes: list[int], unknown: float | None, *, measured: bool
) -> TokenFit:
    ordered = sorted(lengths)
    total = sum(lengths)
    quantiles = tuple(ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in QUANTILES)
    return TokenFit(
        bytes_per_token=sum(sizes) / total,
        unknown=unknown,
        lengths=quantiles,
        mean_length=total / len(lengths),
        rows=len(lengths),
        measured=measured,
        row_lengths=tuple(lengths),
    )


def _unknown_id(path: Path) -> int | None:
    """The id of the unknown token in tokenizer.json, or None when it has none."""
    table = read_json_file(path)
    model = table.get("model")
    if not isinstance(model, dict):
        return None
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token, vocab = model.get("unk_token"), model.get("vocab")
    if token is None or not isinstance(vocab, dict):
        return None
    found = vocab.get(token)
    return int(found) if isinstance(found, int) else None
