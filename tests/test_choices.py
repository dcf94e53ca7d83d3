"""Choices are named in --help and completed, and are those that the modules know."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from isoflop import _choices, _registry, published
from isoflop.arch import Convention
from isoflop.fit import APPROACHES, _problem, envelope, isoflop
from isoflop.plan import hardware
from isoflop.runs import Compile

KNOWN = {
    "launcher": _registry.names("isoflop.launch"),
    "compile": get_args(Compile),
    "track": _registry.names("isoflop.track"),
    "family": _registry.names("isoflop.arch"),
    "recipe": _registry.names("isoflop.recipes"),
    "approach": ("all", "1", "2", "3", *APPROACHES),
    "law": tuple(_problem.LAWS),
    "estimator": tuple(_problem.ESTIMATORS),
    "method": tuple(isoflop.METHODS),
    "rule": tuple(envelope.RULES),
    "format": _registry.names("isoflop.readers"),
    "count": get_args(Convention),
    "intervals": tuple(isoflop.INTERVALS),
    "gpu": tuple(hardware.ACCELERATORS),
    "device": ("cpu", "cuda"),
}
OPTIONS = {
    "train": ("launcher", "compile", "track"),
    "fit": ("approach", "law", "estimator", "method", "rule", "format", "count", "intervals"),
    "plan": ("gpu", "family", "recipe"),
    "arch": ("family",),
}


def isoflop_cli(*words: str, **env: str) -> str:
    code = "import sys; sys.argv[0] = 'isoflop'; from isoflop.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], env=os.environ | env, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("menu", _choices.MENUS)
def test_a_menu_of_the_command_line_is_that_of_its_module(menu):
    assert sorted(_choices.MENUS[menu]) == sorted(KNOWN[menu])


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_names_every_choice(verb):
    words = isoflop_cli(verb, "--help", COLUMNS="100", TERMINAL_WIDTH="100")
    flat = "".join(words.split())
    for menu in OPTIONS[verb]:
        assert all(name in flat for name in _choices.MENUS[menu]), menu


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("isoflop train --launcher p", ["pool"]),
        ("isoflop fit --rule ", ["finished", "all", "hull"]),
        ("isoflop laws hoffmann-", ["hoffmann-c4", "hoffmann-github"]),
        ("isoflop compare gph", []),
        ("isoflop compare gop", ["gopher"]),
        ("isoflop plan --gpu h1", ["h100", "h100-pcie"]),
    ],
)
def test_tab_completes_choices(typed, completed):
    place = len(typed.split(" ")) - 1
    assert isoflop_cli(_ISOFLOP_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(place)).split() == completed


def test_completion_knows_every_published_law():
    assert set(_choices.complete_laws("")) == {*published.papers(), *(fit.name for fit in published.every())}
