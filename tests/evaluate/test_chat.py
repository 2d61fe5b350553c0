"""Talking in the terminal."""

import io
from collections.abc import Callable
from pathlib import Path

import torch

from sftprep.data.render import prompt_text
from sftprep.evaluate.chat import chat, reply
from sftprep.evaluate.engine import Engine, GenerateRequest
from sftprep.progress import Progress, show
from sftprep.records import Message
from sftprep.stop import StopSignal

Make = Callable[..., Engine]


def test_the_streamed_text_is_the_answer(make_engine: Make) -> None:
    engine, out = make_engine(), io.StringIO()
    talk = [Message("user", "Name a colour.", False)]
    text = reply(engine, talk, 20, out)
    request = GenerateRequest(prompt_text(talk, engine.tokenizer), 20, add_special_tokens=False)
    expected = engine.generate([request], Progress(quiet=True), StopSignal(), "x")[0].text
    assert text == expected
    assert out.getvalue() == show(expected) + "\n"


def test_escape_sequences_cannot_reach_the_terminal(make_engine: Make) -> None:
    engine, out = make_engine(), io.StringIO()
    escape = engine.tokenizer.encode("\x1b", add_special_tokens=False)
    with torch.no_grad():
        engine.model.lm_head.weight.zero_()
        engine.model.model.norm.weight.fill_(1.0)
        engine.model.lm_head.bias = torch.nn.Parameter(torch.zeros(engine.model.config.vocab_size))
        engine.model.lm_head.bias[escape[0]] = 9.0
    text = reply(engine, [Message("user", "hi", False)], 3, out)
    assert text == "\x1b" * 3
    assert out.getvalue() == "\\x1b\\x1b\\x1b\n"


def test_a_talk_has_several_turns_and_ends_with_the_input(saved_model: Path) -> None:
    out = io.StringIO()
    lines = io.StringIO("hello\n\nand again\n")
    chat(str(saved_model), max_new_tokens=4, lines=lines, out=out)
    assert out.getvalue().count("> ") >= 4
    assert out.getvalue().endswith("> \n")
