"""A checkpoint as a folder on disk, there whole or not at all, and known for damaged if a bit of it changed.

step-000000400/state.safetensors   the tensors
step-000000400/manifest.json       step, seconds, notes, the digest of the tensors, and one of itself
.step-000000400.1f2e3d4c.part/     one being written; it is locked, so that what the dead left behind is known for that
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pydantic import JsonValue
from torch import Tensor

from isoflop.store import files
from isoflop.train import _safetensors

TENSORS, MANIFEST = "state.safetensors", "manifest.json"
LONGEST = 1 << 20  # bytes of a manifest; a longer file is none of ours, and not read
FORMAT = 1  # of a checkpoint; manifests without the key are of it


class Checkpoint(NamedTuple):
    """The state of a run after some steps."""

    step: int  # steps done
    seconds: float  # training time so far, over all attempts
    tensors: dict[str, Tensor]
    notes: Mapping[str, JsonValue] = MappingProxyType({})  # small facts
    path: Path | None = None  # where it was read from


class Unreadable(Exception):  # noqa: N818  # it is passed over
    """A checkpoint that is damaged, or of a format that this version does not read."""


class _Manifest(NamedTuple):
    step: int
    seconds: float
    notes: Mapping[str, JsonValue]
    bytes: int
    sha256: str


def steps(folder: Path) -> tuple[int, ...]:
    """Of which there is something in a folder, in order; not looked into."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return ()
    numbers = {int(digits) for name in names if (digits := name.removeprefix("step-")).isdecimal()}
    return tuple(sorted(step for step in numbers if place(folder, step).name in names))


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint after some steps is kept."""
    return folder / f"step-{step:09d}"


def write(folder: Path, checkpoint: Checkpoint, *, run: str | None = None) -> None:
    """Write a checkpoint, its tensors on the CPU; it has its name only once it would outlive a power cut.

    Args:
        folder: Made if it is not there.
        checkpoint: Not written if there is a sound one of that step already.
        run: Whose that one must be to stay; None for anybody's.

    Raises:
        StoreError: No space, or the folder cannot be written; nothing is left behind.
    """
    target = place(folder, checkpoint.step)
    try:
        files.make_durably(folder)
        with _part(target) as part:
            _fill(part, checkpoint)
            _rename(part, target, stays=lambda: read(folder, checkpoint.step, run=run) is not None)
        files.sync(folder)
    except OSError as error:
        raise files.in_words(error, target) from error


def read(folder: Path, step: int, *, run: str | None = None) -> Checkpoint | None:
    """Return the checkpoint after some steps; None if it is not there, not what was written, or of another run than the named one."""
    try:
        return inspect(folder, step, run=run)
    except Unreadable:
        return None


def inspect(folder: Path, step: int, *, run: str | None = None) -> Checkpoint | None:
    """Return the checkpoint after some steps; None if it is of another run than the named one.

    Raises:
        Unreadable: It cannot be used, with the reason.
    """
    path = place(folder, step)
    try:
        manifest = _manifest(path / MANIFEST)
        if run not in {None, manifest.notes.get("run")}:
            return None
        if manifest.step != step:
            return None
        return Checkpoint(step, manifest.seconds, _safetensors.tensors(_payload(path / TENSORS, manifest)), manifest.notes, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise Unreadable(f"the checkpoint {path} is damaged ({error})") from None


def remove(path: Path) -> None:
    """Remove a folder, or whatever has its name; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def clear(folder: Path) -> None:
    """Remove what writers that died left half-written."""
    for part in folder.glob(".step-*.part"):
        with contextlib.suppress(OSError):  # its writer lives, or it is gone meanwhile
            handle = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(part)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _part(target: Path) -> Iterator[Path]:
    """A folder to write into, which is gone afterwards if it was not renamed."""
    part, handle = _locked(target)
    try:
        yield part
    finally:
        remove(part)  # a part must not eat the space that is missing
        os.close(handle)


def _locked(target: Path) -> tuple[Path, int]:
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        part.mkdir()
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(part, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if part.is_dir():
                return part, handle
            os.close(handle)  # before it was locked another writer took it for a dead one's


def _rename(part: Path, target: Path, *, stays: Callable[[], bool]) -> None:
    """Give a part its name. A run has one state after a number of steps: if it is here already, that one stays."""
    for _ in range(3):  # other writers may do the same meanwhile
        with contextlib.suppress(OSError):
            part.rename(target)
            return
        if stays():
            return
        remove(target)
    part.rename(target)


def _fill(part: Path, checkpoint: Checkpoint) -> None:
    digest, size = _put(part / TENSORS, _safetensors.pieces(checkpoint.tensors))
    fields: dict[str, object] = {
        "format": FORMAT,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "notes": dict(checkpoint.notes),
        "bytes": size,
        "sha256": digest,
    }
    _put(part / MANIFEST, (files.canonical(fields | {"digest": _digest(fields)}),))
    files.sync(part)


def _put(path: Path, pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Write a file that outlives a power cut; its SHA-256 and its size."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def _manifest(path: Path) -> _Manifest:
    data = bytes(_bytes(path, at_most=LONGEST))
    fields = json.loads(data)
    claimed = fields.pop("digest")
    if claimed != _digest(fields) or data != files.canonical(fields | {"digest": claimed}):  # the last digit of a number may change no value
        raise ValueError("its digest does not match its content")
    if fields.get("format", FORMAT) != FORMAT:
        raise Unreadable(f"the checkpoint {path.parent} has format {fields['format']}, and this version of isoflop reads format {FORMAT}")
    found = _Manifest(fields["step"], fields["seconds"], dict(fields["notes"]), fields["bytes"], fields["sha256"])
    if not math.isfinite(found.seconds):
        raise ValueError("a time that is no number")
    return found


def _payload(path: Path, manifest: _Manifest) -> bytearray:
    data = _bytes(path, at_most=manifest.bytes)
    if len(data) != manifest.bytes or hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ValueError("its digest does not match its content")
    return data


def _bytes(path: Path, *, at_most: int) -> bytearray:
    """The bytes of a file, which is looked at first: it may be endless, or a pipe that nobody writes into."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > at_most:
        raise ValueError("not a file that was written here")
    data = bytearray(status.st_size)
    with path.open("rb") as file:
        if file.readinto(data) != len(data):
            raise ValueError("it became shorter while it was read")
    return data


def _digest(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(files.canonical(dict(fields))).hexdigest()
