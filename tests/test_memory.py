"""Memory: what a run needs is said before it starts, and what does not fit is not started."""

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from isoflop import arch, launch
from isoflop.arch import Shape, _kernels, _written
from isoflop.arch import _memory as _arch_memory
from isoflop.arch._memory import live_bytes, live_bytes_of_kernels
from isoflop.errors import MemoryShortError, TrainError, UsageError
from isoflop.launch import Skipped, _memory
from isoflop.launch._events import Finished, Started
from isoflop.runs import Muon, RunSpec
from isoflop.store import Store
from isoflop.train import evaluate, train

SINGLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
BYTES = 256  # vocabulary


def spec_of(corpus, *, family="llama", d_model=8, context=32, batch=256, steps=10, vocab=BYTES, seed=0) -> RunSpec:
    family = arch.get(family)
    shape = family.at(d_model, vocab=vocab, context=context) if d_model < arch.LARGE else family.large(d_model, 8, vocab=vocab, context=context)
    return RunSpec(shape=shape, tokens=steps * batch, batch=batch, lr=1e-3, seed=seed, data=corpus.digest, eval_tokens=2048, budget=1e9, group="isoflop")


# ---- the prediction


def allocated(shape: Shape, sequences: int, kernels=None) -> int:
    """Bytes that live at once in one step, gradients of parameters aside, as PyTorch's own profiler has them."""
    model = importlib.import_module(f"isoflop.arch.{shape.arch}.module").build(shape, seed=0)
    model.kernels = kernels
    tokens = torch.zeros(sequences, shape.context, dtype=torch.int64)
    model(tokens, tokens).backward()  # gradients are there from now on
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        model(tokens, tokens).backward()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


STEPS = ((32, 256, 1024, 256), (64, 256, 1024, 256), (16, 1024, 1024, 256), (64, 64, 512, 32_768), (512, 64, 256, 256))


@pytest.mark.parametrize("family", ["gopher", "llama"])
@pytest.mark.parametrize(("d_model", "context", "tokens", "vocab"), STEPS)
def test_what_lives_at_the_peak_of_a_step_is_what_the_formula_says(family, d_model, context, tokens, vocab):
    """Within 15 %: matrices made anew with a norm's gain, and the smaller buffers of a pass, are left out."""
    shape = arch.get(family).at(d_model, vocab=vocab, context=context)
    formula = live_bytes(shape, tokens / context, 4, backward=True)
    assert formula == pytest.approx(allocated(shape, tokens // context), rel=0.15)


@pytest.mark.parametrize(("d_model", "context", "tokens", "vocab"), STEPS)
def test_what_lives_at_the_peak_of_a_step_by_kernels_is_what_the_formula_says(d_model, context, tokens, vocab):
    kernels = _kernels.load()
    if kernels is None:
        pytest.skip(_kernels.why_not())
    shape = arch.get("llama").at(d_model, vocab=vocab, context=context)
    formula = live_bytes_of_kernels(shape, tokens / context, 4, backward=True)
    assert formula == pytest.approx(allocated(shape, tokens // context, kernels), rel=0.15)


def test_the_formula_and_the_modules_cut_alike():
    assert (_arch_memory.BLOCK, _arch_memory.LOGITS) == (_written.BLOCK, _written.LOGITS)
    kernels = (Path(_kernels.__file__).parent / "_kernels.c").read_text(encoding="utf-8")
    assert f"BLOCK = {_arch_memory.BLOCK}, ROWS = {_arch_memory.ROWS} }};" in kernels
    assert evaluate.CHUNK == _arch_memory.EVALUATED


CHILD = """
import sys, json, pathlib, tempfile
from isoflop import data, train
from isoflop.runs import Muon, RunSpec
with tempfile.TemporaryDirectory() as folder:
    train.train(RunSpec.model_validate_json(sys.argv[1]), data.load(pathlib.Path(sys.argv[2])), folder=pathlib.Path(folder))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(1024 * (int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells pages of files from a process's own")
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"d_model": 8, "context": 64, "batch": 256}, marks=pytest.mark.slow),
        {"d_model": 32, "context": 1024, "batch": 8192, "steps": 4},
        pytest.param({"d_model": 64, "context": 64, "batch": 1024, "vocab": 32_768, "steps": 4}, marks=pytest.mark.slow),
        pytest.param({"family": "gopher", "d_model": 64, "context": 256, "batch": 8192, "steps": 4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_run_takes_what_was_predicted_within_a_factor_of_1_3(corpus, sizes):
    spec = spec_of(corpus, **sizes)
    command = [sys.executable, "-c", CHILD, spec.model_dump_json(), str(corpus.folder)]
    measured = int(subprocess.run(command, env=os.environ | SINGLE, check=True, capture_output=True, text=True).stdout)
    assert 1 / 1.3 <= _memory.need(spec).total / measured <= 1.3


def test_more_of_anything_needs_more_memory(corpus):
    least = _memory.need(spec_of(corpus)).total
    for more in ({"d_model": 64}, {"batch": 65_536}, {"context": 256, "batch": 8192}, {"vocab": 32_768}, {"steps": 10_000}):
        assert _memory.need(spec_of(corpus, **more)).total > least


def test_muon_spares_a_moment_of_the_matrices_of_the_blocks(corpus):
    spec = spec_of(corpus, d_model=64)
    adamw, muon = _memory.need(spec), _memory.need(spec.model_copy(update={"optimizer": Muon(name="muon")}))
    inside = [
        p.numel()
        for name, p in importlib.import_module("isoflop.arch.llama.module").build(spec.shape, seed=0).named_parameters()
        if name.startswith("blocks.") and p.ndim == 2
    ]
    assert adamw.states - muon.states == adamw.checkpoint - muon.checkpoint == 4 * sum(inside)


def test_a_halving_halves_the_activations_and_leaves_the_states(corpus):
    spec = spec_of(corpus, d_model=64, context=256, batch=65_536)
    whole, half = _memory.need(spec), _memory.need(spec, halvings=1)
    assert whole.states == half.states
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.01)  # the output matrix is there once


def test_a_batch_is_halved_until_it_fits_and_no_further(corpus):
    spec = spec_of(corpus, d_model=64, context=256, batch=65_536)
    for n in range(5):
        assert _memory.halvings(spec, _memory.need(spec, halvings=n).total) == n
    assert _memory.halvings(spec, math.inf) == 0


def test_what_cannot_fit_is_refused_with_need_and_memory_and_what_to_do(corpus):
    with pytest.raises(TrainError, match=r"needs 1\.\d+ GB of memory.*only 300 MB.*ISOFLOP_MEMORY"):
        _memory.halvings(spec_of(corpus, d_model=512), 300e6)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("DefaultCPUAllocator: not enough memory")], ids=repr)
def test_whoever_says_that_memory_ran_out_the_batch_is_halved(corpus, tmp_path, monkeypatch, error):
    module = importlib.import_module("isoflop.arch.llama.module").Llama
    forward = module.forward

    def cramped(self, tokens_BT, *rest, **named):
        if torch.is_grad_enabled() and len(tokens_BT) > 2:
            raise error
        return forward(self, tokens_BT, *rest, **named)

    monkeypatch.setattr(module, "forward", cramped)
    record = train(spec_of(corpus), corpus, folder=tmp_path)
    assert (record.status, record.clock.micro) == ("ok", 4)


def test_another_error_of_a_step_is_no_lack_of_memory(corpus, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("std::length_error")

    monkeypatch.setattr(importlib.import_module("isoflop.arch.llama.module").Llama, "forward", broken)
    with pytest.raises(RuntimeError, match="length_error"):
        train(spec_of(corpus), corpus, folder=tmp_path)


# ---- the machine


def test_the_users_cap_holds(monkeypatch):
    monkeypatch.setenv(_memory.CAP, "123MB")
    assert _memory.free() == _memory.limit() == 123e6


def test_a_cap_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv(_memory.CAP, "much")
    with pytest.raises(UsageError, match="2GB"):
        _memory.free()


def test_what_a_worker_holds_counts_as_free_for_workers():
    if not Path("/proc/meminfo").exists():
        pytest.skip("no /proc")
    assert _memory.held(os.getpid()) > 1e7
    assert _memory.free() < _memory.limit()


def test_a_limit_on_addresses_is_seen():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9,) * 2); from isoflop.launch import _memory; print(_memory.limit())"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert float(found) == 3e9 - _memory.ADDRESSES


def test_the_largest_that_fit_together_are_chosen_in_order():
    assert _memory.fitting([5, 4, 3, 2, 1], 8, most=9) == (0, 2)
    assert _memory.fitting([5, 4, 3, 2, 1], 8, most=1) == (0,)
    assert _memory.fitting([9, 4], 8, most=9) == (1,)
    assert _memory.fitting([], 8, most=9) == ()


# ---- the launchers


def trained(corpus, folder, specs, launcher, *, workers=2):
    events = []
    with Store(folder) as store, store.lock():
        launch.get(launcher).run(store, specs, corpus.folder, workers=workers, on_event=events.append)
        return events, {record.id: record for record in store.records()}


def at_once(events) -> int:
    """Runs under way at the same time, at most."""
    running, most = set(), 0
    for event in events:
        if isinstance(event, Started):
            running.add(event.id)
        elif isinstance(event, Finished | Skipped):
            running.discard(event.record.id if isinstance(event, Finished) else event.id)
        most = max(most, len(running))
    return most


@pytest.mark.parametrize("launcher", ["inline", pytest.param("pool", marks=pytest.mark.slow)])
def test_what_fits_only_alone_runs_alone_and_what_does_not_fit_is_skipped_with_the_reason(corpus, tmp_path, monkeypatch, launcher):
    *small, large = [*(spec_of(corpus, seed=seed) for seed in range(4)), spec_of(corpus, d_model=512, batch=32, steps=4)]
    monkeypatch.setenv(_memory.CAP, str(1.5 * _memory.need(small[0]).total))
    events = []
    with Store(tmp_path) as store, store.lock():
        with pytest.raises(MemoryShortError, match=r"1 run was not trained.*of memory"):  # after all others: a cap of one start is no fault of a run
            launch.get(launcher).run(store, [*small, large], corpus.folder, workers=2, on_event=events.append)
        assert {row.id: row.status in {"pending", "interrupted"} for row in store.rows()} == {spec.id: spec == large for spec in (*small, large)}
    assert at_once(events) == 1
    assert [event.id for event in events if isinstance(event, Skipped)] == [large.id]
    monkeypatch.delenv(_memory.CAP)
    _, records = trained(corpus, tmp_path, [large], launcher)
    assert records[large.id].status == "ok"


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_worked_through_in_parts_with_the_same_loss(corpus, tmp_path, monkeypatch):
    spec = spec_of(corpus, batch=32_768, steps=4)
    _, whole = trained(corpus, tmp_path / "whole", [spec], "pool", workers=1)
    monkeypatch.setenv(_memory.CAP, str(1.001 * _memory.need(spec, halvings=2).total))
    _, parts = trained(corpus, tmp_path / "parts", [spec], "pool", workers=1)
    assert (whole[spec.id].clock.micro, parts[spec.id].clock.micro) == (1, 4)
    assert parts[spec.id].loss == pytest.approx(whole[spec.id].loss, rel=1e-5)  # sums in float32, in another order


def test_the_prediction_needs_no_torch():
    code = "from isoflop.launch import _memory, _room; import sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
