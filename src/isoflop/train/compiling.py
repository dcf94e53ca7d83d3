"""Whether torch.compile pays for a run: measured once for a shape on a machine, and kept for the other runs of a sweep."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from isoflop.data import Corpus
from isoflop.errors import StoreError
from isoflop.runs import Compile, RunSpec
from isoflop.store import files
from isoflop.train import _machine
from isoflop.train.loop import seconds_per_step
from isoflop.train.state import Machine

MOST = 0.5  # of a step that compiling may save: assumption, from about twice the speed on small models of a GPU
LEAST = 25.0  # seconds that compiling takes at least: 25 and 31 of CPU time at two shapes on a CPU (benchmarks/step_speed.md); assumption for a GPU
_usual: dict[str, float] = {}  # seconds a step, of what this process has measured


class Measured(NamedTuple):
    """A shape on a machine."""

    usual: float  # seconds a step
    compiled: float | None  # seconds a step; None where it could not be compiled
    compiling: float  # seconds, once a process
    failed: str = ""  # why it could not be compiled


def decide(wish: Compile, spec: RunSpec, corpus: Corpus, *, machine: Machine, kept: Path) -> Machine:
    """The machine, with its word on compiling.

    Args:
        wish: "auto" measures on a GPU where the run is long enough that it could pay; what cannot be compiled there does not pay. On a CPU it is no: what
            torch.compile makes of plain operations is as quick as the nodes written by hand, to 6 %, at the two shapes measured, kernels are quicker, and
            compiling takes half a minute (benchmarks/step_speed.md).
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
        known[key] = _measured(usual, spec, corpus, machine)
        with contextlib.suppress(StoreError):  # it is only measured again
            files.write(kept, json.dumps({key: value._asdict() for key, value in (_read(kept) | known).items()}, indent=1).encode())
    found = known[key]
    return found.compiled is not None and (found.usual - found.compiled) * spec.steps > found.compiling


def _measured(usual: float, spec: RunSpec, corpus: Corpus, machine: Machine) -> Measured:
    began, compiled, failed = time.perf_counter(), None, ""
    try:
        compiled = seconds_per_step(spec, corpus, machine=dataclasses.replace(machine, compiled=True))
    except Exception as error:  # noqa: BLE001  # no C compiler, an operation that it does not know, too little memory: the run does without
        failed = f"{type(error).__name__}: {error}"
    return Measured(usual, compiled, time.perf_counter() - began, failed)


def _read(kept: Path) -> dict[str, Measured]:
    """What was measured; nothing if that cannot be read, for it can be measured again."""
    try:
        return {str(key): _as_measured(value) for key, value in json.loads(kept.read_bytes()).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _as_measured(value: dict[str, Any]) -> Measured:
    compiled = value["compiled"]
    return Measured(float(value["usual"]), None if compiled is None else float(compiled), float(value["compiling"]), str(value.get("failed", "")))
