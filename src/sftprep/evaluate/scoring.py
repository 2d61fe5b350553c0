"""Log-likelihoods of continuations: plan what is shared, run it, put the sums together."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from sftprep.errors import EvaluationError
from sftprep.evaluate.encode import Encoded, encode_requests, name_request
from sftprep.evaluate.engine import Engine, Score, ScoreRequest
from sftprep.evaluate.rows import Row, Targets, batches, encode_prefix, run_rows
from sftprep.evaluate.sharing import Family, Tree, Work, distinct, families, tree_row
from sftprep.progress import Progress
from sftprep.stop import StopSignal

WINDOW = 16_384
"""Requests planned at once, neighbours by text: bounds memory, loses little sharing."""
TOLERANCE_NATS = 1e-3
HALF_TOLERANCE_NATS = 0.25
"""What a tree may differ from plain rows in the self-check (float32; half precision)."""
CHECK_TOKENS = 40


def score(
    engine: Engine,
    requests: Sequence[ScoreRequest],
    progress: Progress,
    stop: StopSignal,
    label: str,
) -> list[Score]:
    """See `Engine.score`."""
    order = sorted(range(len(requests)), key=lambda i: (requests[i].context, i))

    def name(index: int) -> str:
        return name_request(index, requests[index].context, requests[index].continuation)

    scores: dict[int, Score] = {}
    with progress.task(label, len(requests), "requests") as task:
        for start in range(0, len(order), WINDOW):
            chosen = order[start : start + WINDOW]
            encoded = encode_requests(
                engine.tokenizer, [requests[i] for i in chosen], chosen, engine.max_length
            )
            for tree, targets in _run(engine, distinct(chosen, encoded), stop, label):
                found = _tree_scores(tree, targets, name)
                scores.update(found)
                task.advance(len(found))
    return [scores[index] for index in range(len(requests))]


def score_tokens(
    engine: Engine,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    progress: Progress,
    stop: StopSignal,
    label: str,
) -> list[Score]:
    """Like `score`, for (context, continuation) given as token ids; none may be empty.

    Raises:
        EvaluationError: a score is not finite; the message gives the pair's number.
    """
    encoded = []
    for context, continuation in pairs:
        assert context and 0 < len(continuation) <= engine.max_length
        full = np.asarray([*context, *continuation][-(engine.max_length + 1) :], np.int32)
        encoded.append(Encoded(full, len(continuation)))
    scores: dict[int, Score] = {}
    with progress.task(label, len(pairs), "requests") as task:
        works = distinct(range(len(pairs)), encoded)
        for tree, targets in _run(engine, works, stop, label):
            found = _tree_scores(tree, targets, lambda index: f"request {index}")
            scores.update(found)
            task.advance(len(found))
    return [scores[index] for index in range(len(pairs))]


def _run(
    engine: Engine, works: list[Work], stop: StopSignal, label: str
) -> Iterator[tuple[Tree, Targets]]:
    """Every tree once with its targets: families with a prefix of their own, then all others."""
    alone: list[Tree] = []
    for family in _plan(engine, works):
        if family.prefix_pays(engine.tokens_per_pass):
            stop.check(label)
            prefix = encode_prefix(engine, family.trees[0].works[0].ids[: family.prefix])
            rows = [tree_row(tree, family.prefix) for tree in family.trees]
            for batch in batches(rows, engine.tokens_per_pass, family.prefix):
                stop.check(label)
                found = run_rows(engine, [rows[i] for i in batch], prefix)
                yield from zip([family.trees[i] for i in batch], found, strict=True)
        else:
            alone.extend(family.trees)
    rows = [tree_row(tree, 0) for tree in alone]
    for batch in batches(rows, engine.tokens_per_pass):
        stop.check(label)
        found = run_rows(engine, [rows[i] for i in batch])
        yield from zip([alone[i] for i in batch], found, strict=True)


def _plan(engine: Engine, works: list[Work]) -> list[Family]:
    if takes_trees(engine):
        return families(works)
    return [Family(0, (Tree((work,)),)) for work in works]


def _tree_scores(tree: Tree, targets: Targets, name: Callable[[int], str]) -> dict[int, Score]:
    """Sum the targets of each work and final token; refuse what is not finite."""
    found, at = {}, 0
    for work in tree.works:
        inner = len(work.ids) - work.context
        shared = float(targets.logprobs[at : at + inner].sum())
        greedy = bool(targets.greedy[at : at + inner].all())
        at += inner
        for indices in work.last.values():
            total = shared + float(targets.logprobs[at])
            for index in indices:
                if not np.isfinite(total):
                    raise EvaluationError(
                        f"{name(index)}: the model's "
                        f"log-likelihood is {total}. The weights or the number format overflow; "
                        "evaluate in float32 or use another checkpoint."
                    )
                found[index] = Score(total, greedy and bool(targets.greedy[at]), inner + 1)
            at += 1
    return found


def takes_trees(engine: Engine) -> bool:
    """Whether this model scores trees and prefixes like plain rows; measured once, then known.

    Models whose attention ignores a 4-D mask or position ids (ALiBi, recurrent layers) do not; they
    are scored row by row, more slowly and just as exactly.
    """
    if engine.tree_attention is None:
        engine.tree_attention = _check_trees(engine)
    return engine.tree_attention


def _check_trees(engine: Engine) -> bool:
    vocabulary = engine.model.config.get_text_config().vocab_size
    length = min(CHECK_TOKENS, engine.max_length)
    trunk, cut = length // 2, length // 4
    base = (np.arange(length, dtype=np.int64) * 7919 + 13) % vocabulary
    works = []
    for shift in (0, 5, 11):
        ids = base.copy()
        ids[trunk:] = (ids[trunk:] + shift) % vocabulary
        works.append(Work(ids.astype(np.int32), trunk + 1, {1: [0]}))
    plain = [run_rows(engine, [_single(work)])[0] for work in works]
    tree = Tree(tuple(works))
    try:
        whole = run_rows(engine, [tree_row(tree, 0)])[0]
        prefix = encode_prefix(engine, works[0].ids[:cut])
        hung = run_rows(engine, [tree_row(tree, cut), tree_row(tree, cut)], prefix)[1]
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError):
        return False
    expected = np.concatenate([one.logprobs for one in plain])
    half = engine.model.dtype not in (torch.float32, torch.float64)
    limit = HALF_TOLERANCE_NATS if half else TOLERANCE_NATS
    gaps = (np.abs(whole.logprobs - expected).max(), np.abs(hung.logprobs - expected).max())
    return bool(max(gaps) < limit)


def _single(work: Work) -> Row:
    return tree_row(Tree((work,)), 0)
