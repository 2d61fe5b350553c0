"""How well a base model already predicts the user's responses: bits per byte on a small sample.

Bits per byte, not perplexity, because candidates have different tokenizers.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftprep.errors import ModelError
from sftprep.model.describe import ModelFacts
from sftprep.model.hardware import Hardware
from sftprep.model.headers import read_json_file
from sftprep.model.sample import as_text
from sftprep.progress import Progress
from sftprep.stop import StopSignal

SAMPLE = 24
MAX_TOKENS = 256
# A measurement must not cost more than a look: larger models are left out, and that is said.
MAX_SECONDS = 60.0
MEMORY_SHARE = 0.5


def why_not_measured(facts: ModelFacts, hardware: Hardware) -> str | None:
    """The reason a model is not measured here, or None when it is."""
    if facts.folder is None or facts.weight_bytes is None:
        return "its weights are not on this machine"
    if not hardware.detected:
        return f"planning for {hardware.device}, not for this machine"
    if facts.remote_code:
        return "it needs Python code of its author to run"
    if not (Path(facts.folder) / "tokenizer.json").is_file():
        return "it has no tokenizer.json"
    parameters = facts.parameters or 0
    if 4 * parameters > MEMORY_SHARE * hardware.memory_bytes:
        return "it is too large to load beside other work"
    if 2 * parameters * SAMPLE * MAX_TOKENS / hardware.fp32_rate > MAX_SECONDS:
        return f"it would take more than {MAX_SECONDS:.0f} seconds"
    return None


def bits_per_byte(
    facts: ModelFacts, pairs: Sequence[tuple[str, str]], progress: Progress, stop: StopSignal
) -> float:
    """Bits the model needs per byte of the responses, given their prompts.

    Reads at most SAMPLE rows spread over `pairs`, MAX_TOKENS tokens of each.

    Raises:
        ModelError: the model cannot be loaded, or no response fits.
    """
    from tokenizers import Tokenizer

    from sftprep.model.load import load_model

    assert facts.folder is not None
    model = load_model(facts.folder)
    tokenizer = Tokenizer.from_file(str(Path(facts.folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    start_id = read_json_file(Path(facts.folder) / "config.json").get("bos_token_id")
    longest = min(MAX_TOKENS, facts.context or MAX_TOKENS)
    chosen = pairs[:: max(1, len(pairs) // SAMPLE)][:SAMPLE]
    nats, size = 0.0, 0
    with progress.task(f"bits per byte of {facts.ref}", len(chosen), "rows") as task:
        for prompt, response in chosen:
            stop.check("measuring candidates")
            row = _encode(tokenizer, start_id, prompt, response, longest)
            if row is not None:
                ids, first, covered = row
                nats += _nll(model, ids, first)
                size += covered
            task.advance()
    if size == 0:
        raise ModelError(f"{facts.ref}: no response begins within {longest} tokens of its row.")
    return nats / math.log(2) / size


def _encode(
    tokenizer: Any, start_id: object, prompt: str, response: str, longest: int
) -> tuple[list[int], int, int] | None:
    """Ids, the index of the first token of the response, and the response bytes they cover."""
    text = as_text(prompt, response)
    begin = len(text) - len(response)
    encoded = tokenizer.encode(text, add_special_tokens=False)
    start = [start_id] if isinstance(start_id, int) else []
    ids = (start + encoded.ids)[:longest]
    ends = [end for _, end in encoded.offsets[: len(ids) - len(start)]]
    first = next((i for i, end in enumerate(ends) if end > begin), None)
    if first is None or first + len(start) == 0:
        return None
    return ids, first + len(start), len(text[begin : ends[-1]].encode("utf-8"))


def _nll(model: Any, ids: list[int], first: int) -> float:
    """Nats of the tokens from index `first` on."""
    import torch

    with torch.inference_mode():
        row = torch.tensor([ids])
        logits = model(input_ids=row, use_cache=False).logits[0, first - 1 : -1].float()
        return float(torch.nn.functional.cross_entropy(logits, row[0, first:], reduction="sum"))
