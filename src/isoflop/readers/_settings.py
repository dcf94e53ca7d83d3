"""Settings that PyTorch Lightning keeps beside the table of a run: the plain values of `hparams.yaml`."""

import re
from collections.abc import Sequence
from pathlib import Path

NAME = "hparams.yaml"
LARGEST = 1 << 20  # bytes; assumption: settings of a run take less

_LINE = re.compile(r"([A-Za-z_]\w*):\s+(?![\[{&*!|>])(.+?)\s*(?:\s#.*)?")  # one name and one plain value; what is nested is indented


def beside(files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the settings of each file's run: none where files share a folder, or where nothing is kept."""
    folders = [file.parent for file in files]
    return [_read(folder / NAME) if folders.count(folder) == 1 else {} for folder in folders]


def _read(file: Path) -> dict[str, str]:
    if not file.is_file() or file.stat().st_size > LARGEST:
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8", errors="backslashreplace").splitlines():
        match = _LINE.fullmatch(line)
        if match:
            found[match[1]] = match[2].strip("'\"")
    return {name: "" if value in {"null", "~"} else value for name, value in found.items()}
