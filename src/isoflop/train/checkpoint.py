"""Checkpoints: tensors as safetensors, a manifest with their SHA-256, written aside and renamed, the last two kept."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from isoflop.store import files

KEEP = 2
TENSORS, MANIFEST = "state.safetensors", "manifest.json"


class Checkpoint(NamedTuple):
    """The state of a run after some steps."""

    step: int  # steps done
    seconds: float  # training time so far, over all attempts
    tensors: dict[str, Tensor]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under folder/step-N; it is found by `newest` only once it is whole.

    Raises:
        StoreError: No space, or the folder cannot be written.
    """
    payload = save_tensors(checkpoint.tensors)
    manifest = {"step": checkpoint.step, "seconds": checkpoint.seconds, "bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    target = folder / f"step-{checkpoint.step:09d}"
    files.write(target / TENSORS, payload)
    files.write(target / MANIFEST, json.dumps(manifest).encode())  # last: a checkpoint without it is none
    for old in _steps(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def newest(folders: Iterable[Path]) -> Checkpoint | None:
    """The furthest checkpoint in any of the folders that is whole and unaltered; damaged ones are passed over."""
    found = sorted((step for folder in folders for step in _steps(folder)), key=lambda p: p.name, reverse=True)
    return next((c for c in map(_read, found) if c is not None), None)


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _read(step: Path) -> Checkpoint | None:
    try:
        manifest = json.loads((step / MANIFEST).read_bytes())
        payload = (step / TENSORS).read_bytes()
        if hashlib.sha256(payload).hexdigest() != manifest["sha256"]:
            return None
        return Checkpoint(int(manifest["step"]), float(manifest["seconds"]), load_tensors(payload))
    except (OSError, ValueError, KeyError, TypeError):
        return None
