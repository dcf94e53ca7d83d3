"""How long Approach 3 takes on the 240 points of Hoffmann et al.'s Figure 4, beside other tools, and whether it ends where it should.

Run: `OMP_NUM_THREADS=1 python benchmarks/fit.py POINTS.csv [PYTHON ...]`

POINTS.csv has the columns params, tokens, loss and in_published_fit. Each PYTHON is an interpreter of its own with `chinchilla` or `simple-scaling-laws`
installed; what it lacks is left out. All is measured in one run, in CPU seconds of user and system time, and given as ratios to ours.
"""

import csv
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from isoflop.fit import _bootstrap, _outliers, parametric
from isoflop.laws.chinchilla import Chinchilla
from isoflop.runs import Runs

Floats = NDArray[np.float64]
SAMPLE = 200  # resamples that are held against many descents
EVERY = 15  # start of the paper's grid that SciPy is given
ROWS = (10_000, 100_000, 1_000_000)

ASIDE = """
import csv, resource, sys, tempfile, warnings
warnings.simplefilter("ignore")
def spent():
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
rows = [row for row in csv.DictReader(open(sys.argv[1])) if row["in_published_fit"] == "True"]
column = lambda name: [float(row[name]) for row in rows]
"""
CHINCHILLA = """
import numpy as np, pandas
from chinchilla import Chinchilla
def log_huber(true, fitted, delta=1e-3):
    off = np.abs(np.log(true) - np.log(np.maximum(fitted, 1e-300)))
    return np.where(off <= delta, off**2 / 2, delta * (off - delta / 2))
grid = dict(E=np.linspace(1, 2, 3), a=np.linspace(1, 10, 3), b=np.linspace(1, 10, 3), alpha=np.linspace(0.1, 0.7, 3), beta=np.linspace(0.1, 0.7, 3))
tool = Chinchilla(tempfile.mkdtemp(), param_grid=grid, loss_fn=log_huber, log_level=50)
table = pandas.DataFrame(dict(N=column("params"), D=column("tokens"), loss=column("loss")))
table["C"] = 6 * table.N * table.D
tool.database.df = table
tool.visualizer.optim = lambda *a, **k: None
before = spent()
tool.fit()
print(spent() - before, *(float(value) for value in (tool.E, tool.A, tool.B, tool.alpha, tool.beta)))
"""
SIMPLE = """
import polars
from simple_scaling_laws import fit
table = polars.DataFrame(dict(training_run_id=[str(i) for i in range(len(rows))], model_size__n_params=column("params"),
    dataset_size__n_tokens=column("tokens"), test_loss__cross_entropy=column("loss")))
before = spent()
model = fit(table, law="separable-power", n_draws=int(sys.argv[2]), seed=0)
after = spent()
found = model.params("test_loss__cross_entropy")
print(after - before, *(found[k] for k in ("E", "A", "B", "alpha", "beta")))
"""
OTHERS = (
    ("`chinchilla`, Huber's loss, 243 starts", "chinchilla", CHINCHILLA, ()),
    ("`simple-scaling-laws`, least squares, 20 draws", "simple_scaling_laws", SIMPLE, ("20",)),
    ("`simple-scaling-laws`, least squares, 4000 draws", "simple_scaling_laws", SIMPLE, ("4000",)),
)


def seconds(work: Callable[[], object], *, times: int = 1) -> float:
    """The least CPU time of several."""
    least = float("inf")
    for _ in range(times):
        before = time.process_time()
        work()
        least = min(least, time.process_time() - before)
    return least


def elsewhere(python: str, package: str, code: str, *words: str) -> str:
    """What a script under another interpreter says; empty if the package is not there."""
    if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode:
        return ""
    return subprocess.run([python, "-c", ASIDE + code, *words], capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def points(path: Path) -> Runs:
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["in_published_fit"] == "True"]
    return Runs.from_columns(**{name: np.array([float(row[name]) for row in rows]) for name in ("params", "tokens", "loss")})


def by_scipy(problem: parametric.Problem, weights: Floats, starts: Floats, **options: float) -> Floats:
    """The objective at the end of L-BFGS-B from each start, with our gradient."""
    objective = problem.objective(problem.estimator, weights, problem.points.log_loss[None])

    def at(theta: Floats) -> tuple[float, Floats]:
        there = objective(theta[None], np.array([0]))
        return float(there.value[0]), there.gradient[0]

    box = list(zip(*problem.bounds, strict=True))
    return np.array([optimize.minimize(at, start, jac=True, method="L-BFGS-B", bounds=box, options=options).fun for start in starts])


def usual(runs: Runs) -> Floats:
    """The same from the same starts in logs of E, A and B as they stand, numerical gradient, default tolerances: how most scripts have it."""
    x, y, z = np.log(runs.params), np.log(runs.tokens), np.log(runs.loss)

    def at(theta: Floats) -> float:
        e, a, b, alpha, beta = theta
        off = np.abs(np.logaddexp(np.logaddexp(e, a - alpha * x), b - beta * y) - z)
        return float(np.where(off <= parametric.DELTA, off**2 / 2, parametric.DELTA * (off - parametric.DELTA / 2)).sum())

    axes = (np.arange(-1, 1.5, 0.5), np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5))
    return np.array([optimize.minimize(at, start, method="L-BFGS-B").fun for start in np.array(list(itertools.product(*axes)))[::EVERY]])


def papers_grid(problem: parametric.Problem) -> Floats:
    """(4500, 5) Hoffmann et al. 2022, App. D.3, as unknowns about the centre."""
    axes = (np.arange(-1, 1.5, 0.5), np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5))
    grid = np.array(list(itertools.product(*axes)))
    grid[:, 1] -= grid[:, 3] * problem.points.log_params
    grid[:, 2] -= grid[:, 4] * problem.points.log_tokens
    return np.clip(grid, *problem.bounds)


def resamples_above(runs: Runs, problem: parametric.Problem) -> tuple[float, int]:
    """The largest share by which a resample ends above nine descents from around both optima, and how many of those end above ours."""
    best = parametric.solve(problem).theta
    weights = _bootstrap.counts(runs.budget[problem.order], resamples=4000, seed=0)[:: 4000 // SAMPLE]
    ours, most, lower = parametric.refit(problem, best, weights=weights), -np.inf, 0
    rng = np.random.default_rng(0)
    for row, theta in zip(weights, ours, strict=True):
        starts = np.array([best, theta, *(best * (1 + spread * rng.standard_normal(5)) for spread in (0.01, 0.03, 0.1, 0.1, 0.2, 0.3, 0.5))])
        theirs = by_scipy(problem, row[None], starts, maxiter=2000, ftol=1e-15, gtol=1e-10).min()
        mine = problem.objective(problem.estimator, row[None], problem.points.log_loss[None])(theta[None], np.array([0])).value[0]
        most, lower = max(most, float(mine / theirs - 1)), lower + int(mine < theirs * (1 - 1e-9))
    return most, lower


def many(count: int) -> Runs:
    """Runs of a known law with noise."""
    rng, law = np.random.default_rng(0), Chinchilla(E=1.7, A=400.0, B=400.0, alpha=0.34, beta=0.28)
    params, tokens = np.exp(rng.uniform(np.log(1e7), np.log(1e10), count)), np.exp(rng.uniform(np.log(1e9), np.log(1e12), count))
    return Runs.from_columns(params=params, tokens=tokens, loss=law.loss(params, tokens) * np.exp(0.003 * rng.standard_normal(count)))


def main() -> None:
    """Print the tables."""
    path, others = Path(sys.argv[1]), sys.argv[2:]
    runs = points(path)
    problem = parametric.problem(runs)
    best = parametric.solve(problem)
    parametric.fit(runs, resamples=0)  # what is done once for a process is no part of it
    one = seconds(lambda: parametric.fit(runs, resamples=0), times=7)
    many_resamples = seconds(lambda: parametric.fit(runs, resamples=4000), times=3)
    print(f"memory before the million rows: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    print(f"ours, one fit: {one:.3f} s, objective {best.objective:.10e}")
    print(f"ours, one fit and 4000 resamples: {many_resamples:.2f} s")
    print(f"ours, runs that went wrong looked for: {seconds(lambda: _outliers.find(runs), times=5):.3f} s")
    grid = papers_grid(problem)[::EVERY]
    for name, work in (
        ("centred, scaled, with our gradient", lambda: by_scipy(problem, np.ones((1, len(runs))), grid)),
        ("as usually written", lambda: usual(runs)),
    ):
        ends: list[Floats] = []
        spent = seconds(lambda work=work, ends=ends: ends.append(work()))
        reached = float((ends[0] * (problem.estimator.unit if name != "as usually written" else 1.0) < best.objective * (1 + 1e-6)).mean())
        print(
            f"SciPy L-BFGS-B {name}, {len(grid)} of 4500 starts: {spent:.1f} s, {100 * reached:.0f} % reach the optimum; all: {spent * EVERY / one:.0f}x ours"
        )
    for python, (name, package, code, words) in itertools.product(others, OTHERS):
        said = elsewhere(python, package, code, str(path), *words)
        if said:
            print(f"{name}: {float(said.split()[0]):.2f} s, {float(said.split()[0]) / one:.0f}x our fit; E A B alpha beta: {said.partition(' ')[2]}")
    above, lower = resamples_above(runs, problem)
    print(f"{SAMPLE} of 4000 resamples against nine L-BFGS-B descents each: ours above by {above:.1e} at most, below by 1e-9 or more in {lower}")
    for count in ROWS:
        rows = many(count)
        spent = seconds(lambda rows=rows: parametric.fit(rows, resamples=0))
        print(f"{count} rows: {spent:.2f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
