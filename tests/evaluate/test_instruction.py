"""Instruction following: prompts, judgement, accuracy, rates."""

import json
from pathlib import Path

import pytest

from sftprep.errors import DataError
from sftprep.evaluate.engine import Generation, StopReason
from sftprep.evaluate.instruction import (
    InstructionPrompt,
    Written,
    built_in_prompts,
    following,
    held_out_prompts,
    judge,
    outcomes_by_category,
    rates,
    read_prompts,
    swapped_instructions,
)
from sftprep.records import Example, Message, SourceRef

USER = (Message("user", "Name a colour.", False),)
EXACT = InstructionPrompt(USER, "colours", reference="red")
NO_COMMA = InstructionPrompt(USER, "style", None, ("punctuation:no_comma",), ({},))


def example(number: int, question: str, answer: str, category: str | None = None) -> Example:
    turns = (Message("user", question, False), Message("assistant", answer, True))
    return Example(f"id{number}", SourceRef("d", "f", number), turns, category=category)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_both_kinds_of_lines_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"instruction": "Name a colour.", "response": "red", "category": "colours"},
        {"prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    )
    exact, constraint = read_prompts(path)
    assert (exact.text, exact.reference, exact.category) == ("Name a colour.", "red", "colours")
    assert constraint.constraints == ("punctuation:no_comma",)
    assert constraint.category == "none"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"p.jsonl:1: not valid JSON"),
        ("[]", r"p.jsonl:1: list instead of an object"),
        ('{"instruction": "x", "response": " "}', r"p.jsonl:1: neither instruction and response"),
        ("{}", r"found no key"),
        (
            '{"prompt": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}',
            r"1 instruction ids and 0 kwargs",
        ),
        (
            '{"prompt": "x", "instruction_id_list": ["no:such"], "kwargs": [{}]}',
            r"p.jsonl:1: the constraints no:such cannot be checked",
        ),
        ("", r"no prompt in it"),
    ],
)
def test_an_unusable_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_prompts(path)


def test_a_missing_file_is_an_error_that_names_the_recipe_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation\.instruction_prompts"):
        read_prompts(tmp_path / "absent.jsonl")


def test_the_built_in_prompts_are_many_varied_and_not_met_by_accident() -> None:
    prompts = built_in_prompts()
    assert len(prompts) >= 60
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    assert len({one for prompt in prompts for one in prompt.constraints}) >= 18
    story = "Once upon a time there was a dog. It ran and ran and was happy."
    for text in (story, "yes", "a a a a a a a a", '{"', "The the of and to in"):
        met = [prompt.text for prompt in prompts if judge(prompt, text) == "correct"]
        assert met == []


@pytest.mark.parametrize(
    ("category", "part", "answer"),
    [
        ("keywords", "how bread is baked", "Flour and water go into a hot oven."),
        ("length", "Describe an apple", "A round fruit."),
        ("format", "3 fruits", "* apple\n* pear\n* plum"),
        ("format", "a city with one park", '{"park": 1, "museum": 1}'),
        ("format", "Is ice colder", "My answer is yes."),
        ("case", "what the sun is", "THE SUN IS A STAR."),
        ("case", "what a bridge is for", "a bridge is for crossing a river."),
        ("start_end", "Thank someone", "Thank you for the scarf. Yours, Mira"),
        ("start_end", "Wish someone luck", '"Good luck!"'),
        ("punctuation", "Name three vegetables", "I like carrots and peas and leeks."),
    ],
)
def test_built_in_prompts_can_be_answered(category: str, part: str, answer: str) -> None:
    (prompt,) = [p for p in built_in_prompts() if part in p.text and p.category == category]
    assert judge(prompt, answer) == "correct"


def test_judgement_has_four_outcomes() -> None:
    assert judge(EXACT, " red ") == "correct"
    assert judge(EXACT, "blue") == "wrong"
    assert judge(EXACT, "") == "unparsed"
    assert judge(NO_COMMA, "a b") == "correct"
    assert judge(NO_COMMA, "a, b") == "wrong"
    assert judge(NO_COMMA, " ") == "unparsed"
    broken = InstructionPrompt(USER, "x", None, ("no:such",), ({},))
    assert judge(broken, "text") == "error"


def test_accuracy_counts_every_prompt_and_has_wilsons_interval() -> None:
    """3 of 4 right: Wilson's 95% interval is 0.3006..0.9544 (Wilson 1927, by hand)."""
    found = following(["correct", "correct", "unparsed", "correct"], 4, "h")
    assert found.value == 0.75
    assert found.ci95 == pytest.approx((0.30064, 0.95441), abs=1e-4)
    assert found.stderr == pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    assert (found.n, found.complete) == (4, True)


def test_a_part_of_the_prompts_is_not_the_whole() -> None:
    assert following(["correct"], 2, "h").complete is False


def test_no_prompts_are_not_zero_accuracy() -> None:
    found = following([], 0, "h")
    assert found.value is None and found.ci95 is None and found.complete is False


def test_outcomes_are_counted_per_category() -> None:
    found = outcomes_by_category([EXACT, NO_COMMA, EXACT], ["correct", "wrong", "error"])
    assert found["colours"] == {"correct": 1, "wrong": 0, "unparsed": 0, "error": 1}
    assert found["style"]["wrong"] == 1


def test_short_held_out_rows_become_prompts() -> None:
    rows = [
        example(1, "Name a colour.", "red", "colours"),
        example(2, "Tell me more.", "one two three four five six seven eight nine"),
        example(3, "Name a day.", "one two three four five six seven eight"),
    ]
    found = held_out_prompts(rows, 10)
    assert [prompt.text for prompt in found] == ["Name a colour.", "Name a day."]
    assert found[0].category == "colours"
    assert len(held_out_prompts(rows, 1)) == 1
    assert held_out_prompts(rows, -3) == []


def answer(
    text: str, stop: StopReason = "eos", reference: str | None = None, fits: bool = True
) -> Written:
    return Written(Generation(text, 1, stop), reference, fits)


def test_rates_are_shares_of_the_answers() -> None:
    found = rates([answer("fine"), answer("", "length"), answer("no " * 9), answer("good")])
    assert found == {"stopped": 0.75, "empty": 0.25, "repetitive": 0.25, "over_long": 0.25}


def test_an_answer_whose_reference_is_as_long_as_the_limit_need_not_stop() -> None:
    found = rates([answer("fine"), answer("long", "length", "long " * 99, fits=False)])
    assert found["stopped"] == 1.0


def test_a_repetition_that_was_asked_for_is_not_a_loop() -> None:
    assert rates([answer("no " * 9, "eos", "no " * 9)])["repetitive"] == 0.0


def test_no_answers_have_no_rates() -> None:
    assert rates([]) == {}
    assert "stopped" not in rates([answer("long", "length", "x", fits=False)])


def test_swapped_rows_keep_the_answer_and_take_another_question() -> None:
    rows = [example(i, f"question {i}", f"answer {i}") for i in range(4)]
    for index, (own, swapped) in enumerate(swapped_instructions(rows, 10)):
        assert own == rows[index].messages
        assert swapped[-1] == own[-1]
        assert swapped[0].content == f"question {(index + 2) % 4}"


def test_rows_with_the_same_question_are_not_swapped() -> None:
    rows = [example(1, "same", "a"), example(2, "same", "b")]
    assert swapped_instructions(rows, 10) == []
