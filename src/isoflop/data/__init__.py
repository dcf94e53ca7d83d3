"""Text -> token shards -> batches by (seed, step).

    sources      what a study calls its corpus -> files, or a dataset on the hub
    formats      one file -> its documents, streaming
    _decode      bytes -> text, without the lines that are not text
    _cut         text -> documents: split at separators, and cut where it is long
    spool        documents -> each once, in an order and on a side that its text alone decides
    tokenizer    text -> ids
    build        all of these -> a folder
    _stamps      the files that a folder was built from, so that changes are noticed
    corpus       the folder -> a checked Corpus
    account      what a corpus holds and excludes, in sentences
    order        which window comes when
    batches      the windows as tensors

Only the last needs torch, and it is loaded when used.
"""

import importlib
from typing import TYPE_CHECKING

from isoflop.data.account import summary, warnings
from isoflop.data.build import Request, build, find, keep_names, prepare
from isoflop.data.corpus import Corpus, epochs, load, validation_bytes, windows

if TYPE_CHECKING:
    from isoflop.data.batches import Batches, batch, validation

__all__ = [
    "Batches",
    "Corpus",
    "Request",
    "batch",
    "build",
    "epochs",
    "find",
    "keep_names",
    "load",
    "prepare",
    "summary",
    "validation",
    "validation_bytes",
    "warnings",
    "windows",
]


def __getattr__(name: str) -> object:
    """Load what needs torch when it is first used."""
    if name in {"Batches", "batch", "validation"}:
        return getattr(importlib.import_module("isoflop.data.batches"), name)
    msg = f"module 'isoflop.data' has no attribute {name!r}"
    raise AttributeError(msg)
