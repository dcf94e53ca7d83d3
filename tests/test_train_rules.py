"""What is decided about a run beside its steps: whether it has diverged or failed, whether it is compiled, and what of it is counted."""

import importlib
import json
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import isoflop.arch
from isoflop import arch, launch
from isoflop.arch import Shape
from isoflop.errors import TrainError, UsageError
from isoflop.launch import Lost, Progress
from isoflop.runs import Cooldown, RunSpec
from isoflop.store import Store
from isoflop.train import Interrupted, Machine, _machine, checkpoint, train
from isoflop.train.compiling import pays
from isoflop.train.divergence import trouble
from isoflop.train.state import State, build

OF_TORCH = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # inside torch.compile itself


def spec_of(corpus, *, steps=120, vocab=None, name="llama", **values) -> RunSpec:
    defaults = {
        "shape": arch.get(name).at(16, vocab=vocab or corpus.vocab, context=32),
        "tokens": 128 * steps,
        "batch": 128,
        "lr": 0.01,
        "seed": 1,
        "data": corpus.digest,
        "eval_tokens": 1024,
        "budget": 1e9,
        "group": "isoflop",
    }
    return RunSpec(**(defaults | values))


def losses_of(*pieces):
    """A training curve: (steps, from, to), one after the other."""
    return torch.cat([torch.linspace(start, end, steps) for steps, start, end in pieces])


def said(curve, warmup=20):
    steps = len(curve)
    looks = (trouble(curve, step=step, steps=steps, warmup=warmup) for step in (*range(20, steps, 20), steps))
    return next((words for words in looks if words), "")


@pytest.mark.parametrize(
    "curve",
    [
        losses_of((9100, 5.0, 3.0), (900, 4.9, 4.9)),  # a tenth, less a step
        losses_of((370, 5.0, 3.0), (30, 4.5, 4.5)),
        losses_of((385, 5.0, 3.0), (15, 5.0, 4.6)),
        losses_of((200, 5.0, 3.0), (213, 3.0, 2.9), (24, 4.8, 4.3)),  # ends between two looks
        losses_of((40, 5.0, 4.0), (20, 4.8, 4.8)),
    ],
)
def test_a_spike_that_has_not_come_back_when_the_run_ends_is_divergence(curve):
    assert "has not come back by its end" in said(curve)
    assert said(torch.cat((curve, torch.full_like(curve, 3.0)))) == ""  # the same spike, where the run goes on and recovers


@pytest.mark.parametrize(
    "curve",
    [
        losses_of((370, 5.0, 3.0), (30, 3.9, 3.9)),  # worse, but less than half was lost
        losses_of((360, 5.0, 3.0), (20, 4.9, 4.9), (20, 3.3, 3.3)),  # came back just in time
        losses_of((400, 5.0, 3.0)),
        losses_of((20, 5.0, 4.9)),  # too short to say
    ],
)
def test_what_came_back_or_lost_little_by_its_end_is_no_divergence(curve):
    assert said(curve) == ""


def test_a_noisy_end_is_no_divergence():
    """Steps spread by 0.3 of what was learned: in 609 real runs the mean of twenty spread so that single ones lay up to 1.6 of it above the lowest mean."""
    for seed in range(100):
        noise = torch.randn(400, generator=torch.Generator().manual_seed(seed))
        curve = losses_of((100, 5.0, 3.0), (300, 3.0, 3.0)) + 0.3 * 2.0 * noise
        curve[0] = 5.0
        assert said(curve) == ""


def test_a_run_that_forgets_in_its_last_steps_is_recorded_as_diverged(corpus, tmp_path):
    """Its weights are as they were drawn again, 18 steps before the end: too late to learn much at the rate that is left."""
    spec = spec_of(corpus, steps=150)
    state = State.begin(spec, corpus, resume=None)
    while state.step < 132:
        state.advance()
    with torch.no_grad():
        for parameter, drawn in zip(state.module.parameters(), build(spec).parameters(), strict=True):
            parameter.copy_(drawn)
    checkpoint.save(tmp_path / "checkpoint", state.checkpoint())
    record = train(spec, corpus, folder=tmp_path)
    assert (record.status, record.loss) == ("diverged", None)
    assert "has not come back by its end, by step 150 of 150" in record.reason


def compiled_nowhere(corpus, kept, *, steps=10**6):
    """Asked for a run long enough that compiling could pay."""
    return pays(spec_of(corpus, steps=steps), corpus, Machine(), kept)


@OF_TORCH
def test_what_cannot_be_compiled_does_not_pay_and_is_not_tried_again(corpus, tmp_path):
    """On a machine without a C++ compiler."""
    kept, compiler = tmp_path / "kept.json", "/nonexistent/c++"
    with torch._inductor.config.patch({"cpp.cxx": (compiler,), "force_disable_caches": True}):
        assert not compiled_nowhere(corpus, kept)
    (measured,) = json.loads(kept.read_text()).values()
    assert measured["compiled"] is None
    assert "compiler" in measured["failed"].lower()
    assert measured["usual"] > 0
    before = kept.read_bytes()
    assert not compiled_nowhere(corpus, kept)  # though it could be by now
    assert kept.read_bytes() == before


@pytest.mark.slow  # a minute of the C++ compiler
@OF_TORCH
def test_a_shape_is_compiled_measured_and_kept_for_the_other_runs(corpus, tmp_path):
    kept = tmp_path / "kept.json"
    torch._dynamo.reset()  # what another test had compiled would be taken
    torch._dynamo.utils.counters.clear()
    answer = compiled_nowhere(corpus, kept)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    ((key, measured),) = json.loads(kept.read_text()).items()
    assert measured["failed"] == ""
    assert 0 < measured["compiled"] < 10
    assert 0 < measured["usual"] < 10
    assert measured["compiling"] > 10 * measured["compiled"]  # ten steps and the compiler
    assert answer == ((measured["usual"] - measured["compiled"]) * 10**6 > measured["compiling"])
    kept.write_text(json.dumps({key: measured | {"compiled": measured["usual"] / 2}}))
    torch._dynamo.utils.counters.clear()
    assert compiled_nowhere(corpus, kept, steps=10**9)  # by what is kept
    assert not torch._dynamo.utils.counters["stats"]


def flushed(threads):
    """The share of four million denormals that a product takes for nothing, by so many threads."""
    torch.set_num_threads(threads)
    return float((torch.full((1 << 22,), 2.0**-140) * 1.0).eq(0).float().mean())


@pytest.fixture
def usual_threads():
    before = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


@pytest.mark.usefixtures("usual_threads")
@pytest.mark.parametrize("begun", [1, 2])
def test_denormals_are_nothing_on_one_thread_and_kept_on_several_whatever_was_begun_before(begun):
    assert flushed(begun) == 0.0
    with _machine.settled(1):
        assert flushed(1) == 1.0
    with _machine.settled(2):
        assert flushed(2) == 0.0
    with _machine.settled(1):
        assert flushed(1) == 1.0
    assert flushed(1) == 0.0


@pytest.mark.usefixtures("usual_threads")
@pytest.mark.parametrize("before", [True, False])
def test_a_run_leaves_denormals_and_algorithms_as_they_were(before):
    torch.set_flush_denormal(before)
    for threads in (1, 2):
        with _machine.settled(threads, deterministic=True):
            pass
        assert flushed(1) == float(before)
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow  # two threads of a busy machine wait for each other
@pytest.mark.usefixtures("usual_threads")
def test_a_run_on_two_threads_goes_on_to_the_same_bits(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    shape = arch.get("llama").at(32, vocab=corpus.vocab, context=32)
    spec = spec_of(corpus, shape=shape, tokens=2048 * 16, batch=2048, threads=2)  # operations large enough to be shared
    assert spec.id != spec.model_copy(update={"threads": 1}).id
    whole = train(spec, corpus, folder=tmp_path / "whole")
    seen = []
    with pytest.raises(Interrupted):
        train(spec, corpus, folder=tmp_path / "cut", on_progress=lambda p: seen.append(p.step), should_stop=lambda: seen[-1] >= 8)
    resumed = train(spec, corpus, folder=tmp_path / "cut", attempt=2, on_progress=lambda p: seen.append(p.step))
    assert min(seen[seen.index(8) + 1 :]) >= 8
    assert resumed.model_copy(update={"clock": None}) == whole.model_copy(update={"clock": None})
    assert whole.clock.device.endswith("2 threads")


def test_a_warm_up_longer_than_the_run_is_refused(corpus):
    with pytest.raises(UsageError, match="a warm-up of 100 steps does not end in a run of 50"):
        spec_of(corpus, steps=50, schedule=Cooldown(name="cooldown", warmup_steps=100))
    with pytest.raises(UsageError):
        spec_of(corpus, steps=50, schedule=Cooldown(name="cooldown", warmup_steps=50))
    longest = spec_of(corpus, steps=50, schedule=Cooldown(name="cooldown", warmup_steps=49))
    assert longest.parting < longest.steps


def faulty_and_sound(corpus):
    """A run with fewer words than its text has, as a specification written by hand may be, and one that is larger and one that is smaller."""
    return spec_of(corpus, steps=60, vocab=64), spec_of(corpus, steps=80), spec_of(corpus, steps=50)


@pytest.mark.parametrize("launcher", ["inline", pytest.param("pool", marks=pytest.mark.slow)])
def test_a_run_whose_module_raises_is_failed_with_the_reason_and_the_others_go_on(corpus, tmp_path, launcher):
    faulty, *sound = faulty_and_sound(corpus)
    events = []
    with Store(tmp_path) as store, store.lock():
        launch.get(launcher).run(store, [faulty, *sound], corpus.folder, workers=1, on_event=events.append)
        records = {record.id: record for record in store.records()}
    assert [records[spec.id].status for spec in sound] == ["ok", "ok"]
    assert (records[faulty.id].status, records[faulty.id].loss) == ("failed", None)
    assert "3 attempts failed; the last: IndexError: index out of range" in records[faulty.id].reason
    assert "module.py, line" in records[faulty.id].reason
    assert [event.id for event in events if isinstance(event, Lost)] == [faulty.id] * 2


def test_a_listener_that_raises_fails_no_run(corpus, tmp_path):
    class DeafError(Exception):
        pass

    def listen(event):
        if isinstance(event, Progress):
            raise DeafError

    spec = spec_of(corpus, steps=50)
    with Store(tmp_path) as store, store.lock():
        with pytest.raises(DeafError):
            launch.get("inline").run(store, [spec], corpus.folder, workers=1, on_event=listen)
        assert store.records() == ()
        launch.get("inline").run(store, [spec], corpus.folder, workers=1, on_event=lambda _: None)
        assert [record.status for record in store.records()] == ["ok"]


MISCOUNTED = {
    "__init__": "",
    "shape": "from isoflop.arch.llama.shape import VARIANTS, at, flops_per_token, large, params, saved",
    "module": """
import torch
from isoflop.arch.llama import module

def build(shape, *, seed):
    built = module.build(shape, seed=seed)
    built.norm_forgotten_D = torch.nn.Parameter(torch.ones(shape.d_model))
    return built
""",
}


def test_a_module_that_is_not_what_its_shape_counts_is_refused(corpus, tmp_path, monkeypatch):
    """A family as somebody may add it: a folder beside the others, whose module has a norm that its shape does not know."""
    family = tmp_path / "miscounted"
    family.mkdir()
    for name, source in MISCOUNTED.items():
        (family / f"{name}.py").write_text(source)
    monkeypatch.setattr(isoflop.arch, "__path__", [*isoflop.arch.__path__, str(tmp_path)])
    shape = Shape(**(spec_of(corpus).shape.model_dump() | {"arch": "miscounted"}))
    with pytest.raises(TrainError, match=r"miscounted at width 16 was built with .*norm=96.* but its shape counts .*norm=80"):
        train(spec_of(corpus, shape=shape), corpus, folder=tmp_path / "run")


def counted(module, tokens_BT):
    """FLOPs of a step, forward and backward, with attention as its single products: PyTorch counts no fused one of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*tokens_BT).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "gopher"])
@pytest.mark.parametrize("width", [16, 24])
def test_a_step_takes_the_flops_of_its_shape_forward_and_backward(family, width):
    """To the last one: the look-up of the embedding and its gradient are no products, and masked scores are counted on both sides.

    But for gopher's keys of distances. A step computes them once for all B sequences and takes no gradient to the distances, so two products of the 3 B.
    """
    B, context = 3, 48
    shape = arch.get(family).at(width, vocab=64, context=context)
    module = importlib.import_module(f"isoflop.arch.{family}.module").build(shape, seed=0)
    module.plain = True
    tokens = torch.randint(64, (2, B, context), generator=torch.Generator().manual_seed(0))
    flops = shape.flops_per_token
    assert counted(module, tokens) == B * context * flops.training - (3 * B - 2) * context * flops.position
    assert math.isclose(flops.training, 3 * flops.forward, rel_tol=1e-12)
