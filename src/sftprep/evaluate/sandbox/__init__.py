"""The sandbox for model-written code: what may run, where, and with which verdict.

Layers: Landlock (no files), seccomp (no process, no socket), rlimits, user nobody; wrapped in
bubblewrap namespaces where those work. The model's code never shares a process with the tests:
the solver answers calls with plain values, the checker runs the tests.
"""

from sftprep.evaluate.sandbox.run import Problem, SandboxOutcome, probe, run_many, run_problem
from sftprep.evaluate.sandbox.tier import UNSAFE, SandboxTier

__all__ = [
    "UNSAFE",
    "Problem",
    "SandboxOutcome",
    "SandboxTier",
    "probe",
    "run_many",
    "run_problem",
]
