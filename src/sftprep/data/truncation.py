"""Checks on how an answer ends: cut by the generator, mid-sentence, mid-word or mid-code."""

import json
import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import code_share, excerpt
from sftprep.data.wordlists import word_list

# Words after which an English sentence cannot end.
_NEVER_LAST = frozenset(word_list("never_last"))
# Words after which a sentence seldom ends: they count when the answer has a whole sentence before.
_SELDOM_LAST = frozenset(word_list("seldom_last"))
_CAN_BE_LAST = frozenset(
    ["without", "since", "within", "until", "while", "upon", "certain", "several", "via"]
)
_ENDS_WELL = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f)\]}>\"'\u201d\u2019`*_~|%$\u20ac\u00b0\u0964]$"
)
_SENTENCE_END = re.compile(
    r"(?<=[\w)\"\u201d'\u2019%][.!?])[\"\u201d)]?\s+(?=[\"\u201c(]?[A-Z0-9])"
)
_LAST_WORD = re.compile(r"(?:^|[\s(\"\u201c/-])([A-Za-z']+)$")
_ASKS_TO_CONTINUE = re.compile(
    r"\b(?:complete|continue|finish|fill|prefix|first half|beginning|next word|preposition|article"
    r"|conjunction|pronoun|adjective|tokeni[sz]e|lowercase|remove|extract|identify|sort"
    r"|reverse|repeat|classify|word)\w*\b",
    re.IGNORECASE,
)
_MARKER_ONLY = re.compile(
    r"(?:^|\n)[ \t]*(?:\d{1,2}[.)]|[IVX]{1,4}\.|[A-Ha-h][.)]|[-*\u2022])[ \t]*$"
)
# Pairs of letters with which hardly any English word ends (own count over dolly-3k: under 1 in
# 20,000 words each), so the word was cut.
_WORD_CUT = re.compile(
    r"(?:[bcdfghjklmnpqrstvwxz]{2}[bcdfgjklmpqrvwz]|[bcdfgkpt][lr]|[qvj]|qu|[a-z]{2}[stc]i|ucl"
    r"|[aeiou]{3}"
    r"|[a-z]{3}(?:tio|sio|cti|ati|iti|abl|ibl|ment?i|nes|ivel|ousl|ingl|whic|thei|becau|althou"
    r"|peopl"
    r"|provid|includ|chang|experienc|creat|caus|becaus|reduc|increas|exampl|sever|differe"
    r"|importan))$"
)
_WORD_CUT_EXEMPT = re.compile(
    r"(?:rld|rlb|lth|ths?|ght|ngth|rth|nth|rsts?|nts|cts|lds|nds|rds|rks|rms|rns|rts|lls|sts|ttl"
    r"|mph"
    r"|rch|nch|tch|lch|rsh|ymph|rtz|ltz|tzl|chl|ck|dth|html|xml|sql|css|url|khz|mhz|ghz"
    r"|ntl|mbl|you|sci|wifi|ski|taxi|alumni|fungi|cacti|spaghetti|safari|hawaii|miami|mississippi"
    r"|yoga|bureau|plateau)$"
)
_WORD_BEFORE = re.compile(r"[a-z]{2,},? \w$")
_INLINE_LIST = re.compile(r"(?:^|\s)(?:\d{1,2}[.)]|[*\u2022])\s")
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*\u2022+#>|]|\(?\w{1,2}[.)])")
LOOK_BACK = 1000  # characters of the last line that are looked at
_SIGNED = re.compile(
    r"\b(?:regards|sincerely|yours|love|cheers|respect|hope|wishes|thanks|thank you|best|faithfully"
    r"|luck|signed|author|enjoy|amen|bye|team|staff|crew|family)\b",
    re.IGNORECASE,
)
_LINK_OR_TAG = re.compile(r"(?:https?://|www\.|#|@)\S*$|[\w-]{1,60}\.(?:com|org|net|io|html?)\S*$")
_VERB = re.compile(
    r"\b(?:am|is|are|was|were|be|been|has|have|had|do|does|did|can|could|will|would|shall|should"
    r"|may"
    r"|might|must|\w+n['\u2019]t|\w+['\u2019](?:s|re|ve|ll|d|m)|\w{2,}(?:ed|ing|es|s|t)|go|get"
    r"|make|use|take|see|know|come|think"
    r"|look|find|give|tell|work|call|try|ask|need|feel|become|leave|put|mean|keep|let|begin|seem"
    r"|help|show|hear|play|run|move|live|believe|bring|happen|write|provide|sit|stand|lose|pay"
    r"|meet|include|continue|set|learn|change|lead|understand|watch|follow|stop|create|speak|read"
    r"|allow|add|spend|grow|open|walk|win|offer|remember|love|consider|appear|buy|wait|serve|die"
    r"|send|expect|build|stay|fall|cut|reach|kill|remain|enjoy|won|began|made|came|went|took|saw"
    r"|knew|gave|found|told|became|left|felt|put|brought|kept|held|wrote|stood|heard|ran)\b",
    re.IGNORECASE,
)


def response_truncated(row: Row, threshold: float) -> Evidence | None:
    """The answer was cut: by the generator's own word, in code or data, or mid-sentence.

    Only signs that are near certain count; a missing full stop alone is `ending_missing`.
    `threshold`: words from which the last word is looked at.
    """
    if row.example.meta.get("finish_reason") in ("length", "max_tokens"):
        return Evidence("finish_reason: length")
    answer = row.response.rstrip()
    if not answer:
        return None
    sign = _structure_open(row, answer)
    if (
        sign is None
        and not row.answer_is_code
        and not (row.asks_for_code and code_share(answer) > 0.1)
        and len(row.response_words) >= threshold
    ):
        sign = _sentence_open(answer)
        if sign and len(row.questions) == 1 and _ASKS_TO_CONTINUE.search(row.instruction):
            sign = None
    return Evidence(f"{sign}: {excerpt(answer, max(0, len(answer) - 60))}") if sign else None


def _structure_open(row: Row, answer: str) -> str | None:
    """Code fences, list items, JSON and HTML that are begun and not ended."""
    if answer.count("```") % 2 == 1:
        return "code fence not closed"
    if _SAYS_CUT.search(answer[-60:]):
        return "says that it was cut"
    if answer.count("\n|") >= 2 and _row_open(answer):
        return "row of a table not closed"
    if "\n" in answer and _MARKER_ONLY.search(answer[-12:]) and not row.about_code:
        return "empty list item at the end"
    if re.match(r"[\[{]\s*[\"{\[]", answer) and _brackets_open(answer) and not _is_json(answer):
        return "brackets of the data not closed"
    if re.match(r"<!doctype html|<html", answer, re.IGNORECASE) and "</html" not in answer.lower():
        return "<html> not closed"
    if answer.count("\\begin{") > answer.count("\\end{"):
        return "LaTeX environment not closed"
    if "```" in answer or not (answer[0] == "<" or answer[-1] in "(,[{=" or row.answer_is_code):
        return None
    if _ASKS_FOR_HEAD.search(row.prompt):
        return None
    if answer[0] == "<" and _TAG_OPEN.search(answer[-300:]):
        return "tag not closed"
    if answer[-1] in "(,[{=" and row.asks_for_code and _brackets_open(answer):
        return "code goes on"
    return _code_open(answer) if row.answer_is_code else None


_SAYS_CUT = re.compile(
    r"[\[(<]\s?(?:\.{3}|\u2026)?\s?(?:truncated|cut(?:\soff)?|to be continued|continues?"
    r"|output truncated"
    r"|max(?:imum)?\s(?:length|tokens?)[^\])>]{0,20}|\.{3}|\u2026)\s?(?:\.{3}|\u2026)?[\])>]$",
    re.IGNORECASE,
)
_TAG_OPEN = re.compile(r"<[a-z][\w-]{0,20}(?:\s[^<>]{0,250})?$", re.IGNORECASE)


def _row_open(answer: str) -> bool:
    """The last row of a table lacks the bar at its end that the others have."""
    *others, last = answer.rsplit("\n", 3)
    bars = all(line.rstrip().endswith("|") for line in others[1:])
    return bars and last.startswith("|") and not last.rstrip().endswith("|")


MIN_ITEMS = 3


def _list_open(answer: str) -> bool:
    """All items of a list end with a mark but the last, which has several words."""
    block = answer.rsplit("\n\n", 1)[-1]
    lines = block.split("\n") if block.count("\n") >= MIN_ITEMS else answer.split("\n")
    items = [line for line in lines if _LIST_ITEM.match(line)]
    if len(items) < MIN_ITEMS or not answer.endswith(items[-1].rstrip()):
        return False
    ended = [item.rstrip().endswith((".", "!", "?")) for item in items]
    return all(ended[:-1]) and not ended[-1] and bool(re.search(r"\w \w+$", answer))


def _brackets_open(text: str) -> bool:
    bare = re.sub(r"\"(?:\\.|[^\"\\\n])*\"", "", text)
    return any(bare.count(a) > bare.count(b) for a, b in ("{}", "[]", "()"))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_ASKS_FOR_HEAD = re.compile(
    r"\b(?:signature|prototype|header|complet\w*|declar\w*|first line|statement|syntax)\b", re.I
)
_CODE_GOES_ON = re.compile(
    r"^\s*(?:def|class|if|elif|else|for|while|try|except|with)\b.*:$|(?:[,(\[{=&|+\\]|\s[<>]|\b(?:and|or"
    r"|in|return def))$"
)


def _code_open(answer: str) -> str | None:
    """The last line of code needs another one, and a bracket is open or a block was begun."""
    last = answer.rsplit("\n", 1)[-1]
    goes_on = _CODE_GOES_ON.search(last) is not None
    if last.count('"') == 1 and _STRING_OPEN.search(last) and code_share(answer) >= 0.5:
        return "string not closed"
    if not goes_on and not (_BRACES.search(answer) and _braces_open(answer)):
        return None
    if code_share(answer) < 0.5:
        return None
    if not goes_on:
        return "block of code not closed"
    if last.endswith((":", " >", " <", " =")) or _brackets_open(answer):
        return "code goes on"
    return None


_STRING_OPEN = re.compile(r"""^[^"'`#]*[=(,\s]"[^"']+$""")
_BRACES = re.compile(r"\{[ \t]*\n")  # of a block
_COMMENT = re.compile(
    r"(?<!:)//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)


def _braces_open(answer: str) -> bool:
    bare = _COMMENT.sub("", answer)
    return bare.count("{") > bare.count("}")


def _sentence_open(answer: str) -> str | None:
    """Why the last sentence cannot be whole; None when it may be."""
    if (
        _ENDS_WELL.search(answer)
        or answer[-1].isdigit()
        or (not answer.isprintable() and "|" in answer)
    ):
        return None
    paragraph = answer.rsplit("\n", 1)[-1].strip()[-LOOK_BACK:]
    parts = _SENTENCE_END.split(paragraph)
    fragment, before = parts[-1], len(parts) > 1
    whole = before or _SENTENCE_END.search(answer) is not None
    if _LINK_OR_TAG.search(fragment[-200:]):
        return None
    prose = "\n" not in answer.strip() and (before or len(fragment.split()) >= 6)
    verse = answer[-1] == "," and "=" not in fragment and _SENTENCE_LINE.search(answer)
    if answer[-1] in ",;" and (prose or (verse and len(fragment.split()) >= 3)):
        return "ends with a comma"
    if re.search(r"\w[-\u2013]$|[(\u201c]$|\w \($", answer):
        return "ends inside a word or bracket"
    if re.search(
        r"(?:such as|following|include|includes|including|example|e\.g\.|are|is):$", answer
    ):
        return "ends with a colon"
    match = _LAST_WORD.search(answer[-40:])
    if match is None:
        return None
    return _last_word_open(match.group(1), paragraph, fragment, whole)


_SENTENCE_LINE = re.compile(r"[.!?][\"\u201d]?\n")
_ONE_WORD = re.compile(
    r"(?:[ \t]*(?:\d{1,2}[.)]|[-*\u2022])[ \t]+)?(?:The|They|He|She|It|We|You|This|These|There"
    r"|If|When|And|But|In)"
)
_THEN_I = re.compile(r"[a-z]{2,},? I$")


def _last_word_open(word: str, paragraph: str, fragment: str, whole: bool) -> str | None:
    if word in _NEVER_LAST and (whole or word not in _CAN_BE_LAST):
        return "ends with"
    if whole and (_ONE_WORD.fullmatch(fragment) or (word == "I" and _THEN_I.search(fragment))):
        return "ends with"
    count, before = len(fragment.split()), fragment != paragraph
    if word in _SELDOM_LAST and whole and (word not in _CAN_BE_LAST or count > 3):
        return "ends with"
    if not whole or _SIGNED.search(fragment):
        return None
    if fragment.count("(") > fragment.count(")") or fragment.count("\u201c") > fragment.count(
        "\u201d"
    ):
        return "bracket or quote not closed"
    if fragment.count('"') % 2 == 1:
        return "quote not closed"
    if len(word) == 1 and word.islower() and word not in "aixo" and _WORD_BEFORE.search(fragment):
        return "word cut"
    if (
        word.islower()
        and len(word) > 2
        and _WORD_CUT.search(word)
        and not _WORD_CUT_EXEMPT.search(word)
    ):
        return "word cut"
    if _INLINE_LIST.search(paragraph):
        return None
    if before and count <= 3 and word.islower() and fragment[:1].isupper():
        return "a sentence was begun"
    if before and count <= 12 and word.islower() and not _VERB.search(fragment):
        return "last sentence has no verb"
    return None


MIN_FRAGMENT = 5  # words from which a name at the end is the end of a sentence, not a signature


def ending_missing(row: Row, threshold: float) -> Evidence | None:
    """Prose or a list that stops without an end mark, unlike what is before: cut, or careless.

    `threshold`: whole sentences needed before, in the last paragraph (or, when it is one sentence,
    lines). Lists, calculations, links, hashtags and signatures are exempt, and what
    `response_truncated` finds.
    """
    answer = row.response.rstrip()
    if row.answer_is_code or not answer or _ENDS_WELL.search(answer) or not answer[-1].islower():
        return None
    if not row.about_code and _list_open(answer):
        return Evidence(
            f"no end mark, unlike the items before: {excerpt(answer[-120:])}", threshold
        )
    lines = [line.strip() for line in answer.split("\n") if line.strip()]
    parts = _SENTENCE_END.split(lines[-1][-LOOK_BACK:])
    fragment = parts[-1]
    few = len(fragment.split()) < MIN_FRAGMENT
    if (
        (few and not fragment.split()[-1].islower())
        or _LINK_OR_TAG.search(fragment[-200:])
        or _SIGNED.search(fragment)
        or fragment.count(",") > 3
    ):
        return None
    if "=" in fragment or re.search(r"\d", fragment):
        return None
    if _LIST_ITEM.match(lines[-1]) or _LIST_ITEM.search(fragment[:3]):
        return None
    earlier = parts[:-1] if len(parts) > 1 else lines[:-1]
    marked = sum(len(part.split()) >= 4 and part[-1] in '.!?"\u201d)' for part in earlier)
    if marked < threshold or marked < 0.8 * len(earlier):
        return None
    if response_truncated(row, 8) is not None:
        return None
    return Evidence(f"no end mark: {excerpt(answer, max(0, len(answer) - 60))}", float(marked))
