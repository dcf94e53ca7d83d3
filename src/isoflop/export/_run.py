"""A finished run on disk: its record, its weights and its tokenizer."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop import study as studies
from isoflop.errors import StoreError, StudyError, UnknownNameError, UsageError, not_importable
from isoflop.export import _tokenizer
from isoflop.runs import RunRecord
from isoflop.store import Row, Store, files

_STUDY, _DATA = "study.toml", "data"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A finished run that has its weights."""

    record: RunRecord
    weights: Path  # safetensors, names as in the module's state_dict, with the record's `weights_sha256`
    tokenizer: Path | None  # of a BPE; None: bytes
    study: str  # its name, for the card


def find(study: Path, name: str) -> Path:
    """The folder of one run of a study.

    Args:
        study: The study's folder.
        name: The run's id or the beginning of it, or its part in the present proof, such as "chinchilla".

    Raises:
        StoreError: Nothing was trained there.
        UnknownNameError: No such run; the message lists those that have weights.
        UsageError: Several.
    """
    if not (study / "runs").is_dir():
        raise StoreError(f"{study} has no runs yet: nothing was trained. Run `isoflop train` first.")
    with Store(study, read_only=True) as store:
        rows = store.rows()
    meant = [row for row in rows if name and (row.id.startswith(name) or _label(row) == name)]
    if not meant:
        raise UnknownNameError(f"{study} has no run {name!r}. Those with weights: {_with_weights(study, rows)}.")
    if len(meant) > 1:
        raise UsageError(f"{name!r} can be {len(meant)} runs of {study}: {', '.join(row.id for row in meant)}. Give more of the id.")
    return study / "runs" / meant[0].id


def source(run: Path) -> Source:
    """What there is to export of the run in a folder.

    Raises:
        StoreError: No record is there, or record or tokenizer are not what was written.
        UsageError: The run kept no weights.
    """
    run = run.resolve()
    record = files.read_record(run)
    if not record.weights_sha256 or not (run / files.WEIGHTS).is_file():
        raise UsageError(
            f"run {record.id} has no weights: {run / files.WEIGHTS} is not there. Runs that diverged or were trained before weights were kept have none. "
            f"Remove the folder {run} and start `isoflop run` again: the same bits come out."
        )
    study = run.parent.parent
    return Source(record=record, weights=run / files.WEIGHTS, tokenizer=_tokenizer.find(study / _DATA, record.spec), study=_name(study))


def weights(run: Source) -> Mapping[str, NDArray[np.float32]]:
    """The run's weights by their names in the module's state_dict.

    Raises:
        StoreError: They are not what the record was written with.
        MissingExtraError: safetensors is not installed.
    """
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise not_importable(error, "safetensors", extra="train", needed_for="Exporting a run") from None
    try:
        with run.weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{run.weights} cannot be read ({error.strerror}). Mend that, then export again.") from None
    if digest != run.record.weights_sha256:
        raise StoreError(
            f"{run.weights} is not what the record was written with. Remove the folder {run.weights.parent} and start `isoflop run` again: "
            "the same bits come out."
        )
    return load_file(run.weights)


def _with_weights(study: Path, rows: Iterable[Row]) -> str:
    kept = [row for row in rows if (study / "runs" / row.id / files.WEIGHTS).is_file()]
    kept.sort(key=lambda row: not _label(row))  # those with a label first: of the others there are dozens
    return ", ".join(_label(row) or row.id for row in kept) or "none"


def _label(row: Row) -> str:
    """What a run may be asked for by, beside its id; nothing for one of an older design."""
    return row.spec.label if row.current else ""


def _name(study: Path) -> str:
    try:
        return studies.load(study / _STUDY).name
    except StudyError:  # the run was copied elsewhere
        return "".join(c for c in study.name if c.isalnum() or c in "._- ")
