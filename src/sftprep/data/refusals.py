"""Checks on answers that speak as an assistant: refusals, boilerplate, another model's identity."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt

_OPENING = (
    r"[\s\"'*]*(?:(?:unfortunately|regrettably|sorry|well|hmm|oh|no|thank you[^.!?\n]{0,60}"
    r"|i understand[^.!?\n]{0,80}|i appreciate[^.!?\n]{0,80})\b[,.!]*\s*"
    r"(?:but\s+|however,?\s+)?){0,2}"
)
_CANNOT = (
    r"(?:can['\u2019]?t|cannot|can\s+not|could\s+not|couldn['\u2019]?t|won['\u2019]?t|will\s+not)"
)
_HELP = (
    r"(?:help|assist|provide|fulfil?l?|comply|answer|generate|create|do\s+(?:that|this)|complete"
    r"|engage"
    r"|support|respond|process|offer|give|write|discuss|participate|share|accommodate|produce"
    r"|perform"
    r"|access|browse|open|view|see\s+(?:the\s+)?(?:image|picture|file)|recommend|encourage"
    r"|continue\s+with|proceed"
    r"|make\s+(?:personal|predictions)|satisfy|carry\s+out|translate|execute|advise|promote"
    r"|condone)"
)
_AI = (
    r"(?:ai|a\.i\.|artificial\s+intelligence|(?:large\s+)?(?:ai\s+)?language\s+model"
    r"|virtual\s+assistant|chat\s?bot"
    r"|machine(?:\s+learning\s+model)?|computer\s+program|text-based\s+(?:ai|model|assistant)"
    r"|digital\s+assistant|assistant)"
)
_REFUSAL = re.compile(
    _OPENING
    + rf"""(?:(?:i(?:['\u2019]m|\s+am)\s+(?:(?:very|so|really|truly|terribly|deeply)\s+)?
                (?:sorry|afraid)|my\s+apologies|apologies|sorry
                  |i\s+(?:sincerely\s+)?apologi[sz]e|i\s+regret(?:\s+to\s+(?:say|inform\s+you))?)
              \b[^.!?\n]{{0,60}}?[,.:;]?\s*(?:but\s+|that\s+|however,?\s+)*
              (?:as\s+an?\s+{_AI}\b.{{0,80}}?)?
              (?:i\s+(?:{_CANNOT}|am\s+(?:not\s+able|unable|not\s+programmed|not\s+allowed
                |not\s+capable)|(?:do\s+not|don['\u2019]t)\s+(?:have|know|feel|think))
                |i['\u2019]m\s+(?:not\s+able|unable|not\s+programmed|not\s+allowed|not\s+capable
                  |not\s+comfortable)|(?:this|that)\s+is\s+not\s+(?:something|possible|a\s+valid
                  |appropriate)
                |(?:this|that|your)\s+(?:\w+\s+)?(?:request|question|input)\b)
          |(?:i\s+)?{_CANNOT}\s+(?:\w+\s+)?{_HELP}\b
          |i(?:['\u2019]m|\s+am)\s+(?:(?:sorry|afraid)\b.{{0,20}})?(?:unable|not\s+able
            |not\s+(?:going|willing)|not\s+allowed|not\s+permitted|not\s+programmed
            |not\s+comfortable|not\s+capable|not\s+equipped|not\s+designed|forbidden)\s+
              (?:to|of|with|for)?\s*(?:{_HELP}|doing|answering|creating|providing|generating
                |writing|discussing|that|this)
          |i\s+(?:must|have\s+to|need\s+to|will\s+have\s+to|would\s+prefer\s+to|respectfully
            |politely)\s+(?:\w+\s+)?(?:decline|refuse|refrain)
          |i\s+(?:do\s+not|don['\u2019]t)\s+(?:have\s+(?:the\s+(?:ability|capability|capacity)
            |(?:\w+\s+)?access|enough\s+information|permission|personal|real-?time|feelings
            |opinions)|feel\s+comfortable|engage\s+in|support\s+|provide\s+|create\s+content
            |think\s+i\s+(?:can|should)\s+{_HELP})
          |(?:as|i\s+am|i['\u2019]m|being)\s+(?:just\s+|only\s+|merely\s+|simply\s+)?an?\s+{_AI}\b
              [^.\n]{{0,90}}[,.]?\s*(?:so\s+|and\s+|but\s+)?
              (?:i\s+(?:{_CANNOT}|do\s+not|don['\u2019]t|am\s+(?:not|unable)|must|lack|have\s+no)
                |i['\u2019]m\s+(?:not|unable)|(?:it\s+(?:is|would\s+be)\s+)(?:not|inappropriate
                  |unethical|against))
          |it\s+(?:is|would\s+be)\s+(?:not\s+(?:possible|appropriate|ethical|within\s+my)
            |inappropriate|unethical|against\s+my|impossible)\s+
              (?:for\s+(?:me|an?\s+{_AI})\s+)?(?:to\s+)?(?:{_HELP}|programming|guidelines)?
          |(?:this|that|your)\s+(?:request|question|content|prompt)\s+(?:goes\s+against|violates
            |is\s+(?:inappropriate|against|not\s+appropriate|unethical|beyond\s+my))
          |i\s+(?:won['\u2019]t|will\s+not|would\s+not|wouldn['\u2019]t)\s+be\s+able\s+to\b
          |i['\u2019]d\s+rather\s+not|i\s+refuse\s+to|no\s+comment\b)""",
    re.IGNORECASE | re.VERBOSE,
)
PLAYS = re.compile(
    r"""\b(?:dialogue?s?|role.?play\w*|story|character|imagine|pretend|act\s+as|play\s+the|script
        |you(?:\s+are|'re)\s+(?:an?|the)|respond\s+as|take\s+on|assume\s+the|apolog\w*|declin\w*
        |refus\w*|excuse|sorry|unable|quote|translate|paraphrase|rewrite
        |(?:write|draft|compose|create)\b[^.\n]{0,60}\b(?:letter|e-?mail|reply|message|poem|song
          |speech))\b""",
    re.IGNORECASE | re.VERBOSE,
)


_STILL_HELPS = re.compile(r"[^.!?\n]{0,80}\bbut\s+i\s+(?:can|could|will|would)\b", re.IGNORECASE)


def is_refusal(answer: str) -> bool:
    """The answer begins by declining."""
    match = _REFUSAL.match(answer)
    return match is not None and _STILL_HELPS.match(answer, match.end()) is None


def response_refusal(row: Row, threshold: float) -> Evidence | None:
    """The answer begins by declining, as an assistant would. Safety data needs such rows: a flag.

    Role play, letters and texts about refusing are exempt, where the words are a character's.
    """
    for answer in row.answers:
        if not is_refusal(answer):
            continue
        if _SPEAKS_FOR_OTHERS.search(row.instruction):
            return None
        if len(answer) <= SHORT_REFUSAL or not PLAYS.search(row.instruction):
            return Evidence(excerpt(answer))
    return None


SHORT_REFUSAL = 200  # characters: no story, poem or dialogue that happens to begin by declining
_SPEAKS_FOR_OTHERS = re.compile(
    r"""\b(?:role.?play\w*|pretend|act\s+as|you(?:\s+are|'re)\s+(?:an?|the)|respond\s+as
      |take\s+on|assume\s+the|apolog\w*
        |declin\w*|refus\w*|excuse|sorry|unable|quote|translate|paraphrase|rewrite|rephrase|edit
          |say\s+no|reject\w*|turn\s+down
        |(?:write|draft|compose|create)\b[^.\n]{0,60}\b(?:letter|e-?mail|reply|message|speech
          |dialogue|conversation))\b""",
    re.IGNORECASE | re.VERBOSE,
)


_BOILERPLATE = re.compile(
    r"""\b(?:as|being|i\s+am|i['\u2019]m)\s+(?:just\s+|only\s+|merely\s+
      |simply\s+)?an?\s+(?:\w+\s+)?(?:ai\b|artificial\s+intelligence
      |(?:large\s+)?(?:ai\s+)?language\s+model
          |ai\s+(?:language\s+)?model|ai\s+assistant|machine\s+learning\s+model|chat\s?bot
            |virtual\s+assistant|computer\s+program)
        |\b(?:my|as\s+of\s+my)\s+(?:last\s+)?(?:knowledge|training)\s+(?:cut-?off|update|data\b)
        |\bas\s+of\s+my\s+(?:last|latest|most\s+recent|current)\s+(?:\w+\s+)?(?:update|knowledge
          |training)
        |\bmy\s+(?:training\s+data|knowledge)\s+(?:only\s+)?(?:goes|extends|ends|is\s+(?:limited
          |current|up))
        |\bi\s+(?:do\s+not|don['\u2019]t)\s+(?:\w+\s+)?have\s+(?:personal\s+(?:opinions?
          |beliefs?|experiences?|feelings|preferences?)|feelings|emotions|opinions
          |access\s+to\s+(?:real-?time|current|the\s+internet)|the\s+(?:ability
            |capability)\s+to\s+(?:browse|access|feel|experience))
        |\bi\s+(?:was|am|have\s+been)\s+(?:trained|programmed|designed)\s+(?:by|on|to)\b""",
    re.IGNORECASE | re.VERBOSE,
)
# First four letters of words of which every alternative of _BOILERPLATE holds one.
_STEMS = "ai arti lang mach chat virt comp know trai pers feel emot opin acce abil capa prog desi"
_BOILERPLATE_STEMS = frozenset(_STEMS.split())
_CLOSING = re.compile(
    r"""(?:let\s+me\s+know\s+if\s+(?:you(?:['\u2019]d|\s+would)?\s+(?:have|need|like
      |want)\b[^.!?\n]{0,30}\b(?:questions?|help|assistance|information|clarification|details
      |else|more)|there(?:['\u2019]s|\s+is)\s+anything)
        |is\s+there\s+anything\s+else\s+(?:i\s+can|you(?:['\u2019]d|\s+would))
        |i\s+hope\s+(?:this|that|it)\s+(?:answer\s+|information\s+|explanation\s+)?(?:helps
          |was\s+helpful|is\s+helpful|answers\s+your)
        |feel\s+free\s+to\s+(?:ask|reach\s+out|let\s+me\s+know)
        |(?:please\s+)?(?:don['\u2019]t\s+hesitate|do\s+not\s+hesitate)\s+to\s+(?:ask
          |reach\s+out|contact\s+me))[^.!?\n]{0,80}[.!?)\s\U0001f600-\U0001f64f]*$""",
    re.IGNORECASE | re.VERBOSE,
)
_ABOUT_AI = re.compile(
    r"""\b(?:ai|a\.i|artificial\s+intelligence|language\s+models?|chat\s?bots?|chatgpt|gpt\S*
      |robots?|your\s+(?:name|training|knowledge|context|creator|maker|developer)
        |(?:are|were|did|do|can|have)\s+you\b[^?\n]{0,30}\b(?:robot|bot|human|real|feel\w*
          |conscious|sentient|machine|created|trained|developed|made|built|based|person|model
          |davinci\S*|curie|call)
        |are\s+you\s+\S+\?|what\s+are\s+you|about\s+you|who\s+(?:\w+\s+)?(?:programmed\s+you|taught\s+you|are\s+you|you\s+are|made\s+you|built\s+you
          |created\s+you|trained\s+you|developed\s+you)|introduce\s+yourself|about\s+yourself
          |(?:call|called)\s+you|you\s+called)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_PARTING = re.compile(
    r"^\W*(?:good\s?bye|bye|thanks?(?:\s+you)?|see\s+you|have\s+a\s+(?:nice|good)\s+day"
    r"|that['\u2019]s\s+all)\b.{0,20}$",
    re.IGNORECASE,
)


def assistant_boilerplate(row: Row, threshold: float) -> Evidence | None:
    """The answer speaks of itself as a language model, or closes as an assistant does.

    A question about AI itself, and role play, are exempt; letters may close politely.
    """
    speaks = not row.stems.isdisjoint(_BOILERPLATE_STEMS)
    for answer in row.answers:
        match = _BOILERPLATE.search(answer) if speaks else None
        if match is not None and _ABOUT_AI.search(row.prompt):
            match = None
        parting = row.questions and _PARTING.match(row.questions[-1])
        match = match or (None if parting else _closing(answer[-200:]))
        if match is not None and PLAYS.search(row.instruction):
            return None
        if match is not None:
            text = answer if match.re is _BOILERPLATE else answer[-200:]
            return Evidence(excerpt(text, match.start(), match.end()))
    return None


def _closing(end: str) -> re.Match[str] | None:
    """An assistant's closing words; each alternative of the pattern holds one of these."""
    folded = end.lower()
    signs = ("know", "else", "hope", "free", "hesitate")
    return _CLOSING.search(end) if any(sign in folded for sign in signs) else None


_PLAYS_A_ROLE = re.compile(r"\b(?:role.?play|pretend|imagine|act as|story|dialog\w*)", re.I)
_PROVIDERS = (
    "gpt gpt3 gpt4 chat clau bard gemi copi bing llam grok deep qwen open anth goog meta micr mist"
    " alib vicu alpa bloo falc palm ernie koal moss"
)
_PROVIDER_STEMS = frozenset(_PROVIDERS.split())
_MODEL_NAMES = (
    r"(?:chatgpt|gpt-?[345](?:\.5|o)?(?:-turbo)?|instructgpt|claude|bard|gemini|copilot"
    r"|bing\s+chat|llama\s?-?[23]?|vicuna|alpaca|bloom|palm\s?2?"
    r"|grok|deepseek|qwen|mistral|open\s?assistant|ernie\s+bot|koala)"
)
_OTHER_MODEL = re.compile(
    rf"""\b(?:i\s+am|i['\u2019]m|my\s+name\s+is|call\s+me|as|this\s+is)\s+(?:an?\s+
      |the\s+)?(?:\w+\s+){{0,4}}?{_MODEL_NAMES}\b(?!\s+(?:says?|user|plugin|can\s+be))
        |\b(?:i\s+was|i\s+am|i['\u2019]m|i['\u2019]ve\s+been|i\s+have\s+been|as\s+an?\s+(?:ai\s+
          |large\s+)*(?:language\s+)?(?:model|assistant)|i\s+am\s+an?\s+[\w\s-]{{0,40}}?(?:model
          |assistant|ai))\s*,?\s+
          (?:\w+\s+){{0,5}}?(?:trained|developed|created|made|built|designed)\s+by\s+
          (?:the\s+)?(?:openai|open\s+ai|anthropic|google|meta|facebook|microsoft|deepmind
            |mistral|alibaba|xai|baidu|laion|nvidia|lmsys|large\s+model\s+systems)\b""",
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
