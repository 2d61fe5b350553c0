"""Whichever engine checks the rows, the files are the same to the byte."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import Prepare
from tests.data.data_rows import clean_rows, pair, write_jsonl

from sftprep.data.cores import usable_cores
from sftprep.data.intake import CHUNK_ROWS
from sftprep.errors import DataError
from sftprep.store.run import RunFolder


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Two files of several chunks: good rows, copies, empty answers, broken lines."""
    rows = clean_rows(int(CHUNK_ROWS * 1.6))
    rows += [*rows[:40], *(pair(f"Name thing {k}, please.", "") for k in range(30))]
    first = write_jsonl(tmp_path / "first.jsonl", rows[::2])
    second = write_jsonl(tmp_path / "second.jsonl", rows[1::2])
    with second.open("ab") as handle:
        handle.write(b'{"instruction": "cut off\n{"a": "\xff"}\n')
    return [first, second]


def contents(run: RunFolder) -> dict[str, Any]:
    files = (run.train_rows, run.validation_rows, run.rejected_rows, run.data_trace)
    report = json.loads(run.data_report.read_text())
    return {"report": report, **{path.name: path.read_bytes() for path in files}}


def test_two_processes_give_the_result_of_one(mixed: list[Path], run_data: Prepare) -> None:
    _, alone = run_data(*mixed, processes=1, trace=True)
    report, together = run_data(*mixed, processes=2, trace=True)
    assert report.ledger.quarantined == 2
    assert report.ledger.rejected["duplicate_exact"] == 40
    assert contents(alone) == contents(together)


def test_an_error_in_a_process_reaches_the_user(tmp_path: Path, run_data: Prepare) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [pair("Why?", "")] * 5)
    with pytest.raises(DataError, match=r"a\.jsonl:1: no response"):
        run_data(path, processes=2)


@pytest.mark.slow
def test_ray_gives_the_result_of_the_local_engine(mixed: list[Path], run_data: Prepare) -> None:
    ray = pytest.importorskip("ray", reason="needs sftprep[ray]")
    _, local = run_data(*mixed, processes=1, trace=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        _, spread = run_data(*mixed, engine="ray", processes=2, trace=True)
    finally:
        ray.shutdown()
    assert contents(local) == contents(spread)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "nonsense"])
def test_a_cluster_out_of_reach_is_named_at_once(
    mixed: list[Path], run_data: Prepare, address: str
) -> None:
    pytest.importorskip("ray", reason="needs sftprep[ray]")
    with pytest.raises(DataError, match=f"data.ray_address: {address}: .*engine: local"):
        run_data(*mixed, engine="ray", ray_address=address)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)],
)
def test_the_quota_of_a_container_limits_the_processes(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    expected = len(os.sched_getaffinity(0)) if cores is None else cores
    assert usable_cores(tmp_path / "cpu.max") == expected
    assert usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))
