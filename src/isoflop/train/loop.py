"""The training loop: one RunSpec -> one RunRecord, read top to bottom."""

import datetime
import importlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from isoflop import _registry, data
from isoflop.data import Corpus
from isoflop.errors import CorpusError, TrainError
from isoflop.runs import Clock, Curve, RunRecord, RunSpec
from isoflop.store import files
from isoflop.train import _machine, checkpoint
from isoflop.train.checkpoint import Checkpoint
from isoflop.train.evaluate import Score, evaluate
from isoflop.train.optim import FlatAdamW
from isoflop.train.schedule import factor

CHECKPOINT_SECONDS = 2.0  # training time between checkpoints, at least; the result does not depend on it
CHECKPOINT_SHARE = 0.02  # of the time, at most, that goes into writing them
LOOK_SECONDS = 0.25  # training time between reports
LOOK = 20  # steps between checks of the loss, and the window it is averaged over


class Progress(NamedTuple):
    """Where a run is."""

    step: int  # steps done
    steps: int
    tokens: int
    loss: float  # nats per token, mean over the last steps
    seconds: float  # training time so far, over all attempts


class Interrupted(Exception):  # noqa: N818  # it is no error: the run goes on from its checkpoint
    """The run was asked to stop, and has written a checkpoint."""


class Diverged(Exception):  # noqa: N818  # it is a result, and becomes a record
    """The loss is not finite, or above where it began."""


def train(
    spec: RunSpec,
    corpus: Corpus,
    *,
    folder: Path,
    attempt: int = 1,
    earlier: tuple[Path, ...] = (),
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunRecord:
    """Train a run to its end, from the newest good checkpoint if there is one, and write its record.

    Args:
        spec: What to train.
        corpus: Tokens, with the digest that the spec names.
        folder: Where record.json, curve.parquet and checkpoints go.
        attempt: How often this run was begun, this time included.
        earlier: Folders of earlier attempts; their checkpoints are read, never written.
        on_progress: Called a few times a second, or once a step where steps are longer.
        should_stop: Asked as often.

    Raises:
        Interrupted: should_stop said so; a checkpoint was written.
        CorpusError: The corpus is not the one that the spec names, or too short to evaluate on.
        StoreError: Nothing could be written.
    """
    if corpus.digest != spec.data:
        raise CorpusError(f"the text has changed: run {spec.id} wants {spec.data}, but {corpus.folder} holds {corpus.digest}. Design the study again.")
    tell, stop = on_progress or (lambda _: None), should_stop or (lambda: False)
    with _machine.settled(spec.threads):
        state = _State.begin(spec, corpus, resume=checkpoint.newest((folder / "checkpoint", *(f / "checkpoint" for f in earlier))))
        try:
            state.run(folder / "checkpoint", tell, stop)
            record = _record(spec, corpus, state, attempt, score=_score(state, corpus, tell), reason="")
        except Diverged as reason:
            record = _record(spec, corpus, state, attempt, score=None, reason=str(reason))
    return files.write_record(folder, record, state.curve())


def seconds_per_step(spec: RunSpec, corpus: Corpus, *, steps: int = 8) -> float:
    """Seconds that one training step takes on this machine now: the median of a few real ones."""
    times = []
    with _machine.settled(spec.threads):
        state = _State.begin(spec, corpus, resume=None)
        for step in range(min(steps + 2, spec.steps)):  # the first two warm up
            began = time.perf_counter()
            state.train_step(step)
            times.append(time.perf_counter() - began)
    return float(np.median(times[2:] or times))


class _State:
    """A running training loop."""

    def __init__(self, spec: RunSpec, corpus: Corpus, module: nn.Module, optimizer: FlatAdamW) -> None:
        self.spec, self.module, self.optimizer = spec, module, optimizer
        self.batches = data.Batches(corpus, seed=spec.seed, batch=spec.batch, context=spec.shape.context)
        self.losses = torch.full((spec.steps,), math.nan)
        self.step = 0
        self.seconds = 0.0

    @classmethod
    def begin(cls, spec: RunSpec, corpus: Corpus, *, resume: Checkpoint | None) -> "_State":
        module = _registry.load("isoflop.arch", spec.shape.arch, noun="architecture")
        module = importlib.import_module(f"{module.__name__}.module").build(spec.shape, seed=spec.seed)
        parameters = list(module.parameters())
        counted = sum(p.numel() for p in parameters)
        if counted != spec.shape.params.total:
            raise TrainError(f"{spec.shape.arch} at width {spec.shape.d_model} has {counted} parameters, but its shape counts {spec.shape.params.total}.")
        state = cls(spec, corpus, module, FlatAdamW(parameters, spec.optimizer))
        if resume is not None:
            state.losses[: resume.step] = resume.tensors.pop("losses")
            state.optimizer.load(resume.tensors)
            state.step, state.seconds = resume.step, resume.seconds
        return state

    def train_step(self, step: int) -> None:
        inputs_BT, targets_BT = self.batches[step]
        loss = self.module(inputs_BT, targets_BT)
        loss.backward()
        self.losses[step] = loss.detach()
        self.optimizer.step(self.spec.lr * factor(self.spec.schedule, step, self.spec.steps))

    def run(self, folder: Path, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
        saved = told = began = time.perf_counter()
        spent, cost = self.seconds, 0.0
        while self.step < self.spec.steps:
            self.train_step(self.step)
            self.step += 1
            if self.step % LOOK == 0 or self.step == self.spec.steps:  # at fixed steps: where a run diverges must not depend on the clock
                self._check()
            now = time.perf_counter()
            self.seconds = spent + now - began
            if now - told > LOOK_SECONDS or self.step == self.spec.steps:
                on_progress(self.progress())
                told = now
                if should_stop():
                    self._save(folder)
                    raise Interrupted
            if now - saved > max(CHECKPOINT_SECONDS, cost / CHECKPOINT_SHARE):
                self._save(folder)
                saved = time.perf_counter()
                cost = saved - now

    def progress(self) -> Progress:
        return Progress(self.step, self.spec.steps, self.step * self.spec.batch, self._recent(), self.seconds)

    def curve(self) -> Curve:
        tokens = self.spec.batch * np.arange(1, self.step + 1, dtype=float)
        return Curve(tokens, self.losses[: self.step].numpy().astype(float))

    def _recent(self) -> float:
        return float(self.losses[max(0, self.step - LOOK) : self.step].mean())

    def _check(self) -> None:
        recent = self._recent()
        if not math.isfinite(recent):
            raise Diverged(f"the loss is {recent} by step {self.step} of {self.spec.steps}; a lower learning rate than {self.spec.lr:.3g} may help")
        warm = self.step > self.spec.schedule.warmup * self.spec.steps + LOOK
        if warm and recent > float(self.losses[0]):
            raise Diverged(f"the loss is {recent:.3f} at step {self.step} of {self.spec.steps}, above the {float(self.losses[0]):.3f} it began with")

    def _save(self, folder: Path) -> None:
        checkpoint.save(folder, Checkpoint(self.step, self.seconds, {**self.optimizer.state(), "losses": self.losses[: self.step].clone()}))


def _score(state: _State, corpus: Corpus, tell: Callable[[Progress], None]) -> Score:
    spec = state.spec
    score = evaluate(state.module, corpus, tokens=spec.eval_tokens, context=spec.shape.context, tick=lambda: tell(state.progress()))
    if not math.isfinite(score.loss):
        raise Diverged(f"the validation loss is {score.loss}")
    return score


def _record(spec: RunSpec, corpus: Corpus, state: _State, attempt: int, *, score: Score | None, reason: str) -> RunRecord:
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
            device=_machine.device(),
            versions=_machine.versions(),
            commit=_machine.commit(),
        ),
    )
