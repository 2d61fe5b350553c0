"""Text from data and models made harmless and visible before it is shown."""

import unicodedata

# Controls, format codes (bidi, zero-width), surrogates, private use, line and paragraph separators.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
KEPT = frozenset("\n\t")


def visible(text: str, limit: int | None = None) -> str:
    """The text with invisible characters as \\xNN, \\uNNNN or \\UNNNNNNNN escapes.

    Args:
        limit: cut after this many characters and say how many are left out.
    """
    text = text.replace("\r\n", "\n")
    left_out = 0 if limit is None else max(0, len(text) - limit)
    if left_out:
        text = text[:limit]
    shown = "".join(_escape(c) if _is_hidden(c) else c for c in text)
    return f"{shown} … ({left_out:,} more characters)" if left_out else shown


def _is_hidden(character: str) -> bool:
    if character in KEPT or (character.isascii() and character.isprintable()):
        return False
    return unicodedata.category(character) in HIDDEN_CATEGORIES


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def markdown_safe(text: str) -> str:
    """One line of Markdown text: no markup, no HTML, no table cell breaks."""
    line = " ".join(visible(text).split())
    for character in "\\`*_[]<>|#":
        line = line.replace(character, "\\" + character)
    return line
