"""Print docs/tutorial.md with what its commands print now: python docs/_tutorial.py hoffmann.csv > new.md."""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parent / "tutorial.md"
SHOWN = re.compile(r"^    isoflop (?P<words>[^\n]*)\n\n```text\n(?P<output>.*?)^```$", re.DOTALL | re.MULTILINE)


def main(points: Path) -> None:
    """Run every command of the page in a folder of its own, in order, and put its output in the block below it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(points, folder / "hoffmann.csv")
        print(SHOWN.sub(lambda found: _shown(found["words"], folder), PAGE.read_text(encoding="utf-8")), end="")


def _shown(words: str, folder: Path) -> str:
    code = "from isoflop.cli import main; main()"
    out = subprocess.run([sys.executable, "-c", code, *shlex.split(words)], cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = "\n".join(line.rstrip() for line in out.strip().splitlines())
    return f"    isoflop {words}\n\n```text\n{lines}\n```"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
