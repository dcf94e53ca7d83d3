"""A newcomer's first ten minutes: the commands of the README, as they stand there, in a fresh checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What takes ten minutes, at the size of a test. Everything else is as the README and `isoflop init` have it.
SMALL = {
    "corpus": '["text.txt"]',
    "context": "16",
    "budgets": '["5e7", "1e8", "2e8"]',
    "sizes": "[8, 10, 12]",
    "target": '"6e8"\nvalidation = 0.2\nseeds = 2\nbatch_scale = 4\neval_tokens = 4096\n[proof]\noversize = 1.5',
}


def commands() -> list[str]:
    """Return the lines of the README's first block of commands, without their comments."""
    block = re.search(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """What a clone of this commit holds, with an environment that stands for the one that `make setup` downloads."""
    if not (ROOT / ".git").exists() or not shutil.which("git") or not shutil.which("make"):
        pytest.skip("this is no checkout, or git or make is absent")
    folder = tmp_path_factory.mktemp("clone") / "isoflop"
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / ".venv")}))
    (packages / "first.pth").write_text(f"{folder / 'src'}\n{sysconfig.get_path('purelib')}\n")
    script = folder / ".venv/bin/isoflop"
    script.write_text(f"#!{folder}/.venv/bin/python\nfrom isoflop.cli import main\nmain()\n")
    script.chmod(0o755)
    (folder / ".venv/installed").touch()
    return folder


def environment() -> dict[str, str]:
    """Return that of a person in a new terminal: nothing of this test's own environment is active."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"} and not name.startswith(("PYTEST", "MAKE"))}
    active = str(Path(sys.executable).parent)
    return clean | {"SHELL": "/bin/bash", "PATH": os.pathsep.join(part for part in clean["PATH"].split(os.pathsep) if part != active)}


def test_the_wrapper_and_make_say_how_isoflop_is_called(checkout):
    def run(*words: str, cwd: Path = checkout) -> subprocess.CompletedProcess:
        return subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)

    assert run("./isoflop", "--version").stdout == "isoflop 0.1.0\n"
    assert run(str(checkout / "isoflop"), "--version", cwd=checkout.parent).stdout == "isoflop 0.1.0\n"
    assert "./isoflop" in run("make", "setup").stdout
    (checkout / ".venv").rename(checkout / "aside")
    try:
        done = run("./isoflop", "--version")
        assert (done.returncode, "make -C" in done.stderr) == (1, True)
    finally:
        (checkout / "aside").rename(checkout / ".venv")


@pytest.mark.slow
def test_the_first_ten_minutes_go_as_the_readme_says(checkout, study):
    lines = commands()
    assert [line.split()[0] for line in lines].count("make") == 2
    inside = lines.index("make shell")
    for line in lines[:inside]:
        subprocess.run(["bash", "-c", line], cwd=checkout, env=environment(), check=True)
    shutil.copy(study.parent / "text.txt", checkout / "text.txt")
    at = next(place for place, line in enumerate(lines) if line.startswith("isoflop init"))
    edits = [f"sed -i.bak -E 's|^{key} = [^#]*|{key} = {value} |' novels.toml".replace("\n", "\\\n") for key, value in SMALL.items()]
    typed = [*lines[inside + 1 : at + 1], *edits, *lines[at + 1 :], "echo all is done"]
    text = "set -e\n" + "\n".join(typed).replace("1e13", "2e9") + "\nexit\n"
    done = subprocess.run(["make", "shell"], input=text, cwd=checkout, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("all is done"), f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert (checkout / "studies/novels/report/report.html").stat().st_size > 100_000
