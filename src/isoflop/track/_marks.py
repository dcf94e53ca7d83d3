"""What a tracker has of each run, kept beside what it wrote, so that nothing is logged twice."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is logged of a run."""

    cells: frozenset[int] = field(default_factory=frozenset)  # parts of the run that have their point
    status: str = ""  # of the record that was logged; empty while there is none

    def with_cell(self, part: int) -> "Mark":
        """The same, with one point more."""
        return replace(self, cells=self.cells | {part})


class Marks:
    """Marks as small files, one for each run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, run: str, *, where: str) -> Mark:
        """The mark of a run in one store of the tracker; none if its file is damaged, for then it is better logged again."""
        try:
            fields = json.loads(self._path(run).read_bytes())
            if fields["where"] != where:
                return Mark()
            return Mark(cells=frozenset(fields["cells"]), status=fields["status"])
        except (OSError, ValueError, KeyError, TypeError):
            return Mark()

    def save(self, run: str, mark: Mark, *, where: str) -> None:
        """Keep a mark; not flushed to the disk, since a power cut that takes it costs points that are there twice, no more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{run}.part"
        aside.write_text(json.dumps({"where": where, "status": mark.status, "cells": sorted(mark.cells)}))
        aside.replace(self._path(run))

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.json"
