"""The closing summary on the terminal: verdict, figures, places, next command."""

from collections.abc import Sequence

from sftprep.comparison.lines import value_text
from sftprep.comparison.sources import METRICS_FILE, metric_key
from sftprep.errors import SftprepError
from sftprep.gate.benchmark_rules import headline_metric
from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.progress import show
from sftprep.records import GateResult, Metric
from sftprep.report.gathered import read_gate
from sftprep.store.run import RunFolder

VERDICT_WORDS = {"pass": "PASS", "fail": "FAIL", "undecidable": "NOT DECIDABLE"}
VERDICT_STYLES = {"pass": "bold green", "fail": "bold red", "undecidable": "bold yellow"}
STATUS_MARKS = {"pass": "ok", "fail": "FAIL", "missing": "missing"}


def summary_lines(run: RunFolder) -> list[str]:
    """Plain lines, verdict first; only what has been recorded is shown."""
    evidence = load_evidence(run, verify_checkpoint=False)
    gate = read_gate(run)
    word = VERDICT_WORDS[gate.verdict] if gate else "gate not run yet"
    lines = [f"Quality gate: {word}"]
    if gate:
        lines += [line for verdict in gate.rules if verdict.status != "pass" for line in (
            f"  {STATUS_MARKS[verdict.status]:7} {verdict.rule}: {verdict.measured} "
            f"(required {verdict.required})",
            f"          {verdict.why} -> {verdict.remedy}",
        )]  # fmt: skip
        passed = sum(verdict.status == "pass" for verdict in gate.rules)
        lines.append(f"  {passed} of {len(gate.rules)} rules pass")
    figures = _table(figure_rows(evidence))
    lines += ["", *figures] if figures else []
    lines += ["", *_places(run), *_next(run, gate)]
    return [show(line) for line in lines]


def figure_rows(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(name, base, SFT) of perplexity, instruction following and every benchmark."""
    rows = []
    validation = evidence.validation
    if validation is not None:
        base = validation.base
        rows.append(("held-out perplexity", value_text(base.perplexity, "") if base else "-",
                     value_text(validation.sft.perplexity, "")))  # fmt: skip
        following = base.instruction_following if base else None
        rows.append(("instruction following", _text(following),
                     _text(validation.sft.instruction_following)))  # fmt: skip
    for name, result in evidence.benchmarks.items():
        before = evidence.base_benchmarks.get(name)
        metric = headline_metric(result)
        key = metric_key(name, result.headline, result.headline)
        if metric is not None and not metric.complete:
            key += f" (subset {metric.n} of {metric.n_total})"
        rows.append((key, _text(headline_metric(before) if before else None), _text(metric)))
    return rows


def _text(metric: Metric | None) -> str:
    return "-" if metric is None else value_text(metric.value, metric.unit)


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    table = [("", "base", "SFT"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return [
        f"  {name:{widths[0]}}  {base:>{widths[1]}}  {sft:>{widths[2]}}".rstrip()
        for name, base, sft in table
    ]


def _places(run: RunFolder) -> list[str]:
    places = (
        ("report", run.report),
        ("checkpoint", run.baseline),
        ("metrics", run.baseline / METRICS_FILE),
    )
    return [f"  {name:10} {path}" for name, path in places if path.exists()]


def _next(run: RunFolder, gate: GateResult | None) -> list[str]:
    if gate is None:
        return [f"next: sftprep run {run.root}"]
    if gate.verdict == "pass":
        return [f"next: after preference optimisation, sftprep compare {run.baseline} CANDIDATE"]
    return [f"next: sftprep diagnose {run.root}"]


def print_summary(run: RunFolder) -> None:
    """Print the summary to stdout; colour only on a terminal, plain lines when piped."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    try:
        gate = read_gate(run)
    except SftprepError:
        gate = None
    for number, line in enumerate(summary_lines(run)):
        style = VERDICT_STYLES[gate.verdict] if gate and number == 0 else ""
        console.print(Text(line, style=style))
