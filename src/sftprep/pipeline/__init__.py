"""The order of the stages, what each depends on, and one call that runs them."""

from sftprep.pipeline.runner import RunResult, run, run_stage

__all__ = ["RunResult", "run", "run_stage"]
