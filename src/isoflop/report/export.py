"""Results for other programs: rows of runs as CSV or Parquet, fits, plans and the proof as values for JSON."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np

from isoflop import _cells
from isoflop.errors import IsoflopError, NoLawError, QuestionError, not_importable
from isoflop.fit import Blend, Fit, Fits, Prediction, Profile, Trial
from isoflop.fit.account import Account, groups
from isoflop.fit.answers import Answer, by_fit
from isoflop.fit.limits import Limits
from isoflop.plan import Plan
from isoflop.report import outlook
from isoflop.report.fits import both as exponents
from isoflop.report.fits import in_sample
from isoflop.report.results import LEVEL
from isoflop.report.values import values
from isoflop.runs import Dropped, RunRecord, RunSpec
from isoflop.validate import Validation

Scalar = str | int | float | None


def row(spec: RunSpec, record: RunRecord | None = None, *, status: str = "pending") -> dict[str, Scalar]:
    """One run, finished or not, as one flat row; FLOPs, nats per token, seconds.

    Args:
        spec: Of the run.
        record: What came of it, if it is finished.
        status: What to say of a run without a record.
    """
    params = record.params if record else spec.shape.params
    return {
        "id": spec.id,
        "status": record.status if record else status,
        "reason": record.reason if record else "",
        "group": spec.group,
        "label": spec.label,
        "budget": spec.budget,
        **_shape(spec),
        "params": params.total,
        "params_nonembedding": params.count("nonembedding"),
        "tokens": record.tokens if record else spec.tokens,
        "flops": record.flops if record else spec.flops,
        "epochs": record.epochs if record else None,
        "batch": spec.batch,
        "lr": spec.lr,
        "seed": spec.seed,
        "loss": record.loss if record else None,
        "bits_per_byte": record.bits_per_byte if record else None,
        "seconds": record.clock.seconds if record else None,
        "device": record.clock.device if record else None,
        "finished": record.clock.finished if record else None,
        "data": spec.data,
    }


def _shape(spec: RunSpec) -> dict[str, Scalar]:
    return {key: getattr(spec.shape, key) for key in ("arch", "d_model", "n_layers", "n_heads", "kv_size", "ffw_size", "vocab", "context")}


def to_csv(rows: Sequence[Mapping[str, Scalar]]) -> str:
    """Return rows as CSV with a heading, or nothing for no rows. Text that a spreadsheet would run is escaped; `isoflop._cells.unescape` reads it back."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cells.escape(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def to_parquet(rows: Sequence[Mapping[str, Scalar]]) -> bytes:
    """Rows as a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise not_importable(error, "pyarrow", extra="train", needed_for="writing Parquet") from None
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([dict(r) for r in rows]), buffer)
    return buffer.getvalue()


def fits_json(fits: Iterable[Fit], left_out: Iterable[tuple[str, str]] = (), *, level: float = LEVEL, limits: Sequence[Limits] = ()) -> dict[str, object]:
    """Fits with exponents, intervals and status, Approach 3 with its limits; numbers that are not known, and limits that were not found, are null."""
    return {
        "fits": [_fit(fit, level, limits if fit.approach == "parametric" else ()) for fit in fits],
        "left_out": [{"approach": approach, "reason": reason} for approach, reason in left_out],
    }


def found_json(fits: Fits, seen: Account, found: Answer, *, limits: Sequence[Limits] = ()) -> dict[str, object]:
    """Return all that `isoflop fit` says: what became of the rows, the fits, their errors on held-out budgets, and the answer for a budget."""
    flops, level = found.prediction.flops, found.prediction.level
    return {
        "runs": account_json(seen),
        "level": level,
        **fits_json(fits, fits.left_out, level=level, limits=limits),
        "holdout": [_trial(t) for t in fits.holdout.trials] if fits.holdout else [],
        "holdout_left_out": [{"by": by, "reason": reason} for by, reason in fits.holdout.left_out] if fits.holdout else [],
        "forecast": _forecast(fits),
        "predictions": [{"by": fit.approach} | _prediction(by_fit(fit, flops, level=level)) for fit in fits],
        "prediction": None if found.fit is not None else _prediction(found.prediction),
        "disagreement": list(fits.disagreement),
        **answer_json(fits, found),
        "params_in_all": values(seen.total_params(found.prediction.params)) if found.given else None,
    }


def answer_json(fits: Fits, found: Answer) -> dict[str, object]:
    """Return the answer with its sentences under "answer"; null with the reason where it is refused."""
    if not found.given:
        each = [{"kind": one.kind, "reason": one.reason, "advice": one.advice} for one in found.refusals]
        return {"answer": None, "reason": " ".join(found.reasons), "refusals": each}
    by = "forecast" if found.fit is None else found.fit.approach
    said = {"by": by, "unit": found.unit, "why": outlook.source(fits, found), "sentences": list(outlook.words(fits, found))}
    return {"answer": _prediction(found.prediction) | said}


def refused_json(error: IsoflopError) -> dict[str, object]:
    """Return what JSON says where an error takes the place of an answer: null, and the reason; of a question, the readings."""
    if isinstance(error, QuestionError):
        return {"answer": None, "question": error.question, "readings": [{"text": one.text, "option": one.option} for one in error.readings]}
    runs = {"runs": account_json(error.account)} if isinstance(error, NoLawError) and isinstance(error.account, Account) else {}
    return {**runs, "answer": None, "reason": str(error)}


def account_json(seen: Account) -> dict[str, object]:
    """Return what was read, and what of it a fit sees."""
    dropped = [{"reason": group.reason, "runs": group.runs, "example": group.example} for group in groups(seen.dropped)]
    return {
        "source": seen.source,
        "read": seen.read,
        "kept": seen.kept,
        "dropped_by_reason": dropped,
        "dropped": _named(seen.dropped),
        "doubtful": _named(seen.doubtful),
        "notes": [{"about": note.about, "text": note.text} for note in seen.notes],
        "unit": seen.unit,
        "flops_from": seen.flops_from,
        "convention": seen.convention,
        "digest": seen.digest,
        "budgets": list(seen.budgets),
        "smallest_flops": seen.smallest_flops,
        "largest_flops": seen.largest_flops,
    }


def _named(dropped: Iterable[Dropped]) -> list[dict[str, str]]:
    return [{"id": entry.id, "reason": entry.reason} for entry in dropped]


def _trial(trial: Trial) -> dict[str, object]:
    own = {"reach": values(trial.reach), "error": values(trial.error), "params_factor": values(trial.params_factor)}
    return cast("dict[str, object]", values(trial)) | own


def _forecast(fits: Fits) -> dict[str, object] | None:
    made = fits.forecast
    if made is None:
        return None
    return {"loss": _blend(made.loss), "size": _blend(made.size), "freedom": made.freedom, "noise": made.noise, "why": made.why}


def _blend(blend: Blend) -> dict[str, object]:
    members = [{"by": m.name, "approach": m.fit.approach, "form": m.fit.form, "weight": m.weight} for m in blend.members]
    return {"members": members, "drift": values(blend.drift), "why": blend.why}


def _prediction(found: Prediction) -> dict[str, object]:
    return cast("dict[str, object]", values(found))


def _fit(fit: Fit, level: float, limits: Sequence[Limits]) -> dict[str, object]:
    (a, a_interval), (b, b_interval) = exponents(fit, level)
    return {
        "approach": fit.approach,
        "law": type(fit.law).__name__,
        "form": fit.form,
        "constants": values(vars(fit.law)),
        "a": values(a),
        "a_interval": values(a_interval),
        "b": values(b),
        "b_interval": values(b_interval),
        "profile_likelihood": values(limits),
        "level": level,
        "intervals_by": fit.intervals_by,
        "resamples": len(fit.resamples),
        "estimator": fit.estimator,
        "objective": values(fit.objective),
        "in_sample_error": values(in_sample(fit)),
        "noise": values(fit.noise),
        "noise_freedom": fit.noise_freedom,
        "ok": fit.status.ok,
        "status": fit.status.message,
        "warnings": list(fit.warnings),
        "reach_flops": fit.reach_flops,
        "convention": fit.convention,
        "runs": fit.n_runs,
        "runs_digest": fit.runs_digest,
        "unit": fit.unit,
        "dropped": _named(fit.dropped),
        "set_aside": _named(fit.set_aside),
        "frontier": {name: values(column.tolist()) for name, column in vars(fit.frontier).items()},
        "profiles": [_profile(profile) for profile in fit.profiles],
    }


def _profile(profile: Profile) -> dict[str, object]:
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(profile).items()}
    return cast("dict[str, object]", values(plain))


def plans_json(plans: Iterable[Plan]) -> list[dict[str, object]]:
    """Plans with 80 % intervals and the nearest real shape."""
    return [
        {
            "law": p.approach,
            "approach": p.approach,
            "flops": p.flops,
            "params": p.params,
            "params_interval": values(p.params_interval),
            "tokens": p.tokens,
            "tokens_interval": values(p.tokens_interval),
            "tokens_per_param": p.tokens_per_param,
            "loss": values(p.loss),
            "loss_interval": values(p.loss_interval),
            "interval": {"quantity": "params", "low": values(p.params_interval[0]), "high": values(p.params_interval[1]), "level": LEVEL},
            "shape": p.shape.model_dump(),
            "shape_params": p.shape.params.total,
            "shape_tokens": p.shape_tokens,
            "reach": p.reach,
        }
        for p in plans
    ]


def validation_json(validation: Validation) -> dict[str, object]:
    """Return the proof: predicted and measured loss, whether the claim holds, and the models in order of loss."""
    return {
        "flops": validation.flops,
        "reach": validation.reach,
        "predicted": values(validation.predicted),
        "predicted_by": validation.predicted_by,
        "interval": values(validation.interval),
        "observed": validation.observed,
        "claimed": validation.claimed,
        "inside": validation.inside,
        "informative": validation.informative,
        "sweep_spread": values(validation.spread),
        "holds": validation.holds,
        "noise": values(validation.chance),
        "winner": validation.winner,
        "won": validation.won,
        "same_as": dict(validation.same_as),
        "contenders": [
            {"label": c.label, "predicted": values(c.predicted), "lead_of_optimum": values(validation.lead(c)), **row(c.record.spec, c.record)}
            for c in validation.contenders
        ],
    }
