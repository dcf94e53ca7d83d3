"""Files that are whole or not there: written aside, fsynced, renamed; and checked when read.

Nothing here knows the database. A record explains itself: its digest is in it, and so is that of its curve.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from isoflop.errors import StoreError, not_importable
from isoflop.runs import Curve, RunRecord, RunSpec

RECORD, CURVE, WEIGHTS, SPEC = "record.json", "curve.parquet", "weights.safetensors", "spec.json"


def write(path: Path, data: bytes) -> None:
    """Write a file whole: after a crash at any moment there is the old file or the new one, never a part.

    The folder is made if it is not there.

    Raises:
        StoreError: No space, a read-only place or whatever else the system refused, in words; nothing is left behind.
    """
    aside = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        make_durably(path.parent)
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise in_words(error, path) from error
    finally:
        # after the rename there is nothing to remove; before it, a part must not eat the space that is missing
        with contextlib.suppress(OSError):  # where nothing can be written nothing can be removed, and what refused the writing is said already
            aside.unlink()


def link(old: Path, new: Path) -> None:
    """Give a whole file a second name, in place of what has that name.

    Raises:
        StoreError: As `write`.
    """
    aside = new.parent / f".{new.name}.{secrets.token_hex(4)}.part"
    try:
        try:
            os.link(old, aside)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}:
                raise
            shutil.copyfile(old, aside)  # some file systems know no second names
        aside.replace(new)
        sync(new.parent)
    except OSError as error:
        raise in_words(error, new) from error
    finally:
        with contextlib.suppress(OSError):  # as in `write`
            aside.unlink()


def through(path: Path, data: bytes) -> None:
    """Write into a pipe or a device, which stays what it is.

    Raises:
        StoreError: As `write`.
    """
    try:
        with path.open("wb") as file:
            file.write(data)
    except OSError as error:
        raise in_words(error, path) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        StoreError: The system refused, in words.
    """
    try:
        if path.exists():  # a read-only place refuses to remove even what is not there
            path.unlink(missing_ok=True)
    except OSError as error:
        raise in_words(error, path) from error


def sync(folder: Path) -> None:
    """Make renames in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> Path:
    """The folder, made with its parents if it is not there.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        make_durably(folder)
    except OSError as error:
        raise in_words(error, folder) from error
    return folder


def make_durably(folder: Path) -> None:
    """The folder and its parents, so that a power cut leaves their names too."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def in_words(error: OSError, path: Path) -> StoreError:
    """What the system refused, why it matters and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause, cure = f"no space left to write {path}{_free(path)}", "Make room"
    elif error.errno == errno.EFBIG:
        cause, cure = f"{path} would be larger than this process may write", "Raise the limit (ulimit -f unlimited)"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        cause, cure = f"{path} may not be written ({_reason(error)})", "Take a folder you may write to"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        cause, cure = f"{path} cannot be made, for a part of that path is a file, not a folder", "Take another folder"
    elif error.errno in (errno.EISDIR, errno.EBUSY, errno.ENOTEMPTY) and path.is_dir():
        cause, cure = f"{path} cannot be written as a file, for it is a folder", "Take another name"
    else:
        cause, cure = f"{path} could not be written ({_reason(error)})", "Mend that"
    return StoreError(f"{cause}. Nothing that was finished is lost. {cure}, then start again to go on.")


def write_record(folder: Path, record: RunRecord, curve: Curve) -> RunRecord:
    """Write curve.parquet, then record.json with the curve's digest; the record with that digest.

    Equal records and curves give equal bytes under one version of pyarrow.

    Raises:
        StoreError: As `write`.
    """
    data = _curve_bytes(curve)
    write(folder / CURVE, data)
    record = record.model_copy(update={"curve_sha256": _sha256(data)})
    fields = record.model_dump(mode="json")
    write(folder / RECORD, canonical(fields | {"sha256": _sha256(canonical(fields))}))
    return record


def write_weights(folder: Path, safetensors: bytes) -> str:
    """Write weights.safetensors; its SHA-256.

    Raises:
        StoreError: As `write`.
    """
    write(folder / WEIGHTS, safetensors)
    return _sha256(safetensors)


def read_record(folder: Path) -> RunRecord:
    """The record in a folder.

    Raises:
        StoreError: Not there, or not what was written.
    """
    path = folder / RECORD
    fields = read_json(path)
    claimed = fields.pop("sha256", None)
    if claimed != _sha256(canonical(fields)) or canonical(fields | {"sha256": claimed}) != read(path):  # the last digit of a number may change no value
        raise damaged(path, "its digest does not match its content")
    try:
        record = RunRecord.model_validate(fields)
    except ValidationError as error:
        raise damaged(path, f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    if record.id != record.spec.id:
        raise damaged(path, f"its id {record.id} is not that of its spec, {record.spec.id}")
    return record


def read_curve(folder: Path, sha256: str) -> Curve:
    """The curve in a folder, as float64.

    Args:
        folder: Of one run.
        sha256: The record's `curve_sha256`.

    Raises:
        StoreError: Not there, or not what the record was written with.
        MissingExtraError: pyarrow is not installed.
    """
    data = check_curve(folder, sha256)
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise not_importable(error, "pyarrow", extra="train", needed_for="reading the curve of a run") from None
    table = parquet.read_table(io.BytesIO(data))
    return Curve(tokens=table["tokens"].to_numpy().astype(np.float64), loss=table["loss"].to_numpy().astype(np.float64))


def check_curve(folder: Path, sha256: str) -> bytes:
    """The bytes of the curve in a folder.

    Raises:
        StoreError: Not there, or not those with that digest.
    """
    data = read(folder / CURVE)
    if _sha256(data) != sha256:
        raise damaged(folder / CURVE, "its digest is not the one in the record")
    return data


def write_spec(folder: Path, spec: RunSpec) -> None:
    """Write spec.json: what an attempt is to train."""
    write(folder / SPEC, canonical(spec.model_dump(mode="json")))


def read_spec(folder: Path) -> RunSpec:
    """The spec in a folder.

    Raises:
        StoreError: Not there, or not a spec.
    """
    try:
        return RunSpec.model_validate(read_json(folder / SPEC))
    except ValidationError as error:
        raise damaged(folder / SPEC, str(error.errors()[0]["msg"])) from None


def damaged(path: Path, why: str) -> StoreError:
    """The error for a file that is not what was written."""
    return StoreError(
        f"{path} is damaged or cut short: {why}. Its run cannot be used as it is. "
        "Start `isoflop run` again: what is damaged is set aside and that run is trained again."
    )


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        StoreError: Not there, or not a JSON object.
    """
    try:
        fields = json.loads(read(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, f"not JSON, {error}") from None
    if not isinstance(fields, dict):
        raise damaged(path, "not a JSON object")
    return fields


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        StoreError: Not there, or not readable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise damaged(path, "there is no such file") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({_reason(error)}). Mend that, then start again to go on.") from None


def _curve_bytes(curve: Curve) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise not_importable(error, "pyarrow", extra="train", needed_for="keeping the curve of a run") from None
    table = pa.table({"tokens": np.asarray(curve.tokens).astype(np.int64), "loss": np.asarray(curve.loss).astype(np.float32)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def canonical(fields: dict[str, object]) -> bytes:
    """JSON as isoflop writes it: sorted keys, a space of indent; equal values give equal bytes."""
    # not allow_nan: a loss that is not a number is a record without a loss, and NaN is not JSON
    return (json.dumps(fields, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _free(path: Path) -> str:
    there = next((p for p in path.absolute().parents if p.is_dir()), None)
    return f" (free: {shutil.disk_usage(there).free / 1e6:.0f} MB)" if there else ""
