"""Results for other programs: rows of runs as CSV or Parquet, fits, plans and the proof as values for JSON."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from isoflop.errors import MissingExtraError
from isoflop.fit.result import Fit
from isoflop.plan import Plan
from isoflop.report.results import LEVEL
from isoflop.report.values import values
from isoflop.runs import RunRecord, RunSpec
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
    """Rows as CSV with a heading; nothing for no rows."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_parquet(rows: Sequence[Mapping[str, Scalar]]) -> bytes:
    """Rows as a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", extra="train", needed_for="writing Parquet") from None
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([dict(r) for r in rows]), buffer)
    return buffer.getvalue()


def fits_json(fits: Iterable[Fit], left_out: Iterable[tuple[str, str]] = ()) -> dict[str, object]:
    """Fits with exponents, 80 % intervals and status; numbers that are not known are null."""
    return {"fits": [_fit(fit) for fit in fits], "left_out": [{"approach": approach, "reason": reason} for approach, reason in left_out]}


def _fit(fit: Fit) -> dict[str, object]:
    return {
        "approach": fit.approach,
        "law": type(fit.law).__name__,
        "constants": values(vars(fit.law)),
        "a": fit.law.a,
        "a_interval": values(fit.interval(lambda law: law.a)),
        "b": fit.law.b,
        "b_interval": values(fit.interval(lambda law: law.b)),
        "estimator": fit.estimator,
        "objective": fit.objective,
        "noise": values(fit.noise),
        "noise_freedom": fit.noise_freedom,
        "ok": fit.status.ok,
        "status": fit.status.message,
        "warnings": list(fit.warnings),
        "reach_flops": fit.reach_flops,
        "convention": fit.convention,
        "runs": fit.n_runs,
        "runs_digest": fit.runs_digest,
    }


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
    """The proof: predicted and measured loss, and the models in order of loss."""
    return {
        "flops": validation.flops,
        "reach": validation.reach,
        "predicted": values(validation.predicted),
        "predicted_by": validation.predicted_by,
        "interval": values(validation.interval),
        "observed": validation.observed,
        "inside": validation.inside,
        "winner": validation.winner,
        "won": validation.won,
        "same_as": dict(validation.same_as),
        "contenders": [{"label": c.label, "predicted": values(c.predicted), **row(c.record.spec, c.record)} for c in validation.contenders],
    }
