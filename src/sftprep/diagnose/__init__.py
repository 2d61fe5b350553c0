"""What went wrong, why, and what to change in the recipe."""

from sftprep.diagnose.lines import diagnosis_lines
from sftprep.diagnose.patch import apply_patch
from sftprep.diagnose.records import Diagnosis, Finding, Symptom
from sftprep.diagnose.table import CASES, diagnose, diagnosed

__all__ = [
    "CASES",
    "Diagnosis",
    "Finding",
    "Symptom",
    "apply_patch",
    "diagnose",
    "diagnosed",
    "diagnosis_lines",
]
