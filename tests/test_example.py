"""The committed example is a good small study, by its own numbers."""

import csv
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from isoflop import fit, study
from isoflop.runs import Runs

EXAMPLE = Path(__file__).parents[1] / "docs/example"
QUICKSTART = Path(__file__).parents[1] / "examples/1_quickstart.toml"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (EXAMPLE / "runs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def profiles(rows):
    sweep = [r for r in rows if r["group"] in {"isoflop", "noise"}]
    columns = {name: np.array([float(r[name]) for r in sweep]) for name in ("params", "tokens", "loss", "flops", "budget")}
    return fit.isoflop.fit(Runs.from_columns(**columns)).profiles


def test_it_is_the_quickstart(rows):
    kept, quickstart = study.load(EXAMPLE / "study.toml"), study.load(QUICKSTART)
    assert kept == quickstart
    assert {float(r["budget"]) for r in rows if r["group"] == "isoflop"} == set(quickstart.budgets)


def test_five_budgets_over_more_than_a_decade_with_six_sizes_each(profiles):
    budgets = np.array([p.flops for p in profiles])
    assert len(budgets) >= 5
    assert np.log10(budgets.max() / budgets.min()) >= 1.2
    assert all(len(p.params) >= 6 for p in profiles)


def test_minima_are_interior_and_move_right(profiles):
    inside = [p for p in profiles if p.interior]
    assert len(inside) >= 4
    assert (np.diff([p.params_opt for p in inside]) > 0).all()


def test_the_noise_between_seeds_is_known(rows):
    noise = [r for r in rows if r["group"] == "noise"]
    same = [r for r in rows if (r["budget"], r["d_model"]) == (noise[0]["budget"], noise[0]["d_model"])]
    assert len({r["seed"] for r in same}) == 3


def test_the_predicted_optimum_won_at_equal_compute(rows):
    proof = {r["label"]: r for r in rows if r["group"] == "proof"}
    losses = {label: float(r["loss"]) for label, r in proof.items()}
    assert min(losses, key=losses.get) == "chinchilla"
    flops = [float(r["flops"]) for r in proof.values()]
    assert max(flops) / min(flops) < 1.001
    assert min(flops) > 2.99 * max(float(r["flops"]) for r in rows if r["group"] != "proof")


def test_its_page_tells_the_same_minima(profiles):
    table = re.findall(r"^\| (\S+) \| .*?\| (yes|no) \|$", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [(float(budget), inside == "yes") for budget, inside in table] == [(p.flops, p.interior) for p in profiles]


def test_nothing_of_a_machine_is_in_it():
    text = (EXAMPLE / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"/(home|work|root|tmp|Users)/", re.sub(r"[A-Za-z0-9+/=]{200,}", "", text))
    assert tomllib.loads((EXAMPLE / "study.toml").read_text(encoding="utf-8"))["corpus"] == ["python"]
