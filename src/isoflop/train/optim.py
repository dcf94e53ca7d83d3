"""AdamW over one flat buffer: at small sizes a step's cost is the number of operations, not their size."""

import math
from typing import Self

import torch
from torch import Tensor, nn

from isoflop.runs import AdamW


class FlatAdamW:
    """AdamW with global-norm clipping on all parameters at once.

    The module's parameters become views of one buffer, matrices first, so that clipping is one norm and the update two fused calls.
    Weight decay acts on matrices alone (Loshchilov & Hutter 2019; all else left out as in Brown et al. 2020 and nearly everywhere since).
    """

    def __init__(self, parameters: list[nn.Parameter], settings: AdamW) -> None:
        ordered = sorted(parameters, key=lambda p: p.ndim != 2)  # stable: matrices first
        self._settings = settings
        self._matrices = sum(p.numel() for p in ordered if p.ndim == 2)
        self.flat = torch.cat([p.detach().reshape(-1) for p in ordered])
        self._grad = torch.zeros_like(self.flat)
        offset = 0
        for p in ordered:
            size = p.numel()
            p.data = self.flat[offset : offset + size].view_as(p)
            p.grad = self._grad[offset : offset + size].view_as(p)
            offset += size
        parts = [nn.Parameter(self.flat[: self._matrices]), nn.Parameter(self.flat[self._matrices :])]
        for part, grad in zip(parts, (self._grad[: self._matrices], self._grad[self._matrices :]), strict=True):
            part.grad = grad
        self._adamw = torch.optim.AdamW(
            [{"params": [parts[0]], "weight_decay": settings.weight_decay}, {"params": [parts[1]], "weight_decay": 0.0}],
            lr=0.0,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Clip the gradient, take one step, and clear the gradient."""
        norm = float(torch.linalg.vector_norm(self._grad))
        if norm > self._settings.clip:
            self._grad.mul_(self._settings.clip / norm)
        if math.isfinite(norm):
            for group in self._adamw.param_groups:
                group["lr"] = lr
            self._adamw.step()
        self._grad.zero_()

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load` restores, parameters included."""
        tensors = {"params": self.flat}
        for i, group in enumerate(self._adamw.param_groups):
            for name, value in self._adamw.state[group["params"][0]].items():
                tensors[f"{name}.{i}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Restore what `state` gave."""
        with torch.no_grad():
            self.flat.copy_(tensors["params"])
        for i, group in enumerate(self._adamw.param_groups):
            self._adamw.state[group["params"][0]] = {name.removesuffix(f".{i}"): value.clone() for name, value in tensors.items() if name.endswith(f".{i}")}
        return self
