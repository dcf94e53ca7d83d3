"""Loss on the fixed validation set."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from isoflop import data

CHUNK = 4096  # tokens a forward pass; fixed, so that every run's sums are taken in one order


class Score(NamedTuple):
    """Loss of a model on the validation set."""

    loss: float  # nats per token
    bits_per_byte: float


@torch.inference_mode()
def evaluate(module: nn.Module, corpus: data.Corpus, *, tokens: int, context: int, device: str = "cpu", tick: Callable[[], None]) -> Score:
    """Mean loss over `tokens` spread evenly over the validation set, summed in float64 in a fixed order; `tick` is called after every forward pass.

    Raises:
        CorpusError: The validation set is shorter.
    """
    inputs_NT, targets_NT = data.validation(corpus, tokens=tokens, context=context)
    rows = max(1, CHUNK // context)
    total = 0.0
    for start in range(0, len(inputs_NT), rows):
        inputs_BT, targets_BT = (tokens_NT[start : start + rows].to(device) for tokens_NT in (inputs_NT, targets_NT))
        total += float(module(inputs_BT, targets_BT, reduction="sum"))
        tick()
    return Score(total / inputs_NT.numel(), total / math.log(2) / data.validation_bytes(corpus, tokens=tokens, context=context))
