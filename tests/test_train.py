"""A run is a function of its spec: same bits wherever it was stopped, and nothing half-written."""

import json
import math

import numpy as np
import pytest
import torch

from isoflop import arch, data
from isoflop.errors import CorpusError, StoreError
from isoflop.runs import AdamW, RunSpec, Schedule
from isoflop.store import files
from isoflop.train import Interrupted, checkpoint, seconds_per_step, train
from isoflop.train import optim as optim_module
from isoflop.train.checkpoint import Checkpoint
from isoflop.train.schedule import factor


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n".join(f"line {i}: the quick brown fox jumps over {i * i} lazy dogs and {i % 7} hens" for i in range(4000))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


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


def test_a_run_stopped_and_resumed_gives_the_same_record(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    whole = train(spec_of(corpus), corpus, folder=tmp_path / "whole")
    for stop_at in (20, 60, 100):
        seen = []
        with pytest.raises(Interrupted):
            train(
                spec_of(corpus),
                corpus,
                folder=tmp_path / f"stopped-{stop_at}",
                on_progress=lambda p, seen=seen: seen.append(p.step),
                should_stop=lambda seen=seen, stop_at=stop_at: seen[-1] >= stop_at,
            )
        resumed = train(spec_of(corpus), corpus, folder=tmp_path / f"resumed-{stop_at}", attempt=2, earlier=(tmp_path / f"stopped-{stop_at}",))
        assert timeless(resumed) == timeless(whole)


def test_nan_and_explosion_are_recorded_as_diverged_with_the_reason(corpus, tmp_path):
    record = train(spec_of(corpus, lr=1e6), corpus, folder=tmp_path / "a")
    assert (record.status, record.loss) == ("diverged", None)
    assert "the loss is" in record.reason
    assert json.loads((tmp_path / "a/record.json").read_text())["status"] == "diverged"


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
    schedule = Schedule(warmup=0.1)
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
