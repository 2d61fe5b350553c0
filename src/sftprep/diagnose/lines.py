"""A diagnosis as plain lines for the terminal."""

from sftprep.diagnose.records import Diagnosis
from sftprep.diagnose.table import title_of
from sftprep.progress import show

MARKS = {"found": "found", "ruled_out": "ruled out", "not_decidable": "not decidable"}


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """Symptoms that are present with their causes, then the rest in one line each."""
    lines = []
    seen = [s for s in diagnosis.symptoms if s.presence == "present"]
    lines.append(
        f"{len(seen)} of {len(diagnosis.symptoms)} symptoms present in {diagnosis.run}"
        if seen
        else f"no symptom found in {diagnosis.run}"
    )
    for symptom in seen:
        lines += ["", f"{title_of(symptom.id)}: {symptom.evidence}"]
        for finding in diagnosis.findings:
            if finding.symptom != symptom.id:
                continue
            sure = f", {finding.sure} confidence" if finding.status == "found" else ""
            lines.append(f"  {finding.cause} ({MARKS[finding.status]}{sure}): {finding.evidence}")
            if finding.change and finding.status != "ruled_out":
                lines.append(f"    -> {finding.change}")
    open_ = [s for s in diagnosis.symptoms if s.presence == "not_decidable"]
    if open_:
        lines += ["", "not decidable: " + "; ".join(f"{s.id} ({s.evidence})" for s in open_)]
    if diagnosis.patch:
        lines += ["", "proposed recipe changes:"]
        lines += [f"  {key}: {value}" for key, value in diagnosis.patch.items()]
    return [show(line) for line in lines]
