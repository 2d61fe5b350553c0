"""Prepare a trustworthy supervised fine-tuned baseline before preference optimisation.

import sftprep
resolved = sftprep.load_recipe("recipe.yaml")
result = sftprep.run(resolved)            # every stage; finished ones are not redone
sftprep.compare("runs/sft", "runs/dpo")   # after DPO: what got worse?
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftprep.comparison import Comparison, compare
    from sftprep.errors import SftprepError
    from sftprep.pipeline import RunResult, run
    from sftprep.recipe import Recipe, load_recipe
    from sftprep.records import (
        BenchmarkResult,
        DataReport,
        Example,
        GateResult,
        ItemRecord,
        Metric,
        RedFlag,
        StepRecord,
        TrainResult,
        ValidationResult,
        Verdict,
    )

__version__ = "0.1.0"

# Name -> module that defines it. Looked up on first use, so that `import sftprep` stays fast.
_PUBLIC = {
    "BenchmarkResult": "sftprep.records",
    "Comparison": "sftprep.comparison",
    "DataReport": "sftprep.records",
    "Example": "sftprep.records",
    "GateResult": "sftprep.records",
    "ItemRecord": "sftprep.records",
    "Metric": "sftprep.records",
    "Recipe": "sftprep.recipe",
    "RedFlag": "sftprep.records",
    "RunResult": "sftprep.pipeline",
    "SftprepError": "sftprep.errors",
    "StepRecord": "sftprep.records",
    "TrainResult": "sftprep.records",
    "ValidationResult": "sftprep.records",
    "Verdict": "sftprep.records",
    "compare": "sftprep.comparison",
    "load_recipe": "sftprep.recipe",
    "run": "sftprep.pipeline",
}

__all__ = [
    "BenchmarkResult",
    "Comparison",
    "DataReport",
    "Example",
    "GateResult",
    "ItemRecord",
    "Metric",
    "Recipe",
    "RedFlag",
    "RunResult",
    "SftprepError",
    "StepRecord",
    "TrainResult",
    "ValidationResult",
    "Verdict",
    "compare",
    "load_recipe",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sftprep' has no attribute '{name}'")
