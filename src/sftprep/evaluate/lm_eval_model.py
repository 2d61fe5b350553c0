"""The engine as a model of lm-evaluation-harness, so that any of its tasks runs on it.

    from lm_eval import simple_evaluate
    simple_evaluate(model=as_lm_eval_model("runs/sft/checkpoints/sft_baseline"), tasks=["arc_easy"])

Needs the optional package: pip install "sftprep[lm-eval]" (lm_eval 0.4.13).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sftprep.errors import EvaluationError, MissingDependencyError
from sftprep.evaluate.engine import Engine, GenerateRequest, ScoreRequest, load_engine, prefix_id
from sftprep.progress import Progress
from sftprep.recipe.sections import ModelSection
from sftprep.stop import StopSignal

DEFAULT_NEW_TOKENS = 256
"""lm-eval's own default (max_gen_toks)."""
_LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def as_lm_eval_model(
    model: Engine | str, progress: Progress | None = None, stop: StopSignal | None = None
) -> Any:
    """An `lm_eval.api.model.TemplateLM` around an engine, or around a model folder or hub id.

    Raises:
        MissingDependencyError: lm_eval is not installed.
        ModelError: the model cannot be loaded.
    """
    try:
        from lm_eval.api.model import TemplateLM
    except ImportError as error:
        raise MissingDependencyError(
            'lm_eval is needed to run its tasks: pip install "sftprep[lm-eval]"'
        ) from error
    engine = load_engine(model, ModelSection(base=model)) if isinstance(model, str) else model
    shown, halt = progress or Progress(), stop or StopSignal()

    class SftprepLM(TemplateLM):  # type: ignore[misc]
        """Scores and writes with sftprep's engine."""

        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = engine.tokenizer

        @property
        def eot_token_id(self) -> int:
            return int(engine.tokenizer.eos_token_id)

        @property
        def prefix_token_id(self) -> int:
            return prefix_id(engine.tokenizer)

        @property
        def tokenizer_name(self) -> str:
            return str(engine.tokenizer.name_or_path).replace("/", "__")

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
        ) -> list[int]:
            if add_special_tokens is None:
                from sftprep.evaluate.encode import encode_texts

                return [int(one) for one in encode_texts(engine.tokenizer, [string])[0]]
            ids = engine.tokenizer.encode(string, add_special_tokens=add_special_tokens)
            return [int(one) for one in ids]

        def loglikelihood(
            self, requests: Sequence[Any], disable_tqdm: bool = False
        ) -> list[tuple[float, bool]]:
            asked = [ScoreRequest(*request.args) for request in requests]
            found = engine.score(asked, shown, halt, "log-likelihoods")
            return [(one.loglikelihood, one.is_greedy) for one in found]

        def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            from sftprep.evaluate.scoring import score_tokens

            pairs = [(context, continuation) for _, context, continuation in requests]
            found = score_tokens(engine, pairs, shown, halt, "log-likelihoods")
            return [(one.loglikelihood, one.is_greedy) for one in found]

        def loglikelihood_rolling(
            self, requests: Sequence[Any], disable_tqdm: bool = False
        ) -> list[float]:
            from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

            windows, owners = [], []
            for number, request in enumerate(requests):
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=engine.max_length,
                    context_len=1,
                ):
                    windows.append((None, *make_disjoint_window(window)))
                    owners.append(number)
            totals = [0.0] * len(requests)
            for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
                totals[owner] += value
            return totals

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            asked = [generate_request(*request.args) for request in requests]
            return [one.text for one in engine.generate(asked, shown, halt, "answers")]

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return str(
                engine.tokenizer.apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )

    return SftprepLM()


def generate_request(prompt: str, settings: Mapping[str, Any]) -> GenerateRequest:
    """lm-eval's generation settings as a request.

    Raises:
        EvaluationError: the task asks for a way of decoding the engine does not have.
    """
    known = {"until", "do_sample", "temperature", "top_p", "seed", *_LENGTH_NAMES}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise EvaluationError(
            f"generation settings {', '.join(unknown)} are not supported. Remove them from the "
            "task's generation_kwargs or run it on lm-eval's own model."
        )
    length = next((settings[n] for n in _LENGTH_NAMES if settings.get(n)), DEFAULT_NEW_TOKENS)
    until = settings.get("until") or ()
    words = (until,) if isinstance(until, str) else tuple(until)
    sampled = bool(settings.get("do_sample", settings.get("temperature", 0)))
    return GenerateRequest(
        prompt,
        int(length),
        stop=tuple(word for word in words if word),
        temperature=float(settings.get("temperature", 1.0)) if sampled else 0.0,
        top_p=float(settings.get("top_p", 1.0)),
        seed=int(settings.get("seed", 0)),
    )
