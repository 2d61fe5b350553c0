"""`sftprep plan` before anything is prepared, for other machines, and as a stage."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sftprep.cli.main import app
from sftprep.errors import RecipeError
from sftprep.starter import MODEL_DIR

RUNNER = CliRunner()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"instruction": f"Name {n} colours.", "response": f"Here are {n}: blue."})
            + "\n"
            for n in range(60)
        )
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{base: {MODEL_DIR}, hardware: 1xT4}}\n"
        f"data: {{sources: [{rows}], minimum_rows: 1}}\n"
        "training: {max_steps: 100, warmup_steps: 10, max_length: 128}\n"
        f"output: {{run_dir: {tmp_path / 'run'}}}\n"
    )
    return path


def test_without_prepared_data_it_estimates_and_writes_nothing(recipe: Path) -> None:
    result = RUNNER.invoke(app, ["plan", str(recipe)])
    assert result.exit_code == 0, result.output
    assert "hardware: 1 x NVIDIA T4" in result.stdout
    assert "work: 100 steps" in result.stdout
    assert "Estimated from the data as it stands" in result.stdout
    assert not (recipe.parent / "run").exists()


def test_several_machines_stand_beside_each_other(recipe: Path) -> None:
    machines = ["1xT4@0.5", "1xH100-80GB@2.50"]
    options = [word for machine in machines for word in ("--hardware", machine)]
    result = RUNNER.invoke(app, ["plan", str(recipe), *options, "--json"])
    assert result.exit_code == 0, result.output
    small, large = json.loads(result.stdout)["plans"]
    assert (small["hardware"]["device"], large["hardware"]["device"]) == (
        "NVIDIA T4", "NVIDIA H100",
    )  # fmt: skip
    assert small["time"]["expected"] > large["time"]["expected"]
    assert small["total_seconds"] > small["time"]["expected"]
    assert small["device_hours"] == pytest.approx(small["total_seconds"] / 3600)
    assert small["dollars"] == pytest.approx(small["device_hours"] * 0.5)


def test_an_unknown_machine_is_an_error_with_the_known_ones(recipe: Path) -> None:
    result = RUNNER.invoke(app, ["plan", str(recipe), "--hardware", "abacus"])
    assert isinstance(result.exception, RecipeError)
    assert "H100-80GB" in str(result.exception)


def test_with_prepared_data_it_writes_the_plan(recipe: Path) -> None:
    assert RUNNER.invoke(app, ["data", str(recipe)]).exit_code == 0
    result = RUNNER.invoke(app, ["plan", str(recipe), "--json"])
    assert result.exit_code == 0, result.output
    written = json.loads((recipe.parent / "run" / "plan.json").read_text())
    assert json.loads(result.stdout)["result"] == written
    assert written["tokens_measured"] is True
    other = RUNNER.invoke(app, ["plan", str(recipe), "--hardware", "1xL4"])
    assert "NVIDIA L4" in other.stdout
    assert json.loads((recipe.parent / "run" / "plan.json").read_text()) == written
