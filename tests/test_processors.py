"""The numerical tests pass with the kernels that NumPy, SciPy and PyTorch take on other processors.

OpenBLAS, NumPy, PyTorch and MKL choose their kernels by what the processor can do, and kernels sum in different orders. Each library can be told to take
those of an older processor; which it took is read back from it, so that no test runs twice with the same kernels.
"""

import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
NUMERICAL = (
    "conformance/test_laws.py", "test_fit.py", "test_fit_envelope.py", "test_fit_forecast.py", "test_fit_isoflop.py", "test_fit_outliers.py",
    "test_fit_parametric.py", "test_fit_saved.py", "test_plan.py", "test_published.py", "test_recipes.py", "test_schedules.py", "test_tune.py",
    "test_validate.py",
)  # fmt: skip
OF_TORCH = ("test_arch.py", "test_export.py", "test_kernels.py", "test_train.py")
SET_BY_US = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_VERBOSE")
PROBE = """
import ctypes, json, re, sys
import numpy as np
import scipy.linalg
import torch
from numpy._core import _multiarray_umath as umath
cores = set()
for path in sorted(set(re.findall(r"/\\S*openblas\\S*", open("/proc/self/maps").read()))):
    library = ctypes.CDLL(path)
    for name in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename64_", "openblas_get_corename"):
        if hasattr(library, name):
            function = getattr(library, name)
            function.restype = ctypes.c_char_p
            cores.add(function().decode())
            break
torch.ones(64, 64) @ torch.ones(64, 64)  # MKL, if it is there and told to, prints what it takes
features = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
taken = {"openblas": sorted(cores), "numpy": features, "torch": torch.backends.cpu.get_cpu_capability(), "mkl": torch.backends.mkl.is_available()}
print("PROBE", json.dumps(taken))
"""


class Processor(NamedTuple):
    """An older processor: what it needs of this one, and what the libraries are told."""

    flags: str  # in /proc/cpuinfo
    openblas: str
    numpy: str  # dispatched features that stay on
    torch: str
    mkl: str


PROCESSORS = {
    "Nehalem, 2008": Processor("sse4_2", "Nehalem", "", "default", "COMPATIBLE"),
    "Sandy Bridge, 2011": Processor("avx", "Sandybridge", "", "default", "COMPATIBLE"),
    "Haswell, 2013": Processor("avx2 fma", "Haswell", "X86_V3", "avx2", "AVX2"),
    "Zen, 2017": Processor("avx2 fma", "Zen", "X86_V3", "avx2", "AVX2"),
    "Skylake-X, 2017": Processor("avx2 fma avx512f avx512cd avx512bw avx512dq avx512vl", "SkylakeX", "X86_V3 X86_V4", "avx512", "AVX512"),
}


def plain() -> dict[str, str]:
    """Return the environment without any choice of kernels: some environments have one."""
    return {name: value for name, value in os.environ.items() if name not in SET_BY_US}


def probe(environment: dict[str, str]) -> dict:
    """Return which kernels the libraries take in an environment."""
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment | {"MKL_VERBOSE": "1"}, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("PROBE")).removeprefix("PROBE"))
    return found | {"cnr": next((word.removeprefix("CNR:") for word in done.stdout.split() if word.startswith("CNR:")), "")}


@functools.cache
def here() -> dict:
    """Return which kernels the libraries take by themselves."""
    return probe(plain())


def environment(processor: Processor) -> dict[str, str]:
    """Return the environment in which the libraries take the kernels of a processor; skip where they cannot."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the kernels of x86-64 are chosen here, by what Linux says of the processor")
    flags = set(next(line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("flags")).split())
    lacking = set(processor.flags.split()) - flags
    if lacking:
        pytest.skip(f"this processor cannot run them, for it lacks {', '.join(sorted(lacking))}")
    off = [name for name in here()["numpy"] if name not in processor.numpy.split()]
    chosen = {"OPENBLAS_CORETYPE": processor.openblas, "ATEN_CPU_CAPABILITY": processor.torch, "MKL_CBWR": processor.mkl}
    return plain() | chosen | ({"NPY_DISABLE_CPU_FEATURES": " ".join(off)} if off else {})


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_numerical_tests_pass_with_the_kernels_of_another_processor(name):
    processor = PROCESSORS[name]
    told = environment(processor)
    taken = probe(told)
    if taken["openblas"] != [processor.openblas]:
        pytest.skip(f"this OpenBLAS takes {' and '.join(taken['openblas']) or 'no kernels'} for {processor.openblas}")
    assert set(taken["numpy"]) <= set(processor.numpy.split())
    assert taken["torch"] == processor.torch.upper()
    assert not taken["mkl"] or taken["cnr"] in {processor.mkl, "AUTO"}  # on other makers' processors MKL knows AUTO and COMPATIBLE alone; OFF without a choice
    files = [str(TESTS / file) for file in (*NUMERICAL, *OF_TORCH)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files], env=told, cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
