"""The first commands: init, help, versions, completion, and a study without a file."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isoflop import study as studies


def isoflop(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    code = "import sys; sys.argv[0] = 'isoflop'; from isoflop.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)


def test_init_writes_a_commented_study_that_is_designed_as_it_is(tmp_path):
    done = isoflop("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: isoflop run my_study.toml" in done.stderr
    study = studies.load(tmp_path / "my_study.toml")
    assert (study.name, study.corpus) == ("my_study", ("python",))
    text = (tmp_path / "my_study.toml").read_text()
    assert sum("#" in line for line in text.splitlines()) > 10
    schema, *_ = (line.removeprefix("#:schema ") for line in text.splitlines() if line.startswith("#:schema "))
    assert json.loads((tmp_path / schema).read_text()) == json.loads(isoflop("study", "schema", cwd=tmp_path).stdout)


def test_init_takes_a_name_and_text_that_is_there(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a.txt").write_text("text " * 50_000)
    assert isoflop("init", "novels.toml", "--corpus", "books/*.txt", cwd=tmp_path).returncode == 0
    study = studies.load(tmp_path / "novels.toml")
    assert (study.name, study.corpus) == ("novels", (str(tmp_path / "books/*.txt"),))
    assert "books/*.txt (1 file, 250 kB)" in isoflop("init", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("taken",), "taken.toml is there already, and is left as it is. Take another name: isoflop init taken2"),
        (("a b",), "it must be letters, digits"),
        (("../up",), "it must be letters, digits"),
        (("x", "--corpus", "none/*.txt"), "there is no such file here. Quote a glob"),
    ],
)
def test_init_refuses_in_a_line_and_writes_nothing(tmp_path, words, said):
    (tmp_path / "taken.toml").write_text("mine")
    done = isoflop("init", *words, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"taken.toml": "mine"}


def test_init_leaves_a_schema_file_of_somebody_else_alone(tmp_path):
    (tmp_path / "study.schema.json").write_text('{"title": "mine"}')
    assert isoflop("init", cwd=tmp_path).returncode == 0
    assert (tmp_path / "study.schema.json").read_text() == '{"title": "mine"}'


def test_study_show_without_a_file_explains_every_key_and_is_a_study(tmp_path):
    shown = isoflop("study", "show", cwd=tmp_path).stdout
    assert studies.parse(tomllib.loads(shown)) == studies.example()
    lines = shown.splitlines()
    for key in [*studies.Study.model_fields, *studies.Proof.model_fields]:
        place = next(at for at, line in enumerate(lines) if line.startswith((f"{key} = ", f"[{key}]")))
        assert key == "proof" or lines[place - 1].startswith("# ")


@pytest.mark.parametrize("words", [["-h"], ["plan", "-h"], ["study", "-h"], ["study", "show", "-h"], ["init", "-h"]])
def test_a_short_h_is_help_everywhere(tmp_path, words):
    short, long = (isoflop(*words[:-1], option, cwd=tmp_path) for option in ("-h", "--help"))
    assert (short.returncode, short.stdout) == (0, long.stdout)


def test_the_version_is_that_of_the_package(tmp_path):
    done = isoflop("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "isoflop 0.1.0\n")


def test_completion_can_be_installed_and_completes_verbs(tmp_path):
    assert "--install-completion" in isoflop("--help", cwd=tmp_path).stdout
    done = isoflop(cwd=tmp_path, _ISOFLOP_COMPLETE="complete_bash", COMP_WORDS="isoflop pl", COMP_CWORD="1")
    assert done.stdout.split() == ["plan"]
