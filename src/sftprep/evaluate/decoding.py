"""From next-token scores to tokens, and the plain path for models without usable position ids."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sftprep.errors import EvaluationError
from sftprep.evaluate.engine import Engine
from sftprep.evaluate.writing import Reader, Writing
from sftprep.progress import show


def choose(logits_BV: Tensor, rows: Sequence[Writing]) -> list[int]:
    """The next token of each row: the most likely one, or drawn when a temperature is set.

    Raises:
        EvaluationError: a row's best score is NaN or infinite; never silently a token.
    """
    best = logits_BV.max(dim=-1)
    tokens: list[int] = best.indices.tolist()
    for row, fine in enumerate(torch.isfinite(best.values).tolist()):
        if not fine:
            start = show(repr(rows[row].request.prompt[:60]))
            raise EvaluationError(
                f"prompt {rows[row].number} ({start}): the model's next-token scores are not "
                "finite. The weights or the number format overflow; evaluate in float32 or use "
                "another checkpoint."
            )
        if rows[row].request.temperature > 0:
            tokens[row] = draw(logits_BV[row], rows[row])
    return tokens


def draw(logits_V: Tensor, one: Writing) -> int:
    """Sample one token with the row's own random numbers (temperature, then nucleus `top_p`)."""
    scaled_V = logits_V.double() / one.request.temperature
    shares, order = torch.softmax(scaled_V, dim=-1).sort(descending=True)
    sums = shares.cumsum(0)
    kept = int((sums < one.request.top_p).sum()) + 1
    point = one.draws.random() * float(sums[min(kept, len(sums)) - 1])
    return int(order[min(int((sums <= point).sum()), kept - 1, len(sums) - 1)])


def write_singly(
    engine: Engine, waiting: list[Writing], reader: Reader, check: Callable[[], None]
) -> None:
    """One answer at a time through the model's own cache: slow, and right for any architecture."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    for one in waiting:
        check()
        ended: list[bool] = []

        def pick(ids: Tensor, logits_BV: Tensor, one: Writing = one) -> Tensor:
            token = choose(logits_BV, [one])[0]
            forced = torch.full_like(logits_BV, -torch.inf)
            forced[:, token] = 0.0
            return forced

        def ends(ids: Tensor, logits: Any, one: Writing = one, ended: list[bool] = ended) -> Any:
            ended.append(reader.accept(one, int(ids[0, -1])))
            check()
            return torch.tensor([ended[-1]], device=ids.device)

        engine.model.generate(
            torch.from_numpy(one.ids.astype("int64"))[None].to(engine.model.device),
            do_sample=False,
            max_new_tokens=one.limit,
            logits_processor=LogitsProcessorList([pick]),
            stopping_criteria=StoppingCriteriaList([ends]),
        )
