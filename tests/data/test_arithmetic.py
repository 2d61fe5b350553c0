"""Recomputing sums: precedence, rounding, and what is left alone."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.data.arithmetic import arithmetic_wrong, evaluate
from sftprep.data.conversation import Row
from sftprep.records import Example, Message, SourceRef


def error_of(text: str) -> float | None:
    messages = (Message("user", "How much?", False), Message("assistant", text, True))
    evidence = arithmetic_wrong(Row(Example("id", SourceRef("s", "f", 1), messages)), 0.0)
    return None if evidence is None else evidence.score


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 + 3 * 4", "14"), ("10 - 4 - 3", "3"), ("12 / 4 / 3", "1"), ("$1,200 x 2", "2400"),
     ("6 \u00f7 3 \u00d7 2", "4"), ("5 \u2212 7", "-2")],
)  # fmt: skip
def test_usual_precedence(expression: str, value: str) -> None:
    assert evaluate(expression) == Decimal(value)


def test_division_by_zero_has_no_value() -> None:
    assert evaluate("1 / 0") is None
    assert error_of("1 / 0 = 7") is None


@given(a=st.integers(1, 999), b=st.integers(1, 999), op=st.sampled_from("+-*/"))
def test_a_right_equation_is_never_reported(a: int, b: int, op: str) -> None:
    exact = {"+": Fraction(a + b), "-": Fraction(a - b), "*": Fraction(a * b),
             "/": Fraction(a, b)}[op]  # fmt: skip
    rounded = round(float(exact), 2)
    shown = str(int(exact)) if exact.denominator == 1 else f"{rounded:.2f}"
    assert error_of(f"So {a} {op} {b} = {shown} in all.") is None


@given(a=st.integers(10, 99), b=st.integers(10, 99), off=st.integers(1, 9))
def test_a_wrong_sum_is_always_reported(a: int, b: int, off: int) -> None:
    assert error_of(f"So {a} + {b} = {a + b + off} in all.") == pytest.approx(off / (a + b))
