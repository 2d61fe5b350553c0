"""The rooms import one way, and what needs no tensors never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "sftprep"

FOUNDATION = {"errors", "records", "progress", "files", "stop"}
VERDICT = {"gate", "diagnose", "comparison", "report"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "progress": set(),
    "files": {"errors"},
    "stop": {"errors"},
    "recipe": {"errors", "records", "files"},
    "store": {"errors", "records", "files"},
    "data": FOUNDATION | {"recipe", "store"},
    "model": FOUNDATION | {"recipe", "store", "data"},
    "train": FOUNDATION | {"recipe", "store", "data", "model"},
    "evaluate": FOUNDATION | {"recipe", "store", "data", "model"},
    "gate": FOUNDATION | {"recipe", "store"} | VERDICT,
    "diagnose": FOUNDATION | {"recipe", "store"} | VERDICT,
    "comparison": FOUNDATION | {"recipe", "store"} | VERDICT,
    "report": FOUNDATION | {"recipe", "store"} | VERDICT,
    "starter": {"errors", "records"},
}
TORCH_ROOMS = {"model", "train", "evaluate"}
EVERYTHING = {"pipeline", "cli", "__init__", "__main__"}


def room_of(path: Path) -> str:
    """First part of the path below the package, without suffix."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Dotted names of every module a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wrong_imports(path: Path) -> list[str]:
    """Imports that the table does not allow."""
    room = room_of(path)
    if room in EVERYTHING:
        return []
    wrong = []
    for name in imports_of(path):
        first, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if first == "sftprep" and target and target not in MAY_IMPORT[room] | {room, "__version__"}:
            wrong.append(name)
        if first == "torch" and room not in TORCH_ROOMS:
            wrong.append(name)
    return sorted(wrong)


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_each_file_imports_only_what_its_room_may(path: Path) -> None:
    assert wrong_imports(path) == []


def test_the_import_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    bad = SOURCE / "gate.py"
    probe = tmp_path / "probe.py"
    probe.write_text("import torch\nfrom sftprep.train.loop import train\n", encoding="utf-8")
    assert imports_of(probe) == {"torch", "sftprep.train.loop", "sftprep.train.loop.train"}
    assert "train" not in MAY_IMPORT[room_of(bad)]


MODULES_WITHOUT_TORCH = (
    "sftprep.cli",
    "sftprep.recipe",
    "sftprep.store.run",
    "sftprep.data.prepare",
    "sftprep.gate",
    "sftprep.diagnose",
    "sftprep.comparison",
    "sftprep.report",
    "sftprep.pipeline.runner",
    "sftprep.starter",
    "sftprep.model.describe",
)


@pytest.mark.parametrize("module", MODULES_WITHOUT_TORCH)
def test_importing_it_loads_neither_torch_nor_transformers(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"
