"""Batches as a function of (seed, step): whichever process asks, and whenever, it gets the same tokens.

Legend: B sequences in a batch, T tokens in a sequence, S steps computed at once.
"""

import numpy as np
import torch
from torch import Tensor

from isoflop.data import order
from isoflop.data.corpus import Corpus, validation_windows, windows
from isoflop.errors import DesignError

_BLOCK_TOKENS = 1 << 17  # of all steps computed at once: 2 MB, while their common overhead is spread over up to 256 steps
_BLOCK_STEPS = 256


class Batches:
    """The batches of one run, by step.

    Windows of `context` + 1 tokens lie at stride `context` over the training shard; each epoch sees every window once, in an order of its own. A
    block of steps is computed at once and kept: that is memory of what was asked for, never part of the answer.
    """

    def __init__(self, corpus: Corpus, *, seed: int, batch: int, context: int, block: int | None = None) -> None:
        """Open the training shard.

        Args:
            corpus: Whose shards are whole.
            seed: Of the order.
            batch: Tokens a step; whole sequences.
            context: Tokens a sequence.
            block: Steps computed at once; None for as many as are quick.

        Raises:
            CorpusError: Under two windows of text.
            DesignError: A batch that is not whole sequences.
        """
        if batch < context or batch % context:
            raise DesignError(f"a batch of {batch} tokens is not whole sequences of {context}. Make the batch a multiple of the context.")
        self._n, self._seed, self._rows = windows(corpus, context), seed, batch // context
        self._windows_NT = np.lib.stride_tricks.sliding_window_view(corpus.tokens("train"), context + 1)[::context]
        self._steps = block or max(1, min(_BLOCK_STEPS, _BLOCK_TOKENS // batch))
        self._at = -1
        self._inputs_SBT = self._targets_SBT = torch.empty(0)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, int64, each of shape (batch // context, context); not to be written to."""
        at, within = divmod(step, self._steps)
        if at != self._at:
            self._compute(at)
        return self._inputs_SBT[within], self._targets_SBT[within]

    def _compute(self, at: int) -> None:
        first = at * self._steps * self._rows
        positions = np.arange(first, first + self._steps * self._rows)
        gathered_NT = self._windows_NT[order.windows(positions, n=self._n, seed=self._seed)].astype(np.int64)
        tokens_SBT = torch.from_numpy(gathered_NT).view(self._steps, self._rows, -1)
        self._at, self._inputs_SBT, self._targets_SBT = at, tokens_SBT[..., :-1].contiguous(), tokens_SBT[..., 1:].contiguous()


def batch(corpus: Corpus, *, seed: int, step: int, batch: int, context: int) -> tuple[Tensor, Tensor]:
    """Return one batch; `Batches` gives the same ones faster.

    Raises:
        CorpusError: As `Batches`.
        DesignError: As `Batches`.
    """
    return Batches(corpus, seed=seed, batch=batch, context=context, block=1)[step]


def validation(corpus: Corpus, *, tokens: int, context: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets spread evenly over the validation set, int64, each of shape (tokens // context, context).

    Raises:
        CorpusError: The validation set is shorter.
    """
    tokens_NT = torch.from_numpy(validation_windows(corpus, tokens=tokens, context=context).astype(np.int64))
    return tokens_NT[:, :-1].contiguous(), tokens_NT[:, 1:].contiguous()
