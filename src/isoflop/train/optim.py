"""Optimisers over one flat buffer: at small sizes a step's cost is the number of operations, not their size."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from isoflop.runs import AdamW, Muon


class Optimizer(Protocol):
    """What the loop needs of an optimiser."""

    def step(self, lr: float) -> None:
        """Clip the gradient, take one step, and clear the gradient."""

    def clear(self) -> None:
        """Clear the gradient."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load` restores, parameters included; the optimiser's own, not copies."""

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Restore what `state` gave."""


def make(module: nn.Module, settings: AdamW | Muon) -> Optimizer:
    """The optimiser of a module's parameters."""
    if isinstance(settings, AdamW):
        return FlatAdamW(list(module.parameters()), settings)
    return FlatMuon(list(module.named_parameters()), settings)


class _Flat:
    """Parameters as views of one buffer, and their gradients of another, so that clipping is one norm."""

    def __init__(self, ordered: Sequence[nn.Parameter], *, clip: float) -> None:
        self._clip = clip
        self.flat = torch.cat([p.detach().reshape(-1) for p in ordered])
        self._grad = torch.zeros_like(self.flat)
        for p, (start, end) in zip(ordered, _spans(ordered), strict=True):
            p.data = self.flat[start:end].view_as(p)
            p.grad = self._grad[start:end].view_as(p)

    def part(self, start: int, end: int) -> nn.Parameter:
        """A stretch of the buffer as one parameter."""
        part = nn.Parameter(self.flat[start:end])
        part.grad = self._grad[start:end]
        return part

    @torch.no_grad()
    def clipped(self) -> bool:
        """Clip the gradient; False if it is not finite, and so is no direction to go."""
        norm = float(torch.linalg.vector_norm(self._grad))
        if norm > self._clip:
            self._grad.mul_(self._clip / norm)
        return math.isfinite(norm)

    def clear(self) -> None:
        self._grad.zero_()


class FlatAdamW:
    """AdamW with global-norm clipping on all parameters at once.

    The module's parameters become views of one buffer, matrices first, so that clipping is one norm and the update two fused calls.
    Weight decay acts on matrices alone (Loshchilov & Hutter 2019; all else left out as in Brown et al. 2020 and nearly everywhere since).
    """

    def __init__(self, parameters: list[nn.Parameter], settings: AdamW) -> None:
        ordered = sorted(parameters, key=lambda p: p.ndim != 2)  # stable: matrices first
        self._flat = _Flat(ordered, clip=settings.clip)
        self._adamw = _adamw(self._flat, 0, sum(p.numel() for p in ordered if p.ndim == 2), settings)

    @property
    def flat(self) -> Tensor:
        """All parameters."""
        return self._flat.flat

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Clip the gradient, take one step, and clear the gradient."""
        if self._flat.clipped():
            _at(self._adamw, lr)
        self.clear()

    def clear(self) -> None:
        """Clear the gradient."""
        self._flat.clear()

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load` restores, parameters included."""
        return {"params": self.flat, **_held(self._adamw, "")}

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Restore what `state` gave."""
        self.flat.detach().copy_(tensors["params"])
        _restore(self._adamw, "", tensors)
        return self


class FlatMuon:
    """Muon (Jordan et al. 2024) on the matrices of the blocks; FlatAdamW's update on embedding, head and all that is no matrix.

    An update is scaled to the root mean square of AdamW's (Liu et al. 2025, "Muon is scalable for LLM training", Eq. 4): one learning rate does for both.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], settings: Muon) -> None:
        inside = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
        rest = sorted((p for name, p in named if not (name.startswith("blocks.") and p.ndim == 2)), key=lambda p: p.ndim != 2)
        self._settings = settings
        self._flat = _Flat([*inside, *rest], clip=settings.clip)
        first = sum(p.numel() for p in inside)
        self._adamw = _adamw(self._flat, first, first + sum(p.numel() for p in rest if p.ndim == 2), settings.adamw)
        self._muon = torch.optim.Muon(inside, lr=0.0, weight_decay=settings.adamw.weight_decay, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Clip the gradient, take one step, and clear the gradient."""
        if self._flat.clipped():
            _at(self._adamw, lr)
            _at(self._muon, lr * self._settings.lr)
        self.clear()

    def clear(self) -> None:
        """Clear the gradient."""
        self._flat.clear()

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load` restores, parameters included."""
        return {"params": self._flat.flat, **_held(self._adamw, ""), **_held(self._muon, "muon.")}

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Restore what `state` gave."""
        self._flat.flat.copy_(tensors["params"])
        _restore(self._adamw, "", tensors)
        _restore(self._muon, "muon.", tensors)
        return self


def _spans(ordered: Sequence[nn.Parameter]) -> Iterator[tuple[int, int]]:
    ends = list(itertools.accumulate((p.numel() for p in ordered), initial=0))
    return itertools.pairwise(ends)


def _adamw(flat: _Flat, start: int, matrices: int, settings: AdamW) -> torch.optim.AdamW:
    """AdamW on the buffer from `start`: decayed up to `matrices`, not decayed from there."""
    groups = [
        {"params": [flat.part(start, matrices)], "weight_decay": settings.weight_decay},
        {"params": [flat.part(matrices, flat.flat.numel())], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(settings.beta1, settings.beta2), fused=True)


def _at(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def _held(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimiser keeps of its parameters, by name and number."""
    parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
    return {f"{prefix}{name}.{i}": value for i, p in enumerate(parameters) for name, value in optimizer.state[p].items()}


def _restore(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor]) -> None:
    parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for i, p in enumerate(parameters):
        names = (name for name in tensors if name.startswith(prefix) and name.endswith(f".{i}") and name.count(".") == prefix.count(".") + 1)
        optimizer.state[p] = {name.removeprefix(prefix).removesuffix(f".{i}"): tensors[name].to(p.device, copy=True) for name in names}


class ShardedAdamW:
    """AdamW of parameters that FSDP2 cut into pieces (DTensor); its state is that of FlatAdamW, gathered, so that a checkpoint fits either."""

    def __init__(self, module: nn.Module, settings: AdamW) -> None:
        self._settings = settings
        self._ordered = sorted(module.parameters(), key=lambda p: p.ndim != 2)
        self._matrices = sum(p.ndim == 2 for p in self._ordered)
        groups = [
            {"params": self._ordered[: self._matrices], "weight_decay": settings.weight_decay},
            {"params": self._ordered[self._matrices :], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=(settings.beta1, settings.beta2), foreach=True)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Clip the gradient, take one step, and clear the gradient."""
        norm = nn.utils.clip_grad_norm_(self._ordered, self._settings.clip)
        if math.isfinite(float(whole(norm))):
            _at(self._adamw, lr)
        self.clear()

    def clear(self) -> None:
        """Clear the gradient."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """As `FlatAdamW.state`; all processes must ask at once."""
        tensors = {"params": self._joined([p.detach() for p in self._ordered])}
        for i, part in enumerate((self._ordered[: self._matrices], self._ordered[self._matrices :])):
            held = [self._adamw.state[p] for p in part]
            if all(held):
                tensors[f"step.{i}"] = held[0]["step"].detach().clone()
                for name in ("exp_avg", "exp_avg_sq"):
                    tensors[f"{name}.{i}"] = self._joined([h[name] for h in held])
        return tensors

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Restore what `state` gave, or what `FlatAdamW.state` did."""
        for p, value in zip(self._ordered, _split(tensors["params"], self._ordered), strict=True):
            p.copy_(_like(p, value))
        for i, part in enumerate((self._ordered[: self._matrices], self._ordered[self._matrices :])):
            if f"step.{i}" not in tensors:
                continue
            moments = [_split(tensors[f"{name}.{i}"], part) for name in ("exp_avg", "exp_avg_sq")]
            for p, first, second in zip(part, *moments, strict=True):
                self._adamw.state[p] = {"step": tensors[f"step.{i}"].clone(), "exp_avg": _like(p, first), "exp_avg_sq": _like(p, second)}
        return self

    @staticmethod
    def _joined(pieces: Sequence[Tensor]) -> Tensor:
        return torch.cat([whole(piece).reshape(-1) for piece in pieces])


def whole(piece: Tensor) -> Tensor:
    """All of a tensor of which each process has a piece."""
    full: Tensor = piece.full_tensor() if isinstance(piece, DTensor) else piece
    return full


def _split(flat: Tensor, shapes: Sequence[Tensor]) -> list[Tensor]:
    """A flat tensor in pieces of these shapes."""
    return [piece.view(shape.shape) for piece, shape in zip(torch.split(flat, [shape.numel() for shape in shapes]), shapes, strict=True)]


def _like(p: Tensor, value: Tensor) -> Tensor:
    """A whole tensor in the pieces of a parameter."""
    if not isinstance(p, DTensor):
        return value.clone()
    pieces: Tensor = distribute_tensor(value.to(p.device), p.device_mesh, p.placements)
    return pieces
