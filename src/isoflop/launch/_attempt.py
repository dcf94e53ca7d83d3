"""One attempt at one run: what every launcher does in the process that trains."""

import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.errors import IsoflopError, TrainError
from isoflop.launch._events import Progress
from isoflop.launch._means import Means
from isoflop.runs import RunSpec

if TYPE_CHECKING:
    from isoflop import train
    from isoflop.data import Corpus

COMPILED = "compiled.json"  # what was measured of torch.compile
LEASE = 120.0  # seconds; assumption: only the one driver claims, and its lock, not the lease, frees the runs of a dead one at once


def attempt(
    spec: RunSpec,
    corpus: "Corpus",
    *,
    number: int,
    folder: Path,
    earlier: tuple[Path, ...],
    trunk: Path | None,
    marks: Collection[int],
    same_weights: Path | None = None,
    means: Means,
    micro: int = 1,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> str | None:
    """Train; None if the record is written, or why this run could not be trained.

    Raises:
        isoflop.train.Interrupted: It was asked to stop, and did.
        IsoflopError: Something that is no fault of the run.
    """
    from isoflop import train

    report = _Report(spec, on_progress)
    try:
        kept = folder.parents[2] / COMPILED  # the study's, for its other runs
        machine = train.Machine(device=means.device, micro=micro, deterministic=means.deterministic)
        machine = train.decide(means.compile, spec, corpus, machine=machine, kept=kept)
        train.train(
            spec,
            corpus,
            folder=folder,
            attempt=number,
            earlier=earlier,
            trunk=None if trunk is None else train.Trunk(trunk, frozenset(marks)),
            same_weights=same_weights,
            machine=machine,
            on_progress=report,
            should_stop=should_stop,
        )
    except TrainError as error:
        return str(error)
    except (IsoflopError, train.Interrupted):
        raise
    except Exception as error:
        if error is report.trouble:
            raise  # the listener's fault, not the run's
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    return None


class _Report:
    """Passes on where a run is, with tokens per second between one report and the next."""

    def __init__(self, spec: RunSpec, listener: Callable[[Progress], None]) -> None:
        self.trouble: Exception | None = None
        self._spec, self._listener = spec, listener
        self._before: train.Progress | None = None

    def __call__(self, now: "train.Progress") -> None:
        before, self._before = self._before, now
        rate = (now.tokens - before.tokens) / (now.seconds - before.seconds) if before and now.seconds > before.seconds else 0.0
        try:
            self._listener(Progress(id=self._spec.id, step=now.step, steps=now.steps, tokens=now.tokens, loss=now.loss, tokens_per_second=rate))
        except Exception as error:
            self.trouble = error
            raise
