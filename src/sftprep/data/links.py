"""Links in answers that look made up. Nothing is opened: the shape of a link is all there is."""

import re
from collections.abc import Iterator

from sftprep.data.conversation import Evidence, Row
from sftprep.data.text import excerpt
from sftprep.data.wordlists import word_list

_LINK = re.compile(
    r"(?:https?://|\bwww\.)(?P<host>[\w-]{1,63}(?:\.[\w-]{1,63}){0,9})"
    r"(?P<path>(?:[:/?#][^\s<>\"'\])}]*)?)",
    re.IGNORECASE,
)
_KNOWN = frozenset(word_list("known_hosts"))
_PUBLIC = re.compile(
    r"\.(?:gov|edu|mil|int)(?:\.[a-z]{2})?$|\.ac\.[a-z]{2}$|\.gov\.[a-z]{2}$|\.gouv\.fr$"
)
_SUFFIXES = frozenset(word_list("link_endings"))
_SAMPLE = re.compile(
    r"^(?:www\.)?(?:example|test|sample|domain|your\w*|my(?:site|website|domain|company|blog)\w*"
    r"|website|abc|xyz|foo|placeholder|fake\w*|random\w*|some\w*)\.",
    re.IGNORECASE,
)
_PLACEHOLDER_HOST = re.compile(
    r"example|placeholder|fake|made-?up|fictional|notreal|imaginary|nonexist|lorem|yourdomain"
    r"|yoursite|yourwebsite|insert|\d{4,}",
    re.I,
)
_PLACEHOLDER_PATH = re.compile(
    r"/path/to/|/@?(?:your|my|user|some)-?_?(?:name|user|username|profile|channel|page|handle|company|id)\b"
    r"|(?:article|product|page|post|video|link|your|insert)[-_](?:title|name|id|link|url"
    r"|here|slug)\b"
    r"|\b(?:abc|xyz)\d{2,}|abcdefg|1234567|12345(?!\d)|x{4,}|(?<![a-z])lorem|placeholder|fake"
    r"|made-?up|/example\b",
    re.IGNORECASE,
)


def url_made_up(row: Row, threshold: float) -> Evidence | None:
    """A link of an answer is made up, as far as its shape tells, or of a host nobody can vouch for.

    Score: 1 for a shape that cannot be real (unknown ending, sample host, placeholder path, wrong
    form of an id); for a host that is neither in the question nor well known 0.5, and 0.75 when its
    name is long. Code is exempt: there a link is sample text.
    """
    if not ("http" in row.folded_answers or "www." in row.folded_answers) or row.about_code:
        return None
    given = (
        row.prompt.lower()
        + "\n".join(m.content for m in row.example.messages if not m.train).lower()
    )
    worst: tuple[float, str] = (0.0, "")
    for answer in row.answers:
        for match in _LINK.finditer(answer):
            if match["host"].lower() in given or _CALLED.search(
                answer[max(0, match.start() - 40) : match.start()]
            ):
                continue
            for score, why in _doubts(match["host"].lower(), match["path"].rstrip(".,;:!*")):
                if score > worst[0]:
                    worst = (
                        score,
                        f"{why}: {excerpt(answer, match.start(), match.end(), width=100)}",
                    )
    if not worst[1] or worst[0] < threshold or _ABOUT_LINKS.search(row.instruction):
        return None
    return Evidence(worst[1], worst[0])


# Questions about what links are: samples are the right answer.
_ABOUT_LINKS = re.compile(
    r"\bvalid urls?\b|\b(?:what|explain|define|how|parts?|structure|describe|example|format"
    r"|difference)\b[^.\n]{0,60}"
    r"\b(?:urls?|uris?|domain names?|hyperlinks?|https?|dns|web addresses|subdomains?)\b",
    re.IGNORECASE,
)


_CALLED = re.compile(r"\w\([\"'][^\"'\n]{0,20}$")  # the argument of a tool call


_SAMPLE_DOI = re.compile(
    r"/10\.(?:1234|12345|0000|9999|5555)/|/10\.\d+/(?:abc|xyz|example|12345)", re.I
)
LONG_HOST = 16  # letters: real names are shorter, invented ones spell their subject out


def _doubts(host: str, path: str) -> Iterator[tuple[float, str]]:
    bare = host.removeprefix("www.")
    ending = bare.rpartition(".")[2]
    if "." not in bare or ending not in _SUFFIXES:
        yield 1.0, "no such ending"
    if _SAMPLE.search(host) or _PLACEHOLDER_HOST.search(bare):
        yield 1.0, "sample host"
    if _PLACEHOLDER_PATH.search(path):
        yield 1.0, "placeholder in the link"
    if bare in ("youtube.com", "youtu.be", "m.youtube.com"):
        video = re.search(r"(?:v=|youtu\.be/|/embed/)([\w-]*)", bare + path)
        if video and len(video.group(1)) != 11:
            yield 1.0, "no YouTube id"
    if bare == "arxiv.org":
        paper = re.search(r"/(?:abs|pdf)/(\d\d)(\d\d)\.\d{4,5}(?!\d)", path)
        if re.search(r"/(?:abs|pdf)/\d", path) and not (paper and 1 <= int(paper[2]) <= 12):
            yield 1.0, "no arXiv number"
    if bare in ("doi.org", "dx.doi.org") and not re.match(r"/10\.\d{4,9}/\S+", path):
        yield 1.0, "no DOI"
    if bare in ("doi.org", "dx.doi.org") and _SAMPLE_DOI.match(path):
        yield 1.0, "sample DOI"
    if not _known(bare):
        name = bare.rpartition(".")[0]
        invented = len(name) >= LONG_HOST or name.count("-") >= 2 or re.search(r"\d\d", name)
        yield (0.75, "unknown host, long as a title") if invented else (0.5, "unknown host")


def _known(host: str) -> bool:
    if _PUBLIC.search(host):
        return True
    parts = host.split(".")
    return any(".".join(parts[k:]) in _KNOWN for k in range(len(parts) - 1))
