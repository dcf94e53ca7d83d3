"""Train: one RunSpec -> one RunRecord, the same bits every time, wherever it was stopped in between."""

import importlib.util

from isoflop.errors import MissingExtraError

if importlib.util.find_spec("torch") is None:
    raise MissingExtraError("torch", extra="train", needed_for="Training")

from isoflop.train.loop import Interrupted, Progress, seconds_per_step, train

__all__ = ["Interrupted", "Progress", "seconds_per_step", "train"]
