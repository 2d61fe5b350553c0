"""The quality gate: pass, fail or not decidable, rule by rule, with the remedy."""

from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.gate.judge import GATE_RULES, judge, judged

__all__ = ["GATE_RULES", "Evidence", "judge", "judged", "load_evidence"]
