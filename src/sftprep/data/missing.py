"""Checks on what a question points at and does not bring: a text, an image, a file, a web page."""

import re

from sftprep.data.conversation import Evidence, Row, asks_for_code
from sftprep.data.text import excerpt, words

_THING = (
    "articles?|passages?|texts?|paragraphs?|sentences?|essays?|e-?mails?|letters?|poems?|stor(?:y"
    "|ies)"
    "|documents?|lists?|tables?|data|dataset|statements?|phrases?|reviews?|tweets?|conversations?"
    "|dialogues?|excerpts?|numbers|words|headlines?|quotes?|reports?|recipes?|equations?|strings?"
    "|snippets?|code|abstracts?|posts?|speech|transcript|script|summary|description|news|blog"
)
_WORK = (
    r"summari[sz]e|translate|rewrite|rephrase|paraphrase|edit|proofread|correct|classify|analy[sz]e"
    "|shorten|simplify|punctuate|categori[sz]e|read|reword|critique|condense|evaluate|fix|improve"
    r"|review|explain|interpret|outline|convert|extract|identify|based\s+on|according\s+to"
    r"|refer\s+to|from|sort|arrange|order|find|calculate|compute|count|complete|solve|determine"
    "|highlight|underline|spot|choose|pick|expand|compare|describe"
    "|in|of|using|given|consider|answer"
)
_DANGLING = re.compile(
    rf"""\b(?:{_WORK})\s+(?:\w+\s+){{0,4}}?
        (?:the\s+following|this|these|the\s+(?:given|below|provided|above|attached)|the)\s+
        (?:\w+\s+){{0,2}}(?:{_THING})\b(?:[^.:?!"\n\u201c]{{0,40}}|,\s[^.?!"\n]{{0,60}}|\s+(?:and
          |to)\s+(?:then\s+)?(?:answer|identify|tell|find|determine|list
          |explain)[^.?!"\n]{{0,60}})[.:!?]?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
_POINTS = re.compile(
    rf"""\b(?:the\s+following|the\s+(?:given|provided|attached|above|below)\b|(?:this|these)\s+(?:\w+\s+)?(?:{_THING})
        |(?:{_THING})\s+(?:below|above|provided|given))\b|:\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
# "Classify the tweet as ...", "Based on the text, who ...": nothing says which.
_TEXT = (
    "article|passage|text|paragraph|sentences?|essay|e-?mail|poem|story|document|table|statement"
    "|phrase|review|tweet|conversation|dialogue|excerpt|headline|quote|report|abstract|question"
    "|transcript|code(?:\\s+snippet)?|list|context|comment"
)
_OPENS_BARE = re.compile(
    rf"""\W*(?:please\s+)?(?:
          (?:classify|summari[sz]e|translate|rewrite|rephrase|paraphrase|edit|proofread|correct|shorten
            |simplify|punctuate|categori[sz]e|read|answer|condense|reword|improve|expand|fix|label|review
            |revise)\s+(?:the|this|these|my|our)\s+(?:\w+\s+)?(?:{_TEXT})
            (?:\s*[.!]?\s*$|,|\s+(?:as|into|in|to|for|with|using|by|so|and|from|below|above|based
              |according|without|carefully)\b)
        | (?:translate|summari[sz]e|rewrite|rephrase|paraphrase|proofread|edit|correct|shorten
          |simplify
            |classify)\s+(?:this|it)(?:\s*[.!]?\s*$|\s+(?:into|to|in|for|as|using)\b)
        | (?:\w+\s+){{0,6}}?(?:the|these)\s+following\s+(?!day|week|month|year|morning|night
          |season|chapter|way
              |is\b|are\b|was\b|were\b|has\b|have\b|can\b|could\b|would\b|should\b|best|most|does\b|do\b|describes)
            \w+(?:\s+\w+){{0,6}}\s*[.?!]?\s*$
        | (?:rank|sort|order|arrange|compare|group|match|classify|categori[sz]e|translate
            |summari[sz]e|correct|rewrite|edit|proofread)\s+these\s+(?:\w+\s+)?\w+
            (?:\s+(?:by|from|in|into|as|to|according)\b[^:\n,]*)?\s*[.!?]?\s*$
        | (?:based\s+on|according\s+to|from|using|in)\s+(?:the|this)\s+(?:{_TEXT}|data|information)
            (?:\s+(?:above|below|provided|given))?,\s)[^:\n]*$""",
    re.IGNORECASE | re.VERBOSE,
)
_MADE_UP = re.compile(
    r"^\W*(?:please\s+)?(?:write|create|generate|compose|draft|give|list|name|design|invent|how"
    r"|why|what|who|describe"
    r"|make|find|suggest|come|construct|produce|form)\b",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"\b(?:following|given|provided|above|below|attached)\b", re.IGNORECASE)
_LISTS_AFTER = re.compile(
    r"\bthe following\b[^.\n]*(?:,[^.\n]*,|,\s*(?:and|or)\s|\d|\bor\b)", re.IGNORECASE
)


def reference_dangling(row: Row, threshold: float) -> Evidence | None:
    """The question asks to work on a text that is not there.

    Fires only when nothing follows the request: no input, no quote, no colon, no second line, one
    turn. `threshold`: longest such question, in words.
    """
    text = row.instruction.strip()
    if row.passage.strip() or len(row.questions) != 1 or "\n" in text:
        return None
    if len(words(text)) > threshold or re.search(r"[\"\u201c\u2018`]|:\s*\S", text):
        return None
    match = _DANGLING.search(text)
    if match is None or _POINTS.search(match.group()) is None:
        match = _OPENS_BARE.match(text)
        return None if match is None or row.answer_is_code else Evidence(excerpt(match.group()))
    made_up = _MADE_UP.match(text) and not _GIVEN.search(match.group())
    if _LISTS_AFTER.search(text) or made_up or row.answer_is_code:
        return None
    return Evidence(excerpt(text, match.start(), match.end()))


_MEDIUM = (
    "images?|pictures?|photos?|photographs?|screenshots?|figures?|diagrams?|charts?|graphs?|videos?"
    r"|clips?|footage|audio|recordings?|voice\s(?:memo|note)|podcast|pdf|spreadsheets?|slides?"
    "|scans?"
    r"|infographic|memes?|gif|illustrations?|x-?rays?|mri|map|floor\s?plan|painting|drawing"
)
_FILE = (
    rf"(?:{_MEDIUM}|files?|documents?|attachments?|csv|excel|resume|cv|contract|paper|report"
    r"|worksheet|zip)"
)
_MEDIA = re.compile(
    rf"""\b(?:in|from|of|at|on|describe|caption|transcribe|watch(?:ing)?|listen(?:ing)?\s+to
      |look(?:ing)?\s+at
          |see|analy[sz]e|interpret|identify|explain|summari[sz]e|label|examine|using
            |according\s+to)\s+
          (?:(?:the|this|that|these|those)\s+)(?:\w+\s+){{0,2}}?(?P<seen>{_MEDIUM})\b
          (?=\s*(?:[^\w\s]|$)|\s+(?:and|or|to|in|below|above|shown|attached|provided|using|as|into|so|then|at
            |you|carefully|briefly|represents?|shows?|means|say|look|have|has|is|was)\b)
          (?!\s+(?:['"\u2018\u201c]|of|that|which|who|on|for|with|from|where|titled|called|processing|generat\w+
            |class|card|tool|data|format|object|element|tag|url|path|link|theory))
        |\b(?:this|these|following|above|below|given|provided|shown)\s+(?:\w+\s+)?(?:{_MEDIUM})\b
          (?!\s+(?:of|that|url|path|tag|format|is\s+(?:a|an)\b))
        |\b(?:{_MEDIUM})\s+(?:below|above|shown|attached|provided|i\s+(?:sent|shared|uploaded
          |attached))
        |\bwhat\s+(?:is|do\s+you\s+see|can\s+you\s+see|does|color|animal|object
          |do)\b[^.?\n]{{0,30}}\b(?:in|on)\s+(?:the|this)\s+(?:{_MEDIUM})\b
        |\bwhat\s+(?:does|do|did)\s+(?:the|this|these)\s+(?:{_MEDIUM})\s+(?:show|say|tell|depict
          |mean|suggest|indicate|represent)""",
    re.IGNORECASE | re.VERBOSE,
)
_ATTACHED = re.compile(
    rf"""(?:\b(?:attached|enclosed|accompanying)|\b(?:the|this|these|my|an?
      |following)\s+uploaded)\s+(?:\w+\s+){{0,2}}?{_FILE}\b
        |\b{_FILE}\s+(?:that\s+)?(?:(?:is|are|was)\s+)?(?:i(?:\s+have|['\u2019]ve)?\s+
          |just\s+)?(?:attached|uploaded|enclosed)\b
        |\b(?:i\s+(?:have\s+|just\s+)?|i['\u2019]ve\s+(?:just\s+)?)(?:attached|uploaded|enclosed
          |sent\s+you|shared\s+with\s+you)\b
        |\b(?:see|refer\s+to|check|open|find|in|review|read)\s+(?:the\s+|my\s+|this\s+
          |attached\s+)*attachments?\b
        |\bas\s+(?:attached|shown\s+in\s+the\s+(?:{_MEDIUM}))\b""",
    re.IGNORECASE | re.VERBOSE,
)
_MEDIA_TAG = re.compile(
    r"!\[[^\]\n]{0,300}\]\([^)\n]{1,300}\)|<(?:image|img|audio|video)>"
    r"|\[(?:image|photo|picture|video|audio"
    r"|attachment|file|screenshot|chart|graph|diagram|figure)\b[^\]\n]{0,60}\]"
    r"|^[ \t]{0,20}\S{1,200}\.(?:jpe?g|png|gif|mp[34]|wav|pdf|docx?|xlsx?|pptx?)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_SURE_TAGS = ("<image>", "<audio>", "<video>")
_LOOKS_AT = re.compile(
    rf"""(?:^|[.!?]\s|\bplease\s)\s*(?:look\s+(?:closely\s+)?at|watch|listen\s+to|view|observe|study
          |examine|inspect)\s+(?:the|this|these)\s+(?:\w+\s+)?(?:{_MEDIUM})\b(?!\s+of\s+the\s+world)""",
    re.IGNORECASE | re.VERBOSE,
)
_SHOWS = re.compile(
    rf"""\bwhat\s+(?:this|the)\s+(?:{_MEDIUM})\s+(?:shows?|represents?|means|depicts?|says)\b
        |\bhere(?:['\u2019]s|\s+is|\s+are)\s+(?:an?|the|my|some|our)\s+(?:\w+\s+)?(?:image|picture|photo|photograph
          |screenshot|video|recording|pdf|spreadsheet|scan)s?\b(?!\s+(?:url|link|path))
        |\b(?:see|check|review|read|open|from|using|analy[sz]e|summari[sz]e|translate|in)\s+(?:the|my)\s+attached
          \s+\w+""",
    re.IGNORECASE | re.VERBOSE,
)
_TEXT_ART = re.compile(r"\b(?:ascii|emoji|unicode|mermaid|svg|text art|diagram)\b", re.IGNORECASE)
_ASKS_FOR_MEDIUM = re.compile(
    r"""\W*(?:please\s+)?(?:(?:can|could)\s+you\s+)?(?:
          (?:generate|create|make|produce|render|draw|paint|sketch|find|show|take|record)\s+(?:me\s+)?(?:an?|the)
            \s+(?:\w+\s+){0,2}?(?:image|picture|photo|photograph|painting|drawing|sketch|video|gif
            |illustration|audio\s+(?:clip|file|recording))\s+(?:of|showing|with|depicting|that\s+shows)\b
        | (?:draw|sketch|paint)\s+(?:me\s+)?(?:an?|the)\s+(?!conclusion|comparison|parallel
          |distinction
            |inference|lesson|line|analogy|contrast|connection|picture\s+in\s+words|triangle|table|tree)
            (?:\w+\s+){0,5}\w+\W*$)""",
    re.IGNORECASE | re.VERBOSE,
)
_CREATES = re.compile(
    r"\b(?:create|generate|draw|design|make|write|imagine|produce|sketch|paint|plot|build|suggest"
    r"|story|poem"
    r"|role.?play|pretend|character|how (?:do|can|to|would)|you are|you're|act as|compose|tell)\b",
    re.IGNORECASE,
)
# Every alternative of the three patterns above holds one of these.
_MEDIA_SIGNS = (
    "image", "picture", "photo", "screenshot", "figure", "diagram", "chart", "graph", "video",
    "clip", "footage", "audio", "recording", "voice", "podcast", "pdf", "spreadsheet", "slide",
    "scan", "meme", "gif", "illustration", "ray", "mri", "map", "floor", "painting", "drawing",
    "draw", "sketch", "paint", "attach", "enclosed", "accompanying", "upload", "sent",
    "shared", "![", "<img", "[file",
    ".jp", ".png", ".mp", ".wav", ".doc", ".xls", ".ppt",
)  # fmt: skip
_POINT_SIGNS = (
    "look", "watch", "listen", "view", "observe", "study", "examine", "inspect", "attached",
    "here is", "here's", "here\u2019s", "here are", "what this", "what the",
)  # fmt: skip
SHORT_QUESTION_WORDS = 25  # longer ones tell a story of their own ("on the map, 1 inch is ...")


def media_missing(row: Row, threshold: float) -> Evidence | None:
    """The question points at an image, a recording or an attached file that a text row cannot hold.

    So does a request to draw or take one. Questions about making one, and about code, are exempt,
    and a passage of more than `threshold` words, which may describe it; not so a word such as
    "attached".
    """
    if not any(sign in row.folded_prompt for sign in _MEDIA_SIGNS):
        return None
    for text in row.questions:
        match = _ASKS_FOR_MEDIUM.match(text)
        if match is None and any(sign in row.folded_prompt for sign in _POINT_SIGNS):
            match = _LOOKS_AT.search(text) or _SHOWS.search(text)
        if match is not None and not (row.about_code or row.passage or _TEXT_ART.search(text)):
            return Evidence(excerpt(text, match.start(), match.end()))
        match = _MEDIA_TAG.search(text)
        if match is not None and (not row.about_code or match.group() in _SURE_TAGS):
            return Evidence(excerpt(text, match.start(), match.end()))
        match = _ATTACHED.search(text)
        if match is not None and not (row.about_code or _CREATES.search(text[: match.start()])):
            return Evidence(excerpt(text, match.start(), match.end()))
        match = _MEDIA.search(text) if len(words(text)) <= SHORT_QUESTION_WORDS else None
        long = max(len(words(row.passage)), len(words(text[match.end() :])) if match else 0)
        if match is None or row.about_code or long > threshold or _CREATES.search(text):
            continue
        if not re.search(r":\s*\S", text[match.end() :]):
            return Evidence(excerpt(text, match.start(), match.end()))
    return None


_URL = re.compile(r"https?://[^\s)>\]\"']+|\bwww\.[^\s)>\]\"']+", re.IGNORECASE)
_OPENS = re.compile(
    r"""\b(?:open|visit|click|go\s+to|check\s+out|read|summari[sz]e|browse|look\s+at|access
      |fetch|follow|watch
          |according\s+to|based\s+on|from|on|at|in|of|analy[sz]e|review|extract|translate|find
            |provide|given|use|edit|rewrite)\b
        [^.\n]{0,80}?(?:https?://|www\.|\b(?:this|the\s+following|the\s+given|that
          |the\s+(?:provided|attached|above))\s+(?:\w+\s+)?(?:link|url|website|web\s?page
          |web\s?site|video\s+link)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_SEARCHES = re.compile(
    r"""\b(?:search|browse|look(?:\s+\w+)?\s+up\s+(?:on|in)|check|scan|scour|google)\s+(?:(?:on
      |in|through|for\s+\w+\s+on)\s+)?
          (?:the\s+)?(?:web|internet|google|online|news\s+sites?|twitter|wikipedia)\b
        |^\W*google\s+\w+|\b(?:search|look)\s+(?:\w+\s+){0,4}online\b|\bsearch\s+online\b
        |\b(?:find|locate|get|look\s+for|fetch|collect)\s+(?:me\s+)?(?:\w+\s+){1,6}?(?:online
          |on\s+(?:the\s+)?(?:web|internet|youtube|reddit|google|amazon|twitter|wikipedia|ebay|news))\b
        |\b(?:what(?:'s|\u2019s|\s+is|\s+are)|give\s+me|tell\s+me|find|show\s+me|get|check
          |provide|fetch|look\s+up|report|list)\s+(?:\w+\s+){0,2}?(?:the\s+)?
          (?:current|latest|live|real-?time|up-to-date|today['\u2019]s|newest|most\s+recent)\s+
          (?:\w+\s+){0,2}?(?:weather|news|headlines?|price|prices|stock|score|scores
            |exchange\s+rate|temperature|traffic|time|forecast|flight|rate|standings|results?|trends?
            |population\s+of|president|prime\s+minister|version\s+of)\b
        |\b(?:what|how|look\s+up|get|give\s+me|tell\s+me|check|find|show\s+me)\b[^.?\n]{0,40}\b(?:weather
          |news|stock\s+price|share\s+price|price\s+of\s+\w+|exchange\s+rate|traffic|temperature
          |trending|hashtags?|headlines?|opening\s+hours|score)\b[^.?\n]{0,30}\b(?:right\s+now|today|now
          |tonight|tomorrow|currently|at\s+the\s+moment|this\s+(?:morning|evening|week))\b
        |\bwho\s+(?:won|is\s+winning|scored|lost|played)\b[^.?\n]{0,50}\b(?:last\s+night|yesterday|today
          |this\s+(?:week|weekend|morning)|right\s+now)\b
        |\bwhat\s+(?:happened|was\s+announced|is\s+happening|is\s+trending)\b[^.?\n]{0,30}\b(?:last\s+night
          |yesterday|today|this\s+(?:week|morning)|right\s+now|on\s+twitter)\b
        |\bis\s+it\s+(?:raining|snowing|sunny|cloudy|windy|warm|cold|hot)\b[^.?\n]{0,30}\b(?:right\s+now|now
          |today|tonight|tomorrow)\b
        |\bhow\s+(?:much|many)\s+(?:is|are|does|do|cost)\b[^.?\n]{0,40}\b(?:right\s+now|today|currently)\b
        |\bwhat(?:['\u2019]s|\s+is)?\s+(?:time\s+is\s+it(?:\s+(?:now|right\s+now|there|in\s+\w+|currently|here)){0,2}(?=\s*(?:[?.!]|$))|the\s+time\s+(?:now|right\s+now|in\s+[A-Z])|day\s+is\s+(?:it
          |today)|today['\u2019]s\s+date|the\s+date\s+today)\b
        |\b(?:restaurants?|shops?|stores?|cafes?|hotels?|hospitals?|events?)\s+(?:near|close\s+to)\s+me\b""",
    re.IGNORECASE | re.VERBOSE,
)
_VISITS = re.compile(
    r"""(?:^|[.!?]\s|\bplease\s|\bthen\s|\band\s)\s*(?:go\s+to|visit|open|browse|check(?:\s+out)?|access|see
          |read|scroll\s+through|click(?:\s+on)?|follow)\s+
        (?:[\w-]{1,63}(?:\.[\w-]{1,63}){0,3}\.(?:com|org|net|io|gov|edu|co|info|de|uk)\b
          |(?:the|this|that|their|our|my)\s+(?:\w+['\u2019]?s?\s+){0,2}?(?:website|web\s?page|web\s?site|site
            |link|url)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
# Every alternative of the three patterns above holds one of these.
_WEB_SIGNS = (
    "http", "www.", "link", "url", "web", "internet", "google", "online", "news", "twitter",
    "wikipedia", "current", "latest", "newest", "recent", ".com", ".org", ".net", ".io", ".gov",
    ".edu", ".co", ".info", ".de", ".uk", "youtube", "reddit", "amazon", "ebay", "trending",
    "hashtag", "headline", "opening hours", "score", "yesterday", "last night", "this week",
    "this morning", "right now", "time is it", "day is it", "the time", "near me", "close to me",
    "site", "live", "real", "up-to-date", "today", "weather", "stock",
    "price", "exchange", "traffic", "temperature",
)  # fmt: skip
_FICTION = re.compile(
    r"\b(?:story|poem|role.?play|pretend|character|dialogue|you are|imagine|script)\b", re.I
)


# The question is about the link itself, or about links in a text that is there.
_ABOUT_LINK = re.compile(
    r"\b(?:domain|protocol|host\s?name|query string|parameters?|scheme|subdomain|top-level"
    r"|(?:extract|find|list|identify|shorten|parse|encode|decode|validate|remove)"
    r"\s(?:all\s|the\s|any\s|every\s)*(?:urls?|links?|domains?)\b"
    r"|parts of|format of|valid url|well-formed|malformed)",
    re.IGNORECASE,
)
_HOW_TO = re.compile(
    r"\b(?:how (?:do|can|does|to|would|should)|why|what happens when|ways|way to|tips"
    r"|best practices)\b",
    re.I,
)


_QUOTES = "'\"\u201c\u2018"
_HAS_TOOLS = re.compile(
    r"\b(?:tools?|toolformer|plugins?|api|portal to the internet|\w+\(url\))\b", re.I
)


def web_needed(row: Row, threshold: float) -> Evidence | None:
    """The question cannot be answered without opening a page or searching the web.

    Exempt: code, fiction, questions about the link itself, and questions with more than
    `threshold` words of other text.
    """
    if not any(sign in row.folded_prompt for sign in _WEB_SIGNS):
        return None
    for text in row.questions:
        if (
            row.answer_is_code
            or asks_for_code(_URL.sub("", text))
            or _FICTION.search(text)
            or row.example.tools
            or _HAS_TOOLS.search(text)
        ):
            continue
        if _ABOUT_LINK.search(row.instruction):
            continue
        match = _OPENS.search(text) or _VISITS.search(text)
        if match is None and row.passage and _URL.fullmatch(row.passage.strip()):
            match = _URL.search(text)
        rest = len(words(_URL.sub("", text)))
        if match is not None and rest <= threshold:
            return Evidence(excerpt(text, match.start(), match.end()))
        asks = len(words(text)) <= SHORT_QUESTION_WORDS and not _HOW_TO.search(text)
        match = _SEARCHES.search(text) if asks else None
        if match is not None and text[max(0, match.start() - 1)] not in _QUOTES:
            return Evidence(excerpt(text, match.start(), match.end()))
    return None
