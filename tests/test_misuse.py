"""Wrong words get the nearest right ones, in one line, with exit status 2, and nothing is computed."""

import io
import sys
from pathlib import Path

import pytest

from isoflop import _registry, cli, compare, published, train
from isoflop.errors import UsageError
from isoflop.plan import hardware

RUNS = "params,tokens,loss\n" + "".join(f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}\n" for n in (1e6, 2e6, 4e6, 8e6) for d in (1e8, 2e8, 4e8))


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Type a command in a folder with a file of runs; return its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.csv").write_text(RUNS)
    (tmp_path / "novels.toml").write_text("")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["isoflop", *line.split("|")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        found = capsys.readouterr()
        return end.value.code, found.out, found.err

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("laws|chinchilla", "there is no published law 'chinchilla'. Did you mean 'hoffmann'?"),
        ("laws|Approach 2", "Did you mean 'hoffmann2'?"),
        ("laws|openai", "Did you mean 'kaplan'?"),
        ("laws|epoch", "Did you mean 'besiroglu'?"),
        ("laws|llama-3", "Did you mean 'llama3'?"),
        ("plan|1e23|--law|chinchilla", "Did you mean 'hoffmann'?"),
        ("compare|1e23|--law|deep-seek", "1e23"),
        ("plan|--gpus|8|--gpu|h100|--days|3|--mfu|40", "Did you mean 40%?"),
        ("plan|--gpus|8|--gpu|h100|--days|3d", "Did you mean --days 3, or --time 3d?"),
        ("plan|--gpus|8|--gpu|h100|--days|36h", "Did you mean --days 1.5, or --time 36h?"),
        ("plan|--gpus|8|--gpu|h100|--days|three", "'three' is not a time."),
        ("plan|--gpus|8xH100|--days|3", "Did you mean --gpus 8 --gpu h100?"),
        ("plan|--gpus|8|--gpu|A100 80GB|--days|3", "Did you mean 'a100-80'?"),
        ("plan|--gpus|8|--gpu|a100|--days|3", "Did you mean 'a100-40' or 'a100-80'?"),
        ("plan|--params|70B|tokens", "'tokens' is not a quantity."),
        ("plan|1e21|1e22", "are 2 budgets"),
        ("plan|1.4T tokens", "Did you mean 1.4T?"),
        ("plan|--loss|2.0nats", "Did you mean 2.0?"),
        ("compare|8B/1T", "Did you mean 8B:1T?"),
        ("compare|8B,1T", "Did you mean 8B:1T?"),
        ("compare|8B params 1T tokens", "Did you mean 8B:1T?"),
        ("compare|mine=8B/1T", "Did you mean mine=8B:1T?"),
        ("compare|8B", "needs its tokens too, such as 8B:1T"),
        ("compare|gpt3", "Did you mean 'gpt-3'?"),
        ("arch|Llama|--params|8B", "Did you mean 'llama'?"),
        ("arch|llama|--params|8B|--context|8k", "--context 8k is not a whole number. Write it out: 8000, or 8192."),
        ("arch|llama|--params|8B|--vocab=1e5", "Did you mean 100000?"),
        ("arch|llama|--params|8B|--kv-heads|0", "--kv-heads 0 is too small: it must be at least 1."),
        ("fit|r.csv|--level|80%", "--level 80% is not a number. Did you mean 0.8?"),
        ("fit|r.csv|--aproach|3", "isoflop fit has no option --aproach. Did you mean --approach?"),
        ("fit|r.csv|--map", "--map needs a value."),
        ("trian|s.toml", "there is no command 'trian'. Did you mean train?"),
        ("help|plan", "Did you mean `isoflop plan --help`?"),
        ("version", "Did you mean `isoflop --version`?"),
        ("novels.toml", "Did you mean `isoflop run novels.toml`?"),
        ("study|novels.toml", "Did you mean `isoflop study show novels.toml`?"),
        ("r.csv", "Did you mean `isoflop fit r.csv`?"),
        ("1e23", "Did you mean `isoflop plan 1e23`?"),
        ("schema", "Did you mean `isoflop study schema`?"),
        ("train|s.toml|--launcher|slurm", "there is no launcher 'slurm'. Known: pool, inline."),
        ("run|s.toml|--launcher|Pool", "Did you mean 'pool'?"),
        ("train|s.toml|--device|gpu", "Did you mean cuda?"),
        ("train|s.toml|--device|GPU:1", "Did you mean cuda:1?"),
        ("train|s.toml|--device|cuda1", "Did you mean cuda:1?"),
        ("train|s.toml|--device|mps", "--device mps: isoflop trains on cpu, cuda or cuda:N"),
        ("train|s.toml|--track|wandbb", "Did you mean 'wandb'?"),
        ("train|s.toml|--compile|yes", "Take auto, always or never."),
        ("design", "isoflop design needs STUDY. Example: isoflop design my_study.toml."),
        ("run|novel.toml", "there is no study file novel.toml. Did you mean novels.toml?"),
    ],
)
def test_a_wrong_word_gets_the_nearest_right_one(typed, line, said):
    status, out, err = typed(line)
    assert (status, out) == (2, ""), err
    assert said in err
    assert len(err.splitlines()) == 1
    assert err.startswith("isoflop: ")


@pytest.mark.parametrize(
    "words", ["plan|1e21|FLOPs", "plan|1e21 FLOPs", "plan|10^21", "plan|1x10^21", "plan|1e21flop", "plan|1,000 million T|", "plan|1e9 trillion"]
)
def test_a_budget_may_be_written_as_people_write_it(typed, words):
    status, out, err = typed(words.removesuffix("|"))
    if "million T" in words:
        assert (status, out) == (2, "")
        return
    assert (status, err) == typed("plan|1e21")[::2]
    assert out == typed("plan|1e21")[1]


def test_what_is_said_instead_is_accepted(typed):
    for line in (
        "laws|hoffmann",
        "compare|8B:1T",
        "plan|--gpus|8|--gpu|h100|--days|3|--mfu|40%",
        "plan|--gpus|8|--gpu|h100|--time|3d",
        "arch|llama|--params|8B|--context|8192",
    ):
        assert typed(line)[0] == 0


def test_every_other_word_leads_to_a_name():
    assert set(published.ALIASES.values()) <= {*published.papers(), *(fit.name for fit in published.every())}
    assert set(hardware.ALIASES.values()) <= set(hardware.ACCELERATORS)
    for aliases in (published.ALIASES, hardware.ALIASES):
        assert all(word == "".join(letter for letter in word.lower() if letter.isalnum()) for word in aliases)


def test_the_nearest_name_is_that_which_differs_in_case_and_signs_only():
    models = [model.name for model in compare.MODELS]
    assert all(_registry.nearest(name.upper().replace("-", "_"), models)[0] == name for name in models)
    assert _registry.nearest("", models) == _registry.nearest("---", models) == ()


def test_help_without_words_is_not_an_error_message(typed, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for line in ("study", "--help"):
        status, out, err = typed(line)
        assert "Usage: isoflop" in out + err
        assert not err.startswith("isoflop:")
        assert status == (0 if line == "--help" else 2)


def test_a_gpu_that_is_not_there_is_refused_once_and_makes_no_run_failed(typed, study, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="it sees 1 GPU"):
        train.present("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    status, _, err = typed(f"train|{study}|--folder|F|--device|cuda|--launcher|inline")
    assert status == 2
    assert "it sees 0 GPUs" in err
    assert not list(Path("F").glob("runs/*"))
