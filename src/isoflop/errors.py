"""Every exception isoflop raises on purpose.

    IsoflopError
    ├── UsageError            what was typed cannot be meant (exit 2)
    │   ├── UnknownNameError  no such law, architecture, launcher, ... (with the nearest)
    │   ├── UnitError         "70X" is not a number isoflop reads
    │   └── StudyError        a study file that cannot be read as one
    ├── CorpusError           text that is missing, empty, binary or too small
    ├── DesignError           a grid that cannot answer the question
    ├── StoreError            a study folder that is busy, damaged, full or read-only
    ├── TrainError            a run that could not be trained
    ├── FitError              runs that do not determine a law
    ├── ExtrapolationError    a budget beyond what the law was fitted on; carries the estimate
    ├── ValidationError       a proof that cannot be made
    └── MissingExtraError     an optional dependency that is not installed

Each message says what is wrong with which value, why it matters, and what to do.
"""


class IsoflopError(Exception):
    """Base of all errors that isoflop raises on purpose."""


class UsageError(IsoflopError):
    """What was typed cannot be meant."""


class UnknownNameError(UsageError):
    """A name that is on no menu."""


class UnitError(UsageError):
    """A quantity that cannot be read."""


class StudyError(UsageError):
    """A study file that cannot be read as one."""


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


class ExtrapolationError(IsoflopError):
    """A budget beyond what the law was fitted on.

    Attributes:
        estimate: What the law would have said.
        reach: The budget over the largest budget fitted.
    """

    def __init__(self, message: str, *, estimate: object, reach: float) -> None:
        super().__init__(message)
        self.estimate = estimate
        self.reach = reach


class ValidationError(IsoflopError):
    """A proof that cannot be made."""


class MissingExtraError(IsoflopError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs the package {package!r}, which is not installed. Install it with: pip install 'isoflop[{extra}]'")
