"""What a GPU does with this engine: that its path is right, how much of its peak a step reaches, several runs at once on it, and a study over two decades.

Run: `python benchmarks/gpu.py WORK --text novels_train.txt.bz2 [--minutes 25] [--out benchmarks/results]`

Parts, in this order, each written to OUT as soon as it is known, and not done again where OUT has it: `path` (losses in float32, bf16 and compiled
with CUDA graphs, against those of the CPU; whether flash attention takes the shape), `mfu` (share of the measured peak of a bf16 matrix product
for 1M, 10M, 100M and 1B parameters, plain and compiled, at the batch that fits), `packing` (tokens a second of all runs by how many share the
card), `study` (`gpu_study.toml` through the pool). WORK keeps the study: after `--minutes` it stops with checkpoints, and the same command goes on.

`--tiny` runs every part on a CPU in a minute or two, to see that all of it works: figures of such a run are no results, and its files say so.
"""

import argparse
import datetime
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from isoflop import arch, launch, study
from isoflop.arch import Shape
from isoflop.data import Corpus
from isoflop.errors import IsoflopError
from isoflop.launch import Event, Finished, Means, Progress
from isoflop.report import export
from isoflop.runs import Precision, RunSpec
from isoflop.store import Store, files
from isoflop.train import Machine, _machine
from isoflop.train.state import State
from isoflop.workspace import Workspace

TINY_NOTE = "a tiny run on a CPU, to see that the script works: these figures are no results"
STEPS = 10  # timed; the same number before them warms up, compiles and records the graphs
PATH_STEPS = 20


class Setting(NamedTuple):
    """Sizes of everything."""

    device: str
    tiny: bool
    context: int
    params: tuple[float, ...]  # for mfu
    most_tokens: int  # a step
    peak: int  # rows of the square matrices
    packed: float  # params of the runs that share the card
    packs: tuple[int, ...]
    packed_steps: int


FULL = Setting("cuda", False, 1024, (1e6, 1e7, 1e8, 1e9), 1 << 19, 8192, 1e6, (1, 2, 4, 8), 400)
TINY = Setting("cpu", True, 64, (4e3, 1e4), 1 << 11, 256, 4e3, (1, 2), 20)


class OutOfTime(Exception):  # noqa: N818  # it is no error: the study goes on with the next call
    """The minutes are over."""


def synchronized(device: str) -> float:
    """The time, once the device has done all it was told."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def shape_of(setting: Setting, corpus: Corpus, params: float) -> Shape:
    return arch.nearest("llama", params, vocab=corpus.vocab, context=setting.context)


def spec_of(shape: Shape, corpus: Corpus, *, batch: int, steps: int, precision: Precision, seed: int = 0) -> RunSpec:
    tokens = batch * steps
    return RunSpec(
        shape=shape,
        tokens=tokens,
        batch=batch,
        lr=1e-3 * min(1.0, 256 / shape.d_model),
        precision=precision,
        seed=seed,
        data=corpus.digest,
        eval_tokens=4 * shape.context,
        budget=tokens * shape.flops_per_token.training,
        group="isoflop",
    )


# path


def losses(spec: RunSpec, corpus: Corpus, machine: Machine) -> list[float]:
    with _machine.settled(spec.threads):
        state = State.begin(spec, corpus, resume=None, machine=machine)
        for _ in range(spec.steps):
            state.advance()
        return [float(loss) for loss in state.losses.cpu()]


def path(setting: Setting, corpus: Corpus) -> dict[str, Any]:
    """Losses by the ways of one run, and how far each is from float32 on the CPU."""
    shape = shape_of(setting, corpus, setting.params[0])
    batch = 4 * setting.context
    ways: dict[str, tuple[Precision, Machine]] = {
        "float32": ("float32", Machine(device=setting.device)),
        "bf16": ("bf16", Machine(device=setting.device)),
        "bf16 compiled": ("bf16", Machine(device=setting.device, compiled=True)),
        "bf16 in two parts": ("bf16", Machine(device=setting.device, micro=2)),
    }
    made = {precision: spec_of(shape, corpus, batch=batch, steps=PATH_STEPS, precision=precision) for precision in ("float32", "bf16")}
    usual = losses(made["float32"], corpus, Machine())
    found: dict[str, Any] = {"params": shape.params.total, "steps": PATH_STEPS, "first_loss": usual[0], "last_loss": usual[-1], "largest_difference": {}}
    for name, (precision, machine) in ways.items():
        own = attempted(lambda p=precision, m=machine: losses(made[p], corpus, m))  # type: ignore[misc]  # the defaults are the loop's values
        found["largest_difference"][name] = own if isinstance(own, str) else max(abs(a - b) for a, b in zip(own, usual, strict=True))
    found["flash_attention"] = attempted(lambda: flash(setting, corpus))
    return found


def flash(setting: Setting, corpus: Corpus) -> str:
    """Whether a step in bf16 goes through flash attention alone."""
    if setting.device == "cpu":
        return "not on a CPU"
    spec = spec_of(shape_of(setting, corpus, setting.params[1]), corpus, batch=4 * setting.context, steps=2, precision="bf16")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        losses(spec, corpus, Machine(device=setting.device))
    return "taken"


def attempted(call: Callable[[], Any]) -> Any:
    """What it gives, or in words why it did not: the other parts are worth having without it."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # of a path that is to be proved, any
        return f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


# mfu


def peak(setting: Setting) -> float:
    """FLOP/s of the largest product that is timed: bf16 on a GPU, float32 on a CPU."""
    dtype = torch.float32 if setting.device == "cpu" else torch.bfloat16
    a, b = (torch.randn(setting.peak, setting.peak, device=setting.device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(3 * STEPS):
        began = synchronized(setting.device)
        torch.mm(a, b)
        times.append(synchronized(setting.device) - began)
    return 2.0 * setting.peak**3 / statistics.median(times[STEPS:])


def seconds_a_step(spec: RunSpec, corpus: Corpus, machine: Machine) -> tuple[float, int]:
    """Of the steps after the first, and in how many parts memory allowed a batch."""
    with _machine.settled(spec.threads):
        state = State.begin(spec, corpus, resume=None, machine=machine)
        for _ in range(STEPS):
            state.advance()
        began = synchronized(machine.device)
        for _ in range(STEPS):
            state.advance()
        return (synchronized(machine.device) - began) / STEPS, state.micro


def fitted(setting: Setting, corpus: Corpus, shape: Shape, machine: Machine) -> dict[str, Any]:
    """The quickest batch, doubled for as long as it fits and helps."""
    best: dict[str, Any] = {"tokens_per_second": 0.0}
    batch = 4 * shape.context
    while batch <= setting.most_tokens:
        spec = spec_of(shape, corpus, batch=batch, steps=2 * STEPS, precision="float32" if setting.tiny else "bf16")
        seconds, parts = seconds_a_step(spec, corpus, machine)
        release(setting)
        if parts > 1 or batch / seconds < 1.03 * best["tokens_per_second"]:  # under 3 % more is not worth the steps it costs
            break
        best = {"batch": batch, "tokens_per_second": batch / seconds, "flops_per_second": batch / seconds * shape.flops_per_token.training}
        batch *= 2
    return best


def release(setting: Setting) -> None:
    gc.collect()
    torch.compiler.reset()
    if setting.device != "cpu":
        torch.cuda.empty_cache()


def mfu(setting: Setting, corpus: Corpus) -> dict[str, Any]:
    top = peak(setting)
    rows = []
    for params in setting.params:
        shape = shape_of(setting, corpus, params)
        for compiled in (False,) if setting.tiny else (False, True):
            machine = Machine(device=setting.device, compiled=compiled)
            best = attempted(lambda s=shape, m=machine: fitted(setting, corpus, s, m))  # type: ignore[misc]  # the defaults are the loop's values
            release(setting)
            row = {"params": shape.params.total, "d_model": shape.d_model, "n_layers": shape.n_layers, "compiled": compiled}
            rows.append({**row, "failed": best} if isinstance(best, str) else {**row, **best, "mfu": best.get("flops_per_second", 0.0) / top})
            say(f"mfu: {rows[-1]}")
    return {"peak_flops_per_second": top, "context": setting.context, "rows": rows}


# packing


class Span:
    """From the first report of a run to the last record, and the tokens that were trained meanwhile."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.tokens = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and not self.began:
            self.began, self.tokens = time.perf_counter(), self.tokens - event.tokens
        if isinstance(event, Finished):
            self.ended, self.tokens = time.perf_counter(), self.tokens + event.record.tokens


def packing(setting: Setting, corpus: Corpus, work: Path) -> dict[str, Any]:
    """As many equal runs as are ever packed, by so many workers on one device."""
    shape = shape_of(setting, corpus, setting.packed)
    rows = []
    for workers in setting.packs:
        specs = [
            spec_of(shape, corpus, batch=8 * setting.context, steps=setting.packed_steps, precision="float32" if setting.tiny else "bf16", seed=seed)
            for seed in range(2 * max(setting.packs))
        ]
        span = Span()
        with Store(fresh(work / f"packing-{workers}")) as store, store.lock():
            means = Means(device=setting.device, compile="never")
            launch.get("pool").run(store, specs, corpus.folder, workers=workers, means=means, on_event=span)
        rows.append({"workers": workers, "tokens_per_second": span.tokens / (span.ended - span.began)})
        say(f"packing: {rows[-1]}")
    return {"params": shape.params.total, "runs": len(specs), "rows": rows}


def fresh(folder: Path) -> Path:
    """A name that nothing has: what was trained before must not count as trained now."""
    return folder.with_name(f"{folder.name}-{time.time_ns()}")


# study


def studied(setting: Setting, asked: argparse.Namespace, until: float) -> dict[str, Any]:
    work = workspace(setting, asked)
    specs = work.design().specs
    over = False

    def on_event(event: Event) -> None:
        nonlocal over
        if isinstance(event, Finished):
            say(f"study: {event.record.status}, {event.record.params.total} params, {event.record.flops:.3g} FLOPs, loss {event.record.loss}")
        if time.monotonic() > until and not over:
            over = True  # once: while it stops, the pool tells of what it still hears
            raise OutOfTime

    left = len(work.unfinished(specs))
    try:
        if left:
            work.train(specs, workers=asked.workers, means=Means(device=setting.device, compile="never" if setting.tiny else asked.compile), on_event=on_event)
    except OutOfTime:
        say(f"study: {asked.minutes:g} minutes are over; the same command goes on")
    left = len(work.unfinished(specs))
    return {"runs": len(specs), "left": left, "rows": work.rows(), **({} if left else outcome(work, setting, asked.out))}


def outcome(work: Workspace, setting: Setting, out: Path) -> dict[str, Any]:
    """The fits, and the report's figures beside them; or why there are none."""
    try:
        fits = work.fit()
        page = work.report(work.results(fits=fits, command="python benchmarks/gpu.py"))
    except IsoflopError as error:
        return {"no_fit": str(error)}
    for figure in sorted((page.parent / "figures").glob("*.svg")):
        files.write(out / f"{prefix(setting)}{figure.name}", figure.read_bytes())
    return export.fits_json(fits.fits, fits.left_out)


def workspace(setting: Setting, asked: argparse.Namespace) -> Workspace:
    own = study.load(Path(__file__).with_name("gpu_study.toml"))
    own = own.model_copy(update={"corpus": tuple(str(path.absolute()) for path in asked.text)} if asked.text else {})
    if setting.tiny:
        small = {"name": "gpu_tiny", "budgets": (1e9, 1.8e9, 3.2e9), "sizes": (8, 12, 16), "context": 64, "precision": "float32", "recipe": "small"}
        own = own.model_copy(update={**small, "eval_tokens": 4096, "seeds": 1, "target": 1e10})
    return Workspace(own, folder=asked.work / own.name)


# all of it


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def about(setting: Setting) -> dict[str, Any]:
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "device": _machine.device(setting.device, threads=1),
        "versions": {**_machine.versions(), "cuda": torch.version.cuda},
        "commit": _machine.commit(),
        **({"note": TINY_NOTE} if setting.tiny else {}),
    }


def prefix(setting: Setting) -> str:
    return "tiny_" if setting.tiny else ""


def kept(place: Path, setting: Setting, make: Callable[[], dict[str, Any]]) -> None:
    """Made and written, unless it is there and whole."""
    if place.is_file() and not json.loads(place.read_bytes()).get("left"):
        say(f"{place} is there: not done again")
        return
    began = time.perf_counter()
    found = make()
    content = {**about(setting), "seconds": round(time.perf_counter() - began, 1), **found}
    files.write(place, json.dumps(content, indent=1, allow_nan=True).encode())
    say(f"{place}: written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of the studies, with room for checkpoints")
    parser.add_argument("--text", type=Path, action="append", help="of the study; the source of Python's standard library if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, such as benchmarks/results")
    parser.add_argument("--parts", nargs="+", default=["path", "mfu", "packing", "study"], choices=["path", "mfu", "packing", "study"])
    parser.add_argument("--minutes", type=float, default=25.0, help="after so many the study stops, with checkpoints")
    parser.add_argument("--workers", type=int, default=4, help="runs at once on the card, in the study")
    parser.add_argument("--compile", default="never", choices=["auto", "always", "never"], help="in the study")
    parser.add_argument("--tiny", action="store_true", help="everything on a CPU in a minute or two")
    asked = parser.parse_args()
    setting, until = TINY if asked.tiny else FULL, time.monotonic() + 60 * asked.minutes
    _machine.check(setting.device)
    corpus = workspace(setting, asked).prepare()
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "path": lambda: path(setting, corpus),
        "mfu": lambda: mfu(setting, corpus),
        "packing": lambda: packing(setting, corpus, asked.work),
        "study": lambda: studied(setting, asked, until),
    }
    for part in asked.parts:
        kept(asked.out / f"{prefix(setting)}{part}.json", setting, makers[part])


if __name__ == "__main__":
    main()
