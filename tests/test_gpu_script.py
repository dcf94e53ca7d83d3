"""The GPU benchmark runs whole on a CPU in its tiny setting, and goes on where it was stopped: all that can be shown of it without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def called(folder: Path, *words: str) -> None:
    command = [sys.executable, str(SCRIPT), str(folder / "work"), "--out", str(folder / "out"), "--tiny", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_part_runs_and_the_study_goes_on_where_it_was_stopped(tmp_path):
    out = tmp_path / "out"
    called(tmp_path, "--parts", "study", "--minutes", "0.1")
    stopped = json.loads((out / "tiny_study.json").read_text(encoding="utf-8"))
    assert stopped["left"] > 0
    called(tmp_path)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("tiny_*.json")}
    assert set(found) == {"tiny_path", "tiny_mfu", "tiny_packing", "tiny_study"}
    assert all("no results" in value["note"] for value in found.values())
    assert found["tiny_study"]["left"] == 0
    assert found["tiny_path"]["largest_difference"]["float32"] == 0.0
    assert all(path.stat().st_size < 1e6 for path in out.iterdir())
