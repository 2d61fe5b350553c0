"""Hand-made answers for the protocols."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.evaluate.benchmarks.rows import SETTING, one_item

from sftprep.evaluate.benchmarks.protocol import Answered, Protocol, Setting
from sftprep.evaluate.engine import Generation, Score
from sftprep.records import ItemRecord


@pytest.fixture
def judge_scores() -> Callable[[Protocol, dict[str, Any], Sequence[float]], ItemRecord]:
    """Judge one row whose continuations got these log-likelihoods."""

    def judge(protocol: Protocol, row: dict[str, Any], values: Sequence[float]) -> ItemRecord:
        item = one_item(protocol, row)
        question = protocol.ask(item, SETTING)
        scores = tuple(Score(value, False, 1) for value in values)
        assert len(scores) == len(question.scores)
        (record,) = protocol.judge([Answered(item, question, scores)], SETTING)
        return record

    return judge


@pytest.fixture
def judge_text() -> Callable[..., ItemRecord]:
    """Judge one row to which the model wrote this text."""

    def judge(
        protocol: Protocol, row: dict[str, Any], text: str, setting: Setting = SETTING
    ) -> ItemRecord:
        item = one_item(protocol, row)
        question = protocol.ask(item, setting)
        answered = Answered(item, question, generation=Generation(text, 3, "eos"))
        (record,) = protocol.judge([answered], setting)
        return record

    return judge
