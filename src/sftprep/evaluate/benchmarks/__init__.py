"""Capability benchmarks: own protocol modules on one engine."""

from sftprep.evaluate.benchmarks.results import flat_percentages
from sftprep.evaluate.benchmarks.run import benchmark
from sftprep.evaluate.benchmarks.table import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "Benchmark", "benchmark", "flat_percentages"]
