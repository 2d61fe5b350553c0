"""Tokenizers: read once, with a pad token and a chat template that travel with the checkpoint."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftprep.data.templateguard import check_template
from sftprep.data.tokenizerguard import check_growth
from sftprep.errors import ModelError
from sftprep.files import refuse_special
from sftprep.recipe.sections import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUILT_IN_TEMPLATES = ("plain", "chatml")
MAX_TEMPLATE_BYTES = 64 * 1024
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


@cache
def built_in_template(name: str) -> str:
    """The Jinja text of a template that ships with sftprep (`plain` or `chatml`)."""
    folder = files("sftprep.data") / "templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def load_tokenizer(section: ModelSection) -> "PreTrainedTokenizerBase":
    """Read the tokenizer of a model section and make it ready for training.

    A folder is read without the network. The pad token, where missing, becomes the unknown token, a
    reserved one, or as a last resort the end token; labels come from masks, never from `== pad`.

    Raises:
        ModelError: not readable, no end-of-sequence token, no offsets, or an unusable template.
    """
    ref = section.tokenizer or section.base
    tokenizer = _read(ref, section)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{ref}: this tokenizer gives no character offsets, which the loss mask needs. "
            "Use one with a tokenizer.json (model.tokenizer: FOLDER)."
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{ref}: the tokenizer has no end-of-sequence token: a trained model could not stop. "
            "Set eos_token in tokenizer_config.json."
        )
    check_growth(backend, ref)
    backend.no_truncation()
    backend.no_padding()
    tokenizer.chat_template = _template(section.chat_template, tokenizer, ref)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _pad_token(tokenizer)
    return tokenizer


def _read(ref: str, section: ModelSection) -> Any:
    from transformers import AutoTokenizer

    is_folder = Path(ref).is_dir()
    if not is_folder and ref.startswith(("/", "./", "../", "~")):
        raise ModelError(f"{ref}: no such folder. Correct model.tokenizer or model.base.")
    if is_folder:
        refuse_special(Path(ref))
    try:
        return AutoTokenizer.from_pretrained(
            ref,
            revision=None if is_folder else section.revision,
            trust_remote_code=section.trust_remote_code,
            local_files_only=is_folder,
        )
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ModelError(
            f"{ref}: the tokenizer cannot be read ({_first_line(error)}). A folder needs "
            "tokenizer.json and tokenizer_config.json; a hub id needs the network or its cache."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _pad_token(tokenizer: Any) -> str:
    special = {
        str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special
    }
    taken = {tokenizer.eos_token, tokenizer.bos_token, *CHATML_TOKENS}
    if tokenizer.unk_token is not None and tokenizer.unk_token not in taken:
        return str(tokenizer.unk_token)
    spare = sorted(t for t in special - taken if "pad" in t.lower() or "reserved" in t.lower())
    return spare[0] if spare else str(tokenizer.eos_token)


def _template(choice: str, tokenizer: Any, ref: str) -> str:
    if choice == "auto":
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        return _checked_size(own, ref) if own else built_in_template("plain")
    if choice == "chatml":
        known = tokenizer.get_vocab()
        missing = [token for token in CHATML_TOKENS if token not in known]
        if missing:
            raise ModelError(
                f"{ref}: model.chat_template: chatml needs the token {missing[0]}, which this "
                "tokenizer does not have. Use chat_template: plain."
            )
    if choice in BUILT_IN_TEMPLATES:
        return built_in_template(choice)
    path = Path(choice)
    if not path.is_file():
        raise ModelError(
            f"model.chat_template: {choice!r} is neither auto, plain, chatml nor a file. "
            "Give one of these names or the path of a Jinja file."
        )
    try:
        return _checked_size(path.read_text(encoding="utf-8"), choice)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{choice}: the chat template cannot be read ({error}).") from error


def _checked_size(template: object, where: str) -> str:
    if not isinstance(template, str):
        raise ModelError(f"{where}: the chat template is no text. Use model.chat_template: plain.")
    size = len(template.encode("utf-8"))
    if size > MAX_TEMPLATE_BYTES:
        raise ModelError(
            f"{where}: the chat template has {size} bytes, more than {MAX_TEMPLATE_BYTES}. "
            "Use model.chat_template: plain."
        )
    check_template(template, where)
    return template
