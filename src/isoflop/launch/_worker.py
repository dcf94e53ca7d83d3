"""A worker of the pool: `python -m isoflop.launch._worker CORPUS`. Trains what it is told on stdin, tells of it on stdout, in lines of JSON.

It never sees the database, and it dies with its driver: the kernel kills it where it can, and the end of stdin does everywhere.
"""

import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from isoflop.errors import IsoflopError, MemoryShortError
from isoflop.launch import _memory
from isoflop.launch._attempt import attempt
from isoflop.launch._means import Means
from isoflop.runs import RunSpec

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve one driver until it says stop or is gone."""
    _die_with(os.getppid())
    faulthandler.enable()
    voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints goes to the log, not between our lines

    def tell(message: dict[str, Any]) -> None:
        voice.write(json.dumps(message) + "\n")
        voice.flush()

    stop = threading.Event()
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def stop_now(_number: int, _frame: FrameType | None) -> None:  # schedulers send their signal to every process, not to the driver alone
        stop.set()
        orders.put(None)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop_now)
    threading.Thread(target=_listen, args=(sys.stdin, orders, stop), daemon=True).start()
    try:
        _serve(Path(sys.argv[1]), orders, tell, stop)
    except IsoflopError as error:
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == IsoflopError.__module__)
        tell({"kind": "error", "error": name, "message": str(error)})
    except BrokenPipeError:
        pass  # the driver is gone
    os._exit(0)  # not through the interpreter's end: the listening thread holds stdin


def _serve(corpus_folder: Path, orders: "queue.SimpleQueue[dict[str, Any] | None]", tell: Tell, stop: threading.Event) -> None:
    from isoflop import data, train

    corpus = data.load(corpus_folder)
    tell({"kind": "ready"})
    while (order := orders.get()) is not None:
        try:
            trouble = attempt(
                RunSpec.model_validate(order["spec"]),
                corpus,
                number=order["attempt"],
                folder=Path(order["folder"]),
                earlier=tuple(map(Path, order["earlier"])),
                trunk=Path(order["trunk"]) if order["trunk"] else None,
                marks=order["marks"],
                same_weights=Path(order["same_weights"]) if order["same_weights"] else None,
                means=Means(**order["means"]),
                micro=order["micro"],
                on_progress=lambda progress: tell({"kind": "progress", **asdict(progress)}),
                on_note=lambda note: tell({"kind": "note", "note": note}),
                should_stop=stop.is_set,
            )
        except train.Interrupted:
            tell({"kind": "stopped"})
            return
        except MemoryShortError as error:
            _memory.give_back()
            tell({"kind": "short", "reason": str(error)})
            continue
        _memory.give_back()
        tell({"kind": "done"} if trouble is None else {"kind": "failed", "reason": trouble})


def _listen(orders_from: TextIO, orders: "queue.SimpleQueue[dict[str, Any] | None]", stop: threading.Event) -> None:
    for line in orders_from:
        order = json.loads(line)
        if order is None:
            stop.set()
        orders.put(order)
    os._exit(1)  # the driver is gone: what was trained since the last checkpoint is trained again


def _die_with(parent: int) -> None:
    """Ask the kernel to kill us when our parent dies (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    main()
