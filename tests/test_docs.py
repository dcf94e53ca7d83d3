"""What README and docs show is what happens: their Python is executed, their commands are run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "cli.md")]


def blocks(page: Path, kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == kind]


def commands(page: Path) -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(page, "") for line in block.splitlines()]
    return [line for line in lines if line.startswith("isoflop ")]


@pytest.fixture(scope="module")
def place(undisturbed, tmp_path_factory) -> Path:
    """A folder as a reader would have after `make study`: the example beside its finished study, at the tests' size."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "examples").mkdir()
    shutil.copytree(undisturbed, folder / "studies/quickstart")
    study = (undisturbed / "study.toml").read_text(encoding="utf-8").replace('name = "tiny"', 'name = "quickstart"')
    for path in (folder / "examples/1_quickstart.toml", folder / "studies/quickstart/study.toml"):
        path.write_text(study, encoding="utf-8")
    return folder


def test_there_is_something_to_run():
    assert blocks(PAGES[0], "python")
    assert commands(PAGES[0])


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_on_the_page_runs(page, place):
    for code in blocks(page, "python"):
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_on_the_page_run(page, place):
    for command in commands(page):
        words = shlex.split(command.replace("STUDY", "studies/quickstart").replace("1e13", "1e10"))[1:]
        if "FILE" in words or "[FLOPS]" in words:
            continue  # a form, not a command
        code = "from isoflop.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target
