"""Names of files, runs and texts that are not UTF-8, hold control characters, or would be run by a spreadsheet."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import _cells
from isoflop.report import charts, export

POINTS = [(n, d, 1.7 + 400 / n**0.34 + 410 / d**0.28) for n in (1e6, 2e6, 4e6, 8e6) for d in (1e8, 2e8, 4e8, 8e8)]
TABLE = "params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in POINTS)
NAMES = [b"a\x01\x1b[31mb\x0b\xe9.csv", b"caf\xe9.csv", b"\xff\xfe/r.csv", b"two\nlines.csv", b"=cmd|'x'!A1.csv", b"quo'te $HOME.csv"]


def isoflop(*words: "str | bytes", cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "isoflop", *words], cwd=cwd, capture_output=True, check=False, env=os.environ | {"COLUMNS": "160"})


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if at else ()) for at, name in enumerate(NAMES)], ids=repr)
def test_runs_in_a_file_of_any_name_are_fitted_kept_planned_by_and_drawn(name, tmp_path):
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118  # a name of bytes
    path.parent.mkdir(exist_ok=True)
    path.write_text(TABLE)
    fitted = isoflop("fit", name, "--approach", "3", "--resamples", "0", "--out", "fits.json", "--json", cwd=tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    assert json.loads(fitted.stdout)
    for kind in ("svg", "html", "png"):
        drawn = isoflop("plan", "1e18", "--fit", "fits.json", "--figure", f"f.{kind}", cwd=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / f"f.{kind}").stat().st_size > 10_000
    assert b"\x1b" not in drawn.stdout + drawn.stderr


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if at else ()) for at, name in enumerate(NAMES)], ids=repr)
def test_the_next_command_can_be_pasted_into_a_shell(name, tmp_path):
    (tmp_path / "r.csv").write_text(TABLE)
    done = isoflop("fit", "r.csv", "--approach", "3", "--resamples", "0", "--out", name.replace(b"/r.csv", b""), cwd=tmp_path)
    said = done.stderr.decode().partition("next: ")[2].strip()
    assert said.startswith("isoflop plan --fit ")
    again = subprocess.run(["bash", "-c", f'"$0" -m {said}', sys.executable], cwd=tmp_path, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "words", [("init", b"caf\xe9"), ("init", "x", "--corpus", b"caf\xe9.txt"), ("run", b"caf\xe9.toml"), ("fit", b"\xff"), ("laws", b"\xff"), (b"\xff",)]
)
def test_a_name_that_is_not_utf8_is_refused_in_a_line(words, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    done = isoflop(*words, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(b"isoflop: ")


def test_a_study_in_a_folder_that_is_not_utf8_is_refused_unless_its_text_needs_no_path(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    study = 'name = "s"\nbudgets = ["1e11", "2e11", "4e11"]\ntarget = "1.2e12"\n'
    (folder / "own.toml").write_text(f'{study}corpus = "a.txt"\n')
    (folder / "python.toml").write_text(study)
    own, python = (isoflop("study", "show", name, cwd=folder) for name in (folder / "own.toml", folder / "python.toml"))
    assert (own.returncode, b"has a name that is not UTF-8" in own.stderr) == (2, True)
    assert python.returncode == 0


@given(st.text())
def test_a_cell_is_read_back_unchanged(text):
    assert _cells.unescape(_cells.escape(text)) == text


@given(st.text(), st.sampled_from("=+-@\t\r\n\uff1d"), st.from_regex(r"\A'{0,2} {0,2}\Z"))
def test_no_cell_begins_as_a_formula(text, sign, before):
    assert _cells.escape(before + sign + text).startswith("'")


def test_the_export_escapes_text_and_leaves_numbers_alone():
    rows = [{"label": "=HYPERLINK(1)", "reason": "@x", "text": "-1.5", "lr": -1.5, "n": -3, "plain": "ok", "none": None}]
    read = next(csv.DictReader(io.StringIO(export.to_csv(rows))))
    assert read == {"label": "'=HYPERLINK(1)", "reason": "'@x", "text": "'-1.5", "lr": "-1.5", "n": "-3", "plain": "ok", "none": ""}


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.text(), st.lists(st.text()), st.integers()), max_size=3))
def test_nothing_that_xml_forbids_reaches_the_drawing_library(spec):
    from xml.etree import ElementTree as ET
    from xml.sax.saxutils import escape

    for text in charts._drawable(list(spec.values())):
        for part in text if isinstance(text, list) else [str(text)]:
            ET.fromstring(f"<t>{escape(part)}</t>")
