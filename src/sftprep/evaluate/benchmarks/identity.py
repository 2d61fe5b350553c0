"""Which model is this? Hashes of weights, tokenizer and chat template."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftprep.errors import ModelError
from sftprep.recipe.sections import ModelSection
from sftprep.store.durable import MANIFEST, read_json, sha256_file
from sftprep.store.fingerprint import hash_text

if TYPE_CHECKING:
    from sftprep.evaluate.engine import Engine


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Hex sha256 of what decides a model's answers."""

    weights: str
    tokenizer: str
    template: str

    def hashes(self) -> dict[str, str]:
        """As they stand in `Metric.hashes`."""
        return {
            "weights": self.weights, "tokenizer": self.tokenizer, "chat_template": self.template,
        }  # fmt: skip


def _recorded(folder: Path) -> dict[str, str]:
    """sha256 by file name from the manifest of this folder or of the checkpoint around it."""
    for place, prefix in ((folder, ""), (folder.parent, f"{folder.name}/")):
        if (place / MANIFEST).is_file():
            files = read_json(place / MANIFEST)["files"]
            return {
                name.removeprefix(prefix): entry["sha256"]
                for name, entry in files.items()
                if name.startswith(prefix)
            }
    return {}


def hash_weights(folder: Path) -> str | None:
    """sha256 over names and hashes of the safetensors files; None when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    known = _recorded(folder)
    pairs = [(path.name, known.get(path.name) or sha256_file(path)) for path in files]
    return pairs[0][1] if len(pairs) == 1 else hash_text(json.dumps(pairs))


def local_folder(ref: str, revision: str | None) -> Path | None:
    """The folder of a model: itself, or the hub's cache; None when not on this machine yet."""
    if Path(ref).is_dir():
        return Path(ref)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(ref, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def hash_loaded(model: Any) -> str:
    """sha256 over names and bytes of a loaded model's weights, for weights not in safetensors."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_tokenizer(tokenizer: Any) -> str:
    """sha256 over vocabulary, merges, normaliser and special tokens.

    Raises:
        ModelError: it is not a tokenizer of the tokenizers library.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{tokenizer.name_or_path}: needs a tokenizer.json. Convert the tokenizer."
        )
    special = {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())}
    return hash_text(backend.to_str() + json.dumps(special, sort_keys=True))


def own_section(ref: str, section: ModelSection) -> ModelSection:
    """The model section under which `ref` is loaded, as `load_engine` reads it."""
    if ref == section.base:
        return section
    return section.model_copy(update={"base": ref, "revision": None, "tokenizer": None})


def identify(
    ref: str, section: ModelSection, engine: "Engine | None" = None
) -> ModelIdentity | None:
    """Hashes of a model, without loading its weights where its files are at hand.

    Returns None when only the loaded model can tell and `engine` is not given.
    """
    from sftprep.data.tokenizer import load_tokenizer

    own = own_section(ref, section)
    folder = local_folder(ref, own.revision)
    weights = hash_weights(folder) if folder is not None else None
    if weights is None:
        if engine is None:
            return None
        weights = hash_loaded(engine.model)
    tokenizer = load_tokenizer(own) if engine is None else engine.tokenizer
    template = str(tokenizer.chat_template or "")
    return ModelIdentity(weights, hash_tokenizer(tokenizer), hash_text(template))
