"""Facts about a base model from its small files and safetensors headers; weights are not loaded."""

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sftprep.errors import ModelError, SftprepError
from sftprep.files import refuse_special
from sftprep.model.headers import Weights, read_json_file, read_weights
from sftprep.model.hub import Hub, hub_errors, offline
from sftprep.model.licences import licence_in
from sftprep.model.shape import TRAITS, ModelShape, shape_of

# Everything that describes a model, without its weights.
SMALL_FILES = (
    "config.json", "*.safetensors.index.json", "tokenizer*", "chat_template*", "README.md",
    "LICENSE*", "generation_config.json",
)  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known about a model. None means not stated or not found out.

    `parameters_from`: safetensors header, hub, catalogue or config.json (formula). `weight_bytes`
    is the size on disk. `tokenizer` is the algorithm (BPE, Unigram, WordPiece). `remote_code`: it
    can only be loaded by running Python code that ships with it. `released`: YYYY-MM.
    """

    ref: str
    folder: str | None
    architecture: str
    model_type: str
    parameters: int | None
    parameters_from: str
    shape: ModelShape | None
    context: int | None
    dtype: str | None
    weight_bytes: int | None
    chat_template: bool
    tokenizer: str | None
    licence: str | None
    remote_code: bool
    gated: bool | None = None
    released: str | None = None
    notes: tuple[str, ...] = ()


def describe_model(ref: str, revision: str | None = None) -> ModelFacts:
    """Describe a folder or a hub id.

    A hub id is answered from the local cache when it is there, else its small files are fetched.

    Raises:
        ModelError: not a model, malformed files, not found, gated, or offline; with advice.
    """
    if Path(ref).is_dir():
        return describe_folder(Path(ref), ref)
    if _is_path(ref):
        raise ModelError(f"{ref}: no such folder. Correct the path, or give a hub id.")
    folder = _hub_folder(ref, revision)
    facts = describe_folder(folder, ref, weights_needed=False)
    if facts.parameters_from != "safetensors header":
        total = _hub_parameters(ref)
        if total is not None:
            facts = replace(facts, parameters=total, parameters_from="hub")
    return facts


def describe_folder(folder: Path, ref: str, *, weights_needed: bool = True) -> ModelFacts:
    """Describe a model folder; `ref` is how the user names it.

    Raises:
        ModelError: a needed file is missing or malformed, or the folder holds a pipe or device.
    """
    refuse_special(folder)
    config = _config(folder)
    text = config.get("text_config")
    core = {**config, **text} if isinstance(text, dict) else config
    model_type = str(core.get("model_type", "unknown"))
    shape, notes = _shape(core, model_type)
    weights = _weights(folder) if weights_needed else _weights_if_there(folder)
    tied = shape.tied if shape else bool(core.get("tie_word_embeddings", False))
    parameters = weights.parameters(tied=tied) if weights else shape.parameters if shape else None
    if weights is None and any(folder.glob("pytorch_model*.bin")):
        notes += ("the weights are a pickle; the count follows from config.json",)
    if weights and shape and model_type in TRAITS and shape.parameters != parameters:
        notes += (f"config.json implies {shape.parameters:,} weights, stored: {parameters:,}",)
    architectures = config.get("architectures") or [model_type]
    return ModelFacts(
        ref=ref,
        folder=str(folder),
        architecture=str(architectures[0]),
        model_type=model_type,
        parameters=parameters,
        parameters_from="safetensors header" if weights else "config.json (formula)",
        shape=shape,
        context=_context(core),
        dtype=weights.dtype if weights else _dtype(core),
        weight_bytes=weights.bytes if weights else None,
        chat_template=_has_chat_template(folder),
        tokenizer=_tokenizer_kind(folder),
        licence=_licence(folder),
        remote_code="auto_map" in config and not native_support(model_type),
        notes=notes,
    )


def parameters_of(ref: str) -> int | None:
    """Number of parameters of a folder or hub id, or None when it cannot be found out quickly.

    Looks in the folder, the catalogue, the local hub cache, then asks the hub once (a few seconds
    at most). Never raises: the models stage explains what is wrong with a model.
    """
    from sftprep.model.catalogue import find_model

    row = find_model(ref)
    if row is not None:
        return row.parameters
    try:
        if Path(ref).is_dir():
            return describe_folder(Path(ref), ref).parameters
        if _is_path(ref):
            return None
        folder = _cached_folder(ref, None)
        found = describe_folder(folder, ref, weights_needed=False).parameters if folder else None
    except (SftprepError, OSError):
        return None
    return found or _hub_parameters(ref)


def native_support(model_type: str) -> bool:
    """True when the installed transformers has this architecture (nothing is imported)."""
    spec = find_spec("transformers")
    places = spec.submodule_search_locations if spec else None
    names = {model_type, model_type.removesuffix("_text")}
    return any((Path(p) / "models" / name).is_dir() for p in places or () for name in names)


def _is_path(ref: str) -> bool:
    return ref.startswith(("/", ".", "~")) or HUB_ID.fullmatch(ref) is None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        held = sorted(p.name for p in folder.iterdir())[:5]
        hint = f"it holds {', '.join(held)}" if held else "it is empty"
        if (folder / "adapter_config.json").is_file():
            hint = "it is a LoRA adapter: merge it into its base model first"
        raise ModelError(f"{folder}: not a model folder: no config.json ({hint}).")
    config = read_json_file(path)
    if "model_type" not in config and not config.get("architectures"):
        raise ModelError(f"{path}: neither model_type nor architectures: not a model's config.")
    architectures = config.get("architectures")
    if architectures is not None and not (isinstance(architectures, list)):
        raise ModelError(f"{path}: architectures is {architectures!r}, expected a list.")
    return config


def _shape(core: dict[str, Any], model_type: str) -> tuple[ModelShape | None, tuple[str, ...]]:
    try:
        shape = shape_of(core)
    except ModelError:
        if model_type in TRAITS:
            raise
        return None, (f"model type '{model_type}' has an unknown layout; sizes are not read",)
    if model_type in TRAITS:
        return shape, ()
    return shape, (f"model type '{model_type}' is read as Llama-like",)


def _weights(folder: Path) -> Weights | None:
    weights = read_weights(folder)
    if weights is None and not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{folder}: no weights: neither model.safetensors nor model.safetensors.index.json. "
            "Give a folder that holds them."
        )
    return weights


def _weights_if_there(folder: Path) -> Weights | None:
    """A hub cache may hold the index without the shards; then there is nothing to read."""
    try:
        return read_weights(folder)
    except ModelError as error:
        if "are missing" in str(error):
            return None
        raise


def _context(core: dict[str, Any]) -> int | None:
    for key in ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"):
        value = core.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _dtype(core: dict[str, Any]) -> str | None:
    value = core.get("dtype") or core.get("torch_dtype")
    return str(value) if value else None


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(read_json_file(path).get("chat_template"))


def _tokenizer_kind(folder: Path) -> str | None:
    path = folder / "tokenizer.json"
    if path.is_file():
        model = read_json_file(path).get("model")
        kind = model.get("type") if isinstance(model, dict) else None
        return str(kind) if kind else "BPE"
    if (folder / "tokenizer.model").is_file():
        return "SentencePiece"
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return "BPE"
    return None


def _licence(folder: Path) -> str | None:
    """The README's front matter, else what a LICENSE file begins with."""
    readme = folder / "README.md"
    if readme.is_file():
        front = _front_matter(_beginning(readme))
        stated = front.get("license")
        if stated == "other":
            stated = front.get("license_name", stated)
        if stated:
            return stated.lower()
    for path in sorted(folder.glob("LICEN[CS]E*")):
        found = licence_in(_beginning(path)) if path.is_file() else None
        if found:
            return found
    return None


def _beginning(path: Path) -> str:
    with path.open("rb") as handle:
        return handle.read(64 << 10).decode("utf-8", "replace")


def _front_matter(text: str) -> dict[str, str]:
    """Top-level `key: value` lines of a README's YAML block; lists give their first item."""
    match = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
    if match is None:
        return {}
    found = re.findall(r"^(\w+):[ \t]*(?:\n[ \t]*-[ \t]*)?(.*)$", match[1], re.MULTILINE)
    return {key: value.strip().strip("\"'[]") for key, value in found}


def _hub_folder(ref: str, revision: str | None) -> Path:
    folder = _cached_folder(ref, revision)
    if folder is not None and (folder / "config.json").is_file():
        return folder
    advice = "Download it on a machine with access and give its folder as model.base."
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ModelError(f"{ref}: huggingface_hub is not installed. {advice}") from error
    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=list(SMALL_FILES)))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{ref}: gated: accept its licence on https://huggingface.co/{ref} and log in with "
            "`hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{ref}: neither a folder here nor a model on the hub (or it is private). "
            "Correct the name, or log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{ref}: no revision '{revision}'. Correct model.revision.") from error
    except hub_errors() as error:
        why = "HF_HUB_OFFLINE is set" if offline() else "the hub cannot be reached"
        raise ModelError(
            f"{ref}: not a folder here, not in the local cache, and {why}. {advice}"
        ) from error


def _cached_folder(ref: str, revision: str | None) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(ref, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def _hub_parameters(ref: str) -> int | None:
    """The count the hub states for a model; None offline or when it states none."""
    page = Hub().facts(ref)
    return page.parameters if page else None
