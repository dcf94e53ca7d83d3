"""The command line: what a person types wrong gets one clear message and an exit status, never a traceback; results go to stdout."""

import contextlib
import csv
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import STUDY
from isoflop import STAGES, published
from isoflop.arch import Shape
from isoflop.cli import main

CODE = "from isoflop.cli import main; main()"


def isoflop(*words: object, cwd: Path | None = None, limit_kb: int | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CODE, *map(str, words)]
    if limit_kb is not None:  # no file may grow beyond this: what a full disk does, where no disk can be filled
        command = ["bash", "-c", f'ulimit -f {limit_kb}; exec "$@"', "bash", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


def assert_refused(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    flat = " ".join(done.stderr.split())
    assert all(word in flat for word in words), done.stderr


@pytest.fixture
def place(study, tmp_path) -> Path:
    """A folder with the text and the study, nothing trained."""
    shutil.copy(study, tmp_path / "study.toml")
    shutil.copy(study.parent / "text.txt", tmp_path / "text.txt")
    return tmp_path


@pytest.fixture
def trained(undisturbed, tmp_path) -> Path:
    """A copy of a finished study, to be damaged."""
    return shutil.copytree(undisturbed, tmp_path / "study")


def edited(place: Path, old: str, new: str) -> Path:
    text = (place / "study.toml").read_text(encoding="utf-8")
    assert old in text
    (place / "study.toml").write_text(text.replace(old, new), encoding="utf-8")
    return place / "study.toml"


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ("seeds = 2", "sedes = 2", 2, ["unknown key 'sedes'", "Did you mean 'seeds'"]),
        ('"6e9"', '"a lot"', 2, ["'a lot' is not a quantity", "70M"]),
        ('corpus = "text.txt"', 'corpus = "none.txt"', 1, ["none.txt"]),
        ('corpus = "text.txt"', 'corpus = "*.none"', 1, ["*.none"]),
        ('corpus = "text.txt"', 'corpus = "empty.txt"', 1, ["empty.txt"]),
        ('corpus = "text.txt"', 'corpus = "binary.txt"', 1, ["binary.txt", "not"]),
        ('corpus = "text.txt"', 'corpus = "short.txt"', 1, ["short.txt", "another to measure on"]),
        ("eval_tokens = 4096", "eval_tokens = 10000000", 1, ["validation text has", "eval_tokens"]),
        ('"5e8", "1e9", "2e9"', '"1e6", "2e6", "4e6"', 1, ["steps at width"]),
        ('"5e8", "1e9", "2e9"', '"5e8", "1e9"', 1, ["2 budgets cannot show"]),
        ('"6e9"', '"4e9"', 1, ["at least 3"]),
        ("context = 16", 'arch = "gofer"', 2, ["no architecture 'gofer'", "Did you mean 'gopher'"]),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_spent(place, old, new, status, words):
    (place / "empty.txt").write_text("")
    (place / "binary.txt").write_bytes(bytes(range(256)) * 1000)
    (place / "short.txt").write_text("a few words, no more than that, on one line of text\n")
    assert_refused(isoflop("run", edited(place, old, new), cwd=place), status, *words)
    assert not list(place.glob("studies/*/runs/*/record.json"))


def test_a_missing_study_and_misuse_are_refused(tmp_path):
    assert_refused(isoflop("run", tmp_path / "none.toml"), 2, "there is no study file")
    assert_refused(isoflop("run"), 2, "study")
    assert_refused(isoflop("trian", tmp_path), 2, "trian")
    assert_refused(isoflop("train", tmp_path, "--workers", "0"), 2, "workers")


def test_an_unknown_launcher_gets_the_list(place):
    done = isoflop("train", place / "study.toml", "--launcher", "pol", cwd=place)
    assert done.returncode == 2
    assert "Did you mean 'pool'" in done.stderr


def test_before_training_the_later_stages_say_what_to_do_first(place):
    for verb in ("fit", "plan", "report", "validate"):
        assert_refused(isoflop(verb, place / "study.toml", cwd=place), 1, "isoflop train")


def test_a_budget_beyond_reach_is_refused_with_the_estimate(trained):
    assert_refused(isoflop("plan", trained, "1e15"), 1, "times the largest run", "--extrapolate", "The law would say")
    assert_refused(isoflop("plan", trained, "1.2e11"), 1, "60 times the largest run", "--extrapolate", "The law would say")
    done = isoflop("plan", trained, "1.2e11", "--extrapolate")
    assert done.returncode == 0
    assert_refused(isoflop("plan", trained, "-1"), 2, "-1")


@pytest.mark.parametrize("keep", [pytest.param(0, marks=pytest.mark.slow), 10, pytest.param(-3, marks=pytest.mark.slow)])
def test_a_damaged_record_is_named_and_trained_again(trained, keep):
    path = min(p for p in trained.glob("runs/*/record.json") if json.loads(p.read_bytes())["spec"]["group"] == "isoflop")
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert_refused(isoflop("fit", trained), 1, path.parent.name)
    done = isoflop("train", trained)
    assert done.returncode == 0, done.stderr
    new, old = (json.loads(text) for text in (path.read_bytes(), content))
    assert {k: v for k, v in new.items() if k not in {"clock", "sha256"}} == {k: v for k, v in old.items() if k not in {"clock", "sha256"}}


def test_a_damaged_shard_is_named(trained):
    shard = trained / "data/train.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert_refused(isoflop("fit", trained), 1, "train.bin")


def test_a_damaged_database_is_rebuilt_from_the_records(trained):
    (trained / "runs.sqlite").write_bytes(b"not a database")
    for name in ("runs.sqlite-wal", "runs.sqlite-shm"):
        (trained / name).unlink(missing_ok=True)
    done = isoflop("train", trained)
    assert done.returncode == 0, done.stderr
    assert isoflop("fit", trained).returncode == 0


def test_a_folder_that_cannot_be_written_is_said(place):
    (place / "file").write_text("")
    assert_refused(isoflop("run", place / "study.toml", "--folder", place / "file/study", cwd=place), 1, "file")


@pytest.mark.parametrize("limit_kb", [4, 40])
def test_no_space_is_said_and_nothing_half_written_stays(place, limit_kb):
    done = isoflop("run", place / "study.toml", cwd=place, limit_kb=limit_kb)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "isoflop: " in done.stderr
    for record in place.glob("studies/*/runs/*/record.json"):
        assert json.loads(record.read_text())["status"] == "ok"
    again = isoflop("train", place / "study.toml", "--dry-run", cwd=place)  # with space again, it goes on
    assert again.returncode == 0, again.stderr


def test_dry_run_says_what_it_would_take_and_trains_nothing(place):
    done = isoflop("run", place / "study.toml", "--dry-run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "13 runs to train: about" in done.stdout
    assert not list(place.glob("studies/*/runs/*"))


def test_exports_hold_every_run(trained, tmp_path):
    rows = list(csv.DictReader(io.StringIO(isoflop("runs", trained, "--csv", "-").stdout)))
    assert len(rows) == 15
    assert {row["status"] for row in rows} == {"ok"}
    assert len(json.loads(isoflop("runs", trained, "--json").stdout)) == 15
    done = isoflop("runs", trained, "--parquet", tmp_path / "runs.parquet")
    assert done.returncode == 0, done.stderr
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "runs.parquet").num_rows == 15


@pytest.mark.parametrize("verb", ["design", "fit", "plan", "validate"])
def test_json_is_all_that_stdout_holds(trained, verb):
    done = isoflop(verb, trained, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("verb", ["run", *STAGES])
def test_every_verb_has_help_with_an_example(verb):
    words = [verb, "show"] if verb == "study" else [verb]
    done = isoflop(*words, "--help")
    assert done.returncode == 0
    assert f"Example: isoflop {' '.join(words)}" in " ".join(done.stdout.split())


def test_study_show_reads_back(place):
    shown = isoflop("study", "show", place / "study.toml")
    (place / "again.toml").write_text(shown.stdout, encoding="utf-8")
    assert isoflop("study", "show", place / "again.toml").stdout == shown.stdout
    assert "seeds = 2" in STUDY
    assert "seeds = 2" in shown.stdout


# --- questions that need no study


def asked(*words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in this process, which is a hundred times faster than one of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isoflop", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()


def test_a_budget_alone_is_planned_by_the_paper_and_its_critics():
    status, out, _ = asked("plan", "5.76e23", "--json")
    rows = json.loads(out)
    assert status == 0
    assert [r["law"] for r in rows] == ["hoffmann1", "hoffmann2", "hoffmann3", "besiroglu", "kaplan"]
    assert {"law", "flops", "params", "tokens", "tokens_per_param", "loss", "interval", "reach"} <= set(rows[0])
    assert [int(r["params"] / 1e9) for r in rows[:3]] == [67, 63, 40]  # Hoffmann et al. 2022, Table 3, Figures 3 and 4, whose text cuts 67.9, 63.7, 40.4
    assert rows[0]["interval"] == {"quantity": "a", "low": 0.488, "high": 0.502, "level": 0.8}  # Table 2
    assert rows[0]["loss"] is None
    assert rows[1]["reach"] == pytest.approx(5.76e23 / 3e21)  # nine budgets to 3e21: Sec. 3.2


@pytest.mark.parametrize(
    "words",
    [
        ["5.76e23"],
        ["--params", "70B"],
        ["--tokens", "1.4T"],
        ["--loss", "2.0"],
        ["--gpus", "1024", "--gpu", "h100", "--days", "30", "--mfu", "0.4"],
        ["--gpus", "1024", "--gpu", "h100", "--dollars", "$2M", "--price", "2.5"],
        ["--gpus", "8", "--gpu", "tpu-v5e", "--time", "2w"],
        ["5.76e23", "--law", "hoffmann3", "--inference-tokens", "2T", "--smaller", "--unique-tokens", "300B", "--shape", "--gpus", "64", "--gpu", "a100-80"],
        ["5.76e23", "--shape", "--arch", "gopher", "--vocab", "50000", "--context", "4096", "--recipe", "deepseek"],
    ],
    ids=" ".join,
)
def test_a_plan_is_printed_as_a_table_and_as_markdown_and_as_json(words):
    status, out, err = asked("plan", *words)
    assert (status, "Traceback" in err) == (0, False), err
    assert "nan" not in out.lower()
    status, out, _ = asked("plan", *words, "--json")
    assert status == 0
    assert json.loads(out)
    status, out, _ = asked("plan", *words, "--markdown")
    assert status == 0
    assert "| law |" in out


def test_time_and_hardware_say_the_same_budget_as_their_product():
    rows = json.loads(asked("plan", "--gpus", "1024", "--gpu", "h100", "--days", "30", "--mfu", "0.4", "--json")[1])
    assert rows[0]["flops"] == pytest.approx(1024 * 989.4e12 * 0.4 * 30 * 86400)  # H100 SXM, dense bf16: NVIDIA's datasheet, halved for sparsity
    assert rows[0]["training"]["bill"]["seconds"] == pytest.approx(30 * 86400)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["plan"], 2, ["nothing says what to plan for", "5.76e23"]),
        (["plan", "-5"], 2, ["isoflop plan has no option -5"]),
        (["plan", "0"], 2, ["not a positive finite quantity"]),
        (["plan", "nan"], 2, ["not a quantity"]),
        (["plan", "inf"], 2, ["not a quantity"]),
        (["plan", "1e400"], 2, ["not a positive finite quantity"]),
        (["plan", "1e50"], 2, ["cannot be meant", "exponent"]),
        (["plan", "5.76e23", "1e20"], 2, ["2 budgets"]),
        (["plan", "5.76e23", "--params", "70B"], 2, ["FLOPS and --params", "give one"]),
        (["plan", "5.76e23", "--days", "3", "--gpus", "8", "--gpu", "h100"], 2, ["FLOPS and --days"]),
        (["plan", "--days", "3"], 2, ["--days needs to know the hardware"]),
        (["plan", "5.76e23", "--gpus", "8"], 2, ["--gpus without --gpu"]),
        (["plan", "5.76e23", "--gpus", "8", "--gpu", "h1000"], 2, ["h1000", "Did you mean 'h100'"]),
        (["plan", "5.76e23", "--gpus", "0", "--gpu", "h100"], 2, ["'0' is not a positive"]),
        (["plan", "5.76e23", "--gpus", "8", "--gpu", "h100", "--mfu", "40"], 2, ["MFU"]),
        (["plan", "5.76e23", "--law", "hofmann3"], 2, ["hofmann3", "Did you mean 'hoffmann3'"]),
        (["plan", "5.76e23", "--vocab", "50000"], 2, ["--vocab", "--shape"]),
        (["plan", "5.76e23", "--shape", "--arch", "gofer"], 2, ["gofer", "gopher"]),
        (["plan", "5.76e23", "--shape", "--recipe", "deepsek"], 2, ["deepsek", "Did you mean 'deepseek'"]),
        (["plan", "5.76e23", "--law", "hoffmann-c4"], 1, ["exponents only"]),
        (["plan", "5.76e23", "--law", "kaplan"], 1, ["far outside", "params", "--extrapolate"]),
        (["plan", "1e30"], 1, ["far outside", "hoffmann1 would say", "--extrapolate"]),
        (["plan", "1e8"], 1, ["below its smallest", "--extrapolate"]),
        (["plan", "--loss", "1.0", "--law", "hoffmann3"], 1, ["loss"]),
        (["plan", "--loss", "nan"], 2, ["not a quantity"]),
        (["plan", "--loss", "1e3"], 2, ["cannot be meant"]),
        (["plan", "--tokens", "1,4T"], 2, ["1,4T", "the decimal sign is a point"]),
        (["plan", "9" * 400], 2, ["positive finite quantity"]),
        (["plan", "x" * 400], 2, ["not a quantity"]),
        (["plan", "--gpus", "8", "--gpu", "h100", "--days", "1e300"], 2, ["the time in seconds"]),
        (["plan", "--gpus", "8", "--gpu", "h100", "--dollars", "1e17", "--price", "1e-300"], 2, ["price"]),
        (["plan", "--gpus", "1.5", "--gpu", "h100", "--days", "3"], 2, ["whole number"]),
        (["plan", "5.76e23", "--unique-tokens", "1e300", "--law", "hoffmann3"], 2, ["unique tokens"]),
        (["plan", "5.76e23", "--markdown", "--json"], 2, ["two ways to print"]),
        (["plan", "5.76e23", "--folder", "x"], 2, ["--folder x"]),
        (["plan", "5.76e23", "--gpus", "8", "--gpu", "h100", "--recipe", "deepseek"], 2, ["Add --shape"]),
        (["plan", "5.76e23", "--inference-mfu", "5%"], 2, ["Add --inference-tokens"]),
        (["plan", "5.76e23", "--law", "kaplan", "--figure", "x.pdf"], 2, ["html", "png", "svg"]),
        (["plan", "5.76e23", "--figure", "x.pdf"], 2, ["html", "png", "svg"]),
        (["laws", "hofmann"], 2, ["Did you mean 'hoffmann'"]),
        (["compare", "gofer"], 2, ["Did you mean 'gopher'"]),
        (["compare", "70B:"], 2, ["70B:"]),
        (["compare", "gopher", "--law", "hofmann1"], 2, ["Did you mean 'hoffmann1'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_question_that_cannot_be_meant_is_refused_in_a_line(words, status, said):
    code, out, err = asked(*words)
    flat = " ".join(err.split())
    assert code == status, err
    if "--json" in words:
        assert json.loads(out)["answer"] is None
    else:
        assert out == ""
    assert "Traceback" not in err
    assert all(word in flat for word in said), err


def test_a_shape_is_costed_by_every_convention():
    status, out, _ = asked("arch", "gopher", "--d-model", 8192, "--layers", 80, "--heads", 64, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["shape"]["ffw_size"] == 4 * 8192
    assert round(found["params"]["total"] / 1e9) == 70  # Hoffmann et al. 2022, Table 4
    assert found["flops_per_token"]["6nd"]["training"] == 6 * found["params"]["total"]
    assert found["bytes"]["weights"] + found["bytes"]["gradients"] + found["bytes"]["optimizer"] == 16 * found["params"]["total"]
    status, out, _ = asked("arch", "llama", "--params", "8B", "--kv-heads", 8, "--untied")
    assert status == 0
    assert "8 of keys and values" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gopher"], ["--params", "--d-model"]),
        (["gopher", "--params", "1B", "--d-model", "8"], ["say --params"]),
        (["gopher", "--d-model", "64", "--layers", "2"], ["--heads"]),
        (["gofer", "--params", "1B"], ["Did you mean 'gopher'"]),
        (["gopher", "--params", "1B", "--untied"], ["gopher is not built with"]),
        (["llama", "--d-model", "512", "--layers", "8", "--heads", "8", "--kv-heads", "3"], ["cannot share 3"]),
        (["llama", "--params", "x"], ["not a quantity"]),
    ],
    ids=" ".join,
)
def test_a_shape_that_cannot_be_meant_is_refused(words, said):
    status, out, err = asked("arch", *words)
    assert (status, out) == (2, "")
    assert all(word in " ".join(err.split()) for word in said), err


def planned(*words: str) -> dict:
    """The one law's object of a plan as JSON."""
    status, out, err = asked("plan", *words, "--json")
    assert status == 0, err
    (row,) = json.loads(out)
    return row


def test_inference_is_priced_as_sardana_et_al_do():
    """Golden values found by brute force over a grid of sizes, not by the search that the planner makes."""
    life = planned("5.76e23", "--law", "hoffmann3", "--inference-tokens", "2T")["inference"]
    assert life["best"]["params"] == pytest.approx(30.3e9, rel=0.003)
    assert life["best"]["tokens"] == pytest.approx(3.26e12, rel=0.003)
    assert life["best"]["inference_flops"] == pytest.approx(2 * life["best"]["params"] * 2e12)
    assert 1 - life["best"]["total"] / life["baseline"]["total"] == pytest.approx(0.0323, abs=5e-5)
    dear = planned("5.76e23", "--law", "hoffmann3", "--inference-tokens", "2T", "--inference-mfu", "5%")["inference"]
    assert dear["price"] == 8  # 0.4 of the peak in training over 0.05
    assert dear["best"]["total"] == pytest.approx(dear["best"]["training_flops"] + 8 * dear["best"]["inference_flops"])
    assert dear["best"]["params"] < life["best"]["params"]


@pytest.mark.parametrize(("law", "params", "epochs", "loss"), [("hoffmann3", 33.65e9, 9.51, 1.9365), ("besiroglu", 58.2e9, 5.50, 1.9837)])
def test_text_that_repeats_is_planned_as_a_brute_force_search_does(law, params, epochs, loss):
    """Muennighoff et al. 2023, Eq. 5 and 6, over a grid of sizes, with R_N 5.309743 and R_D 15.387756."""
    data = planned("5.76e23", "--law", law, "--unique-tokens", "300B", "--extrapolate")["data"]
    assert data["params"] == pytest.approx(params, rel=0.003)
    assert data["epochs"] == pytest.approx(epochs, rel=0.003)
    assert data["loss"] == pytest.approx(loss, abs=1e-4)


def test_memory_and_the_fewest_accelerators_are_those_of_a_count_by_hand():
    """GPT-3's size: 16 bytes a parameter in training and 2 in serving (Rajbhandari et al. 2020), 90 % of 80 GB usable."""
    gpt = planned("--params", "175B", "--untied", "--vocab", "50257", "--gpus", "1024", "--gpu", "a100-80", "--law", "hoffmann1", "--shape")
    params, memory = gpt["shape"]["params"], gpt["memory"]["training"]
    assert params == pytest.approx(175e9, rel=0.016)
    assert memory["weights"] + memory["gradients"] + memory["optimizer"] == 16 * params
    states, activations = 16 * params, memory["activations"]
    assert gpt["training"]["fewest_to_train"]["count"] == math.ceil(states / (72e9 - activations))
    cache = 2 * gpt["shape"]["n_layers"] * gpt["shape"]["d_model"] * 2 * 2048  # keys and values, bf16, 2048 tokens
    assert gpt["memory"]["serving"]["kv_cache"] == cache
    assert gpt["training"]["fewest_to_serve"]["count"] == math.ceil((2 * params + cache) / 72e9)


def test_grouped_queries_shrink_the_cache_as_in_llama_2_70b():
    """80 layers, 8 key-value heads of 128, bf16: 320 KiB a token (Touvron et al. 2023b)."""
    found = planned("--params", "70B", "--untied", "--context", "4096", "--kv-heads", "8", "--gpu", "a100-80", "--gpus", "8", "--law", "hoffmann1", "--shape")
    assert found["shape"]["n_kv_heads"] == 8
    assert found["memory"]["serving"]["kv_cache"] == found["shape"]["n_layers"] * 8 * 128 * 2 * 2 * 4096
    assert found["memory"]["serving"]["kv_cache"] / 4096 / found["shape"]["n_layers"] == 320 * 1024 / 80


@pytest.mark.parametrize(
    ("words", "flops"),
    [
        (["--dollars", "$2M", "--price", "2.5"], 2e6 / 2.5 * 3600 * 989.4e12 * 0.4),
        (["--time", "2w"], 1024 * 989.4e12 * 0.4 * 14 * 86400),
        (["--days", "30", "--mfu", "50%"], 1024 * 989.4e12 * 0.5 * 30 * 86400),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_money_and_time_buy_the_flops_of_their_product(words, flops):
    assert planned("--gpus", "1,024", "--gpu", "h100", "--law", "hoffmann1", *words)["flops"] == pytest.approx(flops, rel=1e-12)


def test_a_bill_with_nothing_but_defaults():
    """1024 H100 for 30 days at 40 %: by hand, with $2 an hour, 700 W, PUE 1.1, 0.39 kg a kWh."""
    bill = planned("--gpus", "1024", "--gpu", "h100", "--days", "30", "--law", "hoffmann1")["training"]["bill"]
    assert bill["flops"] == pytest.approx(1.0504e24, rel=1e-4)
    assert bill["accelerator_hours"] == pytest.approx(737_280)
    assert bill["dollars"] == pytest.approx(1_474_560)
    assert bill["kwh"] == pytest.approx(737_280 * 0.7 * 1.1)
    assert bill["kg_co2"] == pytest.approx(737_280 * 0.7 * 1.1 * 0.39)


@pytest.mark.parametrize("law", ["hoffmann1", "kaplan", "deepseek"])
@pytest.mark.parametrize("flops", ["1e18", "1e21", "5.76e23"])
def test_the_recipe_spends_the_budget_by_the_shapes_own_flops(law, flops):
    found = planned(flops, "--law", law, "--shape", "--extrapolate")
    shape = Shape(**{key: value for key, value in found["shape"].items() if key != "params"})
    steps, batch = found["recipe"]["steps"]["value"], found["recipe"]["batch"]["value"]
    assert steps * batch * shape.flops_per_token.training == pytest.approx(float(flops), rel=0.01)


def test_a_law_that_counts_without_embeddings_gets_a_shape_counted_so():
    found = planned("1e18", "--law", "kaplan", "--shape")
    shape = Shape(**{key: value for key, value in found["shape"].items() if key != "params"})
    assert shape.params.count("nonembedding") == pytest.approx(found["params"], rel=0.08)
    assert shape.params.total > 1.2 * found["params"]


def test_a_figure_alone_is_the_papers(tmp_path):
    status, out, _ = asked("plan", "--figure", tmp_path / "frontier.svg", "--json")
    assert status == 0
    assert {row["flops"] for row in json.loads(out)} == {5.76e23}
    assert (tmp_path / "frontier.svg").read_bytes().startswith(b"<svg")


def test_an_interval_says_what_it_is_of():
    assert planned("5.76e23", "--law", "besiroglu")["interval"]["quantity"] != "a"  # they print constants' intervals, and none of the exponent
    assert planned("5.76e23", "--law", "llama3")["interval"] is None


def test_names_are_read_in_any_case_and_a_beginning_is_enough_for_a_guess():
    assert planned("5.76e23", "--law", "HOFFMANN3")["law"] == "hoffmann3"
    assert "Did you mean 'a100-40'" in asked("plan", "5.76e23", "--gpus", "8", "--gpu", "a100")[2]
    known = asked("plan", "5.76e23", "--law", "nobody")[2].partition("Known: ")[2].rstrip(".\n").split(", ")
    assert len(known) == len(set(known))


def test_a_studys_own_fits_are_asked_like_published_laws(undisturbed, tmp_path):
    """With the intervals that its resamples give, and published laws beside them."""
    plain = json.loads(asked("plan", undisturbed, "6e9", "--json")[1])
    words = ["--law", "hoffmann2", "--shape", "--gpus", "1", "--gpu", "h100", "--figure", tmp_path / "own.svg", "--extrapolate"]
    status, out, err = asked("plan", undisturbed, "6e9", *words, "--json")
    assert status == 0, err
    rows = json.loads(out)
    fitted = [p["law"] for p in plain if p["law"] != "forecast" or len(plain) > 2]  # of one fit the forecast is that fit
    assert [r["law"] for r in rows] == [*fitted, "hoffmann2"]
    for own, usual in zip(rows, plain[: len(fitted)], strict=False):
        for key in ("flops", "params", "tokens", "loss", "reach"):
            assert own[key] == pytest.approx(usual[key]), key
        for key in ("params_interval", "tokens_interval", "interval"):
            known = own.get(key)  # of a fit without resamples there is none, here and there
            assert usual[key] == pytest.approx(known) if known else None in (usual[key].values() if key == "interval" else usual[key]), key
    assert all(r["shape"]["vocab"] == 256 for r in rows)
    assert (tmp_path / "own.svg").read_bytes().startswith(b"<svg")


def test_extrapolation_is_a_choice_and_marked():
    status, out, _ = asked("plan", "1e30", "--extrapolate", "--json")
    assert status == 0
    assert all(row["outside"] for row in json.loads(out))


def test_one_law_within_reach_answers_and_the_others_are_marked():
    rows = {r["law"]: r for r in json.loads(asked("plan", "5.76e23", "--json")[1])}
    assert rows["kaplan"]["outside"]
    assert not rows["hoffmann1"]["outside"]


good = st.one_of(st.sampled_from(["5.76e23", "1e22", "3.8e25"]), st.floats(1e17, 1e26).map(str))
quantities = st.one_of(
    st.sampled_from(["5.76e23", "1e22", "70B", "1.4T", "1e400", "nan", "-1", "0", "", "1e-9", "$2M", "3h", "1e13", "none.toml"]),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.text(max_size=6),
    st.floats(1e15, 1e28).map(str),
)
flags = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["--params", "--tokens", "--loss", "--dollars", "--time", "--days"]), quantities),
        st.tuples(st.sampled_from(["--inference-tokens", "--unique-tokens"]), st.one_of(quantities, st.floats(1e6, 1e14).map(str))),
        st.tuples(st.just("--gpus"), st.integers(1, 10**6).map(str), st.just("--gpu"), st.sampled_from(["h100", "a10g", "tpu-v5e", "v100"])),
        st.tuples(st.sampled_from(["--gpus", "--vocab", "--context"]), st.one_of(st.integers(-3, 10**12).map(str), quantities)),
        st.tuples(st.sampled_from(["--mfu", "--price"]), st.one_of(st.floats(-1, 2).map(str), quantities)),
        st.tuples(st.just("--gpu"), st.sampled_from(["h100", "a100-80", "tpu-v5e", "v100", "none"])),
        st.tuples(st.just("--law"), st.one_of(st.sampled_from([f.name for f in published.every()]), st.text(max_size=5))),
        st.tuples(st.just("--arch"), st.sampled_from(["gopher", "llama", "x"])),
        st.tuples(st.sampled_from(["--shape", "--smaller", "--extrapolate"])),
    ),
    max_size=6,
    unique_by=lambda flag: flag[0],
)


def numbers(value: object) -> list[float]:
    match value:
        case dict():
            return [n for v in value.values() for n in numbers(v)]
        case list():
            return [n for v in value for n in numbers(v)]
        case bool() | str() | None:
            return []
    return [value]


@given(budget=st.one_of(st.lists(good, min_size=1, max_size=1), st.lists(quantities, max_size=2)), words=flags)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_question_ends_in_a_traceback_or_a_number_that_is_none(tmp_path, budget, words):
    with contextlib.chdir(tmp_path):
        status, out, err = asked("plan", "--json", *(w for flag in words for w in flag), "--", *budget)
    assert status in {0, 1, 2}
    assert "Traceback" not in err
    if status:
        assert err.strip()
        assert not out or json.loads(out)["answer"] is None  # nothing where the command line itself could not be read
        return
    rows = json.loads(out)
    assert rows
    assert all(math.isfinite(n) for n in numbers(rows))
    assert all(row[key] > 0 for row in rows for key in ("flops", "params", "tokens", "tokens_per_param"))
    assert all(row["loss"] is None or row["loss"] > 0 for row in rows)


def test_a_question_that_needs_no_study_loads_nothing_heavy():
    code = f"import sys; sys.argv = ['isoflop', *sys.argv[1:]]\n{CODE.replace('main()', 'app(standalone_mode=False)').replace('import main', 'import app')}\n"
    code += "heavy = {'torch', 'scipy', 'altair', 'vl_convert', 'jinja2', 'pyarrow', 'tokenizers', 'isoflop.workspace', 'isoflop.fit', 'isoflop.study'}\n"
    code += "print('loaded', sorted(heavy & set(sys.modules)))"
    for words in (["plan", "5.76e23", "--json"], ["compare", "gopher", "--json"], ["laws"], ["plan", "5.76e23", "--shape", "--smaller"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("loaded []"), words
