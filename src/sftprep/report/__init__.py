"""What a person reads and what is saved beside the checkpoint: HTML report, card, metadata."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftprep.report.card import model_card
    from sftprep.report.comparison_page import write_comparison_report
    from sftprep.report.logs import archive_logs
    from sftprep.report.metadata import baseline_metrics, training_metadata
    from sftprep.report.page import render_report
    from sftprep.report.runs_index import write_index
    from sftprep.report.summary import print_summary, summary_lines

# Name -> module that defines it. Looked up on first use: pages need matplotlib, schemas do not.
_PUBLIC = {
    "archive_logs": "sftprep.report.logs",
    "baseline_metrics": "sftprep.report.metadata",
    "model_card": "sftprep.report.card",
    "print_summary": "sftprep.report.summary",
    "render_report": "sftprep.report.page",
    "summary_lines": "sftprep.report.summary",
    "training_metadata": "sftprep.report.metadata",
    "write_comparison_report": "sftprep.report.comparison_page",
    "write_index": "sftprep.report.runs_index",
}

__all__ = [
    "archive_logs",
    "baseline_metrics",
    "model_card",
    "print_summary",
    "render_report",
    "summary_lines",
    "training_metadata",
    "write_comparison_report",
    "write_index",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sftprep.report' has no attribute '{name}'")
