"""Checks on harm: toxic words, secrets, personal data, refusals, another model's identity.

A word list finds slurs and obscenity, not harmful content in polite words: the report says which
detectors ran and which did not. The lists are in `words/`; `#` starts a comment.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt


@dataclass(frozen=True, slots=True)
class Detector:
    """A kind of harm and whether this version can look for it."""

    id: str
    runs: bool
    how: str


DETECTORS: tuple[Detector, ...] = (
    Detector("toxic_words", True, "word list with context rules (slurs, obscenity)"),
    Detector("harmful_request", True, "patterns of requests answered without refusal; flags only"),
    Detector("personal_data", True, "patterns for e-mail, phone, card (Luhn), social security no."),
    Detector("secrets", True, "patterns for keys, tokens and private key blocks"),
    Detector("refusals", True, "phrases at the start of an answer"),
    Detector("toxicity_classifier", False, "no model ships with sftprep"),
    Detector("harm_classifier", False, "harm in polite words is not detected"),
    Detector("bias", False, "stereotypes are not detected"),
)


@cache
def word_list(name: str) -> tuple[str, ...]:
    """Entries of `words/NAME.txt`, folded, without comments."""
    text = (files("sftprep.data") / "words" / f"{name}.txt").read_text(encoding="utf-8")
    entries = (line.partition("#")[0].strip().lower() for line in text.splitlines())
    return tuple(entry for entry in entries if entry)


def _alternatives(name: str) -> str:
    entries = sorted(word_list(name), key=len, reverse=True)
    return "|".join(re.escape(e).replace(r"\*", r"\w*").replace(r"\ ", r"[\s-]+") for e in entries)


@cache
def _word_pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{_alternatives(name)})(?![\w])", re.IGNORECASE)


@cache
def _insult_pattern() -> re.Pattern[str]:
    """A mild word right after "you (are a)", or as an outcry with its comma or exclamation mark."""
    mild = f"(?:{_alternatives('insults')})"
    return re.compile(
        rf"\byou(?:'re|\s+are)?(?:\s+an?)?(?:\s+\w+)?\s+{mild}\b|(?:^|[.!?]\s+){mild}\s?[,!]",
        re.IGNORECASE | re.MULTILINE,
    )


_ABOUT_TOXICITY = re.compile(
    r"\b(?:toxic\w*|hate speech|slur\w*|offensive|profan\w*|obscen\w*|swear\w*|curse words?"
    r"|vulgar\w*|etymolog\w*|censor\w*|moderat\w*|detoxif\w*|derogatory|abusive|racis\w*)\b",
    re.IGNORECASE,
)


def toxic_words(row: Row, threshold: float) -> Evidence | None:
    """Slurs, obscenity and insults. Score: 2 per slur, 1 per obscenity; a quarter outside answers.

    Mild words count 1, in answers only, as an insult or outcry outside fiction. Text about toxicity
    (classification, moderation, etymology) is exempt where only the question or quoted parts of the
    answer hold the words.
    """
    if row.stems.isdisjoint(_stems()):
        return None
    answers = "\n".join(row.answers)
    others = _others(row)
    about = _ABOUT_TOXICITY.search(row.prompt) is not None
    if about:
        others, answers = "", re.sub(r"[\"\u201c'`][^\"\u201d'`]{1,200}[\"\u201d'`]", "", answers)
    score, shown = 0.0, ""
    for text, share in ((answers, 1.0), (others, 0.25)):
        for name, weight in (("slurs", 2.0), ("obscene", 1.0)):
            found = list(_word_pattern(name).finditer(text))
            score += share * weight * len(found)
            if found and not shown:
                shown = excerpt(text, found[0].start(), found[0].end(), width=80)
    insult = None if _PLAYS.search(row.instruction) else _insult_pattern().search(answers)
    if insult is not None:
        score += 1.0
        shown = shown or excerpt(answers, insult.start(), insult.end(), width=80)
    return Evidence(shown, score) if shown and score >= threshold else None


def _others(row: Row) -> str:
    return "\n".join(m.content for m in row.example.messages if not m.train)


@cache
def _stems() -> frozenset[str]:
    """First four letters of all entries: when no word begins with one, no entry occurs."""
    entries = (*word_list("slurs"), *word_list("obscene"), *word_list("insults"))
    return frozenset(entry.partition("*")[0].partition(" ")[0][:4] for entry in entries)


_HARM_STEMS = frozenset(
    [
        "pipe",
        "bomb",
        "expl",
        "meth",
        "agen",
        "weap",
        "rans",
        "malw",
        "keyl",
        "viru",
        "suic",
        "murd",
        "arso",
        "thef",
        "geno",
        "frau",
        "kill",
        "pois",
        "stal",
        "kidn",
        "blac",
        "tort",
        "hack",
        "phis",
    ]
)
_HARMFUL_REQUEST = re.compile(
    r"""\b(?:how\s+(?:do\s+i|can\s+i|to|would\s+i|could\s+i)|steps?\s+to|guide\s+(?:to|on|for)
          |instructions?\s+(?:for|to|on)|teach\s+me\s+(?:how\s+)?to|tell\s+me\s+how\s+to
          |help\s+me|write\s+(?:a|me))\s+
        (?:\w+\s+){0,6}?
        (?:(?:make|build|create|construct)\s+(?:\w+\s+){0,3}
              (?:pipe\s?bomb|(?<!bath\s)(?<!seed\s)(?<!photo\s)bomb|explosives?|meth(?:amphetamine)?|nerve\s+agent|bioweapon
              |chemical\s+weapon|ransomware|malware|keylogger|computer\s+virus)
          |(?:commit|get\s+away\s+with)\s+(?:\w+\s+){0,2}
              (?:suicide|murder|arson|identity\s+theft|genocide|fraud)
          |(?:kill|poison|murder|stalk|kidnap|blackmail|torture)\s+
              (?:my|a|someone|somebody|people|him|her|them)\s+(?!time\b)
              (?:wife|husband|boss|neighbou?r|ex|person|people|child|kids?|girl|boy|man|woman
              |coworker|without|and|$)
          |hack\s+into\s+(?:someone|somebody|a|my|his|her|their)
          |phishing\s+(?:e-?mail|site|page|message))""",
    re.IGNORECASE | re.VERBOSE,
)


def harmful_request(row: Row, threshold: float) -> Evidence | None:
    """A request for help with serious harm whose answer does not begin with a refusal."""
    if row.stems.isdisjoint(_HARM_STEMS):
        return None
    match = _HARMFUL_REQUEST.search(row.prompt)
    if match is None or _REFUSAL.match(row.response) or _DECLINES.search(row.response[:400]):
        return None
    return Evidence(excerpt(row.prompt, match.start(), match.end()))


_OPENING = r"[\s\"'*]*(?:(?:unfortunately|sorry|well|hmm|oh)\b[,.!]*\s*(?:but\s+)?)?"
_CANNOT = r"(?:can['\u2019]?t|cannot|can\s+not)"
_REFUSAL = re.compile(
    _OPENING
    + rf"""(?:i(?:['\u2019]m|\s+am)\s+(?:(?:very|so|really|truly|terribly)\s+)?
              (?:sorry|afraid)\b[,.]?\s*
              (?:but\s+)?(?:that\s+)?(?:as\s+an\s+ai\b.{{0,80}}?)?
              (?:i\s+(?:{_CANNOT}|am\s+(?:not\s+able|unable)|(?:do\s+not|don['\u2019]t)\s+have)
                |i['\u2019]m\s+(?:not\s+able|unable)|this\s+is\s+not|that\s+is\s+not)
          |i\s+(?:{_CANNOT}|won['\u2019]?t|will\s+not|am\s+(?:unable|not\s+able)\s+to)\s+
              (?:help|assist|provide|fulfil?l?|comply|answer|generate|create|do\s+that|complete|engage
                |support|respond|process)\b
          |i(?:['\u2019]m|\s+am)\s+(?:unable|not\s+able)\s+to\s+
              (?:help|assist|provide|fulfil?l?|comply|answer|generate|create|complete)
          |(?:as|i\s+am|i['\u2019]m)\s+(?:just\s+|only\s+|merely\s+)?an?\s+
              (?:ai|artificial\s+intelligence|(?:large\s+)?language\s+model|virtual\s+assistant)\b
              [^.\n]{{0,60}}
              (?:i\s+(?:{_CANNOT}|do\s+not|don['\u2019]t|am\s+(?:not|unable))
                |i['\u2019]m\s+(?:not|unable))
          |it\s+is\s+not\s+possible\s+(?:for\s+me\s+)?to\s+
              (?:complete|answer|generate|provide|process))""",
    re.IGNORECASE | re.VERBOSE,
)
_DECLINES = re.compile(
    r"\b(?:illegal|unethical|against the law|not condone|can(?:no|')t (?:help|assist)"
    r"|seek (?:professional )?help|crisis|strongly advise|not appropriate"
    r"|protect (?:yourself|against))\b",
    re.IGNORECASE,
)
_PLAYS = re.compile(
    r"""\b(?:dialogue?s?|role.?play\w*|story|character|imagine|pretend|act\s+as|play\s+the|script
        |you(?:\s+are|'re)\s+(?:an?|the)|respond\s+as|take\s+on|assume\s+the|apolog\w*|declin\w*
        |refus\w*|excuse|sorry|cannot|can['\u2019]t|unable|quote
        |(?:write|draft|compose|create)\b[^.\n]{0,60}\b(?:letter|e-?mail|reply|message|poem|song|speech))\b""",
    re.IGNORECASE | re.VERBOSE,
)


def response_refusal(row: Row, threshold: float) -> Evidence | None:
    """The answer begins by declining, as an assistant would. Safety data needs such rows: a flag.

    Role play, letters and texts about refusing are exempt, where the words are a character's.
    """
    for answer in row.answers:
        if _REFUSAL.match(answer) and not _PLAYS.search(row.instruction):
            return Evidence(excerpt(answer))
    return None


_BOILERPLATE = re.compile(
    r"\b(?:as|being)\s+an?\s+(?:ai|artificial intelligence|(?:large )?(?:ai )?language model"
    r"|ai (?:language )?model|ai assistant|machine learning model)\b"
    r"|\bmy (?:knowledge|training) (?:cut-?off|data (?:only )?(?:goes|extends) (?:up )?"
    r"(?:to|until))"
    r"|\bi (?:do not|don['\u2019]t) have (?:personal (?:opinions|beliefs|experiences|feelings)"
    r"|access to real-?time|the ability to (?:browse|access))",
    re.IGNORECASE,
)


def assistant_boilerplate(row: Row, threshold: float) -> Evidence | None:
    """The answer speaks of itself as a language model within its first 200 characters.

    A question about AI itself, and role play, are exempt.
    """
    for answer in row.answers:
        match = _BOILERPLATE.search(answer[:200])
        if match is not None:
            exempt = _PLAYS.search(row.instruction) or _ABOUT_AI.search(row.prompt)
            return None if exempt else Evidence(excerpt(answer, match.start(), match.end()))
    return None


_ABOUT_AI = re.compile(
    r"\b(?:ai|artificial intelligence|language models?|chat ?bots?|who are you)\b", re.I
)
_PLAYS_A_ROLE = re.compile(r"\b(?:role.?play|pretend|imagine|act as|story|dialog\w*)", re.I)
_PROVIDER_STEMS = frozenset(
    [
        "gpt",
        "gpt3",
        "gpt4",
        "chat",
        "clau",
        "bard",
        "gemi",
        "copi",
        "bing",
        "llam",
        "grok",
        "deep",
        "qwen",
        "open",
        "anth",
        "goog",
        "meta",
        "micr",
        "mist",
        "alib",
    ]
)
_OTHER_MODEL = re.compile(
    r"""\b(?:i\s+am|i['\u2019]m|my\s+name\s+is|call\s+me)\s+(?:an?\s+|the\s+)?(?:\w+\s+){0,4}?
          (?:chatgpt|gpt-?[34](?:\.5|o)?|claude|bard|gemini|copilot|bing\s+chat|llama\s?-?[23]
            |grok|deepseek|qwen)\b
        |\b(?:i\s+was|i\s+am|i['\u2019]m|i['\u2019]ve\s+been|as\s+an?\s+(?:ai\s+)?language\s+model)\s+
          (?:\w+\s+){0,5}?(?:trained|developed|created|made|built)\s+by\s+
          (?:openai|anthropic|google|meta|microsoft|deepmind|mistral|alibaba)\b""",
    re.IGNORECASE | re.VERBOSE,
)


def identity_foreign(row: Row, threshold: float) -> Evidence | None:
    """The answer claims, in the first person, to be another provider's model.

    Role play and code (where such a sentence is sample text) are exempt.
    """
    if row.stems.isdisjoint(_PROVIDER_STEMS) or row.about_code:
        return None
    for answer in row.answers:
        match = _OTHER_MODEL.search(answer)
        if match is not None:
            exempt = _PLAYS_A_ROLE.search(row.prompt)
            return None if exempt else Evidence(excerpt(answer, match.start(), match.end()))
    return None


_SECRETS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("AWS access key", "AKIA", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("GitHub token", "gh", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b")),
    ("OpenAI-style key", "sk-", re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}\b")),
    ("Slack token", "xox", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b")),
    ("Google key", "AIza", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("Hugging Face token", "hf_", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("JSON web token", "eyJ", re.compile(r"\beyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{15,}")),
    ("private key", "-----BEGIN",
     re.compile(r"-----BEGIN (?:RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----")),
)  # fmt: skip
_FAKE_SECRET = re.compile(r"EXAMPLE|example|xxxx|XXXX|1234567|your|YOUR|0{8}|abcdef", re.ASCII)


def secret_inside(row: Row, threshold: float) -> Evidence | None:
    """A credential in a known shape that is not an obvious sample. Shown with its middle hidden."""
    for content in row.contents:
        for kind, marker, pattern in _SECRETS:
            match = pattern.search(content) if marker in content else None
            if match is not None and not _FAKE_SECRET.search(match.group()):
                return Evidence(f"{kind}: {_hidden(match.group())}")
    return None


_EMAIL = re.compile(r"\b[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,12}\b")
_SAMPLE_MAIL = re.compile(
    r"example|domain|test|sample|company|email|your|foo|bar\b|acme|xyz|abc|anycompany|someone|user@"
    r"|name@|you@|123@|john|jane|doe|smith|info@|support@|contact@|admin@|sales@|help@|noreply|no-reply|git@"
    r"|@(?:python|numpy)\.",
    re.IGNORECASE,
)
_THREE_DIGITS = re.compile(r"\d{3}")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+1[ .-]?)?\(?([2-9]\d{2})\)?[ .-](\d{3})[ .-](\d{4})(?![\w-]|\.\d)"
)
_CARD = re.compile(r"(?<![\w.-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{3,4}(?![\w-]|\.\d)")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)(\d{3})-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")


def personal_data(row: Row, threshold: float) -> Evidence | None:
    """E-mail addresses, North American phone numbers, payment cards, US social security numbers.

    Addresses and numbers kept for samples (example.com, 555, 1234, sequences) are exempt.
    """
    for content in row.contents:
        for kind, match in _personal(content):
            return Evidence(f"{kind}: {_hidden(match)}")
    return None


def _personal(text: str) -> list[tuple[str, str]]:
    found = []
    if "@" in text:
        found += [("e-mail", m) for m in _EMAIL.findall(text) if not _SAMPLE_MAIL.search(m)]
    if _THREE_DIGITS.search(text) is None:
        return found
    for match in _PHONE.finditer(text):
        area, middle, last = match.groups()
        if "555" not in (area, middle) and last not in ("1234", "4567", "5678", "7890", "0000"):
            found.append(("phone", match.group()))
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if len(set(digits)) > 3 and digits[:8] not in "0123456789012345678" and _luhn(digits):
            found.append(("payment card", match.group()))
    for match in _SSN.finditer(text):
        if match.group() not in ("123-45-6789", "078-05-1120", "111-11-1111"):
            found.append(("social security number", match.group()))
    return found


def _luhn(digits: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812-1)."""
    doubled = [int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _hidden(text: str) -> str:
    return f"{text[:4]}...{text[-2:]} ({len(text)} characters)"
