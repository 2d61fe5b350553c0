"""Packing: every document once, rows never too long, order a function of (seed, epoch)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftprep.data.pack import (
    TokenCache,
    assemble,
    build_cache,
    document_batches,
    pack,
    token_cache,
)
from sftprep.data.storage import write_examples
from sftprep.data.tokenizer import load_tokenizer
from sftprep.errors import DataError, Interrupted
from sftprep.progress import Progress
from sftprep.recipe.sections import ModelSection
from sftprep.records import Example, Message, SourceRef
from sftprep.starter import MODEL_DIR
from sftprep.stop import StopSignal


def lengths(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelSection(base=str(MODEL_DIR)))


def example(number: int, answer: str) -> Example:
    source = SourceRef("set", "rows.jsonl", number)
    turns = (Message("user", f"say {number}", False), Message("assistant", answer, True))
    return Example(f"row{number}", source, turns)


def tiny_cache() -> TokenCache:
    """Three documents of lengths 3, 5, 2; the last two tokens of each are supervised."""
    ids = np.array([10, 11, 12, 20, 21, 22, 23, 24, 30, 31], np.int32)
    supervised = np.array([0, 1, 1, 0, 0, 0, 1, 1, 0, 1], bool)
    return TokenCache(ids, supervised, lengths(0, 3, 8, 10), ("a", "b", "c"), "")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(0, 3))
def test_every_document_once_and_no_row_too_long(sizes: list[int], epoch: int) -> None:
    rows = pack(lengths(*sizes), 50, seed=1, epoch=epoch)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(sizes)))
    assert max(sum(sizes[d] for d in row) for row in rows) <= 50


def test_best_fit_fills_rows_completely_when_it_can() -> None:
    rows = pack(lengths(6, 4, 7, 3, 5, 5), 10, seed=0, epoch=0)
    assert len(rows) == 3


def test_same_seed_and_epoch_give_the_same_rows() -> None:
    sizes = np.random.default_rng(0).integers(1, 60, 500)
    first, again = (pack(sizes, 64, seed=3, epoch=2) for _ in range(2))
    assert [r.tolist() for r in first] == [r.tolist() for r in again]


def test_epochs_are_packed_differently() -> None:
    sizes = np.random.default_rng(0).integers(1, 60, 500)
    first, second = (pack(sizes, 64, seed=3, epoch=e) for e in (0, 1))
    assert [r.tolist() for r in first] != [r.tolist() for r in second]


def test_chat_like_lengths_fill_rows_to_98_percent() -> None:
    sizes = np.random.default_rng(0).integers(20, 400, 5000)
    rows = pack(sizes, 2048, seed=0, epoch=0)
    assert sizes.sum() / (len(rows) * 2048) > 0.98


def test_batch_lays_documents_longest_first_with_restarting_positions() -> None:
    batch = assemble(tiny_cache(), lengths(0, 1, 2))
    assert batch.ids.tolist() == [20, 21, 22, 23, 24, 10, 11, 12, 30, 31]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]
    assert batch.lengths.tolist() == [5, 3, 2]


def test_batch_predicts_each_supervised_token_from_the_one_before() -> None:
    batch = assemble(tiny_cache(), lengths(0, 1, 2))
    assert batch.predict.tolist() == [2, 3, 5, 6, 8]
    assert batch.labels.tolist() == [23, 24, 11, 12, 31]


def test_first_token_of_a_document_is_never_predicted_from_another_document() -> None:
    cache = tiny_cache()
    everything = TokenCache(cache.ids, np.ones(10, bool), cache.starts, cache.names, "")
    batch = assemble(everything, lengths(0, 1, 2))
    assert batch.labels.tolist() == [21, 22, 23, 24, 11, 12, 31]


def test_batch_without_supervised_tokens_names_its_rows() -> None:
    cache = tiny_cache()
    nothing = TokenCache(cache.ids, np.zeros(10, bool), cache.starts, cache.names, "")
    with pytest.raises(DataError, match="rows a"):
        assemble(nothing, lengths(0))


def test_validation_batches_hold_each_document_once_within_the_budget() -> None:
    batches = document_batches(tiny_cache().lengths, lengths(0, 1, 2), 8)
    assert [b.tolist() for b in batches] == [[1, 0], [2]]


def cache_of(rows: Path, folder: Path, tokenizer: Any, **settings_: Any) -> TokenCache:
    values: dict[str, Any] = {"max_length": 128, "train_on": "responses", **settings_}
    stop = values.pop("stop", StopSignal())
    return token_cache(rows, folder, tokenizer, progress=Progress(quiet=True), stop=stop, **values)


def test_cache_on_disk_equals_the_cache_in_memory(tmp_path: Path, tokenizer: Any) -> None:
    rows = tmp_path / "train.parquet"
    examples = [example(i, "yes " * (i + 1)) for i in range(5)]
    write_examples(rows, examples)
    disk = cache_of(rows, tmp_path / "packed", tokenizer)
    memory = build_cache(
        examples,
        tokenizer,
        max_length=128,
        train_on="responses",
        progress=Progress(quiet=True),
        stop=StopSignal(),
    )
    assert disk.names == ("row0", "row1", "row2", "row3", "row4")
    assert np.array_equal(disk.ids, memory.ids)
    assert np.array_equal(disk.supervised, memory.supervised)
    assert np.array_equal(disk.starts, memory.starts)


def test_cache_is_made_once_and_anew_when_an_input_changes(tmp_path: Path, tokenizer: Any) -> None:
    rows = tmp_path / "train.parquet"
    write_examples(rows, [example(1, "yes")])
    first = cache_of(rows, tmp_path / "packed", tokenizer)
    again = cache_of(rows, tmp_path / "packed", tokenizer)
    other = cache_of(rows, tmp_path / "packed", tokenizer, train_on="full")
    assert (first.key == again.key, first.key == other.key) == (True, False)
    assert len(list((tmp_path / "packed").iterdir())) == 2


def test_damaged_cache_is_made_again(tmp_path: Path, tokenizer: Any) -> None:
    rows = tmp_path / "train.parquet"
    write_examples(rows, [example(1, "yes")])
    first = cache_of(rows, tmp_path / "packed", tokenizer)
    ids = np.array(first.ids)
    file = tmp_path / "packed" / first.key / "ids.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert np.array_equal(cache_of(rows, tmp_path / "packed", tokenizer).ids, ids)


def test_too_long_row_is_an_error_never_a_cut(tmp_path: Path, tokenizer: Any) -> None:
    rows = tmp_path / "train.parquet"
    write_examples(rows, [example(1, "yes"), example(2, "yes " * 200)])
    with pytest.raises(DataError, match=r"row2 has .* tokens, more than training\.max_length 128"):
        cache_of(rows, tmp_path / "packed", tokenizer)


def test_no_rows_is_an_error(tmp_path: Path, tokenizer: Any) -> None:
    write_examples(tmp_path / "train.parquet", [])
    with pytest.raises(DataError, match="no rows"):
        cache_of(tmp_path / "train.parquet", tmp_path / "packed", tokenizer)


def test_stop_while_tokenising_leaves_nothing_behind(tmp_path: Path, tokenizer: Any) -> None:
    write_examples(tmp_path / "train.parquet", [example(1, "yes")])
    stop = StopSignal()
    stop.request("SIGTERM")
    with pytest.raises(Interrupted, match="tokenising"):
        cache_of(tmp_path / "train.parquet", tmp_path / "packed", tokenizer, stop=stop)
    assert not (tmp_path / "packed").exists()
