"""Runs: what to train (RunSpec), what came of it (RunRecord), and many of them as columns (Runs)."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from isoflop.arch import Convention, ParamGroups, Shape
from isoflop.errors import FitError, UsageError

Floats = NDArray[np.float64]
NATS = "nats per token"
Status = Literal["ok", "diverged", "failed"]
Group = Literal["isoflop", "horizons", "noise", "proof", "overlong", "tune"]
Precision = Literal["float32", "bf16"]
Compile = Literal["auto", "always", "never"]  # whether torch.compile is used: where it pays by measurement, always or never


def _absent(value: object) -> bool:
    """Keys that came later are left out of a dump where they say nothing, so that what was written before them keeps its id."""
    return not value or value in {1.0, "float32"}


class Cosine(BaseModel):
    """Linear warm-up, then a cosine that ends with the run (Hoffmann et al. 2022, App. B: a cycle 25 % too long already costs loss)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["cosine"] = "cosine"
    warmup: NonNegativeFloat = 0.05  # fraction of the steps
    final: NonNegativeFloat = 0.1  # fraction of the peak; "10x decay", Hoffmann et al. 2022, App. B
    cycle: float = Field(1.0, ge=1, exclude_if=_absent)  # the cosine's length over the run's; over 1 the run stops before it has annealed


class Cooldown(BaseModel):
    """Linear warm-up, the peak held, then down as 1 - sqrt (Haegele et al. 2024): until it goes down, the run's length does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["cooldown"]
    warmup_steps: NonNegativeInt
    decay: float = Field(0.2, gt=0, le=1)  # fraction of the steps; Haegele et al. 2024, Sec. 4: 10 to 20 % are as good as a cosine

    def start(self, steps: int) -> int:
        """The first step (from 0) whose rate depends on the run's length."""
        return max(self.warmup_steps, steps - max(1, round(self.decay * steps)))


Schedule = Annotated[Cosine | Cooldown, Field(discriminator="name")]


class AdamW(BaseModel):
    """Settings of AdamW (Loshchilov & Hutter 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: PositiveFloat = 1.0  # global gradient norm


class Muon(BaseModel):
    """Settings of Muon for the matrices of the blocks (Jordan et al. 2024), beside AdamW for all else."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Literal["muon"]
    momentum: float = 0.95
    lr: PositiveFloat = 1.0  # over AdamW's, once an update is scaled to the size of AdamW's (Liu et al. 2025, Eq. 4)
    adamw: AdamW = AdamW()

    @property
    def clip(self) -> float:
        return self.adamw.clip


class RunSpec(BaseModel):
    """One run to train. Everything that changes its result is here; nothing about when or where it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shape: Shape
    tokens: PositiveInt  # whole batches
    batch: PositiveInt  # tokens a step
    lr: PositiveFloat  # peak
    schedule: Schedule = Cosine()
    optimizer: AdamW | Muon = AdamW()
    precision: Precision = Field("float32", exclude_if=_absent)  # of the matrix products; weights and sums are float32
    z_loss: NonNegativeFloat = Field(0.0, exclude_if=lambda weight: not weight)  # on the mean squared log of the softmax's sum (Chowdhery et al. 2022)
    seed: int
    data: str  # digest of the token shards
    eval_tokens: PositiveInt  # of the validation set, spread evenly over it
    threads: PositiveInt = 1  # one thread and two give different bits
    budget: PositiveFloat  # FLOPs aimed at
    group: Group
    label: str = ""  # the part played in a proof: "chinchilla", "gopher", "kaplan"

    @model_validator(mode="after")
    def _warms_up_before_its_end(self) -> Self:
        if isinstance(self.schedule, Cooldown) and self.schedule.warmup_steps >= self.steps:
            raise UsageError(
                f"a warm-up of {self.schedule.warmup_steps} steps does not end in a run of {self.steps}, so that its rate would never cool down. "
                "Take a shorter warm-up or more tokens."
            )
        return self

    @property
    def id(self) -> str:
        """Sixteen hex digits of the SHA-256 of the canonical JSON."""
        return _digest(self.model_dump(mode="json"))

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    @property
    def trunk(self) -> str:
        """Sixteen hex digits over all that decides the weights until `parting`: runs of one trunk are the same run until then. Empty if it has none."""
        if self.parting == 0:
            return ""
        fields = self.model_dump(mode="json", exclude={"tokens", "budget", "group", "label", "eval_tokens"})
        del fields["schedule"]["decay"]
        return _digest(fields)

    @property
    def parting(self) -> int:
        """Steps that do not depend on how long the run will be: of these, one run may do for many."""
        return self.schedule.start(self.steps) if isinstance(self.schedule, Cooldown) else 0

    @property
    def flops(self) -> float:
        """Training FLOPs that the run takes, forward and backward."""
        return self.tokens * self.shape.flops_per_token.training


def own_steps(specs: Iterable[RunSpec], reached: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
    """Return the steps that each run must take itself, by id.

    Of the runs of a trunk the longest takes all, the others those after they part from it.

    Args:
        specs: The runs that are to be trained.
        reached: Steps that a kept trunk has behind it, by its name. Runs that part from it later resume there; those that part earlier cannot.
    """
    specs = tuple(specs)

    def start(spec: RunSpec) -> int:
        kept = reached.get(spec.trunk, 0)
        return kept if spec.trunk and kept <= spec.parting else 0

    longest = {(spec.trunk, start(spec)): spec for spec in sorted(specs, key=lambda spec: spec.steps) if spec.trunk}
    return {spec.id: spec.steps - (spec.parting if longest.get((spec.trunk, start(spec)), spec) != spec else start(spec)) for spec in specs}


def _digest(fields: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


class Clock(BaseModel):
    """What depends on when and where a run ran; all else in a record is a function of its spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: NonNegativeFloat  # of training, checkpoints included, evaluation not, over all attempts that contributed
    finished: str  # ISO 8601, UTC
    attempt: PositiveInt
    device: str
    versions: Mapping[str, str]  # of isoflop, python, torch, kernels; where attempts differed, as of device and commit, each once: "2.12.0 then 2.13.0"
    commit: str = ""
    world: PositiveInt = Field(1, exclude_if=_absent)  # processes that trained it together
    compiled: bool = Field(default=False, exclude_if=_absent)  # by torch.compile
    deterministic: bool = Field(default=False, exclude_if=_absent)  # by choice, where it is a choice: on a GPU
    micro: PositiveInt = Field(1, exclude_if=_absent)  # parts a batch was worked through in, for want of memory


class RunRecord(BaseModel):
    """What came of one run; explains itself without the code that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    spec: RunSpec
    status: Status
    reason: str = ""  # why it is not ok
    loss: float | None  # final, nats per token on the validation set; None if there is none
    bits_per_byte: float | None
    params: ParamGroups  # counted from the built module
    tokens: int  # trained on
    flops: float
    epochs: float
    curve_sha256: str = ""  # of the curve's file, beside the record
    weights_sha256: str = Field("", exclude_if=_absent)  # of the weights' file
    clock: Clock


class Curve(NamedTuple):
    """Training loss along one run."""

    tokens: Floats  # (steps,) seen at the end of each step
    loss: Floats  # (steps,) nats per token, mean over the step's batch; with the penalty where the run has a z_loss


class Dropped(NamedTuple):
    """A run that is not in the columns, and why."""

    id: str
    reason: str


class Note(NamedTuple):
    """One decision about a table of runs, for the person who made the table."""

    about: str  # "read as", "rows", "settings", "FLOPs", ...
    text: str  # a sentence


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Finished runs as columns, each of shape (runs,).

    Invariants: finite positive columns; one counting convention; every excluded run is in `dropped`, every flagged one in `doubtful`.
    """

    ids: tuple[str, ...]
    params: Floats  # by `convention`
    tokens: Floats
    flops: Floats  # training, as counted
    loss: Floats  # final, in `unit`
    budget: Floats  # FLOPs aimed at
    group: tuple[str, ...]
    seed: NDArray[np.int64]
    curves: tuple[Curve, ...]
    convention: Convention = "total"
    dropped: tuple[Dropped, ...] = ()
    doubtful: tuple[Dropped, ...] = ()  # kept, with what is odd about them
    unit: str = NATS
    flops_from: str = "as counted"  # where the FLOPs come from: "as given", "as counted", "6ND"
    unique_tokens: Floats | None = None  # of the text that a run saw, for laws of repeated data; None where nobody said
    lr: Floats | None = None  # peak learning rate; None where nobody said
    total_params: Floats | None = None  # of mixtures of experts, whose params are the active ones; None of other models
    notes: tuple[Note, ...] = ()  # which column was read as what, and what was decided
    least_tokens: float = 0.0  # one batch (the smallest) or one context, whichever is more; 0 where neither is known

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_records(
        cls, records: Iterable[RunRecord], *, curve: Callable[[str], Curve], convention: Convention = "total", groups: Iterable[str] | None = None
    ) -> Self:
        """Columns of the records with status ok, in order of their ids so that the order of arrival changes nothing.

        Args:
            records: Any order.
            curve: Loads the curve of a run by its id.
            convention: How parameters are counted.
            groups: Only these groups; None for all.

        Raises:
            FitError: No run is left.
        """
        wanted = sorted((r for r in records if groups is None or r.spec.group in tuple(groups)), key=lambda r: r.id)
        kept = [r for r in wanted if r.status == "ok" and r.loss is not None and np.isfinite(r.loss)]
        dropped = tuple(Dropped(r.id, f"{r.status}: {r.reason}") for r in wanted if r not in kept)
        if not kept:
            msg = f"none of {len(wanted)} runs finished well, so there is nothing to fit. `isoflop runs` shows why."
            raise FitError(msg)
        return cls(
            ids=tuple(r.id for r in kept),
            params=np.array([r.params.count(convention) for r in kept], dtype=float),
            tokens=np.array([r.tokens for r in kept], dtype=float),
            flops=np.array([r.flops for r in kept], dtype=float),
            loss=np.array([r.loss for r in kept], dtype=float),
            budget=np.array([r.spec.budget for r in kept], dtype=float),
            group=tuple(r.spec.group for r in kept),
            seed=np.array([r.spec.seed for r in kept], dtype=np.int64),
            curves=tuple(curve(r.id) for r in kept),
            lr=np.array([r.spec.lr for r in kept], dtype=float),
            least_tokens=float(max(min(r.spec.batch for r in kept), min(r.spec.shape.context for r in kept))),
            convention=convention,
            dropped=dropped,
        )

    @classmethod
    def from_columns(
        cls,
        *,
        params: Floats,
        tokens: Floats,
        loss: Floats,
        flops: Floats | None = None,
        budget: Floats | None = None,
        seed: NDArray[np.int64] | None = None,
        ids: Iterable[str] | None = None,
        curves: Iterable[Curve] | None = None,
        unique_tokens: Floats | None = None,
        lr: Floats | None = None,
        convention: Convention = "total",
        unit: str = NATS,
        dropped: Iterable[Dropped] = (),
        doubtful: Iterable[Dropped] = (),
    ) -> Self:
        """Columns of runs made elsewhere; FLOPs default to 6ND, budgets to FLOPs, ids to row numbers.

        Raises:
            FitError: Columns of unequal length, or a value that is not finite and positive.
        """
        given = {"params": params, "tokens": tokens, "loss": loss, "flops": flops, "budget": budget, "unique_tokens": unique_tokens, "lr": lr}
        columns = {name: np.asarray(column, dtype=float) for name, column in given.items() if column is not None}
        if len({c.shape for c in columns.values()}) != 1 or columns["params"].ndim != 1:
            raise FitError(f"columns of runs must be equally long, but they are { ({k: c.shape for k, c in columns.items()}) }.")
        columns.setdefault("flops", 6.0 * columns["params"] * columns["tokens"])
        columns.setdefault("budget", columns["flops"])
        for name, column in columns.items():
            bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
            if bad.size:
                msg = f"{name} of run {bad[0]} is {column[bad[0]]!r}; every value must be finite and positive. Leave that run out or mend it."
                raise FitError(msg)
        n = columns["params"].size
        empty = Curve(np.empty(0), np.empty(0))
        return cls(
            ids=tuple(f"{i:08d}" for i in range(n)) if ids is None else tuple(ids),
            group=("isoflop",) * n,
            seed=np.zeros(n, dtype=np.int64) if seed is None else np.asarray(seed, dtype=np.int64),
            curves=(empty,) * n if curves is None else tuple(curves),
            convention=convention,
            unit=unit,
            flops_from="6ND" if flops is None else "as given",
            dropped=tuple(dropped),
            doubtful=tuple(doubtful),
            unique_tokens=columns.get("unique_tokens"),
            lr=columns.get("lr"),
            params=columns["params"],
            tokens=columns["tokens"],
            flops=columns["flops"],
            loss=columns["loss"],
            budget=columns["budget"],
        )

    def select(self, mask: NDArray[np.bool_], *, reason: str | None = None) -> Self:
        """The runs where the mask is true; the others are counted as dropped if a reason is given."""
        left_out = () if reason is None else tuple(Dropped(self.ids[i], reason) for i in np.flatnonzero(~mask))
        return replace(self.take(np.flatnonzero(mask)), dropped=self.dropped + left_out)

    def take(self, index: NDArray[np.intp]) -> Self:
        """The runs at some indices, in their order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            **{name: getattr(self, name)[index] for name in ("params", "tokens", "flops", "loss", "budget", "seed")},
            unique_tokens=None if self.unique_tokens is None else self.unique_tokens[index],
            lr=None if self.lr is None else self.lr[index],
            total_params=None if self.total_params is None else self.total_params[index],
            group=tuple(self.group[i] for i in index),
            curves=tuple(self.curves[i] for i in index),
        )

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits over ids, counts and losses: which runs a fit saw."""
        rows = sorted(zip(self.ids, self.params.tolist(), self.tokens.tolist(), self.flops.tolist(), self.loss.tolist(), strict=True))
        return hashlib.sha256(json.dumps([self.convention, rows]).encode()).hexdigest()[:16]
