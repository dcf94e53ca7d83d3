"""One stage, one name, five places: the module, the verb, the docs page, the test file and the line in the README's tree agree."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import isoflop
from isoflop.errors import IsoflopError

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/isoflop"


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("stage", isoflop.STAGES)
def test_a_stage_has_its_module_docs_page_and_test_file(stage):
    assert (SOURCE / f"{stage}.py").is_file() or (SOURCE / stage / "__init__.py").is_file()
    assert (ROOT / f"docs/{stage}.md").is_file()
    assert (ROOT / f"tests/test_{stage}.py").is_file()


def test_verbs_are_the_stages_in_order():
    verbs = python("import typer; from isoflop.cli import app; print(*typer.main.get_command(app).list_commands(None))").split()
    assert verbs == ["init", "run", *isoflop.STAGES]


def test_the_readme_tree_names_the_stages_in_order_and_every_entry_exists():
    tree = re.search(r"```\nsrc/isoflop/\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert tree
    entries = [line.split()[0] for line in tree[1].splitlines()]
    assert all((SOURCE / entry).exists() for entry in entries)
    on_disk = {p.name + "/" if p.is_dir() else p.name for p in SOURCE.iterdir() if p.name not in {"py.typed", "__pycache__"}}
    assert set(entries) == on_disk
    named = [entry.removesuffix("/").removesuffix(".py") for entry in entries]
    assert [name for name in named if name in isoflop.STAGES] == list(isoflop.STAGES)


def test_the_docs_list_the_stages_in_order():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"\((\w+)\.md\)", index) if name in isoflop.STAGES] == list(isoflop.STAGES)


def test_the_cli_page_is_what_help_says():
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == subprocess.run(
        [sys.executable, "docs/_cli.py"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout, "run `make docs`"


@pytest.mark.parametrize("code", ["import isoflop", "import isoflop.cli", "import isoflop.plan, isoflop.fit, isoflop.workspace, isoflop.report, isoflop.data"])
def test_light_imports_stay_light(code):
    heavy = "torch", "altair", "vl_convert", "jinja2", "pyarrow", "tokenizers", "datasets"
    assert json.loads(python(f"{code}; import sys, json; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))")) == []


def test_every_error_is_in_the_drawn_tree():
    module = ast.parse((SOURCE / "errors.py").read_text(encoding="utf-8"))
    classes = [node.name for node in module.body if isinstance(node, ast.ClassDef) and node.name.endswith("Error")]
    drawn = re.findall(r"\b(\w+Error)\b", ast.get_docstring(module))
    assert sorted(classes) == sorted(set(drawn))
    assert issubclass(isoflop.IsoflopError, IsoflopError)


def test_layers_of_the_import_contract_are_all_modules():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(c for c in contracts if c["type"] == "layers")["layers"]
    assert {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()} - {"__init__"} == set(layers)


@pytest.mark.parametrize("menu", ["arch", "design", "launch", "laws", "published", "readers", "recipes", "report/figures", "track"])
def test_menus_are_known_to_the_contracts(menu):
    """A new entry of a menu must join the contract that keeps entries apart."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    kept_apart = {module for c in contracts if c["type"] == "independence" for module in c["modules"]}
    entries = {p.stem for p in (SOURCE / menu).iterdir() if not p.stem.startswith("_") and (p.suffix == ".py" or (p / "__init__.py").is_file())}
    assert {f"isoflop.{menu.replace('/', '.')}.{e}" for e in entries} <= kept_apart


def test_no_module_is_called_utils():
    assert not [p for p in SOURCE.rglob("*.py") if p.stem in {"utils", "common", "helpers", "base", "_utils", "_common", "_helpers", "_base"}]
