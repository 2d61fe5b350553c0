"""The class lm-evaluation-harness talks to. Imported only when lm_eval is installed.

Written for lm_eval 0.4.13 (`lm_eval.api.model.TemplateLM`); ask for it with
`lm_eval_model.as_lm_eval_model`, which says clearly what is missing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from sftprep.evaluate.encode import encode_texts
from sftprep.evaluate.engine import (
    DEFAULT_TOKENS_PER_BATCH,
    Engine,
    ScoreRequest,
    load_engine,
    prefix_id,
)
from sftprep.evaluate.lm_eval_model import generate_request
from sftprep.evaluate.scoring import score_tokens
from sftprep.evaluate.writing import spelled_end
from sftprep.progress import Progress
from sftprep.recipe.sections import ModelSection
from sftprep.stop import StopSignal

Scored = list[tuple[float, bool]]


class SftprepLM(TemplateLM):  # type: ignore[misc]
    """Scores and writes with sftprep's engine.

    Args:
        pretrained: model folder or hub id, or an engine.
        batch_size, max_batch_size, device: accepted because lm-eval always passes them (`cuda:0`
            even on a machine without one); without effect, as the engine packs passes by tokens
            (`max_tokens_per_batch`) and takes a GPU when there is one.
    """

    def __init__(
        self,
        pretrained: Engine | str,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_tokens_per_batch: int = DEFAULT_TOKENS_PER_BATCH,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: str | None = None,
        progress: Progress | None = None,
        stop: StopSignal | None = None,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, str):
            section = ModelSection(
                base=pretrained, revision=revision, trust_remote_code=trust_remote_code
            )
            budget = int(max_tokens_per_batch)
            pretrained = load_engine(pretrained, section, max_tokens_per_batch=budget)
        self.engine = pretrained
        self.tokenizer = pretrained.tokenizer
        self.shown, self.halt = progress or Progress(), stop or StopSignal()

    @property
    def eot_token_id(self) -> int:
        """End-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context."""
        return prefix_id(self.tokenizer)

    @property
    def max_length(self) -> int:
        """Tokens the model sees at once."""
        return self.engine.max_length

    @property
    def tokenizer_name(self) -> str:
        """Part of lm-eval's cache keys."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids, by default with BOS unless the text starts with it."""
        if add_special_tokens is None:
            return [int(one) for one in encode_texts(self.tokenizer, [string])[0]]
        ids = self.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        return [int(one) for one in ids]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Scored:
        """(log-likelihood, is greedy) per request."""
        asked = [ScoreRequest(*request.args) for request in requests]
        found = self.engine.score(asked, self.shown, self.halt, "log-likelihoods")
        return [(one.loglikelihood, one.is_greedy) for one in found]

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> Scored:
        pairs = [(context, continuation) for _, context, continuation in requests]
        found = score_tokens(self.engine, pairs, self.shown, self.halt, "log-likelihoods")
        return [(one.loglikelihood, one.is_greedy) for one in found]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of whole texts, in lm-eval's windows."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += value
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers up to their stop strings."""
        ends = spelled_end(self.tokenizer)
        asked = [generate_request(*request.args) for request in requests]
        asked = [replace(one, stop=(*one.stop, *ends)) for one in asked]
        return [one.text for one in self.engine.generate(asked, self.shown, self.halt, "answers")]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The talk as the model reads it."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )
