"""Checks on answers that speak as an assistant: refusals, boilerplate, another model's identity."""

import re

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt, words
from sftprep.data.wordlists import word_list

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
          |(?:as|i\s+am|i['\u2019]m|being)\s+(?:just\s+|only\s+|merely\s+|simply\s+)?an?\s+(?:(?:responsible
            |helpful|ethical|safe|honest|respectful|trained)\s+(?:and\s+\w+\s+)?){{0,2}}{_AI}\b
              [^.\n]{{0,90}}[,.]?\s*(?:so\s+|and\s+|but\s+)?
              (?:i\s+(?:{_CANNOT}|do\s+not|don['\u2019]t|am\s+(?:not|unable)|must|lack|have\s+no)
                |i['\u2019]m\s+(?:not|unable)|(?:it\s+(?:is|would\s+be)\s+)(?:not|inappropriate
                  |unethical|against))
          |it\s+(?:would\s+not\s+be|wouldn['\u2019]t\s+be|isn['\u2019]t)\s+(?:possible|appropriate|ethical|right
              |responsible)\b
          |it\s+(?:is|would\s+be)\s+(?:not\s+(?:possible|appropriate|ethical|within\s+my)
            |inappropriate|unethical|against\s+my|impossible)\s+
              (?:for\s+(?:me|an?\s+{_AI})\s+)?(?:to\s+)?(?:{_HELP}|programming|guidelines)?
          |(?:this|that|your)\s+(?:request|question|content|prompt)\s+(?:goes\s+against|violates
            |is\s+(?:inappropriate|against|not\s+appropriate|unethical|beyond\s+my))
          |i\s+(?:won['\u2019]t|will\s+not|would\s+not|wouldn['\u2019]t)\s+be\s+able\s+to\b
          |i(?:['\u2019]d|\s+would)\s+(?:rather|prefer)\s+not|i(?:['\u2019]m|\s+am)\s+(?:unable|not\s+able)\s+to\b
          |i\s+refuse\s+to|no\s+comment\b)""",
    re.IGNORECASE | re.VERBOSE,
)
# The same in other languages: an apology or none, and "I cannot", within one sentence.
_REFUSAL_ABROAD = re.compile(
    r"""\W*(?:
        (?:es\ tut\ mir\ (?:sehr\ )?leid|entschuldigung|tut\ mir\ leid|leider)\b[^.!?\n]{0,60}
          \b(?:kann|darf|m\u00f6chte)\ ich\b[^.!?\n]{0,60}\b(?:nicht|kein\w*)\b
      | (?:es\ tut\ mir\ (?:sehr\ )?leid|tut\ mir\ leid|leider)\b[^.!?\n]{0,40}
          \b(?:nicht|kein\w*)\b[^.!?\n]{0,40}\b(?:helfen|beantworten|weiterhelfen|unterst\u00fctzen)
      | ich\ (?:kann|darf)\ [^.!?\n]{0,60}\bnicht\ (?:helfen|beantworten|weiterhelfen|erf\u00fcllen)
      | (?:(?:je\ suis\ (?:vraiment\ )?)?d\u00e9sol\u00e9e?|malheureusement|je\ m['\u2019]excuse)\b
          [^.!?\n]{0,40}\bje\ ne\ (?:peux|puis|suis)\b
      | je\ ne\ (?:peux|puis)\ pas\ (?:vous\ aider|r\u00e9pondre|fournir|accomplir)
      | (?:lo\ siento|lo\ lamento|disculpa|desafortunadamente|lamentablemente)\b[^.!?\n]{0,40}
          \bno\ (?:puedo|pued\w+|soy\ capaz|me\ es\ posible)\b
      | no\ puedo\ (?:ayudar|responder|proporcionar|cumplir)
      | (?:desculpe|sinto\ muito|lamento|infelizmente)\b[^.!?\n]{0,40}\bn\u00e3o\ (?:posso
        |consigo)\b
      | (?:mi\ dispiace|spiacente|purtroppo)\b[^.!?\n]{0,40}\bnon\ (?:posso|sono\ in\ grado)\b
      | (?:het\ spijt\ me|sorry|helaas)\b[^.!?\n]{0,40}\bkan\ ik\b[^.!?\n]{0,40}\b(?:niet|geen)\b
      | (?:przykro\ mi|przepraszam|niestety)\b[^.!?\n]{0,40}\bnie\ mog\u0119\b
      | (?:\u043a\ \u0441\u043e\u0436\u0430\u043b\u0435\u043d\u0438\u044e
        |\u0438\u0437\u0432\u0438\u043d\u0438\u0442\u0435
        |\u043f\u0440\u043e\u0441\u0442\u0438\u0442\u0435)
          [^.!?\n]{0,30}\u043d\u0435\ \u043c\u043e\u0433\u0443
      | (?:\u5f88?\u62b1\u6b49|\u5bf9\u4e0d\u8d77
        |\u5c0d\u4e0d\u8d77)[^\u3002!?\n]{0,20}(?:\u65e0\u6cd5|\u7121\u6cd5|\u4e0d\u80fd)
      | (?:\u7533\u3057\u8a33
        |\u3059\u307f\u307e\u305b\u3093)[^\n]{0,60}(?:\u3067\u304d\u307e\u305b\u3093
        |\u304b\u306d\u307e\u3059)
      | \uc8c4\uc1a1[^\n]{0,60}\uc218\ \uc5c6)""",
    re.IGNORECASE | re.VERBOSE,
)
PLAYS = re.compile(
    r"""\b(?:dialogue?s?|role.?play\w*|scene|monologue|screenplay|fable|story|character|imagine|pretend|act\s+as|play\s+the|script
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
    if match is None:
        return _REFUSAL_ABROAD.match(answer) is not None
    return _STILL_HELPS.match(answer, match.end()) is None


def response_refusal(row: Row, threshold: float) -> Evidence | None:
    """The answer begins by declining, as an assistant would. Safety data needs such rows: a flag.

    Role play, letters and texts about refusing are exempt, where the words are a character's.
    """
    for answer in row.answers:
        if not is_refusal(answer):
            continue
        if len(answer) <= BARE_REFUSAL and _SAYS_NO_MORE.search(answer):
            return Evidence(excerpt(answer))
        if _SPEAKS_FOR_OTHERS.search(row.instruction):
            return None
        if len(answer) <= SHORT_REFUSAL or not PLAYS.search(row.instruction):
            return Evidence(excerpt(answer))
    return None


BARE_REFUSAL = 120  # characters: such an answer is no letter either
_SAYS_NO_MORE = re.compile(
    r"^[^\"\u201c]*\b(?:help (?:you )?with (?:that|this)|assist (?:you )?with (?:that|this)"
    r"|(?:this|that|your) request|provide that"
    r"|do that|answer (?:that|this)(?: question)?)\b[^\"\u201d\n]{0,40}$",
    re.IGNORECASE,
)
SHORT_REFUSAL = 200  # characters: no story, poem or dialogue that happens to begin by declining
_SPEAKS_FOR_OTHERS = re.compile(
    r"""\b(?:role.?play\w*|scene|monologue|screenplay|pretend|act\s+as|you(?:\s+are|'re)\s+(?:an?|the)|respond\s+as
      |take\s+on|assume\s+the|apolog\w*
        |declin\w*|refus\w*|excuse|sorry|unable|quote|translate|paraphrase|rewrite|rephrase|edit
          |say\s+no|reject\w*|turn\s+down
        |(?:write|draft|compose|create)\b[^.\n]{0,60}\b(?:letter|e-?mail|reply|message|speech
          |dialogue|conversation|notice|announcement|out-of-office|note|post|tweet|caption))\b""",
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
        |\bi\s+(?:was|am|have\s+been)\s+(?:trained|programmed|designed)\s+(?:by|on|to)\b
        |(?:\n|[.!?]\s)\s{0,3}regenerate\s+response\s*$""",
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
    speaks = not row.stems.isdisjoint(_BOILERPLATE_STEMS) or any(
        sign in row.folded_answers for sign in ("of my", "regenerate")
    )
    for answer in row.answers:
        match = _BOILERPLATE.search(answer) if speaks else None
        if match is not None and _ABOUT_AI.search(row.prompt):
            match = None
        parting = row.questions and _PARTING.match(row.questions[-1])
        match = match or (None if parting else _closing(answer[-200:]))
        opens = match is not None and match.re is _BOILERPLATE and match.start() == 0
        if match is not None and not opens and PLAYS.search(row.instruction):
            return None
        if opens and _PLAYS_A_ROLE.search(row.instruction):
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


_PLAYS_A_ROLE = re.compile(
    r"\b(?:role.?play|pretend|imagine|act as|dialog\w*|you are an?|character|quote|rewrite"
    r"|translate|paraphrase|scene)",
    re.I,
)
_PROVIDERS = (
    "gpt gpt3 gpt4 chat clau bard gemi copi bing llam grok deep qwen open anth goog meta micr mist"
    " alib vicu alpa bloo falc palm ernie koal moss"
)
_PROVIDER_STEMS = frozenset(_PROVIDERS.split())
_MODEL_NAMES = (
    r"(?:chatgpt|gpt-?[345](?:\.5|o)?(?:-turbo)?|instructgpt|bing\s+chat|vicuna|deepseek|qwen"
    r"|open\s?assistant|ernie\s+bot|tongyi)"
)
# Names that are also a person's, a thing's or an animal's: only with a maker or "model" beside.
_COMMON_NAMES = (
    r"(?:claude|bard|gemini|copilot|bing|llama\s?-?[23]?|alpaca|bloom|palm\s?2?|grok|mistral|koala)"
)
_MAKERS = (
    r"(?:openai|open\s+ai|anthropic|google|meta|facebook|microsoft|deepmind|mistral|alibaba|xai|baidu"
    r"|laion|nvidia|lmsys|large\s+model\s+systems)"
)
_BUILT = r"(?:trained|developed|created|made|built|designed)"
_FILLING = (
    r"(?:(?:an?|the|called|named|known|as|based|on|powered|by|version|of|ai|large|language|model|chatbot"
    r"|assistant|virtual|bot|your|openai['\u2019]s|google['\u2019]s|just|actually)\s+){0,6}"
)
_OTHER_MODEL = re.compile(
    rf"""\b(?:i\s+am|i['\u2019]m|my\s+name\s+is|call\s+me|as|this\s+is)\s+{_FILLING}{_MODEL_NAMES}\b
          (?!\s+(?:says?|said|user|plugin|can\s+be|would|suggests?))
        |\b(?:i\s+am|i['\u2019]m|my\s+name\s+is|call\s+me|this\s+is)\s+{_FILLING}{_COMMON_NAMES}\b,?\s+
          [^.!?\n]{{0,40}}?\b(?:ai\b|(?:language\s+)?model\b|{_BUILT}\s+by\s+(?:the\s+)?{_MAKERS}\b
            |chat\s?bot|assistant)
        |\bas\s+an?\s+(?:ai|artificial\s+intelligence|assistant|model)\b[^.!?\n]{{0,30}}?\b{_BUILT}\s+by\s+(?:the\s+)?{_MAKERS}\b
        |\bi(?:\s+am|['\u2019]m)?\s+(?:running|run|based)\s+on\s+(?:the\s+)?{_MODEL_NAMES}
        |\b(?:i\s+was|i\s+am|i['\u2019]m|i['\u2019]ve\s+been|i\s+have\s+been|as\s+an?\s+(?:ai\s+
          |large\s+)*(?:language\s+)?(?:model|assistant)|i\s+am\s+an?\s+[\w\s-]{{0,40}}?(?:model
          |assistant|ai))\s*,?\s+
          (?:\w+\s+){{0,5}}?{_BUILT}\s+by\s+(?:the\s+)?{_MAKERS}\b
        |(?:^|[.!?]\s)(?:the\s+)?(?:company\s+)?{_MAKERS}\s+(?:{_BUILT}|owns)\s+me\b
        |(?:\bich\s+(?:bin|hei\u00dfe)|\bje\s+(?:suis|m['\u2019]appelle)|\b(?:yo\s+)?soy|\bme\s+llamo|\beu\s+sou
          |\bsono|\bik\s+ben|\bjestem|\u044f\s*[-\u2013\u2014]?|\u6211\u662f|\u6211\u53eb|\u79c1\u306f|\uc800\ub294)
          \s*(?:\w+\s+){{0,2}}?{_MODEL_NAMES}""",
    re.IGNORECASE | re.VERBOSE,
)


_PROVIDER_WORDS = frozenset(word_list("provider_words"))


def _names_provider(found: list[str]) -> bool:
    """Quick look: every alternative of the pattern above holds one of these."""
    names = not _PROVIDER_WORDS.isdisjoint(found)
    return names or ("open" in found and ("ai" in found or "assistant" in found))


def identity_foreign(row: Row, threshold: float) -> Evidence | None:
    """The answer claims, in the first person, to be another provider's model.

    Role play and code (where such a sentence is sample text) are exempt.
    """
    if row.stems.isdisjoint(_PROVIDER_STEMS) or row.about_code:
        return None
    if not any(_names_provider(words(answer)) for answer in row.answers):
        return None
    for answer in row.answers:
        match = _OTHER_MODEL.search(answer)
        if match is not None:
            exempt = _PLAYS_A_ROLE.search(row.prompt)
            return None if exempt else Evidence(excerpt(answer, match.start(), match.end()))
    return None
