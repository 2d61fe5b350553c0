"""Checks on credentials and personal data.

Values that are kept for samples (example.com, 555-01.., sequences) count half: alone they are no
finding, but two kinds of them together, or one told as somebody's own ("my e-mail is"), are.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sftprep.data.conversation import Evidence, Row

SAMPLE = 0.5  # points of a value kept for samples
TOLD = 0.5  # points more when the text says whose it is


@dataclass(frozen=True, slots=True)
class Found:
    """One value: its kind, the value, and 1 or SAMPLE points."""

    kind: str
    value: str
    points: float


_SECRETS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("AWS access key", "A", re.compile(r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[0-9A-Z]{16}\b")),
    ("GitHub token", "g",
     re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})\b")),
    ("GitLab token", "glpat-", re.compile(r"\bglpat-[\w-]{20,}")),
    ("OpenAI-style key", "sk-",
     re.compile(r"\bsk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_-]{20,}\b")),
    ("Stripe key", "_", re.compile(r"\b(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}\b")),
    ("Slack token", "xox", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}\b")),
    ("Slack webhook", "hooks.slack.com",
     re.compile(r"hooks\.slack\.com/services/[A-Z0-9]+/[A-Z0-9]+/\w+")),
    ("Google key", "AIza", re.compile(r"\bAIza[0-9A-Za-z_-]{30,}")),
    ("Google token", "ya29.", re.compile(r"\bya29\.[\w-]{20,}")),
    ("Hugging Face token", "hf_", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("npm token", "npm_", re.compile(r"\bnpm_[A-Za-z0-9]{30,}\b")),
    ("PyPI token", "pypi-", re.compile(r"\bpypi-[\w-]{30,}")),
    ("SendGrid key", "SG.", re.compile(r"\bSG\.[\w-]{16,}\.[\w-]{16,}")),
    ("Telegram token", ":A", re.compile(r"\b\d{8,10}:AA[\w-]{32,}")),
    ("JSON web token", "eyJ", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("private key", "-----BEGIN",
     re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s"
     r"|\\n)*(?:[\w-]+: [^\n]*\n\s*)*"
                r"(?:[A-Za-z0-9+/=]{16,}|(?<=[\nn])[A-Za-z0-9+/=]{4,}(?=\s*\n|$))")),
    ("login in a link", "@", re.compile(r"\b[a-z][a-z0-9+]{2,15}://[^\s/:@'\"]{1,64}:([^\s/@'\"]{3,64})@[\w.-]+")),
)  # fmt: skip
_ASSIGNED = re.compile(
    r"""(?P<name>api[_ -]?key|secret(?:[_ -]?(?:access)?[_ -]?key)?|access[_ -]?(?:key|token)
      |auth[_ -]?token|bearer|client[_ -]?secret
        |passwords?|passwd|pwd|passphrase|private[_ -]?key|token)["']?\s*(?:[:=]|\bis\b
          |=>)?\s*(?:[:=]\s*)?["'`]?
        (?P<value>(?=[^\s"'`]*[0-9])(?=[^\s"'`]*[A-Za-z])[A-Za-z0-9/+_.!@\#$%^&*=-]{8,})""",
    re.IGNORECASE | re.VERBOSE,
)
_ASSIGNED_WORDS = ("key", "secret", "token", "bearer", "pass", "pwd")
_FAKE_SECRET = re.compile(
    r"example|xxxx|1234567|your|0{8}|abcdef|placeholder|changeme|dummy|sample|fake|<|\*\*\*"
    r"|\.\.\.|insert|test_|^(?:my)?(?:password|passwd|passwort|pass|pwd|secret)\d{0,3}$",
    re.IGNORECASE,
)


def secret_inside(row: Row, threshold: float) -> Evidence | None:
    """A credential in a known shape, or behind a word such as `password`. Shown half hidden.

    Score: 1 per credential, half for an obvious sample. `threshold`: points from which it counts.
    """
    return _told(
        [f for text in row.contents for f in _secrets(text, row.asks_for_code)], row, threshold
    )


def _secrets(text: str, code: bool) -> Iterator[Found]:
    for kind, marker, pattern in _SECRETS:
        for match in pattern.finditer(text) if marker in text else ():
            sample = _FAKE_SECRET.search(match.group(match.lastindex or 0)) is not None
            yield Found(kind, match.group(), SAMPLE if sample else 1.0)
    for match in _ASSIGNED.finditer(text) if _may_assign(text) else ():
        value = match["value"].rstrip(".,;:!")
        if len(value) >= 8 and not (code and (len(value) < 20 or "." in value)) and _random(value):
            fake = _FAKE_SECRET.search(value) is not None
            yield Found(match["name"].lower(), value, SAMPLE if fake else 1.0)


def _may_assign(text: str) -> bool:
    """False when none of the words of `_ASSIGNED` can be in the text (quick, for plain ASCII)."""
    folded = text.lower()
    return not text.isascii() or any(word in folded for word in _ASSIGNED_WORDS)


def _random(value: str) -> bool:
    """Letters and digits mixed as no word or version is: entropy of at least 2.5 bits a sign."""
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return (
        mixed
        and bits >= 2.5
        and value[0] != "@"
        and "/" not in value[:2]
        and not value.startswith(("http", "www."))
    )


_EMAIL = re.compile(r"\b[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,12}\b")
_SAMPLE_MAIL = re.compile(
    r"example|domain|@test|sample|@(?:my|your)?company|@email|your|foo|@bar\b|acme|xyz|abc"
    r"|anycompany|someone|\buser\d*@"
    r"|name@|\byou@|123@|\b(?:info|support|contact|admin|sales|help|noreply|no-reply|hello|press"
    r"|office|team|service|hr|jobs|careers|feedback|webmaster|git|customerservice|enquiries|mail)@"
    r"|@(?:python|numpy)\.|\bjohn\.?doe@|\bjane\.?doe@|@\w+\.(?:test|invalid|localhost)\b",
    re.IGNORECASE,
)
_THREE_DIGITS = re.compile(r"\d\d(?:\d|[ .]\d\d|[A-Z]\d)")
_PHONE = re.compile(
    r"(?<![\w.+/=-])(?:\+?1[ .-]?)?(?:\(([2-9]\d{2})\) ?"
    r"|([2-9]\d{2})[ .-])(\d{3})[ .-](\d{4})(?![\w-]|\.\d)"
)
_TOLL_FREE = ("800", "833", "844", "855", "866", "877", "888")  # of companies
_PHONE_ABROAD = re.compile(
    r"(?<![\w.+/=-])\+(?!1[ .-]?\(?\d{3})[1-9]\d{0,2}(?:[ .()-]{1,2}\d{1,8}){1,6}(?!\w|\.\d)"
)
_PHONE_NAMED = re.compile(
    r"\b(?:phone|mobile|cell|tel|telephone|call|text|whatsapp|fax|dial|handy"
    r"|t\u00e9l)\b\.?[^\n\d+]{0,25}(\+?\d[\d .()/-]{7,17}\d)(?!\w)",
    re.IGNORECASE,
)
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![\w-]|\.\d)"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)(\d{3})-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SSN_NAMED = re.compile(
    r"\b(?:ssn|social security)\b[^\n\d]{0,30}(\d{3}[- ]?\d{2}[- ]?\d{4})\b", re.IGNORECASE
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_IP = re.compile(r"(?<![\w./-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_ID_NAMED = re.compile(
    r"\b(?:passport|driver'?s? licen[cs]e|national id|tax id|medical record|patient id"
    r"|nhs)\b(?:\s+(?:no|number|num))?\.?[^\n\w]{0,4}(?:is "
    r"|was )?[^\n\w]{0,3}((?=(?:[A-Z-]*\d){4})[A-Z0-9][A-Z0-9-]{5,14})\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"\b\d{1,5} (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive"
    r"|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Terrace)\b\.?,? +(?:(?:Apt|Unit|Suite"
    r"|#)\.? ?\w+,? +)?[A-Z][a-z]+(?: [A-Z][a-z]+)?,? +[A-Z]{2} \d{5}\b"
)
_BORN = re.compile(
    r"\b(?:dob|date of birth|born on)\b[:\s]{1,3}(?:is |was )?((?:\d{1,2}[/.-]){2}(?:\d{4}"
    r"|\d\d)\b|\d{4}-\d\d-\d\d)",
    re.IGNORECASE,
)
_WHOSE = re.compile(
    r"\b(?:my|his|her|their|our)\s+(?:\w+\s+){0,3}?(?:e-?mail|phone|number|cell|mobile|address"
    r"|ssn|social|card|account|iban|ip|password|key|token|login|dob|birth|passport|contact|secret)"
    r"|\b(?:contact|reach|e-?mail|call|text|message|write(?:\s+to)?|phone)\s+(?:me|him|her|us"
    r"|them|(?-i:[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?))\b"
    r"|\b(?:ssn|social security(?: number)?|card number|credit card|account number|iban|dob"
    r"|date of birth|phone|e-?mail|cell|mobile|tel|ip address|passport)(?:\s+(?:number|no\.?"
    r"|address))?\s*(?::|\bis\b|#)"
    r"|\b(?-i:[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?)['\u2019]s\s+(?:\w+\s+)?(?:e-?mail|phone|number|cell"
    r"|address|ssn|card|account|ip)\b",
    re.IGNORECASE,
)


def personal_data(row: Row, threshold: float) -> Evidence | None:
    """E-mail and IP addresses, phone, card (Luhn), IBAN (mod 97), social security numbers and more.

    Score: points of the values, SAMPLE for those kept for samples. In code samples count nothing.
    """
    found = [f for text in row.contents for f in _personal(text)]
    if row.about_code:
        found = [f for f in found if f.points >= 1 and f.kind not in ("IP address", "phone")]
    return _told(found, row, threshold)


_ASKS_FOR_SAMPLES = re.compile(
    r"\b(?:fictional|fictitious|fake|sample|dummy|placeholder|template|made-up|imaginary|mock"
    r"|test data)\b",
    re.IGNORECASE,
)


def _told(found: list[Found], row: Row, threshold: float) -> Evidence | None:
    if not found:
        return None
    best: dict[str, float] = {}
    for value in found:
        best[value.kind] = max(best.get(value.kind, 0.0), value.points)
    score = sum(best.values())
    if not row.about_code and score < threshold and any(_WHOSE.search(c) for c in row.contents):
        score += TOLD
    if score < threshold:
        return None
    if all(f.points < 1 for f in found) and _ASKS_FOR_SAMPLES.search(row.prompt):
        return None
    first = max(found, key=lambda f: f.points)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Evidence(f"{first.kind}: {_hidden(first.value)}{more}", score)


def _personal(text: str) -> Iterator[Found]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Found(
                "e-mail", match.group(), SAMPLE if _SAMPLE_MAIL.search(match.group()) else 1.0
            )
    if _THREE_DIGITS.search(text) is None:
        return
    yield from _phones(text)
    yield from _numbers(text)
    for kind, pattern in (("identity number", _ID_NAMED), ("date of birth", _BORN)):
        for match in pattern.finditer(text):
            yield Found(kind, match.group(1), 1.0 if kind == "identity number" else SAMPLE)
    for match in _ADDRESS.finditer(text):
        yield Found("postal address", match.group(), 1.0)


def _phones(text: str) -> Iterator[Found]:
    for match in _PHONE.finditer(text):
        area, middle, last = match[1] or match[2], match[3], match[4]
        if area in _TOLL_FREE:
            continue
        sample = "555" in (area, middle) or last in ("1234", "4567", "5678", "7890", "0000", "6789")
        yield Found("phone", match.group(), SAMPLE if sample else 1.0)
    for match in _PHONE_ABROAD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if 9 <= len(digits) <= 15:
            yield Found("phone", match.group(), SAMPLE if "1234567" in digits else 1.0)
    for match in _PHONE_NAMED.finditer(text):
        digits = re.sub(r"\D", "", match[1])
        if 9 <= len(digits) <= 15 and not digits.startswith(("800", "1800", "888", "1888")):
            sample = "555" in match[1] or "1234567" in digits or len(set(digits)) < 4
            yield Found("phone", match[1], SAMPLE if sample else 1.0)


def _numbers(text: str) -> Iterator[Found]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _luhn(digits) and digits[0] in "3456" and len(set(digits)) > 1:
            sample = len(set(digits)) < 4 or digits[:8] in "0123456789012345678"
            yield Found("payment card", match.group(), SAMPLE if sample else 1.0)
    for pattern in (_SSN, _SSN_NAMED):
        for match in pattern.finditer(text):
            sample = re.sub(r"\D", "", match[0]) in (
                "123456789",
                "078051120",
                "111111111",
                "987654321",
            )
            yield Found("social security number", match.group(), SAMPLE if sample else 1.0)
    for match in _IBAN.finditer(text):
        if _iban(match.group().replace(" ", "")):
            yield Found("IBAN", match.group(), 1.0)
    for match in _IP.finditer(text):
        points = _address_points(match.group())
        before = text[max(0, match.start() - 30) : match.start()].lower()
        if points and not re.search(r"version|v\.?$|release|section|chapter|firmware", before):
            yield Found("IP address", match.group(), points)


def _address_points(text: str) -> float:
    """1 for a public address, SAMPLE for one kept for documentation, 0 for private ones."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return 0.0
    if text.startswith(("192.0.2.", "198.51.100.", "203.0.113.")) or text in (
        "8.8.8.8",
        "8.8.4.4",
        "1.1.1.1",
        "1.2.3.4",
    ):
        return SAMPLE
    return (
        1.0
        if address.is_global
        else (SAMPLE if text.startswith(("192.168.", "172.16.", "10.")) else 0.0)
    )


def _luhn(digits: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812-1)."""
    doubled = [int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _iban(text: str) -> bool:
    """Check digits of account numbers (ISO 13616): remainder 1 modulo 97."""
    turned = text[4:] + text[:4]
    return 15 <= len(text) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _hidden(text: str) -> str:
    return f"{text[:4]}...{text[-2:]} ({len(text)} characters)"
