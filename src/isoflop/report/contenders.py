"""What the models of a proof are called, in every table, figure and sentence."""

from typing import NamedTuple

from isoflop.validate import KAPLAN, OPTIMUM, OVERSIZED, Validation


class Name(NamedTuple):
    """One model's name: by itself, beside a mark, and in a sentence."""

    row: str
    mark: str
    words: str


_NAMES = {
    OPTIMUM: Name("predicted optimum", "optimum", "predicted optimum"),
    OVERSIZED: Name("oversized", "oversized", "oversized model"),
    KAPLAN: Name("Kaplan\u2019s size", "Kaplan\u2019s size", "model of Kaplan\u2019s size"),
}


def of(label: str) -> Name:
    """The name that goes with a label of the proof's runs."""
    return _NAMES.get(label, Name(label or "other", "model", "other model"))


def row(proof: Validation, label: str) -> str:
    """A model's name with those of the rivals that have the same shape, for a table."""
    return ", also ".join([of(label).row, *(of(rival).row for rival in _twins(proof, label))])


def mark(proof: Validation, label: str) -> str:
    """The same, short enough to stand beside a mark."""
    return ", ".join([of(label).mark, *(of(rival).mark for rival in _twins(proof, label))])


def _twins(proof: Validation, label: str) -> list[str]:
    return [rival for rival, other in proof.same_as.items() if other == label]
