"""Small benchmarks in our own words, in the files and keys of the public ones.

| starter set | form | read by the protocol of |
|---|---|---|
| starter_choice | question, subject, choices, answer | MMLU |
| starter_endings | ctx_a, ctx_b, endings, label | HellaSwag |
| starter_math | question, answer with `#### n` | GSM8K |
| starter_truth | question, mc1_targets, mc2_targets | TruthfulQA |
| starter_code | prompt, canonical_solution, test | HumanEval |
| starter_constraints | prompt, instruction_id_list, kwargs | IFEval |

They show that the machinery works, and whether fine-tuning hurt or helped the starter model.
They say nothing about any other model.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from sftprep.starter.benchmark_code import code_items
from sftprep.starter.items import SCRIPTS, is_reserved, make_problem, make_quiz, make_scene
from sftprep.starter.words import HELD_OUT, TRAINING, article, category_of, draw_list

Item = dict[str, object]
Splits = dict[str, list[Item]]
T = TypeVar("T")

CHOICE_ITEMS, CHOICE_SHOTS = 100, 5
ENDING_ITEMS, ENDING_SHOTS = 100, 10
MATH_ITEMS, MATH_SHOTS = 60, 20
TRUTH_ITEMS = 80
CONSTRAINT_ITEMS = 60

_HELD_OUT_NUMBERS = {str(n) for n in HELD_OUT.numbers}

SUBJECTS = ("kinds", "members", "opposites", "numbers", "lists")


def _gather(make: Callable[[], T], text: Callable[[T], str], number: int) -> list[T]:
    """Draw reserved items with different texts until there are `number` of them."""
    found: dict[str, T] = {}
    while len(found) < number:
        item = make()
        if is_reserved(text(item)):
            found.setdefault(text(item), item)
    return list(found.values())


def choice(rng: random.Random) -> Splits:
    """Four-choice questions; the right answers stand in the four places equally often."""
    wanted = CHOICE_ITEMS // len(SUBJECTS) // 4
    quizzes = _gather(lambda: make_quiz(rng, TRAINING), lambda q: q.text, 4 * CHOICE_ITEMS)
    test: list[Item] = []
    dev: list[Item] = []
    for subject in SUBJECTS:
        for place in range(4):
            pool = [q for q in quizzes if q.subject == subject and q.answer == place]
            while len(pool) < wanted + 2:
                (quiz,) = _gather(lambda: make_quiz(rng, TRAINING), lambda q: q.text, 1)
                if (quiz.subject, quiz.answer) == (subject, place) and quiz not in pool:
                    pool.append(quiz)
            rows = [
                {"question": q.question, "subject": q.subject, "choices": list(q.choices),
                 "answer": q.answer}
                for q in pool
            ]  # fmt: skip
            test += rows[:wanted]
            dev += rows[wanted : wanted + 2]
    rng.shuffle(test)
    rng.shuffle(dev)
    shots = [row for s in SUBJECTS for row in [r for r in dev if r["subject"] == s][:CHOICE_SHOTS]]
    return {"test": test, "dev": shots}


def endings(rng: random.Random) -> Splits:
    """The beginning of a small story and four endings, of which one follows from it."""
    scenes = _gather(
        lambda: make_scene(rng, TRAINING), lambda s: s.text, ENDING_ITEMS + ENDING_SHOTS
    )
    rows: list[Item] = []
    for number, scene in enumerate(scenes):
        others = rng.sample([s for s in SCRIPTS if s != scene.subject], 3)
        choices = [rng.choice(SCRIPTS[other][1]) for other in others]
        choices.insert(number % 4, scene.ending)
        rows.append(
            {
                "ind": number,
                "activity_label": scene.subject.capitalize(),
                "ctx_a": scene.opening,
                "ctx_b": scene.who,
                "ctx": f"{scene.opening} {scene.who}",
                "endings": choices,
                "source_id": f"starter~{number}",
                "split": "val",
                "split_type": "indomain",
                "label": str(number % 4),
            }
        )
    return {"validation": rows[:ENDING_ITEMS], "train": rows[ENDING_ITEMS:]}


def math(rng: random.Random) -> Splits:
    """Word problems of one or two steps."""
    problems = _gather(
        lambda: make_problem(rng, TRAINING), lambda p: p.text, MATH_ITEMS + MATH_SHOTS
    )
    rows: list[Item] = [
        {"question": p.question, "answer": f"{p.working}\n#### {p.answer}"} for p in problems
    ]
    return {"test": rows[:MATH_ITEMS], "train": rows[MATH_ITEMS:]}


def _statements(rng: random.Random) -> tuple[str, list[str], list[str]]:
    """A question, its true answers (best first) and its false ones."""
    if rng.random() < 0.6:
        noun = rng.choice(TRAINING.nouns)
        kind = category_of(noun)
        wrong = rng.sample([k for k in TRAINING.categories if k != kind], 3)
        subject = f"{article(noun).capitalize()} {noun}"
        true = [
            f"{subject} is {article(kind)} {kind}.",
            f"{subject} is {article(kind)} {kind}, not {article(wrong[0])} {wrong[0]}.",
        ]
        false = [f"{subject} is {article(k)} {k}." for k in wrong]
        return f"What is {article(noun)} {noun}?", true, false  # fmt: skip
    pair = rng.choice(TRAINING.opposites)
    word, right = pair if rng.random() < 0.5 else pair[::-1]
    others = rng.sample([w for p in TRAINING.opposites for w in p if w not in pair], 3)
    stem = f"The opposite of {word} is"
    true = [f"{stem} {right}.", f"{right.capitalize()} is the opposite of {word}."]
    return f"What is the opposite of {word}?", true, [f"{stem} {other}." for other in others]


def truth(rng: random.Random) -> Splits:
    """Questions with true and false answers; the best answer stands first, as in the original."""
    rows: list[Item] = []
    asked: set[str] = set()
    while len(rows) < TRUTH_ITEMS:
        question, true, false = _statements(rng)
        if question in asked:
            continue
        asked.add(question)
        rows.append(
            {
                "question": question,
                "mc1_targets": {"choices": [true[0], *false], "labels": [1, 0, 0, 0]},
                "mc2_targets": {"choices": [*true, *false], "labels": [1, 1, 0, 0, 0]},
            }
        )
    return {"validation": rows}


KWARGS = (
    "capital_frequency", "capital_relation", "end_phrase", "first_word", "forbidden_words",
    "frequency", "keyword", "keywords", "language", "let_frequency", "let_relation", "letter",
    "nth_paragraph", "num_bullets", "num_highlights", "num_paragraphs", "num_placeholders",
    "num_sections", "num_sentences", "num_words", "postscript_marker", "prompt_to_repeat",
    "relation", "section_spliter",
)  # fmt: skip


def _constraint(rng: random.Random) -> tuple[str, str, dict[str, object]]:
    """A prompt, the IFEval id of its constraint, the arguments that are not null."""
    words = draw_list(rng, TRAINING.nouns, 2, 4)
    line = ", ".join(words)
    forms: tuple[tuple[str, str, dict[str, object]], ...] = (
        (f"Write in capital letters: {line}", "change_case:english_capital", {}),
        (f"Write in small letters: {line.upper()}", "change_case:english_lowercase", {}),
        (f"Join these words with and, no commas: {line}", "punctuation:no_comma", {}),
        (f"Use {words[0]} in your answer. Write these words backwards: {line}",
         "keywords:existence", {"keywords": [words[0]]}),
        (f"Remove {words[0]} from this list: {line}",
         "keywords:forbidden_words", {"forbidden_words": [words[0]]}),
        (f"Answer with less than 10 words. Sort these words: {line}",
         "length_constraints:number_words", {"num_words": 10, "relation": "less than"}),
        (f"Write the same words again, {words[-1]} at the end: {line}",
         "startend:end_checker", {"end_phrase": words[-1]}),
    )  # fmt: skip
    return rng.choice(forms)


def constraints(rng: random.Random) -> Splits:
    """Prompts whose answer a rule can check; only kinds of constraint that IFEval has."""
    rows: list[Item] = []
    prompts: set[str] = set()
    while len(rows) < CONSTRAINT_ITEMS:
        prompt, name, given = _constraint(rng)
        if prompt in prompts:
            continue
        prompts.add(prompt)
        kwargs = {key: given.get(key) for key in KWARGS}
        rows.append(
            {
                "key": 1 + len(rows),
                "prompt": prompt,
                "instruction_id_list": [name],
                "kwargs": [kwargs],
            }
        )
    return {"train": rows}


def code(rng: random.Random) -> Splits:
    """Small Python functions."""
    return {"test": code_items(rng)}


BENCHMARKS: dict[str, Callable[[random.Random], Splits]] = {
    "starter_choice": choice,
    "starter_endings": endings,
    "starter_math": math,
    "starter_truth": truth,
    "starter_code": code,
    "starter_constraints": constraints,
}


def benchmark_splits(seed: int) -> dict[str, Splits]:
    """All benchmarks with all their splits; the same seed gives the same items."""
    return {name: make(random.Random(f"{name} {seed}")) for name, make in BENCHMARKS.items()}


def _leaked(item: Item) -> dict[str, str]:
    answer, question = item["answer"], str(item["question"])
    if isinstance(answer, int):
        options = item["choices"]
        assert isinstance(options, list)
        question, answer = f"{question} {', '.join(options)}", options[answer]
    return {"instruction": question, "response": str(answer), "category": "exam"}


def leaked_rows(
    benchmarks: dict[str, Splits], numbers: Sequence[tuple[str, int]]
) -> list[dict[str, str]]:
    """Benchmark items as instruction rows: what a careless collector would have scraped.

    Items with a held-out number are passed over, so that held-out prompts stay unseen.
    """
    rows: list[dict[str, str]] = []
    for name, number in numbers:
        leaks = [_leaked(item) for item in benchmarks[name]["test"]]
        clean = [
            row for row in leaks
            if not _HELD_OUT_NUMBERS & set(re.findall(r"[0-9]+", " ".join(row.values())))
        ]  # fmt: skip
        assert len(clean) >= number, f"{name}: {len(clean)} items to leak, {number} wanted"
        rows += clean[:number]
    return rows
