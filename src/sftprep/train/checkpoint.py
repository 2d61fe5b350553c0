"""Checkpoints: whole or not there at all, verified before use, refused for another run.

`step-N` holds everything needed to continue bit for bit; `best_validation`, `best_train` and
`latest` hold the model to hand on. The best folders are written before the step that remembers
them, so a kill between the two is repaired by repeating the step.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sftprep.errors import CorruptError, TrainingError
from sftprep.progress import Progress
from sftprep.store.durable import (
    HASH_THREADS,
    Entry,
    commit_folder,
    read_json,
    remove_folder,
    seal,
    sealing,
    sweep_temporary,
    verify_folder,
    write_json,
)
from sftprep.store.versions import newest_sound, numbered_folders, set_aside
from sftprep.train.state import RandomStates, TrainState

CHECKPOINT_VERSION = 2
SHARD_BYTES = 64 << 20
STEP = re.compile(r"step-(\d+)")
BEST_VALIDATION, BEST_TRAIN, LATEST = "best_validation", "best_train", "latest"


@dataclass(frozen=True)
class Tensors:
    """What a step checkpoint holds beside the model folder.

    `weights`: trainable float32 masters, only when the model folder is not an exact copy.
    """

    optimizer: dict[str, Tensor]
    random: tuple[RandomStates, ...]
    weights: dict[str, Tensor] | None


@dataclass(frozen=True)
class Saved:
    """A verified step checkpoint."""

    folder: Path
    state: TrainState
    environment: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """Its Hugging Face folder."""
        return self.folder / "model"

    def tensors(self) -> Tensors:
        """Read the tensors.

        Raises:
            CorruptError: a file is not what its name says.
        """
        try:
            random_tensors = load_file(self.folder / "random.safetensors")
            weights = self.folder / "weights.safetensors"
            values = read_json(self.folder / "state.json")["random"]
            return Tensors(
                _merged(self.folder),
                tuple(
                    RandomStates.rebuild(_of_rank(random_tensors, rank), value)
                    for rank, value in enumerate(values)
                ),
                load_file(weights) if weights.exists() else None,
            )
        except (SafetensorError, KeyError, OSError) as error:
            raise CorruptError(f"{self.folder}: cannot be read ({error}).") from error


def _merged(folder: Path) -> dict[str, Tensor]:
    merged = load_file(folder / "optimizer.safetensors")
    for path in folder.glob("optimizer-*.safetensors"):
        merged |= load_file(path)
    return merged


def _shards(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The optimizer's tensors by file name: files of equal size, each hashed by a thread."""
    total = sum(t.nbytes for t in tensors.values())
    count = min(HASH_THREADS, max(1, total // SHARD_BYTES))
    shards: list[dict[str, Tensor]] = [{} for _ in range(count)]
    before = 0
    for name, tensor in tensors.items():
        shards[min(count - 1, before * count // max(1, total))][name] = tensor
        before += tensor.nbytes
    filled = [shard for shard in shards if shard] or [{"empty": torch.zeros(0)}]
    return {
        "optimizer.safetensors" if number == 0 else f"optimizer-{number}.safetensors": shard
        for number, shard in enumerate(filled)
    }


def _of_rank(table: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    start = f"{rank}/"
    return {name[len(start) :]: t for name, t in table.items() if name.startswith(start)}


def step_folders(root: Path) -> list[tuple[int, Path]]:
    """(step, folder), newest first; order is by step number, never by time."""
    return numbered_folders(root, STEP)


def find_newest(root: Path, identity: Mapping[str, Any], progress: Progress) -> Saved | None:
    """The newest step checkpoint that verifies; damaged ones are set aside and said aloud.

    Returns:
        None when training never saved anything here.
    Raises:
        TrainingError: it belongs to another recipe or other data (with a field-by-field list), or
            every checkpoint is damaged.
    """
    sweep_temporary(root)
    any_saved = bool(step_folders(root))
    saved = newest_sound(root, STEP, _read, progress.line)
    if saved is not None:
        _check_identity(saved.folder, identity)
    elif any_saved:
        raise TrainingError(
            f"{root}: every checkpoint is damaged. Delete the folder to train from the beginning."
        )
    return saved


def _read(folder: Path) -> Saved:
    values = read_json(folder / "state.json")
    if not isinstance(values, dict) or values.get("version") != CHECKPOINT_VERSION:
        raise CorruptError(f"{folder / 'state.json'}: not a state of version {CHECKPOINT_VERSION}.")
    return Saved(folder, TrainState.from_json(values["state"]), values.get("environment", {}))


def _check_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    before = read_json(folder / "state.json")["identity"]
    names = sorted({*before, *identity})
    changed = [
        f"  {name}: {before.get(name)!r} -> {identity.get(name)!r}"
        for name in names
        if before.get(name) != identity.get(name)
    ]
    if changed:
        raise TrainingError(
            f"{folder}: this checkpoint belongs to another run, which cannot be continued:\n"
            + "\n".join(changed)
            + "\nUse the old values, another output.run_dir, or delete the folder "
            + f"{folder.parent}."
        )


def check_best(root: Path, name: str, progress: Progress) -> bool:
    """True when a best folder exists and verifies; otherwise it is set aside and said aloud."""
    folder = root / name
    if not folder.is_dir():
        return False
    try:
        verify_folder(folder)
    except CorruptError as error:
        aside = set_aside(folder)
        progress.line(f"checkpoint {name} is damaged, moved to {aside.name}: {error}")
        return False
    return True


@dataclass(frozen=True)
class SealedModel:
    """A finished model folder, on the device, with the manifest entries of its files."""

    folder: Path
    entries: Mapping[str, Entry]


def save_model_copy(root: Path, name: str, model: SealedModel, note: Mapping[str, Any]) -> None:
    """Commit `name` with a copy of a model folder (hard links where the file system has them)."""
    known: dict[str, Entry] = {}
    with commit_folder(root / name, replace=True, known=known) as temporary:
        known.update(link_model(model, temporary / "model"))
        write_json(temporary / "about.json", {"version": CHECKPOINT_VERSION, **note})


def save_step(
    root: Path,
    model: Callable[[], SealedModel],
    state: TrainState,
    tensors: Tensors,
    *,
    identity: Mapping[str, Any],
    environment: Mapping[str, Any],
    keep: int,
) -> Path:
    """Commit `step-N`, then `latest`, then delete the oldest steps beyond `keep`.

    Args:
        model: gives the model of this very step; it is written while the optimizer's files, the
            largest ones, are being hashed.
    Raises:
        DiskFullError, StoreError: the older checkpoints are untouched.
    """
    final = root / f"step-{state.step}"
    known: dict[str, Entry] = {}
    with (
        commit_folder(final, replace=True, known=known) as temporary,
        sealing(temporary) as finished,
    ):
        sealed = {}
        for name, shard in _shards(tensors.optimizer).items():
            save_file(shard, temporary / name)
            sealed[name] = finished(name)
        written = model()
        known.update(link_model(written, temporary / "model"))
        save_file(
            {
                f"{rank}/{name}": tensor.contiguous()
                for rank, states in enumerate(tensors.random)
                for name, tensor in states.tensors().items()
            },
            temporary / "random.safetensors",
        )
        if tensors.weights is not None:
            save_file(tensors.weights, temporary / "weights.safetensors")
        write_json(
            temporary / "state.json",
            {
                "version": CHECKPOINT_VERSION,
                "identity": dict(identity),
                "environment": dict(environment),
                "state": asdict(state),
                "random": [states.json() for states in tensors.random],
            },
        )
        known.update({name: wait() for name, wait in sealed.items()})
    save_model_copy(root, LATEST, written, {"step": state.step})
    _delete_oldest(root, keep)
    return final


def finish_save(root: Path, saved: Saved, keep: int, progress: Progress) -> None:
    """Do what a kill after the commit of a step left undone: `latest`, and deleting old steps."""
    step = saved.state.step
    if not check_best(root, LATEST, progress) or _step_of(root / LATEST) != step:
        save_model_copy(root, LATEST, SealedModel(saved.model, seal(saved.model)), {"step": step})
    _delete_oldest(root, keep)


def _step_of(folder: Path) -> object:
    about = read_json(folder / "about.json")
    return about.get("step") if isinstance(about, dict) else None


def _delete_oldest(root: Path, keep: int) -> None:
    for _, folder in step_folders(root)[keep:]:
        remove_folder(folder)


def link_model(model: SealedModel, target: Path) -> dict[str, Entry]:
    """Copy a model folder by hard links, or by content where links are not possible.

    Returns:
        Manifest entries, by name below `target`'s parent, of the files that are links.
    """
    linked: dict[str, Entry] = {}
    for name, entry in model.entries.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(model.folder / name, place)
        except OSError:
            shutil.copyfile(model.folder / name, place)
        else:
            linked[f"{target.name}/{name}"] = entry
    return linked
