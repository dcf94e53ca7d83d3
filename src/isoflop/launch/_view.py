"""The live view: what is done, what is being trained, how fast, how long still. On stderr; plain lines where that is no terminal."""

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from isoflop import _signals, units
from isoflop.launch._events import Event, Finished, Lost, Mended, Progress, Skipped, Started
from isoflop.runs import RunRecord, RunSpec, own_steps

PLAIN_SECONDS = 20.0  # between progress lines where there is no terminal
UNWRITABLE = (OSError, ValueError)  # a full disk, a terminal or a reader that is gone, a closed file: training continues without its display
SMOOTHING = 0.8  # assumption: weight of the speed so far; speeds jitter from one report to the next


class Tally:
    """How far a set of runs is, how fast it goes, and how long it will still take.

    Args:
        specs: All runs.
        records: Of those that are finished, and of others that say how fast this machine is.
        seconds: Expected training seconds by id, where known.
        workers: Runs at once.
    """

    def __init__(self, specs: Sequence[RunSpec], *, records: Iterable[RunRecord] = (), seconds: Mapping[str, float] | None = None, workers: int = 1) -> None:
        self.specs = {spec.id: spec for spec in specs}
        self._own_flops = {i: steps * self.specs[i].batch * self.specs[i].shape.flops_per_token.training for i, steps in own_steps(specs).items()}
        self.done: dict[str, RunRecord] = {}
        self.running: dict[str, Progress | None] = {}
        self.speeds: dict[str, float] = {}  # tokens per second of the runs under way
        self._workers = workers
        self._pace: dict[float, list[float]] = {}  # log params: log of seconds per FLOP, as measured
        for record in records:
            self._finish(record)
        expected = (seconds or {}).items()
        self._expected = [(math.log(self.specs[i].shape.params.total), math.log(t / self._own_flops[i])) for i, t in expected if i in self.specs and t > 0]

    def take(self, event: Event) -> None:
        """Note an event."""
        match event:
            case Started():
                self.running[event.id] = None
            case Progress():
                self.running[event.id] = event
                if event.tokens_per_second > 0:
                    before = self.speeds.get(event.id, event.tokens_per_second)
                    self.speeds[event.id] = SMOOTHING * before + (1 - SMOOTHING) * event.tokens_per_second
            case Lost() | Skipped():
                self._forget(event.id)
            case Finished():
                self._forget(event.record.id)
                self._finish(event.record)

    @property
    def flops(self) -> float:
        """FLOPs of all runs, of what several have in common once."""
        return sum(self._own_flops.values())

    @property
    def flops_done(self) -> float:
        """FLOPs that need not be done any more; a run that ended early needs no more of its own."""
        return self.flops - sum(self._flops_left(spec) for spec in self.specs.values())

    @property
    def share(self) -> float:
        """Of the FLOPs, in [0, 1]."""
        return self.flops_done / self.flops if self.specs else 1.0

    @property
    def tokens_per_second(self) -> float:
        return sum(self.speeds.values())

    @property
    def seconds_left(self) -> float | None:
        """Until all are finished, or None while nothing is known of speed."""
        left = [spec for spec in self.specs.values() if spec.id not in self.done]
        pace = self._paces()
        if not pace:
            return None if left else 0.0
        sizes, logs = np.array(sorted(pace)).T
        # small models do fewer FLOPs a second: each size has its own pace, between sizes interpolated in the logs
        seconds = [self._flops_left(spec) * math.exp(np.interp(math.log(spec.shape.params.total), sizes, logs)) for spec in left]
        return max([sum(seconds) / max(1, min(self._workers, len(seconds))), *seconds])

    def _flops_left(self, spec: RunSpec) -> float:
        if spec.id in self.done:
            return 0.0
        now = self.running.get(spec.id)
        return min(self._own_flops[spec.id], spec.flops * (1 - now.step / now.steps)) if now else self._own_flops[spec.id]

    def _paces(self) -> list[tuple[float, float]]:
        live: dict[float, list[float]] = {}
        for id_, speed in self.speeds.items():
            if id_ in self.specs:
                shape = self.specs[id_].shape
                live.setdefault(math.log(shape.params.total), []).append(-math.log(speed * shape.flops_per_token.training))
        measured = {**self._pace, **live}  # what is under way knows best how busy the machine is now
        return [(size, float(np.mean(logs))) for size, logs in measured.items()] or self._expected

    def _finish(self, record: RunRecord) -> None:
        if record.id in self.specs:
            self.done[record.id] = record
        if record.clock.seconds > 0 and record.flops > 0:
            self._pace.setdefault(math.log(record.params.total), []).append(math.log(record.clock.seconds / record.flops))

    def _forget(self, id_: str) -> None:
        self.running.pop(id_, None)
        self.speeds.pop(id_, None)


class _Display(Console):
    """A console that falls silent where its reader is gone; rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True


class View:
    """Shows the events of a launcher to a person: `with View(specs, workers=2) as view: launcher.run(..., on_event=view.on_event)`.

    Args:
        specs: All runs.
        records: Of those that are finished.
        seconds: Expected training seconds by id, where known.
        workers: Runs at once.
        title: What they are, in a word.
        console: Where to write; stderr if not given.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        *,
        records: Iterable[RunRecord] = (),
        seconds: Mapping[str, float] | None = None,
        workers: int = 1,
        title: str = "train",
        console: Console | None = None,
    ) -> None:
        self.tally = Tally(specs, records=records, seconds=seconds, workers=workers)
        self._tallying = threading.Lock()  # rich draws from a thread of its own
        self._title = title
        self._console = console or _Display(stderr=True, highlight=False)
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=2, transient=True) if self._console.is_terminal else None
        self._drawing = ExitStack()
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._start(self._live)
        if self._live is None and (left := len(self.tally.specs) - len(self.tally.done)):
            self._say(f"{self._title}: {left} of {len(self.tally.specs)} runs to train")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(*UNWRITABLE):
            self._drawing.close()
        self._say(f"{self._title}: {self._summary()} after {units.duration(time.monotonic() - self._began)}")

    def on_event(self, event: Event) -> None:
        """Show an event."""
        with self._tallying:
            self.tally.take(event)
        match event:
            case Mended():
                self._say(event.note)
            case Finished(record=record) if self._live is None or record.status != "ok":
                self._say(f"[{len(self.tally.done)}/{len(self.tally.specs)}] {_result(record)}{self._eta()}")
            case Lost():
                self._say(f"run {event.id}, attempt {event.attempt}: {event.reason}; it is tried again from its last checkpoint")
            case Skipped():
                self._say(f"run {event.id} is not trained now: {event.reason}")
            case Progress() if self._live is None and time.monotonic() - self._told > PLAIN_SECONDS:
                tally = self.tally
                self._say(
                    f"{len(tally.done)}/{len(tally.specs)} runs, {100 * tally.share:.0f} % of FLOPs, "
                    f"{units.count(tally.tokens_per_second)} tokens/s{self._eta()}"
                )

    def _start(self, live: Live) -> None:
        """Draw from now on, and show the cursor while Ctrl-Z suspends this process."""
        try:
            live.start()
        except RuntimeError:  # no thread to draw from: plain lines do without
            live.stop()
            self._live = None
            return
        self._drawing.callback(live.stop)
        self._drawing.enter_context(_signals.suspending(lambda: self._cursor(shown=True), lambda: self._cursor(shown=False)))

    def _cursor(self, *, shown: bool) -> None:
        # written past the console: a signal handler must not wait for a lock that the drawing thread holds
        file = self._console.file
        file.write("\x1b[?25h" if shown else "\x1b[?25l")  # DECTCEM: ECMA-48 leaves it to DEC's terminals
        file.flush()

    def _say(self, line: str) -> None:
        self._told = time.monotonic()
        with suppress(*UNWRITABLE):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _summary(self) -> str:
        tally = self.tally
        bad = {status: sum(r.status == status for r in tally.done.values()) for status in ("diverged", "failed")}
        notes = "".join(f", {n} of them {status}" for status, n in bad.items() if n)
        return f"{len(tally.done)} of {len(tally.specs)} runs finished{notes}"

    def _eta(self) -> str:
        seconds = self.tally.seconds_left
        return "" if seconds is None or not seconds else f", {units.duration(seconds)} left"

    def _draw(self) -> RenderableType:
        with self._tallying:
            return self._drawn()

    def _drawn(self) -> RenderableType:
        tally = self.tally
        head = Table.grid(padding=(0, 2))
        share = f"{100 * tally.share:.0f} % of {units.flops(tally.flops)} FLOPs"
        bar = ProgressBar(total=1.0, completed=tally.share, width=24)
        head.add_row(f"[bold]{self._title}[/]", f"{len(tally.done)}/{len(tally.specs)} runs", bar, share)
        head.add_row("", "", f"{units.count(tally.tokens_per_second)} tokens/s", self._eta().removeprefix(", "))
        table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
        for name in ("budget", "params", "step", "loss", "tokens/s"):
            table.add_column(name, justify="right")
        for id_, now in tally.running.items():
            spec = tally.specs[id_]
            row = (f"{now.step}/{now.steps}", f"{now.loss:.3f}", units.count(tally.speeds.get(id_, 0.0))) if now else ("starts", "", "")
            table.add_row(units.flops(spec.budget), units.count(spec.shape.params.total), *row)
        return Group(head, table) if tally.running else Group(head)


def _result(record: RunRecord) -> str:
    spec = record.spec
    what = f"{units.flops(spec.budget)} FLOPs, {units.count(spec.shape.params.total)} params, {units.count(spec.tokens)} tokens"
    if record.loss is None:
        return f"{record.status}: {what}: {record.reason}"
    return f"{what}: loss {record.loss:.4f}, {units.duration(record.clock.seconds)}"
