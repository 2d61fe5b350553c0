"""Hand-made answers for the protocols."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data sets come from this machine, or not at all."""
    for name in ("HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield


@pytest.fixture
def their_ifeval(monkeypatch: pytest.MonkeyPatch) -> Any:
    """lm-eval's IFEval code, imported without the download it starts."""
    langdetect = pytest.importorskip("langdetect")
    pytest.importorskip("immutabledict")
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk, "download", lambda name: False)
    from lm_eval.tasks.ifeval import instructions_util, utils

    def words(text: str) -> list[str]:
        found: list[str] = nltk.tokenize.NLTKWordTokenizer().tokenize(text)
        return found

    monkeypatch.setattr(instructions_util.nltk, "word_tokenize", words)
    langdetect.DetectorFactory.seed = 0
    return utils
