"""A tokenizer comes with a model: its replacement rules may make gigabytes of one letter."""

import json
from typing import Any

from sftprep.errors import ModelError

MAX_GROWTH = 1000  # Llama's rules: 4, the starter model's: 1


def check_growth(backend: Any, where: str) -> None:
    """Look at the rules that rewrite text before and after tokenising.

    Args:
        backend: a `tokenizers.Tokenizer`.
        where: the model, for the message.
    Raises:
        ModelError: one character could become more than 1,000.
    """
    for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder):
        if part is not None and (most := growth(json.loads(part.__getstate__()))) > MAX_GROWTH:
            raise ModelError(
                f"{where}: the tokenizer may turn one character into {most:,}. Do not trust this "
                "model, or set model.tokenizer to another one."
            )


def growth(rule: Any) -> int:
    """The most characters that one may become, by the rule's type in tokenizer.json."""
    if not isinstance(rule, dict):
        return 1
    most = 1
    for below in rule.values():
        if isinstance(below, list):  # a sequence: each rule gets what the one before made
            for one in below:
                most *= growth(one)
    if rule.get("type") == "Replace":
        most *= 1 + len(rule["content"])  # a pattern may match the empty text before a character
    elif rule.get("type") == "Prepend":
        most *= 1 + len(rule["prepend"])
    return most
