"""One run by several processes is the same run: DDP and FSDP2 over gloo against one process."""

import json
import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
import torch

from isoflop import arch, data
from isoflop.errors import TrainError
from isoflop.runs import Muon, RunSpec
from isoflop.store import files
from isoflop.train import Machine, checkpoint, train
from isoflop.train.state import State
from isoflop.train.world import Together, joined

STEPS = 30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n".join(f"line {i}: {i * i} lazy dogs and {i % 7} hens" for i in range(4000)), encoding="utf-8")
    return data.prepare((str(folder / "text.txt"),), folder=folder / "data", tokenizer="bytes", validation=0.2, seed=0)


def spec_of(corpus, **values) -> RunSpec:
    shape = arch.get(values.pop("arch", "llama")).at(16, vocab=256, context=32)
    defaults = {"shape": shape, "tokens": 128 * STEPS, "batch": 128, "lr": 0.01, "seed": 1, "data": corpus.digest, "eval_tokens": 2048, "budget": 1e9}
    return RunSpec(**(defaults | {"group": "isoflop"} | values))


def together(spec, corpus, folder, *options, processes=2):
    """Train under torchrun; the finished process."""
    files.write_spec(folder, spec)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "isoflop.train", str(folder), "--corpus", str(corpus.folder), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def losses(folder):
    record = files.read_record(folder)
    return files.read_curve(folder, record.curve_sha256).loss, record


@pytest.mark.parametrize(
    ("arch_", "options"),
    [
        ("llama", ["--parallel", "ddp"]),
        ("llama", ["--parallel", "fsdp", "--micro", "2"]),
        pytest.param("gopher", ["--parallel", "fsdp"], marks=pytest.mark.slow),
    ],
)
def test_two_processes_give_the_losses_of_one(corpus, tmp_path, arch_, options):
    spec = spec_of(corpus, arch=arch_)
    alone = train(spec, corpus, folder=tmp_path / "alone")
    done = together(spec, corpus, tmp_path / "together", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "alone")[0], losses(tmp_path / "together")[0]
    np.testing.assert_allclose(two, one, rtol=2e-4)  # float32 sums in another order, over thirty steps
    record = losses(tmp_path / "together")[1]
    assert record.loss == pytest.approx(alone.loss, rel=2e-4)
    assert (record.clock.world, record.tokens, record.params, record.flops) == (2, alone.tokens, alone.params, alone.flops)
    assert (tmp_path / "together/weights.safetensors").stat().st_size == (tmp_path / "alone/weights.safetensors").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--parallel", "ddp", "--micro", "2"], ["--parallel", "fsdp"]])
@pytest.mark.parametrize("values", [{"z_loss": 1e-4}, {"optimizer": Muon(name="muon")}])
def test_other_ways_to_train_agree_too(corpus, tmp_path, options, values):
    spec = spec_of(corpus, **values)
    done = together(spec, corpus, tmp_path / "together", *options)
    if "fsdp" in options and "optimizer" in values:
        assert "fsdp cuts them into pieces" in done.stderr
        return
    assert done.returncode == 0, done.stderr[-3000:]
    train(spec, corpus, folder=tmp_path / "alone")
    np.testing.assert_allclose(losses(tmp_path / "together")[0], losses(tmp_path / "alone")[0], rtol=5e-4)


@pytest.mark.slow
def test_a_run_begun_alone_is_ended_together_and_the_other_way_round(corpus, tmp_path):
    """Checkpoints are of one format, whoever wrote them."""
    spec = spec_of(corpus, tokens=128 * 60)
    train(spec, corpus, folder=tmp_path / "whole")
    whole = losses(tmp_path / "whole")[0]
    half = tmp_path / "half"
    code = (
        "import sys; from pathlib import Path; from isoflop import data, train; from isoflop.store import files; import isoflop.train.loop as loop\n"
        "loop.LOOK_SECONDS = 0.0; seen = []\n"
        "folder, corpus = map(Path, sys.argv[1:])\n"
        "try: train.train(files.read_spec(folder), data.load(corpus), folder=folder, on_progress=lambda p: seen.append(p.step), "
        "should_stop=lambda: seen[-1] >= 30)\n"
        "except train.Interrupted: pass"
    )
    files.write_spec(half, spec)
    subprocess.run([sys.executable, "-c", code, str(half), str(corpus.folder)], check=True, timeout=120)
    steps = [json.loads(p.read_text())["step"] for p in half.glob("checkpoint/step-*/manifest.json")]
    assert max(steps) == 30
    done = together(spec, corpus, half, "--parallel", "fsdp")
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(losses(half)[0], whole, rtol=5e-4)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_evenly_is_refused_in_words(corpus, tmp_path):
    done = together(spec_of(corpus, batch=96, tokens=96 * STEPS), corpus, tmp_path, "--parallel", "ddp")
    assert done.returncode != 0
    assert "3 sequences a step cannot be shared evenly by 2 processes" in done.stderr


def one_of_two(told, rank, meeting, spec, folders):
    """A process of two that train a run, and what came of it."""
    corpus_folder, folder = folders
    torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        train(spec, data.load(corpus_folder), folder=folder, machine=Machine(world=Together("ddp", "cpu")))
        told.put("trained")
    except TrainError as error:
        told.put(str(error))
    finally:
        torch.distributed.destroy_process_group()


def outcomes(spec, corpus, tmp_path, folders) -> set[str]:
    """What came of both processes, each with its folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "isoflop.train"])
    told = context.Queue()
    started = [
        context.Process(target=one_of_two, args=(told, rank, tmp_path / "meeting", spec, (corpus.folder, folder)), daemon=True)
        for rank, folder in enumerate(folders)
    ]
    for process in started:
        process.start()
    try:
        return {told.get(timeout=100) for _ in started}
    finally:
        for process in started:
            process.join(20)
            process.kill()


def test_processes_that_would_go_on_from_different_steps_are_refused_in_words(corpus, tmp_path, monkeypatch):
    """As on two machines that do not share the folder: only the first finds a checkpoint."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    spec = spec_of(corpus, tokens=128 * 4)
    state = State.begin(spec, corpus, resume=None)
    for _ in range(2):
        state.advance()
    checkpoint.save(tmp_path / "one/checkpoint", state.checkpoint())
    (said,) = outcomes(spec, corpus, tmp_path, [tmp_path / "one", tmp_path / "two"])
    assert "from different steps, 0 to 2" in said
    assert "one folder" in said


def test_without_torchrun_it_is_said(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(TrainError, match="torchrun starts"), joined("ddp"):
        pass
