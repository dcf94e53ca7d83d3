"""Nothing is trained to say how long training takes, and what may not fit into memory is not tried."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import isoflop
from isoflop import arch, launch
from isoflop.arch import _time

PAGE = Path(__file__).parents[1] / "benchmarks/step_time.md"
NO_TORCH = "import sys; sys.modules['torch'] = None; from isoflop.cli import main; main()"


@pytest.fixture
def place(study, tmp_path) -> Path:
    """A folder with a text and a study, nothing trained."""
    for name in ("study.toml", "text.txt"):
        shutil.copy(study.parent / name, tmp_path / name)
    return tmp_path


def without_torch(place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """A command in a process in which PyTorch cannot be imported, so that nothing can be trained."""
    line = [sys.executable, "-c", NO_TORCH, words[0], str(place / "study.toml"), *words[1:]]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=place, env=os.environ | environment, timeout=120)


@pytest.mark.parametrize("words", ["design", "train --dry-run", "run --dry-run", "tune --dry-run"])
def test_the_time_is_predicted_without_training(place, words):
    done = without_torch(place, *words.split())
    assert done.returncode == 0, done.stderr
    flat = " ".join(done.stdout.split())
    assert re.search(r"about \d+ (s|min)", flat)
    assert "redicted" in flat
    assert not list(place.glob("studies/*/runs/*"))


def test_what_may_not_fit_is_not_measured_but_predicted(place):
    done = without_torch(place, "design", "--time", ISOFLOP_MEMORY="300MB")  # enough for any of the runs, with no room to spare
    assert done.returncode == 0, done.stderr
    refused = without_torch(place, "design", "--time", ISOFLOP_MEMORY="200MB")
    assert refused.returncode == 0, refused.stderr
    assert "13 of 13 runs do not fit this machine, and will not be tried" in " ".join(refused.stderr.split())


def test_a_measurement_takes_real_steps(place):
    work = isoflop.open(place / "study.toml", folder=place / "kept")
    specs = work.design().specs[:1]
    assert work.seconds(specs, measure=True)[specs[0].id] > 0
    done = without_torch(place, "design", "--time")
    assert done.returncode == 1
    assert "Training needs the package 'torch'" in done.stderr


def test_no_time_is_given_for_a_device_that_nothing_predicts(place):
    done = without_torch(place, "train", "--dry-run", "--device", "cuda")
    assert done.returncode == 0, done.stderr
    assert "The time on cuda cannot be predicted; --time measures it" in " ".join(done.stdout.split())
    assert "core time" in done.stdout
    assert "trained\n" not in done.stdout  # not the same as a run that is


def shape(d_model: int, *, family: str = "llama", context: int = 128) -> arch.Shape:
    return arch.Kind(family=family, vocab=256, context=context).at(d_model)


@pytest.mark.parametrize("path", list(_time.COSTS))
def test_a_larger_model_a_longer_context_and_more_tokens_take_longer(path):
    def seconds(d_model: int, batch: int, context: int = 128) -> float:
        return _time.step_seconds(shape(d_model, context=context), batch=batch, path=path, speed=90.0)

    times = [seconds(d, 2048) for d in (8, 16, 32, 64, 128, 192, 256)]
    assert times == sorted(times)
    assert seconds(64, 1024) < seconds(64, 2048) <= 2 * seconds(64, 1024)
    assert seconds(64, 2048) < seconds(64, 2048, 1024)


def test_half_the_speed_takes_twice_as_long():
    fast, slow = (_time.step_seconds(shape(64), batch=1024, path="kernels", speed=speed) for speed in (90.0, 45.0))
    assert slow == pytest.approx(2 * fast)


def test_a_core_multiplies_at_some_pace():
    assert 0.1 < _time.core_speed() < 5000  # GFLOP/s: from a slow emulation to more than any core there is


def test_the_page_of_predictions_is_what_the_code_predicts():
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(("| llama", "| gopher"))]
    assert len(rows) >= 20
    near = 0
    for family, path, d_model, layers, context, tokens, vocab, speed, measured, predicted, ratio in rows:
        made = arch.Kind(family=family, vocab=int(vocab), context=int(context)).at(int(d_model))
        assert made.n_layers == int(layers)
        seconds = _time.step_seconds(made, batch=int(tokens), path=path, speed=float(speed))
        assert 1e3 * seconds == pytest.approx(float(predicted), rel=0.5 / float(speed) + 0.06 / float(predicted))  # both are rounded
        assert float(predicted) / float(measured) == pytest.approx(float(ratio), abs=0.011 + 0.06 / float(measured))
        near += 1 / 1.3 <= float(ratio) <= 1.3
    assert near >= 0.9 * len(rows)
    assert "1.3 times for 9 of 10 shapes" in launch.certainty()


def test_two_widths_of_the_page_span_what_is_claimed():
    widths = {int(line.split(" | ")[2]) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| llama")}
    assert min(widths) <= 32
    assert max(widths) >= 192
