"""Checkpoints: what is read back is what was written, or the one before, or none; never anything else."""

import contextlib
import fcntl
import functools
import hashlib
import json
import math
import multiprocessing
import os
import pickle
import posix
import random
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from isoflop.errors import StoreError
from isoflop.store import files
from isoflop.train import _safetensors, checkpoint
from isoflop.train.checkpoint import MANIFEST, TENSORS, Checkpoint, Writer

FILES = (TENSORS, MANIFEST)


def state(step: int, *, size: int = 900) -> Checkpoint:
    """A checkpoint of several kilobytes, another at every step."""
    draw = torch.Generator().manual_seed(step)
    tensors = {"params": torch.randn(size, generator=draw), "exp_avg.0": torch.randn(size, generator=draw), "step.0": torch.tensor(float(step))}
    return Checkpoint(step, 0.25 * step, tensors, {"micro": 2, "why": [None, "memory"]})


def same(a: Checkpoint | None, b: Checkpoint | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        (a.step, a.seconds, dict(a.notes)) == (b.step, b.seconds, dict(b.notes))
        and a.tensors.keys() == b.tensors.keys()
        and all(a.tensors[name].dtype == b.tensors[name].dtype and torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    )


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def folder(tmp_path) -> Path:
    """With the checkpoints of steps 1 and 2."""
    for step in (1, 2):
        checkpoint.save(tmp_path / "checkpoint", state(step))
    return tmp_path / "checkpoint"


# --- what is written is read


MANY = {
    "matrix": torch.randn(5, 7),
    "transposed": torch.randn(6, 4).T,
    "one": torch.tensor(3.5),
    "none": torch.empty(0, 3),
    "flags": torch.tensor([True, False, True]),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "odd": torch.randn(3, dtype=torch.float64),
    "long": torch.tensor([2**62, -1]),
    "half": torch.randn(5).half(),
    "brain": torch.randn(3).bfloat16(),
    "not finite": torch.tensor([math.nan, math.inf, -0.0]),
    "snow ☃": torch.arange(3, dtype=torch.int32),
    **{f"i{n}": torch.zeros(2, dtype=getattr(torch, f"int{n}")) for n in (8, 16)},
}


def bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("background", [True, False])
def test_every_type_and_shape_comes_back_bit_by_bit(tmp_path, background):
    with Writer(tmp_path) as writer:
        written = Checkpoint(7, 1.5, dict(MANY), {"a": {"b": 1}})
        assert writer.offer(written) if background else writer.save(written) is None
    found = checkpoint.newest((tmp_path,))
    assert (found.step, found.seconds, found.notes) == (7, 1.5, {"a": {"b": 1}})
    assert {name: bits(t) for name, t in found.tensors.items()} == {name: bits(t) for name, t in MANY.items()}


def test_files_are_exchanged_with_the_library():
    contiguous = {name: tensor.contiguous() for name, tensor in MANY.items()}
    ours, theirs = b"".join(_safetensors.pieces(contiguous)), safetensors.torch.save(contiguous, metadata={"format": "pt"})
    expected = {name: bits(tensor) for name, tensor in contiguous.items()}
    assert {name: bits(tensor) for name, tensor in safetensors.torch.load(ours).items()} == expected
    assert {name: bits(tensor) for name, tensor in _safetensors.tensors(bytearray(theirs)).items()} == expected


def put(path: Path, payload: bytes, **altered: object) -> None:
    """A checkpoint of step 5 made by hand, with the right digests."""
    fields = {"step": 5, "seconds": 2.5, "notes": {}, "bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest(), **altered}
    fields = {name: value for name, value in fields.items() if value is not None}
    path.mkdir(parents=True, exist_ok=True)
    (path / TENSORS).write_bytes(payload)
    (path / MANIFEST).write_bytes(files.canonical(fields | {"digest": hashlib.sha256(files.canonical(fields)).hexdigest()}))


def test_a_manifest_is_read_only_if_it_has_the_digest_of_itself_and_all_its_fields(tmp_path):
    payload, path = safetensors.torch.save({"x": torch.arange(4.0)}), path_of(tmp_path, 5)
    put(path, payload)
    assert same(checkpoint.at(tmp_path, 5), Checkpoint(5, 2.5, {"x": torch.arange(4.0)}))
    fields = json.loads((path / MANIFEST).read_bytes())
    del fields["digest"]
    (path / MANIFEST).write_bytes(files.canonical(fields))
    assert checkpoint.at(tmp_path, 5) is None
    for name, wrong in (("step", 6), ("bytes", 3), ("seconds", "x"), ("sha256", "0" * 64), ("notes", None), ("notes", [1]), ("step", None)):
        put(path, payload, **{name: wrong})
        assert checkpoint.at(tmp_path, 5) is None, name


def test_one_exact_step_is_read(folder):
    assert checkpoint.steps(folder) == (1, 2)
    assert same(checkpoint.at(folder, 1), state(1))
    assert checkpoint.at(folder, 3) is None


def test_the_furthest_of_several_folders_is_taken(folder, tmp_path):
    checkpoint.save(tmp_path / "other", state(3))
    assert checkpoint.newest((folder, tmp_path / "other", tmp_path / "missing")).step == 3
    assert checkpoint.newest((tmp_path / "other", folder)).step == 3
    (tmp_path / "file").touch()
    assert checkpoint.newest((tmp_path / "file",)) is None


def of(run: str, step: int) -> Checkpoint:
    """Another in every run."""
    return Checkpoint(step, 1.0, {"x": torch.tensor([float(step), float(ord(run))])}, {"run": run})


def test_of_several_runs_in_a_folder_the_one_asked_for_is_found(folder, tmp_path):
    for one in (of("a", 3), of("b", 4), of("a", 5)):
        checkpoint.save(folder, one, keep=None)
    assert same(checkpoint.newest((folder,), run="a"), of("a", 5))
    assert same(checkpoint.newest((tmp_path / "missing", folder), run="b"), of("b", 4))
    assert checkpoint.newest((folder,), run="c") is None
    assert same(checkpoint.newest((folder,)), of("a", 5))


# --- damage


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_at_any_kilobyte_is_passed_over_for_the_one_before(folder, name):
    path = path_of(folder, 2) / name
    payload = path.read_bytes()
    cuts = {*range(0, len(payload), 1024), *range(8, 16), len(payload) // 2, len(payload) - 1}
    assert len(cuts) > (5 if name == TENSORS else 3)
    for cut in cuts:
        path.write_bytes(payload[:cut])
        assert same(checkpoint.newest((folder,)), state(1)), cut
        assert checkpoint.at(folder, 2) is None
    path.write_bytes(payload)
    assert same(checkpoint.newest((folder,)), state(2))


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_tail_of_zeros_is_noticed(folder, fill):
    """What a file system may leave where a power cut came between the size and the content."""
    path = path_of(folder, 2) / TENSORS
    payload = path.read_bytes()
    for cut in range(0, len(payload), 1024):
        path.write_bytes(payload[:cut] + fill * (len(payload) - cut))
        assert same(checkpoint.newest((folder,)), state(1)), cut


def test_a_flipped_bit_in_any_byte_of_a_manifest_is_noticed(folder):
    path, draw = path_of(folder, 2) / MANIFEST, random.Random(0)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :])
        assert checkpoint.at(folder, 2) is None, at


def test_flipped_bits_of_the_tensors_are_noticed(folder):
    path, draw = path_of(folder, 2) / TENSORS, random.Random(0)
    content = path.read_bytes()
    for at in (*range(200), *(draw.randrange(len(content)) for _ in range(300))):  # the header, and anywhere
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :])
        assert same(checkpoint.newest((folder,)), state(1)), at


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_steps_are_not_mixed(folder, name):
    one, two = (path_of(folder, step) / name for step in (1, 2))
    one.rename(folder / "aside")
    two.rename(one)
    (folder / "aside").rename(two)
    assert checkpoint.newest((folder,)) is None


def test_a_folder_under_the_name_of_another_step_is_not_that_step(folder):
    path_of(folder, 2).rename(path_of(folder, 9))
    assert same(checkpoint.newest((folder,)), state(1))
    both = [path_of(folder, step) for step in (1, 9)]
    both[0].rename(folder / "aside")
    both[1].rename(both[0])
    (folder / "aside").rename(both[1])
    assert checkpoint.newest((folder,)) is None


def huge(path: Path) -> None:
    """A sparse file of four terabytes."""
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 42)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [Path.unlink, directory, huge, fifo, loop, longer])
def test_a_file_that_is_gone_or_something_else_is_passed_over(folder, name, harm):
    harm(path_of(folder, 2) / name)
    assert same(checkpoint.newest((folder,)), state(1))


@pytest.mark.parametrize("name", ["step-000000003", "step-", "step-3", "step-x", "step-٣", "step--00000003", "step-1e3", "step-" + "9" * 200, "other"])
def test_other_things_in_the_folder_are_no_checkpoints(folder, name):
    (folder / name).touch()
    assert same(checkpoint.newest((folder,)), state(2))
    assert checkpoint.at(folder, 3) is None


def header(text: str, content: bytes = b"") -> bytes:
    return len(text.encode()).to_bytes(8, "little") + text.encode() + content


EVIL = {
    "nothing": b"",
    "length alone": (8).to_bytes(8, "little"),
    "length of 2**63": (2**63).to_bytes(8, "little") + b"{}",
    "no JSON": header("{"),
    "deep": header("[" * 100_000),
    "a list": header("[]"),
    "no object": header('{"x": 3}'),
    "no type": header('{"x": {"shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
    "unknown type": header('{"x": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
    "beyond the end": header('{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', bytes(4)),
    "before the start": header('{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', bytes(4)),
    "the wrong way round": header('{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', bytes(4)),
    "other size": header('{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}', bytes(4)),
    "negative sizes": header('{"x": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}', bytes(4)),
    "overflowing sizes": header('{"x": {"dtype": "F32", "shape": [4294967296, 4294967296, 0], "data_offsets": [0, 0]}}'),
    "huge sizes": header('{"x": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}'),
    "no numbers": header('{"x": {"dtype": "F32", "shape": ["1"], "data_offsets": ["0", "4"]}}', bytes(4)),
    "fractions": header('{"x": {"dtype": "F32", "shape": [1.0], "data_offsets": [0.0, 4.0]}}', bytes(4)),
    "a pickle": pickle.dumps(Path("x")),
}


@pytest.mark.parametrize("payload", EVIL.values(), ids=EVIL)
def test_an_evil_file_with_the_right_digests_is_passed_over(folder, payload):
    path = path_of(folder, 2)
    put(path, (path / TENSORS).read_bytes(), step=2)
    assert checkpoint.newest((folder,)).step == 2  # it is the payload that is at fault
    put(path, payload, step=2)
    assert same(checkpoint.newest((folder,)), state(1))


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_nothing_is_unpickled(folder):
    (path_of(folder, 2) / TENSORS).write_bytes(pickle.dumps(Bomb()))
    (path_of(folder, 2) / MANIFEST).write_bytes(pickle.dumps(Bomb()))
    assert same(checkpoint.newest((folder,)), state(1))


@pytest.mark.parametrize("text", ["", "null", "3", "[]", "{}", "[" * 100_000, '{"digest": 3}', '{"step": 1e999, "seconds": 1, "bytes": 2, "sha256": 3}'])
def test_a_manifest_of_something_else_is_passed_over(folder, text):
    (path_of(folder, 2) / MANIFEST).write_text(text)
    assert same(checkpoint.newest((folder,)), state(1))


# --- a power cut


class Disk:
    """What would outlive a power cut, by what Python asks of the system. Nothing is done otherwise than without it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert os.fsync is posix.fsync  # the system's own
        self.contents: dict[int, bytes] = {}  # of files, by inode
        self.names: dict[int, set[str]] = {}  # in folders
        self.renamed: list[Path] = []
        for name in ("fsync", "rename", "replace"):
            monkeypatch.setattr(os, name, functools.partial(getattr(self, name), getattr(os, name)))

    def fsync(self, really: Callable[[int], None], handle: int) -> None:
        path, inode = Path(f"/proc/self/fd/{handle}").resolve(), os.fstat(handle).st_ino
        if path.is_dir():
            self.names[inode] = {entry.name for entry in path.iterdir()}
        else:
            self.contents[inode] = path.read_bytes()
        really(handle)

    def rename(self, really: Callable[[Path, Path], None], old: Path, new: Path) -> None:
        assert self.keeps(Path(old)), f"{new} would be given its name before its content would outlive a power cut"
        really(old, new)
        self.renamed.append(Path(new))

    replace = rename

    def keeps(self, path: Path) -> bool:
        """Whether all of a file or folder would be there."""
        if path.is_dir():
            return self.names.get(path.stat().st_ino) == {entry.name for entry in path.iterdir()} and all(map(self.keeps, path.iterdir()))
        return self.contents.get(path.stat().st_ino) == path.read_bytes()

    def finds(self, path: Path, *, below: Path) -> bool:
        """Whether all names on the way to it would be there."""
        way = path.relative_to(below).parts
        return all(name in self.names.get(below.joinpath(*way[:n]).stat().st_ino, ()) for n, name in enumerate(way))


@pytest.mark.parametrize("background", [True, False])
def test_a_checkpoint_has_its_name_only_once_it_would_outlive_a_power_cut_and_soon_so_has_the_name(tmp_path, monkeypatch, background):
    disk, folder = Disk(monkeypatch), tmp_path / "run/attempt-1/checkpoint"
    for step in (1, 2, 3):
        with Writer(folder) as writer:
            assert writer.offer(state(step)) if background else writer.save(state(step)) is None
        assert disk.renamed == [path_of(folder, n) for n in range(1, step + 1)]
        assert disk.finds(path_of(folder, step), below=tmp_path)


# --- how many are kept


def test_the_last_two_are_kept(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(1, 6):
            writer.save(state(step))
            assert checkpoint.steps(tmp_path) == tuple(range(max(1, step - 1), step + 1))


def test_marks_are_all_kept(tmp_path):
    for step in range(1, 6):
        checkpoint.save(tmp_path, state(step), keep=None)
    assert checkpoint.steps(tmp_path) == (1, 2, 3, 4, 5)


def test_those_of_another_run_do_not_count_among_the_two_and_go(tmp_path):
    for step in (2, 9):
        checkpoint.save(tmp_path, of("a", step))
    with Writer(tmp_path, run="b") as writer:
        for step in (1, 2, 3):  # the other run has a state after two steps as well
            writer.save(of("b", step))
            assert checkpoint.steps(tmp_path) == tuple(range(max(1, step - 1), step + 1))
            assert same(checkpoint.newest((tmp_path,), run="b"), of("b", step))


def test_at_one_step_a_sound_one_of_another_run_is_replaced_if_the_run_is_named(tmp_path):
    checkpoint.save(tmp_path, of("a", 2), keep=None)
    checkpoint.save(tmp_path, of("b", 2), keep=None)  # as in a trunk, whose runs have the same state
    assert same(checkpoint.at(tmp_path, 2), of("a", 2))
    with Writer(tmp_path, run="b", keep=None) as writer:
        writer.save(of("b", 2))
    assert same(checkpoint.at(tmp_path, 2), of("b", 2))


def test_a_damaged_one_does_not_count_among_the_two(folder):
    (path_of(folder, 2) / TENSORS).write_bytes(b"")
    checkpoint.save(folder, state(3))
    assert checkpoint.steps(folder) == (1, 3)
    assert same(checkpoint.at(folder, 1), state(1))


def test_a_damaged_one_is_replaced_and_a_sound_one_left(folder):
    before = (path_of(folder, 2) / TENSORS).stat().st_ino
    checkpoint.save(folder, state(2))
    assert (path_of(folder, 2) / TENSORS).stat().st_ino == before
    shutil.rmtree(path_of(folder, 2))
    path_of(folder, 2).touch()
    checkpoint.save(folder, state(2))
    (path_of(folder, 2) / MANIFEST).write_text("{}")
    checkpoint.save(folder, state(2))
    assert same(checkpoint.at(folder, 2), state(2))
    assert hidden(folder) == []


def test_earlier_attempts_are_emptied_once_there_are_enough_of_ones_own(folder, tmp_path):
    (folder / "note").touch()
    (folder / ".step-000000003.dead.part").mkdir()
    with Writer(tmp_path / "second", earlier=(folder, tmp_path / "missing")) as writer:
        writer.save(state(3))
        assert checkpoint.steps(folder) == (1, 2)
        writer.save(state(4))
        assert checkpoint.steps(folder) == ()
    assert [path.name for path in folder.iterdir()] == ["note"]


def test_what_the_dead_left_half_written_is_removed_and_what_the_living_write_is_not(tmp_path):
    dead, living = (tmp_path / f".step-000000001.{name}.part" for name in ("dead", "living"))
    for part in (dead, living):
        part.mkdir()
        (part / TENSORS).write_bytes(b"half")
    handle = os.open(living, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        checkpoint.save(tmp_path, state(1))
    finally:
        os.close(handle)
    assert hidden(tmp_path) == [living.name]
    checkpoint.save(tmp_path, state(2))
    assert hidden(tmp_path) == []


# --- in the background

LARGE = 6_000_000  # numbers: 48 MB to write, some 50 ms


def test_what_is_written_is_what_was_offered_whatever_training_does_meanwhile(tmp_path):
    kept = state(1, size=LARGE)
    moving = {name: tensor.clone() for name, tensor in kept.tensors.items()}
    with Writer(tmp_path) as writer:
        assert writer.offer(kept._replace(tensors=moving))
        for _ in range(20):
            for tensor in moving.values():
                tensor.add_(1.0)
    assert same(checkpoint.newest((tmp_path,)), kept)


def test_an_offer_while_the_one_before_is_being_written_is_declined(tmp_path):
    with Writer(tmp_path) as writer:
        assert writer.offer(state(1, size=LARGE))
        assert not writer.due()
        assert not writer.offer(state(2))
        writer.close()
        assert writer.due()
        assert writer.offer(state(3))
    assert checkpoint.steps(tmp_path) == (1, 3)


def longest_wait(going: Callable[[], bool]) -> float:
    """Seconds that this thread stands still at most while another works."""
    last, longest = time.perf_counter(), 0.0
    while going():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    """The library's `save` holds the interpreter's lock all the while; five to ten times as long as the longest wait here."""
    large = state(1, size=2 * LARGE)
    ours, librarys = [], []
    for n in range(3):  # the least of three: another process may take the processor meanwhile
        with Writer(tmp_path / str(n)) as writer:
            writer.offer(large)
            ours.append(longest_wait(writer._busy))
        thread = threading.Thread(target=safetensors.torch.save, args=(large.tensors,))
        thread.start()
        librarys.append(longest_wait(thread.is_alive))
    assert min(ours) < 0.5 * min(librarys)


def test_nothing_is_written_that_would_cost_more_than_its_share(tmp_path):
    with Writer(tmp_path, share=1e-6) as writer:
        assert not writer.offer(state(1, size=LARGE))
        assert not writer.due()
    assert not list(tmp_path.iterdir())
    with Writer(tmp_path, every=3600.0) as writer:
        assert not writer.due()


@pytest.mark.slow
def test_the_cost_stays_within_its_share(tmp_path):
    share, written, began = 0.02, 0, time.perf_counter()
    with Writer(tmp_path, share=share) as writer:
        while written < 5:
            if writer.due():
                assert writer.cost <= share * (time.perf_counter() - began)
                written += writer.offer(state(written, size=LARGE // 20))
            time.sleep(0.001)
        writer.close()
        assert writer.cost > 0


def test_waiting_for_the_disk_is_not_counted_as_cost(tmp_path):
    with Writer(tmp_path) as writer:
        writer.save(state(1))
        assert 0 < writer.cost < 0.2


def limited(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python in a process that may write no file of more than 20 kB."""
    head = (
        "import resource, sys, time; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from pathlib import Path\nimport test_checkpoint as t\n"
    )
    path = os.pathsep.join((str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])))
    command = [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


def test_a_write_that_fails_in_the_background_is_said_in_training_and_leaves_nothing(folder):
    done = limited(
        """
        folder = Path(sys.argv[1])
        def tried(act, writer):
            try:
                act(writer)
            except t.StoreError as error:
                print(type(error).__name__, error)
        def late(writer):
            while not writer.due():
                time.sleep(0.001)
        for act in (lambda w: w.offer(t.state(4)), late, t.Writer.close, lambda w: w.__exit__(None)):
            writer = t.Writer(folder)
            assert writer.offer(t.state(3, size=9000))
            while writer._busy():
                time.sleep(0.001)
            tried(act, writer)
            tried(t.Writer.close, writer)  # it is said once
        with t.Writer(folder) as writer:
            tried(lambda w: w.save(t.state(5, size=9000)), writer)
            writer.offer(t.state(6, size=9000))
            writer.save(t.state(7))  # what became of the one before no longer matters
        try:
            with t.Writer(folder) as writer:
                writer.offer(t.state(8, size=9000))
                raise KeyboardInterrupt("an error on its way is not hidden by that of the writer")
        except KeyboardInterrupt as error:
            print(error)
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert last == "an error on its way is not hidden by that of the writer"
    assert len(said) == 5
    assert all(re.search(r"^StoreError .*step-00000000[35] would be larger than this process may write. .*run the same command again", line) for line in said)
    assert checkpoint.steps(folder) == (2, 7)
    assert hidden(folder) == []


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a part of that path is a file"), Writer(tmp_path / "file" / "checkpoint") as writer:
        writer.offer(state(1))


def test_notes_that_are_not_json_are_an_error_in_training(tmp_path):
    with Writer(tmp_path) as writer:
        writer.offer(state(1)._replace(notes={"loss": math.nan}))
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.close()
    assert checkpoint.newest((tmp_path,)) is None
    assert hidden(tmp_path) == []


# --- several writers


def keep_writing(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    while True:
        checkpoint.save(folder, state(draw.randrange(8), size=30_000), keep=None)
        if draw.random() < 0.3:
            path = path_of(folder, draw.randrange(8)) / draw.choice(FILES)
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, draw.randrange(100))


@pytest.mark.slow
def test_writers_that_race_and_are_killed_leave_only_sound_ones_or_damage_that_is_noticed(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "isoflop.train", "safetensors.torch"])
    draw = random.Random(9)

    def started() -> multiprocessing.Process:
        process = context.Process(target=keep_writing, args=(tmp_path, draw.randrange(1000)), daemon=True)
        process.start()
        return process

    writers, found, kills = [started() for _ in range(3)], set(), 0
    while kills < 12 or len(found) < 6:
        time.sleep(0.01)
        one = checkpoint.at(tmp_path, draw.randrange(8))
        assert one is None or same(one, state(one.step, size=30_000))
        assert all(writer.exitcode is None for writer in writers)
        found.add(one and one.step)
        if draw.random() < 0.2:
            victim = writers.pop(draw.randrange(3))
            victim.kill()
            victim.join()
            writers.append(started())
            kills += 1
    for writer in writers:
        writer.kill()
        writer.join()
    checkpoint.save(tmp_path, state(9, size=30_000))
    assert hidden(tmp_path) == []
