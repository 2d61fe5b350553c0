"""Choosing and showing sample answers."""

from sftprep.evaluate.samples import choose_samples, shown_prompt, side_by_side
from sftprep.records import Example, Message, Role, SourceRef


def example(
    number: int, category: str | None, answer: str = "red", last: Role = "assistant"
) -> Example:
    turns = (Message("user", f"q{number}", False), Message(last, answer, True))
    return Example(f"id{number}", SourceRef("d", "f", number), turns, category=category)


def test_categories_take_turns() -> None:
    rows = [example(1, "a"), example(2, "a"), example(3, "a"), example(4, "b"), example(5, None)]
    assert [one.id for one in choose_samples(rows, 4)] == ["id1", "id4", "id5", "id2"]


def test_rows_that_do_not_end_with_an_answer_are_left_out() -> None:
    assert choose_samples([example(1, "a", last="user")], 3) == []


def test_no_samples_are_none() -> None:
    assert choose_samples([example(1, "a")], 0) == []


def test_several_turns_are_shown_with_their_roles() -> None:
    one = Message("user", "hello", False)
    assert shown_prompt([one]) == "hello"
    assert (
        shown_prompt([Message("system", "be kind", False), one]) == "system: be kind\nuser: hello"
    )


def test_short_references_are_judged_and_long_ones_are_not() -> None:
    rows = [example(1, "a"), example(2, "a"), example(3, "b", "word " * 9)]
    found = side_by_side(rows, ["x", "y", "z"], ["red", "blue", "text"])
    assert [one.outcome for one in found] == ["correct", "wrong", None]
    assert [(one.base, one.sft) for one in found] == [("x", "red"), ("y", "blue"), ("z", "text")]
    assert side_by_side(rows[:1], None, ["red"])[0].base is None
