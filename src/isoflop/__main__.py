"""`python -m isoflop`: the command line, for an environment that is not active."""

from isoflop.cli import main

main()
