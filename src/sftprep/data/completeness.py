"""Checks on rows that hold nothing: empty turns, stand-ins, and rows too long to train on."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt, normal

# White space, and characters that show nothing: zero width, soft hyphen, blank Braille, fillers.
_NOTHING = r"\s\u200b-\u200f\u2060-\u2064\ufeff\u00ad\u2800\u3164\u115f\u1160\u180e"
_INVISIBLE = re.compile(f"[{_NOTHING}]+")
_VISIBLE = re.compile(f"[^{_NOTHING}]")
_WORDLIKE = re.compile(r"[^\W_]|[^\x00-\xff]")
_THING = (
    r"(?:output|response|answer|input|reply|completion|content|text|result|solution|description"
    r"|explanation)"
)
_PLACEHOLDER_ANSWER = re.compile(
    rf"""["'*_]{{0,2}}[<\[({{]{{0,2}}\s*(?:
        no\s?-?(?:valid\s|further\s)?{_THING}s?(?:\s(?:is\s)?(?:needed|required|provided
          |available|given|found|generated|produced|returned|yet|here))?
      | (?<=[<\[({{])(?:{_THING}|empty|blank|none|null|nil|missing|redacted|removed|deleted
        |untranslated)(?=[>\])}}])
      | (?:insert|your|enter|add|put|write|type|place|paste|fill\sin|sample|example|dummy
        |generated|model)\s(?:\w+\s){{0,2}}?{_THING}s?(?:\s(?:here|goes\shere|below))?
      | {_THING}\s(?:goes|will\sgo|comes|to\sbe\s\w+|pending|missing|unavailable
        |not\s(?:available|provided|found)|tbd|placeholder)(?:\shere)?
      | place\s?holder(?:\s{_THING})? | to\s?-?do(?:[\s:,-].{{0,60}})? | tbd | tba | tbc
        | \#value! | fixme(?:[\s:].{{0,60}})? | n\s?[/.]\s?a\.? | lorem\ ipsum.{{0,400}}
      | not\s(?:applicable|available|provided|yet\s(?:available|written)) | to\sbe\s(?:added
        |completed|determined|filled(?:\sin)?|written|announced|decided)(?:\slater)?
      | coming\ssoon | work\sin\sprogress | wip | under\sconstruction | null | nil | undefined
        | \#n/a | \#ref! | \(?blank\)? | (?<=[<\[(])skip(?=[>\])])
      | {_THING}s?\s*: | asdf\w* | qwerty\w* | (?:test\s?){{1,3}}(?:\d+|response|answer
        |output)? | xxx+
        | foo\s?bar | see\sabove | same\sas\sabove | as\sabove
      )\s*[>\])}}]{{0,2}}["'*_]{{0,2}}[.!]?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ONLY_MARKS = re.compile(
    r"(?:\.{2,}|\u2026+|[-_*#=~\u2014\u2013]+|[?!]{2,}|(?:\[\]|\{\}|\(\)|<>)|[.,;:?])"
)
_PLACEHOLDER_INPUT = re.compile(
    r"""[<\[({"']?\s*(?:
        (?:input\s?:\s?)?no[\s_-]?(?:(?:additional|further|specific|extra)\s)?
        (?:input|context|text|data|content|information)(?:\s(?:is\s)?(?:needed|required|provided|given|available
          |necessary))?
      | n\s?[/.]\s?a\.? | not\s(?:applicable|available|required|needed|provided|given)
      | none(?:\s(?:given|provided|needed|required))? | nil | null | nan | empty
      | input | \.{2,} | - )\s*[>\])}"']?[.!]?""",
    re.VERBOSE | re.IGNORECASE,
)


LONGEST_PLACEHOLDER = 500  # characters
MOST_WORDS = 10  # of a stand-in in ASCII that begins otherwise than with one of these
_LONG_PLACEHOLDERS = frozenset(("to", "todo", "fixme", "lorem", ""))


def _stripped(text: str) -> str:
    return _INVISIBLE.sub(" ", text).strip()


def response_empty(row: Row, threshold: float) -> Evidence | None:
    """An answer that is to be learned has no visible character."""
    for number, answer in enumerate(row.answers or ("",), start=1):
        if _VISIBLE.search(answer) is None:
            return Evidence(f"answer {number} of {max(1, len(row.answers))}: {answer[:20]!r}")
    return None


def response_placeholder(row: Row, threshold: float) -> Evidence | None:
    """The whole answer is a stand-in (`<nooutput>`, N/A, nan, ...), never part of a longer text."""
    if len(row.response) > LONGEST_PLACEHOLDER:
        return None
    found = row.response_words
    long = row.response.isascii() and len(found) > MOST_WORDS
    if long and found[0].strip("_") not in _LONG_PLACEHOLDERS:
        return None
    answer = _stripped(row.response)
    if row.about_code and answer.lower().strip(".") in (
        "null",
        "nil",
        "undefined",
        "[]",
        "{}",
        "()",
        "foobar",
    ):
        return None
    bare = answer.strip("-\u2013\u2014=*_#~|$% ")
    if (
        _PLACEHOLDER_ANSWER.fullmatch(answer)
        or _ONLY_MARKS.fullmatch(answer)
        or (bare != answer and (bare in _SLOTS or _PLACEHOLDER_ANSWER.fullmatch(f"<{bare}>")))
    ):
        return None if _asked_for(answer, row.prompt) else Evidence(excerpt(answer))
    if answer.lower() == "nan" and not row.about_code and not _asked_for(answer, row.prompt):
        return Evidence(answer)
    if answer.lower().strip(".:") in (
        "none",
        "nothing",
        "output",
        "response",
    ) and _WANTS_TEXT.match(row.instruction):
        return None if _asked_for(answer, row.prompt) else Evidence(answer)
    return None


_SLOTS = ("s", "d", "{}", "{0}", "{response}", "{output}", "{answer}")  # of %s, ${response} ...
_WANTS_TEXT = re.compile(
    r"\W*(?:please\s+)?(?:how\s+(?:do|does|can|to|would|should|is|are)\b|why\b|explain|describe"
    r"|write|compose|draft|suggest|recommend|tell\b|discuss|create|generate|summari[sz]e|translate"
    r"|rewrite|compare|outline|elaborate|design|perform|construct|delete|add"
    r"|(?:name|list|give|provide)\s+(?:me\s+)?(?:a|an|some|two|three|four|five|ten|\d+)\b"
    r"|what\s+is\s+(?:the|a|an)\s+(?:capital|melting|boiling|meaning|plural|past)\b)",
    re.IGNORECASE,
)


_ASKS_MEANING = re.compile(
    r"\b(?:stand for|abbreviat\w*|acronym|mean|meaning|placeholder|filler|typeof"
    r"|(?:what|which|name\sthe|give\sthe|the)\s(?:\w+\s){0,2}?(?:value|literal|keyword|character|symbol"
    r"|sign|mark|punctuation|operator|separator|delimiter|output)s?)\b",
    re.IGNORECASE,
)


def _asked_for(answer: str, prompt: str) -> bool:
    """The stand-in occurs in the question, so it may be the right answer."""
    if _ASKS_MEANING.search(prompt):
        return True
    bare = normal(answer).strip(".!<>[](){} ")
    return bool(bare) and bare in normal(prompt)


def instruction_empty(row: Row, threshold: float) -> Evidence | None:
    """A user turn holds no letter and no digit."""
    for number, question in enumerate(row.questions or ("",), start=1):
        if _WORDLIKE.search(question) is None:
            return Evidence(f"user turn {number}: {question[:40]!r}")
    return None


_PLACEHOLDER_ASKED = re.compile(
    r"""[<\[({"']{0,2}\s*(?:no\s?-?(?:input|instruction|question|prompt|text)(?:\s(?:given
      |provided|available))? | n\s?/\s?a | tbd | todo
        | none | null | nan | place\s?holder | lorem\ ipsum.{0,400} | coming\ssoon | undefined
        | (?:insert|your|enter|put|paste)\s(?:\w+\s){0,2}?(?:instruction|question|prompt|text|query
          |task|request)s?(?:\s(?:here|goes\shere))?
        | (?:write|type|add)\s(?:\w+\s){0,2}?(?:instruction|question|prompt|text|query)s?\shere
        | (?:instruction|question|prompt|query|task|input)s?\s?:
        | (?<=[<\[({])(?:instruction|question|prompt|query|task
          |input)(?=[>\])}]))\s*[>\])}"']{0,2}[.!?]?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_HOLE = re.compile(
    r"\{\{\s*[A-Za-z_][\w. ]{0,40}\s*\}\}|(?<![\w{])\$?\{(?:[a-z]+_)*(?:input|text|question|topic"
    r"|name|instruction|context|passage|article|prompt|query|document|language|subject|title"
    r"|sentence|word|number|category|company|product|country|city|person|date|job|field"
    r"|description)(?:_[a-z]+)*\}|<(?:topic|name|language|subject|country|city|product|company"
    r"|person|person's name|your \w+|your name)>"
    r"|\[(?:(?:[A-Z]+ ){0,2}(?:TOPIC|NAME|LANGUAGE|SUBJECT|COUNTRY|CITY|PRODUCT|COMPANY|INDUSTRY"
    r"|TEXT|PERSON|DATE|NUMBER|KEYWORD|JOB TITLE)|topic|language|subject|product|product name"
    r"|company name|your \w+|industry|country|keyword)\]|\[(?:INSERT|Insert|insert|ENTER"
    r"|Enter) [^\]\n]{2,60}\]|<(?:insert|INSERT) [^>\n]{2,60}>|%\([a-z_]+\)s"
)


def instruction_placeholder(row: Row, threshold: float) -> Evidence | None:
    """A whole user turn is a stand-in (`N/A`, "[insert question here]")."""
    for number, question in enumerate(row.questions, start=1):
        if len(question) <= LONGEST_PLACEHOLDER and _PLACEHOLDER_ASKED.fullmatch(
            _stripped(question)
        ):
            return Evidence(f"user turn {number}: {excerpt(question)}")
    return None


def hole_unfilled(row: Row, threshold: float) -> Evidence | None:
    """A template was not filled in: `{{name}}`, `{topic}`, `[INSERT ...]` outside code.

    An answer that is meant as a template (letters) is exempt, and questions about templates.
    """
    if not any(sign in content for content in row.contents for sign in _HOLE_SIGNS):
        return None
    if row.asks_for_code or _ABOUT_HOLES.search(row.prompt):
        return None
    match = _HOLE.search(row.instruction)
    if match is not None and not _LOOKS_LIKE_CODE.search(row.instruction):
        return Evidence(excerpt(row.instruction, match.start(), match.end()))
    if _TEMPLATES.search(row.prompt):
        return None
    for message in row.example.messages:
        if message.role == "system" or _LOOKS_LIKE_CODE.search(message.content):
            continue
        match = _HOLE_IN_ANSWER.search(message.content)
        if match is not None:
            return Evidence(excerpt(message.content, match.start(), match.end()))
    return None


_ABOUT_HOLES = re.compile(
    r"\b(?:template|placeholder|fill|blank|latex|jinja|format|madlib|mad libs|variable|bracket"
    r"|replace|substitut|html|xml|tag)",
    re.IGNORECASE,
)


_HOLE_SIGNS = ("{", "[", "<", "%(")  # both patterns of holes hold one of these
_HOLE_IN_ANSWER = re.compile(
    r"\{\{\s*[A-Za-z_][\w. ]{0,40}\s*\}\}|(?<![$\w{])\{(?:name|topic|input|text|question|answer"
    r"|output)\}"
)
_LOOKS_LIKE_CODE = re.compile(r"```|=>|;\s*(?:\n|\}|$)|\\\w*\{|</\w+>|\bf['\"]")
_TEMPLATES = re.compile(
    r"\b(?:template|placeholder|letter|e-?mail|form|fill|blank|latex|jinja|format|madlib|mad libs"
    r"|contract|resume|script)",
    re.I,
)


def input_placeholder(row: Row, threshold: float) -> Evidence | None:
    """The separate input is a stand-in such as `Noinput`; the repair blanks it."""
    if not 0 < len(row.passage) <= 60:
        return None
    passage = _stripped(row.passage)
    return Evidence(row.passage[:60]) if _PLACEHOLDER_INPUT.fullmatch(passage) else None


def too_long(row: Row, threshold: float) -> Evidence | None:
    """More training tokens than fit; nothing is ever cut to fit."""
    if row.tokens is None or row.tokens <= threshold:
        return None
    return Evidence(f"{row.tokens} tokens, at most {threshold:g} fit", float(row.tokens))
