"""Secrets are never written: values of telling keys, URL user names, token shapes, home folders."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HIDDEN = "***"
_SECRET_NAMES = (
    r"(?:api_?key|access_?key|private_?key|key|token|secret|passwd|password|credentials?)"
)
_SECRET_KEY = re.compile(rf"(?:^|[_.\-\s]){_SECRET_NAMES}$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TEXT_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Lengths are bounded so that a hostile text takes linear time.
    (re.compile(r"(\b[a-zA-Z][\w+.\-]{0,30}://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"\b(?:hf_\w{16,}|sk-[\w\-]{16,}|gh[pousr]_\w{16,}|glpat-[\w\-]{16,}|AKIA[0-9A-Z]{12,}"
            r"|xox[a-z]-[\w\-]{10,}|eyJ[\w\-]{10,500}+\.[\w\-]{10,}\.[\w\-]{5,})"
        ),
        HIDDEN,
    ),
    (
        re.compile(
            rf"((?:^|[?&\s_\-\"']){_SECRET_NAMES}[\"']?\s*[:=]\s*[\"']?)(?!null\b)[^\s&\"',}}]+",
            re.IGNORECASE | re.MULTILINE,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(r"(--?(?:\w+[_\-])?(?:token|key|secret|password)\s+)\S+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
)


def is_secret_key(key: str) -> bool:
    """Whether a key names a secret: `hf_token` and `apiKey` do, `tokens` and `tokenizer` do not."""
    return _SECRET_KEY.search(_CAMEL.sub("_", key).lower()) is not None


def redact_text(text: str) -> str:
    """Hide secrets inside free text; the home folder becomes `~`."""
    for pattern, replacement in _TEXT_RULES:
        text = pattern.sub(replacement, text)
    home = _home()
    return re.sub(rf"{re.escape(home)}(?=/|\b|$)", "~", text) if len(home) > 1 else text


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # a user without an entry, as in some containers
        return ""


def redact(value: Any, key: str = "") -> Any:
    """A copy of JSON-like values without secrets."""
    if isinstance(value, Mapping):
        return {str(name): redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, key) for item in value]
    if value is not None and not isinstance(value, bool) and is_secret_key(key):
        return HIDDEN
    return redact_text(value) if isinstance(value, str) else value
