"""What a worker died of, as far as that can be told from outside: of a lack of memory, or of something else.

Linux counts the processes that it ends for their memory, those of containers too, and counts before it sends SIGKILL. A worker that ends by SIGKILL after
that number rose is taken for one of them. Assumption: where it did not rise, somebody else sent the signal. Other systems count nothing that can be read.
A lack of memory that is no kill leaves its words in the worker's log.
"""

import signal
from pathlib import Path

COUNTS = Path("/proc/vmstat")  # "oom_kill", since Linux 4.13; of the whole machine, containers' own limits included (mm/oom_kill.c)
WORDS = (b"std::bad_alloc", b"MemoryError", b"annot allocate memory")  # of C++, of Python, of the system and of PyTorch


class Watch:
    """Begun with a run, asked when its worker is dead."""

    def __init__(self, log: Path) -> None:
        self._log, self._said, self._kills = log, len(_bytes(log)), kills()

    def starved(self, status: int) -> bool | None:
        """Whether memory had run out, by the exit status and what happened since; None where nobody can say."""
        if -status != signal.SIGKILL:
            return status != 0 and any(word in _bytes(self._log)[self._said :] for word in WORDS)
        now = kills()
        return None if now is None or self._kills is None else now > self._kills


def kills() -> int | None:
    """Processes that the system has ended for their memory since it started; None where it does not say."""
    lines = _bytes(COUNTS).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
