"""The machine that a run runs on: settled for the time of a run, and described for its record."""

import contextlib
import ctypes
import functools
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h


@contextlib.contextmanager
def settled(threads: int) -> Iterator[None]:
    """Threads, and what makes a step quick without changing a digit that matters; denormals are as usual again afterwards."""
    torch.set_num_threads(threads)
    _keep_memory()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@functools.cache
def _keep_memory() -> None:
    """Have glibc keep large blocks: giving them back and faulting them in again is 9 to 20 % of a step at widths 8 to 32."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every libc
        if mallopt is not None:
            for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
                mallopt(parameter, 1 << 30)


@functools.cache
def device() -> str:
    """The processor by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
    return f"{name}, 1 thread"


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
