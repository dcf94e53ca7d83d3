"""Token shards on disk."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write(path: Path, blocks: Iterable[NDArray[np.unsignedinteger]]) -> tuple[int, str]:
    """Write the blocks; return how many tokens they are, and their SHA-256."""
    digest, tokens = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            content = block.tobytes()
            file.write(content)
            digest.update(content)
            tokens += block.size
        file.flush()
        os.fsync(file.fileno())
    return tokens, digest.hexdigest()


def finished(path: Path) -> str:
    """Make a file outlive a power cut; return its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
