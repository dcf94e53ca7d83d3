"""The state of a running training loop: all that a step reads and writes, and all that a checkpoint must hold."""

import functools
import importlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from isoflop import _registry, data
from isoflop.arch import ParamGroups, _kernels
from isoflop.data import Corpus
from isoflop.errors import MemoryShortError, TrainError
from isoflop.runs import Cosine, RunSpec
from isoflop.train import _machine, divergence, optim
from isoflop.train.checkpoint import Checkpoint
from isoflop.train.divergence import LOOK
from isoflop.train.schedule import factor
from isoflop.train.world import Alone, World

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run is trained on. Nothing here changes its result beyond the last digits."""

    device: str = "cpu"  # or one of PyTorch's
    world: World = field(default_factory=Alone)  # the processes that train it together
    micro: int = 1  # parts to work a batch through in, for want of memory
    compiled: bool = False  # by torch.compile
    deterministic: bool = False  # on a GPU, algorithms alone that give the same bits every time; a CPU's do


class Unloadable(Exception):  # noqa: N818  # it is passed over
    """A sound checkpoint whose tensors are not those of this version."""


USUAL = Machine()
THEN = " then "


class State:
    """A run after some steps.

    Attributes:
        step: Steps done.
        seconds: Of training, over all attempts.
        losses: Of shape (steps,), nats per token, on the machine's device; those of steps to come are NaN.
        micro: Parts that a batch is worked through in, for want of memory; the gradients are those of the whole up to rounding.
        deterministic: Whether all of its steps were taken by deterministic algorithms, by choice.
        made: The versions, commit and device that its steps were taken with, each once, in the order in which they were first met.
    """

    def __init__(self, spec: RunSpec, corpus: Corpus, module: nn.Module, *, machine: Machine) -> None:
        self.spec, self.machine, self.module = spec, machine, module
        placed, self.optimizer = machine.world.place(module, spec.optimizer)
        self._call: Callable[..., Tensor] = _compiled(placed, machine) if machine.compiled else placed
        self._placed = placed
        self.batches = data.Batches(corpus, seed=spec.seed, batch=spec.batch, context=spec.shape.context)
        self.losses = torch.full((spec.steps,), math.nan, device=machine.device)
        self.step, self.seconds, self.micro, self.deterministic = 0, 0.0, machine.micro, machine.deterministic
        kernels = cast("_kernels.Kernels | None", module.kernels)
        self.made: Mapping[str, str] = {
            **_machine.versions(),
            "kernels": "PyTorch's" if kernels is None else kernels.made_by,
            "commit": _machine.commit(),
            "device": _machine.device(machine.device, threads=spec.threads),
        }

    @classmethod
    def begin(cls, spec: RunSpec, corpus: Corpus, *, resume: Checkpoint | None, machine: Machine = USUAL) -> Self:
        """A run at its start, or where a checkpoint left it.

        Raises:
            TrainError: The module is not what its shape counts.
            Unloadable: The checkpoint does not fit the run as this version trains it.
            UsageError: There is no such device.
        """
        module = build(spec)
        if counted(module) != spec.shape.params:
            raise TrainError(f"{spec.shape.arch} at width {spec.shape.d_model} was built with {counted(module)}, but its shape counts {spec.shape.params}.")
        if resume is not None:  # the same bits only in the same way
            machine = replace(machine, compiled=bool(resume.notes.get("compiled", False)))
        _machine.check(machine.device)
        if _takes_kernels(spec, machine) and (resume is None or resume.notes.get("kernels") is True):
            module.kernels = cast("Any", _kernels.load())
        state = cls(spec, corpus, module.to(machine.device), machine=machine)
        if resume is not None:
            state._resume(resume)
        return state

    def _resume(self, checkpoint: Checkpoint) -> None:
        tensors = dict(checkpoint.tensors)
        try:
            self.losses[: checkpoint.step] = tensors.pop("losses")
            self.optimizer.load(tensors)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            if out_of_memory(error):
                raise
            raise Unloadable(f"{type(error).__name__}: {error}") from None
        self.step, self.seconds, self.micro = checkpoint.step, checkpoint.seconds, max(self.machine.micro, _whole(checkpoint.notes.get("micro")))
        self.deterministic = self.machine.deterministic and checkpoint.notes.get("deterministic") is True
        self.made = _joined(checkpoint.notes.get("made"), self.made)

    def advance(self) -> None:
        """Take one step; where memory runs out, again with half as many sequences at a time.

        Raises:
            MemoryShortError: Memory runs out even for one sequence at a time.
        """
        while True:
            try:
                loss = self._gradients()
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.machine.world.size > 1:  # one process that halves by itself would leave the others waiting
                    raise
                self._halve()
        self.losses[self.step] = self.machine.world.mean(loss)
        self.optimizer.step(self.spec.lr * factor(self.spec.schedule, self.step, self.spec.steps))
        self.step += 1

    def checkpoint(self) -> Checkpoint:
        """All that `begin` needs to go on; tensors are the state's own, not copies."""
        notes: dict[str, JsonValue] = {"run": self.spec.id, "micro": self.micro, "deterministic": self.deterministic, "made": dict(self.made)}
        notes |= {"compiled": self.machine.compiled, "kernels": self.module.kernels is not None}
        return Checkpoint(self.step, self.seconds, {**self.optimizer.state(), "losses": self.losses[: self.step]}, notes)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, whole and on the CPU; every process of a world must ask."""
        return {name: optim.whole(p.detach()).cpu().contiguous() for name, p in self.module.named_parameters()}

    @property
    def recent(self) -> float:
        """Mean loss over the last steps."""
        return float(self.losses[max(0, self.step - LOOK) : self.step].mean())

    def trouble(self) -> str:
        """Why the run has diverged, or nothing; to be asked at fixed steps."""
        spec = self.spec
        warmup = round(spec.schedule.warmup * spec.steps) if isinstance(spec.schedule, Cosine) else spec.schedule.warmup_steps
        return divergence.trouble(self.losses, step=self.step, steps=spec.steps, warmup=warmup)

    def _gradients(self) -> Tensor:
        """Add the batch's gradient to that of the parameters; its mean loss."""
        inputs_BT, targets_BT = map(self.machine.world.share, self.batches[self.step])
        if self.micro == 1:
            loss: Tensor = self._loss(inputs_BT, targets_BT)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return loss.detach()
        *before, last = zip(inputs_BT.chunk(self.micro), targets_BT.chunk(self.micro), strict=True)
        with self.machine.world.held_back(self._placed):
            total = sum((self._part(*part, of=len(inputs_BT)) for part in before), start=torch.zeros((), device=self.machine.device))
        return total + self._part(*last, of=len(inputs_BT))

    def _part(self, inputs_BT: Tensor, targets_BT: Tensor, *, of: int) -> Tensor:
        """Add the gradient of some of a batch's sequences; what they add to the mean loss."""
        loss = self._loss(inputs_BT, targets_BT) * (len(inputs_BT) / of)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _loss(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        inputs_BT, targets_BT = inputs_BT.to(self.machine.device, non_blocking=True), targets_BT.to(self.machine.device, non_blocking=True)
        loss: Tensor = self._call(inputs_BT, targets_BT, z_loss=self.spec.z_loss)
        return loss

    def _halve(self) -> None:
        self.optimizer.clear()
        if self.machine.device != "cpu":
            torch.cuda.empty_cache()
        rows = len(self.machine.world.share(self.batches[self.step][0]))
        if self.micro >= rows:
            raise MemoryShortError(
                f"memory ran out with one sequence of {self.spec.shape.context} tokens at a time. End other programs, or take a smaller model."
            )
        self.micro = min(rows, 2 * self.micro)


def _compiled(module: nn.Module, machine: Machine) -> Callable[..., Tensor]:
    """On a GPU with its kernels recorded as one CUDA graph, for small models spend their time in launching them."""
    mode = "reduce-overhead" if machine.device.startswith("cuda") else "default"
    return torch.compile(module, mode=mode, dynamic=False)


def _takes_kernels(spec: RunSpec, machine: Machine) -> bool:
    """Whether a run is for our kernels in C: they are for one core of a processor, and a compiler must see every operation."""
    return machine.device == "cpu" and spec.threads == 1 and not machine.compiled


def build(spec: RunSpec) -> nn.Module:
    """The fresh module of a run."""
    family = _registry.load("isoflop.arch", spec.shape.arch, noun="architecture")
    module: Any = importlib.import_module(f"{family.__name__}.module").build(spec.shape, seed=spec.seed)
    module.precision = spec.precision
    assert isinstance(module, nn.Module)
    return module


def counted(module: nn.Module) -> ParamGroups:
    """Parameters of a module by group: each parameter's own name begins with that of its group."""
    groups = Counter[str]()
    for name, parameter in module.named_parameters():
        groups[_group(name)] += parameter.numel()
    return ParamGroups(**{group: groups[group] for group in ParamGroups.model_fields})


@functools.cache
def _group(name: str) -> str:
    own = name.rsplit(".", 1)[-1]
    return next(group for group in ParamGroups.model_fields if own.startswith(group))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 1


def _joined(before: object, now: Mapping[str, str]) -> Mapping[str, str]:
    """What a run was made with until a checkpoint, then what it goes on with where that is new: "2.12.0 then 2.13.0"."""

    def one(name: str, value: str) -> str:
        was = before.get(name) if isinstance(before, Mapping) else None
        if not isinstance(was, str) or not was:  # no commit, outside a checkout
            return value
        return was if not value or value in was.split(THEN) else f"{was}{THEN}{value}"

    return {name: one(name, value) for name, value in now.items()}


def out_of_memory(error: Exception) -> bool:
    """Return whether an exception says that memory ran out."""
    # the CPU's allocator raises a bare RuntimeError, and PyTorch makes one of C++'s own exception
    words = ("can't allocate memory", "not enough memory", "std::bad_alloc")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(w in str(error) for w in words)
