"""Calculations in words, and plain questions for a number: what is right and what was given.

Each finding is (start, end, exact, given): a span of the answer, the exact value, and the given
number as text. Nothing is guessed: what cannot be parsed in full is left out.
"""

import re
from collections.abc import Iterator
from decimal import Decimal, DivisionByZero, InvalidOperation, localcontext
from itertools import pairwise

from sftprep.data.conversation import Row

Sum = tuple[int, int, Decimal, str]
_NUMBER = r"-?[$\u20ac\u00a3]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_IS = (
    r"\s*(?:,\s*)?(?:is(?:\s+equal\s+to)?|equals|makes|gives(?:\s+(?:us|you))?|=|are|comes\s+to)"
    r"\s*(?:exactly\s+|to\s+)?"
)
_END = (
    r"(?![\d,]*\d|\s*[-+*/x\u00d7\u00f7^%]|\.\d|\s*(?:percent|times|and|point|million|billion|thousand|hundred"
    r"|dozen)\b)"
)
_BETWEEN = re.compile(
    rf"(?<![\d.,/*+x\u00d7-])(?<![-+*/x\u00d7\u00f7]\s)(?<!plus\s)(?<!minus\s)(?<!times\s)(?<!\bby\s)(?<!\bto\s)(?P<a>{_NUMBER})\s+(?P<op>plus|minus|times|multiplied\s+by|divided\s+by|added\s+to|to\s+the\s+power\s+of)\s+(?P<b>{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_OF_TWO = re.compile(
    rf"\b(?P<op>sum|total|product|difference|quotient|average|mean)\s+(?:of"
    rf"|between)\s+(?P<a>{_NUMBER})\s+and\s+(?P<b>{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_OF_MANY = re.compile(
    rf"\b(?P<op>sum|total|product|average|mean|median)\s+of\s+(?P<list>{_NUMBER}(?:\s*,\s*{_NUMBER})+"
    rf"\s*,?\s+and\s+{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    rf"(?<![\d./])(?:(?P<top>\d{{1,3}})/(?P<bottom>[1-9]\d{{0,2}})|(?:an?|one)\s+(?P<part>third|quarter|fifth|tenth))\s+of\s+"
    rf"(?P<b>{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_PART = re.compile(r"\d of\b|(?:third|quarter|fifth|tenth) of\b", re.IGNORECASE)
_PARTS = {"third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
_PERCENT = re.compile(
    rf"(?<![\d.])(?P<a>{_NUMBER})\s?(?:%"
    rf"|percent)\s+of\s+(?P<b>{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}(?!\s*%)",
    re.I,
)
_OF_ONE = re.compile(
    rf"\b(?P<op>square\s+root|square|cube|double"
    rf"|half)\s+of\s+(?P<a>{_NUMBER}){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_SQUARED = re.compile(
    rf"(?<![\d.,^*/+-])(?P<a>{_NUMBER})\s+(?P<op>squared|cubed){_IS}(?P<r>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"^\W*(?:please\s+)?(?:(?:can|could)\s+you\s+)?(?:what(?:\s+is|'s|\u2019s|\s+does)|calculate"
    r"|compute|evaluate|work\s+out|how\s+much\s+is|find|solve|add|simplify"
    r"|tell\s+me)\s*:?\s*(?:the\s+(?:value|result|answer)\s+(?:of|to)\s+)?"
    r"(?P<expression>[-\d.,\s()+*/x\u00d7\u00f7\u2212^%$]*\d[\d\s).,]*?)\s*(?:equals?"
    r"|=)?\s*[?.!]?\s*$",
    re.IGNORECASE,
)
_ASKED_WORDS = re.compile(
    rf"^\W*(?:what(?:\s+is|'s)|calculate|compute|find|work\s+out"
    rf"|determine)\s+(?:the\s+)?(?:(?P<kind>sum|total|product|average|mean|median|maximum|minimum"
    rf"|largest|smallest)\s+of\s+(?:the\s+)?(?:following\s+)?(?:numbers?|list|set|values"
    rf"|data(?:\s+set)?|these\s+numbers)?\s*:?\s*(?P<list>[\[({{]?{_NUMBER}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+){_NUMBER})+[\])}}]?)|(?P<a>{_NUMBER})\s+(?P<op>plus|minus|times|multiplied\s+by|divided\s+by)\s+(?P<b>{_NUMBER})|(?P<share>{_NUMBER})\s?(?:%|percent)\s+of\s+(?P<whole>{_NUMBER}))\s*[?.!]?\s*$",
    re.IGNORECASE,
)
_RESULT = re.compile(
    rf"^\W*(?:{_NUMBER}|.*?(?:\b(?:is|are|equals|answer:|result:|total:|be|get|=|to)|="
    rf"|:)\s*(?:approximately\s+|about\s+)?\**(?P<r>{_NUMBER})\**)\s*(?:%|dollars|units)?\W*$",
    re.IGNORECASE | re.DOTALL,
)


def _value(text: str) -> Decimal:
    return Decimal(re.sub(r"[^\d.\-]", "", text))


def _share(top: str | None, bottom: int, whole: str) -> Decimal:
    return _value(whole) * int(top or 1) / bottom


def _two(op: str, a: Decimal, b: Decimal) -> Decimal | None:
    with localcontext() as context:
        context.prec = 40
        try:
            match re.sub(r"\s+", " ", op.lower()):
                case "plus" | "added to" | "sum" | "total":
                    return a + b
                case "minus":
                    return a - b
                case "difference":
                    return abs(a - b)
                case "times" | "multiplied by" | "product":
                    return a * b
                case "divided by" | "quotient":
                    return a / b
                case "average" | "mean":
                    return (a + b) / 2
                case "to the power of" if abs(b) <= 20 and b == int(b):
                    return a**b
        except (DivisionByZero, InvalidOperation):
            return None
    return None


def _one(op: str, a: Decimal) -> Decimal | None:
    match re.sub(r"\s+", " ", op.lower()):
        case "square" | "squared":
            return a * a
        case "cube" | "cubed":
            return a * a * a
        case "double":
            return a * 2
        case "half":
            return a / 2
        case "square root" if a >= 0:
            return a.sqrt()
    return None


_TELLS = re.compile(
    r"plus|minus|times|multiplied|divided|added to|power of|%|percent|sum|total|product|difference"
    r"|quotient|average|mean|median|square|cube|double|half",
    re.IGNORECASE,
)


def spoken_sums(text: str) -> Iterator[Sum]:
    """Sums in words within an answer; at most the first 4,000 characters are read."""
    text = text[:4000]
    for match in _FRACTION.finditer(text) if " of " in text and _PART.search(text) else ():
        bottom = _PARTS[match["part"].lower()] if match["part"] else int(match["bottom"])
        yield (
            match.start(),
            match.end(),
            _share(match["top"], bottom, match["b"]),
            _plain(match["r"]),
        )
    if _TELLS.search(text) is None:
        return
    for pattern in (_BETWEEN, _OF_TWO):
        for match in pattern.finditer(text):
            exact = _two(match["op"], _value(match["a"]), _value(match["b"]))
            if exact is not None:
                yield match.start(), match.end(), exact, _plain(match["r"])
    for match in _OF_MANY.finditer(text) if ", " in text else ():
        exact = _of_list(
            match["op"].lower(), [_value(n) for n in re.findall(_NUMBER, match["list"])]
        )
        if exact is not None:
            yield match.start(), match.end(), exact, _plain(match["r"])
    for match in _PERCENT.finditer(text):
        exact = _value(match["a"]) * _value(match["b"]) / 100
        yield match.start(), match.end(), exact, _plain(match["r"])
    for pattern in (_OF_ONE, _SQUARED):
        for match in pattern.finditer(text):
            exact = _one(match["op"], _value(match["a"]))
            if exact is not None:
                yield match.start(), match.end(), exact, _plain(match["r"])


def asked_sums(row: Row) -> Iterator[Sum]:
    """The question is one calculation and the answer, or its last line, one number."""
    text = row.response.strip()
    if len(row.questions) != 1 or len(row.prompt) > 200 or len(text) > 300:
        return
    exact = _asked(row.prompt.strip().replace("\n", " "))
    match = _RESULT.match(text) if exact is not None else None
    if exact is None or match is None or len(set(re.findall(_NUMBER, text))) > 6:
        return
    yield (
        0,
        len(text),
        exact,
        _plain(match["r"] or re.sub(r"^\W*?(?=-?[$\u20ac\u00a3]?\d)|\D+$", "", text)),
    )


def _plain(text: str) -> str:
    return re.sub(r"[^\d.\-]", "", text).rstrip(".")


def _asked(prompt: str) -> Decimal | None:
    match = _ASKED.match(prompt)
    if match is not None and re.search(
        r"\d\s*[-+*/x\u00d7\u00f7\u2212^]\s*[-(]*\d|\)\s*[-+*/x\u00d7\u00f7^(]", match["expression"]
    ):
        return evaluate_brackets(match["expression"])
    match = _ASKED_WORDS.match(prompt)
    if match is None:
        return None
    if match["list"]:
        return _of_list(
            match["kind"].lower(), [_value(n) for n in re.findall(_NUMBER, match["list"])]
        )
    if match["op"]:
        return _two(match["op"], _value(match["a"]), _value(match["b"]))
    return _value(match["share"]) * _value(match["whole"]) / 100


def _of_list(kind: str, numbers: list[Decimal]) -> Decimal | None:
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    match kind:
        case "sum" | "total":
            return sum(numbers, Decimal(0))
        case "average" | "mean":
            return sum(numbers, Decimal(0)) / len(numbers)
        case "median":
            return (
                ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
            )
        case "maximum" | "largest":
            return ordered[-1]
        case "minimum" | "smallest":
            return ordered[0]
        case "product" if len(numbers) <= 10:
            product = Decimal(1)
            for number in numbers:
                product *= number
            return product
    return None


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)|(?P<sign>\*\*|[-+*/^()]))"
)
_SIGNS = str.maketrans({"x": "*", "X": "*", "\u00d7": "*", "\u00f7": "/", "\u2212": "-", "$": " "})
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}


def evaluate_brackets(expression: str) -> Decimal | None:
    """Value of numbers with + - * / ^ and brackets, usual precedence; None when it is not one.

    Precedence climbing; `^` binds to the right, a minus before a number is a sign.
    """
    text = expression.translate(_SIGNS).replace("**", "^").strip().rstrip(".=")
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        tokens.append(match["number"].replace(",", "") if match["number"] else match["sign"])
        at = match.end()
    if len(tokens) > 60 or any(a[-1].isdigit() and b[-1].isdigit() for a, b in pairwise(tokens)):
        return None
    with localcontext() as context:
        context.prec = 40
        try:
            value, end = _climb(tokens, 0, 1)
        except (DivisionByZero, InvalidOperation, IndexError, OverflowError):
            return None
    return value if end == len(tokens) else None


def _climb(tokens: list[str], at: int, least: int) -> tuple[Decimal, int]:
    if tokens[at] == "(":
        value, at = _climb(tokens, at + 1, 1)
        if tokens[at] != ")":
            raise IndexError
        at += 1
    elif tokens[at] == "-":
        value, at = _climb(tokens, at + 1, 3)
        value = -value
    else:
        value, at = Decimal(tokens[at]), at + 1
    while at < len(tokens) and _STRENGTH.get(tokens[at], 0) >= least:
        sign = tokens[at]
        right, at = _climb(tokens, at + 1, _STRENGTH[sign] + (sign != "^"))
        if sign == "^" and (abs(right) > 20 or right != int(right)):
            raise InvalidOperation
        value = {
            "+": value.__add__,
            "-": value.__sub__,
            "*": value.__mul__,
            "/": value.__truediv__,
            "^": value.__pow__,
        }[sign](right)
    return value, at
