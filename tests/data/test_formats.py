"""One parsed row to a conversation, in each format; what is unclear is refused."""

from typing import Any

import pytest

from sftprep.data.formats import check_columns, detect_format, to_example
from sftprep.data.parse import READ_REASONS, RowError
from sftprep.errors import DataError
from sftprep.recipe.sections import Source
from sftprep.records import Example, SourceRef

PLACE = SourceRef("set", "set.jsonl", 7, "MIT")


def read(row: dict[str, Any], **source: Any) -> Example:
    return to_example(row, None, Source(path="set.jsonl", **source), PLACE)


def turns(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


QA = [("user", "Why?"), ("assistant", "Because.")]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": "Why?", "response": "Because."}, "instruction_response"),
        ({"instruction": "Why?", "input": "", "output": "Because."}, "alpaca"),
        ({"instruction": "Why?", "input": "", "response": "Because."}, "alpaca"),
        ({"prompt": "Why?", "completion": "Because."}, "prompt_completion"),
        ({"question": "Why?", "answer": "Because."}, "question_answer"),
        (
            {"conversations": [{"from": "human", "value": "Why?"},
                               {"from": "gpt", "value": "Because."}]},
            "sharegpt",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"},
                          {"role": "assistant", "content": "Because."}]},
            "messages",
        ),
        (
            {"prompt": [{"role": "user", "content": "Why?"}],
             "completion": [{"role": "assistant", "content": "Because."}]},
            "prompt_completion",
        ),
    ],
)  # fmt: skip
def test_each_format_gives_the_same_conversation(row: dict[str, Any], name: str) -> None:
    example = read(row)
    assert turns(example) == QA
    assert [m.train for m in example.messages] == [False, True]
    assert detect_format([row], "set.jsonl") == name
    assert example.id == read({"instruction": "Why?", "response": "Because."}).id


def test_instruction_and_input_are_joined_and_the_input_is_kept_apart() -> None:
    example = read({"instruction": "Sum up.", "input": "A text.", "output": "T."})
    assert example.messages[0].content == "Sum up.\n\nA text."
    assert example.meta["input"] == "A text."


def test_two_answer_columns_with_one_text_are_one_answer() -> None:
    example = read({"instruction": "Why?", "input": "", "output": "B.", "response": "B."})
    assert example.messages[-1].content == "B."


def test_system_column_category_and_other_columns_are_kept() -> None:
    example = read(
        {"system": "Be kind.", "instruction": "Why?", "response": "B.", "category": "qa",
         "source_id": 5, "tags": ["x"]},
        category="other",
    )  # fmt: skip
    assert example.messages[0].role == "system"
    assert example.category == "qa"
    assert example.meta == {
        "format": "instruction_response", "source_id": "5", "tags": '["x"]'
    }  # fmt: skip


def test_the_sources_category_fills_rows_without_one() -> None:
    assert read({"instruction": "a", "response": "b"}, category="c").category == "c"


def test_typed_parts_are_joined_and_a_weight_of_zero_is_not_trained() -> None:
    parts = [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]
    row = {
        "messages": [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "Hm.", "weight": 0},
            {"role": "user", "content": "Well?"},
            {"role": "assistant", "content": "Because."},
        ]
    }  # fmt: skip
    example = read(row)
    assert example.messages[0].content == "Why?"
    assert [m.train for m in example.messages] == [False, False, False, True]


def test_a_column_map_reads_any_columns() -> None:
    row = {"frage": "Why?", "antwort": "Because.", "art": "qa"}
    columns = {"instruction": "frage", "response": "antwort", "category": "art"}
    example = read(row, columns=columns)
    assert turns(example) == QA
    assert example.category == "qa"


def test_a_column_map_that_swaps_names_is_followed() -> None:
    row = {"instruction": "Because.", "response": "Why?"}
    columns = {"instruction": "response", "response": "instruction"}
    assert turns(read(row, columns=columns)) == QA


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"text": "only text"}, "format_unknown"),
    ({}, "format_unknown"),
    ({"instruction": "a", "output": "b", "response": "c"}, "columns_conflict"),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference_row"),
    ({"instruction": "a", "response": 5}, "field_wrong_type"),
    ({"instruction": ["a"], "response": "b"}, "field_wrong_type"),
    ({"messages": "text"}, "field_wrong_type"),
    ({"messages": ["text"]}, "field_wrong_type"),
    ({"messages": [user("a"), {"role": "assistant", "content": [{"type": "image"}]}]},
     "field_wrong_type"),
    ({"messages": [{"role": "narrator", "content": "a"}]}, "role_unknown"),
    ({"messages": [{"content": "a"}]}, "role_unknown"),
    ({"messages": [user("a"), user("b"), bot("c")]}, "roles_out_of_order"),
    ({"messages": [bot("c"), user("a"), bot("c")]}, "roles_out_of_order"),
    ({"messages": [user("a"), {"role": "assistant", "tool_calls": [{}]}]},
     "tool_call_unsupported"),
    ({"instruction": None, "response": "b"}, "instruction_missing"),
    ({"messages": []}, "instruction_missing"),
    ({"instruction": "a", "response": None}, "response_missing"),
    ({"instruction": "a"}, "response_missing"),
    ({"messages": [user("a")]}, "response_missing"),
    ({"messages": [user("a"), bot(None)]}, "response_missing"),
    ({"messages": [user("a"), {**bot("b"), "train": False}]}, "response_missing"),
)  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), REFUSED, ids=lambda v: str(v)[:50])
def test_an_unusable_row_has_its_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read(row)
    assert caught.value.reason.id == reason


def test_every_reason_of_reading_a_row_has_a_case() -> None:
    parsing = ("json_", "encoding_", "nul_", "surrogate_", "row_too_big")
    ours = {r.id for r in READ_REASONS if not r.id.startswith(parsing)}
    assert ours == {reason for _, reason in REFUSED}


def test_a_row_of_another_format_in_the_file_is_read_by_its_own() -> None:
    example = to_example(
        {"question": "Why?", "answer": "Because."}, "alpaca", Source(path="x"), PLACE
    )
    assert example.meta["format"] == "question_answer"
    assert turns(example) == QA


def test_an_explicit_format_is_not_second_guessed() -> None:
    with pytest.raises(RowError, match="instruction_missing"):
        read({"question": "Why?", "answer": "B."}, format="alpaca")


def test_preference_data_is_refused_with_the_way_to_convert() -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(DataError, match=r'prefs\.jsonl: preference data.*"response": chosen'):
        detect_format([row], "prefs.jsonl")


@pytest.mark.parametrize(
    ("source", "hint"),
    [({"format": "alpacca"}, "alpaca"), ({"columns": {"responce": "x"}}, "response")],
)
def test_unknown_names_give_the_nearest(source: dict[str, Any], hint: str) -> None:
    with pytest.raises(DataError, match=f"Did you mean '{hint}'"):
        check_columns(Source(path="x", **source))
