"""A finished run -> a folder that Hugging Face's `transformers` loads: configuration, weights, tokenizer, and a card that says what it is.

    _run         a run's folder -> its record, weights and tokenizer, each checked
    _llama       a family's weights under the names and in the order of transformers
    _tokenizer   text -> the same ids as in training
    _card        what a person should know of it
    _place       the folder, whole or not there

Nothing here needs torch or transformers: the arrays are NumPy's and the file is safetensors.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from isoflop.errors import UsageError
from isoflop.export import _card, _llama, _place, _tokenizer
from isoflop.export._run import Source, find, source
from isoflop.export._run import weights as _weights
from isoflop.store import files

__all__ = ["FAMILIES", "Source", "export", "find", "source"]

FAMILIES = ("llama",)  # that transformers has, operation for operation


def export(run: Source, folder: Path, *, overwrite: bool = False) -> Path:
    """Write the folder, which is whole or not there at any moment; the same run gives the same bytes.

    Takes memory for twice the weights.

    Args:
        run: What `source` found.
        folder: New or empty, or an earlier export that nobody has changed.
        overwrite: Accept an earlier export that was changed, or any other folder of one model.

    Returns:
        The folder, absolute.

    Raises:
        UsageError: No such family in transformers, or a folder that is kept.
        StoreError: Damaged weights, no space, or a place that cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    _check(run)
    place = _place.checked(folder, overwrite=overwrite)
    contents = _contents(run)
    _place.put(place, contents | {_place.MARK: _mark(run, contents)})
    return place


def _check(run: Source) -> None:
    shape = run.record.spec.shape
    if shape.arch not in FAMILIES:
        raise UsageError(
            f"run {run.record.id} is of the {shape.arch} family, and transformers has no architecture with its relative positions, so nothing there could "
            f'load it. Train the study with arch = "llama", or use {run.weights} with isoflop.arch.{shape.arch}.module itself.'
        )
    if shape.d_model % shape.n_heads:
        raise UsageError(
            f"run {run.record.id} is {shape.d_model} wide with {shape.n_heads} heads, and transformers refuses a llama whose width its heads do not divide. "
            "Export a run of another width."
        )


def _contents(run: Source) -> dict[str, bytes]:
    shape = run.record.spec.shape
    return {
        "config.json": files.canonical(_llama.config(shape)),
        "generation_config.json": files.canonical(_llama.generation(shape)),
        **_tokenizer.contents(run.tokenizer, shape),
        "model.safetensors": _llama.saved(shape, _weights(run)),
        "README.md": _card.text(run).encode(),
    }


def _mark(run: Source, contents: Mapping[str, bytes]) -> bytes:
    """What was exported, for programs; and by what a later export knows an unchanged one of ours."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return files.canonical({"study": run.study, "record": run.record.model_dump(mode="json"), "files": digests})
