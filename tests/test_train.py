"""A run is a function of its spec: same bits wherever it was stopped, and nothing half-written."""

import importlib
import json
import math
import os
import shutil

import numpy as np
import pytest
import torch

from isoflop import arch
from isoflop.arch.llama.module import Llama
from isoflop.errors import CorpusError, MemoryShortError, StoreError, UsageError
from isoflop.runs import AdamW, Cosine, Muon, RunSpec
from isoflop.store import files
from isoflop.train import Interrupted, Machine, _machine, checkpoint, decide, seconds_per_step, train
from isoflop.train import optim as optim_module
from isoflop.train.checkpoint import Checkpoint
from isoflop.train.compiling import pays
from isoflop.train.divergence import trouble
from isoflop.train.schedule import factor
from isoflop.train.state import USUAL


def spec_of(corpus, **values) -> RunSpec:
    shape = arch.get(values.pop("arch", "llama")).at(16, vocab=corpus.vocab, context=32)
    defaults = {
        "shape": shape,
        "tokens": 128 * 120,
        "batch": 128,
        "lr": 0.01,
        "seed": 1,
        "data": corpus.digest,
        "eval_tokens": 4096,
        "budget": 1e9,
        "group": "isoflop",
    }
    return RunSpec(**(defaults | values))


def timeless(record):
    return record.model_copy(update={"clock": None})


@pytest.fixture
def stop_at(corpus, monkeypatch):
    """Trains a run in a folder until so many steps are done; the steps that were told."""
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)  # every step is told

    def stop(spec, folder, step, machine=USUAL):
        told = []
        with pytest.raises(Interrupted):
            train(spec, corpus, folder=folder, machine=machine, on_progress=lambda p: told.append(p.step), should_stop=lambda: told[-1] >= step)
        assert told[-1] == step
        return told

    return stop


@pytest.fixture
def resume(corpus, stop_at):
    """Stops a run and goes on with it in another attempt; the record."""

    def stopped_and_resumed(spec, folder, *, step, machine=USUAL):
        stop_at(spec, folder / "stopped", step, machine)
        told = []
        record = train(spec, corpus, folder=folder / "resumed", attempt=2, earlier=(folder / "stopped",), on_progress=lambda p: told.append(p.step))
        assert told[0] == step + 1  # not from the beginning, which would give the same record
        return record

    return stopped_and_resumed


@pytest.mark.parametrize("name", ["gopher", "llama"])
def test_training_lowers_the_loss_from_that_of_a_uniform_guess(corpus, tmp_path, name):
    record = train(spec_of(corpus, arch=name), corpus, folder=tmp_path)
    curve = files.read_curve(tmp_path, record.curve_sha256)
    assert curve.loss[0] == pytest.approx(math.log(256), abs=0.1)
    assert record.loss < 2.6
    assert record.bits_per_byte == pytest.approx(record.loss / math.log(2), rel=1e-9)
    assert (record.status, record.tokens, record.flops) == ("ok", 128 * 120, record.spec.flops)
    assert len(curve.tokens) == 120


def test_the_same_spec_gives_the_same_record(corpus, tmp_path):
    first, second = (train(spec_of(corpus), corpus, folder=tmp_path / name) for name in "ab")
    assert timeless(first) == timeless(second)
    assert (tmp_path / "a/curve.parquet").read_bytes() == (tmp_path / "b/curve.parquet").read_bytes()


def test_the_seed_changes_the_result(corpus, tmp_path):
    losses = {train(spec_of(corpus, seed=seed), corpus, folder=tmp_path / str(seed)).loss for seed in (1, 2)}
    assert len(losses) == 2


def test_a_run_stopped_and_resumed_goes_on_where_it_was_and_gives_the_same_record(corpus, tmp_path, resume):
    whole = train(spec_of(corpus), corpus, folder=tmp_path / "whole")
    for step in (20, 60, 100):
        assert timeless(resume(spec_of(corpus), tmp_path / str(step), step=step)) == timeless(whole)


def test_a_run_in_a_folder_of_another_goes_on_from_its_own_checkpoints(corpus, tmp_path, stop_at):
    """As after an edit of spec.json: the other was further, and at one step both were stopped."""
    other, spec = spec_of(corpus), spec_of(corpus, lr=0.02)
    for step in (30, 100):
        stop_at(other, tmp_path / "others", step)
    shutil.copytree(tmp_path / "others", tmp_path / "shared")
    assert stop_at(spec, tmp_path / "shared", 30)[0] == 1
    assert checkpoint.steps(tmp_path / "shared/checkpoint") == (30,)
    assert stop_at(spec, tmp_path / "shared", 60)[0] == 31
    assert checkpoint.steps(tmp_path / "shared/checkpoint") == (30, 60)
    shutil.copytree(tmp_path / "others/checkpoint/step-000000100", tmp_path / "shared/checkpoint/step-000000100")  # killed before it was removed
    told = []
    record = train(spec, corpus, folder=tmp_path / "shared", on_progress=lambda p: told.append(p.step))
    assert told[0] == 61
    assert timeless(record) == timeless(train(spec, corpus, folder=tmp_path / "alone"))


def test_a_record_names_all_that_made_it(corpus, tmp_path, stop_at, monkeypatch):
    """PyTorch of another version may give other bits: where attempts differ, the record says so, each once."""
    now = torch.__version__
    for step, version in ((20, "2.12.0"), (40, now), (60, "2.12.0"), (80, "2.14.0")):
        monkeypatch.setattr(torch, "__version__", version)
        stop_at(spec_of(corpus), tmp_path / "run", step)
    monkeypatch.setattr(torch, "__version__", now)
    mixed, whole = train(spec_of(corpus), corpus, folder=tmp_path / "run"), train(spec_of(corpus), corpus, folder=tmp_path / "whole")
    assert mixed.clock.versions["torch"] == f"2.12.0 then {now} then 2.14.0"
    assert mixed.clock.versions | {"torch": now} == whole.clock.versions
    assert (mixed.clock.device, mixed.clock.commit) == (whole.clock.device, whole.clock.commit)
    assert timeless(mixed) == timeless(whole)


def test_only_a_run_that_was_deterministic_throughout_is_said_to_be(corpus, tmp_path, stop_at):
    careful = Machine(deterministic=True)
    stop_at(spec_of(corpus), tmp_path / "mixed", 20)
    assert not train(spec_of(corpus), corpus, folder=tmp_path / "mixed", machine=careful).clock.deterministic
    assert train(spec_of(corpus), corpus, folder=tmp_path / "whole", machine=careful).clock.deterministic


def test_nan_and_explosion_are_recorded_as_diverged_with_the_reason(corpus, tmp_path):
    record = train(spec_of(corpus, lr=1e6), corpus, folder=tmp_path / "a")
    assert (record.status, record.loss) == ("diverged", None)
    assert "the loss is" in record.reason
    assert json.loads((tmp_path / "a/record.json").read_text())["status"] == "diverged"


def losses_of(*pieces):
    """A training curve: (steps, from, to), one after the other."""
    return torch.cat([torch.linspace(start, end, steps) for steps, start, end in pieces])


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (losses_of((400, 5.0, 3.0)), ""),
        (losses_of((200, 5.0, 3.0), (20, 4.9, 4.9), (180, 3.1, 2.9)), ""),  # a spike that recovers
        (losses_of((200, 5.0, 3.0), (200, 3.5, 3.5)), ""),  # worse for good, but little was lost
        (losses_of((200, 5.0, 3.0), (200, 4.5, 4.5)), "rose from"),
        (losses_of((40, 5.0, 4.0), (360, 5.5, 5.5)), "above the 5.000 it began with"),
        (losses_of((200, 5.0, 3.0), (200, math.nan, math.nan)), "the loss is nan"),
        (losses_of((200, 5.0, 3.0), (200, math.inf, math.inf)), "the loss is"),
    ],
)
def test_a_run_has_diverged_if_it_is_not_finite_above_its_start_or_has_risen_for_good(curve, says):
    said = [trouble(curve, step=step, steps=400, warmup=20) for step in range(20, 401, 20)]
    found = next((words for words in said if words), "")
    assert says in found
    assert bool(says) == bool(found)


def test_deterministic_algorithms_are_a_choice_for_the_time_of_a_run_and_change_nothing_on_a_cpu(corpus, tmp_path):
    asked, enabled, chosen = [], torch.are_deterministic_algorithms_enabled, Machine(deterministic=True)
    record = train(spec_of(corpus), corpus, folder=tmp_path / "a", machine=chosen, on_progress=lambda _: asked.append(enabled()))
    assert asked
    assert all(asked)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in {":4096:8", ":16:8"}  # what cuBLAS asks for
    assert not enabled()
    assert record.clock.deterministic
    assert timeless(record) == timeless(train(spec_of(corpus), corpus, folder=tmp_path / "b"))


def test_half_a_batch_at_a_time_gives_the_losses_of_the_whole(corpus, tmp_path):
    whole = train(spec_of(corpus), corpus, folder=tmp_path / "whole")
    for micro in (2, 3, 4):
        parts = train(spec_of(corpus), corpus, folder=tmp_path / str(micro), machine=Machine(micro=micro))
        assert parts.loss == pytest.approx(whole.loss, abs=2e-3)
        assert parts.clock.micro == micro
        curves = [files.read_curve(tmp_path / name, record.curve_sha256).loss for name, record in (("whole", whole), (str(micro), parts))]
        np.testing.assert_allclose(curves[1][:20], curves[0][:20], rtol=1e-4)  # rounding, which later steps amplify


def test_out_of_memory_halves_the_batch_until_it_fits(corpus, tmp_path, monkeypatch):
    """A machine that cannot hold more than one sequence's activations."""
    forward = Llama.forward

    def cramped(self, tokens_BT, *rest, **named):
        if self.training and torch.is_grad_enabled() and len(tokens_BT) > 1:
            torch.empty(1 << 50)
        return forward(self, tokens_BT, *rest, **named)

    monkeypatch.setattr(Llama, "forward", cramped)
    record = train(spec_of(corpus), corpus, folder=tmp_path / "a")
    assert (record.status, record.clock.micro) == ("ok", 4)
    monkeypatch.undo()
    assert timeless(record) == timeless(train(spec_of(corpus), corpus, folder=tmp_path / "b", machine=Machine(micro=4)))


def test_a_model_too_large_for_one_sequence_is_said(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Llama, "forward", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(MemoryShortError, match="one sequence of 32 tokens"):
        train(spec_of(corpus), corpus, folder=tmp_path)


@pytest.mark.parametrize(
    "values", [{"optimizer": Muon(name="muon")}, {"z_loss": 1e-3}, {"precision": "bf16"}, {"arch": "gopher", "optimizer": Muon(name="muon")}]
)
def test_every_way_to_train_learns_and_resumes_to_the_same_bits(corpus, tmp_path, resume, values):
    spec = spec_of(corpus, **values)
    whole = train(spec, corpus, folder=tmp_path / "whole")
    assert whole.loss < 2.8
    assert whole.loss != train(spec_of(corpus, arch=spec.shape.arch), corpus, folder=tmp_path / "plain").loss
    assert timeless(resume(spec, tmp_path, step=60)) == timeless(whole)


def test_muon_moves_matrices_of_blocks_along_orthogonal_directions_and_the_rest_as_adamw():
    """Against a polar factor by SVD, which Muon's iteration approaches to about 30 % (Jordan et al. 2024)."""
    shape = arch.get("llama").at(16, vocab=64, context=8)
    ours, theirs = (importlib.import_module("isoflop.arch.llama.module").build(shape, seed=0) for _ in range(2))
    muon = optim_module.make(ours, Muon(name="muon", adamw=AdamW(weight_decay=0.0, clip=1e9)))
    adamw = optim_module.make(theirs, AdamW(weight_decay=0.0, clip=1e9))
    tokens = torch.randint(64, (2, 4, 8), generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for module in (ours, theirs):
        module(*tokens).backward()
    slopes = {name: p.grad.clone() for name, p in ours.named_parameters()}
    muon.step(0.01)
    adamw.step(0.01)
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        moved = p.detach() - before[name]
        if name.startswith("blocks.") and p.ndim == 2:
            u, _, v = torch.linalg.svd(slopes[name], full_matrices=False)
            scale = 0.2 * 0.01 * math.sqrt(max(p.shape))
            assert torch.linalg.matrix_norm(moved, 2) < 1.3 * scale
            assert (moved * (u @ v)).sum() < -0.6 * scale * min(p.shape)
        else:
            torch.testing.assert_close(p, q)


def test_another_text_than_the_spec_names_is_refused(corpus, tmp_path):
    with pytest.raises(CorpusError, match="the text has changed"):
        train(spec_of(corpus, data="0" * 16), corpus, folder=tmp_path)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, Checkpoint(step, 1.0, {"x": torch.full((64,), float(step))}))
    assert len(list(tmp_path.glob("step-*"))) == checkpoint.KEEP
    assert checkpoint.newest((tmp_path,)).step == 3
    path = tmp_path / "step-000000003" / checkpoint.TENSORS
    payload = bytearray(path.read_bytes())
    for damage in (bytes(payload[:-1]), bytes(payload[:-1]) + bytes([payload[-1] ^ 1]), b""):
        path.write_bytes(damage)
        assert checkpoint.newest((tmp_path,)).step == 2
    (tmp_path / "step-000000002" / checkpoint.MANIFEST).write_text("{")
    assert checkpoint.newest((tmp_path,)) is None


def test_a_folder_that_cannot_be_written_is_said(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        train(spec_of(corpus), corpus, folder=tmp_path / "file" / "run")


def test_flat_adamw_equals_pytorchs_own():
    """The same weights after the same gradients as torch.optim.AdamW over clipped ones, in float64."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).double() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    settings = AdamW(weight_decay=0.3, clip=0.5)
    flat = optim_module.FlatAdamW(list(ours.parameters()), settings)
    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.95))
    for _ in range(20):
        x = torch.randn(4, 5, dtype=torch.float64)
        for module in (ours, theirs):
            module(x).square().sum().backward()
        norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in theirs.parameters()]))
        for p in theirs.parameters():
            p.grad *= min(1.0, 0.5 / float(norm))  # torch's own clipping adds 1e-6 to the norm
        adamw.step()
        adamw.zero_grad()
        flat.step(0.01)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_cosine_warms_up_and_ends_at_a_tenth_with_the_run():
    schedule = Cosine(warmup=0.1)
    factors = np.array([factor(schedule, step, 1000) for step in range(1000)])
    assert factors[0] < 0.02
    assert factors.argmax() in (99, 100)
    assert factors.max() == 1.0
    assert factors[-1] == pytest.approx(0.1)
    assert (np.diff(factors[100:]) <= 0).all()


def test_the_time_of_a_step_is_measured(corpus):
    assert 0 < seconds_per_step(spec_of(corpus), corpus) < 10


def test_epochs_are_counted(corpus, tmp_path):
    record = train(spec_of(corpus), corpus, folder=tmp_path)
    assert record.epochs == pytest.approx(record.tokens / corpus.train_tokens, rel=0.01)


def test_a_device_that_is_not_there_is_refused_in_words(corpus, tmp_path):
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match=f"--device {name}: PyTorch .* cannot use it here"):
            train(spec_of(corpus), corpus, folder=tmp_path, machine=Machine(device=name))


def paid(corpus, kept, **seconds):
    """What is decided for a run of a thousand steps, measured to take so long."""
    spec = spec_of(corpus, tokens=128_000)
    key = f"{spec.shape.model_dump_json()} {spec.batch} {spec.precision} {_machine.device('cpu', threads=1)} torch {torch.__version__}"
    if seconds:
        kept.write_text(json.dumps({key: seconds}))
    return pays(spec, corpus, Machine(), kept)


def test_a_run_is_compiled_where_that_saves_more_than_it_takes(corpus, tmp_path):
    assert paid(corpus, tmp_path / "a", usual=0.5, compiled=0.4, compiling=60)
    assert not paid(corpus, tmp_path / "b", usual=0.5, compiled=0.45, compiling=60)
    assert not paid(corpus, tmp_path / "c", usual=0.5, compiled=0.6, compiling=1)


def test_of_a_short_run_nothing_is_measured(corpus, tmp_path):
    assert not paid(corpus, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("rubbish", ["", "[1]", "{", '{"a": 1}', '{"a": {"usual": "x"}}', "\0"])
def test_rubbish_where_measurements_were_kept_is_as_nothing(corpus, tmp_path, rubbish):
    (tmp_path / "kept").write_text(rubbish)
    assert not paid(corpus, tmp_path / "kept")


def test_on_a_cpu_nothing_is_compiled_unasked(corpus, tmp_path):
    assert not decide("auto", spec_of(corpus, tokens=10**9 // 128 * 128), corpus, machine=Machine(), kept=tmp_path / "kept").compiled
    assert not (tmp_path / "kept").exists()


def test_what_is_asked_for_is_not_measured(corpus, tmp_path):
    for wish, compiled in (("always", True), ("never", False)):
        assert decide(wish, spec_of(corpus), corpus, machine=Machine(), kept=tmp_path / "kept").compiled is compiled
    assert not (tmp_path / "kept").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # inside torch.compile itself
def test_a_compiled_run_learns_the_same_and_goes_on_compiled(corpus, tmp_path, resume):
    usual = train(spec_of(corpus), corpus, folder=tmp_path / "usual")
    whole = train(spec_of(corpus), corpus, folder=tmp_path / "whole", machine=Machine(compiled=True))
    assert whole.clock.compiled
    curves = [files.read_curve(tmp_path / name, record.curve_sha256).loss for name, record in (("usual", usual), ("whole", whole))]
    np.testing.assert_allclose(curves[1][:20], curves[0][:20], rtol=1e-4)  # rounding, which later steps amplify
    resumed = resume(spec_of(corpus), tmp_path, step=1, machine=Machine(compiled=True))
    assert timeless(resumed) == timeless(whole)
    assert resumed.clock.compiled
