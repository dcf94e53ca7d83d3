"""The kernels in C: what they compute is what PyTorch computes, they touch nothing that is not theirs, and a run does without where there is no compiler."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from isoflop import arch
from isoflop.arch import Shape, _kernels
from isoflop.cli import _missed_kernels
from isoflop.errors import MemoryShortError, UsageError
from isoflop.study import Study
from isoflop.train import Interrupted, Machine, train
from isoflop.train.state import State
from test_train import spec_of, timeless

X86 = platform.machine() in {"x86_64", "AMD64"}
COMPILER = shutil.which("cc")
SHAPES = {
    "as the quickstart's": {"d_model": 24, "n_heads": 3, "kv_size": 8, "ffw_size": 64, "context": 128},
    "wide": {"d_model": 128, "n_heads": 2, "kv_size": 64, "ffw_size": 344, "context": 256},
    "nothing a multiple of a vector": {"d_model": 17, "n_heads": 5, "kv_size": 2, "ffw_size": 9, "vocab": 33, "context": 65},
    "shared keys, a head of its own": {
        "d_model": 40,
        "n_heads": 4,
        "kv_size": 12,
        "ffw_size": 52,
        "vocab": 300,
        "context": 129,
        "n_kv_heads": 2,
        "tied": False,
    },
    "one position": {"d_model": 16, "n_heads": 2, "kv_size": 8, "ffw_size": 24, "context": 1},
    "smallest": {"d_model": 1, "n_heads": 1, "kv_size": 2, "ffw_size": 1, "vocab": 2, "context": 3},
    "a vocabulary in parts": {"d_model": 8, "n_heads": 1, "kv_size": 8, "ffw_size": 24, "vocab": 70_000, "context": 67},
}


@pytest.fixture(scope="module")
def kernels():
    found = _kernels.load()
    if found is None:
        pytest.skip(_kernels.why_not())
    return found


def shape_of(name) -> Shape:
    return Shape(arch="llama", n_layers=2, **({"vocab": 256} | SHAPES[name]))


def pair(shape, kernels):
    """A model with kernels, and the same one in float64 by plain operations; gains are not one."""
    build = importlib.import_module(f"isoflop.arch.{shape.arch}.module").build
    fused, exact = build(shape, seed=0), build(shape, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter, copy in zip(fused.parameters(), exact.parameters(), strict=True):
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
            copy.copy_(parameter)
    fused.kernels, exact.plain = kernels, True
    return fused, exact


def batch(shape, sequences=3):
    return torch.randint(shape.vocab, (2, sequences, shape.context), generator=torch.Generator().manual_seed(2)).unbind()


def far(found, expected) -> float:
    """The largest difference, of the largest number."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_loss_gradients_and_logits_are_those_in_float64_within_float_error(kernels, name):
    shape = shape_of(name)
    fused, exact = pair(shape, kernels)
    tokens, targets = batch(shape)
    losses = [model(tokens, targets, z_loss=1e-3) for model in (fused, exact)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=2e-6)
    for (parameter, p), q in zip(fused.named_parameters(), exact.parameters(), strict=True):
        assert far(p.grad, q.grad) < 2e-5, parameter
    with torch.no_grad():
        assert far(fused(tokens), exact(tokens)) < 1e-5
        assert fused(tokens, targets, "sum").item() == pytest.approx(exact(tokens, targets, "sum").item(), rel=2e-6)


def test_the_paper_family_takes_its_loss_by_the_kernels(kernels):
    shape = arch.get("gopher").at(24, vocab=257, context=64)
    fused, exact = pair(shape, kernels)
    tokens, targets = batch(shape)
    for model in (fused, exact):
        model(tokens, targets).backward()
    for (parameter, p), q in zip(fused.named_parameters(), exact.named_parameters(), strict=True):
        assert far(p.grad, q[1].grad) < 2e-5, parameter


def test_a_step_taken_twice_has_the_same_bits(kernels):
    shape = shape_of("wide")
    gradients = []
    for _ in range(2):
        fused, _ = pair(shape, kernels)
        fused(*batch(shape)).backward()
        gradients.append([p.grad for p in fused.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*gradients, strict=True))


def test_a_later_token_changes_nothing_before_it(kernels):
    shape = shape_of("as the quickstart's")
    fused, _ = pair(shape, kernels)
    tokens, _ = batch(shape)
    other = tokens.clone()
    other[:, 70] = (other[:, 70] + 1) % shape.vocab
    with torch.no_grad():
        before, after = fused(tokens), fused(other)
    assert torch.equal(before[:, :70], after[:, :70])
    assert not torch.equal(before[:, 70:], after[:, 70:])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_finite_in_the_loss(kernels, value):
    shape = shape_of("as the quickstart's")
    fused, _ = pair(shape, kernels)
    with torch.no_grad():
        fused.blocks[0].attention_qkv_AD[3, 5] = value
    assert not fused(*batch(shape)).isfinite()


def test_scores_far_apart_and_large_logits_stay_finite(kernels):
    """The exponential neither overflows nor turns what is hidden into a number."""
    shape = shape_of("as the quickstart's")
    fused, exact = pair(shape, kernels)
    with torch.no_grad():
        for model in (fused, exact):
            model.blocks[0].attention_qkv_AD.mul_(100)
            model.norm_D.mul_(300)
    losses = [model(*batch(shape)) for model in (fused, exact)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-4)
    assert all(p.grad.isfinite().all() for p in fused.parameters())


# ---- other processors, and memory


@pytest.mark.skipif(not (X86 and COMPILER), reason="needs a C compiler for x86")
@pytest.mark.parametrize(("level", "floats"), [("x86-64-v3", 8), pytest.param("x86-64-v2", 4, marks=pytest.mark.slow)])
def test_shorter_vectors_compute_the_same(kernels, level, floats, tmp_path):
    del kernels
    code = f"""
import torch, test_kernels
from isoflop.arch import _kernels
torch.set_num_threads(1)
found = _kernels.load()
assert found.made_by.endswith("(vectors of {floats})"), found.made_by
for name in test_kernels.SHAPES:
    test_kernels.test_loss_gradients_and_logits_are_those_in_float64_within_float_error(found, name)
"""
    run_python(code, CC=f"cc -march={level}", XDG_CACHE_HOME=str(tmp_path))


@pytest.mark.skipif(not (X86 and COMPILER), reason="needs a C compiler for x86")
@pytest.mark.parametrize("level", ["native", *(pytest.param(level, marks=pytest.mark.slow) for level in ("x86-64-v3", "x86-64-v2"))])
def test_kernels_touch_no_memory_that_is_not_theirs(level, tmp_path):
    source, driver = Path(_kernels.__file__).parent, Path(__file__).with_name("kernels_driver.c")
    flags = ("-O1", "-g", f"-march={level}", "-ffp-contract=fast", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", f"-I{source}")
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
    for program in (tmp_path / "empty.c", driver):
        built = subprocess.run([COMPILER, *flags, str(program), "-o", str(tmp_path / "driver"), "-lm"], capture_output=True, text=True, check=False)
        if built.returncode and program != driver:
            pytest.skip(f"no sanitizer here: {built.stderr[-200:]}")
        assert not built.returncode, built.stderr
    for name in SHAPES:
        s = shape_of(name)
        sizes = 2, s.context, s.d_model, s.n_heads, s.kv_heads, s.kv_size, s.ffw_size, s.vocab
        environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
        found = subprocess.run([tmp_path / "driver", *map(str, sizes)], capture_output=True, text=True, check=False, env=environment)
        assert found.returncode == 0, f"{name}: {found.stdout}{found.stderr}"


# ---- the compiler


def run_python(code, **environment) -> str:
    values = os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | environment
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=values)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


MADE_BY = "from isoflop.arch import _kernels; found = _kernels.load(); print(found and found.made_by); print(_kernels.why_not())"


def test_without_a_compiler_there_are_none_and_the_reason_is_said(tmp_path):
    assert run_python(MADE_BY, CC="no-such-compiler", XDG_CACHE_HOME=str(tmp_path)) == "None\n[Errno 2] No such file or directory: 'no-such-compiler'"


def test_what_the_compiler_says_is_the_reason(kernels, tmp_path):
    del kernels
    assert "None\ncc says:" in run_python(MADE_BY, CC="cc --no-such-option", XDG_CACHE_HOME=str(tmp_path))


def test_the_user_can_do_without(kernels, monkeypatch):
    del kernels
    monkeypatch.setenv(_kernels.CHOICE, "never")
    assert (_kernels.load(), _kernels.why_not()) == (None, "")
    monkeypatch.setenv(_kernels.CHOICE, "off")
    with pytest.raises(UsageError, match=r"ISOFLOP_KERNELS is 'off'. Take auto .* or never"):
        _kernels.load()


@pytest.mark.parametrize("words", ['cc "x', "cc\0", "no-such-launcher gcc"])
def test_words_that_name_no_compiler_are_a_reason_and_no_crash(words, tmp_path):
    if "\0" in words:  # no environment can hold it; a compiler that speaks Latin-1 and fails stands in
        words = str(tmp_path / "cc")
        Path(words).write_bytes(b"#!/bin/sh\necho 'caf\xe9' >&2\nexit 1\n")
        Path(words).chmod(0o700)
    assert run_python(MADE_BY, CC=words, XDG_CACHE_HOME=str(tmp_path)).startswith("None\n")


def test_a_compiler_may_be_called_through_another_program_and_be_asked_for_more(kernels, tmp_path):
    """Even for arithmetic that would make the exponential wrong: that is not granted."""
    (tmp_path / "through").write_text('#!/bin/sh\nexec "$@"\n', encoding="utf-8")
    (tmp_path / "through").chmod(0o700)
    code = f"""
import torch, test_kernels
from isoflop.arch import _kernels
torch.set_num_threads(1)
found = _kernels.load()
assert found.made_by == {kernels.made_by!r}, (found, _kernels.why_not())
test_kernels.test_loss_gradients_and_logits_are_those_in_float64_within_float_error(found, "wide")
"""
    run_python(code, CC=f"{tmp_path / 'through'} cc -Ofast", XDG_CACHE_HOME=str(tmp_path))


def test_no_room_in_the_cache_does_not_cost_the_kernels(kernels, tmp_path):
    """A compiler that cannot write there, as on a disk that is full or over its quota."""
    full = f'case "$*" in *{tmp_path}*isoflop*) echo "No space left on device" >&2; exit 1;; esac'
    (tmp_path / "cc").write_text(f'#!/bin/sh\n{full}\nexec cc "$@"\n', encoding="utf-8")
    (tmp_path / "cc").chmod(0o700)
    assert run_python(MADE_BY, CC=str(tmp_path / "cc"), XDG_CACHE_HOME=str(tmp_path)) == kernels.made_by
    assert not list((tmp_path / "isoflop").iterdir())


def test_what_nodes_refuse_kernels_refuse(kernels):
    """They would read and write beyond what is theirs."""
    shape = shape_of("as the quickstart's")
    fused, _ = pair(shape, kernels)
    tokens, targets = batch(shape)
    for wrong in (-1, shape.vocab):
        with pytest.raises(AssertionError, match="a target"):
            fused(tokens, targets.clone().index_fill_(1, torch.tensor([3]), wrong))
    with pytest.raises(AssertionError, match="more tokens than the context"):
        fused(tokens.repeat(1, 2), targets.repeat(1, 2))
    odd, _ = pair(shape.model_copy(update={"kv_size": 7}), kernels)
    with pytest.raises(AssertionError, match="kv_size must be even"):
        odd(tokens, targets)


def test_they_are_compiled_once_for_all_processes_and_anew_where_damaged(kernels, tmp_path):
    assert run_python(MADE_BY, XDG_CACHE_HOME=str(tmp_path)) == kernels.made_by
    (library,) = (tmp_path / "isoflop").iterdir()
    made = library.stat().st_mtime_ns
    assert run_python(MADE_BY, XDG_CACHE_HOME=str(tmp_path)) == kernels.made_by
    assert library.stat().st_mtime_ns == made
    library.write_bytes(library.read_bytes()[:5000])
    assert run_python(MADE_BY, XDG_CACHE_HOME=str(tmp_path)) == kernels.made_by
    assert [path.name for path in (tmp_path / "isoflop").iterdir()] == [library.name]


@pytest.mark.parametrize("mode", [0o777, 0o500])
def test_a_cache_that_others_can_write_or_that_cannot_be_written_is_not_used(kernels, tmp_path, mode):
    (tmp_path / "isoflop").mkdir()
    (tmp_path / "isoflop").chmod(mode)
    assert run_python(MADE_BY, XDG_CACHE_HOME=str(tmp_path)) == kernels.made_by
    if mode == 0o777 or os.getuid():  # root can write all the same
        assert not list((tmp_path / "isoflop").iterdir())


@pytest.mark.parametrize(("arch", "precision", "device"), [("gopher", "float32", "cpu"), ("llama", "bf16", "cpu"), ("llama", "float32", "cuda")])
def test_a_design_says_what_a_compiler_would_gain_and_nothing_where_it_would_not(monkeypatch, arch, precision, device):
    study = Study(name="a", corpus="python", budgets=("1e9", "2e9", "4e9"), target="1e10")
    monkeypatch.setattr(_kernels, "why_not", lambda: "no cc here")
    assert _missed_kernels(study, "cpu").startswith("There is no working C compiler (no cc here). With gcc or clang")
    assert not _missed_kernels(study.model_copy(update={"arch": arch, "precision": precision}), device)


# ---- runs


def test_a_record_names_what_made_the_kernels(corpus, tmp_path, kernels, monkeypatch):
    spec = spec_of(corpus)
    fused = train(spec, corpus, folder=tmp_path / "kernels")
    monkeypatch.setenv(_kernels.CHOICE, "never")
    plain = train(spec, corpus, folder=tmp_path / "torch")
    assert (fused.clock.versions["kernels"], plain.clock.versions["kernels"]) == (kernels.made_by, "PyTorch's")
    assert fused.loss == pytest.approx(plain.loss, rel=0.01)
    assert timeless(fused).model_copy(update={"loss": 0, "bits_per_byte": 0, "curve_sha256": "", "weights_sha256": ""}) == timeless(plain).model_copy(
        update={"loss": 0, "bits_per_byte": 0, "curve_sha256": "", "weights_sha256": ""}
    )


def stopped(spec, corpus, folder, step) -> None:
    told = []
    with pytest.raises(Interrupted):
        train(spec, corpus, folder=folder, on_progress=lambda p: told.append(p.step), should_stop=lambda: told[-1] >= step)


def test_a_run_begun_without_kernels_goes_on_without_to_the_same_bits(corpus, tmp_path, kernels, monkeypatch):
    del kernels
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    spec = spec_of(corpus)
    with monkeypatch.context() as without:
        without.setenv(_kernels.CHOICE, "never")
        whole = train(spec, corpus, folder=tmp_path / "whole")
        stopped(spec, corpus, tmp_path / "stopped", 50)
    resumed = train(spec, corpus, folder=tmp_path / "stopped", attempt=2)
    assert timeless(resumed) == timeless(whole)
    assert resumed.clock.versions["kernels"] == "PyTorch's"


def test_a_run_that_loses_its_compiler_goes_on_and_its_record_names_both(corpus, tmp_path, kernels, monkeypatch):
    monkeypatch.setattr("isoflop.train.loop.LOOK_SECONDS", 0.0)
    stopped(spec_of(corpus), corpus, tmp_path, 50)
    monkeypatch.setenv(_kernels.CHOICE, "never")
    record = train(spec_of(corpus), corpus, folder=tmp_path, attempt=2)
    assert record.status == "ok"
    assert record.clock.versions["kernels"] == f"{kernels.made_by} then PyTorch's"


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # inside torch.compile itself
@pytest.mark.parametrize(("values", "machine"), [({"threads": 2}, Machine()), ({}, Machine(compiled=True))])
def test_several_threads_and_compilers_see_every_operation(corpus, kernels, values, machine):
    del kernels
    assert State.begin(spec_of(corpus, **values), corpus, resume=None, machine=machine).module.kernels is None


def test_memory_that_is_not_there_halves_the_batch_as_elsewhere(corpus, tmp_path, kernels, monkeypatch):
    """The kernels' buffers are PyTorch's allocations: what runs out says so before anything is computed."""
    del kernels
    whole = train(spec_of(corpus, tokens=128 * 20), corpus, folder=tmp_path / "whole")
    new_empty = torch.Tensor.new_empty

    def scarce(x, *sizes, **words):
        if x.ndim == 2 and x.shape[0] > 64:  # two of four sequences at most
            raise torch.OutOfMemoryError("not enough memory")
        return new_empty(x, *sizes, **words)

    monkeypatch.setattr(torch.Tensor, "new_empty", scarce)
    monkeypatch.setattr("isoflop.train.evaluate.CHUNK", 64)
    halved = train(spec_of(corpus, tokens=128 * 20), corpus, folder=tmp_path / "halved")
    assert halved.clock.micro == 2
    assert halved.loss == pytest.approx(whole.loss, rel=1e-4)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("not enough memory")))
    with pytest.raises(MemoryShortError, match="memory ran out with one sequence"):
        train(spec_of(corpus, tokens=128 * 20), corpus, folder=tmp_path / "none")
