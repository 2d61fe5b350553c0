"""Arithmetic that can be recomputed with certainty, and nothing else.

An equation counts only when both sides are plain numbers and nothing around it could change its
meaning (a variable, a unit, a percent sign, another operator). Precision before recall.
"""

import re
from decimal import Decimal, DivisionByZero, InvalidOperation, localcontext

from sftprep.data.conversation import Evidence, Row
from sftprep.data.sums import asked_sums, spoken_sums
from sftprep.data.text import excerpt, is_code
from sftprep.data.units import in_digits, written_sums

_NUMBER = r"(?:[$\u20ac\u00a3]\s?)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_OPERATOR = r"(?:[-+*/x\u00d7\u00f7\u2212]|(?<= )\u2013(?= ))"
EQUATION = re.compile(
    rf"(?<![\w.,:/^*+=)\]%\u221a\u2212\u00d7\u00f7°'\"-])(?P<left>{_NUMBER}(?:\s?{_OPERATOR}\s?{_NUMBER}){{1,6}})"
    rf"\s?=\s?(?P<right>-?{_NUMBER})"
    r"(?P<after>.{0,14})"
)
_DIGIT = re.compile(r"\d")
_SPLIT = re.compile(rf"\s?({_OPERATOR})\s?")
_BEFORE = re.compile(
    r"(?:[-+*/x\u00d7\u00f7\u2212\u2013^=(\[{<>%\u221a]|[A-Za-z][({]|\b(?:mod|(?:half|third"
    r"|quarter|root|square|cube|percent|%|thirds|\d/\d) of|base|log|sqrt|[a-z])"
    r"|\d,?|\d\s+and)\s?$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"[a-z]|\s*(?:[-+*/^%x\u00d7\u00f7\u2212]\s?[\d(a-z$]|[%:/^!]|r\b|r\d|rem|mod|and\s+\d+/|\d"
    r"|[.,]\d"
    r"|[\u00bc-\u00be])",
    re.IGNORECASE,
)
_UNUSUAL = re.compile(
    r"\b(?:mod(?:ulo|ular|ulus)?|binary|hex\w*|octal|base|clock|matrix|vector|puzzle|riddle"
    r"|incorrect"
    r"|wrong|mistake|error|false|trick|joke|pattern|integer division|floor|round\w*|estimat\w*"
    r"|approximat\w*|remainder|calculus|floating)\b",
    re.IGNORECASE,
)


_DIGIT = re.compile(r"\d")


def arithmetic_wrong(row: Row, threshold: float) -> Evidence | None:
    """A calculation of the answer does not hold. Score: largest relative error found.

    Looked at: equations, sums in words ("5 plus 3 is 9", "15% of 200 is 40"), and a plain question
    ("What is 12 * 7?") whose answer is one number. A result may be rounded or cut at its last
    digit. `threshold`: smallest relative error counted beyond that. Code, modular and other unusual
    arithmetic, and talk of mistakes are exempt.
    """
    text = row.response
    if _DIGIT.search(text) is None:
        text = in_digits(text)
        if _DIGIT.search(text) is None:
            return None
    if is_code(text) or _UNUSUAL.search(row.prompt) or _UNUSUAL.search(text):
        return None
    for match in EQUATION.finditer(text) if "=" in text else ():
        error = _error(text, match)
        if error is not None and error > threshold:
            return Evidence(excerpt(text, match.start(), match.end("right")), error)
    for start, end, exact, given in (*written_sums(text), *spoken_sums(text), *asked_sums(row)):
        error = _difference(exact, given)
        if error is not None and error > threshold:
            return Evidence(f"{exact:f} is right: {excerpt(text, start, end)}", error)
    return None


def _error(text: str, match: re.Match[str]) -> float | None:
    """Relative error of one equation, None when it holds or cannot be decided."""
    if _BEFORE.search(text[max(0, match.start() - 12) : match.start()].rpartition("\n")[2]):
        return None
    if _AFTER.match(match["after"]) or _is_date(match["left"]):
        return None
    exact = evaluate(match["left"])
    if exact is None:
        return None
    return _difference(exact, re.sub(r"[^\d.\-]", "", match["right"]))


def _difference(exact: Decimal, given_text: str) -> float | None:
    """Relative error of a given result, None when it holds up to its last digit."""
    given = Decimal(given_text)
    decimals = len(given_text.partition(".")[2])
    if abs(exact - given) < Decimal(1).scaleb(-decimals):  # rounded or cut at the last digit
        return None
    if exact != 0 and _POWER_OF_TEN.fullmatch(format((given / exact).normalize(), "f")):
        return None  # dollars and cents, metres and kilometres: a change of unit
    return float(abs(exact - given) / max(abs(exact), Decimal("1e-9")))


_POWER_OF_TEN = re.compile(r"10+|0\.0*1")


def _is_date(left: str) -> bool:
    """Dates, clock times, phone numbers and stacked fractions: what the signs mean is open."""
    divisions = left.count("/") + left.count("\u00f7")
    padded = re.search(r"(?<![\d.,])0\d", left)
    hyphens = re.fullmatch(r"\d+-\d+-\d+|\d{3}-\d{4}", left)
    return divisions > 1 or padded is not None or hyphens is not None


def evaluate(expression: str) -> Decimal | None:
    """Value of numbers joined by + - * /, usual precedence; None for a division by zero.

    No brackets; a sign or currency mark before a number and thousands commas are understood.
    """
    parts = _SPLIT.split(expression)
    numbers = [Decimal(re.sub(r"[^\d.]", "", n)) for n in parts[0::2]]
    signs = [_PLAIN.get(o, o) for o in parts[1::2]]
    with localcontext() as context:
        context.prec = 40
        try:
            terms = [numbers[0]]
            for sign, number in zip(signs, numbers[1:], strict=True):
                if sign == "*":
                    terms[-1] *= number
                elif sign == "/":
                    terms[-1] /= number
                else:
                    terms.append(number if sign == "+" else -number)
            return sum(terms, Decimal(0))
        except (DivisionByZero, InvalidOperation):
            return None


_PLAIN = {"x": "*", "\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"}
