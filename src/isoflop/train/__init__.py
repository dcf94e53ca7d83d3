"""Train: one RunSpec -> one RunRecord, the same bits every time, wherever it was stopped in between."""

import importlib.util

from isoflop.errors import MissingExtraError

if importlib.util.find_spec("torch") is None:
    raise MissingExtraError("torch", extra="train", needed_for="Training")

from isoflop.train._machine import present
from isoflop.train.compiling import decide
from isoflop.train.loop import Interrupted, Progress, Trunk, seconds_per_step, train
from isoflop.train.state import Machine, out_of_memory

__all__ = ["Interrupted", "Machine", "Progress", "Trunk", "decide", "out_of_memory", "present", "seconds_per_step", "train"]
