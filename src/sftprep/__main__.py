"""`python -m sftprep`: the same as the `sftprep` command."""

from sftprep.cli import main

main()
