"""The kernels of `_kernels.c`, compiled by this machine's C compiler for its processor, once, and kept for other processes. Does not need torch."""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import stat
import subprocess
import tempfile
from ctypes import c_double, c_float, c_long, c_void_p
from pathlib import Path
from typing import NamedTuple

from isoflop.errors import UsageError

CHOICE = "ISOFLOP_KERNELS"  # "never", the user's word against them
_SOURCE = Path(__file__).with_name("_kernels.c")
_NATIVE = "-mcpu=native" if platform.machine() in {"arm64", "aarch64"} else "-march=native"
# Sums of products in one rounding where the processor can; nobody asks for errno.
_FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
_LAST = "-fno-fast-math"  # whatever a user asks for: our exponential adds and takes away what a compiler may then leave out, and NaN must stay NaN
_TENSORS = {"attention_forward": 9, "attention_backward": 13, "feed_forward_forward": 7, "feed_forward_backward": 11}  # that each takes, after the shape


class Shape(ctypes.Structure):
    """Of a call: sequences, positions, d_model, heads, key-value heads, kv_size, ffw_size, vocab; 0 where it does not matter."""

    _fields_ = tuple((letter, c_long) for letter in "BTDHGKFV")


class Kernels(NamedTuple):
    """What a step calls."""

    library: ctypes.CDLL
    made_by: str  # the compiler, and for what: "gcc 12.2.0 (vectors of 16)"


def load() -> Kernels | None:
    """The kernels, compiled now if they never were; None where there is no compiler or the user does not want them."""
    return _found()[0] if _wanted() else None


def why_not() -> str:
    """Why there are none; nothing if there are, or if the user does not want them."""
    return _found()[1] if _wanted() else ""


def _wanted() -> bool:
    said = os.environ.get(CHOICE, "").strip()
    if said not in {"", "auto", "never"}:
        raise UsageError(f"{CHOICE} is {said!r}. Take auto (kernels where there is a C compiler) or never.")
    return said != "never"


@functools.cache
def _found() -> tuple[Kernels | None, str]:
    words = ["cc"]
    try:
        words = shlex.split(os.environ.get("CC", "")) or words
        macros = _run(_command(words, "-dM", "-E", "-x", "c", os.devnull))
        library = _opened(words, macros)
    except subprocess.CalledProcessError as error:
        return None, f"{words[0]} says: {error.stderr.strip()[:500]}"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, str(error)
    return Kernels(library, f"{_name(macros)} (vectors of {library.vector_length()})"), ""


def _opened(words: list[str], macros: str) -> ctypes.CDLL:
    kept = _kept(words, macros)
    if kept is not None:
        try:
            return _declared(ctypes.CDLL(str(kept)))
        except OSError:  # on a disk from which nothing may be executed
            pass
    with tempfile.TemporaryDirectory() as folder:  # what is loaded needs no name any more
        return _declared(ctypes.CDLL(str(_compiled(words, Path(folder, "kernels.so")))))


def _kept(words: list[str], macros: str) -> Path | None:
    """The library in the user's cache, compiled now if it is not there whole; None if there is no folder that is the user's alone, or no room in it."""
    key = _digest("\0".join((_SOURCE.read_text(encoding="utf-8"), *_command(words, *_FLAGS), macros)).encode())
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isoflop"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (_is_ours(folder) and _is_ours(folder.parent)):
            return None
        whole = (path for path in folder.glob(f"kernels-{key}-*.so") if _is_ours(path) and path.name == _name_of(key, path))
        return next(whole, None) or _added(folder, key, words)
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home
        return None


def _added(folder: Path, key: str, words: list[str]) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as part:
        made = _compiled(words, Path(part, "kernels.so"))
        made.chmod(0o700)  # whatever the umask
        return made.replace(folder / _name_of(key, made))


def _name_of(key: str, path: Path) -> str:
    """A library's name, with its own digest: one that was cut off would end the process that loads it."""
    return f"kernels-{key}-{_digest(path.read_bytes())}.so"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _is_ours(path: Path) -> bool:
    """Whether nobody else can write it: what is loaded is executed."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compiled(words: list[str], path: Path) -> Path:
    _run(_command(words, *_FLAGS, str(_SOURCE), "-o", str(path), "-lm"))
    return path


def _command(words: list[str], *ours: str) -> list[str]:
    """A compiler, of one word or more ("ccache gcc"), for this processor unless the user's own words after it name another; then what we ask of it."""
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:first], _NATIVE, *words[first:], _LAST, *ours]


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=300, stdin=subprocess.DEVNULL).stdout  # noqa: S603  # the user's compiler


def _name(macros: str) -> str:
    """Of a compiler, from its macros: "gcc 12.2.0", "clang 19.1.7"."""
    found = dict(re.findall(r"#define (\w+) (.*)", macros))
    family = "clang" if "__clang__" in found else "gcc" if "__GNUC__" in found else "cc"
    version = re.search(r"\d+(\.\d+)+", found.get("__VERSION__", ""))
    return f"{family} {version[0]}" if version else family


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    shape = ctypes.POINTER(Shape)
    library.vector_length.argtypes, library.vector_length.restype = (), c_long
    for name in ("attention_kept", "attention_scratch", "feed_forward_kept", "feed_forward_scratch"):
        function = getattr(library, name)
        function.argtypes, function.restype = (shape,), c_long
    for name, tensors in _TENSORS.items():
        function = getattr(library, name)
        settings = (c_float,) if name.endswith("forward") else ()
        function.argtypes, function.restype = (shape, *settings, *(c_void_p,) * tensors), None
    library.loss_scratch.argtypes, library.loss_scratch.restype = (shape, c_long), c_long
    library.loss.argtypes, library.loss.restype = (shape, c_long, c_float, c_float, c_float, *(c_void_p,) * 8), c_double
    return library
