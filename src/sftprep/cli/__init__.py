"""The command line: thin commands over the pipeline."""

from sftprep.cli.main import main

__all__ = ["main"]
