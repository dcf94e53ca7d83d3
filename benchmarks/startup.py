"""How long a question that needs no run takes: CPU time of the planner's commands, against importing NumPy.

Run: `python benchmarks/startup.py`

Each command is a fresh process; the commands take turns, so that a busy machine slows all alike, and the figure is the least of the rounds, in
user and system time of the process. "After start" is that less an empty interpreter.
"""

import resource
import subprocess
import sys

ROUNDS = 15
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import numpy'": ["-c", "import numpy"],
    "isoflop --help": ["-m", "isoflop.cli", "--help"],
    "isoflop plan 5.76e23 --json": ["-m", "isoflop.cli", "plan", "5.76e23", "--json"],
    "isoflop compare gopher --json": ["-m", "isoflop.cli", "compare", "gopher", "--json"],
    "isoflop laws --json": ["-m", "isoflop.cli", "laws", "--json"],
    "isoflop plan 5.76e23 --gpus 1024 --gpu h100 --shape --smaller": [
        *("-m", "isoflop.cli", "plan", "5.76e23", "--gpus", "1024", "--gpu", "h100", "--shape", "--smaller")
    ],
}


def seconds(words: list[str]) -> float:
    """CPU seconds of a process and of all that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    least = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(ROUNDS):
        for name, words in COMMANDS.items():
            least[name] = min(least[name], seconds(words))
    empty, numpy = least["python -c pass"], least["python -c 'import numpy'"]
    print("| command | CPU seconds | after start | times `import numpy` |\n|---|--:|--:|--:|")
    for name, value in least.items():
        print(f"| `{name}` | {value:.3f} | {value - empty:.3f} | {value / numpy:.2f} |")


if __name__ == "__main__":
    main()
