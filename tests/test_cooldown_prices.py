"""`isoflop design` of a cooldown study says what its runs cost with shared trunks, and what the same runs would cost alone."""

import contextlib
import io
import json
import math
import re
import sys
from pathlib import Path

import pytest

from conftest import STUDY
from isoflop import cli

DECAY = 0.25  # of a run: not the default, so that the study's own is seen to count


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a text, and the same study as two designs."""
    folder = tmp_path_factory.mktemp("prices")
    (folder / "text.txt").write_text("\n\n".join(" ".join(f"w{i * j % 61}" for j in range(40)) for i in range(1500)), encoding="utf-8")
    text = STUDY.replace("sizes = [8, 12, 16, 20]", "sizes = [8, 12, 16]")
    (folder / "isoflop.toml").write_text(text, encoding="utf-8")
    (folder / "cooldown.toml").write_text(f'design = "cooldown"\ncooldown = {DECAY}\n{text}', encoding="utf-8")
    return folder


def designed(study: Path, *words: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isoflop", "design", str(study), "--folder", str(study.with_suffix("")), *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0, out.getvalue()
    return out.getvalue()


def flops_per_token(shape: dict) -> int:
    """Of training a llama: two for every weight of a product and four for every place of the context, forward; twice that backward."""
    d, heads = shape["d_model"], shape["n_heads"] * shape["kv_size"]
    layer = 2 * (4 * d * heads + 3 * d * shape["ffw_size"]) + 4 * shape["context"] * heads
    return 3 * (shape["n_layers"] * layer + 2 * d * shape["vocab"])


def alone(run: dict) -> int:
    return run["tokens"] * flops_per_token(run["shape"])


def shared(runs: list[dict]) -> int:
    """Of each size and seed the longest run in full, and of every other its cooldown, which is all that is its own."""
    total = 0
    for size, seed in {(run["shape"]["d_model"], run["seed"]) for run in runs}:
        *shorter, longest = sorted((r for r in runs if (r["shape"]["d_model"], r["seed"]) == (size, seed)), key=lambda run: run["tokens"])
        cooldowns = [round(DECAY * run["tokens"] / run["batch"]) * run["batch"] for run in shorter]
        total += alone(longest) + sum(cooldowns) * flops_per_token(longest["shape"])
    return total


def test_both_prices_of_a_cooldown_design_are_printed(place):
    study = place / "cooldown.toml"
    runs = json.loads(designed(study, "--json"))
    assert len(runs) == 10  # three sizes at three budgets, and a second seed at one point
    assert all(run["flops"] == alone(run) for run in runs)
    printed = designed(study)
    found = re.search(r"(\S+) FLOPs to train, for sizes share their trunks; (\S+) with each run on its own \((\d+)%\)\.", " ".join(printed.split()))
    assert found, printed
    own, whole = shared(runs), sum(alone(run) for run in runs)
    assert own < 0.8 * whole
    assert float(found[1]) == pytest.approx(own, rel=5e-3)  # three digits are printed
    assert float(found[2]) == pytest.approx(whole, rel=5e-3)
    assert int(found[3]) == round(100 * own / whole)
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("all ")]
    assert row[1:3] == ["10", found[2]]  # the table is of runs as they are defined, each whole


def test_a_design_without_trunks_has_one_price(place):
    printed = " ".join(designed(place / "isoflop.toml").split())
    assert "10 runs to train" in printed
    assert "share their trunks" not in printed
    assert "on its own" not in printed


def test_bf16_is_named_where_it_pays_while_there_is_a_choice(place, study, undisturbed, monkeypatch):
    plain, rounded = place / "isoflop.toml", place / "bf16.toml"
    rounded.write_text(f'precision = "bf16"\n{plain.read_text(encoding="utf-8")}', encoding="utf-8")
    trained = (study, "--folder", str(undisturbed))
    for at_least, asked, named in ((1e-9, (plain,), True), (math.inf, (plain,), False), (1e-9, (rounded,), False), (1e-9, trained, False)):
        monkeypatch.setattr(cli, "BF16_PAYS", at_least)
        found = re.search(r'precision = "bf16" in the study would train the longest run \d+\.\d times as fast', designed(*asked, "--time"))
        assert bool(found) is named, (at_least, asked)
