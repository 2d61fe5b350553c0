"""The launch examples: they parse, and their commands are ones that torchrun and sftprep take."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

from sftprep.cli.main import app

LAUNCH = Path(__file__).parents[2] / "examples" / "launch"
STUBS = {
    "torchrun": 'printf "%s\\n" "$@" "" >> "$TOLD"; exit "${TORCHRUN_STATUS:-0}"',
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": 'if [[ $1 == show ]]; then echo node-a; else echo "$@"; fi',
}


def on_a_cluster(
    tmp_path: Path, script: str, *arguments: object, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run a script with stand-ins for the cluster's commands; the torchrun calls it made."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in STUBS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    told = tmp_path / "told"
    told.touch()
    done = subprocess.run(
        ["bash", "-c", script, "job", *map(str, arguments)],
        cwd=tmp_path,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "TOLD": str(told), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, [call.splitlines() for call in told.read_text().split("\n\n") if call]


def assert_taken(call: list[str], recipe: Path) -> Any:
    """torchrun's parser and sftprep's dry run accept the call; torchrun's options."""
    options = get_args_parser().parse_args(call)
    assert (options.module, options.training_script) == (True, "sftprep")
    command = [
        str(recipe) if a.endswith("recipe.yaml") else a for a in options.training_script_args
    ]
    done = CliRunner().invoke(app, [*command, "--dry-run"])
    assert done.exit_code == 0, done.output
    return options


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from tests.pipeline.conftest import write_small_recipe

    return write_small_recipe(tmp_path / "work")


def slurm(tmp_path: Path, recipe: Path, **more: str) -> Any:
    return on_a_cluster(
        tmp_path,
        (LAUNCH / "slurm.sbatch").read_text(),
        recipe,
        recipe.parent / "run",
        SLURM_NNODES="2",
        SLURM_JOB_ID="7",
        SLURM_JOB_NODELIST="node-[a-b]",
        **more,
    )


def test_slurm_trains_on_all_machines_and_does_the_rest_on_one(
    tmp_path: Path, recipe: Path
) -> None:
    done, calls = slurm(tmp_path, recipe)
    assert done.returncode == 0, done.stderr
    first, second = (assert_taken(call, recipe) for call in calls)
    assert (first.nnodes, first.nproc_per_node, first.rdzv_endpoint) == ("2", "8", "node-a:29500")
    assert second.standalone is True


@pytest.mark.parametrize(("status", "requeued"), [("stopped", True), ("failed", False)])
def test_slurm_puts_only_a_stopped_run_back_into_the_queue(
    tmp_path: Path, recipe: Path, status: str, requeued: bool
) -> None:
    from sftprep.store.run import RunFolder

    run = RunFolder(recipe.parent / "run")
    run.root.mkdir()
    run.mark("train", "stopped" if status == "stopped" else "failed", "fingerprint")
    done, calls = slurm(tmp_path, recipe, TORCHRUN_STATUS="1")
    assert len(calls) == 1
    assert ("requeue 7" in done.stdout) is requeued
    assert (done.returncode == 0) is requeued


def test_kubernetes_gives_a_pod_time_to_save(recipe: Path) -> None:
    job = YAML(typ="safe").load((LAUNCH / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "torchrun"
    assert_taken(container["command"][1:], recipe)
    variables = {v["name"]: v["value"] for v in container["env"]}
    seconds = int(variables["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    assert 30 < seconds < pod["terminationGracePeriodSeconds"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_skypilot_starts_one_launcher_per_machine(tmp_path: Path, recipe: Path) -> None:
    task = YAML(typ="safe").load((LAUNCH / "skypilot.yaml").read_text())
    script = task["run"].replace("cd /work", f"cd {tmp_path}")
    done, (call,) = on_a_cluster(
        tmp_path,
        script,
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NUM_GPUS_PER_NODE="8",
        SKYPILOT_NODE_RANK="1",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
    )
    assert done.returncode == 0, done.stderr
    options = assert_taken(call, recipe)
    assert (options.nnodes, options.node_rank, options.master_addr) == ("2", 1, "10.0.0.1")
