"""Checks on harm: toxic words and phrases, requests for serious harm, a classifier of one's own.

A word list finds slurs and obscenity, not harmful content in polite words: the report says which
detectors ran and which did not. The lists are in `words/`; `#` starts a comment.
"""

import re
from functools import cache

from sftprep.data.conversation import Evidence, Row
from sftprep.data.refusals import PLAYS, is_refusal
from sftprep.data.text import excerpt
from sftprep.data.wordlists import word_list


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
        rf"\byou(?:'re|\u2019re|\s+are)?(?:\s+(?:just|such|all|nothing\s+but"
        rf"|really))?(?:\s+an?)?(?:\s+\w+){{0,2}}?\s+{mild}\b|(?:^|[.!?]\s+){mild}\s?[,!]",
        re.IGNORECASE | re.MULTILINE,
    )


_GROUP = (
    r"(?:women|men|girls|gays?|lesbians?|homosexuals?|transgender\s+people|trans\s+people|jews?"
    r"|muslims?|christians?|hindus?|blacks?|black\s+people"
    r"|whites?|white\s+people|asians?|asian\s+people|mexicans?|immigrants?|migrants?|refugees?"
    r"|gypsies|roma|foreigners?|arabs?|africans?|chinese\s+people"
    r"|indians?|disabled\s+people|fat\s+people|poor\s+people|old\s+people|latinos?)"
)
_PHRASES = re.compile(
    rf"""\b(?:all|most|those|these)\s+(?:of\s+)?(?:the(?:se|m)?\s+)?{_GROUP}\s+(?:are|is|should
      |deserve|must|belong)\s+(?:\w+\s+){{0,3}}?
            (?:stupid|inferior|criminals?|dirty|lazy|terrorists?|subhuman|animals|vermin
              |parasites?|scum|trash|garbage|rapists|killed|exterminated|eliminated|deported
              |evil|worthless|disgusting|filth|liars|thieves|dumb|die|savages?|greedy|cheap)\b
        |\b{_GROUP}\s+(?:are|is)\s+(?:\w+\s+){{0,2}}?(?:inferior|subhuman|vermin|parasites|scum
          |filth|garbage|not\s+(?:fully\s+)?human|less\s+than\s+human|animals\s+who|a\s+disease
          |a\s+plague|mentally\s+deficient)\b
        |\b{_GROUP}\s+(?:should|must|deserve\s+to|ought\s+to)\s+(?:all\s+)?(?:be\s+)?(?:killed
          |exterminated|eliminated|shot|gassed|die|hanged|wiped\s+out|burn(?:ed)?|beaten
          |locked\s+up)\b
        |\b{_GROUP}\s+are\s+(?:all\s+|just\s+|naturally\s+|simply\s+)?(?:terrorists|criminals|rapists|thieves|liars
          |lazy|stupid|dirty|evil|disgusting|trash|animals|dumb|savages|greedy|inferior|worthless
          |too\s+(?:stupid|dumb)|ruining)\b
        |\b(?:is|are|was|were|'s|such)\s+(?:\w+\s+){{0,2}}?(?:bastards?|idiots?|morons?
          |scumbags?|dumbass(?:es)?|douchebags?)\b(?!\s+(?:files?|swords?|child(?:ren)?|sons?|titles?|operators?)\b)
        |\bi\s+hate\s+(?:all\s+)?(?:the\s+)?{_GROUP}\b
        |\b(?:go\s+)?kill\s+yourself\b|\bkys\b|\b(?:go|just|please)\s+(?:and\s+)?(?:die
          |hang\s+yourself|drop\s+dead)\b[^a-z]|\byou\s+(?:should
          |deserve\s+to)\s+(?:just\s+)?(?:die|be\s+(?:dead|killed|raped|shot))\b
        |\b(?:nobody|no\s+one)\s+(?:would\s+|will\s+)?(?:ever\s+)?(?:miss|loves?|likes?
          |cares?\s+about)\s+you\b|\bthe\s+world\s+(?:would
          |will)\s+be\s+(?:a\s+)?better\s+(?:place\s+)?without\s+you\b
        |\bi(?:['\u2019]ll|\s+will|['\u2019]m\s+going\s+to
          |\s+am\s+going\s+to)\s+(?:fucking\s+)?(?:kill|murder|rape|strangle|slaughter|stab
          |shoot|beat|hurt|hunt)\s+(?:you|your\s+family)\b
        |\byou(?:['\u2019]re|\s+are)\s+(?:\w+\s+){{0,3}}?(?:worthless|pathetic|disgusting
          |subhuman|a\s+waste\s+of\s+(?:space|oxygen|air|skin)|too\s+(?:stupid|dumb)
          |so\s+(?:stupid|dumb|ugly)|stupid|dumb|ugly|braindead|a\s+(?:\w+\s+)?(?:loser|failure
          |pig|cow|retard|disgrace|joke)|trash|garbage)\b
        |\b(?:an?|for|you|fucking|those|these|such|stupid|like|all)\s+retards?\b(?!\s+(?:the
          |growth|fire|its))
        |\byou\s+(?:pathetic|worthless|stupid|disgusting|ugly|fat|dumb|miserable|useless)\s+(?:\w+\s+)?
          (?:loser|pig|cow|fool|failure|creature|thing|excuse|waste|piece)\b
        |\bshut\s+(?:the\s+\w+\s+)?up\b""",
    re.IGNORECASE | re.VERBOSE,
)
# "They are vermin" after a question about a group.
_THEY = re.compile(
    r"""\b(?:they|these\s+people|those\s+people|their\s+kind)(?:['\u2019]re|\s+are|\s+should|\s+must
      |\s+deserve|\s+ought)\s+(?:\w+\s+){0,3}?(?:vermin|parasites|scum|filth|subhuman|animals|savages
      |inferior|a\s+disease|a\s+plague|stupid|dirty|lazy|criminals|terrorists|wiped\s+out|exterminated
      |eliminated|killed|gassed)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_GROUP_NAMED = re.compile(rf"\b{_GROUP}\b", re.IGNORECASE)
_TOLD_OF_OTHERS = re.compile(
    r"\b(?:claim|belie[vf]|stereotyp|myth|propaganda|prejudice|accus|idea that|notion|think"
    r"|thought|said"
    r"|called|portray|depict|view|false|wrong|untrue|not true|hateful|persecut|nazi|discriminat)",
    re.IGNORECASE,
)
_PHRASE_STEMS = frozenset(word_list("hate_stems"))
_ABOUT_TOXICITY = re.compile(
    r"\b(?:toxic\w*|hate speech|slur\w*|offensive|profan\w*|obscen\w*|swear\w*|curse words?"
    r"|cuss\w*|insult\w*"
    r"|vulgar\w*|etymolog\w*|censor\w*|moderat\w*|detoxif\w*|derogatory|abusive|racis\w*"
    r"|bully\w*|harass\w*)\b",
    re.IGNORECASE,
)
_ASKS_LABEL = re.compile(r"\b(?:sentiment|classif\w*|categori[sz]e)\b", re.IGNORECASE)


def toxic_words(row: Row, threshold: float) -> Evidence | None:
    """Slurs, obscenity, hate, threats and insults.

    Score: 2 per slur or phrase of hate, 1 per obscenity; half outside answers, a quarter when the
    answer declines. Hate that is told of others ("they claimed that ...") counts nothing. Mild
    words count 1, in answers only, as an insult or outcry; in fiction only where the answer
    begins with it ("You ..."). Text about toxicity (moderation, etymology) is exempt where only the
    question or quoted parts of the answer hold the words, and what is to be classified.
    """
    if row.stems.isdisjoint(_stems()):
        return None
    answers = "\n".join(row.answers)
    others = "\n".join(m.content for m in row.example.messages if not m.train)
    if _ASKS_LABEL.search(row.prompt) is not None:
        others = ""  # what is to be labelled is told of others
    if _ABOUT_TOXICITY.search(row.prompt) is not None:
        if len(row.response_words) <= NAMED_WORDS:
            return None  # the answer names what was asked for
        others, answers = "", re.sub(r"[\"\u201c'`][^\"\u201d'`]{1,200}[\"\u201d'`]", "", answers)
    fiction = PLAYS.search(row.instruction) is not None or _FICTION.search(row.prompt) is not None
    lists = (("slurs", 2.0), ("obscene", 1.0))
    patterns = [(_word_pattern(n), w) for n, w in lists if not row.stems.isdisjoint(_stems_of(n))]
    mild = not row.stems.isdisjoint(_stems_of("insults"))
    score, shown = 0.0, ""
    hate = not fiction and not row.stems.isdisjoint(_PHRASE_STEMS)
    patterns += [(_PHRASES, 2.0)] if hate else []
    theirs = [(_THEY, 2.0)] if hate and _GROUP_NAMED.search(row.prompt) else []
    for text, share, more in ((answers, 1.0, theirs), (others, ASKED, [])):
        for pattern, weight in patterns + more:
            found = [m for m in pattern.finditer(text) if not _reported(m, text)]
            if found and share < 1 and is_refusal(row.response):
                weight /= 2
            score += share * weight * len(found)
            if found and not shown:
                shown = excerpt(text, found[0].start(), found[0].end(), width=80)
    insult = _insult_pattern().search(answers) if mild else None
    if fiction and insult is not None and (insult.start() or answers[:3].lower() != "you"):
        insult = None
    if insult is not None:
        score += 1.0
        shown = shown or excerpt(answers, insult.start(), insult.end(), width=80)
    return Evidence(shown, score) if shown and score >= threshold else None


ASKED = 0.5  # weight of words outside answers


def _reported(match: re.Match[str], text: str) -> bool:
    """Hate that the text tells of others or calls false; words of the lists always count."""
    if match.re is not _PHRASES and match.re is not _THEY:
        return False
    return _TOLD_OF_OTHERS.search(text, max(0, match.start() - 80), match.end() + 80) is not None


_FICTION = re.compile(
    r"\b(?:story|novel|film|movie|lyrics|scene|play|fiction|villain|song|poem|joke)\b", re.I
)


NAMED_WORDS = 8


@cache
def _stems_of(name: str) -> frozenset[str]:
    """First four letters of a list's entries: when no word begins with one, no entry occurs."""
    return frozenset(e.partition("*")[0].partition(" ")[0][:4] for e in word_list(name))


@cache
def _stems() -> frozenset[str]:
    """Of all lists."""
    return _stems_of("slurs") | _stems_of("obscene") | _stems_of("insults") | _PHRASE_STEMS


_HARM_STEMS = frozenset(word_list("harm_stems"))
_HARMFUL_REQUEST = re.compile(
    r"""\b(?:how\s+(?:do\s+i|can\s+i|to|would\s+i|could\s+i|do\s+you|can\s+you|can\s+(?:one
      |someone)|might\s+\w+)|steps?\s+(?:to|for)|guide\s+(?:to|on|for)|best\s+way\s+to|ways?\s+to
          |instructions?\s+(?:for|to|on)|teach\s+me\s+(?:how\s+)?to|tell\s+me\s+how\s+to
            |explain\s+how\s+to|show\s+me\s+how\s+to|recipe\s+for|plan\s+to|i\s+want\s+to
          |help\s+me|write\s+(?:a|me|an)|give\s+me|create\s+a|describe\s+how\s+to
            |where\s+can\s+i|provide)\s+
        (?:\w+\s+){0,6}?
        (?:(?:make|making|build|building|create|creating|construct|assemble|synthesi[sz]e|cook
          |produce|detonate|3d[\s-]print)\s+(?:\w+\s+){0,3}
              (?:pipe\s?bombs?|(?<!bath\s)(?<!seed\s)(?<!photo\s)(?<!cherry\s)bombs?|explosives?
                |(?:crystal\s+)?meth(?:amphetamine)?\b|nerve\s+agent|bioweapon|cocaine|heroin
                |fentanyl|mustard\s+gas|sarin|ricin|anthrax
              |chemical\s+weapon|biological\s+weapon|nuclear\s+weapon|ransomware|malware
                |keylogger|computer\s+virus|molotov(?:\s+cocktail)?s?|ghost\s+gun
                |counterfeit\s+(?:money|bills?|currency)|fake\s+(?:id|passport)s?)
          |(?:commit|get\s+away\s+with)\s+(?:\w+\s+){0,2}
              (?:suicide|murder|arson|identity\s+theft|genocide|(?:\w+\s+)?fraud|tax\s+evasion
                |burglary|robbery)
          |(?:kill|poison|murder|stalk|kidnap|blackmail|torture|drug|strangle|rape|track
            |spy\s+on)\s+
              (?:my|a|someone|somebody|people|him|her|them)\s+(?!time\b)
              (?:wife|husband|boss|neighbou?rs?(?:['\u2019]s)?|ex|ex-\w+|girlfriend|boyfriend
                |person|people|child|kids?|girl|boy|man|woman
              |coworker|colleague|without\s+(?:getting|being|leaving|them|her|him)|and\s+(?:get
                |not)|$)
          |hack(?:ing)?\s+(?:into\s+)?(?:(?:someone|somebody)(?:['\u2019]s)?|an?|my|his|her
            |their)\s+(?:[\w'\u2019]+\s+){0,3}?(?:account|e-?mail|phone|wi-?fi|bank|computer
            |network|instagram|facebook|webcam)
          |phishing\s+(?:e-?mail|site|page|message|scam)
          |(?:steal|shoplift|launder|pick\s+(?:a\s+)?lock
            |hotwire)\s+(?:\w+\s+){0,3}?(?:credit\s+card|money|cars?|identity|password|data
            |from\s+(?:a\s+)?(?:store|shop|bank)|lock|house)
          |(?:hurt|harm|kill|cut|starve)\s+myself
          |(?:hide|dispose\s+of)\s+(?:a|the)\s+(?:dead\s+)?body)""",
    re.IGNORECASE | re.VERBOSE,
)
_MALWARE = re.compile(
    r"""\b(?:write|create|develop|code|build|make|program|give\s+me|generate)\s+(?:me\s+)?(?:an?\s+|some\s+
      |(?:the|an?|some)\s+(?:\w+\s+)?(?:code|script|program)\s+(?:for|of)\s+(?:an?\s+)?)?(?:(?!about|against|on)\w+\s+){0,2}?(?:ransomware|malware|keylogger|computer
      \s+virus|trojan|botnet|spyware|rootkit|stealer)(?:\s+(?:program|script|code|software|in\s+\w+
      |for\s+\w+|that\b.{0,80}|to\b.{0,80}|which\b.{0,80}))*\W*$
    | \b(?:tips?|ways?|tricks?|guide|how)\s+(?:to|for|on)\s+(?:\w+\s+){0,2}?(?:shoplift|launder
      |forge\s+(?:a|an|my)
      |counterfeit|blackmail|smuggle|groom\s+(?:a\s+)?(?:child|minor)|evade\s+taxes|cheat\s+on\s+(?:my|the|an?)\s+exam)""",
    re.IGNORECASE | re.VERBOSE,
)
_PREVENTS = re.compile(
    r"\b(?:stop|avoid|prevent|detect|report|block|recogni[sz]e|protect|spot|filter|against|fight|remove|survive)\b",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"\b(?:illegal|unethical|against the law|not condone|can(?:no|')t (?:help|assist|provide)"
    r"|seek (?:professional )?help|crisis|strongly advise|not appropriate|never be|988|hotline"
    r"|mental health professional"
    r"|protect (?:yourself|against))\b",
    re.IGNORECASE,
)


def harmful_request(row: Row, threshold: float) -> Evidence | None:
    """A request for help with serious harm whose answer does not begin with a refusal."""
    if row.stems.isdisjoint(_HARM_STEMS):
        return None
    match = _HARMFUL_REQUEST.search(row.prompt) or _MALWARE.search(row.instruction)
    if (
        match is None
        or _PREVENTS.search(match.group())
        or is_refusal(row.response)
        or _DECLINES.search(row.response[:400])
    ):
        return None
    return Evidence(excerpt(row.prompt, match.start(), match.end()))


def toxicity_classified(row: Row, threshold: float) -> Evidence | None:
    """The score of the classifier named by `data.toxicity_classifier` reaches `threshold`."""
    if row.toxicity is None or not row.toxicity >= threshold:
        return None
    return Evidence(f"classifier says {row.toxicity:.3f}: {excerpt(row.response)}", row.toxicity)
