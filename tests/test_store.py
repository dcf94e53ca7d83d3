"""The store: each run once, whatever dies, and nothing damaged taken for sound."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isoflop import arch
from isoflop.errors import StoreError
from isoflop.runs import Clock, Curve, RunRecord, RunSpec
from isoflop.store import TRIES, Claim, Store, files


def spec_of(width: int = 8, *, seed: int = 0, steps: int = 10, group: str = "isoflop") -> RunSpec:
    shape = arch.get("llama").at(width, vocab=257, context=16)
    return RunSpec(shape=shape, tokens=steps * 64, batch=64, lr=0.01, seed=seed, data="0" * 16, eval_tokens=256, budget=1e9, group=group)


def record_of(spec: RunSpec, *, attempt: int = 1, status: str = "ok", loss: float | None = 2.5) -> RunRecord:
    return RunRecord(
        id=spec.id,
        spec=spec,
        status=status,
        loss=loss,
        bits_per_byte=None if loss is None else loss / 0.7,
        params=spec.shape.params,
        tokens=spec.tokens,
        flops=spec.flops,
        epochs=0.1,
        clock=Clock(seconds=1.5, finished="2025-01-01T00:00:00+00:00", attempt=attempt, device="test", versions={"isoflop": "0"}),
    )


def curve_of(spec: RunSpec) -> Curve:
    tokens = spec.batch * np.arange(1, spec.steps + 1, dtype=float)
    return Curve(tokens, 5.0 / np.sqrt(tokens))


def do(claim: Claim) -> None:
    files.write_record(claim.folder, record_of(claim.spec, attempt=claim.attempt), curve_of(claim.spec))


def finished_study(folder: Path, n: int = 3) -> list[RunSpec]:
    specs = [spec_of(seed=i) for i in range(n)]
    with Store(folder) as store:
        store.add(specs)
        while claim := store.claim("test", lease=60):
            do(claim)
            assert store.finish(claim)
    return specs


def statuses(store: Store) -> list[str]:
    return [row.status for row in store.rows()]


def flip(path: Path, *, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x04
    path.write_bytes(data)


# --- files


def test_a_record_and_its_curve_are_read_back_as_written(tmp_path):
    spec = spec_of()
    written = files.write_record(tmp_path, record_of(spec), curve_of(spec))
    assert files.read_record(tmp_path) == written
    curve = files.read_curve(tmp_path, written.curve_sha256)
    assert np.array_equal(curve.tokens, curve_of(spec).tokens)
    assert np.array_equal(curve.loss, curve_of(spec).loss.astype(np.float32).astype(float))


def test_equal_records_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        files.write_record(tmp_path / name, record_of(spec_of()), curve_of(spec_of()))
    for name in (files.RECORD, files.CURVE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_diverged_curve_keeps_what_is_not_finite(tmp_path):
    curve = Curve(np.array([64.0, 128.0, 192.0]), np.array([5.0, np.inf, np.nan]))
    record = files.write_record(tmp_path, record_of(spec_of(), status="diverged", loss=None), curve)
    assert np.array_equal(files.read_curve(tmp_path, record.curve_sha256).loss, curve.loss, equal_nan=True)


def test_a_flipped_digit_that_changes_no_value_is_noticed_too(tmp_path):
    files.write_record(tmp_path, record_of(spec_of(), loss=0.1), curve_of(spec_of()))
    path = tmp_path / files.RECORD
    content = path.read_bytes()
    assert content.count(b'"loss": 0.1,') == 1
    path.write_bytes(content.replace(b'"loss": 0.1,', b'"loss": 0.10000000000000000001,'))  # the same double
    with pytest.raises(StoreError, match="digest"):
        files.read_record(tmp_path)


@given(at=st.floats(0, 1, exclude_max=True, allow_subnormal=False), bit=st.integers(0, 7), name=st.sampled_from([files.RECORD, files.CURVE]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_noticed(tmp_path, at, bit, name):
    written = files.write_record(tmp_path, record_of(spec_of()), curve_of(spec_of()))
    data = bytearray((tmp_path / name).read_bytes())
    data[int(len(data) * at)] ^= 1 << bit
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StoreError, match=name):
        files.read_curve(tmp_path, files.read_record(tmp_path).curve_sha256)
    assert written.id


@pytest.mark.parametrize("name", [files.RECORD, files.CURVE])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named_with_what_to_do(tmp_path, name, keep):
    files.write_record(tmp_path, record_of(spec_of()), curve_of(spec_of()))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(keep * len(data))])
    with pytest.raises(StoreError, match=rf"{name} is damaged or cut short.*trained again"):
        files.read_curve(tmp_path, files.read_record(tmp_path).curve_sha256)


@pytest.mark.parametrize("folder", ["file/below", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Nothing that was finished is lost"):
        files.write(tmp_path / folder / "x", b"x")
    with pytest.raises(StoreError, match=r"Nothing that was finished is lost"):
        Store(tmp_path / folder)


@pytest.mark.parametrize("name", ["x" * 250, "."])  # the first leaves no room for the name that it is written under, to make or to remove
def test_a_name_that_cannot_be_written_is_said_in_words(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"file name too long|it is a folder"):
        files.write(Path(name), b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_said_in_words_and_what_is_not_there_is_removed(tmp_path):
    files.remove(tmp_path / "nothing")
    with pytest.raises(StoreError, match="Nothing that was finished is lost"):
        files.remove(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_part(tmp_path):
    files.write(tmp_path / "x", b"old")
    limited = f"""
        import resource
        from pathlib import Path
        from isoflop.store import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        files.write(Path({str(tmp_path / "x")!r}), b"n" * 5000)
    """
    done = run_python(limited)
    assert "StoreError" in done.stderr
    assert "larger than this process may write" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


# --- claims


def test_the_largest_run_is_claimed_first_and_rows_keep_their_order(tmp_path):
    specs = [spec_of(8), spec_of(32), spec_of(16)]
    with Store(tmp_path) as store:
        store.add(specs)
        store.add(specs)
        assert [row.spec for row in store.rows()] == specs
        claims = [store.claim("test", lease=60) for _ in specs]
        assert [c.spec.shape.d_model for c in claims] == [32, 16, 8]
        assert store.claim("test", lease=60) is None


def test_claims_are_only_among_the_ids_asked_for(tmp_path):
    specs = [spec_of(8), spec_of(32)]
    with Store(tmp_path) as store:
        store.add(specs)
        assert store.claim("test", lease=60, ids={specs[0].id}).spec == specs[0]
        assert store.claim("test", lease=60, ids={specs[0].id}) is None
        assert store.claim("test", lease=60, ids=set()) is None


def test_an_expired_lease_is_claimed_by_the_next_attempt(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        first = store.claim("one", lease=-1)
        second = store.claim("two", lease=60)
        assert (first.attempt, second.attempt) == (1, 2)
        assert second.earlier == (first.folder,)
        assert store.claim("three", lease=60) is None


def test_a_zombie_changes_nothing(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        zombie = store.claim("one", lease=-1)
        heir = store.claim("two", lease=60)
        do(zombie)
        assert store.finish(zombie) is None
        assert not store.renew(zombie, lease=60)
        assert not store.release(zombie, reason="")
        assert store.fail(zombie, reason="") is None
        assert statuses(store) == ["running"]
        do(heir)
        assert store.finish(heir).clock.attempt == 2
        do(zombie)
        assert store.finish(zombie) is None
        assert [r.clock.attempt for r in store.records()] == [2]


def test_a_released_run_is_interrupted_and_keeps_its_checkpoints(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        for attempt in range(1, 6):  # being stopped is no failure, however often
            claim = store.claim("test", lease=60)
            assert claim.attempt == attempt
            assert len(claim.earlier) == attempt - 1
            assert store.release(claim, reason="stopped")
        assert [(row.status, row.reason) for row in store.rows()] == [("interrupted", "stopped")]


def test_three_failed_attempts_are_recorded_as_a_failed_run(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        for last in (False, False, True):
            record = store.fail(store.claim("test", lease=60), reason="out of memory")
            assert (record is not None) == last
        assert store.claim("test", lease=60) is None
        (record,) = store.records()
        assert (record.status, record.loss) == ("failed", None)
        assert "3 attempts failed; the last: out of memory" in record.reason
        assert store.curve(record.id).loss.size == 0


def test_failed_and_diverged_runs_are_tried_again_on_request_and_their_records_kept(tmp_path):
    specs = [spec_of(seed=i) for i in range(3)]
    with Store(tmp_path) as store, store.lock():
        store.add(specs)
        do(store.claim("test", lease=-1, ids={specs[0].id}))
        diverged = store.claim("test", lease=60, ids={specs[1].id})
        files.write_record(diverged.folder, record_of(specs[1], status="diverged", loss=None), curve_of(specs[1]))
        assert store.finish(diverged)
        for _ in range(TRIES):
            store.fail(store.claim("test", lease=60, ids={specs[2].id}), reason="killed")
    with Store(tmp_path) as store, store.lock() as notes:
        assert statuses(store) == ["ok", "diverged", "failed"]
        assert store.retry({spec.id for spec in specs}) == 2
        assert store.retry({spec.id for spec in specs}) == 0
        assert statuses(store) == ["ok", "pending", "pending"]
        assert [files.read_record(tmp_path / "runs" / spec.id / "former-1").status for spec in specs[1:]] == ["diverged", "failed"]
        assert store.fail(store.claim("test", lease=60, ids={specs[2].id}), reason="killed") is None  # it has all its tries again
        claims = [store.claim("test", lease=60) for _ in range(2)]
        assert [(claim.spec, claim.attempt) for claim in claims] == [(specs[1], 2), (specs[2], 5)]
        for claim in claims:
            do(claim)
            assert store.finish(claim).status == "ok"
        assert [r.status for r in store.records()] == ["ok"] * 3
    with Store(tmp_path) as store, store.lock() as again:
        assert notes == again == ()


def test_an_attempt_that_died_after_its_record_was_whole_is_accepted(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        claim = store.claim("test", lease=60)
        do(claim)
        assert store.fail(claim, reason="killed").status == "ok"
        assert statuses(store) == ["ok"]


def test_an_attempt_whose_record_is_of_another_run_is_not_accepted(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        claim = store.claim("test", lease=60)
        files.write_record(claim.folder, record_of(spec_of(seed=9)), curve_of(spec_of(seed=9)))
        with pytest.raises(StoreError, match="not of"):
            store.finish(claim)
        assert statuses(store) == ["running"]


def test_runs_of_an_older_design_are_listed_but_not_among_the_records(tmp_path):
    old = finished_study(tmp_path)
    new, proof = [old[0], spec_of(16)], spec_of(24, group="proof")
    with Store(tmp_path) as store:
        store.add([proof])
        store.add(new, instead_of=("isoflop", "horizons", "noise"))
        assert [row.spec for row in store.rows()] == [*old, proof, new[1]]
        assert [row.current for row in store.rows()] == [True, False, False, True, True]
        assert [r.spec for r in store.records()] == [old[0]]
        store.add(old)
        assert len(store.records()) == 3


# --- many processes


def serve(folder: Path) -> None:
    """Claims and finishes runs until none is left; killed now and then."""
    with Store(folder) as store:
        while any(row.status in ("pending", "running") for row in store.rows()):
            claim = store.claim(str(os.getpid()), lease=0.3)
            if claim is None:
                time.sleep(0.02)
                continue
            with (folder / "trained.txt").open("a") as log:
                log.write(claim.spec.id + "\n")
            do(claim)
            store.finish(claim)


def test_six_processes_and_ten_kills_end_with_every_run_exactly_once(tmp_path):
    specs = [spec_of(seed=i) for i in range(60)]
    with Store(tmp_path) as store:
        store.add(specs)
    rng, context = random.Random(0), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "isoflop.store"])
    workers = [context.Process(target=serve, args=(tmp_path,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        time.sleep(rng.uniform(0.02, 0.15))
        victim = rng.randrange(6)
        workers[victim].kill()
        workers[victim].join()
        workers[victim] = context.Process(target=serve, args=(tmp_path,))
        workers[victim].start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    with Store(tmp_path) as store, store.lock() as notes:
        assert notes == ()
        assert {r.spec.id for r in store.records()} == {s.id for s in specs}
        assert len(store.records()) == 60
        assert all(np.array_equal(store.curve(s.id).tokens, curve_of(s).tokens) for s in specs[:3])
    trained = (tmp_path / "trained.txt").read_text().split()
    assert len(trained) <= 60 + 10 + 6  # a kill costs one attempt at most; a busy machine may let a lease of 0.3 s expire


# --- damage


def test_a_lost_database_is_rebuilt(tmp_path):
    specs = finished_study(tmp_path)
    waiting = spec_of(64)
    with Store(tmp_path) as store:
        store.add([waiting])
        before, rows = store.records(), [(row.id, row.status) for row in store.rows()]
    for part in tmp_path.glob("runs.sqlite*"):
        part.unlink()
    with Store(tmp_path) as store, store.lock() as notes:
        (note,) = notes
        assert "rebuilt" in note
        assert store.records() == before
        assert [(row.id, row.status) for row in store.rows()] == rows
        assert store.claim("test", lease=60).spec == waiting
    assert len(specs) == 3


@pytest.mark.parametrize("damage", ["not a database", "truncated", "pages", "a spec"])
def test_a_damaged_database_is_set_aside_and_rebuilt(tmp_path, damage):
    finished_study(tmp_path)
    path = tmp_path / "runs.sqlite"
    match damage:
        case "not a database":
            path.write_bytes(b"rubbish" * 1000)
        case "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        case "pages":
            path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096 + path.read_bytes()[8192:])
        case "a spec":
            with sqlite3.connect(path) as db:
                db.execute("UPDATE runs SET spec = replace(spec, '\"lr\":0.01', '\"lr\":0.02')")
            db.close()
    with Store(tmp_path) as store:
        assert len(store.records()) == 3
        assert len(store.notes) == 1
        assert "runs.sqlite.broken-1" in store.notes[0]
    assert (tmp_path / "runs.sqlite.broken-1").exists()


@given(at=st.floats(0, 1, exclude_max=True, allow_subnormal=False), bits=st.integers(1, 255))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_byte_of_the_database_loses_a_finished_run(tmp_path, at, bits):
    if not (tmp_path / "runs").exists():
        finished_study(tmp_path, 2)
    path = tmp_path / "runs.sqlite"
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= bits
    path.write_bytes(data)
    with Store(tmp_path) as store, store.lock():
        assert [r.status for r in store.records()] == ["ok", "ok"]


def test_a_damage_that_sqlite_cannot_spell_loses_no_finished_run(tmp_path):
    finished_study(tmp_path, 2)
    path = tmp_path / "runs.sqlite"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREAT\xff TABLE"))  # SQLite's complaint quotes it, and is then not UTF-8
    with Store(tmp_path) as store, store.lock():
        assert [r.status for r in store.records()] == ["ok", "ok"]


def after_a_flip(folder: Path, whole: bytes, bit: int) -> None:
    """Open a study with a flipped bit in its database, and use it; a sound table or a rebuilt one has the same runs."""
    for part in folder.glob("runs.sqlite*"):
        part.unlink()
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    (folder / "runs.sqlite").write_bytes(data)
    with Store(folder) as store, store.lock() as notes:
        assert [(row.spec.seed, row.status, row.current) for row in store.rows()] == [(0, "ok", False), (1, "ok", True), (2, mine(notes), True)]
        claim = store.claim("test", lease=60)
        assert store.renew(claim, lease=60)
        assert store.release(claim, reason="stopped")
    assert bool(notes) == any(folder.glob("runs.sqlite.broken-*"))  # a rebuild is always said


def mine(notes: tuple[str, ...]) -> str:
    return "pending" if notes else "interrupted"


@pytest.fixture(scope="module")
def study_to_damage(tmp_path_factory) -> tuple[Path, bytes]:
    """A study with a run of an older design, a finished one and an interrupted one, and the bytes of its database."""
    folder = tmp_path_factory.mktemp("damaged")
    finished_study(folder, 2)
    with Store(folder) as store:
        store.add([spec_of(seed=1), spec_of(seed=2)], instead_of=("isoflop",))
        store.release(store.claim("test", lease=60), reason="stopped")
    assert not any(folder.glob("runs.sqlite-*"))
    return folder, (folder / "runs.sqlite").read_bytes()


@pytest.mark.parametrize(
    "bits", [pytest.param(range(0, 100 * 8, 9), id="header"), pytest.param(60, id="anywhere"), pytest.param(8000, id="many", marks=pytest.mark.slow)]
)
def test_after_any_flipped_bit_of_the_database_the_study_is_whole_and_a_rebuild_is_said(study_to_damage, bits):
    folder, whole = study_to_damage
    for bit in bits if isinstance(bits, range) else random.Random(bits).sample(range(8 * len(whole)), bits):
        after_a_flip(folder, whole, bit)
        for kept in folder.glob("runs.sqlite.broken-*"):
            kept.unlink()


@pytest.mark.parametrize(("old", "new"), [(b"    reason TEXT", b"    qeason TEXT"), (b"'failed'))", b"'gailed'))"), (b"lease_until REAL", b"lease_untim REAL")])
def test_a_damaged_schema_is_rebuilt(tmp_path, old, new):
    finished_study(tmp_path)
    path = tmp_path / "runs.sqlite"
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    with Store(tmp_path) as store, store.lock() as notes:
        assert "rebuilt" in notes[0]
        assert statuses(store) == ["ok"] * 3


def test_a_run_that_a_flip_takes_out_of_the_design_is_put_back(tmp_path):
    finished_study(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db:
        db.execute("UPDATE runs SET current = 0 WHERE position = 1")
        db.commit()
    with Store(tmp_path) as store:
        assert "specs.json" in store.notes[0]
        assert len(store.records()) == 3


@pytest.mark.parametrize("damage", [b"", b"rubbish", b'{"runs": NaN}', b"[" * 100_000])
def test_a_damaged_list_of_runs_is_written_anew_and_said(tmp_path, damage):
    finished_study(tmp_path)
    sound = (tmp_path / "specs.json").read_bytes()
    for data in (damage, sound.replace(b'"current": true', b'"current": false', 1)):
        (tmp_path / "specs.json").write_bytes(data)
        with Store(tmp_path) as store, store.lock() as notes:
            assert notes == ("specs.json was damaged or gone; it was written anew from runs.sqlite.",)
            assert len(store.records()) == 3
        assert (tmp_path / "specs.json").read_bytes() == sound


def test_a_list_of_an_earlier_version_has_no_digest_and_is_read(tmp_path):
    specs = finished_study(tmp_path)
    fields = json.loads((tmp_path / "specs.json").read_text())
    del fields["sha256"]
    (tmp_path / "specs.json").write_text(json.dumps(fields))
    (tmp_path / "runs.sqlite").unlink()
    with Store(tmp_path) as store:
        assert [row.spec for row in store.rows() if row.current] == specs


def number(digits: int) -> bytes:
    return b'"tokens": ' + b"9" * digits


@pytest.mark.parametrize(
    ("old", "new"), [(b'"tokens": 640', number(400)), (b'"tokens": 640', number(5000)), (b'"loss": 2.5', b'"loss": NaN'), (b'"loss": 2.5', b'"loss": 1e999')]
)
def test_numbers_that_json_or_python_does_not_have_are_damage(tmp_path, old, new):
    specs = finished_study(tmp_path)
    path = tmp_path / "runs" / specs[1].id / files.RECORD
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(StoreError, match="is damaged"):
        files.read_record(path.parent)
    with Store(tmp_path) as store, store.lock() as notes:
        assert "is damaged" in notes[0]
        assert statuses(store) == ["ok", "pending", "ok"]


def test_numbers_of_hundreds_of_digits_with_the_right_digest_are_damage(tmp_path):
    specs = finished_study(tmp_path)
    path = tmp_path / "runs" / specs[1].id / files.RECORD
    fields = json.loads(path.read_text())
    del fields["sha256"]
    fields["spec"]["tokens"] = 10**400
    path.write_bytes(files.sign(fields))
    with pytest.raises(StoreError, match="is damaged"):
        files.read_record(path.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the rights of another user")
def test_a_record_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(tmp_path):
    specs = finished_study(tmp_path)
    record = tmp_path / "runs" / specs[0].id / files.RECORD
    before = record.read_bytes()
    code = f"""
        import os, resource
        from pathlib import Path
        from isoflop.store import Store
        with Store(Path({str(tmp_path)!r})) as store:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            with store.lock():
                pass
    """
    assert "too many" in run_python(code).stderr.splitlines()[-1]
    assert record.read_bytes() == before
    with Store(tmp_path) as store, store.lock() as notes:
        assert notes == ()
        assert statuses(store) == ["ok"] * 3


# --- what is not the study's


def test_what_the_dead_left_half_written_is_removed_and_what_the_living_write_is_not(tmp_path):
    specs = finished_study(tmp_path)
    code = f"""
        import os, sys, threading, time
        from pathlib import Path
        from isoflop.store import files
        target = Path({str(tmp_path)!r}) / "runs" / {specs[0].id!r} / "record.json"
        with files._part(target) as (aside, file):
            print(aside, flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dead, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living:
        parts = [Path(process.stdout.readline().strip()) for process in (dead, living)]
        dead.kill()
        dead.wait()
        assert [part.exists() for part in parts] == [True, True]
        with Store(tmp_path) as store, store.lock():
            assert [part.exists() for part in parts] == [False, True]
        living.kill()
        living.wait()
    (tmp_path / ".study.toml.0123abcd.part").touch()  # an earlier version did not lock them
    with Store(tmp_path) as store, store.lock():
        assert list(tmp_path.rglob("*.part")) == []


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder of somebody's, with a file."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "worker-1.log").write_text("thesis")
    return folder


def linked(study: Path, name: str, precious: Path) -> None:
    place = study / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(precious if name in {"runs", "logs", "trunks"} or place.parent.name == "runs" else precious / "worker-1.log")


@pytest.mark.parametrize("name", ["study.lock", "runs", "logs", "trunks", "runs/ID", "runs.sqlite", "runs.sqlite-wal"])
def test_nothing_is_written_through_a_link_inside_a_study(tmp_path, precious, name):
    specs = finished_study(tmp_path / "study")
    linked(tmp_path / "study", name.replace("ID", specs[0].id), precious)
    with pytest.raises(StoreError, match="is a symbolic link"), Store(tmp_path / "study") as store, store.lock():
        pass
    assert [(path.name, path.read_text()) for path in precious.iterdir()] == [("worker-1.log", "thesis")]


def test_a_lock_that_is_another_name_of_a_file_leaves_that_file_as_it_is(tmp_path, precious):
    finished_study(tmp_path / "study")
    (tmp_path / "study/study.lock").unlink(missing_ok=True)
    os.link(precious / "worker-1.log", tmp_path / "study/study.lock")
    with Store(tmp_path / "study") as store, store.lock():
        pass
    assert (precious / "worker-1.log").read_text() == "thesis"


def test_a_study_folder_that_is_a_link_itself_is_used(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    finished_study(tmp_path / "link")
    with Store(tmp_path / "real") as store, store.lock() as notes:
        assert (notes, statuses(store)) == ((), ["ok"] * 3)


def test_a_database_is_not_replaced_under_a_living_driver(tmp_path):
    finished_study(tmp_path)
    with Store(tmp_path) as store, store.lock():
        (tmp_path / "runs.sqlite").write_bytes(b"rubbish" * 1000)
        with pytest.raises(StoreError, match="another isoflop"):
            Store(tmp_path)


@pytest.mark.parametrize("name", [files.RECORD, files.CURVE])
def test_a_damaged_record_is_said_set_aside_and_trained_again(tmp_path, name):
    specs = finished_study(tmp_path)
    flip(tmp_path / "runs" / specs[1].id / name)
    with Store(tmp_path) as store:
        with pytest.raises(StoreError, match=specs[1].id):
            store.curve(specs[1].id)
        assert [r.spec for r in store.records(sound_only=True)] == [specs[0], specs[2]]
        with store.lock() as notes:
            assert len(notes) == 1
            assert f"{specs[1].id}/{name} is damaged" in notes[0]
            assert statuses(store) == ["ok", "pending", "ok"]
            claim = store.claim("test", lease=60)
            assert (claim.spec, claim.attempt) == (specs[1], 2)
            do(claim)
            assert store.finish(claim)
        with store.lock() as again:
            assert again == notes
    assert (tmp_path / "runs" / specs[1].id / "damaged-1" / name).exists()


def test_a_record_that_is_gone_is_trained_again(tmp_path):
    specs = finished_study(tmp_path)
    for path in (tmp_path / "runs" / specs[0].id).iterdir():
        path.unlink()
    with Store(tmp_path) as store, store.lock() as notes:
        assert "is gone" in notes[0]
        assert statuses(store) == ["pending", "ok", "ok"]


def test_a_finished_attempt_whose_driver_died_is_not_trained_twice(tmp_path):
    with Store(tmp_path) as store:
        store.add([spec_of()])
        do(store.claim("test", lease=600))
    with Store(tmp_path) as store, store.lock():
        assert statuses(store) == ["ok"]
        assert store.claim("test", lease=60) is None
        assert [p.name for p in (tmp_path / "runs" / spec_of().id).iterdir() if p.is_dir()] == []


# --- one driver


def run_python(code: str, **limits: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60, **limits)


def test_a_second_driver_is_refused_until_the_first_is_killed(tmp_path):
    code = f"""
        import os, sys, time
        from pathlib import Path
        from isoflop.store import Store
        with Store(Path({str(tmp_path)!r})) as store, store.lock():
            store.claim("driver", lease=600)
            print("locked", flush=True)
            time.sleep(60)
    """
    with Store(tmp_path) as store:
        store.add([spec_of()])
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "locked\n"
        with Store(tmp_path) as store:
            with pytest.raises(StoreError, match=rf"another isoflop \(pid {first.pid} on .*, since .*\) is working on the study"), store.lock():
                pass
            assert statuses(store) == ["running"]  # readers need no lock
        first.send_signal(signal.SIGKILL)
        first.wait()
    with Store(tmp_path) as store, store.lock():
        assert [(row.status, row.reason) for row in store.rows()] == [("interrupted", "its driver (driver) died")]


def test_a_full_disk_is_one_message_and_loses_nothing(tmp_path):
    specs = finished_study(tmp_path)
    code = f"""
        import resource
        from pathlib import Path
        import test_store
        from isoflop.store import Store
        with Store(Path({str(tmp_path)!r})) as store:
            store.add(test_store.spec_of(seed=100 + i) for i in range(3))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            claim = store.claim("test", lease=60)
            test_store.do(claim)
            store.finish(claim)
    """
    done = run_python(code, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    assert "StoreError" in done.stderr.splitlines()[-1]
    assert "run the same command again" in done.stderr.splitlines()[-1]
    assert list(tmp_path.rglob("*.part")) == []
    with Store(tmp_path) as store, store.lock() as notes:
        assert notes == ()
        assert statuses(store) == ["ok"] * 3 + ["pending"] * 3
        assert {r.id for r in store.records()} == {s.id for s in specs}


def test_the_list_beside_the_database_is_plain_json(tmp_path):
    specs = finished_study(tmp_path)
    listed = json.loads((tmp_path / "specs.json").read_text())["runs"]
    assert [RunSpec.model_validate(row["spec"]) for row in listed] == specs
