"""No text makes a check slow: 100 kB of the worst patterns takes each of them well under 2 s."""

import time

import pytest

from sftprep.data.checks import resolve
from sftprep.data.conversation import Row
from sftprep.data.coverage import task_kind
from sftprep.data.features import features_of
from sftprep.records import Example, Message, SourceRef

SIZE = 100_000
LIMIT_SECONDS = 2.0  # a quadratic pattern needs minutes at this size
SEEDS = (
    "a", "1 + ", "1+", "1,", "( ", "a@a.a", "- ", "I'm sorry, ", "as an ai ", "you are a ",
    "how to make a ", "```", "\n \n", "\n1. ", "Instruction:\n", "eyJa.", "sk-a", "1234-", "[[",
    "| ", "damn ", "\u201c", "\u00c3", "i was trained by ", "list all the x ",
    "summarize the following ", "no input ", "\u4e2d", "the the ", "lorem ipsum ",
    "http://a", "www.a-", "my e-mail is ", "555-", "12 34 ", "{{", "1 plus ", "sum of 1 and ",
    "all women are ", "i can't ", "unfortunately, ", "as an ai, ", "in the ", "look at this ",
    "search the ", "\nQ: ", "Instruction: ", "password ", "&amp;", "don?t ", "he is, ", "AB12 ",
    "12 puppies + ", "9^2 = ", "(1 + ", "1 hour = ", "{x_name} ", "visit a.",
    "what is the current ", "leider kann ich ", "i am the model ", "they are all ", "Draw a x ",
    "\n| a ", "here is a x ",
    "{\n", '"a', "//", "write a malware to ", "the following x ", "as an ai made ", "in the text, ",
    "\nTask: ", "-----BEGIN PRIVATE KEY-----\n", "fifty-four plus ", "1, 2, 3 and ",
    "Friends help. ",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", ["prompt", "answer"])
def test_no_check_is_slow_on_a_repeated_pattern(seed: str, place: str) -> None:
    text = (seed * (SIZE // len(seed) + 1))[:SIZE]
    prompt, answer = (text, "Because.") if place == "prompt" else ("Why is it so?", text)
    messages = (Message("user", prompt, False), Message("assistant", answer, True))
    example = Example("id", SourceRef("s", "f", 1), messages)
    spent = {}
    for check in resolve({}, 10**9):
        start = time.process_time()
        check.find(Row(example), check.threshold or 0.0)
        spent[check.id] = time.process_time() - start
    start = time.process_time()
    features_of(example)
    spent["features"] = time.process_time() - start
    start = time.process_time()
    task_kind(Row(example))
    spent["task_kind"] = time.process_time() - start
    assert {name: s for name, s in spent.items() if not s < LIMIT_SECONDS} == {}
