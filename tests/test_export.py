"""An exported run is the run: the same logits, the same ids, whole or not there, and no more is said of it than is known."""

import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from isoflop import arch, data
from isoflop.arch import Shape
from isoflop.cli import main
from isoflop.data import tokenizer as ids
from isoflop.errors import StoreError, UnknownNameError, UsageError
from isoflop.export import Source, _llama, export, find, source
from isoflop.runs import Clock, Curve, RunRecord, RunSpec
from isoflop.store import Store, files

CLOCK = Clock(seconds=1.0, finished="2026-01-01T00:00:00+00:00", attempt=1, device="a processor", versions={"isoflop": "0", "torch": "0"})
FILES = {"README.md", "config.json", "generation_config.json", "isoflop.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
FLOAT32 = 1e-5  # logits to 1 through six float32 layers; 1e-6 was measured


def spec_of(shape: Shape, **values) -> RunSpec:
    defaults = {"shape": shape, "tokens": 640, "batch": 64, "lr": 0.01, "seed": 1, "data": "d" * 16, "eval_tokens": 512, "budget": 1e9, "group": "proof"}
    return RunSpec(**(defaults | values))


def model_of(shape: Shape) -> torch.nn.Module:
    """A fresh model, its gains unequal, so that one in the wrong place is seen."""
    module = __import__(f"isoflop.arch.{shape.arch}.module", fromlist=["build"]).build(shape, seed=3)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return module


def keep(study: Path, spec: RunSpec) -> torch.nn.Module:
    """What training leaves of a finished run; the model."""
    module, run = model_of(spec.shape), study / "runs" / spec.id
    payload = save(module.state_dict())
    files.write(run / files.WEIGHTS, payload)
    record = RunRecord(
        id=spec.id, spec=spec, status="ok", loss=2.5, bits_per_byte=3.6, params=spec.shape.params, tokens=spec.tokens, flops=spec.flops, epochs=0.25,
        weights_sha256=hashlib.sha256(payload).hexdigest(), clock=CLOCK,
    )  # fmt: skip
    files.write_record(run, record, Curve(np.empty(0), np.empty(0)))
    return module


def small(**values) -> Shape:
    return Shape(**{**arch.get("llama").at(16, vocab=256, context=32).model_dump(), **values})


def exported(folder: Path, shape: Shape, **values) -> tuple[torch.nn.Module, Path]:
    spec = spec_of(shape, **values)
    module = keep(folder / "study", spec)
    return module, export(source(folder / "study/runs" / spec.id), folder / "hf")


def loaded(folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def tokenizer_of(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokens(shape: Shape, *, length: int | None = None) -> torch.Tensor:
    return torch.randint(0, shape.vocab, (2, length or shape.context), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[torch.nn.Module, Path, Source]:
    """A small model, its export, and what that was made from."""
    folder = tmp_path_factory.mktemp("finished")
    module, hf = exported(folder, small(), label="chinchilla")
    return module, hf, source(next(folder.glob("study/runs/*")))


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> tuple[ids.Bpe, Path]:
    """A BPE and the study whose text it was learnt from."""
    study = tmp_path_factory.mktemp("bpe")
    draw = random.Random(1)
    lines = [" ".join(draw.choice(("the", "quick", "été", "<|end|>", "日本", "def f(x):", "\t")) for _ in range(40)) for _ in range(400)]
    (study / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")
    corpus = data.prepare((str(study / "text.txt"),), folder=study / "data", tokenizer="bpe-290", validation=0.2, seed=0)
    keep(study, spec_of(small(vocab=290), data=corpus.digest))
    return ids.load(study / "data" / ids.FILE), study


@pytest.mark.parametrize(
    "shape",
    [
        *(pytest.param(arch.get("llama").at(d, vocab=256, context=64), id=f"{d} wide") for d in (8, 40, 128)),
        pytest.param(small(tied=False), id="own head"),
        pytest.param(small(d_model=64, n_heads=8, kv_size=8, n_kv_heads=2), id="grouped"),
        pytest.param(small(d_model=64, n_heads=4, kv_size=16, n_kv_heads=1, tied=False), id="one key-value head"),
        pytest.param(small(n_heads=2, kv_size=32), id="heads wider than the model"),
        pytest.param(small(vocab=1000, ffw_size=24, n_layers=6), id="deep"),
    ],
)
def test_logits_are_those_of_transformers(shape, tmp_path):
    study = tmp_path / "study"
    spec = spec_of(shape)
    module = keep(study, spec)
    bpe = None if shape.vocab == 256 else _any_tokenizer(tmp_path, shape.vocab)
    run = Source(record=files.read_record(study / "runs" / spec.id), weights=study / "runs" / spec.id / files.WEIGHTS, tokenizer=bpe, study="any")
    model = loaded(export(run, tmp_path / "hf"))
    tokens_BT = tokens(shape)
    with torch.no_grad():
        ours, theirs = module(tokens_BT), model(tokens_BT).logits
    assert (model.dtype, model.config.tie_word_embeddings) == (torch.float32, shape.tied)
    assert sum(p.numel() for p in model.parameters()) == shape.params.total
    assert ours.std() > 0.1  # there is something to compare
    torch.testing.assert_close(theirs, ours, rtol=0, atol=FLOAT32)


def _any_tokenizer(folder: Path, vocab: int) -> Path:
    signs = {ids.SEPARATOR_TEXT: 0} | {f"w{i}": i for i in range(1, vocab)}
    (folder / "any.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": signs, "unk_token": "w1"}}))
    return folder / "any.json"


def test_at_a_long_context_only_the_float32_angles_of_transformers_differ(tmp_path):
    """They reckon an angle of 1000 radians in float32; with the angles of our table the logits are equal to the same error as at a short context."""
    module, hf = exported(tmp_path, small(d_model=64, n_heads=4, kv_size=16, context=1024))
    model, tokens_BT = loaded(hf), tokens(small(context=1024))
    angles_TC = torch.arange(1024)[:, None] * 10_000 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    table_TK = [torch.cat((turned, turned), 1).float() for turned in (angles_TC.cos(), angles_TC.sin())]
    with torch.no_grad():
        ours, theirs = module(tokens_BT), model(tokens_BT).logits
        model.model.rotary_emb.forward = lambda _, position_ids: (table_TK[0][position_ids], table_TK[1][position_ids])
        same_angles = model(tokens_BT).logits
    torch.testing.assert_close(same_angles, ours, rtol=0, atol=FLOAT32)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)  # 1024 x 2^-24 = 6e-5 in the angle; 1.4e-5 was measured at 2048


def test_a_trained_run_has_its_recorded_loss_in_transformers(tmp_path):
    from isoflop.train import train

    (tmp_path / "text.txt").write_text("\n".join(f"line {i}: the quick brown fox jumps over {i * i} lazy dogs" for i in range(3000)), encoding="utf-8")
    corpus = data.prepare((str(tmp_path / "text.txt"),), folder=tmp_path / "data", tokenizer="bytes", validation=0.2, seed=0)
    spec = spec_of(small(), data=corpus.digest, tokens=128 * 60, batch=128, eval_tokens=2048)
    record = train(spec, corpus, folder=tmp_path / "runs" / spec.id)
    model = loaded(export(source(tmp_path / "runs" / spec.id), tmp_path / "hf"))
    windows = torch.from_numpy(data.corpus.validation_windows(corpus, tokens=2048, context=32).astype(np.int64))
    with torch.no_grad():
        logits = model(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    assert record.loss < 3.5  # it has learnt something, from 5.5
    assert loss == pytest.approx(record.loss, abs=1e-5)


def test_saved_by_transformers_and_loaded_again_the_logits_are_equal(finished, tmp_path):
    _, hf, _ = finished
    first, tokens_BT = loaded(hf), tokens(small())
    first.save_pretrained(tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path / "again")(tokens_BT).logits, first(tokens_BT).logits)
        assert torch.equal(loaded(hf)(tokens_BT).logits, first(tokens_BT).logits)


def test_it_generates_what_the_module_itself_would(finished):
    module, hf, _ = finished
    ours = torch.tensor([list(b"The ")])
    with torch.no_grad():
        for _ in range(12):
            ours = torch.cat((ours, module(ours)[:, -1:].argmax(-1)), 1)
        theirs = loaded(hf).generate(**tokenizer_of(hf)("The ", return_tensors="pt"), do_sample=False)
    assert theirs[0, : ours.shape[1]].tolist() == ours[0].tolist()
    assert theirs.shape[1] <= small().context  # it stops where positions were no longer trained


def test_what_is_drawn_is_the_models_own_distribution(finished):
    settings_ = loaded(finished[1]).generation_config
    assert (settings_.do_sample, settings_.top_k, settings_.top_p or 1.0, settings_.temperature or 1.0) == (True, 0, 1.0, 1.0)
    assert (settings_.eos_token_id, settings_.bos_token_id, settings_.max_length) == (0, 0, 32)


def test_the_configuration_has_the_modules_constants():
    from isoflop.arch.llama import module

    assert (_llama.EPS, _llama.ROPE_BASE) == (module.EPS, module.ROPE_BASE)


def test_every_embedding_can_be_trained_on(finished):
    assert loaded(finished[1]).model.embed_tokens.padding_idx is None


HARD = ["", "\0", "a\0b\0\0", "Ā", "<|end|>", " <|end|> ", "é\u0301", "  \n\n\t x", "日本", "\u200b\ufeff", "🏳️‍🌈", "\r\n", "##", "Ġ", "Ċ the"]
any_text = st.one_of(st.text(), st.lists(st.sampled_from(HARD)).map("".join), st.text(alphabet="\0Ā<|end> \né"))


@pytest.mark.parametrize("text", HARD)
def test_a_hard_text_of_bytes_has_the_ids_of_training(finished, text):
    _same_ids_and_back(_Held.of(finished[1]), ids.Bytes(), text)


@settings(max_examples=150)
@given(text=any_text)
def test_any_text_of_bytes_has_the_ids_of_training(finished, text):
    _same_ids_and_back(_Held.of(finished[1]), ids.Bytes(), text)


@settings(max_examples=150)
@given(text=any_text)
def test_any_text_of_a_bpe_has_the_ids_of_training(merged, text):
    bpe, study = merged
    _same_ids_and_back(_Held.of(_exported_once(study)), bpe, text)


class _Held:
    """Tokenizers by folder: loading one takes a hundred times longer than asking it."""

    tokenizers: dict = {}  # noqa: RUF012  # of the tests alone

    @classmethod
    def of(cls, folder: Path):
        if folder not in cls.tokenizers:
            cls.tokenizers[folder] = tokenizer_of(folder)
        return cls.tokenizers[folder]


def _exported_once(study: Path) -> Path:
    return study / "hf" if (study / "hf").exists() else export(source(next(study.glob("runs/*"))), study / "hf")


def _same_ids_and_back(theirs, ours, text: str) -> None:
    (expected,) = ours.encode([text.encode()])
    found = theirs(text).input_ids
    assert found == expected[:-1].tolist()  # ours ends the document
    assert theirs.decode(found) == text


def test_the_separator_ends_a_document_in_both(finished, merged):
    for folder in (finished[1], _exported_once(merged[1])):
        tokenizer = tokenizer_of(folder)
        assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (ids.SEPARATOR,) * 3
        assert tokenizer.decode([*tokenizer("word").input_ids, ids.SEPARATOR], skip_special_tokens=True) == "word"


def test_bytes_that_are_no_text_become_replacement_signs(finished):
    assert tokenizer_of(finished[1]).decode([255, 104, 105]) == "\ufffdhi"


def test_the_vocabulary_is_the_models(finished, merged):
    assert len(tokenizer_of(finished[1])) == 256
    assert len(tokenizer_of(_exported_once(merged[1]))) == 290


def test_the_same_run_gives_the_same_bytes(finished, tmp_path):
    _, hf, run = finished
    again = export(run, tmp_path / "again")
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in hf.iterdir()}
    assert {p.name for p in again.iterdir()} == FILES


def test_the_card_says_what_the_record_says(finished):
    _, hf, run = finished
    card, record = (hf / "README.md").read_text(encoding="utf-8"), run.record
    for fact in (record.id, "chinchilla", "2.5000 nats per token", "3.6000", f"{record.params.total:,}", "640 tokens", record.spec.data, "isoflop 0", "bytes"):
        assert fact in card
    assert "follows no instructions" in card
    assert str(hf.parent) not in card  # whose machine it was is nobody's business
    assert json.loads((hf / "isoflop.json").read_text())["record"] == record.model_dump(mode="json")


def test_a_gopher_is_refused_in_words(tmp_path):
    spec = spec_of(arch.get("gopher").at(16, vocab=256, context=32))
    keep(tmp_path / "study", spec)
    with pytest.raises(UsageError, match=r"gopher family.*relative positions.*arch = \"llama\""):
        export(source(tmp_path / "study/runs" / spec.id), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_width_that_the_heads_do_not_divide_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="16 wide with 3 heads"):
        exported(tmp_path, small(n_heads=3))


def test_a_run_without_weights_says_how_to_get_them(finished, tmp_path):
    run = finished[2].weights.parent
    (tmp_path / "bare").mkdir()
    for name in (files.RECORD, files.CURVE):
        files.write(tmp_path / "bare" / name, files.read(run / name))
    with pytest.raises(UsageError, match=r"has no weights.*start `isoflop run` again"):
        source(tmp_path / "bare")


def test_altered_weights_are_refused(tmp_path):
    spec = spec_of(small())
    keep(tmp_path / "study", spec)
    run = source(tmp_path / "study/runs" / spec.id)
    payload = bytearray(run.weights.read_bytes())
    payload[-5] ^= 1
    run.weights.write_bytes(payload)
    with pytest.raises(StoreError, match="not what the record was written with"):
        export(run, tmp_path / "hf")
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_weights_of_another_shape_are_refused(tmp_path):
    spec = spec_of(small())
    keep(tmp_path / "study", spec)
    payload = save(model_of(small(ffw_size=8)).state_dict())
    files.write(tmp_path / "other", payload)
    record = files.read_record(tmp_path / "study/runs" / spec.id).model_copy(update={"weights_sha256": hashlib.sha256(payload).hexdigest()})
    with pytest.raises(StoreError, match=r"blocks\.0\.feed_forward_in_FD is float32 \(16, 16\)"):
        export(Source(record=record, weights=tmp_path / "other", tokenizer=None, study="any"), tmp_path / "hf")


def test_the_tokenizer_must_be_the_one_trained_with(merged, tmp_path):
    _, study = merged
    run = next(study.glob("runs/*"))
    for name in ("meta.json", ids.FILE):
        files.write(tmp_path / "study/data" / name, files.read(study / "data" / name))
    copy = tmp_path / "study/runs" / run.name
    for path in run.iterdir():
        files.write(copy / path.name, path.read_bytes())
    assert source(copy).tokenizer == tmp_path / "study/data" / ids.FILE
    with (tmp_path / "study/data" / ids.FILE).open("a") as file:
        file.write(" ")
    with pytest.raises(StoreError, match="changed since"):
        source(copy)
    (tmp_path / "study/data" / ids.FILE).unlink()
    with pytest.raises(StoreError, match="ids mean nothing"):
        source(copy)
    other = spec_of(small(vocab=290))
    keep(study, other)
    with pytest.raises(StoreError, match="another text"):
        source(study / "runs" / other.id)


def test_a_folder_with_something_in_it_is_kept(finished, tmp_path):
    run = finished[2]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"thesis\.tex"):
            export(run, tmp_path / "mine", overwrite=overwrite)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="is a file"):
        export(run, tmp_path / "mine/thesis.tex")


def test_an_earlier_export_is_replaced_unless_it_was_changed(finished, tmp_path):
    run = finished[2]
    (tmp_path / "hf").mkdir()  # empty: nothing is lost
    hf = export(run, tmp_path / "hf")
    assert export(run, hf) == hf
    (hf / "README.md").write_text("my own words")
    with pytest.raises(UsageError, match=r"README\.md changed since.*--overwrite"):
        export(run, hf)
    export(run, hf, overwrite=True)
    assert "isoflop" in (hf / "README.md").read_text()
    (hf / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt changed"):
        export(run, hf)
    (hf / "notes.txt").unlink()
    (hf / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors changed"):
        export(run, hf)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_not_even_overwrite_replaces_a_folder_of_folders(finished, tmp_path):
    hf = export(finished[2], tmp_path / "hf")
    (hf / ".git").mkdir()
    with pytest.raises(UsageError, match="not even --overwrite"):
        export(finished[2], hf, overwrite=True)
    assert (hf / ".git").is_dir()


def test_the_folder_that_one_is_in_is_not_replaced(finished, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (Path(), Path(".."), tmp_path):
        with pytest.raises(UsageError, match="you are in"):
            export(finished[2], folder, overwrite=True)


def test_a_link_to_a_folder_stays_a_link(finished, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert export(finished[2], tmp_path / "link") == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()
    assert {p.name for p in (tmp_path / "real").iterdir()} == FILES


def test_two_exports_to_one_folder_do_not_mix(finished, tmp_path):
    aside = tmp_path / ".hf.exporting"
    aside.mkdir()
    lock = os.open(aside, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another process"):
        export(finished[2], tmp_path / "hf")
    os.close(lock)
    (aside / "left.part").write_text("of one that was killed")
    assert {p.name for p in export(finished[2], tmp_path / "hf").iterdir()} == FILES
    assert not aside.exists()


def test_what_cannot_be_written_is_said_in_words_and_leaves_nothing(finished, tmp_path):
    """Files of at most so many bytes, as on a disk that fills up in the middle of each of them."""
    code = """
import resource, sys
from pathlib import Path
from isoflop.errors import StoreError
from isoflop.export import export, source
run, to = source(Path(sys.argv[1])), Path(sys.argv[2])
for most in (0, 300, 700, 2000, 4000, 9000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        export(run, to)
        print("written")
    except StoreError as error:
        print(error, list(to.parent.iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", code, str(finished[2].weights.parent), str(tmp_path / "hf")], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all("larger than this process may write" in line and line.endswith("[]") for line in lines), lines


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from isoflop.export import export, source
old, new = source(Path(sys.argv[1])), source(Path(sys.argv[2]))
place = Path(sys.argv[3])

def killed(n):
    "Whether an export died at its n-th use of the file system."
    child = os.fork()
    if child == 0:
        left = [n]
        def hook(event, args):
            if event.split(".")[0] in ("open", "os", "shutil", "fcntl"):
                left[0] -= 1
                if left[0] == -1:  # the kill is such a use itself
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        export(new, place / "hf")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0

before = export(old, place.with_name("before"))
for earlier in (False, True):
    n = 0
    while True:
        shutil.rmtree(place, ignore_errors=True)
        if earlier:
            shutil.copytree(before, place / "hf")
        alive = not killed(n)
        shutil.copytree(place, f"{place}-{earlier:d}-{n:04d}") if place.exists() else None
        if alive or n % 6 == 0:  # the next export clears up
            export(new, place / "hf")
            assert [p.name for p in place.iterdir()] == ["hf"], list(place.iterdir())
        if alive:
            break
        n += 1
    print(n)
"""


def test_killed_at_any_moment_the_folder_is_whole_or_as_it_was(tmp_path):
    """At every use of the file system in turn: with nothing there before, and with an earlier export."""
    specs = [spec_of(small(), seed=seed) for seed in (1, 2)]
    for spec in specs:
        keep(tmp_path / "study", spec)
    runs = [str(tmp_path / "study/runs" / spec.id) for spec in specs]
    done = subprocess.run([sys.executable, "-c", KILLED, *runs, str(tmp_path / "place")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(line) > 4 * len(FILES) for line in done.stdout.split()), done.stdout  # a folder, a part, a rename and a sync for each file
    for place in sorted(tmp_path.glob("place-*")):
        there = {p.name for p in place.iterdir()}
        assert there <= {"hf", ".hf.exporting", ".hf.former"}
        whole = [name for name in ("hf", ".hf.former") if name in there][:1]  # once the new one stands the former is removed
        assert whole or place.name.startswith("place-0"), place
        for name in whole:
            _check_whole(place / name)


def _check_whole(folder: Path) -> None:
    written = json.loads((folder / "isoflop.json").read_text())["files"]
    assert {p.name for p in folder.iterdir()} == FILES
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in written} == written


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, list[RunSpec]]:
    """Three finished runs that the store knows: of the proof, of the sweep, and of the proof of an older design."""
    folder = tmp_path_factory.mktemp("stored")
    older, proof, sweep = spec_of(small(), label="chinchilla", seed=7), spec_of(small(), label="chinchilla"), spec_of(small(), group="isoflop")
    with Store(folder) as store:
        store.add([older])
        store.add([proof], instead_of=("proof",))
        store.add([sweep], instead_of=("isoflop",))
    for spec in (older, proof):
        keep(folder, spec)
    return folder, [older, proof, sweep]


def test_a_run_is_found_by_id_by_its_beginning_and_by_its_part_in_the_present_proof(study):
    folder, (older, proof, _) = study
    assert find(folder, proof.id) == find(folder, proof.id[:6]) == find(folder, "chinchilla") == folder / "runs" / proof.id
    assert find(folder, older.id) == folder / "runs" / older.id


def test_a_run_that_is_not_there_is_answered_with_those_that_are(study):
    folder, (older, proof, sweep) = study
    with pytest.raises(UnknownNameError, match=rf"no run 'gopher'. Those with weights: chinchilla, {older.id}\.") as caught:
        find(folder, "gopher")
    assert proof.id not in str(caught.value)  # its label is shorter; the older design's can be had by its id alone
    assert sweep.id not in str(caught.value)
    with pytest.raises(UnknownNameError):
        find(folder, "")
    with pytest.raises(StoreError, match="nothing was trained"):
        find(folder / "runs", "chinchilla")


def isoflop(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isoflop", *words])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_the_verb_takes_a_part_of_a_study_or_a_runs_folder(study, tmp_path, capsys, monkeypatch):
    folder, (_, proof, _) = study
    monkeypatch.chdir(tmp_path)
    (folder / "study.toml").write_text('name = "named"\nbudgets = ["1e9"]\ntarget = "3e9"\n')
    assert isoflop("export", f"{folder}:chinchilla", "hf") == 0
    printed = capsys.readouterr()
    assert proof.id in printed.out
    assert "next: python -c" in printed.err
    assert isoflop("export", str(folder / "runs" / proof.id), "hf") == 0
    _check_whole(tmp_path / "hf")
    assert "# named: chinchilla" in (tmp_path / "hf/README.md").read_text()
    for words, code, said in (
        ([str(folder), "new"], 2, "Say which run"),
        ([f"{folder}:kaplan", "new"], 2, "has no run 'kaplan'. Those with weights: chinchilla, "),
        ([f"{folder}:chinchilla", "."], 2, "you are in"),
        (["nowhere.toml:chinchilla", "new"], 2, "no study file"),
    ):
        assert isoflop("export", *words) == code
        assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "new").exists()


def test_the_next_command_that_is_printed_generates_without_a_network(study, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python/sitecustomize.py").parent.mkdir()
    (tmp_path / "python/sitecustomize.py").write_text(NO_NETWORK)
    assert isoflop("export", str(study[0] / "runs" / study[1][1].id), "it's a model") == 0
    command = capsys.readouterr().err.split("next: ", 1)[1].strip().replace("python", sys.executable, 1)
    alone = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error", "PYTHONPATH": str(tmp_path / "python")}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The ")
    assert len(done.stdout) > len("The \n")


NO_NETWORK = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"network: {args}")
sys.addaudithook(refuse)
"""


def test_exporting_needs_neither_torch_nor_transformers(study, tmp_path):
    code = """
import sys
from pathlib import Path
from isoflop.export import export, source
export(source(Path(sys.argv[1])), Path(sys.argv[2]))
print([name for name in ("torch", "transformers", "tokenizers") if name in sys.modules])
"""
    run = study[0] / "runs" / study[1][1].id
    done = subprocess.run([sys.executable, "-c", code, str(run), str(tmp_path / "hf")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
