"""Whatever stands in the files of a run folder, its readers give a result or one clear error."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.mutations import mutations
from tests.gate.example_run import write_run

from sftprep.comparison import compare, comparison_lines
from sftprep.diagnose import diagnose, diagnosis_lines
from sftprep.errors import SftprepError
from sftprep.gate import judged, load_evidence
from sftprep.recipe.sections import Recipe
from sftprep.report import render_report, summary_lines, write_index
from sftprep.store.run import RunFolder

RECIPE = Recipe.model_validate({"model": {"base": "m"}, "data": {"sources": [{"path": "d"}]}})
STEPS = 40


def readers(run: RunFolder, healthy: RunFolder) -> dict[str, Callable[[], object]]:
    """Everything that reads a run folder from elsewhere."""
    return {
        "gate": lambda: judged(RECIPE, load_evidence(run)),
        "diagnose": lambda: diagnosis_lines(diagnose(run)),
        "compare": lambda: comparison_lines(compare(healthy.root, run.root)),
        "summary": lambda: summary_lines(run),
        "index": lambda: write_index(run.root.parent),
        "report": lambda: render_report(run),
    }


def failures(tmp_path: Path, every: int, offset: int) -> list[str]:
    """Exceptions that are none of ours, one line each."""
    healthy = write_run(tmp_path / "healthy" / "run", steps=STEPS)
    run = write_run(tmp_path / "runs" / "run", steps=STEPS)
    found = []
    for path, what, new, content in mutations(run.root, every, offset):
        path.write_bytes(new)
        for name, read in readers(run, healthy).items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read()
            except SftprepError:
                continue
            except Exception as error:  # noqa: BLE001 - what this test looks for
                where = f"{path.relative_to(run.root)} {what}"
                found.append(f"{name}: {where}: {type(error).__name__}: {error}"[:300])
        path.write_bytes(content)
    return found


def test_a_sample_of_changed_values_ends_in_a_result_or_one_error(tmp_path: Path) -> None:
    assert failures(tmp_path, 701, 0) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_changed_values_end_in_a_result_or_one_error(tmp_path: Path) -> None:
    assert failures(tmp_path, 7, 3) == []
