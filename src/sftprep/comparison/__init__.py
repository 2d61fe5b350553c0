"""Regression check against the recorded baseline: paired statistics, three-valued verdict."""

from sftprep.comparison.lines import comparison_lines
from sftprep.comparison.verdict import Change, Comparison, compare

__all__ = ["Change", "Comparison", "compare", "comparison_lines"]
