"""Files that are whole or not there: written aside, fsynced, renamed; and checked when read.

Nothing here knows the database. A record explains itself: its digest is in it, and so is that of its curve.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import ValidationError

from isoflop.errors import StoreError, UnknownNameError, not_importable
from isoflop.runs import Curve, RunRecord, RunSpec


class DamageError(StoreError):
    """A file that is missing or not what was written, rather than one that cannot be reached now."""


PARTS = ".*.part"  # files and folders that are being written
RECORD, CURVE, WEIGHTS, SPEC = "record.json", "curve.parquet", "weights.safetensors", "spec.json"


def write(path: Path, data: bytes) -> None:
    """Write a file whole: after a crash at any moment there is the old file or the new one, never a part.

    The folder is made if it is not there.

    Raises:
        StoreError: No space, a read-only place or whatever else the system refused, in words; nothing is left behind.
    """
    try:
        make_durably(path.parent)
        with _part(path) as (aside, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise in_words(error, path) from error


def link(old: Path, new: Path) -> None:
    """Give a whole file a second name, in place of what has that name.

    Raises:
        StoreError: As `write`.
    """
    aside = _aside(new)
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


@contextlib.contextmanager
def _part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file to write into, which is gone afterwards if it was not renamed. It is locked, so that what the dead left behind is known for that."""
    while True:
        aside = _aside(path)
        with aside.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:  # before it was locked another process took it for a dead one's
                continue
            try:
                yield aside, file
                return
            finally:
                # after the rename there is nothing to remove; before it, a part must not eat the space that is missing
                with contextlib.suppress(OSError):  # where nothing can be written nothing can be removed, and what refused the writing is said already
                    aside.unlink()


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.part"


def clear_parts(folder: Path, *, below: tuple[str, ...] = ()) -> None:
    """Remove what writers that died left half-written in a folder. A part that its writer still holds stays.

    Args:
        folder: Of a study.
        below: Names of folders in it of which everything is searched.
    """
    for part in (*folder.glob(PARTS), *(part for name in below for part in (folder / name).rglob(PARTS))):
        with contextlib.suppress(OSError):  # its writer lives, or it is gone meanwhile
            handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(handle).st_mode):
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink()
            finally:
                os.close(handle)


def refuse_link(path: Path) -> None:
    """Refuse a symbolic link where a study is to be written.

    Raises:
        StoreError: It is one.
    """
    if path.is_symlink():
        raise StoreError(
            f"{path} is a symbolic link to {os.readlink(path)}. isoflop writes through no link inside a study's folder, for it could overwrite files that are "  # noqa: PTH115  # as it was written
            "not the study's. Move the files themselves there, or make the whole study folder a link."
        )


def own_folder(folder: Path) -> Path:
    """Return a folder inside a study, made if it is not there, never through a link.

    Raises:
        StoreError: It is a link, or cannot be made.
    """
    refuse_link(folder)
    return make_folder(folder)


def no_handles() -> bool:
    """Return whether this process can open no more files."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return False


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
    """Return what the system refused, why it matters and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause, cure = f"no space left to write {path}{_free(path)}", "Make room"
    elif error.errno == errno.EFBIG:
        cause, cure = f"{path} would be larger than this process may write", "Raise the limit (ulimit -f unlimited)"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        cause, cure = f"{path} may not be written ({_reason(error)})", "Take a folder you may write to"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        cause, cure = f"{path} cannot be made, for a part of that path is a file, not a folder", "Take another folder"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        cause, cure = f"{path} could not be opened: too many files are open", "Raise the limit (ulimit -n)"
    elif error.errno == errno.ELOOP:
        cause, cure = f"{path} is a symbolic link, and isoflop writes through none inside a study", "Remove it"
    elif error.errno in (errno.EISDIR, errno.EBUSY, errno.ENOTEMPTY) and path.is_dir():
        cause, cure = f"{path} cannot be written as a file, for it is a folder", "Take another name"
    else:
        cause, cure = f"{path} could not be written ({_reason(error)})", "Fix the cause"
    return StoreError(f"{cause}. Nothing that was finished is lost. {cure}, then run the same command again.")


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
    write(folder / RECORD, sign(fields))
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
    fields = signed(path)
    try:
        record = RunRecord.model_validate(fields)
        id_ = record.spec.id
    except ValidationError as error:
        raise damaged(path, f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    except (ValueError, ArithmeticError) as error:  # numbers of hundreds of digits
        raise damaged(path, str(error)) from None
    if record.id != id_:
        raise damaged(path, f"its id {record.id} is not that of its spec, {id_}")
    return record


def sign(fields: dict[str, object]) -> bytes:
    """Return fields as a JSON file with a digest of itself."""
    return canonical(fields | {"sha256": _sha256(canonical(fields))})


def signed(path: Path, *, unsigned: bool = False) -> dict[str, object]:
    """Return the fields of a file that `sign` made, without the digest.

    Args:
        path: Of the file.
        unsigned: Accept one without a digest: earlier versions wrote such.

    Raises:
        StoreError: Not there, or not what was written.
    """
    fields = read_json(path)
    if unsigned and "sha256" not in fields:
        return fields
    claimed = fields.pop("sha256", None)
    try:
        sound = claimed == _sha256(canonical(fields)) and canonical(fields | {"sha256": claimed}) == read(
            path
        )  # the last digit of a number may change no value
    except (ValueError, RecursionError) as error:  # NaN or an infinity, which JSON does not have
        raise damaged(path, str(error)) from None
    if not sound:
        raise damaged(path, "its digest does not match its content")
    return fields


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
    except (ValueError, ArithmeticError, UnknownNameError) as error:
        raise damaged(folder / SPEC, str(error)) from None


def damaged(path: Path, why: str) -> DamageError:
    """Return the error for a file that is not what was written."""
    return DamageError(
        f"{path} is damaged or cut short: {why}. Its run cannot be used as it is. "
        "Start `isoflop run` again: the damaged file is kept under another name and that run is trained again."
    )


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        StoreError: Not there, or not a JSON object.
    """
    try:
        fields = json.loads(read(path))
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits, which Python does not read
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
        raise StoreError(f"{path} cannot be read ({_reason(error)}). Nothing is lost. Fix the cause, then run the same command again.") from None


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
