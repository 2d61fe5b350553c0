"""Checks on damaged characters: text that was decoded with the wrong table, or escaped twice."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt

_HIGH = (
    "\u0080-\u00bf\u2013\u2014\u2018-\u201e\u2020-\u2026\u2030\u2039\u203a\u20ac\u2122"
    "\u0152\u0153\u0160\u0161\u017d\u017e\u0178\u0192\u02c6\u02dc"
)
_MOJIBAKE = re.compile(
    "\ufffd"
    "|\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6\u00a2\u0080-\u00bf]?"
    f"|\u00c3[{_HIGH}]"  # Latin letters
    "|\u00c2[\u00a0-\u00bf]"
    f"|\u00e2[{_HIGH}][{_HIGH}\u00ac]"  # signs
    "|\u00ef\u00bb\u00bf|\u00ef\u00bf\u00bd|[\u0080-\u0084\u0086-\u009f]"
    f"|(?:[\u00d0\u00d1][{_HIGH}]){{2,}}"  # Cyrillic
    f"|(?:[\u00e3-\u00e9][{_HIGH}]{{2}}){{2,}}"  # Chinese, Japanese, Korean
    f"|\u00f0\u0178[{_HIGH}]{{1,2}}"  # emoji
    f"|[\u00c4\u00c5][{_HIGH}](?=[a-z])"  # Central European letters
    "|\u201a\u00c4[\u00a2-\u00f4\u00ee\u00ef\u00f2\u00f4\u00fa\u00f9]"
    "|\u221a[\u00a9\u00b1\u00a7\u00a8\u2122\u00ae\u00f1\u2202\u00ba\u00df\u00a2\u2020]"  # Mac Roman
    "|\u0393\u00c7[\u00d6\u00a3\u00a5\u00f6\u00f4\u00aa\u00f3\u00d3]"
    "|\u251c[\u2310\u2502\u00a1\u2592\u2551\u255d\u00b1\u00f1\u00ba\u00fc\u00ee]"  # DOS (cp437)
)
_ASCII_DAMAGE = re.compile(
    r"&(?:amp|quot|nbsp|apos|rsquo|lsquo|ldquo|rdquo|mdash|ndash|hellip|eacute|lt|gt|#\d{2,5}"
    r"|#x[0-9a-f]{2,5});"
    r"|\\u[0-9a-fA-F]{4}|\\x[89a-f][0-9a-f]|=(?:E2=80=|C3=)[0-9A-F]{2}|\b\w+%20\w+%20\w+"
    r"|<U\+[0-9A-F]{4}>|\w\\n\\n\w|[.!?:]\\n(?=[A-Z\d-])"
)
_DAMAGE_SIGNS = ("&", "\\", "=", "%", "<")  # each alternative above holds one of these
_MARK_INSIDE = re.compile(r"\?[A-Za-z]")
_QUESTION_MARK = re.compile(
    r"\b(?:[A-Za-z]+n\?t|(?:it|that|there|here|he|she|what|who|let)\?s|(?:they|we|you)\?(?:re|ve"
    r"|ll)|i\?(?:m|ve|ll))\b",
    re.IGNORECASE,
)


def encoding_damaged(row: Row, threshold: float) -> Evidence | None:
    """Replacement characters, UTF-8 read as another table (mojibake), or escapes left in prose.

    Score: their number in answers plus half their number elsewhere; escapes (`&quot;`) and question
    marks for apostrophes (`don?t`) count in prose only.

    A question that asks to repair an encoding is not told apart: turn the check off for such data.
    """
    score, shown = 0.0, ""
    for message in row.example.messages:
        found = [] if message.content.isascii() else list(_MOJIBAKE.finditer(message.content))
        if not row.asks_for_code:
            if any(sign in message.content for sign in _DAMAGE_SIGNS):
                about = _ABOUT_MARKUP.search(row.prompt)
                found += [] if about else _ASCII_DAMAGE.finditer(message.content)
            if _MARK_INSIDE.search(message.content):
                found += _QUESTION_MARK.finditer(message.content)
        score += len(found) * (1.0 if message.train else 0.5)
        if found and not shown:
            shown = excerpt(message.content, found[0].start(), found[0].end(), width=60)
    return Evidence(shown, score) if shown and score >= threshold else None


_ABOUT_MARKUP = re.compile(
    r"\b(?:html|xml|entit|escap|unicode|encod|url|latex|regex|markup|web|link|json|tag)\w*|\\",
    re.IGNORECASE,
)
