"""The studies of a folder: the one that is trained there, and those before it. Only training writes them.

study.toml                what `isoflop fit FOLDER` and all other commands read; a person may edit it
trained.toml              the same, as it was last trained
former/study-N.toml       a study that was trained there before another took its place
former/study-N.json       the ids of its runs
"""

from collections.abc import Iterable
from pathlib import Path

from isoflop import study as studies
from isoflop.errors import StudyError
from isoflop.store import files
from isoflop.study import Study

STUDY_FILE, TRAINED_FILE, FORMER = "study.toml", "trained.toml", "former"
NAMES = frozenset({"name", "corpus"})  # where the folder and the text are; the digest of the text is in every run

GROWS = frozenset({"budgets", "target", "seeds", "eval_tokens", "cooldown", "proof"})  # keys that leave the training of a size as it is


def trained(folder: Path) -> Study | None:
    """Return the study that was last trained in a folder, or None.

    Raises:
        StudyError: The file is not a study.
    """
    path = folder / TRAINED_FILE
    return studies.load(path) if path.is_file() else None


def former(folder: Path) -> tuple[Path, ...]:
    """Return the files of the studies that were trained in a folder before, the latest last."""
    found = {_number(path): path for path in (folder / FORMER).glob("study-*.toml")}
    return tuple(found[n] for n in sorted(found) if n)


def former_runs(folder: Path, study: Study) -> frozenset[str]:
    """Return the ids of the runs that a study had when it was trained in a folder before; none if it was not.

    Raises:
        StudyError: A file that should be a former study is none.
        StoreError: The list of its runs is damaged.
    """
    path = _same(folder, study)
    if path is None or not path.with_suffix(".json").is_file():
        return frozenset()
    runs = files.read_json(path.with_suffix(".json")).get("runs")
    return frozenset(map(str, runs)) if isinstance(runs, list) else frozenset()


def differing(one: Study, other: Study) -> tuple[str, ...]:
    """Return the keys in which two studies differ, but for those that name things."""
    return tuple(key for key in Study.model_fields if key not in NAMES and getattr(one, key) != getattr(other, key))


def extends(study: Study, trained: Study) -> bool:
    """Whether a study trains every size as a trained one does, at budgets of its own."""
    listed = isinstance(study.sizes, tuple) and isinstance(trained.sizes, tuple)  # widths by name, of which each stands for itself
    return set(differing(study, trained)) <= (GROWS | {"sizes", "spread"} if listed else GROWS)


def write(folder: Path, study: Study, *, runs: Iterable[str]) -> Path | None:
    """Write a study as the one that is trained in a folder from now on.

    Args:
        folder: The folder.
        study: The study.
        runs: Ids of the runs of the study that is trained there so far.

    Returns:
        Where the study is kept that was trained there before, if that is another one.

    Raises:
        StoreError: A file cannot be written.
        StudyError: The file of the trained study is not a study.
    """
    before = trained(folder)
    kept = _keep(folder, before, runs) if before is not None and differing(before, study) else None
    for name in (STUDY_FILE, TRAINED_FILE):
        path = folder / name
        if not _holds(path, study):  # a person's comments stay
            files.write(path, studies.show(study).encode())
    return kept


def _holds(path: Path, study: Study) -> bool:
    try:
        return studies.load(path) == study
    except StudyError:
        return False


def _keep(folder: Path, study: Study, runs: Iterable[str]) -> Path:
    path = _same(folder, study)
    if path is None:
        path = folder / FORMER / f"study-{1 + max(map(_number, former(folder)), default=0)}.toml"
        files.write(path, studies.show(study).encode())
    files.write(path.with_suffix(".json"), files.canonical({"runs": list(runs)}))
    return path


def _same(folder: Path, study: Study) -> Path | None:
    """The file of the former study that is this one."""
    return next((path for path in reversed(former(folder)) if not differing(studies.load(path), study)), None)


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("study-")
    return int(digits) if digits.isdecimal() else 0
