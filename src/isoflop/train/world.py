"""The processes that train one run together: one alone, or those of a torchrun, each with its share of every batch.

Whatever the world, a run is the same run: the same batches, the same mean of the gradients, the same format of checkpoint, so that it can be begun in
one world and ended in another. Only the order of sums differs, and with it the last digits.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from isoflop.errors import TrainError
from isoflop.runs import AdamW, Muon
from isoflop.train import optim
from isoflop.train.optim import Optimizer

Parallel = Literal["ddp", "fsdp"]


class World(Protocol):
    """The processes of a run, as one of them sees them."""

    first: bool  # whether this process writes the files
    size: int  # processes

    def check_start(self, step: int) -> None:
        """Whether all processes go on from the same step; to be asked before anything else is exchanged."""

    def place(self, module: nn.Module, settings: AdamW | Muon) -> tuple[nn.Module, Optimizer]:
        """The module as it is to be called, and the optimiser of its parameters."""

    def share(self, tokens_BT: Tensor) -> Tensor:
        """This process's sequences of a batch."""

    def mean(self, loss: Tensor) -> Tensor:
        """Over all processes."""

    def agreed(self, step: int, wish: Callable[[], tuple[bool, ...]]) -> tuple[bool, ...]:
        """What the first process wishes, after a step; all processes get the same answer."""

    def held_back(self, module: nn.Module) -> Any:
        """A context in which gradients are summed but not yet exchanged."""


class Alone:
    """One process."""

    first, size = True, 1

    def check_start(self, step: int) -> None:
        pass

    def place(self, module: nn.Module, settings: AdamW | Muon) -> tuple[nn.Module, Optimizer]:
        return module, optim.make(module, settings)

    def share(self, tokens_BT: Tensor) -> Tensor:
        return tokens_BT

    def mean(self, loss: Tensor) -> Tensor:
        return loss

    def agreed(self, step: int, wish: Callable[[], tuple[bool, ...]]) -> tuple[bool, ...]:  # noqa: ARG002  # it can be asked at any step
        return wish()

    def held_back(self, module: nn.Module) -> Any:  # noqa: ARG002  # there is nobody to exchange with
        return nullcontext()


class Together:
    """One of the processes of a torchrun, whose process group is up; see `joined`."""

    EVERY = 10  # steps between agreements: one small broadcast each

    def __init__(self, parallel: Parallel, device: str) -> None:
        self._parallel, self._device = parallel, device
        self._rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.first = self._rank == 0

    def check_start(self, step: int) -> None:
        """As `World.check_start`.

        Raises:
            TrainError: They do not; raised in all of them.
        """
        ends = torch.tensor([step, -step], device=self._device)
        torch.distributed.all_reduce(ends, op=torch.distributed.ReduceOp.MAX)
        most, least = int(ends[0]), -int(ends[1])
        if most != least:
            raise TrainError(
                f"the processes of this run would go on from different steps, {least} to {most}, with gradients of different batches. Each looks for "
                "checkpoints in its own FOLDER, and these are not the same: give all of them one folder, on a disk that they share, and start again."
            )

    def place(self, module: nn.Module, settings: AdamW | Muon) -> tuple[nn.Module, Optimizer]:
        """As `World.place`.

        Raises:
            TrainError: Muon, whose update needs whole matrices, with parameters in pieces.
        """
        if self._parallel == "fsdp":
            if isinstance(settings, Muon):
                raise TrainError('Muon works on whole matrices, and fsdp cuts them into pieces. Take --parallel ddp, or optimizer = "adamw".')
            return _sharded(module), optim.ShardedAdamW(module, settings)
        optimizer = optim.make(module, settings)  # first: it moves the parameters into one buffer
        return nn.parallel.DistributedDataParallel(module), optimizer

    def share(self, tokens_BT: Tensor) -> Tensor:
        """As `World.share`.

        Raises:
            TrainError: The batch is not as many sequences for every process.
        """
        rows = len(tokens_BT)
        if rows % self.size:
            raise TrainError(f"{rows} sequences a step cannot be shared evenly by {self.size} processes. Start a number that divides {rows}.")
        return tokens_BT.view(self.size, rows // self.size, -1)[self._rank]

    def mean(self, loss: Tensor) -> Tensor:
        total = loss.clone()
        torch.distributed.all_reduce(total)
        return total / self.size

    def agreed(self, step: int, wish: Callable[[], tuple[bool, ...]]) -> tuple[bool, ...]:
        if step % self.EVERY:
            return tuple(False for _ in wish())
        flags = torch.tensor(wish(), dtype=torch.int32, device=self._device)
        torch.distributed.broadcast(flags, src=0)
        return tuple(bool(flag) for flag in flags.tolist())

    @contextmanager
    def held_back(self, module: nn.Module) -> Iterator[None]:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            with module.no_sync():
                yield
            return
        sharded = cast("Any", module)
        sharded.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            sharded.set_requires_gradient_sync(True)


@contextmanager
def joined(parallel: Parallel) -> Iterator[tuple[Together, str]]:
    """The world that torchrun started this process in, and this process's device.

    Raises:
        TrainError: It was not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise TrainError(f"--parallel {parallel} is for processes that torchrun starts: torchrun --nproc-per-node 2 -m isoflop.train ... Or leave it out.")
    cuda = torch.cuda.is_available()
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Together(parallel, device), device
    finally:
        torch.distributed.destroy_process_group()


def _sharded(module: nn.Module) -> nn.Module:
    """FSDP2: every block is gathered when it is its turn."""
    from torch.distributed.fsdp import fully_shard

    for block in cast("nn.ModuleList", module.blocks):
        fully_shard(block)
    fully_shard(module)
    return module
