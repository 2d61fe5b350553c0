"""Checks on damaged characters: text that was decoded with the wrong table, or escaped twice."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt

_HIGH = (
    "\u0080-\u00bf\u2013\u2014\u2018-\u201e\u2020-\u2026\u2030\u2039\u203a\u20ac\u2122"
    "\u0152\u0153\u0160\u0161\u017d\u017e\u0178\u0192\u02c6\u02dc"
)
# The first signs of all alternatives below: one quick look at each character.
_FIRST = (
    "\ufffd\u00c2-\u00c5\u00ce-\u00d1\u00d7-\u00db\u00e0"
    "\u00e2-\u00e9\u00ef\u00f0\u0080-\u009f\u201a\u221a\u0393\u251c"
)
_MOJIBAKE = re.compile(
    f"(?=[{_FIRST}])(?:\ufffd"
    "|\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6\u00a2\u0080-\u00bf]?"
    f"|\u00c3[{_HIGH}]"  # Latin letters
    "|\u00c2[\u00a0-\u00bf]"
    f"|\u00e2[{_HIGH}][{_HIGH}\u00ac]"  # signs
    "|\u00ef\u00bb\u00bf|\u00ef\u00bf\u00bd|[\u0080-\u0084\u0086-\u009f]"
    f"|(?:[\u00d0\u00d1][{_HIGH}]){{2,}}"  # Cyrillic
    f"|(?:[\u00e3-\u00e9][{_HIGH}]{{2}}){{2,}}"  # Chinese, Japanese, Korean
    f"|\u00f0\u0178[{_HIGH}]{{1,2}}"  # emoji
    f"|[\u00c4\u00c5][{_HIGH}](?=[a-z])"  # Central European letters
    f"|(?<=[a-z])[\u00c4\u00c5][{_HIGH}]"
    f"|(?:[\u00ce\u00cf][{_HIGH}]){{2,}}|(?:\u00d7[{_HIGH}]){{2,}}|(?:[\u00d8-\u00db][{_HIGH}]){{2,}}"
    f"|(?:\u00e0[\u00a4-\u00b9][{_HIGH}]){{2,}}"  # Greek, Hebrew, Arabic; Indian scripts, Thai
    "|\u201a\u00c4[\u00a2-\u00f4\u00ee\u00ef\u00f2\u00f4\u00fa\u00f9]"
    "|\u221a[\u00a9\u00b1\u00a7\u00a8\u2122\u00ae\u00f1\u2202\u00ba\u00df\u00a2\u2020]"  # Mac Roman
    "|\u0393\u00c7[\u00d6\u00a3\u00a5\u00f6\u00f4\u00aa\u00f3\u00d3]"
    "|\u251c[\u2310\u2502\u00a1\u2592\u2551\u255d\u00b1\u00f1\u00ba\u00fc\u00ee])"  # DOS (cp437)
)
_ASCII_DAMAGE = re.compile(
    r"&(?:amp|quot|nbsp|apos|rsquo|lsquo|ldquo|rdquo|mdash|ndash|hellip|eacute|lt|gt|#\d{2,5}"
    r"|#x[0-9a-f]{2,5});"
    r"|\\u[0-9a-fA-F]{4}|\\x[89a-f][0-9a-f]|=(?:E2=80=|C3=)[0-9A-F]{2}|\b\w+%20\w+%20\w+"
    r"|<U\+[0-9A-F]{4}>|\w\\n\\n\w|[.!?:]\\n(?=[A-Z\d-])"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # never part of a text
_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])
_DAMAGE_SIGNS = ("&", "\\", "=", "%", "<")  # each alternative above holds one of these
_MARK_INSIDE = re.compile(r"\?[A-Za-z]")
_QUESTION_MARK = re.compile(
    r"\b(?:[A-Za-z]+n\?t|(?:it|that|there|here|he|she|what|who|let)\?s|(?:they|we|you)\?(?:re|ve"
    r"|ll)|i\?(?:m|ve|ll))\b",
    re.IGNORECASE,
)


def encoding_damaged(row: Row, threshold: float) -> Evidence | None:
    """Replacement characters, UTF-8 read as another table (mojibake), or escapes left in prose.

    Score: their number in answers and questions; a lone replacement character of a question counts
    half. Escapes (`&quot;`) and question marks for apostrophes (`don?t`) count in prose only, half
    in questions. Questions about encodings are exempt.
    """
    score, shown = 0.0, ""
    for message in row.example.messages:
        text = message.content
        found = [] if text.isascii() else list(_MOJIBAKE.finditer(text))
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw.translate(None, _CONTROL_BYTES)) < len(raw):
            found += _CONTROL.finditer(text)
        left = [] if row.asks_for_code else _left_in_prose(row, text)
        if not (found or left):
            continue
        sure = len(found) if message.train else sum(len(match.group()) > 1 for match in found)
        score += sure + (len(found) - sure) / 2 + len(left) * (1.0 if message.train else 0.5)
        first = (found or left)[0]
        shown = shown or excerpt(text, first.start(), first.end(), width=60)
    if not shown or score < threshold or _ABOUT_ENCODING.search(row.prompt):
        return None
    return Evidence(shown, score)


def _left_in_prose(row: Row, text: str) -> list[re.Match[str]]:
    """Escapes, and question marks where apostrophes were."""
    found: list[re.Match[str]] = []
    if any(sign in text for sign in _DAMAGE_SIGNS) and not _ABOUT_MARKUP.search(row.prompt):
        found += _ASCII_DAMAGE.finditer(text)
    if _MARK_INSIDE.search(text):
        found += _QUESTION_MARK.finditer(text)
    return found


_ABOUT_ENCODING = re.compile(
    r"\b(?:mojibake|replacement character|utf-?8|latin-?1|(?:character )?encodings?|code ?pages?"
    r"|charset|control characters?|garbled)\b",
    re.IGNORECASE,
)


_ABOUT_MARKUP = re.compile(
    r"\b(?:html|xml|entit|escap|unicode|encod|url|latex|regex|markup|web|link|json|tag)\w*|\\",
    re.IGNORECASE,
)
