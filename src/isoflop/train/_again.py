"""A run that is already trained, measured otherwise: the weights that it ended with are evaluated again."""

import datetime
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from isoflop.data import Corpus
from isoflop.errors import StoreError
from isoflop.runs import RunRecord, RunSpec
from isoflop.store import files
from isoflop.train.evaluate import evaluate
from isoflop.train.state import Machine, State


def evaluated(spec: RunSpec, corpus: Corpus, source: Path, *, folder: Path, attempt: int, machine: Machine, tick: Callable[[], None]) -> RunRecord | None:
    """Write the record of a run from the weights and the curve of one that is trained alike.

    Args:
        spec: The run.
        corpus: Its tokens.
        source: Folder of the other run.
        folder: Where record, curve and weights go.
        attempt: How often this run was begun.
        machine: What the weights are evaluated on.
        tick: Called after every forward pass.

    Returns:
        The record, but for the clock that of the run trained from its start. None where the other run is not sound or not trained alike.

    Raises:
        CorpusError: The text is too short to evaluate on.
        StoreError: Nothing could be written.
    """
    try:
        before = files.read_record(source)
        curve = files.read_curve(source, before.curve_sha256)
        weights = files.read(source / files.WEIGHTS)
    except StoreError:
        return None
    if before.status != "ok" or hashlib.sha256(weights).hexdigest() != before.weights_sha256 or not _alike(before.spec, spec):
        return None
    state = State.begin(spec, corpus, resume=None, machine=machine)
    if not _load(state, weights):
        return None
    score = evaluate(state.module, corpus, tokens=spec.eval_tokens, context=spec.shape.context, device=machine.device, tick=tick)
    if not math.isfinite(score.loss):
        return None
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    clock = before.clock.model_copy(update={"finished": finished, "attempt": attempt})  # the seconds are those of the training
    record = before.model_copy(update={"id": spec.id, "spec": spec, "loss": score.loss, "bits_per_byte": score.bits_per_byte, "clock": clock})
    files.make_folder(folder)
    files.link(source / files.WEIGHTS, folder / files.WEIGHTS)
    return files.write_record(folder, record, curve)


def _alike(one: RunSpec, other: RunSpec) -> bool:
    """Whether two runs end with the same weights."""
    measured = {"eval_tokens": other.eval_tokens, "budget": other.budget, "group": other.group, "label": other.label}
    return one.model_copy(update=measured) == other


@torch.no_grad()
def _load(state: State, weights: bytes) -> bool:
    """Put weights into a fresh module; False if they are not its own."""
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError:
        return False
    parameters = dict(state.module.named_parameters())
    if {name: p.shape for name, p in parameters.items()} != {name: t.shape for name, t in tensors.items()}:
        return False
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
    return True
