"""A whole study, end to end, at the smallest size that is real."""

import dataclasses
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import isoflop
from conftest import records, start
from isoflop import recipes
from isoflop.errors import FitError, StoreError, StudyError
from isoflop.store import files


def test_one_command_ends_with_the_answer_and_where_the_report_is(shared_study):
    folder, out = shared_study
    assert "With 6e9 FLOPs on this text, train a model of about" in " ".join(out.split())
    assert f"Report: {folder / 'report/report.html'}" in out
    assert (folder / "report/report.html").stat().st_size > 100_000


def test_the_second_time_nothing_is_trained_again(study, undisturbed):
    folder = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/record.json")}
    process = start(study, folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/record.json")} == before


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_study_killed_again_and_again_gives_the_records_of_an_undisturbed_one(study, undisturbed, times):
    whole = records(undisturbed)
    folder = study.parent / f"killed-of-{times}"
    draw = random.Random(1)
    kills = 0
    while kills < times:
        process = start(study, folder)
        time.sleep(draw.uniform(0.5, 5.0))
        finished = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += not finished
        if finished:  # so quick a machine: begin again, that every kill meets a running study
            folder = study.parent / f"killed-of-{times}-{kills}"
    process = start(study, folder)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert records(folder) == whole
    curves = {name: [(f / "runs" / name / "curve.parquet").read_bytes() for f in (folder, undisturbed)] for name in whole}
    assert all(a == b for a, b in curves.values())
    assert not list(folder.glob("runs/*/attempt-*"))
    assert not [p for p in folder.rglob("*") if p.name.endswith((".tmp", ".new", ".partial"))]


def test_ctrl_c_stops_with_a_word_and_loses_nothing(study, undisturbed):
    folder = study.parent / "stopped"
    process = start(study, folder)
    while not list(folder.glob("runs/*/record.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing is lost" in err
    assert "Traceback" not in err
    done = records(folder)
    assert done
    assert all(records(undisturbed)[name] == record for name, record in done.items())


def test_a_second_process_on_one_study_says_so(study):
    folder = study.parent / "raced"
    first = start(study, folder)
    while not list(folder.glob("runs/*/attempt-*")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second = start(study, folder)
    _, err = second.communicate(timeout=60)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.returncode == 1
    assert "another isoflop" in err


def test_the_stages_in_python_give_what_the_command_gave(undisturbed):
    folder = undisturbed
    work = isoflop.open(folder)
    results = work.results()
    assert {p.approach for p in results.plans} <= {"envelope", "isoflop", "parametric", "forecast"}
    assert results.validation is not None
    assert results.validation.flops == 6e9
    assert len(work.runs()) == 13
    assert {row["group"] for row in work.rows()} == {"isoflop", "noise", "proof"}


def test_the_forecast_is_on_record_before_the_proof_is_trained(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "study")
    kept = (folder / "claim.json").read_bytes()
    work = isoflop.open(folder)
    fits = work.fit()
    found = work.results(fits=fits)
    assert found.validation.claimed
    later = dataclasses.replace(fits, forecast=dataclasses.replace(fits.forecast, noise=10 * fits.forecast.noise + 0.1))  # whose interval holds more
    assert work.plan(fits=later)[-1].loss_interval != found.validation.interval
    assert work.results(fits=later).validation.interval == found.validation.interval
    assert {spec.id for spec in work.claim(fits=later)} == {c.record.id for c in found.validation.contenders}
    assert (folder / "claim.json").read_bytes() == kept
    (folder / "claim.json").unlink()
    assert not work.results(fits=fits).validation.claimed
    work.claim(fits=fits)
    assert not (folder / "claim.json").exists()  # the proof is trained: this would be no forecast
    (folder / "claim.json").write_bytes(kept[:-40])
    with pytest.raises(StoreError, match="damaged"):
        work.results(fits=fits)


def test_a_diverged_optimum_is_said_and_the_report_written_all_the_same(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "study")
    record = next(r for r in isoflop.open(folder).known() if r.spec.label == "chinchilla")
    place = folder / "runs" / record.id
    lost = record.model_copy(update={"status": "diverged", "loss": None, "bits_per_byte": None, "reason": "the loss is nan by step 100 of 200"})
    files.write_record(place, lost, files.read_curve(place, record.curve_sha256))
    work = isoflop.open(folder)
    results = work.results()
    assert results.validation is None
    assert "the loss is nan by step 100" in results.proof_note
    assert "the loss is nan by step 100" in work.report(results).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_other_design_family_tokenizer_and_rival_work_as_well(study, tmp_path):
    """Horizons over the paper's own architecture, with BPE, and Kaplan's size in the proof."""
    text = study.read_text(encoding="utf-8").replace('name = "tiny"', 'name = "other"\ndesign = "horizons"\narch = "gopher"\ntokenizer = "bpe-300"')
    text = (
        text.replace("sizes = [8, 12, 16, 20]", "sizes = [8, 12, 16]").replace('"6e9"', '"2.5e10"').replace("oversize = 2.0", "oversize = 4.0\nkaplan = true")
    )
    (study.parent / "other.toml").write_text(text, encoding="utf-8")
    work = isoflop.open(study.parent / "other.toml", folder=tmp_path / "other")
    records = work.train(launcher="pool", workers=2)
    assert all(r.status == "ok" for r in records)
    bytes_per_token = {r.loss / math.log(2) / r.bits_per_byte for r in records}
    assert max(bytes_per_token) == pytest.approx(min(bytes_per_token), rel=1e-9)
    assert min(bytes_per_token) > 1.3  # pieces of words, not bytes
    fits = work.fit()
    assert "parametric" in {f.approach for f in fits}
    validation = work.validate(fits=fits, workers=2)
    assert {c.label for c in validation.contenders} <= {"chinchilla", "gopher", "kaplan"}
    assert all(c.record.flops == pytest.approx(2.5e10, rel=0.01) for c in validation.contenders)
    assert work.report().is_file()


def test_a_newer_recipe_does_not_undo_a_finished_study(undisturbed, tmp_path, monkeypatch):
    folder = shutil.copytree(undisturbed, tmp_path / "study")
    before = isoflop.open(folder).results()
    newer = dataclasses.replace(recipes.get("small"), lr=lambda run, _batch: 0.123 / run.d_model)
    monkeypatch.setattr("isoflop.recipes.small.RULE", newer)
    work = isoflop.open(folder)
    after = work.results()
    assert after.runs.digest == before.runs.digest
    assert after.validation == before.validation
    assert len(work.unfinished(work.design().specs)) == 13  # training again would be by the newer one
    (folder / "study.toml").write_text((folder / "study.toml").read_text().replace("lr_scale = 1.0", "lr_scale = 2.0"))
    with pytest.raises(FitError, match="13 of 13 runs are not trained yet"):
        isoflop.open(folder).runs()


def test_part_of_a_grid_is_not_fitted(study):
    folder = study.parent / "part"
    work = isoflop.open(study, folder=folder)
    work.train(work.design().specs[:2], launcher="inline")
    with pytest.raises(FitError, match="11 of 13 runs are not trained yet"):
        work.runs()


def test_a_folder_without_a_study_is_said(tmp_path):
    with pytest.raises(StudyError, match=r"a folder without study\.toml"):
        isoflop.open(tmp_path)


def test_no_torch_is_needed_to_fit_and_plan(undisturbed):
    folder = undisturbed
    code = "import sys; sys.modules.update(dict.fromkeys(['torch', 'tokenizers', 'safetensors', 'zstandard'])); from isoflop.cli import main; main()"
    for verb in ("runs", "fit", "plan", "report"):
        done = subprocess.run([sys.executable, "-c", code, verb, str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    untrained = [str(folder / "study.toml"), "--folder", str(folder.parent / "without torch")]
    done = subprocess.run([sys.executable, "-c", code, "train", *untrained], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert re.search(r"-m pip install 'torch>=\S+' 'safetensors>=", done.stderr)
    assert "Traceback" not in done.stderr
