"""One attempt at one run: what every launcher does in the process that trains."""

import errno
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.errors import IsoflopError, MemoryShortError, StoreError, TrainError
from isoflop.launch._events import Progress
from isoflop.launch._means import Means
from isoflop.runs import RunSpec

if TYPE_CHECKING:
    from isoflop import train
    from isoflop.data import Corpus

NO_THREAD = "can't start new thread"  # of Python; it has no exception of its own
COMPILED = "compiled.json"  # what was measured of torch.compile
LEASE = 120.0  # seconds; assumption: only the one driver claims, and its lock, not the lease, frees the runs of a dead one at once


PATIENCE = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between tries; assumption: a file server that is away for longer is a case for a person
LASTING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})  # what does not pass by itself


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
    on_note: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> str | None:
    """Train, and again after a while where the system refused something that may pass.

    Returns:
        None if the record is written, or why this run could not be trained.

    Raises:
        isoflop.train.Interrupted: It was to stop, and did.
        MemoryShortError: There is too little memory for this run.
        IsoflopError: Something else that is no fault of the run.
    """
    from isoflop import train

    report = _Report(spec, on_progress)

    def once() -> None:
        kept = folder.parents[2] / COMPILED  # the study's, for its other runs
        machine = train.Machine(device=means.device, micro=micro, deterministic=means.deterministic)
        train.train(
            spec,
            corpus,
            folder=folder,
            attempt=number,
            earlier=earlier,
            trunk=None if trunk is None else train.Trunk(trunk, frozenset(marks)),
            same_weights=same_weights,
            machine=train.decide(means.compile, spec, corpus, machine=machine, kept=kept),
            on_progress=report,
            on_note=on_note,
            should_stop=should_stop,
        )

    try:
        _patiently(once, report, on_note, should_stop)
    except TrainError as error:
        return str(error)
    except (IsoflopError, train.Interrupted):
        raise
    except Exception as error:
        if error is report.trouble:
            raise  # the listener's fault, not the run's
        if isinstance(error, OSError) or train.out_of_memory(error) or NO_THREAD in str(error):
            raise outside(error) from error
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    return None


def outside(error: Exception) -> IsoflopError:
    """Return what the system refused, which is no fault of a run, and what to do."""
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            return StoreError(_refusal(f"too many files are open ({name}{error.strerror})", "Raise the limit (ulimit -n)"))
        return StoreError(_refusal(f"a file of the study or of its text cannot be used ({name}{error.strerror or error})", "Fix the cause"))
    if NO_THREAD in str(error):
        return StoreError(_refusal("the system starts no more threads", "Raise the limit (ulimit -u, or that of the container)"))
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MemoryShortError(_refusal(f"memory ran out ({why})", "End other programs, or raise the limit (ulimit -v)"))


def _refusal(cause: str, cure: str) -> str:
    return f"{cause}. No run has failed. {cure}, then run the same command again."


def _patiently(act: Callable[[], None], report: "_Report", on_note: Callable[[str], None], should_stop: Callable[[], bool]) -> None:
    """Act, and again after a while where the system refused it."""
    for seconds in PATIENCE:
        try:
            act()
        except OSError as error:
            if error is report.trouble or error.errno in LASTING:
                raise
            on_note(f"{outside(error)} Trying again in {seconds:.0f} s.")
            until = time.monotonic() + seconds
            while time.monotonic() < until and not should_stop():
                time.sleep(0.05)
        else:
            return
    act()


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
