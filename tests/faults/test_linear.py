"""Patterns meet texts that others wrote: time grows with the length, not with its square."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sftprep.diagnose.patch import apply_patch
from sftprep.errors import RecipeError
from sftprep.evaluate.benchmarks import constraints, hellaswag
from sftprep.report.redact import redact_text

LETTERS = 200_000
TEXTS = ("a.", "eyJ-", "eyJ", "--x_", "a://", "key=", "[", "_", " ", "sk-", '"key')
EVIL = "(a+)+$"


@pytest.mark.parametrize("piece", TEXTS)
def test_secrets_are_looked_for_in_linear_time(piece: str) -> None:
    started = time.process_time()
    redact_text(piece * (LETTERS // len(piece)))
    assert time.process_time() - started < 5


def test_a_secret_behind_bounded_patterns_is_still_hidden() -> None:
    token = f"eyJ{'a' * 300}.{'b' * 500}.{'c' * 43}"
    assert redact_text(f"git+https://me:word@host and {token}") == "git+https://***@host and ***"


@pytest.mark.parametrize("text", ["[" * LETTERS, "]" + "[" * LETTERS, "[x" * (LETTERS // 2)])
def test_brackets_in_an_item_are_removed_in_linear_time(text: str) -> None:
    started = time.process_time()
    assert hellaswag.clean(text) == text
    assert time.process_time() - started < 5


def test_brackets_are_removed_within_a_line_only() -> None:
    assert hellaswag.clean("a [x]b[y] [c\nd] e[z]") == "a b [c\nd] e"


ASKED: dict[str, Callable[[str], bool]] = {
    "keywords": lambda text: constraints.keywords_present(text, {"keywords": [EVIL]}),
    "keyword": lambda text: constraints.keyword_frequency(
        text, {"keyword": EVIL, "relation": "at least", "frequency": 1}
    ),
    "forbidden": lambda text: (
        not constraints.forbidden_words_absent(text, {"forbidden_words": [EVIL]})
    ),
    "postscript": lambda text: constraints.postscript(text, {"postscript_marker": EVIL}),
    "sections": lambda text: constraints.multiple_sections(
        text, {"section_spliter": EVIL, "num_sections": 1}
    ),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.timeout(20)
def test_a_pattern_in_an_instruction_item_is_taken_literally(name: str) -> None:
    assert ASKED[name]("a" * 40 + "!") is False


def test_plain_words_of_an_item_are_found_in_any_case() -> None:
    assert constraints.keywords_present("The Dog barks", {"keywords": ["dog", "b.rks"]}) is True


@pytest.mark.timeout(20)
def test_a_recipe_of_aliases_is_not_copied(tmp_path: Path) -> None:
    lines = ["model: {base: m}", "a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "recipe.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RecipeError, match="aliases are refused"):
        apply_patch(tmp_path / "recipe.yaml", {"training.max_steps": 5}, tmp_path / "new.yaml")
