"""Language of a text by its function words, and by its script where no Latin letters are used.

Function words make up a third to a half of running text (Zipf 1932), so ten words are enough to
tell these languages apart. A dozen languages in Latin script; others are judged by script only.
"""

import re
from collections import Counter
from collections.abc import Mapping

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import has_other_script, is_code, script_shares, words
from sftprep.data.wordlists import word_list


def _function_words() -> Mapping[str, frozenset[str]]:
    pairs = (entry.partition(":") for entry in word_list("function_words"))
    return {name.capitalize(): frozenset(listed.split()) for name, _, listed in pairs}


FUNCTION_WORDS: Mapping[str, frozenset[str]] = _function_words()
_ANY_LANGUAGE: frozenset[str] = frozenset().union(*FUNCTION_WORDS.values())
MIN_SHARE = 0.2  # of function words in running text; lists and names have fewer
_LEAD = 1.5  # the best language must have this many times the second's words
MIN_DIFFERENT = 2  # function words of two letters or more
MIN_WORDS_ASKED = 4
MIN_DIFFERENT_GIVEN = 3


def language_of(found: list[str]) -> str | None:
    """Language of folded words, None when it cannot be told (too few function words, or a tie)."""
    known = Counter(w for w in found if w in _ANY_LANGUAGE)
    if len(known) < MIN_DIFFERENT:
        return None
    share = {
        name: sum(n for w, n in known.items() if w in listed)
        for name, listed in FUNCTION_WORDS.items()
    }
    different = {
        name: sum(len(w) > 1 for w in listed.intersection(known))
        for name, listed in FUNCTION_WORDS.items()
    }
    ranked = sorted(((share[n] + different[n], n) for n in share), reverse=True)
    (best, name), (second, _) = ranked[0], ranked[1]
    if (
        different[name] < MIN_DIFFERENT
        or share[name] < MIN_SHARE * len(found)
        or best < _LEAD * second
    ):
        return None
    return name


NAMES_A_LANGUAGE = re.compile(
    r"""\b(?:translat\w*|traduc\w*|traduis\w*|\u00fcbersetz\w*|vertaal\w*|tradu[zç]\w*
      |languages?|bilingual|multilingual|transliterat\w*|romaji|pinyin
        |english|chinese|mandarin|cantonese|japanese|korean|russian|arabic|hindi|hebrew|greek|thai
        |ukrainian|bulgarian|serbian|persian|farsi|urdu|bengali|tamil|marathi|nepali|sanskrit|kanji
        |hiragana|katakana|cyrillic|alphabet|script|unicode|emoji|symbol|character|pronounc\w*
        |spanish|french|german|italian|portuguese|latin|dutch|polish|swedish|turkish|indonesian
          |vietnamese|romanian
        |czech|danish|norwegian|finnish|hungarian|swahili|ingl[eé]s\w*|espa[nñ]ol|fran[cç]ais\w*
          |anglais\w*|allemand\w*|englisch\w*
        |deutsch\w*|franz[oö]sisch\w*|spanisch\w*|italiano|portugu[eê]s|engels|frans|duits
          |in\s+\w+ish)\b
        |\u7ffb\u8bd1|\u7ffb\u8b6f|\u8bd1\u6210|\u8b6f\u6210|\u82f1\u6587|\u4e2d\u6587
          |\u82f1\u8bed|\u82f1\u8a9e|\u65e5\u672c\u8a9e|\u65e5\u8bed|\u7ffb\u8a33|\u97e9\u8bed
          |\u6c49\u8bed|\u6cd5\u8bed|\u5fb7\u8bed|\u4fc4\u8bed
        |\u043f\u0435\u0440\u0435\u0432\u0435\u0434\u0438
          |\u043f\u0435\u0440\u0435\u0432\u043e\u0434
          |\u0430\u043d\u0433\u043b\u0438\u0439\u0441\u043a|\u0440\u0443\u0441\u0441\u043a
          |\ubc88\uc5ed|\uc601\uc5b4|\ud55c\uad6d\uc5b4""",
    re.IGNORECASE | re.VERBOSE,
)
_MIN_LETTERS = 12  # of the answer; a character of a script without spaces counts 3


def script_mismatch(row: Row, threshold: float) -> Evidence | None:
    """The answer is in a script the question does not use. Score: that script's share.

    Translation and any question that names a language or alphabet is exempt, as are code and
    answers under 12 letters.
    """
    answer, question = row.response, row.prompt
    if not has_other_script(answer) and not has_other_script(question):
        return None
    if _exempt(row) or is_code(question):
        return None
    if sum(3 if ord(c) >= 0x2E80 else 1 for c in answer if c.isalpha()) < _MIN_LETTERS:
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


CLEAR_SHARE = 0.3  # of English function words: no other language has as many of them


def _clearly_english(found: list[str]) -> bool:
    english = FUNCTION_WORDS["English"]
    return sum(w in english for w in found) >= CLEAR_SHARE * len(found)


def language_mismatch(row: Row, threshold: float) -> Evidence | None:
    """Question and answer are in different languages of the Latin script.

    `threshold`: words the answer needs. Exempt: questions that name a language, code, and whatever
    cannot be told with certainty; the question's first turn and its passage must agree.
    """
    if len(row.response_words) < threshold:
        return None
    asked = words(row.questions[-1][:2000]) if row.questions else []
    if len(asked) < MIN_WORDS_ASKED or len(row.questions) > 3:
        return None
    if _clearly_english(asked) and _clearly_english(row.response_words[:400]):
        return None
    given = language_of(row.response_words[:400])
    if (
        given is None
        or len(FUNCTION_WORDS[given].intersection(row.response_words)) < MIN_DIFFERENT_GIVEN
    ):
        return None
    language = language_of(asked)
    if language is None or language == given:
        return None
    if row.passage and language_of(words(row.passage)) == given:
        return None
    if any(
        given == language_of(words(part))
        for part in re.split(r"[\n:\"\u201c]", row.prompt)
        if len(part) > 15
    ):
        return None
    if _exempt(row) or row.about_code:
        return None
    return Evidence(f"question in {language}, answer in {given}: {row.response[:100]!r}")


def _exempt(row: Row) -> bool:
    return NAMES_A_LANGUAGE.search(row.prompt) is not None or row.answer_is_code
