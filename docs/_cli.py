"""Print docs/cli.md: every verb's --help, as a person sees it at 100 columns."""

import os
import subprocess
import sys

import typer

from isoflop.cli import app

ENVIRONMENT = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}


def main() -> None:
    """Every command, in pipeline order."""
    verbs: list[list[str]] = [[]]
    group = typer.main.get_command(app)
    for name in group.list_commands(None):  # type: ignore[attr-defined]
        verbs += [[name], *([name, sub] for sub in getattr(group.commands[name], "commands", {}))]  # type: ignore[attr-defined]
    print("# The command line\n\nWritten by `make docs` from `--help`; do not edit.\n")
    for verb in verbs:
        code = "from isoflop.cli import main; main()"
        shown = subprocess.run([sys.executable, "-c", code, *verb, "--help"], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
        lines = "\n".join(line.rstrip() for line in shown.strip().splitlines()).replace("Usage: -c", "Usage: isoflop")
        print(f"## isoflop {' '.join(verb)}".rstrip() + f"\n\n```\n{lines}\n```\n")


if __name__ == "__main__":
    main()
