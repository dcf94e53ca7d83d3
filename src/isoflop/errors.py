"""Every exception isoflop raises on purpose.

    IsoflopError
    ├── UsageError            an invalid command, option or argument (exit 2)
    │   ├── UnknownNameError  no such law, architecture, launcher, ... (with the nearest)
    │   ├── UnitError         "70X" is not a number isoflop reads
    │   ├── StudyError        a study file that cannot be read as one
    │   └── QuestionError     an input with two readings that change the answer; carries both
    ├── CorpusError           text that is missing, empty, binary or too small
    ├── DesignError           a grid that cannot answer the question
    ├── StoreError            a study folder that is busy, damaged, full or read-only
    ├── TrainError            a run that could not be trained
    ├── FitError              runs that do not determine a law
    │   └── NoLawError        runs that were read, but no approach can fit them; carries the account of the rows
    ├── RefusedError          an answer that cannot be right; carries the reasons and the estimate
    │   └── ExtrapolationError  a budget beyond what the law was fitted on
    ├── ValidationError       a proof that cannot be made
    ├── MemoryShortError      too little memory for what was asked
    └── MissingExtraError     an optional dependency that is not installed

Each message says what is wrong with which value, why it matters, and what to do.
"""

import re
from typing import NamedTuple


class IsoflopError(Exception):
    """Base of all errors that isoflop raises on purpose."""


class UsageError(IsoflopError):
    """An invalid command, option or argument."""


class UnknownNameError(UsageError):
    """A name that is on no menu."""


class UnitError(UsageError):
    """A quantity that cannot be read."""


class StudyError(UsageError):
    """A study file that cannot be read as one."""


class Reading(NamedTuple):
    """One way to read an ambiguous input."""

    text: str  # what it means and what follows from it, as a phrase: "36 separate runs, each with its own loss"
    option: str  # what chooses it, ready for a shell: "--every-point"


class QuestionError(UsageError):
    """An input with two or more readings that change the answer. Nothing is computed until the user chooses one.

    Attributes:
        question: What is ambiguous, as a sentence.
        readings: The ways to read it, with their consequences and the option that chooses each.
    """

    def __init__(self, question: str, readings: tuple[Reading, ...]) -> None:
        ways = "".join(f"\n  {reading.option}\n      {reading.text}" for reading in readings)
        super().__init__(f"{question} Choose one:{ways}")
        self.question = question
        self.readings = readings


class CorpusError(IsoflopError):
    """Text that is missing, empty, binary or too small."""


class DesignError(IsoflopError):
    """A grid of runs that cannot answer the question."""


class StoreError(IsoflopError):
    """A study folder that is busy, damaged, full or read-only."""


class TrainError(IsoflopError):
    """A run that could not be trained."""


class FitError(IsoflopError):
    """Runs that do not determine a law."""


class NoLawError(FitError):
    """Runs that were read, but no approach can fit them.

    Attributes:
        account: What was read and what was excluded.
    """

    def __init__(self, message: str, *, account: object) -> None:
        super().__init__(message)
        self.account = account


class RefusedError(IsoflopError):
    """An answer that cannot be right.

    Attributes:
        reasons: Why, a sentence or two each.
        estimate: What the law would have said; None if it is not known.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), estimate: object = None) -> None:
        super().__init__(message)
        self.reasons = reasons or (message,)
        self.estimate = estimate


class ExtrapolationError(RefusedError):
    """A budget beyond what the law was fitted on.

    Attributes:
        reach: The budget over the largest budget fitted.
    """

    def __init__(self, message: str, *, estimate: object, reach: float) -> None:
        super().__init__(message, estimate=estimate)
        self.reach = reach


class ValidationError(IsoflopError):
    """A proof that cannot be made."""


class MissingExtraError(IsoflopError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs the package {package!r}, which is not installed. Install it with: {install_command(package, extra=extra)}")


def install_command(package: str, *, extra: str) -> str:
    """Return the command that installs an extra's packages into the environment that runs now, whether or not isoflop itself is in a package index.

    Args:
        package: What is missing; alone where the extra is not known, as in a checkout that was never installed.
        extra: One of isoflop's extras.
    """
    import importlib.metadata
    import importlib.util
    import shlex
    import sys

    marker = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    try:
        lines = importlib.metadata.requires("isoflop") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    needed = [line.partition(";")[0].strip() for line in lines if marker.search(line)] or [package]
    pip = [sys.executable, "-m", "pip", "install"]
    if importlib.util.find_spec("pip") is None:  # environments that uv made
        pip = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*pip, *sorted(needed, key=lambda line: not line.startswith(package))])  # what is missing comes first


class MemoryShortError(IsoflopError):
    """Too little memory to do what was asked."""


def not_importable(error: ImportError, package: str, *, extra: str, needed_for: str) -> IsoflopError:
    """Return the error for an optional package that cannot be imported: it is missing, memory is short, or it is broken.

    Args:
        error: Why Python did not import it.
        package: Its name in a package index.
        extra: The extra of isoflop that installs it.
        needed_for: What needs it, as the subject of a sentence.
    """
    why = str(error)
    if any(sign in why for sign in _OUT_OF_MEMORY):
        what = f"{needed_for} needs the package {package!r}, and there is too little memory to load it ({why})"
        return MemoryShortError(f"{what}. Free memory, or raise the limit of this process (ulimit -v, or that of its job), then run the same command again.")
    if isinstance(error, ModuleNotFoundError):
        return MissingExtraError(package, extra=extra, needed_for=needed_for)
    return IsoflopError(f"{needed_for} needs the package {package!r}, which is installed but cannot be loaded: {why}. Install it again, then try once more.")


_OUT_OF_MEMORY = ("Cannot allocate memory", "failed to map segment", "cannot create shared object descriptor", "out of memory")  # as ld.so writes them
