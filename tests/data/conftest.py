"""A tokenizer of single bytes, and short ways to run the data stage."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sftprep.data.prepare import prepare
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import DataReport
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder

MakeRecipe = Callable[..., Recipe]
Prepare = Callable[..., tuple[DataReport, RunFolder]]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One token per byte, `<s>` and `</s>`: token counts can be worked out by hand."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>", "<unk>"])
    folder = tmp_path_factory.mktemp("tokenizer")
    core.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def recipe_for(tokenizer_folder: Path) -> MakeRecipe:
    """A recipe over the given files; keyword arguments go to the data section."""

    def make(
        *paths: Path | Mapping[str, Any],
        max_length: int = 4096,
        benchmarks: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> Recipe:
        sources = [str(p) if isinstance(p, Path) else dict(p) for p in paths]
        data.setdefault("minimum_rows", 0)
        return Recipe.model_validate(
            {
                "model": {"base": str(tokenizer_folder)},
                "data": {"sources": sources, **data},
                "training": {"max_length": max_length},
                "benchmarks": benchmarks or {"tasks": []},
            }
        )

    return make


@pytest.fixture
def run_data(recipe_for: MakeRecipe, tmp_path: Path) -> Prepare:
    """Prepare the given files in a fresh run folder; returns the report and the folder."""
    used = iter(range(1000))

    def go(*paths: Path | Mapping[str, Any], **options: Any) -> tuple[DataReport, RunFolder]:
        run = RunFolder(tmp_path / f"run{next(used)}")
        recipe = recipe_for(*paths, **options)
        return prepare(recipe, run, Progress(quiet=True), StopSignal()), run

    return go
