"""What kinds of task the data holds, and how varied it is. Rough counts, not a judgement."""

import re
from collections import Counter
from dataclasses import dataclass, field

from sftprep.data.conversation import Row
from sftprep.data.text import is_code

_MATHS = re.compile(
    r"\b(?:how (?:many|much)|calculate|compute|solve|equation|sum of|product of|average"
    r"|percent(?:age)?|probability|area of|perimeter|volume of|divided by|multiplied"
    r"|square root|derivative|integral|convert \d)\b|\d\s*[-+*/\u00d7\u00f7]\s*\d",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A kind of task and how a question of this kind is recognised; the first match counts."""

    id: str
    pattern: re.Pattern[str]


def _kind(name: str, pattern: str) -> TaskKind:
    return TaskKind(name, re.compile(pattern, re.IGNORECASE))


TASK_KINDS: tuple[TaskKind, ...] = (
    _kind(
        "translation",
        r"\btranslat\w*"
        r"|\b(?:in|into|to) (?:french|german|spanish|italian|chinese|japanese|english)\b",
    ),
    _kind("summary", r"\bsummar(?:y|i[sz]e\w*)\b|\btl;?dr\b|\bcondense\b|\bmain points?\b"),
    _kind(
        "rewriting",
        r"\b(?:rewrite|rephrase|paraphrase|edit|proofread|correct|reword|simplify|shorten|improve"
        r"|punctuate|reorder|change|replace)\b",
    ),
    _kind(
        "classification",
        r"\b(?:classify|categori[sz]e|sentiment|label|true or false|is (?:it|this) (?:an?|the)\b"
        r"|which of|identify (?:the|whether|if)|determine (?:if|whether))",
    ),
    _kind(
        "extraction",
        r"\b(?:extract|find (?:all|the)|list (?:all )?the .{0,40}(?:in|from) the|pull out"
        r"|identify)\b",
    ),
    _kind(
        "reasoning",
        r"\b(?:why|explain|compare|contrast|difference between|reason|analy[sz]e|evaluate"
        r"|pros and cons|advantages|infer|deduce|predict)\b",
    ),
    _kind(
        "writing",
        r"\b(?:write|compose|draft|story|poem|essay|letter|e-?mail|haiku|song|slogan|headline"
        r"|tweet|speech|dialogue|script|imagine|creative|describe)\b",
    ),
    _kind(
        "ideas",
        r"\b(?:suggest|brainstorm|ideas?|recommend|generate|come up with|design|plan|list|create"
        r"|(?:give (?:me )?|name )(?:some|\d+|two|three|five))\b",
    ),
    _kind(
        "knowledge",
        r"^\W*(?:what|who|whom|when|where|which|how|is|are|was|were|do|does|did|can|define"
        r"|tell me)\b",
    ),
)


@dataclass(frozen=True, slots=True)
class Domain:
    """What a benchmark measures, and how training rows of that domain are recognised."""

    id: str
    benchmark: str
    kinds: tuple[str, ...]
    pattern: re.Pattern[str] | None = None


def _domain(name: str, benchmark: str, kinds: tuple[str, ...], pattern: str = "") -> Domain:
    return Domain(name, benchmark, kinds, re.compile(pattern, re.IGNORECASE) if pattern else None)


DOMAINS: tuple[Domain, ...] = (
    _domain("general knowledge", "mmlu", ("knowledge", "classification")),
    _domain("code", "humaneval", ("code",)),
    _domain("maths", "gsm8k", ("maths",)),
    _domain(
        "truthfulness", "truthfulqa", (),
        r"\b(?:is it true|true or false|myths?|misconceptions?|fact.?check|really|superstition"
        r"|conspiracy|what happens if you|do (?:all|most) (?:people|humans))\b",
    ),
    _domain(
        "common sense", "hellaswag", (),
        r"\b(?:what happens next|go(?:es)? on|continue the|complete the"
        r"|finish the (?:story|sentence)"
        r"|most likely|next step|ending|how (?:do|would|should) (?:i|you)|steps (?:to|for))\b",
    ),
    _domain(
        "verifiable constraints", "ifeval", (),
        r"\b(?:at (?:least|most)|exactly|no more than|fewer than|in (?:\d+|one|two|three|ten)"
        r" (?:words?|sentences?|lines?|paragraphs?|bullet)|all (?:lower|upper) ?case"
        r"|do not (?:use|include)|without using|json|bullet points?|start with"
        r"|end (?:your|the) (?:answer|response)|capital letters"
        r"|(?:two|three|four|five|\d+) (?:examples|sentences|words|items|ways|reasons))\b",
    ),
)  # fmt: skip
THIN_SHARE = 0.01  # of the rows: below it a domain is called thin (100 of 10,000)
EXPECTED = (
    "knowledge", "code", "maths", "reasoning", "writing", "summary", "extraction", "rewriting",
    "classification", "translation", "ideas", "multi_turn", "refusal", "other",
)  # fmt: skip


def task_kind(row: Row) -> str:
    """One kind per row: multi-turn, code and maths first, then the first pattern that matches."""
    if len(row.questions) > 1:
        return "multi_turn"
    text = row.instruction[:600]
    if is_code(row.response) or (row.about_code and _PROGRAMS.search(text)):
        return "code"
    if _DIGIT.search(row.response) and _MATHS.search(text):
        return "maths"
    for kind in TASK_KINDS:
        if kind.pattern.search(text):
            return kind.id
    return "other"


_DIGIT = re.compile(r"\d")
_PROGRAMS = re.compile(
    r"\b(?:code|function|program|script|query|algorithm|class|method|regex|html|css|sql|python"
    r"|java(?:script)?|bash|debug|implement)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one row counts as. `domains`: bit k is set when the row belongs to DOMAINS[k]."""

    kind: str
    domains: int
    opening: str


def facts_of(row: Row) -> Facts:
    """Kind of task, domains and first word of one row."""
    kind = task_kind(row)
    text = row.instruction[:600]
    domains = 0
    for place, domain in enumerate(DOMAINS):
        told = domain.pattern is not None and domain.pattern.search(text)
        if kind in domain.kinds or told:
            domains |= 1 << place
    return Facts(kind, domains, " ".join(row.prompt_words[:1]))


@dataclass
class Variety:
    """Counts over kept rows: kinds, sets of domains, first words, categories."""

    kinds: Counter[str] = field(default_factory=Counter)
    domain_sets: Counter[int] = field(default_factory=Counter)
    openings: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Facts, category: str | None, *, refused: bool) -> None:
        """Count one row."""
        self.kinds["refusal" if refused else facts.kind] += 1
        self.domain_sets[facts.domains] += 1
        self.openings[facts.opening] += 1
        self.categories[category or "none"] += 1

    def coverage(self) -> list[dict[str, str | int | float]]:
        """Rows per domain of the six benchmarks; a row may count for several."""
        total = sum(self.kinds.values())
        found: list[dict[str, str | int | float]] = []
        for place, domain in enumerate(DOMAINS):
            rows = sum(n for domains, n in self.domain_sets.items() if domains >> place & 1)
            share = rows / total if total else 0.0
            status = "missing" if not rows else "thin" if share < THIN_SHARE else "present"
            found.append(
                {"domain": domain.id, "benchmark": domain.benchmark, "rows": rows,
                 "share": round(share, 4), "status": status}
            )  # fmt: skip
        return found

    def sections(self) -> dict[str, object]:
        """JSON-ready: kinds with zeros shown, categories, openings, domains."""
        return {
            "task_kinds": {name: self.kinds.get(name, 0) for name in EXPECTED},
            "missing_kinds": [n for n in EXPECTED if n != "other" and not self.kinds.get(n)],
            "categories": dict(sorted(self.categories.items(), key=_by_count)[:50]),
            "openings": dict(sorted(self.openings.items(), key=_by_count)[:20]),
            "coverage": self.coverage(),
        }


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
