"""One engine for everything a model is asked: score continuations, or write an answer.

Scoring encodes every shared prefix once (few-shot block, question, primer) and agrees with
lm-evaluation-harness's `hf` backend per request to float noise. Generation is continuous-batched
and agrees with `transformers.generate` token by token in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sftprep.errors import EvaluationError, ModelError
from sftprep.progress import Progress
from sftprep.recipe.sections import ModelSection
from sftprep.records import Message
from sftprep.stop import StopSignal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sftprep.evaluate.perplexity import RowLoss

StopReason = Literal["eos", "stop_string", "length"]
DEFAULT_TOKENS_PER_BATCH = 8192
CPU_TOKENS_PER_BATCH = 1024
CPU_TOKENS_PER_THREAD = 512
"""On a CPU a pass of more tokens only adds padding and cache misses (0.35 s at 1,024 against 0.56 s
at 8,192 tokens for 64 HellaSwag requests, 260 k parameters, one thread)."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """How likely is `continuation` after `context`? Tokenised by lm-eval's rules."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Score:
    """`loglikelihood`: sum over the continuation's tokens, in nats. `is_greedy`: every token was
    the most likely one. `tokens`: number of continuation tokens."""

    loglikelihood: float
    is_greedy: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Continue `prompt` until EOS, a stop string or `max_new_tokens`.

    `add_special_tokens`: let the tokenizer put BOS in front (not when the prompt already starts
    with it); false for prompts rendered by a chat template. `temperature` 0 is greedy; above 0 the
    answer is drawn with `seed`, independent of the batch it runs in.
    """

    prompt: str
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    add_special_tokens: bool = True
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """`text` excludes the stop string and special tokens; `tokens` counts what the model wrote,
    including EOS or the tokens of the stop string."""

    text: str
    tokens: int
    stop: StopReason


Finished = Callable[[int, Generation], None]
"""Called with the number of a request and its answer."""


class Engine:
    """A loaded model with its tokenizer. Holds no results; safe to use for any number of calls.

    Args:
        model: causal language model in evaluation mode on its device.
        tokenizer: the model's tokenizer.
        max_tokens_per_batch: token budget of one forward pass (padding included). Results do not
            depend on it beyond float noise; it is halved by itself when memory runs out.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_tokens_per_batch: int = DEFAULT_TOKENS_PER_BATCH,
    ) -> None:
        self.model: Any = model.eval()
        self.tokenizer: Any = tokenizer
        self.max_tokens_per_batch = max_tokens_per_batch
        self.max_length = context_length(model.config, tokenizer)
        self.eos_ids = stop_ids(model, tokenizer)
        self.tree_attention: bool | None = None
        """Whether the model takes a tree mask: measured on first use, see `rows.check_tree`."""

    @property
    def tokens_per_pass(self) -> int:
        """The token budget that is really used: smaller on a CPU."""
        if self.model.device.type != "cpu":
            return self.max_tokens_per_batch
        import torch

        useful = max(CPU_TOKENS_PER_BATCH, CPU_TOKENS_PER_THREAD * torch.get_num_threads())
        return min(self.max_tokens_per_batch, useful)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress, stop: StopSignal, label: str
    ) -> list[Score]:
        """Log-likelihood of every continuation, in the order of the requests.

        Raises:
            EvaluationError: a score is NaN or infinite, or a continuation is empty or longer than
                the model's context; the message names the request.
            Interrupted: a stop was requested.
        """
        from sftprep.evaluate.scoring import score

        return score(self, requests, progress, stop, label)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        progress: Progress,
        stop: StopSignal,
        label: str,
        finished: Finished | None = None,
    ) -> list[Generation]:
        """Answers, in the order of the requests; `finished` hears of each as soon as it is done.

        A prompt that leaves no room for `max_new_tokens` is cut from the left, to half the context
        at most; what then still does not fit is taken from `max_new_tokens`. Penalties that a
        generation_config.json may list are not applied.

        Raises:
            EvaluationError: the model produced NaN, or one row alone does not fit in memory.
            Interrupted: a stop was requested.
        """
        from sftprep.evaluate.generation import generate

        return generate(self, requests, progress, stop, label, finished=finished)

    def losses(
        self,
        conversations: Sequence[Sequence[Message]],
        progress: Progress,
        stop: StopSignal,
        label: str,
        train_on: str = "responses",
    ) -> list["RowLoss"]:
        """NLL of every conversation's supervised tokens, in the given order.

        Raises:
            EvaluationError: a conversation is longer than the model's context, or its NLL is not
                finite; the message names it.
            Interrupted: a stop was requested.
        """
        from sftprep.evaluate.perplexity import row_losses

        return row_losses(self, conversations, progress, stop, label, train_on)


def load_engine(
    ref: str, section: ModelSection, *, max_tokens_per_batch: int = DEFAULT_TOKENS_PER_BATCH
) -> Engine:
    """Load model and tokenizer from a folder or hub id onto the best device.

    The tokenizer (with the recipe's chat template) comes from `ref` itself unless `ref` is the base
    model and the recipe names another tokenizer. bfloat16 on a GPU, float32 on a CPU.

    Raises:
        ModelError: the model or tokenizer cannot be loaded.
    """
    import torch

    from sftprep.data.render import turn_end_ids
    from sftprep.data.tokenizer import load_tokenizer
    from sftprep.model.load import fit_vocabulary, load_model, pick_device

    is_base = ref == section.base
    own = section.model_copy(
        update={
            "base": ref,
            "revision": section.revision if is_base else None,
            "tokenizer": section.tokenizer if is_base else None,
        }
    )
    device = pick_device()
    model = load_model(
        ref,
        revision=own.revision,
        device=device,
        dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
        trust_remote_code=section.trust_remote_code,
    )
    tokenizer = load_tokenizer(own)
    fit_vocabulary(model, tokenizer, ref)  # a base model meets tokens that training will add
    engine = Engine(model, tokenizer, max_tokens_per_batch=max_tokens_per_batch)
    engine.eos_ids |= frozenset(turn_end_ids(engine.tokenizer))
    return engine


def context_length(config: Any, tokenizer: Any) -> int:
    """Tokens the model can see at once: from its config, else the tokenizer, else 2048."""
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    limit = getattr(tokenizer, "model_max_length", None)
    return limit if isinstance(limit, int) and 0 < limit < 1 << 24 else 2048


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Token ids that end an answer: those of generation_config and the tokenizer's EOS.

    Raises:
        ModelError: there is none, so no answer could ever end by itself.
    """
    return stop_ids_of(getattr(model, "generation_config", None), tokenizer)


def stop_ids_of(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """The same, from a generation configuration (None: only the tokenizer says)."""
    listed = getattr(generation_config, "eos_token_id", None)
    ids = set(listed) if isinstance(listed, list | tuple) else {listed}
    ids.add(tokenizer.eos_token_id)
    found = frozenset(int(one) for one in ids if one is not None)
    if not found:
        raise ModelError(
            f"{tokenizer.name_or_path}: neither generation_config.json nor the tokenizer names an "
            "end-of-text token. Set eos_token in tokenizer_config.json."
        )
    return found


def prefix_id(tokenizer: Any) -> int:
    """The token that stands for an empty context: BOS, else EOS.

    Raises:
        EvaluationError: the tokenizer has neither.
    """
    for one in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if one is not None:
            return int(one)
    raise EvaluationError(
        f"{tokenizer.name_or_path}: the tokenizer has neither a BOS nor an EOS token, so an empty "
        "context cannot be scored. Set bos_token or eos_token in tokenizer_config.json."
    )
