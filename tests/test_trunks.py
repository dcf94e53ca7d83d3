"""Runs that begin alike share their beginning, and none of them can tell: the records are those of runs trained alone."""

import dataclasses
import functools
import itertools
import os
import shutil
import signal
import textwrap
import time

import pytest
import torch

import isoflop
from isoflop import arch, data, design, launch, study
from isoflop.design import Text
from isoflop.errors import StudyError
from isoflop.launch import Finished, Lost, Progress, Started
from isoflop.runs import Cooldown, RunSpec, own_steps
from isoflop.store import Store, studies
from isoflop.train import Trunk, checkpoint, train
from isoflop.train.schedule import factor
from isoflop.train.state import State
from isoflop.workspace import Workspace

TEXT = Text(digest="0" * 16, vocab=256, train_tokens=10**9, val_tokens=10**7)
STEPS = (40, 60, 100)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n".join(f"line {i}: {i * i} lazy dogs and {i % 7} hens" for i in range(4000)), encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


def spec_of(corpus, steps, **values) -> RunSpec:
    defaults = {
        "shape": arch.get("llama").at(8, vocab=256, context=32),
        "tokens": 64 * steps,
        "batch": 64,
        "lr": 0.01,
        "schedule": Cooldown(name="cooldown", warmup_steps=5),
        "seed": 1,
        "data": corpus.digest,
        "eval_tokens": 2048,
        "budget": 1e6 * steps,
        "group": "isoflop",
    }
    return RunSpec(**(defaults | values))


def timeless(record):
    return record.model_copy(update={"clock": None})


def made(**values):
    grid = {"name": "x", "budgets": [1e11 * 10 ** (i / 8) for i in range(9)], "target": "1e13", "seeds": 2, "design": "cooldown"}
    return design.design(study.parse(grid | values), TEXT)


def test_the_rate_is_held_until_the_cooldown_and_goes_down_as_one_less_a_square_root():
    schedule = Cooldown(name="cooldown", warmup_steps=10, decay=0.25)
    rates = [factor(schedule, step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert set(rates[10:76]) == {1.0}
    assert [rates[75 + i] for i in (1, 9, 16)] == pytest.approx([1 - (1 / 25) ** 0.5, 1 - 0.6, 1 - 0.8])
    assert 0 < rates[-1] < rates[-2]


def test_until_they_part_runs_of_one_trunk_have_the_same_rates(corpus):
    short, long = spec_of(corpus, 40), spec_of(corpus, 100)
    assert short.trunk == long.trunk != ""
    rates = [[factor(s.schedule, step, s.steps) for step in range(40)] for s in (short, long)]
    assert rates[0][: short.parting] == rates[1][: short.parting]
    assert rates[0][short.parting + 1] != rates[1][short.parting + 1]


@pytest.mark.parametrize("change", [{"seed": 2}, {"lr": 0.02}, {"batch": 128}, {"z_loss": 1e-4}, {"schedule": Cooldown(name="cooldown", warmup_steps=6)}])
def test_whatever_changes_the_weights_makes_another_trunk(corpus, change):
    assert spec_of(corpus, 40, **change).trunk != spec_of(corpus, 40).trunk


def test_what_does_not_change_the_trunks_weights_makes_no_other(corpus):
    slower = Cooldown(name="cooldown", warmup_steps=5, decay=0.4)
    assert spec_of(corpus, 40, budget=7.0, group="noise", eval_tokens=4096, schedule=slower).trunk == spec_of(corpus, 40).trunk


def test_a_branch_is_bit_equal_to_the_run_trained_alone_and_takes_only_its_own_steps(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)  # every step is reported
    specs = [spec_of(corpus, steps) for steps in STEPS]
    alone = [train(spec, corpus, folder=tmp_path / f"alone-{spec.steps}") for spec in specs]
    trunk = Trunk(tmp_path / "trunk", frozenset(spec.parting for spec in specs))
    train(specs[-1], corpus, folder=tmp_path / "long", trunk=trunk)
    assert checkpoint.steps(trunk.folder) == tuple(spec.parting for spec in specs)
    for spec, before in zip(specs[:-1], alone[:-1], strict=True):
        steps = []
        branch = train(spec, corpus, folder=tmp_path / f"branch-{spec.steps}", trunk=trunk, on_progress=lambda p, steps=steps: steps.append(p.step))
        assert timeless(branch) == timeless(before)
        assert steps[0] == spec.parting + 1
        for name in ("curve.parquet", "weights.safetensors"):
            assert (tmp_path / f"branch-{spec.steps}" / name).read_bytes() == (tmp_path / f"alone-{spec.steps}" / name).read_bytes()


def test_a_damaged_trunk_costs_time_and_nothing_else(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    short, long = spec_of(corpus, 40), spec_of(corpus, 100)
    trunk = Trunk(tmp_path / "trunk", frozenset({short.parting}))
    train(long, corpus, folder=tmp_path / "long", trunk=trunk)
    for file in trunk.folder.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-9])
    steps = []
    branch = train(short, corpus, folder=tmp_path / "branch", trunk=trunk, on_progress=lambda p: steps.append(p.step))
    assert steps[0] == 1
    assert timeless(branch) == timeless(train(short, corpus, folder=tmp_path / "alone"))


def test_own_steps_count_a_trunk_once(corpus):
    specs = [spec_of(corpus, steps) for steps in STEPS]
    alone = spec_of(corpus, 40, seed=5)
    steps = own_steps([*specs, alone])
    assert [steps[spec.id] for spec in specs] == [40 - 32, 60 - 48, 100]
    assert steps[alone.id] == 40


def test_the_others_of_a_trunk_wait_for_the_longest_and_start_as_it_passes_them(corpus, tmp_path):
    specs = [spec_of(corpus, steps) for steps in STEPS]
    with Store(tmp_path) as store:
        store.add(specs)
        first = store.claim("one", lease=60)
        assert first.spec == specs[-1]
        assert first.marks == tuple(spec.parting for spec in specs)
        assert store.claim("two", lease=60) is None
        manifest = first.trunk / f"step-{specs[0].parting:09d}" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
        assert store.claim("two", lease=60).spec == specs[0]
        assert store.claim("three", lease=60) is None
        store.release(first, reason="stopped")
        assert store.claim("three", lease=60).spec == specs[-1]


def test_one_whose_carrier_died_carries_on_itself(corpus, tmp_path):
    specs = [spec_of(corpus, steps) for steps in STEPS]
    with Store(tmp_path) as store:
        store.add(specs)
        store.claim("one", lease=0.01)
        time.sleep(0.05)
        assert store.claim("two", lease=60, ids={specs[0].id}).spec == specs[0]


def test_nobody_waits_for_one_that_goes_on_from_beyond_its_mark(corpus, tmp_path):
    """The longest was interrupted late, then shorter budgets were added."""
    *shorter, longest = (spec_of(corpus, steps) for steps in STEPS)
    with Store(tmp_path) as store:
        store.add([longest])
        first = store.claim("one", lease=60)
        manifest = first.folder / "checkpoint" / f"step-{shorter[0].parting:09d}" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
        store.release(first, reason="stopped")
        store.add(shorter)
        assert store.claim("one", lease=60).spec == longest
        assert store.claim("two", lease=60).spec == shorter[0]  # the longest will not come by its mark again
        assert store.claim("three", lease=60) is None  # but by that of the other it will


def test_a_launcher_trains_trunks_and_branches_to_the_records_of_runs_alone(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    specs = [spec_of(corpus, steps, seed=seed) for seed in (1, 2) for steps in STEPS]
    events = []
    with Store(tmp_path / "study") as store, store.lock():
        launch.get("inline").run(store, specs, corpus.folder, workers=1, on_event=events.append)
        records = {record.id: record for record in store.records()}
    assert {event.id for event in events if isinstance(event, Started)} == {spec.id for spec in specs}
    assert sum(isinstance(event, Finished) for event in events) == len(specs)
    assert {spec.id: begun(events, spec) for spec in specs} == {spec.id: [1 + (spec.parting if spec.steps < max(STEPS) else 0)] for spec in specs}
    for spec in specs[:3]:
        assert timeless(records[spec.id]) == timeless(train(spec, corpus, folder=tmp_path / spec.id))
    left = {path.parent.name: path.name for path in (tmp_path / "study/trunks").glob("*/*")}  # what a longer run would resume from, and no more
    assert left == {spec.trunk: f"step-{spec.parting:09d}" for spec in specs if spec.steps == max(STEPS)}


def begun(events, spec) -> list[int]:
    """The first step that each attempt at a run told of."""
    mine = [event for event in events if isinstance(event, Started | Progress) and event.id == spec.id]
    return [after.step for event, after in itertools.pairwise(mine) if isinstance(event, Started)]


EVERY_STEP = """
    import sys
    from importlib.machinery import PathFinder

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            found = super().find_spec(name, path, target) if name == "isoflop.train.loop" else None
            if found is not None:
                execute = found.loader.exec_module
                found.loader.exec_module = lambda module: (execute(module), setattr(module, "LOOK_SECONDS", 0.0))
            return found

    sys.meta_path.insert(0, Finder)
"""


@pytest.fixture
def workers_tell_of_every_step(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(textwrap.dedent(EVERY_STEP))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_tell_of_every_step")
def test_branches_run_at_the_same_time_and_one_that_is_killed_begins_again_where_it_parted(corpus, tmp_path, monkeypatch):
    """The first branch to move is stopped for a while, which a second would not do if it waited for it; the second is killed."""
    monkeypatch.setattr("isoflop.launch.pool.SILENCE", 30.0)
    carrier, *branches = (spec_of(corpus, n, schedule=Cooldown(name="cooldown", warmup_steps=5, decay=d)) for n, d in ((420, 0.2), (400, 0.7), (380, 0.7)))
    assert len({spec.trunk for spec in (carrier, *branches)}) == 1
    events, stopped, killed = [], {}, []
    with Store(tmp_path / "study") as store, store.lock():

        def on_event(event):
            events.append(event)
            if not isinstance(event, Progress) or event.id in {carrier.id, *stopped, *killed}:
                return
            worker = int(next(row.owner for row in store.rows() if row.id == event.id).rsplit(" ", 1)[1])
            if not stopped:
                stopped[event.id] = worker
                os.kill(worker, signal.SIGSTOP)
            else:
                assert not any(isinstance(e, Finished) and e.record.id in stopped for e in events)
                killed.append(event.id)
                os.kill(worker, signal.SIGKILL)
                os.kill(*stopped.values(), signal.SIGCONT)

        launch.get("pool").run(store, [carrier, *branches], corpus.folder, workers=2, on_event=on_event)
        records = {record.id: record for record in store.records()}
    assert [event.id for event in events if isinstance(event, Lost)] == killed
    for spec in branches:
        assert begun(events, spec) == [spec.parting + 1] * (1 + (spec.id in killed))
        assert records[spec.id].clock.attempt == 1 + (spec.id in killed)
    assert begun(events, carrier) == [1]
    again = next(spec for spec in branches if spec.id in killed)
    assert timeless(records[again.id]) == timeless(train(again, corpus, folder=tmp_path / "alone"))
    (last,) = (tmp_path / "study/trunks").glob("*/*")  # from which a longer run would resume
    assert last.name == f"step-{carrier.parting:09d}"


def test_a_fine_grid_from_trunks_costs_less_than_half():
    grid = made()
    assert grid.flops_shared < 0.5 * grid.flops
    assert grid.flops_shared == pytest.approx(sum(s.flops * own_steps(grid.specs)[s.id] / s.steps for s in grid.specs))


def test_every_budget_has_sizes_on_both_sides_of_the_expected_optimum():
    for budget, specs in _by_budget(made(sizes=7)).items():
        sizes = sorted(spec.shape.params.total for spec in specs)
        middle = 57e3 * (budget / 1e12) ** 0.55
        assert len(sizes) >= 5
        assert sizes[1] < middle < sizes[-2]


def test_all_runs_of_a_size_and_seed_are_one_trunk():
    grid = made()
    trunks = {(spec.shape, spec.seed): spec.trunk for spec in grid.specs}
    assert all(spec.trunk == trunks[spec.shape, spec.seed] for spec in grid.specs)
    assert len(set(trunks.values())) == len(trunks)


def test_budgets_are_met_within_a_step():
    for spec in made().specs:
        assert abs(spec.flops - spec.budget) <= 0.51 * spec.batch * spec.shape.flops_per_token.training


def test_one_schedule_for_all_lengths_is_the_grid_again_with_longer_cosines():
    grid = made(design="isoflop", overlong=True)
    matched, overlong = ([s for s in grid.specs if s.group == group] for group in ("isoflop", "overlong"))
    longest = max(spec.tokens for spec in matched)
    for one, other in zip(matched, overlong, strict=True):
        assert other.schedule.cycle == pytest.approx(longest / one.tokens, rel=1e-5)
        assert one.model_copy(update={"group": "overlong", "schedule": other.schedule}) == other
    short, long = (pick(overlong, key=lambda spec: spec.tokens) for pick in (min, max))
    for share in (0.2, 0.5, 1.0):  # the rate at a token is the same in all, but for a step's width
        step = round(share * short.steps)
        there = round(step * short.batch / long.batch)
        assert factor(short.schedule, step, short.steps) == pytest.approx(factor(long.schedule, there, long.steps), abs=0.02)
    assert factor(short.schedule, short.steps - 1, short.steps) > 0.8


def test_one_schedule_for_all_lengths_is_refused_where_there_are_trunks():
    with pytest.raises(StudyError, match="overlong compares cosines"):
        made(overlong=True)


GROWTH = [[8e11], [5e10], [2.8e11], [5e10, 1.6e12]]


@pytest.mark.parametrize("more", GROWTH, ids=str)
@pytest.mark.parametrize("sizes", [3, 5, 7, [8, 16, 24, 32]], ids=str)
def test_a_study_that_gains_budgets_keeps_all_of_its_runs(sizes, more):
    budgets = [1e11, 2e11, 4e11]
    first = made(budgets=budgets, sizes=sizes).specs
    grown = regrown(first, budgets=budgets + more, sizes=sizes)
    assert {spec.id for spec in first} <= {spec.id for spec in grown}
    added = [spec for spec in grown if spec.id not in {spec.id for spec in first}]
    assert {spec.budget for spec in added} == set(more)
    for spec in added:  # a size that was there resumes from its trunk
        assert (spec.trunk in {one.trunk for one in first}) == (spec.shape in {one.shape for one in first})
    for budget, specs in _by_budget(design.Design(specs=grown, warnings=())).items():
        params = sorted(spec.shape.params.total for spec in specs)
        assert len(params) >= 3
        assert isinstance(sizes, list) or params[0] < 57e3 * (budget / 1e12) ** 0.55 < params[-1]
    assert regrown(grown, budgets=budgets, sizes=sizes) == first  # the way back
    assert regrown(grown, budgets=budgets + more, sizes=sizes) == grown  # the same study again


def test_a_grown_study_is_measured_on_what_the_text_has():
    little = dataclasses.replace(TEXT, val_tokens=50_000)
    grid = {"name": "x", "budgets": [1e11, 2e11, 4e11], "target": "2e13", "design": "cooldown"}
    first = design.design(study.parse(grid), little).specs
    again = design.design(study.parse(grid), little, trained=first).specs
    assert again == first
    assert {spec.eval_tokens for spec in first} != {study.parse(grid).eval_tokens}


def regrown(trained, **values):
    grid = {"name": "x", "target": "2e13", "seeds": 2, "design": "cooldown"}
    return design.design(study.parse(grid | values), TEXT, trained=trained).specs


def test_a_run_much_shorter_than_its_trunks_warm_up_has_a_trunk_of_its_own():
    first = made(budgets=[1e11, 2e11, 4e11], sizes=[8, 16, 24]).specs
    grown = regrown(first, budgets=[1e10, 1e11, 2e11, 4e11], sizes=[8, 16, 24])
    short = [spec for spec in grown if spec.budget == 1e10]
    assert all(spec.schedule.warmup_steps <= 0.25 * spec.steps for spec in short)
    assert not {spec.trunk for spec in short} & {spec.trunk for spec in first}
    assert {spec.id for spec in first} <= {spec.id for spec in grown}


@pytest.mark.parametrize("kind", ["isoflop", "cooldown"])
def test_the_noise_stays_where_it_was_measured(kind):
    first = made(budgets=[1e11, 2e11, 4e11], design=kind).specs
    grown = regrown(first, budgets=[1e11, 2e11, 4e11, 8e11, 1.6e12], design=kind, seeds=3)
    points = {(spec.shape, spec.budget) for spec in first if spec.group == "noise"}
    noise = [spec for spec in grown if spec.group == "noise"]
    assert {(spec.shape, spec.budget) for spec in noise} == points
    assert [spec.seed for spec in noise] == [1, 2]
    moved = regrown(first, budgets=[1e11, 4e11, 8e11], design=kind)
    assert {spec.budget for spec in moved if spec.group == "noise"} == {4e11}


def test_own_steps_count_what_a_kept_trunk_has_behind_it(corpus):
    specs = [spec_of(corpus, steps) for steps in (40, 50, 100)]
    steps = own_steps(specs, {specs[0].trunk: 70})
    assert [steps[spec.id] for spec in specs] == [40 - 32, 50, 100 - 70]  # the two that part before it share a beginning of their own


SMALL = """
name = "small"
corpus = "text.txt"
validation = 0.2
context = 16
design = "cooldown"
budgets = ["2.5e7", "5e7", "1e8"]
sizes = [4, 6, 8]
seeds = 2
batch_scale = 4
eval_tokens = 1024
target = "1e9"
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A cooldown study of ten runs, trained; its file and its folder."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "text.txt").write_text("\n\n".join(" ".join(f"w{i * j % 61}" for j in range(40)) for i in range(1500)), encoding="utf-8")
    (folder / "study.toml").write_text(SMALL, encoding="utf-8")
    records = isoflop.open(folder / "study.toml", folder=folder / "kept").train(launcher="inline")
    assert [record.status for record in records] == ["ok"] * 10
    return folder


@pytest.fixture
def place(small, tmp_path):
    shutil.copytree(small, tmp_path / "small")
    return tmp_path / "small"


def edited(place, old, new):
    text = (place / "study.toml").read_text(encoding="utf-8")
    assert old in text
    (place / "study.toml").write_text(text.replace(old, new), encoding="utf-8")
    return isoflop.open(place / "study.toml", folder=place / "kept")


def test_a_trained_study_that_gains_a_budget_trains_that_budget_alone(place, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)  # every step is reported
    before = {path: path.stat().st_mtime_ns for path in place.glob("kept/runs/*/record.json")}
    trunks = {path.parent.name: int(path.name.removeprefix("step-")) for path in place.glob("kept/trunks/*/*")}
    assert len(before) == 10
    assert len(trunks) == 3  # the last checkpoint of every size
    work = edited(place, '"1e8"]', '"1e8", "2e8"]')
    specs = work.design().specs
    left = work.unfinished(specs)
    assert (len(specs), len(left)) == (13, 3)
    events = []
    records = work.train(launcher="inline", on_event=events.append)
    assert [record.status for record in records] == ["ok"] * 13
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for spec in left:
        assert begun(events, spec) == [trunks[spec.trunk] + 1]
        assert trunks[spec.trunk] > 0.3 * spec.steps
    alone = train(left[0], work.corpus, folder=place / "alone")
    assert timeless(work.known(left[:1])[0]) == timeless(alone)
    assert len(work.fit().fits) >= 1


def test_the_way_back_trains_nothing_whatever_budgets_were_dropped_meanwhile(place):
    changes = (("sizes = [4, 6, 8]", "sizes = 5"), ("context = 16", "context = 128"), ("batch_scale = 4", ""), ('"1e9"', '"2e13"'))
    text = functools.reduce(lambda text, change: text.replace(*change), changes, SMALL).replace('["2.5e7", "5e7", "1e8"]', '["1e11", "2e11", "4e11"]')
    (place / "study.toml").write_text(text, encoding="utf-8")
    folder = place / "numbered"
    work = isoflop.open(place / "study.toml", folder=folder)
    first = work.design().specs
    with Store(folder) as store:  # as if they were trained
        store.add(first)
        studies.write(folder, work.study, runs=[])
    other = work.study.model_copy(update={"budgets": (4e11, 8e11, 1.6e12)})
    grown = Workspace(other, folder=folder).design().specs
    assert {spec.id for spec in design.design(work.study, work.text, trained=grown).specs} != {spec.id for spec in first}  # those alone do not tell
    with Store(folder) as store:
        former = studies.write(folder, other, runs=[row.id for row in store.rows() if row.current])
        store.add(grown, instead_of=("isoflop", "noise"))
    assert isoflop.open(former, folder=folder).design().specs == first


def test_a_study_that_changes_how_a_size_is_trained_keeps_nothing(place):
    work = edited(place, "batch_scale = 4", "batch_scale = 4\nlr_scale = 2.0")
    specs = work.design().specs
    assert len(work.unfinished(specs)) == len(specs) == 10
    assert not {spec.trunk for spec in specs} & {path.name for path in place.glob("kept/trunks/*")}


def _by_budget(grid):
    found = {}
    for spec in grid.specs:
        found.setdefault(spec.budget, []).append(spec)
    return found


def test_a_branch_that_diverged_on_its_way_says_so_although_the_trunk_went_on(corpus, tmp_path):
    """A rise that lasts a tenth of a short run is over in a long one."""
    short, long = spec_of(corpus, 100), spec_of(corpus, 1000)
    train(short, corpus, folder=tmp_path / "alone")
    state = State.begin(short, corpus, resume=None)
    state.losses[: short.parting] = torch.cat([torch.linspace(5, 3, 20), torch.full((short.parting - 20,), 4.9)])
    state.step = short.parting
    trunk = Trunk(tmp_path / "trunk", frozenset({short.parting}))
    checkpoint.save(trunk.folder, state.checkpoint(), keep=None)
    assert short.trunk == long.trunk
    record = train(short, corpus, folder=tmp_path / "branch", trunk=trunk)
    assert (record.status, record.tokens) == ("diverged", 60 * short.batch)
    assert "has not come back" in record.reason


def test_a_checkpoint_of_another_run_in_the_same_folder_is_not_gone_on_from(corpus, tmp_path):
    checkpoint.save(tmp_path / "checkpoint", State.begin(spec_of(corpus, 40, lr=0.5), corpus, resume=None).checkpoint()._replace(step=1))
    assert timeless(train(spec_of(corpus, 40), corpus, folder=tmp_path)) == timeless(train(spec_of(corpus, 40), corpus, folder=tmp_path / "fresh"))


@pytest.mark.parametrize(("sizes", "spread"), [(3, 16.0), (7, 2.0), (7, 1.3)])
def test_every_budget_has_three_sizes_however_narrow_the_grid(sizes, spread):
    assert all(len(specs) >= 3 for specs in _by_budget(made(sizes=sizes, spread=spread, budgets=[1e11, 2e11, 4e11], target="2e12")).values())


def test_a_penalty_of_one_is_no_default(corpus):
    assert spec_of(corpus, 40, z_loss=1.0).id != spec_of(corpus, 40).id
