"""isoflop: with this much compute, how big a model, on how many tokens?

The stages, in the order in which the data flow:

    arch       what a model costs: parameters, FLOPs, memory
    study      one TOML file: text, models, budgets
    design     study -> runs to train
    tune       the learning rate, measured at small sizes, into the study
    train      runs -> records, kept in a store
    runs       records -> columns
    laws       loss as a function of size and tokens; the published ones
    fit        columns -> laws, by three approaches
    plan       laws and a budget -> how big, how long, what loss, what it takes
    compare    known models against the laws
    validate   the predicted optimum against a baseline at equal compute
    report     all of it -> one page
    export     a trained run -> a model that Hugging Face's transformers loads

`isoflop.open("study.toml")` gives them all over one study folder; each is also a module of its own, loaded on first use. Runs made elsewhere come in by
`isoflop.readers.read("runs.csv")`, and `isoflop.fit.fit_all` takes them.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

from isoflop.errors import IsoflopError

if TYPE_CHECKING:
    from isoflop.arch import Shape as Shape
    from isoflop.design import Design as Design
    from isoflop.fit import Fit as Fit
    from isoflop.plan import Plan as Plan
    from isoflop.runs import RunRecord as RunRecord
    from isoflop.runs import Runs as Runs
    from isoflop.runs import RunSpec as RunSpec
    from isoflop.study import Study as Study
    from isoflop.tune import Tuning as Tuning
    from isoflop.validate import Validation as Validation
    from isoflop.workspace import Workspace as Workspace
    from isoflop.workspace import open as open  # noqa: A004  # isoflop.open("study.toml") is how it is said

STAGES = ("arch", "study", "design", "tune", "train", "runs", "laws", "fit", "plan", "compare", "validate", "report", "export")
_NOUNS = {
    "Design": "design",
    "Fit": "fit",
    "Plan": "plan",
    "RunRecord": "runs",
    "RunSpec": "runs",
    "Runs": "runs",
    "Shape": "arch",
    "Study": "study",
    "Tuning": "tune",
    "Validation": "validate",
    "Workspace": "workspace",
    "open": "workspace",
}

__all__ = ["STAGES", "IsoflopError", *STAGES, *_NOUNS]  # noqa: PLE0604  # all are names


def __getattr__(name: str) -> object:
    """Load a stage or a noun when it is first used."""
    if name in _NOUNS:
        return getattr(importlib.import_module(f"isoflop.{_NOUNS[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"isoflop.{name}"):
        return _module(name)
    msg = f"module 'isoflop' has no attribute {name!r}"
    raise AttributeError(msg)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"isoflop.{name}")
