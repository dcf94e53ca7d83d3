"""What a launcher's processes train with."""

from dataclasses import dataclass

from isoflop.runs import Compile


@dataclass(frozen=True, kw_only=True)
class Means:
    """Of the machine; no word of it changes a result beyond the last digits."""

    device: str = "cpu"  # or one of PyTorch's, which then all workers share
    compile: Compile = "auto"
    deterministic: bool = False  # on a GPU, algorithms alone that give the same bits every time


USUAL = Means()
