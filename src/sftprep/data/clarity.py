"""Checks on whether the question can be understood and the answer belongs to it."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt, has_other_script, is_code, script_shares, words

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_LATIN_WORD = re.compile(r"(?<![\w@#./\\-])[A-Za-z]{4,}(?![\w@./\\-])")
_VOWELLESS = re.compile(r"[^aeiouyAEIOUY]{4,}")
_LONG_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxz]{6,}", re.IGNORECASE)
_NOT_PROSE = re.compile(
    r"\b(?:decrypt|decode|encode|encrypt|cipher|unscramble|anagram|abbreviat\w*|acronym\w*"
    r"|scrambled|rearrange|letters|hash|base64|rot13|sequence|dna|rna|protein|morse)\b",
    re.IGNORECASE,
)


def instruction_too_short(row: Row, threshold: float) -> Evidence | None:
    """Fewer letters and digits in all user turns than `threshold`; a wide character counts 2."""
    count = 0
    for match in _LETTER_OR_DIGIT.finditer(row.prompt):
        count += 2 if ord(match.group()) >= 0x1100 else 1
        if count >= threshold:
            return None
    if not count:
        return None
    return Evidence(f"{row.prompt.strip()[:40]!r}: {count} letters and digits", float(count))


def instruction_garbled(row: Row, threshold: float) -> Evidence | None:
    """Keyboard noise: share of longer Latin words that nobody could pronounce.

    At least 2 such words; code, ciphers, anagrams and acronyms are exempt.
    """
    text = row.instruction[:1000]
    found = [w for w in _LATIN_WORD.findall(text) if not w.isupper()]
    bad = [w for w in found if _VOWELLESS.fullmatch(w) or _LONG_CLUSTER.search(w)]
    share = len(bad) / len(found) if found else 0.0
    if len(bad) < 2 or share < threshold or row.about_code or _NOT_PROSE.search(text):
        return None
    return Evidence(f"{', '.join(bad[:5])} in: {excerpt(text)}", share)


_NAMES_A_LANGUAGE = re.compile(
    r"""\b(?:translat\w*|traduc\w*|traduis\w*|\u00fcbersetz\w*|language|bilingual|transliterat\w*|romaji|pinyin
        |english|chinese|mandarin|cantonese|japanese|korean|russian|arabic|hindi|hebrew|greek|thai
        |ukrainian|bulgarian|serbian|persian|farsi|urdu|bengali|tamil|marathi|nepali|sanskrit|kanji
        |hiragana|katakana|cyrillic|alphabet|script|unicode|emoji|symbol|character|pronounc\w*
        |spanish|french|german|italian|portuguese|latin|in\s+\w+ish)\b
        |\u7ffb\u8bd1|\u7ffb\u8b6f|\u8bd1\u6210|\u8b6f\u6210|\u82f1\u6587|\u4e2d\u6587|\u82f1\u8bed|\u82f1\u8a9e|\u65e5\u672c\u8a9e|\u65e5\u8bed|\u7ffb\u8a33|\u97e9\u8bed|\u6c49\u8bed|\u6cd5\u8bed|\u5fb7\u8bed|\u4fc4\u8bed
        |\u043f\u0435\u0440\u0435\u0432\u0435\u0434\u0438|\u043f\u0435\u0440\u0435\u0432\u043e\u0434|\u0430\u043d\u0433\u043b\u0438\u0439\u0441\u043a|\u0440\u0443\u0441\u0441\u043a|\ubc88\uc5ed|\uc601\uc5b4|\ud55c\uad6d\uc5b4""",
    re.IGNORECASE | re.VERBOSE,
)
_MIN_LETTERS = 20


def script_mismatch(row: Row, threshold: float) -> Evidence | None:
    """The answer is in a script the question does not use. Score: that script's share.

    Translation and any question that names a language or alphabet is exempt, as are code and
    answers under 20 letters.
    """
    answer, question = row.response, row.prompt
    if not has_other_script(answer) and not has_other_script(question):
        return None
    if _NAMES_A_LANGUAGE.search(question) or row.answer_is_code or is_code(question):
        return None
    if sum(c.isalpha() for c in answer) < _MIN_LETTERS:
        return None
    asked, given = script_shares(question), script_shares(answer)
    if not asked:
        return None
    strange = {s: share for s, share in given.items() if asked.get(s, 0.0) < 0.05}
    if {"han", "kana"} & asked.keys():
        strange.pop("han", None)
        strange.pop("kana", None)
    total = sum(strange.values())
    if not strange or total < threshold:
        return None
    main = max(asked, key=lambda s: asked[s])
    return Evidence(
        f"question in {main}, answer {total:.0%} in {', '.join(sorted(strange))}", total
    )


_THING = (
    "article|passage|text|paragraph|sentence|sentences|paragraphs|essay|email|letter|poem|story"
    "|document|list|table|code|data|dataset|statement|statements|phrase|review|tweet|conversation"
    "|dialogue|excerpt|numbers|words|headline|quote|report|recipe|equation|string|snippet"
)
_DANGLING = re.compile(
    rf"""\b(?:summari[sz]e|translate|rewrite|rephrase|paraphrase|edit|proofread|correct|classify
        |analy[sz]e|shorten|simplify|punctuate|categori[sz]e|read|reword|critique)\s+
        (?:the\s+following|this|the\s+given|the\s+below|the\s+provided)\s+
        (?:\w+\s+){{0,2}}(?:{_THING})\b[^.:"\n\u201c]{{0,40}}[.:!]?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)


def reference_dangling(row: Row, threshold: float) -> Evidence | None:
    """The question asks to work on a text that is not there.

    Fires only when nothing follows the request: no input, no quote, no colon, no second line, one
    turn. `threshold`: longest such question, in words.
    """
    text = row.instruction.strip()
    if row.passage.strip() or len(row.questions) != 1 or "\n" in text:
        return None
    if len(words(text)) > threshold or re.search(r"[\"\u201c\u2018]|:\s*\S", text):
        return None
    match = _DANGLING.search(text)
    return Evidence(excerpt(text, match.start(), match.end())) if match else None


def response_echo(row: Row, threshold: float) -> Evidence | None:
    """The answer repeats the question and adds nothing. `threshold`: words from which it counts."""
    answer = row.response_words
    if not answer or len(answer) < threshold or len(row.response) > 2 * len(row.prompt) + 20:
        return None
    asked = [words(text) for text in {row.instruction, *row.questions[-1:]}]
    if answer not in asked or _ASKS_FOR_SAME.search(row.instruction):
        return None
    return Evidence(excerpt(row.response))


_ASKS_FOR_SAME = re.compile(
    r"\b(?:repeat|copy|echo|rewrite|correct|edit|proofread|paraphrase|punctuat\w*|after me)\b", re.I
)
