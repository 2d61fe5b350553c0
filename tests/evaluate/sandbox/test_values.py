"""What travels between solver and checker."""

import math
from typing import Any

import pytest

from sftprep.evaluate.sandbox.values import MAX_DEPTH, ValueRefused, decode, encode


class Agreeable(int):
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**40), 1.5, math.inf, 1 - 2j, "", "é\udc80\x00", b"\xff", [], [1, "a"],
        (1,), {1, 2}, frozenset({"x"}), {(1, 2): [None], "k": {"z": 0.1}},
    ],
)  # fmt: skip
def test_a_plain_value_arrives_as_it_was(value: Any) -> None:
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


def test_nan_arrives_as_nan() -> None:
    assert math.isnan(decode(encode(math.nan)))


def test_an_instance_of_a_subclass_does_not_travel() -> None:
    with pytest.raises(ValueRefused, match="Agreeable"):
        encode([Agreeable(1)])


def test_nesting_beyond_the_limit_is_refused() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ValueRefused):
        encode(value)


@pytest.mark.parametrize(
    "text", [[], ["bool", 1], ["int", 3], ["object", []], ["dict", [[["list", []], ["none"]]]], 7]
)
def test_text_that_is_no_value_is_refused(text: Any) -> None:
    with pytest.raises(ValueRefused):
        decode(text)
