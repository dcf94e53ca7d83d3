"""What a launcher tells of its runs while they are trained."""

from dataclasses import dataclass

from isoflop.runs import RunRecord, RunSpec


@dataclass(frozen=True, kw_only=True)
class Started:
    """An attempt at a run began."""

    id: str
    spec: RunSpec
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is."""

    id: str
    step: int  # steps done
    steps: int
    tokens: int  # trained on
    loss: float  # nats per token, mean over the last steps
    tokens_per_second: float  # since the report before; 0 in the first report of an attempt


@dataclass(frozen=True, kw_only=True)
class Mended:
    """Something of the study was found damaged, cannot be used, or is waited for; nobody need do anything."""

    note: str


@dataclass(frozen=True, kw_only=True)
class Lost:
    """An attempt ended without a record, through a fault; the run is tried again."""

    id: str
    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A run cannot be trained at this start, through no fault of its own. It stays to be trained."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run has its record: ok, diverged or failed."""

    record: RunRecord


Event = Mended | Started | Progress | Lost | Skipped | Finished
