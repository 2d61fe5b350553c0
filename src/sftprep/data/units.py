"""Calculations that need a table: number words, powers and roots, and exact units.

Each finding is as in `sftprep.data.sums`: (start, end, exact, given).
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from sftprep.data.sums import Sum, evaluate_brackets
from sftprep.data.wordlists import word_list

_WORDS = word_list("number_words")
_TENS = {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_VALUES = {**{word: k for k, word in enumerate(_WORDS)}, **_TENS, "hundred": 100}
_TENS["twenty"] = 20
_NUMBER_WORD = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})[- ](?P<ones>{'|'.join(_WORDS[1:10])})"
    rf"|(?P<word>{'|'.join(_VALUES)})(?!-))\b",
    re.IGNORECASE,
)
_SPOKEN = re.compile(r"\b(?:plus|minus|times|multiplied by|divided by)\b", re.IGNORECASE)


def in_digits(text: str) -> str:
    """A short text with number words as digits, when it calculates in words; else unchanged."""
    if len(text) > 300 or _SPOKEN.search(text) is None:
        return text
    return _NUMBER_WORD.sub(_digits_of, text)


def _digits_of(match: re.Match[str]) -> str:
    if match["word"]:
        return str(_VALUES[match["word"].lower()])
    return str(_TENS[match["tens"].lower()] + _VALUES[match["ones"].lower()])


_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_FREE = (
    r"(?<![\w.,:/^*+=)\]%\u221a\u2212\u00d7\u00f7\u00b0'\"-])"
    r"(?<![-+*/x\u00d7\u00f7\u2212\u2013^=] )"
)
_DONE = r"(?![\d,]*\d|\.\d|\s?[-+*/^\u00d7\u00f7%a-zA-Z(])"
_BRACKETS = re.compile(
    rf"{_FREE}(?P<left>(?:\(\s?)?{_NUMBER}(?:\s?(?:[-+*/\u00d7\u00f7\u2212^]|\*\*)\s?\(?\s?{_NUMBER}\)?){{1,6}})"
    rf"\s?=\s?(?P<right>-?{_NUMBER}){_DONE}"
)
_POWER = re.compile(
    rf"{_FREE}(?:(?P<base>{_NUMBER})(?P<power>[\u00b2\u00b3])|\u221a\s?\(?(?P<root>{_NUMBER})\)?)"
    rf"\s?=\s?(?P<right>{_NUMBER}){_DONE}"
)
_HARD = re.compile(r"[\d)]\s?(?:\^|\*\*)|\(\s?\d")
SHORT = 200  # characters: longer texts convert with a sign or a word for it
# "10 puppies + 20 puppies = 30 puppies", "5 boxes * 12 eggs/box = 60 eggs".
_LABEL = r"(?:\s(?!x\b)[a-z]{1,15}(?:/[a-z]{1,15})?){0,2}"
_LABELLED = re.compile(
    rf"(?<![\w.,:/^*+=)\]%\u2212\u00d7\u00f7$-])"
    rf"(?<![-+*/x\u00d7\u00f7\u2212\u2013=(] )(?<!of )(?<!and )"
    rf"(?P<left>\$?{_NUMBER}{_LABEL}(?:\s[-+*x\u00d7/]\s\$?{_NUMBER}{_LABEL}){{1,5}})"
    rf"\s?=\s?\$?(?P<right>{_NUMBER})(?P<unit>{_LABEL})"
    rf"(?!\s?[-+*/^\u00d7\u00f7%(]|[\d,]*\d|\.\d|/|\s\d)"
)
_LETTERS = re.compile(r"[a-z]+")
# How many of the second unit one of the first is; exact ones only.
_UNITS = {
    ("hour", "minute"): 60, ("minute", "second"): 60, ("day", "hour"): 24, ("week", "day"): 7,
    ("year", "month"): 12, ("decade", "year"): 10, ("century", "year"): 100,
    ("hour", "second"): 3600,
    ("kilometer", "meter"): 1000, ("meter", "centimeter"): 100, ("centimeter", "millimeter"): 10,
    ("kilogram", "gram"): 1000, ("liter", "milliliter"): 1000, ("foot", "inch"): 12,
    ("yard", "foot"): 3, ("mile", "foot"): 5280, ("pound", "ounce"): 16, ("gallon", "quart"): 4,
    ("dozen", "item"): 12, ("dollar", "cent"): 100, ("byte", "bit"): 8,
}  # fmt: skip
_SPELLINGS = {
    "hours": "hour", "minutes": "minute", "seconds": "second", "days": "day", "weeks": "week",
    "years": "year", "months": "month", "decades": "decade", "centuries": "century",
    "kilometers": "kilometer", "kilometres": "kilometer",
    "kilometre": "kilometer", "km": "kilometer",
    "meters": "meter", "metres": "meter", "metre": "meter", "m": "meter",
    "centimeters": "centimeter", "centimetres": "centimeter", "cm": "centimeter",
    "millimeters": "millimeter", "millimetres": "millimeter", "mm": "millimeter",
    "kilograms": "kilogram", "kg": "kilogram", "grams": "gram", "g": "gram",
    "liters": "liter", "litres": "liter", "litre": "liter", "milliliters": "milliliter",
    "millilitres": "milliliter", "ml": "milliliter", "feet": "foot", "inches": "inch",
    "yards": "yard", "miles": "mile", "pounds": "pound", "ounces": "ounce", "gallons": "gallon",
    "quarts": "quart", "items": "item", "dollars": "dollar", "cents": "cent", "bytes": "byte",
    "bits": "bit",
}  # fmt: skip
_MEASURES = frozenset(unit for pair in _UNITS for unit in pair)
_UNIT = "|".join(
    sorted({*_SPELLINGS, *(u for pair in _UNITS for u in pair)}, key=len, reverse=True)
)
_CONVERTED = re.compile(
    rf"(?<![\w.,/*+\u00d7\u00f7-])(?<!and )(?<![-+*/x\u00d7\u00f7\u2013] )"
    rf"(?P<a>{_NUMBER})\s?(?P<from>{_UNIT})\s*(?:=|is\s+equal\s+to|equals?|is|are)\s*"
    rf"(?P<r>{_NUMBER})\s?(?P<to>{_UNIT})\b(?!\s*(?:and|,?\s*\d|per|old|/|long|[-+*]))",
    re.IGNORECASE,
)


def written_sums(text: str) -> Iterator[Sum]:
    """Powers, roots, brackets and conversions of units; at most the first 4,000 characters."""
    text = text[:4000]
    if "=" in text:
        for match in _BRACKETS.finditer(text) if _HARD.search(text) else ():
            left = match["left"]
            if not ("(" in left or "^" in left or "**" in left) or left.count("/") > 1:
                continue
            exact = evaluate_brackets(left)
            if exact is not None:
                yield match.start(), match.end(), exact, _digits(match["right"])
        yield from _labelled(text)
        for match in _POWER.finditer(text) if not text.isascii() else ():
            base = _value(match["base"] or match["root"])
            exact = (
                base.sqrt() if match["root"] else base ** (2 if match["power"] == "\u00b2" else 3)
            )
            yield match.start(), match.end(), exact, _digits(match["right"])
    short = len(text) <= SHORT or "=" in text or "equal" in text
    for match in _CONVERTED.finditer(text) if short else ():
        factor = _factor(match["from"].lower(), match["to"].lower())
        if factor is not None:
            yield match.start(), match.end(), _value(match["a"]) * factor, _digits(match["r"])


def _labelled(text: str) -> Iterator[Sum]:
    """Numbers with words behind them; the words must make plain that nothing is converted."""
    for match in _LABELLED.finditer(text):
        left, unit = match["left"], _LETTERS.findall(match["unit"])
        labels = [w for w in _LETTERS.findall(left) if w != "x"]
        adds = "*" not in left and " x " not in left and "\u00d7" not in left and "/" not in left
        if not labels or not unit or unit[0] not in labels:
            continue
        if adds and len({w.rstrip("s") for w in labels}) != len({w.rstrip("s") for w in unit}):
            continue
        if " / " in left and len({w.rstrip("s") for w in labels} & _MEASURES) > 0:
            continue
        bare = re.sub(r"\s(?!x\b)[a-z]+(?:/[a-z]+)?", "", left).replace("$", "")
        exact = evaluate_brackets(bare)
        if exact is not None:
            yield match.start(), match.end(), exact, _digits(match["right"])


def _factor(unit: str, other: str) -> Decimal | None:
    left, right = _SPELLINGS.get(unit, unit), _SPELLINGS.get(other, other)
    if (left, right) in _UNITS:
        return Decimal(_UNITS[left, right])
    if (right, left) in _UNITS:
        return 1 / Decimal(_UNITS[right, left])
    return None


def _digits(text: str) -> str:
    return text.replace(",", "")


def _value(text: str) -> Decimal:
    return Decimal(_digits(text))
