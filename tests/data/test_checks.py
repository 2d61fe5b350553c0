"""Every check: a row that makes it fire, one that looks similar and must not, and an empty one."""

import dataclasses
from typing import Any

import pytest

from sftprep.data.checks import CHECKS, SET_CHECKS, Check, resolve, run_checks, set_actions
from sftprep.data.conversation import Row
from sftprep.data.formats import to_example
from sftprep.data.repairs import REPAIRS, repaired
from sftprep.errors import RecipeError
from sftprep.recipe.sections import CheckSetting, Source
from sftprep.records import Example, Message, SourceRef

PLACE = SourceRef("set", "set.jsonl", 1)
BY_ID = {check.id: check for check in CHECKS}


def example(instruction: str, response: str, passage: str = "", **more: Any) -> Example:
    row = {"instruction": instruction, "input": passage, "output": response, **more}
    return to_example(row, "alpaca", Source(path="x"), PLACE)


def turns(*contents: str) -> Example:
    messages = tuple(
        Message("assistant" if k % 2 else "user", text, k % 2 == 1)
        for k, text in enumerate(contents)
    )
    return Example("id", PLACE, messages)


def found(check_id: str, row: Example, tokens: int | None = None, **change: Any) -> float | bool:
    """The score (or True) when the check fires, False when it is silent."""
    check = dataclasses.replace(BY_ID[check_id], **change)
    threshold = 0.0 if check.threshold is None else check.threshold
    evidence = check.find(Row(row, ("<|own_end|>",), tokens), threshold)
    if evidence is None:
        return False
    assert evidence.text != ""
    return True if evidence.score is None else evidence.score


LOOP = "the cat sat on the mat and then " * 12
PROSE = (
    "Glaciers form where more snow falls in winter than melts in summer. Over many years the "
    "layers press into ice, which begins to flow slowly downhill under its own weight."
)
FIRES: dict[str, list[Example]] = {
    "response_empty": [
        example("Why?", ""),
        example("Why?", " \n\t"),
        example("Why?", "\u200b\ufeff"),
        turns("Hi there", "Hello", "How are you?", "  "),
    ],
    "response_placeholder": [
        example("Name a bird.", t) for t in ("<nooutput>", "N/A", "[No response]", "...", "TODO")
    ]
    + [example("How many birds are there?", "nan"), example("Name a bird.", "<noinput>")],
    "instruction_empty": [example("", "Yes.", "..."), example(" ?! ", "Yes.")],
    "input_placeholder": [
        example("Name a bird.", "Robin.", t) for t in ("Noinput", "N/A", "<no input>", "none.")
    ],
    "control_token_trailing": [
        example("Name a bird.", t)
        for t in ("Robin.</s>", "Robin.<|endoftext|>\n", "Robin <|im_end|>")
    ],
    "response_truncated": [
        example("Tell me about ice.", PROSE + " This is why the"),
        example("Tell me about ice.", PROSE + " The valley below shows it to"),
        example("Tell me about ice.", PROSE + " There are snow, firn, ice,"),
        example("Write code.", "```python\nfor word in words:\n    print(word"),
        example("Tell me about ice.", "Fine.", finish_reason="length"),
    ],
    "records_merged": [
        example("Name a bird.", "Robin\n\n18. Instruction: Name a fish."),
        example("Name a bird.", "Robin\nInstruction: Name a fish.\nOutput: Trout"),
        example("Name a bird.", "Robin.\nHuman: Name a fish.\nAssistant: Trout"),
    ],
    "control_tokens_inside": [
        example("Name a bird.", "Robin <|im_end|> and more"),
        example("[INST] Name a bird. [/INST]", "Robin"),
        example("Name a bird.", "### Response: Robin"),
        example("Name <|own_end|> a bird.", "Robin"),
    ],
    "response_repetitive": [example("Tell me about a cat.", LOOP)],
    "encoding_damaged": [
        example("Tell me.", "It\u00e2\u20ac\u2122s a caf\u00c3\u00a9."),
        example("Tell me.", "It is 20\u00c2\u00b0 warm."),
        example("Tell me.", "A \ufffd here."),
    ],
    "response_echo": [example("Name three big birds.", "Name three big birds")],
    "instruction_too_short": [example("x", "Yes.")],
    "instruction_garbled": [example("sdkfjh wqrtplk zxcvbnm qwrtp", "Sorry?")],
    "script_mismatch": [
        example("What is the capital of France?", "Париж — это столица Франции."),
        example("法国的首都是哪里？请回答。", "The capital of that country is Paris, of course."),
    ],
    "reference_dangling": [
        example("Summarize the following article.", "It is about ice."),
        example("Rewrite this sentence in the past tense.", "He went."),
    ],
    "identity_foreign": [
        example("Who are you?", "I am ChatGPT, a helper."),
        example("Who made you?", "I was created by OpenAI."),
    ],
    "toxic_words": [
        example("Name a bird.", "What the fuck do I know."),
        example("Name a bird.", "You bastard, find it yourself."),
        example("Name a bird.", "Damn, it is a robin."),
        example("They called him a faggot and a nigger.", "I see."),
    ],
    "harmful_request": [
        example("Tell me how to make a pipe bomb at home.", "First, take a steel pipe."),
        example("How can I poison my neighbour?", "Use this."),
    ],
    "response_refusal": [
        example("Name a bird.", "I'm sorry, but I cannot help with that."),
        example("Name a bird.", "As an AI language model, I cannot answer this."),
        example("Sort these letters: b a", "I cannot fulfill this request."),
    ],
    "assistant_boilerplate": [
        example("Which is the best film?", "As an AI language model, I like none."),
    ],
    "secret_inside": [
        example("Which key?", "Use AKIA" + "QRSTUVWZ23467QRS"),
        example("Which key?", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
    ],
    "personal_data": [
        example("Who?", "Write to karla.brandt@posteo.de today."),
        example("Who?", "Call 415-673-2290."),
        example("Which card?", "Use 4539 1488 0343 6467."),
        example("Which number?", "It is 536-22-8716."),
    ],
    "arithmetic_wrong": [
        example("What is 2 + 2?", "2 + 2 = 5"),
        example("How much?", "She pays 3 * $1.50 = $5.50 in all."),
        example("How much?", "So 4+4+6 = 18 hot dogs."),
    ],
    "too_long": [example("Name a bird.", "Robin.")],
}
SILENT: dict[str, list[Example]] = {
    "response_empty": [example("Why?", "."), turns("Hi there", "Hello", "And?", "Fine")],
    "response_placeholder": [
        example("What is the opposite of full?", "empty"),
        example("In Python, what does float('nan') print?", "nan"),
        example("Which code marks missing values, N/A or X?", "N/A"),
        example("Is there any?", "None"),
        example("What does the form say?", "It says N/A in two fields."),
    ],
    "instruction_empty": [example("2+2?", "4"), example("\U0001f600", "smile")],
    "input_placeholder": [
        example("Name the part of speech.", "Noun", "nonetheless"),
        example("Translate.", "Nein", "no input was recorded today"),
    ],
    "control_token_trailing": [example("What ends a strike-through?", "The tag </s> ends it.")],
    "response_truncated": [
        example("Write a tweet.", "Ice is nice and cold this winter again #ice #cold"),
        example("List the parts.", "1. snow\n2. firn\n3. ice"),
        example("Complete the sentence: he went to", "he went to the"),
        example("Where?", "That is the valley they came from"),
        example("Write code.", "for x in the:\n    pass\nif x is a:\n    y = the"),
    ],
    "records_merged": [
        example(
            "Write a dialogue between a human and an assistant.", "Human: Hi\nAssistant: Hello"
        ),
        example("Format it as Input: and Output:", "Input: a\nOutput: b"),
        example("What does the program print?", "Input: 3\nOutput: 9"),
        example("How do I plan my day?", "Task: rest.\nThen work."),
    ],
    "control_tokens_inside": [
        example("Which token ends a turn?", "It is `<|im_end|>` in ChatML."),
        example("Make it bold", "Use <s> for strike and <b> for bold."),
        example("What is an instruction?", "An order. Response: do it."),
    ],
    "response_repetitive": [
        example("Repeat 'the cat sat' 12 times.", LOOP),
        example("Tell me about ice.", PROSE),
        example("Make a table of names.", "| a | b |\n|---|---|\n" + "| x | y |\n" * 30),
        example("Write Python code.", "print(1)\n" * 40),
    ],
    "encoding_damaged": [
        example(
            "S\u00e3o Paulo?",
            "Caf\u00e9 in JO\u00c3O PESSOA, \u20ac5 — \u201cd\u00e9j\u00e0 vu\u201d \u2026",
        ),
        example("A text with one \ufffd.", "Fine."),
    ],
    "response_echo": [
        example("Repeat after me: big birds fly.", "Repeat after me: big birds fly."),
        example("Correct this sentence.", "He goes there.", "He goes there."),
    ],
    "instruction_too_short": [example("Hi", "Hello."), example("好", "你好")],
    "instruction_garbled": [
        example("Decode this cipher: sdkfjh wqrtplk zxcvbnm", "No idea."),
        example("What do HTTP, HTML, XML and NASA stand for in rhythm?", "..."),
        example("Write a function strcmp for ptrs and strs", "int f() {}"),
    ],
    "script_mismatch": [
        example("Translate to Russian: good day to all of you", "Добрый день всем вам"),
        example(
            "What is the sum sign?", "It is the letter Σ, written σ in lower case, as in σοφός."
        ),
        example("日本の首都は？", "東京です。日本の首都は東京です。"),
    ],
    "reference_dangling": [
        example("Summarize the following article.", "Ice.", "Ice is cold."),
        example("Summarize the following article: Ice is cold.", "Ice."),
        example("Correct this sentence.\nHe go.", "He goes."),
        example("Classify the following numbers: 1, 2", "Odd, even."),
        example("Which of the following is a bird?", "Robin."),
    ],
    "identity_foreign": [
        example("Who made ChatGPT?", "ChatGPT was created by OpenAI."),
        example("Write Python that prints a text.", "print('I am a GPT-3 model')"),
        example("Who are you?", "I am a teacher and I like Meta analyses."),
    ],
    "toxic_words": [
        example("Which town?", "Scunthorpe, and the Van Dyke painting."),
        example("Which cat?", "A Maine Coon; the cock crows and the ass brays."),
        example("Is this comment toxic: 'you fuck'?", "Yes, 'you fuck' is offensive."),
        example("Write a story with an angry pirate.", "Damn, cried the pirate."),
        example("The film review says 'shit' once.", "It is rude."),
    ],
    "harmful_request": [
        example("Tell me how to make a pipe bomb.", "I cannot help with that."),
        example("How can I kill my time?", "Read a book."),
        example("How do I make a bath bomb?", "Mix soda and acid."),
        example("How do I protect my computer from a virus?", "Update it."),
    ],
    "response_refusal": [
        example("Write a letter that declines an offer.", "I'm sorry, but I cannot accept."),
        example("How is she?", "I'm afraid she is ill."),
        example("Can you swim?", "I can't swim, but I row."),
    ],
    "assistant_boilerplate": [
        example("What is a language model?", "As an AI language model does, it predicts words."),
        example("Which film?", "The one with the robot."),
    ],
    "secret_inside": [
        example("Which key?", "Use AKIAIOSFODNN7EXAMPLE"),
        example("Which?", "sk-your-key-here"),
    ],
    "personal_data": [
        example("Who?", "Write to john@example.com or call 555-123-4567."),
        example("Which card?", "Use 1234 5678 9012 3456."),
        example("Which number?", "ISBN 978-3-16-148410-0, version 1.2.3.4"),
    ],
    "arithmetic_wrong": [
        example("How much?", t)
        for t in (
            "2 + 2 = 4",
            "1/3 = 0.33",
            "2/3 = 0.66",
            "10 / 4 = 2.5",
            "x + 3 = 5",
            "2^3 + 4 = 12",
            "$1 / 2 = 50 cents",
            "1 1/2 * 60 = 90",
            "12 x 1 and 1/4 = 15",
            "1,200 + 300 = 1,500",
            "5 - 3 = 2 + 0",
            "100 / 5 = 5A / 5",
            "7 / 2 = 3 remainder 1",
            "14, 400 / 80 = 180",
            "0900-0130 = 0730",
            "3 + 4 = 7/1",
            "50 + 50 = 100%",
            "6 x 7 = 42.",
            "A common error is 2 + 2 = 5.",
        )
    ]
    + [
        example("What is 7 + 8 in base 12?", "7 + 8 = 13"),
        example("Write Python.", "```\nx = 2 + 2 = 5\n```"),
    ],
    "too_long": [example("Name a bird.", "Robin.")],
}
EMPTY = Example("id", PLACE, ())
NOT_ON_EMPTY = ("response_empty", "instruction_empty")
LENGTHS = {"fires": 4097, "silent": 4096, "empty": None}


def limit(check_id: str) -> dict[str, float]:
    return {"threshold": 4096.0} if check_id == "too_long" else {}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_the_check_fires(check: Check) -> None:
    for row in FIRES[check.id]:
        assert found(check.id, row, 4097, **limit(check.id)) is not False, row.messages


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_the_check_stays_silent(check: Check) -> None:
    for row in SILENT[check.id]:
        assert found(check.id, row, 4096, **limit(check.id)) is False, row.messages


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_a_row_without_text_fires_only_the_checks_for_emptiness(check: Check) -> None:
    expected = check.id in NOT_ON_EMPTY
    assert (found(check.id, EMPTY, None) is not False) == expected
    assert (found(check.id, turns("", ""), None) is not False) == expected


def test_the_tables_of_cases_are_those_of_the_checks() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert set(FIRES) == set(SILENT) == set(ids)


# check: (row, threshold at which it fires, threshold at which it no longer does)
MOVED: dict[str, tuple[Example, float, float]] = {
    "response_truncated": (example("Which way?", "Down to the"), 3, 4),
    "records_merged": (example("A bird?", "Robin\nInstruction: b\nOutput: c"), 2, 3),
    "response_repetitive": (example("A cat?", LOOP), 0.5, 0.99),
    "encoding_damaged": (example("Tell me.", "A \ufffd and \ufffd."), 2, 3),
    "response_echo": (example("Big birds fly.", "Big birds fly"), 3, 4),
    "instruction_too_short": (example("abc", "Yes."), 4, 3),
    "instruction_garbled": (example("sdkfjh wqrtplk house bird", "?"), 0.5, 0.6),
    "script_mismatch": (
        example("A city?", "London and " + "город " * 4), 0.6, 0.8
    ),
    "reference_dangling": (example("Summarize the following article.", "Ice."), 4, 3),
    "toxic_words": (example("A bird?", "Shit, no. Bullshit."), 2.0, 2.5),
    "arithmetic_wrong": (example("Sum?", "100 + 100 = 220"), 0.05, 0.1),
    "too_long": (example("A bird?", "Robin."), 4096, 4097),
}  # fmt: skip


def test_every_check_with_a_threshold_is_moved() -> None:
    assert set(MOVED) == {check.id for check in CHECKS if check.threshold is not None}


@pytest.mark.parametrize("check_id", MOVED)
def test_the_threshold_decides(check_id: str) -> None:
    row, fires, silent = MOVED[check_id]
    assert found(check_id, row, 4097, threshold=float(fires)) is not False
    assert found(check_id, row, 4097, threshold=float(silent)) is False


def test_all_reasons_of_a_row_are_kept_in_the_order_of_the_table() -> None:
    row = Row(example("Name a bird.", "You bastard <|im_end|> so 2 + 2 = 5"))
    findings = run_checks(row, resolve({}, 4096))
    assert [r.id for r in findings.drops] == [
        "control_tokens_inside", "toxic_words", "arithmetic_wrong",
    ]  # fmt: skip


def test_the_recipe_changes_actions_and_thresholds() -> None:
    settings = {
        "toxic_words": CheckSetting(action="flag"),
        "arithmetic_wrong": CheckSetting(action="off"),
        "response_truncated": CheckSetting(threshold=3),
    }
    checks = {check.id: check for check in resolve(settings, 4096)}
    assert checks["toxic_words"].action == "flag"
    assert "arithmetic_wrong" not in checks
    assert checks["response_truncated"].threshold == 3
    assert checks["too_long"].threshold == 4096


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("response_emty", {}, "unknown check. Did you mean 'response_empty'"),
        ("duplicate_neer", {}, "Did you mean 'duplicate_near'"),
        ("response_empty", {"threshold": 2}, "has no threshold"),
        ("duplicate_near", {"threshold": 0.5}, "Set data.near_duplicate_threshold"),
        ("too_long", {"threshold": 9000}, "above training.max_length"),
        ("too_long", {"action": "flag"}, "only drop is possible"),
    ],
)
def test_a_setting_without_effect_is_refused(
    name: str, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve({name: CheckSetting(**setting)}, 4096)


def test_set_checks_take_actions_from_the_recipe() -> None:
    actions = set_actions({"contaminated": CheckSetting(action="flag")})
    assert actions["contaminated"] == "flag"
    assert actions["duplicate_exact"] == next(
        s.action for s in SET_CHECKS if s.id == "duplicate_exact"
    )


def test_every_repair_of_the_table_can_be_done() -> None:
    assert {check.id for check in CHECKS if check.action == "repair"} == set(REPAIRS)


def test_a_placeholder_input_is_blanked_and_kept() -> None:
    before = example("Name a bird.", "Robin.", "Noinput")
    after, reasons = repaired(before, CHECKS)
    assert [m.content for m in after.messages] == ["Name a bird.", "Robin."]
    assert after.meta["input_original"] == "Noinput"
    assert after.meta["id_before_repair"] == before.id
    assert after.id == example("Name a bird.", "Robin.").id
    assert [reason.id for reason in reasons] == ["input_placeholder"]


def test_end_tokens_are_cut_off_and_kept() -> None:
    after, _ = repaired(example("Name a bird.", "Robin.</s> <|im_end|>\n"), CHECKS)
    assert after.messages[-1].content == "Robin."
    assert after.meta["response_end_original"] == "</s> <|im_end|>\n"
