"""The 25 kinds of instruction whose observance a program can check (IFEval, Zhou et al. 2023).

Written from the paper's descriptions; where the wording leaves room, the reading is the one that
lm-eval 0.4.13 decides, so that numbers compare. Texts are the model's; keywords come from the file.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks.wording import (
    Detect,
    count_capital_words,
    count_sentences,
    count_words,
    language_detector,
)

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]


class LanguageUnknown(Exception):
    """A check needs to know the language and nothing here can tell."""


def _compare(count: int, relation: str, limit: int) -> bool:
    return count < limit if relation == "less than" else count >= limit


def _pattern(words: str) -> str:
    """Words of an item as the pattern they are in IFEval; literally where one could be endless."""
    return words if re.fullmatch(r"[\w\s.,:;'\-]*", words) else re.escape(words)


def keywords_present(text: str, a: Arguments) -> bool:
    """Every keyword occurs; keywords are patterns, case does not matter."""
    return all(re.search(_pattern(word), text, re.IGNORECASE) for word in a["keywords"])


def keyword_frequency(text: str, a: Arguments) -> bool:
    """A keyword occurs often or rarely enough."""
    found = len(re.findall(_pattern(a["keyword"].strip()), text, re.IGNORECASE))
    return _compare(found, a["relation"], a["frequency"])


def forbidden_words_absent(text: str, a: Arguments) -> bool:
    """None of the words stands in the text as a whole word."""
    words = a["forbidden_words"]
    return not any(re.search(rf"\b{_pattern(word)}\b", text, re.IGNORECASE) for word in words)


def letter_frequency(text: str, a: Arguments) -> bool:
    """A letter (or sign) occurs often or rarely enough; case does not matter."""
    found = Counter(text.lower())[a["letter"].strip().lower()]
    return _compare(found, str(a["let_relation"]), int(a["let_frequency"]))


def number_sentences(text: str, a: Arguments) -> bool:
    """Enough, or few enough, sentences."""
    return _compare(count_sentences(text), a["relation"], a["num_sentences"])


def number_words(text: str, a: Arguments) -> bool:
    """Enough, or few enough, words."""
    return _compare(count_words(text), a["relation"], a["num_words"])


def number_paragraphs(text: str, a: Arguments) -> bool:
    """Exactly so many paragraphs between `***` dividers; only the outermost may be empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    filled = [bool(part.strip()) for part in parts]
    return all(filled[1:-1]) and sum(filled) == int(a["num_paragraphs"])


def nth_paragraph_first_word(text: str, a: Arguments) -> bool:
    """So many paragraphs between empty lines, and the n-th begins with a given word."""
    parts = text.split("\n\n")
    count, nth = sum(bool(part.strip()) for part in parts), a["nth_paragraph"]
    if nth > count or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    first = re.split(r"[.,?!'\"]", word)[0].lower()
    return count == int(a["num_paragraphs"]) and first == str(a["first_word"]).lower()


def number_placeholders(text: str, a: Arguments) -> bool:
    """At least so many `[placeholders]`."""
    return len(re.findall(r"\[.*?\]", text)) >= int(a["num_placeholders"])


def postscript(text: str, a: Arguments) -> bool:
    """A postscript with the given mark."""
    mark = a["postscript_marker"].strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(mark, _pattern(mark.lower())), text.lower()) is not None


def number_bullets(text: str, a: Arguments) -> bool:
    """Exactly so many lines that begin with `* ` or `-`."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(a["num_bullets"])


def constrained_response(text: str, a: Arguments) -> bool:
    """One of the three fixed answers occurs."""
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def highlighted_sections(text: str, a: Arguments) -> bool:
    """At least so many `*highlights*`; a `**double**` one is found once by each pattern it fits."""
    single = [s for s in re.findall(r"\*[^\n\*]*\*", text) if s.strip("*").strip()]
    double = [s for s in re.findall(r"\*\*[^\n\*]*\*\*", text) if s[2:-2].strip()]
    return len(single) + len(double) >= int(a["num_highlights"])


def multiple_sections(text: str, a: Arguments) -> bool:
    """At least so many numbered section headings (`SECTION 1`)."""
    heading = rf"\s?{_pattern(a['section_spliter'].strip())}\s?\d+\s?"
    return len(re.findall(heading, text)) >= int(a["num_sections"])


def json_format(text: str, a: Arguments) -> bool:
    """The whole answer is JSON, perhaps in a fenced block."""
    body = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str, a: Arguments) -> bool:
    """A title in `<<double angular brackets>>`."""
    found = re.findall(r"<<[^\n]+>>", text)
    return any(one.lstrip("<").rstrip(">").strip() for one in found)


def two_responses(text: str, a: Arguments) -> bool:
    """Two different answers with `******` between them."""
    parts = text.split("******")
    if not all(part.strip() for part in parts[1:-1]):
        return False
    filled = [part.strip() for part in parts if part.strip()]
    return len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, a: Arguments) -> bool:
    """The answer begins with the request, word for word."""
    return text.strip().lower().startswith(a["prompt_to_repeat"].strip().lower())


def end_phrase(text: str, a: Arguments) -> bool:
    """The answer ends with the phrase (a closing quotation mark may follow)."""
    return text.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower())


def capital_word_frequency(text: str, a: Arguments) -> bool:
    """Enough, or few enough, words in capitals."""
    return _compare(count_capital_words(text), a["capital_relation"], a["capital_frequency"])


def _is_language(text: str, code: str, detect: Detect | None) -> bool:
    """True also for text without any sign of a language, as lm-eval decides."""
    if detect is None:
        raise LanguageUnknown
    return detect(text) in (code, None)


def response_language(text: str, a: Arguments) -> bool:
    """The answer is in the language with this ISO 639-1 code."""
    return _is_language(text, a["language"], a["detect"])


def english_capital(text: str, a: Arguments) -> bool:
    """English, and capitals only."""
    return text.isupper() and _is_language(text, "en", a["detect"])


def english_lowercase(text: str, a: Arguments) -> bool:
    """English, and no capitals."""
    return text.islower() and _is_language(text, "en", a["detect"])


def no_comma(text: str, a: Arguments) -> bool:
    """No comma at all."""
    return "," not in text


def quotation(text: str, a: Arguments) -> bool:
    """The whole answer stands in double quotation marks."""
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


# instruction id: (check, the arguments it needs)
CONSTRAINTS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "keywords:existence": (keywords_present, ("keywords",)),
    "keywords:frequency": (keyword_frequency, ("keyword", "frequency", "relation")),
    "keywords:forbidden_words": (forbidden_words_absent, ("forbidden_words",)),
    "keywords:letter_frequency": (letter_frequency, ("letter", "let_frequency", "let_relation")),
    "language:response_language": (response_language, ("language",)),
    "length_constraints:number_sentences": (number_sentences, ("num_sentences", "relation")),
    "length_constraints:number_paragraphs": (number_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": (number_words, ("num_words", "relation")),
    "length_constraints:nth_paragraph_first_word": (
        nth_paragraph_first_word,
        ("num_paragraphs", "nth_paragraph", "first_word"),
    ),
    "detectable_content:number_placeholders": (number_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": (number_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": (constrained_response, ()),
    "detectable_format:number_highlighted_sections": (highlighted_sections, ("num_highlights",)),
    "detectable_format:multiple_sections": (
        multiple_sections,
        ("section_spliter", "num_sections"),
    ),
    "detectable_format:json_format": (json_format, ()),
    "detectable_format:title": (title, ()),
    "combination:two_responses": (two_responses, ()),
    "combination:repeat_prompt": (repeat_prompt, ("prompt_to_repeat",)),
    "startend:end_checker": (end_phrase, ("end_phrase",)),
    "startend:quotation": (quotation, ()),
    "change_case:capital_word_frequency": (
        capital_word_frequency,
        ("capital_frequency", "capital_relation"),
    ),
    "change_case:english_capital": (english_capital, ()),
    "change_case:english_lowercase": (english_lowercase, ()),
    "punctuation:no_comma": (no_comma, ()),
}


def arguments_of(prompt: str, instruction_id: str, given: Arguments) -> dict[str, Any]:
    """The arguments an instruction needs, checked.

    Raises:
        EvaluationError: an unknown instruction, or a missing argument.
    """
    if instruction_id not in CONSTRAINTS:
        raise EvaluationError(
            f"instruction {instruction_id!r} of prompt {prompt[:60]!r} is unknown. "
            f"Known: {', '.join(CONSTRAINTS)}."
        )
    needed = CONSTRAINTS[instruction_id][1]
    missing = [name for name in needed if given.get(name) is None]
    if missing:
        raise EvaluationError(
            f"prompt {prompt[:60]!r}: {instruction_id} needs {missing[0]!r} in kwargs. Add it."
        )
    return {name: given[name] for name in needed}


def variants(response: str, loose: bool) -> list[str]:
    """The readings of an answer: itself; for loose also without its first or last line or both,
    and each of these without asterisks."""
    if not loose:
        return [response]
    lines = response.split("\n")
    cuts = [response, *("\n".join(cut).strip() for cut in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cuts, *(cut.replace("*", "") for cut in cuts)]


def check_instructions(
    prompt: str,
    response: str,
    instruction_ids: Sequence[str],
    kwargs: Sequence[Arguments],
    loose: bool = False,
    detect: Detect | None = None,
) -> list[bool]:
    """Which instructions the response follows; an empty response follows none.

    Args:
        loose: a reading without first line, last line or asterisks may follow instead.
        detect: names a text's language; default: langdetect with seed 0.
    Raises:
        LanguageUnknown: a check needs the language and langdetect is not installed.
        EvaluationError: an unknown instruction, or a missing argument.
    """
    detect = detect if detect is not None else language_detector()
    followed = []
    for identity, given in zip(instruction_ids, kwargs, strict=True):
        arguments = arguments_of(prompt, identity, given) | {"detect": detect}
        check = CONSTRAINTS[identity][0]
        texts = [text for text in variants(response, loose) if text.strip()]
        followed.append(any(check(text, arguments) for text in texts))
    return followed
