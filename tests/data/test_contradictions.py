"""Answers that contradict each other, and answers that only differ."""

import pytest

from sftprep.data.contradictions import contradiction

CONTRADICT = [
    ("What is the capital of Australia?", "Sydney", "Canberra"),
    ("What is the capital of Australia?", "The capital of Australia is Sydney.",
     "The capital of Australia is Canberra."),
    ("Is the earth flat?", "Yes, it is.", "No, it is round."),
    ("Is 7 a prime number?", "True", "False"),
    ("When did the war end?", "It ended in 1945.", "1944"),
    ("How many legs has a spider?", "10", "8 legs"),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has six legs."),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare.",
     "Christopher Marlowe wrote Hamlet."),
    ("What is the capital of Australia?", "The capital of Australia is Canberra.",
     "Sydney is the capital of Australia."),
    ("Is Pluto a planet?", "Pluto is not a planet.", "Pluto is a planet."),
    ("Is the sentence positive or negative: I hate rain.", "Negative", "Positive"),
    ("Which gas do plants absorb?", "Plants absorb carbon dioxide.", "Plants absorb oxygen."),
]  # fmt: skip
ONLY_DIFFER = [
    ("Give me the title of a novel.", "Emma", "Ivanhoe"),
    ("What is SQL?", "A declarative language for databases.", "Structured Query Language."),
    ("Where do bears live?", "In forests.", "Forests"),
    ("Who wrote Emma?", "Jane Austen wrote it.", "It was written by Jane Austen."),
    ("At what temperature does ethanol boil?", "At 78 degrees.", "At 78.37 degrees."),
    ("How much is it?", "It costs 1,000 euros.", "1000"),
    ("Write a poem about a bird.", "A robin sings.", "An owl hoots."),
    ("Why?", "", "Because."),
    ("How many legs has a spider?", "8", "Eight"),
    ("Is Rome worth a visit?", "Yes, it is worth it.", "Absolutely, Rome is lovely."),
    ("How can I sleep better?", "Go to bed early.", "Avoid coffee."),
    ("Explain gravity.", "Gravity pulls masses together.", "It is a force between masses."),
    ("Paraphrase: I am tired.", "I feel weary.", "I am exhausted."),
    ("What are some fruits?", "Apples and pears", "Plums and figs"),
    ("Who is the author of Emma?", "Jane Austen", "It was Miss Jane Austen of Steventon"),
]


@pytest.mark.parametrize(("question", "answer", "other"), CONTRADICT)
def test_contradictions_are_told(question: str, answer: str, other: str) -> None:
    assert contradiction(question, answer, other) is not None
    assert contradiction(question, other, answer) is not None


@pytest.mark.parametrize(("question", "answer", "other"), ONLY_DIFFER)
def test_other_words_are_no_contradiction(question: str, answer: str, other: str) -> None:
    assert contradiction(question, answer, other) is None
