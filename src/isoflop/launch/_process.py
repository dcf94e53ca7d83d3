"""The driver's end of one worker process: started, spoken to, heard, and its death explained."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from isoflop import _signals
from isoflop.errors import TrainError
from isoflop.launch._death import Watch
from isoflop.launch._means import Means
from isoflop.store import Claim, files

SINGLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # two threads a run on two busy cores are a third as fast as one each
NO_FAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # sent by people and schedulers; a fault or a lack of memory sends others


class Process:
    """A worker.

    Attributes:
        means: It trains with.
        claim: What it trains, if anything.
        ready: It has loaded all it needs.
        verdict: Why it was killed, if the driver did it.
        heard: When it last said something, on the monotonic clock.
        log: What it and its libraries print.
    """

    def __init__(self, corpus_folder: Path, *, log: Path, means: Means) -> None:
        self.means = means
        self.claim: Claim | None = None
        self.ready = False
        self.verdict = ""
        self.heard = time.monotonic()
        self._rest = b""
        self.log = log
        files.own_folder(log.parent)
        files.remove(log)  # whatever it is a name of stays as it is
        try:
            with log.open("xb") as stderr:
                # its own process group: Ctrl-C is for the driver, which then asks its workers to stop
                self._process = subprocess.Popen(  # noqa: S603  # ourselves
                    [sys.executable, "-P", "-m", f"{__package__}._worker", str(corpus_folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=os.environ | SINGLE,
                    process_group=0,
                )
        except BlockingIOError as error:
            why = "the system starts no more processes"
            raise TrainError(
                f"{why}. Raise the limit (ulimit -u, or that of the container), or give fewer --workers, then run the same command again."
            ) from error
        except OSError as error:
            raise files.in_words(error, log) from error
        self._watch = Watch(log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For selectors."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def train(self, claim: Claim, *, micro: int = 1) -> None:
        """Have it train a run, a batch in so many parts."""
        self.claim = claim
        self._watch = Watch(self.log)
        self._send(
            {
                "spec": claim.spec.model_dump(mode="json"),
                "attempt": claim.attempt,
                "folder": str(claim.folder),
                "earlier": [str(f) for f in claim.earlier],
                "trunk": str(claim.trunk or ""),
                "marks": claim.marks,
                "same_weights": str(claim.same_weights or ""),
                "means": asdict(self.means),
                "micro": micro,
            }
        )

    def put_down(self) -> Claim:
        """It trains that run no more."""
        claim, self.claim = self.claim, None
        assert claim is not None, "a worker spoke of a run, and has none"
        return claim

    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and end."""
        self._send(None)

    def hear(self) -> Iterator[dict[str, Any]]:
        """What it said since; call when there is something to read.

        Raises:
            EOFError: It is dead.
        """
        piece = os.read(self.fileno(), 1 << 16)
        if not piece:
            raise EOFError
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + piece).split(b"\n")
        yield from map(json.loads, lines)

    def suspend(self) -> None:
        """Stop it where it is, as Ctrl-Z stops its driver."""
        _signals.send(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it continue."""
        _signals.send(self.pid, signal.SIGCONT)
        self.heard = time.monotonic()  # its silence was ours

    def kill(self, verdict: str = "") -> None:
        """End it at once; its last words can still be heard."""
        self.verdict = self.verdict or verdict
        self._process.kill()

    def bury(self) -> int:
        """Wait until it is gone; its exit status, negative for a signal."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # unsaid words to the dead
                pipe.close()
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def starved(self, status: int) -> bool | None:
        """Whether it died of a lack of memory; None where nobody can say."""
        return False if self.verdict else self._watch.starved(status)

    def cause(self, status: int) -> str:
        """Why it died, in words."""
        if self.verdict:
            return self.verdict
        hint = {True: "; memory had run out", None: "; the system does that when memory runs out", False: ""}[self.starved(status)]
        end = f"ended by itself (exit status {status})" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        return f"its worker {end}{hint}{self.last_words()}"

    def last_words(self) -> str:
        """The end of its log, or the last line there that speaks of an error."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if "error" in line.lower()]
        return f"; its last words: {(errors or said)[-1]}" if said else ""

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it just died: the next `hear` says so
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
