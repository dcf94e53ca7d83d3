"""How long a whole sweep takes: two single-threaded workers against one process, and what of the workers' time is no training.

Run, on an idle machine: `python benchmarks/sweep.py [--long TIMES] [--out benchmarks/sweep.md]`

One small isoflop grid is trained three times, each time from the start of a fresh interpreter to its end: by one process on two threads, by one on
one thread, and by the pool, largest runs first. The pool's workers are timed from within: this file wraps the functions that train, evaluate and
write, in the worker's process, and `src` is as it is. All that a worker lives is accounted for: what is in no part is "between steps". The
thread that writes checkpoints shares the worker's core, so its CPU time is taken from the steps and counted with the checkpoints.

`--long 1` gives instead the shares of the quickstart study's sweep, by the pool alone, in about five minutes; `--long 2` those of that study with
budgets twice as large.
"""

import argparse
import datetime
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from isoflop import launch, study
from isoflop.launch import Means
from isoflop.runs import RunSpec
from isoflop.study import Study
from isoflop.workspace import Workspace, cores

WORKERS = 2
GOAL_RATIO, GOAL_SHARE = 1.8, 0.05
MODES = {"two threads": "one process, two threads", "one thread": "one process, one thread", "pool": f"the pool, {WORKERS} workers of one thread"}
STEPS = "training steps"
PARTS = {
    STEPS: "forward, backward, clip, AdamW",
    "data": "batches gathered from the shard",
    "start-up": "interpreter, torch, checking the text, until the first run begins",
    "deciding": "whether torch.compile pays, by measurement",
    "building": "modules and optimisers",
    "evaluation": "loss on the validation set",
    "checkpoints": "copied, hashed and written, in the training thread and beside it",
    "records": "record, curve and weights, fsynced",
    "between steps": "the loop itself: reports to the driver, looks for divergence",
    "hand-over": "from the end of a run to the start of the next: the store's transactions",
    "idle": "nothing left to train, until all has ended",
}


class Span(NamedTuple):
    """One attempt in a worker, in seconds of the machine's monotonic clock."""

    pid: int
    began: float
    ended: float
    parts: dict[str, float]


class Took(NamedTuple):
    """A sweep trained once."""

    began: float
    ended: float
    spans: tuple[Span, ...]

    @property
    def wall(self) -> float:
        return self.ended - self.began


def sweep(*, tiny: bool) -> Study:
    budgets = [1e9, 1.5e9, 2.5e9] if tiny else [8e10, 1.4e11, 2.6e11]
    values = {"name": "sweep", "budgets": budgets, "sizes": 3, "seeds": 1, "target": 4 * budgets[-1], "eval_tokens": 16_384 if tiny else 131_072}
    return study.parse(values)


def quickstart(times: float) -> Study:
    values = study.load(Path(__file__).parents[1] / "examples" / "1_quickstart.toml")
    return values.model_copy(update={"budgets": tuple(times * budget for budget in values.budgets), "target": times * values.target})


def specs_of(work: Workspace, mode: str) -> tuple[RunSpec, ...]:
    threads = 2 if mode == "two threads" else 1
    return tuple(spec.model_copy(update={"threads": threads}) for spec in work.design().specs)


# In the process that trains


class Meter:
    """Seconds by part; a part within another counts for itself alone, but within "deciding" all is that."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._within: list[float] = []  # seconds that parts inside each open part took
        self._deciding = False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        if self._deciding:
            yield
            return
        self._deciding = name == "deciding"
        began = time.perf_counter()
        self._within.append(0.0)
        try:
            yield
        finally:
            self._deciding = False
            took = time.perf_counter() - began
            self.spent[name] += took - self._within.pop()
            if self._within:
                self._within[-1] += took

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return call(*args, **kwargs)

        return timed


def metered(launcher: Any, times: Path) -> None:
    """Time every attempt that a launcher's module makes from now on, a line of JSON each."""
    from isoflop import train
    from isoflop.data.batches import Batches
    from isoflop.train import state

    loop: Any = sys.modules["isoflop.train.loop"]  # its own names, not what it offers

    meter = Meter()
    timed = (
        (state.State, "advance", STEPS),
        (state.State, "begin", "building"),
        (Batches, "__getitem__", "data"),
        (loop, "evaluate", "evaluation"),
        (loop, "_write", "records"),
        (train, "decide", "deciding"),
    )
    for owner, name, part in timed:
        setattr(owner, name, meter.around(part, getattr(owner, name)))
    loop.Writer = _writer(meter, loop.Writer)
    usual = launcher.attempt

    def attempt(*args: Any, **kwargs: Any) -> Any:
        meter.spent.clear()
        began = time.perf_counter()
        trouble = usual(*args, **kwargs)
        ended = time.perf_counter()
        line = {"pid": os.getpid(), "began": began, "ended": ended, "parts": dict(meter.spent)}
        with times.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return trouble

    launcher.attempt = attempt


def _writer(meter: Meter, usual: Any) -> Any:
    class Writer(usual):  # type: ignore[misc]
        copied = 0.0

        def offer(self, checkpoint: Any) -> bool:
            before = meter.spent["checkpoints"]
            with meter.part("checkpoints"):
                written: bool = super().offer(checkpoint)
            self.copied += meter.spent["checkpoints"] - before
            return written

        def __exit__(self, *error: object) -> None:
            with meter.part("checkpoints"):
                super().__exit__(*error)
            beside = max(0.0, self.cost - self.copied)  # by the thread that writes, while this one took steps on the same core
            meter.spent["checkpoints"] += beside
            meter.spent[STEPS] -= beside

    return Writer


def be_worker(times: Path, corpus: str) -> None:
    from isoflop.launch import _worker

    metered(_worker, times)
    sys.argv = [sys.argv[0], corpus]
    _worker.main()


def be_driver(mode: str, folder: Path, times: Path) -> None:
    """One sweep, in this fresh process; all modes without torch.compile but for "usual", the pool as users have it."""
    means = Means() if mode == "usual" else Means(compile="never")
    work = Workspace(study.load(folder / "study.toml"), folder=folder)
    if mode in {"pool", "usual"}:
        sys.executable = str(_shim(folder, times))  # what the pool starts its workers with
        work.train(specs_of(work, mode), workers=WORKERS, means=means)
        return
    metered(launch.get("inline"), times)
    work.train(specs_of(work, mode), launcher="inline", workers=1, means=means)


def _shim(folder: Path, times: Path) -> Path:
    """A program that is started as `python -P -m isoflop.launch._worker CORPUS`, and times that worker."""
    shim = folder / "worker.sh"
    shim.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" -P "{Path(__file__).absolute()}" --be-worker "{times}" "$@"\n', encoding="utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    return shim


# In the process that measures


def took(mode: str, prepared: Path, folder: Path) -> Took:
    shutil.copytree(prepared, folder)
    times = folder / "times.jsonl"
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--be-driver", mode, str(folder), str(times)], check=True, stdout=sys.stderr)
    ended = time.perf_counter()
    print(f"{MODES.get(mode, mode)}: {ended - began:.1f} s", file=sys.stderr, flush=True)
    return Took(began, ended, tuple(Span(**json.loads(line)) for line in times.read_text(encoding="utf-8").splitlines()))


def accounted(sweep: Took) -> dict[str, float]:
    """Seconds of all workers by part; together as many as workers x wall time."""
    spent = dict.fromkeys(PARTS, 0.0)
    for pid in {span.pid for span in sweep.spans}:
        own = sorted(span for span in sweep.spans if span.pid == pid)
        spent["start-up"] += own[0].began - sweep.began
        spent["idle"] += sweep.ended - own[-1].ended
        spent["hand-over"] += sum(after.began - before.ended for before, after in itertools.pairwise(own))
        for span in own:
            for part, seconds in span.parts.items():
                spent[part] += seconds
            spent["between steps"] += span.ended - span.began - sum(span.parts.values())
    return spent


def shares(sweep: Took) -> list[str]:
    spent = accounted(sweep)
    workers = len({span.pid for span in sweep.spans})
    total = workers * sweep.wall
    assert abs(sum(spent.values()) / total - 1) < 1e-6, "some of the time is in no part, or in two"
    outside = 1 - spent[STEPS] / total
    runs = Counter(span.pid for span in sweep.spans)
    return [
        f"{len(sweep.spans)} runs in {sweep.wall:.1f} s. Outside training steps: {100 * outside:.1f} % of workers x wall time (goal: {GOAL_SHARE:.0%}).",
        f"Torch was imported once a worker: {workers} processes trained {', '.join(map(str, runs.values()))} runs.",
        "",
        "| part | seconds | % | |",
        "|---|--:|--:|---|",
        *(f"| {part} | {spent[part]:.2f} | {100 * spent[part] / total:.2f} | {what} |" for part, what in PARTS.items()),
    ]


def page(swept: dict[str, Took], design: str) -> str:
    pool = swept["pool"]
    rows = (f"| {MODES[mode]} | {sweep.wall:.1f} | {sweep.wall / pool.wall:.2f} |" for mode, sweep in swept.items())
    lines = [
        "# A whole sweep",
        "",
        f"`python benchmarks/sweep.py`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {processor()}, {cores()} cores. {design}",
        f"Load of the machine when it ended: {os.getloadavg()[0]:.1f}.",
        "",
        "| trained by | wall seconds | over the pool |",
        "|---|--:|--:|",
        *rows,
        "",
        f"The goal is {GOAL_RATIO} times one process that uses both cores (two threads).",
        "",
        "## What the pool's workers did",
        "",
        *shares(pool),
    ]
    return "\n".join([*lines, ""])


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "a processor that does not say")


def prepared(asked: Study, folder: Path) -> Workspace:
    work = Workspace(asked, folder=folder)
    work.prepare()
    (folder / "study.toml").write_text(study.show(asked), encoding="utf-8")
    return work


def told(work: Workspace) -> str:
    specs = work.design().specs
    return (
        f"{len(specs)} runs of the source of Python's standard library as bytes, budgets {', '.join(f'{budget:g}' for budget in work.study.budgets)} FLOPs, "
        f"widths {', '.join(map(str, sorted({spec.shape.d_model for spec in specs})))}, {sum(spec.flops for spec in specs):.3g} FLOPs in all."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", type=float, metavar="TIMES", help="instead: the quickstart study, its budgets so many times as large, by the pool")
    parser.add_argument("--tiny", action="store_true", help="a grid of seconds, to see that all of it runs; its figures are no results")
    parser.add_argument("--out", type=Path, help="file to write the page to; standard output if not given")
    parser.add_argument("--be-driver", nargs=3, metavar=("MODE", "FOLDER", "TIMES"), help=argparse.SUPPRESS)
    parser.add_argument("--be-worker", nargs=2, metavar=("TIMES", "CORPUS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be_worker:
        be_worker(Path(asked.be_worker[0]), asked.be_worker[1])
        return
    if asked.be_driver:
        be_driver(asked.be_driver[0], Path(asked.be_driver[1]), Path(asked.be_driver[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.long:
            design = told(prepared(quickstart(asked.long), folder / "quickstart"))
            print(design, "", *shares(took("usual", folder / "quickstart", folder / "long")), sep="\n")
            return
        work = prepared(sweep(tiny=asked.tiny), folder / "prepared")
        swept = {mode: took(mode, folder / "prepared", folder / mode.replace(" ", "-")) for mode in MODES}
        text = page(swept, told(work) + (" A tiny run: its figures are no results." if asked.tiny else ""))
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
