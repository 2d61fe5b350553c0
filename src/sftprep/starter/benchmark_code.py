"""Twenty small functions in the form of HumanEval, every one with its solution and its tests."""

import random
import textwrap
from dataclasses import dataclass

from sftprep.starter.items import is_reserved, make_function

Item = dict[str, object]
FROM_TEXT = 8  # items of the forms the pre-training text knows, with numbers it does not


@dataclass(frozen=True)
class Exercise:
    """A function to write: header, what it does, one example, body, checks as expressions."""

    header: str
    doc: str
    example: tuple[str, str]
    body: str
    checks: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.header.split("(")[0].removeprefix("def ")


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "def count_words(text):", "Return the number of words of text.",
        ("count_words('red fox')", "2"), "return len(text.split())",
        (("'a b c'", "3"), ("''", "0"), ("'  one  two '", "2")),
    ),
    Exercise(
        "def last_word(words):", "Return the last of the words, or an empty text.",
        ("last_word(['cup', 'fox'])", "'fox'"), "return words[-1] if words else ''",
        (("['a']", "'a'"), ("[]", "''"), ("['x', 'y', 'z']", "'z'")),
    ),
    Exercise(
        "def shout(text):", "Return text in capital letters with a mark at the end.",
        ("shout('hot')", "'HOT!'"), "return text.upper() + '!'",
        (("'go'", "'GO!'"), ("''", "'!'"), ("'Tea 2'", "'TEA 2!'")),
    ),
    Exercise(
        "def backwards(words):", "Return the words in reverse order.",
        ("backwards(['a', 'b'])", "['b', 'a']"), "return words[::-1]",
        (("[]", "[]"), ("['x']", "['x']"), ("['p', 'q', 'r']", "['r', 'q', 'p']")),
    ),
    Exercise(
        "def larger(a, b):", "Return the larger of two numbers.",
        ("larger(2, 5)", "5"), "return max(a, b)",
        (("3, 1", "3"), ("-4, -2", "-2"), ("7, 7", "7")),
    ),
    Exercise(
        "def even_numbers(numbers):", "Return the even ones of the numbers, in their order.",
        ("even_numbers([1, 2, 4])", "[2, 4]"), "return [n for n in numbers if n % 2 == 0]",
        (("[]", "[]"), ("[3, 5]", "[]"), ("[0, -2, 7]", "[0, -2]")),
    ),
    Exercise(
        "def total_letters(words):", "Return how many letters the words have together.",
        ("total_letters(['ox', 'cat'])", "5"), "return sum(len(word) for word in words)",
        (("[]", "0"), ("['']", "0"), ("['abc', 'd', 'ef']", "6")),
    ),
    Exercise(
        "def initials(words):", "Return the first letter of every word as one text.",
        ("initials(['red', 'ant'])", "'ra'"), "return ''.join(word[0] for word in words if word)",
        (("[]", "''"), ("['x', '', 'yes']", "'xy'"), ("['big', 'old', 'yak']", "'boy'")),
    ),
    Exercise(
        "def in_brackets(words):", "Return every word in square brackets, with spaces between.",
        ("in_brackets(['a', 'b'])", "'[a] [b]'"),
        "return ' '.join('[' + word + ']' for word in words)",
        (("[]", "''"), ("['fox']", "'[fox]'"), ("['x', 'y']", "'[x] [y]'")),
    ),
    Exercise(
        "def without(words, gone):", "Return the words without the one that is gone.",
        ("without(['a', 'b'], 'a')", "['b']"), "return [word for word in words if word != gone]",
        (("['x', 'x'], 'x'", "[]"), ("[], 'q'", "[]"), ("['p', 'q'], 'r'", "['p', 'q']")),
    ),
    Exercise(
        "def running_total(numbers):", "Return the sum of the numbers up to each place.",
        ("running_total([1, 2, 3])", "[1, 3, 6]"),
        "totals, total = [], 0\nfor n in numbers:\n    total += n\n    totals.append(total)\n"
        "return totals",
        (("[]", "[]"), ("[5]", "[5]"), ("[2, -2, 4]", "[2, 0, 4]")),
    ),
    Exercise(
        "def longest(words):", "Return the longest word, the first of equals, or an empty text.",
        ("longest(['ox', 'lion'])", "'lion'"), "return max(words, key=len, default='')",
        (("[]", "''"), ("['aa', 'bb']", "'aa'"), ("['x', 'yyy', 'zz']", "'yyy'")),
    ),
)  # fmt: skip


def _item(number: int, name: str, prompt: str, solution: str, checks: list[str]) -> Item:
    lines = "\n".join(f"    assert {check}" for check in checks)
    return {
        "task_id": f"StarterCode/{number}",
        "prompt": prompt,
        "entry_point": name,
        "canonical_solution": solution,
        "test": f"\n\nMETADATA = {{}}\n\n\ndef check(candidate):\n{lines}\n",
    }


def code_items(rng: random.Random) -> list[Item]:
    """All items: EXERCISES, then FROM_TEXT reserved functions of the pre-training forms."""
    items: list[Item] = []
    for exercise in EXERCISES:
        call, value = exercise.example
        prompt = f'{exercise.header}\n    """{exercise.doc}\n    >>> {call}\n    {value}\n    """\n'
        checks = [f"candidate({given}) == {wanted}" for given, wanted in exercise.checks]
        solution = textwrap.indent(exercise.body, "    ") + "\n"
        items.append(_item(len(items), exercise.name, prompt, solution, checks))
    names: set[str] = set()
    while len(names) < FROM_TEXT:
        function = make_function(rng)
        if function.name in names or not is_reserved(function.text):
            continue
        names.add(function.name)
        checks = [f"candidate({given}) == {value!r}" for given, value in function.calls]
        checks += [f"candidate({given}) == {value!r}" for given, value in function.more_calls]
        items.append(_item(len(items), function.name, function.signature, function.body, checks))
    return items
