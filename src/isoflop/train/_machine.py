"""The machine that a run runs on: settled for the time of a run, and described for its record."""

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from isoflop.errors import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h


@contextlib.contextmanager
def settled(threads: int, *, deterministic: bool = False) -> Iterator[None]:
    """Threads, and what makes a step quick without changing a digit that matters; denormals and algorithms are as they were afterwards.

    Denormals are nothing on one thread alone. Of several, those begun before keep to what they were begun with, so that the bits of a run would depend on
    what its process did before.
    """
    torch.set_num_threads(threads)
    _keep_memory()
    flushed = _flushes()
    torch.set_flush_denormal(threads == 1)
    usual = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS may sum in another order: docs.nvidia.com/cuda/cublas, Results Reproducibility
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.use_deterministic_algorithms(usual)


def _flushes() -> bool:
    """Whether this thread takes denormals for nothing; PyTorch sets that and does not tell it."""
    return bool(torch.full((), 2.0**-140) * 1.0 == 0)


@functools.cache
def _keep_memory() -> None:
    """Have glibc keep large blocks: giving them back and faulting them in again is 9 to 20 % of a step at widths 8 to 32."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every libc
        if mallopt is not None:
            for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
                mallopt(parameter, 1 << 30)


def now(name: str) -> float:
    """Seconds on a clock, once a device has done what it was told."""
    if name.startswith("cuda"):
        torch.cuda.synchronize(name)
    return time.perf_counter()


def check(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UsageError: PyTorch does not know it, or does not reach it.
    """
    present(name)
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} cannot use it here ({why}). Take cpu, or install PyTorch for your GPU.") from None


def present(name: str) -> None:
    """Refuse a device that PyTorch does not see, without using it: a process that starts others should hold no memory of a GPU.

    Raises:
        UsageError: Not cpu, cuda or cuda:N, or not there.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} cannot use it here (not cpu, cuda or cuda:N). Take one of these.")
    if name == "cpu":
        return
    seen = torch.cuda.device_count()
    if int(name.partition(":")[2] or 0) >= seen:
        why = f"it sees {seen} GPU{'' if seen == 1 else 's'}"
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} cannot use it here ({why}). Take cpu, or install PyTorch for your GPU.")


@functools.cache
def device(name: str, *, threads: int) -> str:
    """The processor, or the device of PyTorch's, by its full name."""
    if name != "cpu":
        return torch.cuda.get_device_name(name)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
    return f"{processor}, {threads} thread{'s' * (threads > 1)}"


def versions() -> Mapping[str, str]:
    """Of what a result depends on."""
    return {"isoflop": importlib.metadata.version("isoflop"), "python": platform.python_version(), "torch": torch.__version__}


@functools.cache
def commit() -> str:
    """The commit of isoflop's own source, where it is run from a checkout."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()  # noqa: S603  # fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
