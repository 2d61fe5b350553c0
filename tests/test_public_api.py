"""The public door: names, laziness, records."""

import dataclasses
import math

import pytest

import sftprep
from sftprep import records
from sftprep.records import Ledger, Metric, StepRecord, from_dict, to_dict, to_json

PUBLIC = [
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


def test_the_public_names_are_exactly_these() -> None:
    assert sftprep.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_can_be_used(name: str) -> None:
    assert getattr(sftprep, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sftprep.nonsense


def test_every_record_is_frozen() -> None:
    kinds = [k for k in vars(records).values() if isinstance(k, type)]
    ours = [k for k in kinds if dataclasses.is_dataclass(k) and k.__module__ == "sftprep.records"]
    assert len(ours) >= 19
    assert [k.__name__ for k in ours if not k.__dataclass_params__.frozen] == []  # type: ignore[attr-defined]


def test_the_ledger_balances_only_when_no_row_is_lost() -> None:
    assert Ledger(10, 6, {"response_empty": 2}, quarantined=1, merged=1).balanced is True
    assert Ledger(10, 6, {"response_empty": 2}, quarantined=0, merged=1).balanced is False


def test_loss_is_the_sum_over_the_count_and_nan_without_tokens() -> None:
    step = StepRecord(1, 6.0, 3, 10, 0, 1e-3, 1.0, 0.1)
    assert step.loss_nats == 2.0
    empty = dataclasses.replace(step, tokens_supervised=0)
    assert math.isnan(empty.loss_nats) is True
    assert step.validation_loss_nats is None


def test_a_record_survives_json() -> None:
    metric = Metric(0.5, 0.1, (0.3, 0.7), 10, 100, False, 0.25, "mmlu/5shot-letter/v1")
    assert from_dict(Metric, to_dict(metric)) == metric


def test_nan_is_never_written() -> None:
    metric = Metric(math.nan, None, None, 1, 1, True, None, "p")
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(metric)


def test_public_functions_stay_callable_after_every_room_was_imported() -> None:
    import sftprep.comparison
    import sftprep.pipeline.runner

    assert callable(sftprep.compare) is True
    assert callable(sftprep.run) is True
    assert sftprep.compare is sftprep.comparison.compare
    assert sftprep.run is sftprep.pipeline.runner.run
