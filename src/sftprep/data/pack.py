"""Tokenised rows on disk, packed into batches of whole documents.

The token cache is content-addressed: the same rows, tokenizer, template and settings are tokenised
once. Rows are packed anew each epoch from (seed, epoch), so the order is a pure function of both.
"""

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.render import Rendered, render_many
from sftprep.errors import CorruptError, DataError
from sftprep.progress import Progress
from sftprep.records import Example
from sftprep.stop import StopSignal
from sftprep.store.durable import commit_folder, read_json, verify_folder, write_json
from sftprep.store.fingerprint import fingerprint, hash_path, hash_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VERSION = 1
RENDER_ROWS = 2048
# Documents sorted and packed together. Larger windows fill better but sort the epoch by length:
# at 4096 a row of 2048 tokens is over 99 % full on chat data.
PACK_WINDOW = 4096
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenCache:
    """All documents of one file of rows, one after another.

    `ids` int32 [total], `supervised` bool [total], `starts` int64 [documents + 1],
    `names` example ids for messages, `key` the content address.
    """

    ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    starts: Ints
    names: tuple[str, ...]
    key: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each document."""
        return np.diff(self.starts)

    def document(self, index: int) -> Rendered:
        """One document as it was rendered."""
        piece = slice(int(self.starts[index]), int(self.starts[index + 1]))
        return Rendered(np.asarray(self.ids[piece]), np.asarray(self.supervised[piece]))


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Whole documents one after another, longest first.

    `ids` and `positions` int64 [T], `lengths` int64 [documents] (sum T), `predict` int64 [S]:
    places whose next token is supervised, `labels` int64 [S]: that token, `documents`: cache
    indices.
    """

    ids: Ints
    positions: Ints
    lengths: Ints
    predict: Ints
    labels: Ints
    documents: Ints

    @property
    def tokens(self) -> int:
        """Real tokens; there is no padding."""
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """Tokens that count in the loss."""
        return len(self.labels)


def tokenizer_key(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Hash of everything that turns text into ids: pipeline, special tokens, template."""
    backend: Any = tokenizer.backend_tokenizer
    return fingerprint(
        hash_text(backend.to_str()), tokenizer.chat_template, tokenizer.special_tokens_map
    )


def token_cache(
    rows: Path,
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    train_on: str,
    progress: Progress,
    stop: StopSignal,
) -> TokenCache:
    """Open the cache of a rows file, tokenising it first when needed.

    Args:
        rows: parquet file of examples; folder: where caches live (`data/packed`).
    Raises:
        DataError: no rows, or a row longer than `max_length` (the data stage rejects those).
        Interrupted: a stop was requested; nothing is left behind.
    """
    key = fingerprint(
        CACHE_VERSION, hash_path(rows), tokenizer_key(tokenizer), max_length, train_on
    )
    final = folder / key
    if final.is_dir():
        try:
            verify_folder(final)
            return open_cache(final)
        except CorruptError as error:
            progress.line(f"token cache is damaged and will be made again: {error}")
    from sftprep.data.storage import count_rows, read_examples

    cache = build_cache(
        read_examples(rows),
        tokenizer,
        max_length=max_length,
        train_on=train_on,
        progress=progress,
        stop=stop,
        where=str(rows),
        total=count_rows(rows),
    )
    with commit_folder(final, replace=True) as temporary:
        np.save(temporary / "ids.npy", cache.ids)
        np.save(temporary / "supervised.npy", cache.supervised)
        np.save(temporary / "starts.npy", cache.starts)
        write_json(temporary / "rows.json", {"version": CACHE_VERSION, "names": cache.names})
    return open_cache(final)


def open_cache(folder: Path) -> TokenCache:
    """Memory-map a committed cache.

    Raises:
        CorruptError, StoreError: it cannot be read.
    """
    rows = read_json(folder / "rows.json")
    try:
        ids, supervised, starts = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("ids", "supervised", "starts")
        )
    except (OSError, ValueError) as error:
        raise CorruptError(f"{folder}: cannot be read ({error}). Delete the folder.") from error
    return TokenCache(ids, supervised, np.asarray(starts), tuple(rows["names"]), folder.name)


def build_cache(
    examples: Iterable[Example],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    train_on: str,
    progress: Progress,
    stop: StopSignal,
    where: str = "rows",
    total: int | None = None,
) -> TokenCache:
    """Tokenise examples; only their tokens stay in memory, at 5 bytes each.

    Args:
        total: number of examples, where it is known without counting them.
    Raises:
        DataError: no examples, or one longer than `max_length`.
    """
    count = len(examples) if isinstance(examples, Sequence) else total
    rest = iter(examples)
    ids, supervised, lengths = array("i"), bytearray(), array("q")
    names: list[str] = []
    with progress.task("tokenising", max(1, count or 1), "rows") as task:
        while chunk := list(islice(rest, RENDER_ROWS)):
            stop.check("tokenising")
            rendered = render_many([e.messages for e in chunk], tokenizer, train_on)
            _check_lengths(rendered, chunk, max_length, where)
            for row in rendered:
                ids.frombytes(row.ids.tobytes())
                supervised += row.supervised.tobytes()
                lengths.append(len(row.ids))
            names += [e.id for e in chunk]
            task.advance(len(chunk))
    if not lengths:
        raise DataError(f"{where}: no rows. Run the data stage and look at its rejected rows.")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))])
    return TokenCache(
        np.frombuffer(ids, np.int32), np.frombuffer(supervised, np.bool_), starts, tuple(names), ""
    )


def _check_lengths(
    rendered: Sequence[Rendered], examples: Sequence[Example], max_length: int, where: str
) -> None:
    longest = max(range(len(rendered)), key=lambda i: len(rendered[i].ids))
    tokens = len(rendered[longest].ids)
    if tokens > max_length:
        raise DataError(
            f"{where}: row {examples[longest].id} has {tokens} tokens, more than "
            f"training.max_length {max_length}; nothing is cut silently. Run the data stage again "
            "with this max_length, or raise it."
        )


def pack(lengths: Ints, max_length: int, *, seed: int, epoch: int) -> list[Ints]:
    """Fill rows of `max_length` tokens with whole documents, each used exactly once.

    Best-fit decreasing over windows of the shuffled documents; the rows are shuffled again.

    Args:
        lengths: tokens per document, each at most `max_length`.
    Returns:
        Document indices per row. The same arguments give the same rows.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    rows: list[list[int]] = []
    for start in range(0, len(order), PACK_WINDOW):
        window = order[start : start + PACK_WINDOW]
        window = window[np.argsort(-lengths[window], kind="stable")]
        rows += _best_fit(window.tolist(), lengths[window].tolist(), max_length)
    return [np.array(rows[i], np.int64) for i in random.permutation(len(rows))]


def _best_fit(documents: list[int], lengths: list[int], max_length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (free tokens, row), ascending
    for document, length in zip(documents, lengths, strict=True):
        place = bisect_left(free, (length, -1))
        if place == len(free):
            space, row = max_length, len(rows)
            rows.append([])
        else:
            space, row = free.pop(place)
        rows[row].append(document)
        if space - length > 0:
            insort(free, (space - length, row))
    return rows


def assemble(cache: TokenCache, documents: Ints) -> PackedBatch:
    """Lay documents one after another, longest first.

    Raises:
        DataError: nothing in the batch is supervised.
    """
    lengths = cache.lengths[documents]
    order = np.argsort(-lengths, kind="stable")
    documents, lengths = documents[order], lengths[order]
    pieces = [slice(int(cache.starts[d]), int(cache.starts[d + 1])) for d in documents]
    ids = np.concatenate([cache.ids[p] for p in pieces]).astype(np.int64)
    supervised = np.concatenate([cache.supervised[p] for p in pieces])
    begins = np.cumsum(lengths) - lengths
    positions = np.arange(len(ids), dtype=np.int64) - np.repeat(begins, lengths)
    supervised[begins] = False  # the first token of a document has no predecessor
    targets = np.flatnonzero(supervised)
    if len(targets) == 0:
        names = ", ".join(cache.names[d] for d in documents[:5])
        raise DataError(f"no token of rows {names} is supervised. Check training.train_on.")
    return PackedBatch(ids, positions, lengths, targets - 1, ids[targets], documents)


def document_batches(lengths: Ints, documents: Ints, max_tokens: int) -> list[Ints]:
    """Each of the documents once, in batches of at most `max_tokens` tokens.

    A longer document is a batch of its own. Longest first, so that a batch holds documents of
    similar length.

    Args:
        lengths: tokens of every document; `documents` are places in it.
    """
    batches: list[list[int]] = []
    room = 0
    order = np.argsort(-lengths[documents], kind="stable")
    for document in documents[order].tolist():
        length = int(lengths[document])
        if length > room:
            batches.append([])
            room = max(max_tokens, length)
        batches[-1].append(document)
        room -= length
    return [np.array(batch, np.int64) for batch in batches]
