"""The isoflop grid twice: a cosine for every run, and one trunk a size with a branch cooled down at every budget. Same text, sizes, budgets and seeds.

Run: `nice python benchmarks/cooldown.py FOLDER [--workers 2] [--out benchmarks/cooldown.md]`

Says whether the cheaper design answers the same: exponents by Approaches 2 and 3 with 80 % intervals, the loss cell by cell, and the FLOPs of both.
Then it trains the trunks of some sizes at other rates, for `design.TRUNK_LR`. FOLDER keeps the studies: stopped anywhere, the same command goes on.
"""

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from isoflop import study, units
from isoflop.design import TRUNK_LR
from isoflop.errors import FitError
from isoflop.fit import Approach, Fit, fit
from isoflop.launch import Event, Finished, Means
from isoflop.runs import RunRecord, own_steps
from isoflop.workspace import Workspace, cores

WIDTHS = (8, 12, 16, 24, 32, 48, 64)
DECADE = tuple(5e10 * 10 ** (i / 8) for i in range(9))  # so fine that the branches dominate: a trunk is paid for once, for nine budgets
RATES = (0.5, 1.0)  # times the cosine's, beside TRUNK_LR
RATED = (16, 32, 64)  # widths whose trunks are trained at these too
LEVEL = 0.8
MEANS = Means(compile="never")  # one way for all runs, so that no difference between the designs is a compiler's
GOAL_LOSS, GOAL_FLOPS = 0.01, 0.5

Cell = tuple[int, float, int]  # width, budget, seed


class Grid(NamedTuple):
    """What is trained."""

    widths: tuple[int, ...]
    budgets: tuple[float, ...]
    rates: tuple[float, ...]
    eval_tokens: int
    seeds: int


FULL = Grid(WIDTHS, DECADE, RATES, 131_072, 3)
TINY = Grid((8, 16, 24, 32), tuple(2e9 * 10 ** (i / 4) for i in range(5)), (1.0,), 16_384, 2)


class Trained(NamedTuple):
    """One design, finished."""

    work: Workspace
    records: Mapping[Cell, RunRecord]
    flops: float  # what several runs have in common once
    alone: float  # each run on its own


def workspace(grid: Grid, folder: Path, *, design: str, rate: float = 1.0) -> Workspace:
    values = {
        "name": folder.name,
        "design": design,
        "budgets": [float(f"{budget:.6g}") for budget in grid.budgets],
        "sizes": list(grid.widths),
        "lr_scale": rate,
        "seeds": grid.seeds,
        "eval_tokens": grid.eval_tokens,
        "target": 4 * grid.budgets[-1],
    }
    return Workspace(study.parse(values), folder=folder)


def teller(name: str, total: int) -> Callable[[Event], None]:
    done: set[str] = set()

    def tell(event: Event) -> None:
        if isinstance(event, Finished):
            done.add(event.record.id)
            loss = "no loss" if event.record.loss is None else f"loss {event.record.loss:.4f}"
            shape = event.record.spec.shape
            print(f"{name} {len(done)} of {total}: width {shape.d_model}, {units.flops(event.record.spec.budget)} FLOPs, {loss}", file=sys.stderr, flush=True)

    return tell


def trained(work: Workspace, *, workers: int, widths: Sequence[int]) -> Trained:
    specs = tuple(spec for spec in work.design().specs if spec.shape.d_model in widths)
    left = len(work.unfinished(specs))
    records = work.train(specs, workers=workers, means=MEANS, on_event=teller(work.folder.name, left)) if left else work.records(specs)
    steps = own_steps(specs)
    return Trained(
        work=work,
        records={(r.spec.shape.d_model, r.spec.budget, r.spec.seed): r for r in records},
        flops=sum(spec.flops * steps[spec.id] / spec.steps for spec in specs),
        alone=sum(spec.flops for spec in specs),
    )


def differences(ours: Trained, theirs: Trained) -> dict[Cell, float]:
    """Relative, of the loss: above zero where `ours` is the worse."""
    pairs = ((cell, ours.records[cell].loss, theirs.records[cell].loss) for cell in ours.records if cell in theirs.records)
    return {cell: mine / other - 1 for cell, mine, other in pairs if mine is not None and other is not None}


def exponent(found: Fit | str) -> tuple[float, float, float] | None:
    """The a of N_opt ~ C**a, and its interval."""
    return None if isinstance(found, str) else (found.law.a, *found.interval(lambda law: law.a, level=LEVEL))


def fitted(work: Workspace, approach: Approach) -> Fit | str:
    try:
        return fit(work.runs(), approach=approach)
    except FitError as error:
        return str(error)


def exponents(cosine: Trained, cooldown: Trained) -> list[str]:
    lines = ["| approach | a, cosine | a, cooldown | each within the other's interval |", "|---|---|---|---|"]
    notes = []
    approaches: tuple[tuple[str, Approach], ...] = (("2, IsoFLOP profiles", "isoflop"), ("3, parametric", "parametric"))
    for name, approach in approaches:
        fits = [fitted(design.work, approach) for design in (cosine, cooldown)]
        one, other = map(exponent, fits)
        if one is None or other is None:
            notes += [f"Approach {name}: {found}" for found in fits if isinstance(found, str)]
            continue
        said = " | ".join(f"{a:.3f} ({low:.3f} to {high:.3f})" for a, low, high in (one, other))
        within = one[1] <= other[0] <= one[2] and other[1] <= one[0] <= other[2]
        lines.append(f"| {name} | {said} | {'yes' if within else 'no'} |")
    return [*lines, *(["", *notes] if notes else [])]


def losses(found: Mapping[Cell, float], grid: Grid) -> list[str]:
    """Cell by cell, for the seed that all have."""
    budgets = sorted({budget for _, budget, _ in found})
    lines = ["| width | " + " | ".join(units.flops(budget) for budget in budgets) + " |", "|--:|" + "--:|" * len(budgets)]
    for width in grid.widths:
        cells = (found.get((width, budget, 0)) for budget in budgets)
        lines.append(f"| {width} | " + " | ".join("" if d is None else f"{100 * d:+.2f}" for d in cells) + " |")
    return lines


def summary(found: Mapping[Cell, float]) -> str:
    worst = max(found.values(), key=abs)
    sizes = [abs(d) for d in found.values()]
    within, good = sum(size <= GOAL_LOSS for size in sizes), sum(d <= GOAL_LOSS for d in found.values())
    return (
        f"median {100 * statistics.median(sizes):.2f} % apart (signed {100 * statistics.median(found.values()):+.2f} %), worst {100 * worst:+.2f} %, "
        f"{within} of {len(sizes)} cells within {100 * GOAL_LOSS:.0f} %, {good} no more than that worse"
    )


def noise(design: Trained) -> str:
    """Between seeds at the one cell that repeats them."""
    cell = {r.spec.shape.d_model for r in design.records.values() if r.spec.group == "noise"}
    budgets = {r.spec.budget for r in design.records.values() if r.spec.group == "noise"}
    same = [r.loss for (width, budget, _), r in design.records.items() if width in cell and budget in budgets and r.loss is not None]
    return f"{100 * statistics.stdev(same) / statistics.mean(same):.2f} %" if len(same) > 1 else "not measured"


def rates(cosine: Trained, cooldown: Trained, others: Mapping[float, Trained], widths: Sequence[int]) -> list[str]:
    every = {TRUNK_LR: cooldown, **others}
    lines = [
        "| trunk's rate over the cosine's | median difference of the loss, % | worst | " + " | ".join(f"width {width}" for width in widths) + " |",
        "|--:|--:|--:|" + "--:|" * len(widths),
    ]
    for rate in sorted(every):
        found = {cell: d for cell, d in differences(every[rate], cosine).items() if cell[0] in widths and cell[2] == 0}
        medians = (statistics.median(d for cell, d in found.items() if cell[0] == width) for width in widths)
        worst = max(found.values(), key=abs)
        own = " | ".join(f"{100 * d:+.2f}" for d in medians)
        lines.append(f"| {rate:g} | {100 * statistics.median(found.values()):+.2f} | {100 * worst:+.2f} | {own} |")
    return lines


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "a processor that does not say")


def setting(grid: Grid) -> str:
    widths, low, high = ", ".join(map(str, grid.widths)), units.flops(grid.budgets[0]), units.flops(grid.budgets[-1])
    return (
        f"`python benchmarks/cooldown.py FOLDER`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {processor()}, {cores()} cores. The source of Python's "
        f"standard library as bytes, llama, widths {widths}, {len(grid.budgets)} budgets from {low} to {high} FLOPs, recipe small, {grid.eval_tokens:,} "
        f"validation tokens; {grid.seeds} seeds at the middle cell. The trunk runs at {TRUNK_LR:g} of the cosine's peak rate and "
        "is cooled down over the last fifth of every run; a size has one batch and one warm-up for all its lengths."
    )


def price(cosine: Trained, cooldown: Trained) -> list[str]:
    unsound = [r.id for design in (cosine, cooldown) for r in design.records.values() if r.status != "ok"]
    return [
        "| | cosine | cooldown | ratio | goal |",
        "|---|--:|--:|--:|--:|",
        f"| runs | {len(cosine.records)} | {len(cooldown.records)} | | |",
        f"| training FLOPs | {cosine.flops:.3g} | {cooldown.flops:.3g} | {cooldown.flops / cosine.flops:.3f} | at most {GOAL_FLOPS:g} |",
        "",
        f"Runs that did not end well: {', '.join(unsound)}." if unsound else "Every run ended well.",
    ]


def compared(cosine: Trained, cooldown: Trained, grid: Grid) -> list[str]:
    found = differences(cooldown, cosine)
    seeds = f"Between seeds the loss varies by {noise(cosine)} (standard deviation; cosine) and {noise(cooldown)} (cooldown)."
    return [f"Over all cells: {summary(found)}. {seeds}", "", *losses(found, grid)]


def page(cosine: Trained, cooldown: Trained, others: Mapping[float, Trained], grid: Grid) -> str:
    sections = {
        "# One trunk a size and branches cooled down, against a cosine for every run": [setting(grid), "", *price(cosine, cooldown)],
        f"## Exponents, with {100 * LEVEL:.0f} % intervals": exponents(cosine, cooldown),
        "## Final loss, cooldown over cosine, in %": compared(cosine, cooldown, grid),
        "## The trunk's rate": [
            "Final loss against the cosine's in %, for the trunks of some widths at other rates; below zero is better than the cosine.",
            "",
            *rates(cosine, cooldown, others, [width for width in RATED if width in grid.widths]),
        ],
    }
    return "\n\n".join("\n".join([title, "", *lines]).rstrip() for title, lines in sections.items()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the studies are kept")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--out", type=Path, help="file to write the page to; standard output if not given")
    parser.add_argument("--tiny", action="store_true", help="a minute's grid, to see that all of it runs; its figures are no results")
    asked = parser.parse_args()
    grid = TINY if asked.tiny else FULL
    cosine = trained(workspace(grid, asked.folder / "cosine", design="isoflop"), workers=asked.workers, widths=grid.widths)
    cooldown = trained(workspace(grid, asked.folder / "cooldown", design="cooldown"), workers=asked.workers, widths=grid.widths)
    others = {}
    for rate in grid.rates:
        work = workspace(grid._replace(seeds=1), asked.folder / f"rate-{rate:g}", design="cooldown", rate=rate / TRUNK_LR)
        others[rate] = trained(work, workers=asked.workers, widths=RATED)
    text = page(cosine, cooldown, others, grid)
    if asked.tiny:
        text = text.replace("\n\n", "\n\nA tiny run, to see that all of it works: its figures are no results.\n\n", 1)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
