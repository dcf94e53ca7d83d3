"""A study with other `eval_tokens` measures the weights that it has, instead of training them again."""

import shutil

import pytest

import isoflop
from isoflop.launch import Lost
from isoflop.launch import Progress as Told
from isoflop.store import Store
from isoflop.train import train

STUDY = """
name = "measured"
corpus = "text.txt"
validation = 0.2
context = 16
budgets = ["2.5e7", "5e7", "1e8"]
sizes = [4, 6, 8]
seeds = 2
batch_scale = 4
eval_tokens = 1024
target = "1e9"
"""


def timeless(record):
    return record.model_copy(update={"clock": None})


@pytest.fixture(scope="module", params=["isoflop", "cooldown"])
def trained(request, tmp_path_factory):
    """A study of ten runs, trained: its folder, with its text beside."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "text.txt").write_text("\n\n".join(" ".join(f"w{i * j % 61}" for j in range(40)) for i in range(1500)), encoding="utf-8")
    (folder / "study.toml").write_text(f'design = "{request.param}"\n{STUDY}', encoding="utf-8")
    isoflop.open(folder / "study.toml", folder=folder / "kept").train(launcher="inline")
    return folder


@pytest.fixture
def place(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "study")


def other(place, tokens=4096):
    path = place / "study.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("eval_tokens = 1024", f"eval_tokens = {tokens}"), encoding="utf-8")
    return isoflop.open(path, folder=place / "kept")


@pytest.mark.parametrize("launcher", ["inline", pytest.param("pool", marks=pytest.mark.slow)])
def test_the_weights_are_measured_again_and_nothing_is_trained(place, launcher):
    before = {(r.spec.shape, r.spec.budget, r.spec.seed): r for r in isoflop.open(place / "study.toml", folder=place / "kept").known()}
    work = other(place)
    specs = work.design().specs
    assert work.only_evaluated(specs) == {spec.id for spec in specs}
    events = []
    records = work.train(launcher=launcher, on_event=events.append)
    assert not [event for event in events if isinstance(event, Lost) or (isinstance(event, Told) and event.step < event.steps)]
    assert [record.status for record in records] == ["ok"] * 10
    for record in records:
        former = before[record.spec.shape, record.spec.budget, record.spec.seed]
        assert record.spec.eval_tokens == 4096
        assert (record.weights_sha256, record.curve_sha256, record.clock.seconds) == (former.weights_sha256, former.curve_sha256, former.clock.seconds)
        assert record.loss != former.loss
        assert (place / "kept/runs" / record.id / "weights.safetensors").read_bytes() == (place / "kept/runs" / former.id / "weights.safetensors").read_bytes()
    assert work.known() == records


def test_the_record_is_that_of_the_run_trained_from_its_start(place):
    work = other(place)
    spec = work.design().specs[4]
    (record,) = work.train([spec], launcher="inline")
    assert timeless(record) == timeless(train(spec, work.corpus, folder=place / "alone"))


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-4])])
def test_a_run_without_sound_weights_is_trained_again(place, damage):
    for path in place.glob("kept/runs/*/weights.safetensors"):
        damage(path)
    work = other(place)
    spec = work.design().specs[0]
    events = []
    (record,) = work.train([spec], launcher="inline", on_event=events.append)
    assert timeless(record) == timeless(train(spec, work.corpus, folder=place / "alone"))


def test_a_run_that_is_trained_otherwise_is_not_taken_for_the_same(place):
    work = isoflop.open(place / "study.toml", folder=place / "kept")
    spec = work.design().specs[0]
    changes = [{"lr": 0.5}, {"seed": 7}, {"tokens": spec.tokens + spec.batch}, {"z_loss": 0.1}, {"precision": "bf16"}, {"data": "0" * 16}, {"threads": 2}]
    with Store(place / "kept", read_only=True) as store:
        assert not store.only_evaluated([spec.model_copy(update={"eval_tokens": 4096, **change}) for change in changes])
        assert store.only_evaluated([spec.model_copy(update={"eval_tokens": 4096, "group": "proof", "label": "x", "budget": 1.0})])


def test_the_price_is_that_of_the_measurement(place):
    work = other(place)
    left = work.unfinished(work.design().specs)
    (place / "kept/runs" / left[0].id).mkdir(parents=True)  # as where an attempt was begun
    cheap = sum(work.seconds(left).values())
    for path in place.glob("kept/runs/*/weights.safetensors"):
        path.unlink()
    assert not work.only_evaluated(left)
    assert sum(work.seconds(left).values()) > cheap
