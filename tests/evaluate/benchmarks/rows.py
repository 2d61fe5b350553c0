"""Hand-made benchmark rows, one per form."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftprep.evaluate.benchmarks.protocol import Item, Protocol, Setting

SETTING = Setting(chat=lambda text: f"<user>{text}<assistant>")

CHOICE = {
    "question": " Which is a tool? ",
    "subject": "things_at_home",
    "choices": ["saw", "fox", "pie", "hat"],
    "answer": 0,
}
ENDING = {
    "ind": 1,
    "activity_label": "Rain",
    "ctx_a": "Ann [x] walks  out.",
    "ctx_b": "she",
    "endings": ["opens an umbrella.", "eats.", "sleeps.", "sings [y]loudly."],
    "label": "1",
}
PROBLEM = {"question": "2 and 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}
TRUTH = {
    "question": "Is water wet?",
    "mc1_targets": {"choices": ["Yes.", "No.", "Never."], "labels": [1, 0, 0]},
    "mc2_targets": {"choices": ["Yes.", "It is.", "No.", "Never."], "labels": [1, 1, 0, 0]},
}
CODE = {
    "task_id": "T/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
CONSTRAINED = {
    "key": 1,
    "prompt": "Write two words without a comma, in small letters.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{"language": None}, {"num_words": 3, "relation": "less than"}],
}


def one_item(protocol: Protocol, row: dict[str, Any]) -> Item:
    """The item of a single row without examples."""
    (item,) = protocol.load([row], [], 0)
    return item


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
