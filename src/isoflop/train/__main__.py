"""One run as one program, alone or under torchrun: spec.json in, record.json out.

    torchrun --nproc-per-node 2 -m isoflop.train FOLDER --corpus DATA --parallel fsdp

FOLDER holds spec.json, as the store writes it; what was trained there before is gone on from.
"""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from isoflop import data
from isoflop.errors import IsoflopError
from isoflop.store import files
from isoflop.train.loop import Progress, train
from isoflop.train.state import USUAL, Machine
from isoflop.train.world import joined


def main() -> int:
    """0 when the run has its record, 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m isoflop.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the run, with its spec.json")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the tokens, the study's data/")
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), help="the processes of a torchrun train it together, with whole models or with pieces")
    parser.add_argument("--device", default="cpu", help="of a run that one process trains alone")
    parser.add_argument("--micro", type=_whole, default=1, help="parts to work a batch through in")
    parser.add_argument("--deterministic", action="store_true", help="on a GPU, algorithms alone that give the same bits every time")
    asked = parser.parse_args()
    try:
        with joined(asked.parallel) if asked.parallel else nullcontext((USUAL.world, asked.device)) as (world, device):
            machine = Machine(device=device, world=world, micro=asked.micro, deterministic=asked.deterministic)
            tell = _tell if world.first else None
            train(files.read_spec(asked.folder), data.load(asked.corpus), folder=asked.folder, machine=machine, on_progress=tell)
    except IsoflopError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _whole(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of parts; take 1 or more")
    return int(text)


def _tell(now: Progress) -> None:
    sys.stderr.write(f"\rstep {now.step:,} of {now.steps:,}, loss {now.loss:.3f}" + ("\n" if now.step == now.steps else ""))


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # not through the interpreter's end: threads of the process group that outlive it there abort the process
