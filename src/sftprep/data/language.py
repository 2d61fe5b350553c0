"""Language of a text by its function words, and by its script where no Latin letters are used.

Function words make up a third to a half of running text (Zipf 1932), so ten words are enough to
tell these languages apart. A dozen languages in Latin script; others are judged by script only.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import has_other_script, is_code, script_shares, words
from sftprep.data.wordlists import word_list


def _function_words() -> Mapping[str, frozenset[str]]:
    pairs = (entry.partition(":") for entry in word_list("function_words"))
    return {name.capitalize(): frozenset(listed.split()) for name, _, listed in pairs}


FUNCTION_WORDS: Mapping[str, frozenset[str]] = _function_words()
ANY_LANGUAGE: frozenset[str] = frozenset().union(*FUNCTION_WORDS.values())
MIN_SHARE = 0.2  # of function words in running text; lists and names have fewer
_LEAD = 1.5  # the best language must have this many times the second's words
MIN_DIFFERENT = 2  # function words of two letters or more
MIN_WORDS_ASKED = 4
MIN_DIFFERENT_GIVEN = 3


def language_of(found: list[str], rival: str | None = None) -> str | None:
    """Language of folded words, None when it cannot be told (too few function words, or a tie).

    With a `rival` only that language must be left behind, not every other.
    """
    known = Counter(w for w in found if w in ANY_LANGUAGE)
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
    best, name = ranked[0]
    second = ranked[1][0] if rival is None else share[rival] + different[rival]
    if (
        different[name] < MIN_DIFFERENT
        or share[name] < MIN_SHARE * len(found)
        or best < _LEAD * second
    ):
        return None
    return name


# A question that asks for another language without naming it.
_TRANSLATES = re.compile(
    r"""\b(?:translat\w*|traduc\w*|traduis\w*|tradu[zç]\w*|\u00fcbersetz\w*|vertaal\w*|p\u0159elo\u017e\w*
      |languages?|bilingual|multilingual|transliterat\w*|alphabet|unicode|emoji|pronounc\w*
      |(?:in|to|into)\s+[A-Za-z]+ish)\b
    |\u7ffb\u8bd1|\u7ffb\u8b6f|\u8bd1\u6210|\u8b6f\u6210|\u7ffb\u8a33|\ubc88\uc5ed
    |\u043f\u0435\u0440\u0435\u0432\u0435\u0434\u0438|\u043f\u0435\u0440\u0435\u0432\u043e\u0434""",
    re.IGNORECASE | re.VERBOSE,
)
# How questions name a language, by the language or the script of what is then right to answer.
_NAMES = {
    "English": r"english|ingl[eé]s\w*|anglais\w*|englisch\w*|engels|angielsk\w*|\u82f1\u6587"
    r"|\u82f1\u8bed|\u82f1\u8a9e"
    r"|\u0430\u043d\u0433\u043b\u0438\u0439\u0441\u043a\w*|\uc601\uc5b4",
    "French": r"french\w*|fran[cç]ais\w*|franz[oö]sisch\w*|franc[eé]s|frans|france|paris\w*"
    r"|\u6cd5\u8bed",
    "German": r"germans?|deutsch\w*|allemand\w*|alem[aá]n|duits|luther|munich|vienna|\u5fb7\u8bed",
    "Spanish": r"spanish|spaniards?|espa[nñ]ol|spanisch\w*|espagnol|mexic\w*|madrid",
    "Portuguese": r"portugu[eê]s\w*|brazil\w*|lisbon",
    "Italian": r"italians?|italiano?\w*|italienisch\w*|opera|verdi|dante|rome|roman",
    "Dutch": r"dutch|nederlands|n[eé]erlandais", "Polish": r"polish|polsk\w*|poland",
    "Swedish": r"swedish|svensk\w*|danish|dansk|norwegian|norsk",
    "Turkish": r"turkish|t[uü]rk\w*", "Indonesian": r"indonesian"
    r"|malay", "Vietnamese": r"vietnamese",
    "Romanian": r"romanian", "Czech": r"czech|slovak",
    "latin": r"latin|romaji|pinyin|finnish|hungarian|swahili|english|\u82f1\u6587|\u82f1\u8bed"
    r"|\u82f1\u8a9e|spanish|french"
    r"|german|italian|portuguese|\uc601\uc5b4|\u0430\u043d\u0433\u043b\u0438\u0439\u0441\u043a\w*",
    "han": r"chinese|mandarin|cantonese|japan\w*|kanji|korean|characters?|\u4e2d\u6587"
    r"|\u65e5\u672c\u8a9e|\u65e5\u8bed|\u6c49\u8bed|tokyo",
    "kana": r"japan\w*|hiragana|katakana|tokyo|\u65e5\u672c\u8a9e|\u65e5\u8bed",
    "hangul": r"korean?|hangul|seoul|\u97e9\u8bed|\ud55c\uad6d\uc5b4",
    "cyrillic": r"russia\w*|ukrainian|bulgarian|serbian|mongolian|kazakh|cyrillic|russisch\w*"
    r"|\u0440\u0443\u0441\u0441\u043a\w*|\u4fc4\u8bed",
    "arabic": r"arab\w*|persian|farsi|urdu|quran", "devanagari": r"hindi|marathi|nepali|sanskrit",
    "bengali": r"bengali|bangla", "thai": r"thai", "greek": r"greek"
    r"|griech\w*", "hebrew": r"hebrew|yiddish",
}  # fmt: skip
_NAMED = {
    name: re.compile(
        rf"\b(?:{words})\b|(?:{words})(?=[^a-z])" if "\\u" in words else rf"\b(?:{words})\b",
        re.IGNORECASE,
    )
    for name, words in _NAMES.items()
}


def names_language(prompt: str, answers: Iterable[str]) -> bool:
    """The question asks for a translation, or names one of these languages or scripts."""
    if _TRANSLATES.search(prompt):
        return True
    return any(name in _NAMED and _NAMED[name].search(prompt) for name in answers)


_ASKS_HOW_TO_SAY = re.compile(r"\b(?:say|write|spell|express|called?)\s+['\"\u201c\u2018]", re.I)
_MIN_LETTERS = 12  # of the answer; a character of a script without spaces counts 3


def script_mismatch(row: Row, threshold: float) -> Evidence | None:
    """The answer is in a script the question does not use. Score: that script's share.

    Translation and any question that names a language or alphabet is exempt, as are code and
    answers under 12 letters.
    """
    answer, question = row.response, row.prompt
    if not has_other_script(answer) and not has_other_script(question):
        return None
    if row.answer_is_code or is_code(question) or _ASKS_HOW_TO_SAY.search(question):
        return None
    if sum(3 if ord(c) >= 0x2E80 else 1 for c in answer if c.isalpha()) < _MIN_LETTERS:
        return None
    asked, given = script_shares(question), _weighted(script_shares(answer))
    if not asked:
        return None
    strange = {s: share for s, share in given.items() if asked.get(s, 0.0) < 0.05}
    if {"han", "kana"} & asked.keys():
        strange.pop("han", None)
        strange.pop("kana", None)
    total = sum(strange.values())
    if not strange or total < threshold or names_language(question, strange):
        return None
    main = max(asked, key=lambda s: asked[s])
    return Evidence(
        f"question in {main}, answer {total:.0%} in {', '.join(sorted(strange))}", total
    )


_SYLLABIC = frozenset({"han", "kana", "hangul"})  # one sign is worth two letters or more


def _weighted(shares: dict[str, float]) -> dict[str, float]:
    weights = {s: share * (2 if s in _SYLLABIC else 1) for s, share in shares.items()}
    total = sum(weights.values())
    return {s: weight / total for s, weight in weights.items()}


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
    if not asked or len(row.questions) > 3 or row.answer_is_code:
        return None
    answer = row.response_words[:400]
    if _clearly_english(asked) and _clearly_english(answer):
        return None
    language = language_of(asked) if len(asked) >= MIN_WORDS_ASKED else None
    given = language_of(answer, language)
    if given is None or len(FUNCTION_WORDS[given].intersection(answer)) < MIN_DIFFERENT_GIVEN:
        return None
    if language is None and given == "English" and _looks_foreign(asked):
        language = "another language"
    if language is None and given != "English" and _looks_english(asked, given):
        language = "English"
    if language is None or language == given or _leaves_open(answer, language, given):
        return None
    if row.passage and language_of(words(row.passage)) == given:
        return None
    if any(
        given == language_of(words(part))
        for part in re.split(r"[\n:\"\u201c]", row.prompt)
        if len(part) > 15
    ):
        return None
    if (
        row.about_code
        or names_language(row.prompt, (given, "latin"))
        or _QUOTES_OTHERS.search(row.prompt)
        or _is_list(row.response)
    ):
        return None
    return Evidence(f"question in {language}, answer in {given}: {row.response[:100]!r}")


def _looks_foreign(asked: list[str]) -> bool:
    """At least two words with letters that English lacks, half of all, and no English one."""
    foreign = sum(not word.isascii() for word in asked)
    return foreign >= max(2, len(asked) / 2) and FUNCTION_WORDS["English"].isdisjoint(asked)


def _looks_english(asked: list[str], given: str) -> bool:
    """A short question with an English function word and none of the answer's language."""
    english = FUNCTION_WORDS["English"].difference(FUNCTION_WORDS[given])
    return not english.isdisjoint(asked) and FUNCTION_WORDS[given].isdisjoint(asked)


_QUOTES_OTHERS = re.compile(
    r"\b(?:sing|lyrics|quotes?|quotation|songs?|motto|aria|anthem|prayer|proverb|original"
    r"|titles?|like a local"
    r"|first (?:line|words)|poem by|say)\b",
    re.IGNORECASE,
)


def _is_list(answer: str) -> bool:
    """Names one after the other: three or more parts of four words on average or fewer."""
    parts = [part for part in re.split(r"[,;\n\u2022]", answer[:1000]) if part.strip()]
    return len(parts) >= 3 and sum(len(part.split()) for part in parts) <= 4 * len(parts)


def _leaves_open(answer: list[str], language: str, given: str) -> bool:
    """Names and quotes in another language within an answer in the question's own language."""
    own = FUNCTION_WORDS.get(language, frozenset())
    return 2 * sum(w in own for w in answer) >= sum(w in FUNCTION_WORDS[given] for w in answer)
