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
LEAST = 30.0  # seconds that compiling takes at least, on the machines measured: benchmarks/step_speed.md


def decide(wish: Compile, spec: RunSpec, corpus: Corpus, *, machine: Machine, kept: Path) -> Machine:
    """The machine, with its word on compiling.

    Args:
        wish: "auto" measures where the run is long enough that it could pay.
        spec: Of the run.
        corpus: Its text.
        machine: That it is to run on.
        kept: JSON file of what was measured; made if it is not there.
    """
    compiled = wish == "always" or (wish == "auto" and machine.world.size == 1 and _pays(spec, corpus, machine, kept))
    return dataclasses.replace(machine, compiled=compiled)


def _pays(spec: RunSpec, corpus: Corpus, machine: Machine, kept: Path) -> bool:
    key = f"{spec.shape.model_dump_json()} {spec.batch} {spec.precision} {_machine.device(machine.device, threads=spec.threads)} torch {torch.__version__}"
    known = _read(kept)
    if key not in known:
        usual = seconds_per_step(spec, corpus, machine=machine)
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
