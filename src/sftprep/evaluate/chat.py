"""Talking to a checkpoint in the terminal: tokens appear as they are written."""

import sys
from typing import TextIO

from sftprep.evaluate.engine import Engine, GenerateRequest, load_engine
from sftprep.progress import Progress, show
from sftprep.recipe.sections import ModelSection
from sftprep.records import Message
from sftprep.stop import StopSignal

MAX_NEW_TOKENS = 512
UNFINISHED = "�"
"""Shown by decoders for a character whose last bytes are still to come."""


def chat(
    ref: str,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    lines: TextIO | None = None,
    out: TextIO | None = None,
) -> None:
    """Read a line, answer it, remember both; the end of the input (Ctrl-D) ends the talk.

    The whole talk so far is the prompt; what no longer fits the context is forgotten.
    Control characters in the answer are shown as \\xNN, so a model cannot steer the terminal.

    Raises:
        ModelError: the checkpoint cannot be loaded.
    """
    engine = load_engine(ref, ModelSection(base=ref))
    lines, out = lines or sys.stdin, out or sys.stdout
    talk: list[Message] = []
    while True:
        print("> ", end="", file=out, flush=True)
        line = lines.readline()
        if not line:
            print(file=out)
            return
        if line.strip():
            talk.append(Message("user", line.strip(), False))
            answer = reply(engine, talk, max_new_tokens, out)
            talk.append(Message("assistant", answer, False))


def reply(engine: Engine, talk: list[Message], max_new_tokens: int, out: TextIO) -> str:
    """Stream the answer to the talk so far; returns its text."""
    from sftprep.data.render import prompt_text
    from sftprep.evaluate.generation import generate

    shown = ""

    def on_text(text: str) -> None:
        nonlocal shown
        ready = text.rstrip(UNFINISHED)
        if ready.startswith(shown) and len(ready) > len(shown):
            print(show(ready[len(shown) :]), end="", file=out, flush=True)
            shown = ready

    request = GenerateRequest(
        prompt_text(talk, engine.tokenizer), max_new_tokens, add_special_tokens=False
    )
    quiet, stop = Progress(quiet=True), StopSignal()
    found = generate(engine, [request], quiet, stop, "answering", on_text)[0]
    print(show(found.text[len(shown) :]), file=out, flush=True)
    return found.text
