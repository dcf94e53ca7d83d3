"""The training loop: one RunSpec -> one RunRecord, read top to bottom."""

import datetime
import math
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch

from isoflop import data
from isoflop.data import Corpus
from isoflop.errors import CorpusError
from isoflop.runs import Clock, Curve, RunRecord, RunSpec
from isoflop.store import files
from isoflop.train import _again, _machine, checkpoint
from isoflop.train.checkpoint import FORMAT, Checkpoint, Writer
from isoflop.train.divergence import LOOK
from isoflop.train.evaluate import Score, evaluate
from isoflop.train.state import USUAL, Machine, State, Unloadable

CHECKPOINT_SECONDS = 2.0  # training time between checkpoints, at least; the result does not depend on it
CHECKPOINT_SHARE = 0.02  # of the time, at most, that goes into writing them
LOOK_SECONDS = 0.25  # training time between reports


class Progress(NamedTuple):
    """Where a run is."""

    step: int  # steps done
    steps: int
    tokens: int
    loss: float  # nats per token, mean over the last steps
    seconds: float  # training time so far, over all attempts


class Trunk(NamedTuple):
    """Where runs that begin alike keep what they have in common."""

    folder: Path
    marks: frozenset[int]  # steps after which some run goes its own way


class _Places(NamedTuple):
    """Where checkpoints of a run may be."""

    own: tuple[Path, ...]
    trunk: Trunk | None


class Interrupted(Exception):  # noqa: N818  # it is no error: the run goes on from its checkpoint
    """The run was asked to stop, and has written a checkpoint."""


class Diverged(Exception):  # noqa: N818  # it is a result, and becomes a record
    """The loss is not finite, above where it began, or has risen for good."""


def train(
    spec: RunSpec,
    corpus: Corpus,
    *,
    folder: Path,
    attempt: int = 1,
    earlier: tuple[Path, ...] = (),
    trunk: Trunk | None = None,
    same_weights: Path | None = None,
    machine: Machine = USUAL,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunRecord:
    """Train a run to its end, from the furthest good checkpoint if there is one, and write its record.

    Args:
        spec: What to train.
        corpus: Tokens, with the digest that the spec names.
        folder: Where record.json, curve.parquet, weights.safetensors and checkpoints go. Checkpoints of another run there make way for this one's.
        attempt: How often this run was begun, this time included.
        earlier: Folders of earlier attempts; their checkpoints are read, and removed once this attempt has as many of its own.
        trunk: What it shares with other runs; read from and added to. The result does not depend on it.
        same_weights: Folder of a finished run that is trained exactly as this one, but measured or named otherwise. Its weights are evaluated, where they are
            sound; else this run is trained.
        machine: What it is trained on.
        on_progress: Called a few times a second, or once a step where steps are longer.
        on_note: Called with a sentence on each checkpoint that is passed over.
        should_stop: Asked as often.

    Raises:
        Interrupted: should_stop said so; a checkpoint was written.
        CorpusError: The corpus is not the one that the spec names, or too short to evaluate on.
        StoreError: Nothing could be written.
        MemoryShortError: Memory ran out even for one sequence at a time.
    """
    if corpus.digest != spec.data:
        raise CorpusError(f"the text has changed: run {spec.id} wants {spec.data}, but {corpus.folder} holds {corpus.digest}. Design the study again.")
    tell, stop = on_progress or (lambda _: None), should_stop or (lambda: False)
    with _machine.settled(spec.threads, deterministic=machine.deterministic):
        if same_weights is not None and machine.world.size == 1:
            found = _again.evaluated(spec, corpus, same_weights, folder=folder, attempt=attempt, machine=machine, tick=lambda: tell(_whole(spec)))
            if found is not None:
                return found
        before = tuple(f / "checkpoint" for f in earlier)
        state = _begin(spec, corpus, _Places((folder / "checkpoint", *before), trunk), machine, on_note or (lambda _: None))
        try:
            writer = Writer(folder / "checkpoint", run=spec.id, every=CHECKPOINT_SECONDS, share=CHECKPOINT_SHARE, earlier=before)
            _run(state, writer, trunk, tell, stop)
            record = _record(state, corpus, attempt, score=_score(state, corpus, tell), reason="")
        except Diverged as reason:
            record = _record(state, corpus, attempt, score=None, reason=str(reason))
    return _write(state, folder, record)


def seconds_per_step(spec: RunSpec, corpus: Corpus, *, steps: int = 8, machine: Machine = USUAL) -> float:
    """Seconds that one training step takes on this machine now: the median of a few real ones."""
    times = []
    with _machine.settled(spec.threads, deterministic=machine.deterministic):
        state = State.begin(spec, corpus, resume=None, machine=machine)
        for _ in range(min(steps + 2, spec.steps)):  # the first two warm up
            began = _machine.now(machine.device)
            state.advance()
            times.append(_machine.now(machine.device) - began)
    return float(np.median(times[2:] or times))


def _begin(spec: RunSpec, corpus: Corpus, places: _Places, machine: Machine, on_note: Callable[[str], None]) -> State:
    """Return the run where its furthest checkpoint left it that this version can load, or at its start."""
    unloadable: set[Path] = set()
    noted: set[str] = set()

    def note(sentence: str) -> None:
        if sentence not in noted:
            noted.add(sentence)
            on_note(sentence)

    while True:
        resume = _furthest(spec, places, unloadable, note)
        machine.world.check_start(resume.step if resume else 0)
        try:
            return State.begin(spec, corpus, resume=resume, machine=machine)
        except Unloadable as reason:
            assert resume is not None
            assert resume.path is not None
            unloadable.add(resume.path)
            on_note(f"the checkpoint {resume.path} has format {FORMAT}, but its tensors are not those of this version of isoflop ({reason}); it is passed over")


def _furthest(spec: RunSpec, places: _Places, but_for: Collection[Path], on_note: Callable[[str], None]) -> Checkpoint | None:
    """Return the checkpoint to resume from: the run's own, or what it has in common with others."""
    own = checkpoint.newest(places.own, run=spec.id, but_for=but_for, on_note=on_note)
    trunk = places.trunk
    if trunk is None or (own is not None and own.step >= spec.parting):
        return own
    steps = (step for step in reversed(checkpoint.steps(trunk.folder)) if step <= spec.parting)
    found = (checkpoint.at(trunk.folder, step, on_note=on_note) for step in steps)
    common = next((c for c in found if c is not None and c.path not in but_for), None)
    return max((c for c in (own, common) if c is not None), key=lambda c: c.step, default=None)


def _run(state: State, writer: Writer, trunk: Trunk | None, tell: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
    told = began = time.perf_counter()
    spent, steps, world = state.seconds, state.spec.steps, state.machine.world

    def wishes() -> tuple[bool, bool]:
        nonlocal told
        now = time.perf_counter()
        state.seconds = spent + now - began
        report = now - told > LOOK_SECONDS or state.step == steps
        if report:
            tell(_progress(state))
            told = now
        return report and should_stop(), writer.due()

    _look_back(state)
    with writer:
        while state.step < steps:
            state.advance()
            if state.step % LOOK == 0 or state.step == steps:  # at fixed steps: where a run diverges must not depend on the clock
                _check(state)
            if trunk is not None and state.step in trunk.marks and state.step <= state.spec.parting:
                common = state.checkpoint()
                if world.first:
                    checkpoint.save(trunk.folder, common, keep=None)
            stop, due = world.agreed(state.step, wishes)
            if stop or due:
                _keep(state, writer, stop=stop)


def _look_back(state: State) -> None:
    """Look where the run would have been looked at: what it was resumed from may be another's, which judges by its own length."""
    done = state.step
    for state.step in range(LOOK, done + 1, LOOK):
        _check(state)
    state.step = done


def _keep(state: State, writer: Writer, *, stop: bool) -> None:
    now = state.checkpoint()  # every process of a world gives its piece
    if state.machine.world.first:
        if stop:
            writer.save(now)
        else:
            writer.offer(now)
    if stop:
        raise Interrupted


def _check(state: State) -> None:
    trouble = state.trouble()
    if trouble:
        raise Diverged(f"{trouble}; a lower learning rate than {state.spec.lr:.3g} may help")


def _progress(state: State) -> Progress:
    return Progress(state.step, state.spec.steps, state.step * state.spec.batch, state.recent, state.seconds)


def _whole(spec: RunSpec) -> Progress:
    return Progress(spec.steps, spec.steps, spec.tokens, math.nan, 0.0)


def _curve(state: State) -> Curve:
    tokens = state.spec.batch * np.arange(1, state.step + 1, dtype=float)
    return Curve(tokens, state.losses[: state.step].cpu().numpy().astype(float))


def _score(state: State, corpus: Corpus, tell: Callable[[Progress], None]) -> Score:
    spec, device = state.spec, state.machine.device
    score = evaluate(state.module, corpus, tokens=spec.eval_tokens, context=spec.shape.context, device=device, tick=lambda: tell(_progress(state)))
    if not math.isfinite(score.loss):
        raise Diverged(f"the validation loss is {score.loss}")
    return score


def _record(state: State, corpus: Corpus, attempt: int, *, score: Score | None, reason: str) -> RunRecord:
    spec, machine = state.spec, state.machine
    tokens = state.step * spec.batch
    return RunRecord(
        id=spec.id,
        spec=spec,
        status="ok" if score else "diverged",
        reason=reason,
        loss=score.loss if score else None,
        bits_per_byte=score.bits_per_byte if score else None,
        params=spec.shape.params,
        tokens=tokens,
        flops=tokens * spec.shape.flops_per_token.training,
        epochs=data.epochs(corpus, tokens=tokens, context=spec.shape.context),
        clock=Clock(
            seconds=round(state.seconds, 3),
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            attempt=attempt,
            device=state.made["device"],
            versions={name: made for name, made in state.made.items() if name not in {"commit", "device"}},
            commit=state.made["commit"],
            micro=state.micro,
            world=machine.world.size,
            compiled=machine.compiled,
            deterministic=state.deterministic,
        ),
    )


def _write(state: State, folder: Path, record: RunRecord) -> RunRecord:
    weights = state.weights()  # every process of a world gives its piece
    if not state.machine.world.first:
        return record
    if record.status == "ok":
        record = record.model_copy(update={"weights_sha256": files.write_weights(folder, safetensors.torch.save(weights))})
    return files.write_record(folder, record, _curve(state))
