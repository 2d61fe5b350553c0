"""Two answers to the same question: do they contradict each other, or do they only differ?

Different words are no contradiction; most questions have many good answers. Told apart are: yes
against no, two short answers that share nothing, one number against another, and two sentences
alike but for one or two words. A question for a free choice ("name a bird") or a definition ("what
is SQL?") is exempt where only the choice differs.
"""

import re

from sftprep.data.text import words
from sftprep.data.wordlists import word_list

SHORT_WORDS = 8  # an answer up to here is the bare fact
SENTENCE_WORDS = 25  # a number contradicts another up to here
MAX_EXCHANGED = 2
MAX_FACT_WORDS = 3
BARE_WORDS = 2  # such an answer may be one of the question's own words (a label)
_YES = frozenset(
    {"yes", "true", "correct", "right", "absolutely", "definitely", "certainly", "yeah"}
)
_NO = frozenset({"no", "false", "incorrect", "wrong", "not"})
_NEGATIONS = frozenset({"not", "never", "no", "cannot", "t"})
# Questions that many short answers are right for.
_OPEN = re.compile(
    r"\W*(?:please\s+)?(?:explain|describe|why|discuss|compare|tell|how\s+(?:can|do|does|should|to|would|could"
    r"|might)|what\s+(?:can|should|would|could|might|happens|makes|are\s+(?:some|the\s+(?:benefits|advantages"
    r"|ways|reasons|causes))))\b",
    re.IGNORECASE,
)
# Questions with one right answer: only there do two short answers contradict each other.
_ASKS_FACT = re.compile(
    r"""\b(?:who|whose|when|where|which|how\s+(?:many|much|old|far|long|tall|big|high|fast|often|deep|heavy)
      |what(?:\s+is|\s+was|['\u2019]s|\s+are|\s+were)\s+(?:the|\d)|what\s+(?:year|colou?r|number|country|city
        |language|type|kind|day|month|planet|animal|gas|element|temperature|time|percentage)
      |(?:in|at|on|to|of|from)\s+what|name\s+the|identify|classify|categori[sz]e|sentiment|true\s+or\s+false
      |translate|convert|calculate|compute|solve|determine)\b
    | ^\W*what\s+(?:gas|do|does|did)\b | ^\W*(?:is|are|was|were|does|do)\b[^?\n]{0,80}\bor\b""",
    re.IGNORECASE | re.VERBOSE,
)
_FREE_CHOICE = re.compile(
    r"""^\W*(?:please\s+|can\s+you\s+|could\s+you\s+)?(?:give|name|write|generate|create|list
      |suggest|tell|compose|make|describe|provide
          |think|recommend|pick|choose|find(?!\s+the\s+(?:sum|product|difference|total|value|number|average))|come|invent|design|propose|construct|form|produce
            |say|offer|share|brainstorm|draft|identify)\b
          (?:\s+\w+){0,4}?\s+(?:an?|some|any|one|two|three|four|five|\d+|your|several|another
            |possible|synonyms?|antonyms?)\b
        |^\W*(?:what|who)\s+(?:is|are|was|were)\s+(?:an?\s+)?[\w-]+\W*$
        |\b(?:paraphrase|rephrase|reword|rewrite|complete|continue)\b|\bwhat\s+are\s+(?:some|a\s+few)\b
        |\b(?:favou?rite|an?\s+example|synonyms?|antonyms?|random|opinion|do\s+you\s+think
          |would\s+you|your\s+name|who\s+are\s+you|what\s+are\s+you|how\s+are\s+you
          |one\s+of\s+the)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SMALL = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "is",
        "are",
        "was",
        "were",
        "it",
        "this",
        "that",
        "and",
        "or",
    ]
)


def contradiction(question: str, answer: str, other: str) -> str | None:
    """How the answers contradict each other, None when they may both be right."""
    left, right = _counted(words(answer[:2000])), _counted(words(other[:2000]))
    if not left or not right or left == right:
        return None
    opening = (left[0] in _YES, left[0] in _NO), (right[0] in _YES, right[0] in _NO)
    if opening in (((True, False), (False, True)), ((False, True), (True, False))):
        return "yes against no"
    if _FREE_CHOICE.search(question[:600]) or (any(opening[0]) and any(opening[1])):
        return None
    if _one_denies(left, right):
        return "said and denied"
    numbers = _numbers(answer, left), _numbers(other, right)
    if max(len(left), len(right)) <= SENTENCE_WORDS and all(len(set(n)) == 1 for n in numbers):
        if _same_number(numbers[0][0], numbers[1][0]):
            return None
        return f"{numbers[0][0]} against {numbers[1][0]}"
    short = max(len(left), len(right)) <= SHORT_WORDS and not _OPEN.match(question)
    if short and _share_nothing(left, right):
        return "different facts"
    if _ASKS_FACT.search(question[:600]) and _other_facts(question, left, right):
        return "different facts"
    exchanged = [(a, b) for a, b in zip(left, right, strict=False) if a != b]
    facts = [(a, b) for a, b in exchanged if a not in _SMALL and b not in _SMALL]
    same_length = len(left) == len(right) and len(exchanged) <= MAX_EXCHANGED
    if same_length and facts and min(len(a) for a, _ in facts) >= 3 and len(left) > 2:
        return f"{facts[0][0]} against {facts[0][1]}"
    return None


_NUMBER_WORDS = {word: str(value) for value, word in enumerate(word_list("number_words"))}


def _counted(found: list[str]) -> list[str]:
    """Number words as digits."""
    return [_NUMBER_WORDS.get(word, word) for word in found]


def _numbers(text: str, found: list[str]) -> list[str]:
    """Numbers of an answer, in figures or else in words."""
    return _NUMBER.findall(text) or [word for word in found if word.isdecimal()]


def _one_denies(left: list[str], right: list[str]) -> bool:
    """The same sentence, with a negation in one of the two."""
    if max(len(left), len(right)) > SENTENCE_WORDS:
        return False
    return _NEGATIONS.isdisjoint(left) != _NEGATIONS.isdisjoint(right) and [
        w for w in left if w not in _NEGATIONS
    ] == [w for w in right if w not in _NEGATIONS]


def _share_nothing(left: list[str], right: list[str]) -> bool:
    """Both have words of their own, and more of them than they have in common."""
    own_left, own_right = set(left) - set(right) - _SMALL, set(right) - set(left) - _SMALL
    own = len(own_left | own_right)
    return bool(own_left and own_right) and own > len(set(left) & set(right))


def _other_facts(question: str, left: list[str], right: list[str]) -> bool:
    """Beside the question's own words the answers share nothing, and neither says much more.

    A question of more than twice SENTENCE_WORDS is no plain question for a fact.
    """
    if max(len(left), len(right), len(words(question)) // 2) > SENTENCE_WORDS:
        return False
    bare = max(len(left), len(right)) <= BARE_WORDS
    known = _SMALL if bare else _SMALL.union(words(question[:2000]))
    own_left, own_right = set(left) - known, set(right) - known
    shared = own_left & own_right
    mine, theirs = own_left - shared, own_right - shared
    short = max(len(left), len(right)) <= SHORT_WORDS
    agree = bool(shared) and not any(word.isdigit() for word in shared) and not short
    few = short or max(len(mine), len(theirs)) <= MAX_FACT_WORDS
    return bool(mine and theirs) and few and not (agree or (shared and len(shared) >= len(mine)))


def _same_number(left: str, right: str) -> bool:
    """Equal once both are rounded to the fewer decimals."""
    a, b = left.replace(",", ""), right.replace(",", "")
    try:
        digits = min(len(a.partition(".")[2]), len(b.partition(".")[2]))
        return round(float(a), digits) == round(float(b), digits)
    except ValueError:
        return a == b
