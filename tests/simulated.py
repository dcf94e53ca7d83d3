"""A study whose truth is known: runs drawn from a law, at real shapes with their real FLOPs, without training anything."""

import functools
from pathlib import Path

import numpy as np

from isoflop import arch, fit, plan, validate
from isoflop.arch import Kind
from isoflop.data import Corpus
from isoflop.plan import Plan
from isoflop.report.results import Results
from isoflop.runs import Clock, Curve, RunRecord, Runs, RunSpec
from isoflop.study import Study

E, A, ALPHA, B, BETA = 0.9, 27.8, 0.4, 204.0, 0.4  # optimum near 91k params and 14M tokens at 1e13 FLOPs, loss near 1.468
NOISE = 0.004  # nats per token between seeds
BATCH = 1024
BUDGETS = (1.5e11, 3e11, 6e11, 1.2e12, 2.4e12)
WIDTHS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96)
TARGET = 1e13


def truth(params: float, tokens: float) -> float:
    return E + A / params**ALPHA + B / tokens**BETA


def study(**changes: object) -> Study:
    return Study.model_validate({"name": "simulated", "budgets": BUDGETS, "sizes": 7, "target": TARGET} | changes)


def record(width: int, budget: float, *, seed: int = 0, group: str = "isoflop", label: str = "", status: str = "ok", reason: str = "") -> RunRecord:
    """What a run would have left behind; its loss is the truth's, with noise that is a function of the spec."""
    shape = arch.get("llama").at(width, vocab=256, context=128)
    tokens = max(1, round(budget / shape.flops_per_token.training / BATCH)) * BATCH
    spec = RunSpec(
        shape=shape, tokens=tokens, batch=BATCH, lr=1e-3, seed=seed, data="0123456789abcdef", eval_tokens=131_072, budget=budget, group=group, label=label
    )
    noise = np.random.default_rng(int(spec.id, 16)).normal(scale=NOISE)
    loss = truth(shape.params.total, tokens) + noise if status == "ok" else None
    return RunRecord(
        id=spec.id,
        spec=spec,
        status=status,
        reason=reason,
        loss=loss,
        bits_per_byte=None if loss is None else loss / np.log(2),
        params=shape.params,
        tokens=tokens,
        flops=spec.flops,
        epochs=tokens / 30e6,
        clock=Clock(
            seconds=budget / 4e10,
            finished="2026-01-02T03:04:05Z",
            attempt=1,
            device="cpu, 1 thread",
            versions={"isoflop": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        ),
    )


def curve(record: RunRecord) -> Curve:
    """Training losses that fall through a transient to the run's final loss."""
    seen = np.arange(1, record.spec.steps + 1) * float(BATCH)
    done = seen / record.tokens
    loss = truth(record.params.total, seen) + 0.12 * (1 - done) + np.random.default_rng(record.spec.steps).normal(scale=0.05, size=seen.size)
    return Curve(seen, np.minimum(loss, np.log(256) + 0.05))


def sweep() -> tuple[RunRecord, ...]:
    """Five budgets of seven sizes that move right with the budget, and two more seeds at one point."""
    grid = [record(width, budget) for i, budget in enumerate(BUDGETS) for width in WIDTHS[i : i + 7]]
    return (*grid, record(28, BUDGETS[2], seed=1, group="noise"), record(28, BUDGETS[2], seed=2, group="noise"))


def corpus(**changes: object) -> Corpus:
    fields = {
        "folder": Path("data"),
        "digest": "0123456789abcdef",
        "sources": ("python",),
        "tokenizer": "bytes",
        "validation": 0.05,
        "seed": 0,
        "vocab": 256,
        "documents": 1_652,
        "val_documents": 83,
        "bytes": 30_000_000,
        "train_tokens": 28_500_000,
        "val_tokens": 1_500_000,
        "dropped": {"near-empty": 12, "duplicate": 3},
        "sha256": {},
    }
    return Corpus.model_validate(fields | changes)


@functools.cache
def results(*, proof: bool = True) -> Results:
    """Everything that a page is drawn from, by the real fits and the real judge."""
    records = sweep()
    runs = Runs.from_records(records, curve=lambda run: curve(next(r for r in records if r.id == run)))
    fits = fit.fit_all(runs, resamples=60)
    plans = plan.plan_all(fits.fits, TARGET, kind=Kind(family="llama", vocab=256, context=128), forecast=fits.forecast)
    raced = contenders(plans) if proof else ()
    return Results(
        study=study(),
        corpus=corpus(),
        records=(*records, *raced),
        runs=runs,
        fits=fits.fits,
        left_out_fits=fits.left_out,
        holdout=fits.holdout,
        forecast=fits.forecast,
        plans=plans,
        validation=validate.judge(plans, fits.fits, raced, losses=runs.loss) if proof else None,
        command="isoflop run simulated.toml",
    )


def contenders(plans: tuple[Plan, ...]) -> tuple[RunRecord, ...]:
    best = validate.chosen(plans).shape
    larger = arch.nearest("llama", 4 * best.params.total, vocab=256, context=128)
    return (record(best.d_model, TARGET, group="proof", label="chinchilla"), record(larger.d_model, TARGET, group="proof", label="gopher"))
