"""Whether torch.compile pays for a run: measured once for a shape on a machine, and kept for the other runs of a sweep."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import torch

from isoflop.data import Corpus
from isoflop.errors import StoreError
from isoflop.runs import Compile, RunSpec
from isoflop.store import files
from isoflop.train import _machine
from isoflop.train.loop import seconds_per_step
from isoflop.train.state import Machine

MOST = 0.5  # of a step that compiling may save: assumption, from +33 % of speed at best on a CPU and about twice on small models of a GPU
_usual: dict[str, float] = {}  # seconds a step, of what this process has measured
LEAST = 30.0  # seconds that compiling takes at least, on the machines measured: benchmarks/step_speed.md


def decide(wish: Compile, spec: RunSpec, corpus: Corpus, *, machine: Machine, kept: Path) -> Machine:
    """The machine, with its word on compiling.

    Args:
        wish: "auto" measures on a GPU where the run is long enough that it could pay. On a CPU it is no: the nodes written by hand are faster than what
            torch.compile makes of plain ones at every shape tried (benchmarks/step_speed.md), and measuring that takes a minute a shape.
        spec: Of the run.
        corpus: Its text.
        machine: That it is to run on.
        kept: JSON file of what was measured; made if it is not there.
    """
    could = machine.device != "cpu" and machine.world.size == 1
    compiled = wish == "always" or (wish == "auto" and could and pays(spec, corpus, machine, kept))
    return dataclasses.replace(machine, compiled=compiled)


def pays(spec: RunSpec, corpus: Corpus, machine: Machine, kept: Path) -> bool:
    """Whether a compiled run saves more than compiling takes."""
    key = f"{spec.shape.model_dump_json()} {spec.batch} {spec.precision} {_machine.device(machine.device, threads=spec.threads)} torch {torch.__version__}"
    known = _read(kept)
    if key not in known:
        usual = _usual[key] if key in _usual else _usual.setdefault(key, seconds_per_step(spec, corpus, machine=machine))
        if usual * spec.steps * MOST < LEAST:
            return False  # whatever the measurement would say
        began = time.perf_counter()
        compiled = seconds_per_step(spec, corpus, machine=dataclasses.replace(machine, compiled=True))
        known[key] = {"usual": usual, "compiled": compiled, "compiling": time.perf_counter() - began}
        with contextlib.suppress(StoreError):  # it is only measured again
            files.write(kept, json.dumps(_read(kept) | known, indent=1).encode())
    seconds = known[key]
    return (seconds["usual"] - seconds["compiled"]) * spec.steps > seconds["compiling"]


def _read(kept: Path) -> dict[str, dict[str, float]]:
    """What was measured; nothing if that cannot be read, for it can be measured again."""
    try:
        found = json.loads(kept.read_bytes())
        return {str(key): {name: float(seconds[name]) for name in ("usual", "compiled", "compiling")} for key, seconds in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
