"""Hugging Face's Trainer: `trainer_state.json`, or a folder with one for each run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoflop.errors import FitError
from isoflop.readers._logs import Log, Logs, table

NAME = "trainer_state.json"
LARGEST = 1 << 28  # bytes; a million lines of its log take about as much

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_NAMES = {"loss": "train_loss", "train_loss": "mean_train_loss"}  # `loss` is that of training, and `train_loss` its mean over the whole run
_WHOLE = ("num_input_tokens_seen", "total_flos")  # of the run, when it ended
_CONFIG = ("model_type", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "intermediate_size", "n_inner",
           "vocab_size", "max_position_embeddings", "n_positions", "num_key_value_heads", "head_dim", "tie_word_embeddings")  # fmt: skip


def certainty(path: Path, start: bytes) -> int:
    """Tell a file by its log, a folder by the files under it; surer than any JSON."""
    if path.is_file():
        return 3 if start.lstrip().startswith(b"{") and b'"log_history"' in start else 0
    return 3 if any(path.rglob(NAME)) else 0


def open(path: Path) -> Logs:  # noqa: A001  # readers.huggingface.open is how it is said
    """Open every run of a file or folder; of the checkpoints of one run the last, which has the whole log.

    Raises:
        FitError: No run, or a malformed one.
    """
    files = [path] if path.is_file() else sorted(_latest(path))
    root = path.parent if path.is_file() else path
    return table((_log(file, root) for file in files), source=path)


def _latest(folder: Path) -> Iterator[Path]:
    """Yield one file a run: that of the run's own folder, else that of its last checkpoint."""
    by_run: dict[Path, list[Path]] = {}
    for file in folder.rglob(NAME):
        by_run.setdefault(_run(file), []).append(file)
    for files in by_run.values():
        yield max(files, key=_step)


def _run(file: Path) -> Path:
    """Return the folder of a run, which is above those of its checkpoints."""
    return file.parent.parent if _CHECKPOINT.fullmatch(file.parent.name) else file.parent


def _step(file: Path) -> float:
    found = _CHECKPOINT.fullmatch(file.parent.name)
    return float(found[1]) if found else float("inf")


def _log(file: Path, root: Path) -> Log:
    state = _json(file)
    history = state.get("log_history")
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise FitError(f"{file} has no list of objects `log_history`, as Hugging Face's Trainer writes one. Fetch it again, or leave it out.")
    folder = _run(file)
    name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
    log = Log(id=folder.resolve().name if name == "." else name, name="", status=_status(state))
    log.constants.update(_settings(file.parent / "config.json"))
    for name in _WHOLE:
        if isinstance(value := state.get(name), int | float) and value > 0:
            log.constants[name] = value
    for place, entry in enumerate(history):
        step = entry.get("step", place)
        for key, value in entry.items():
            if key not in {"step", "epoch"} and isinstance(step, int | float):
                log.add(_NAMES.get(key, key), step, value)
    _share_flops(log, state)
    return log


def _share_flops(log: Log, state: dict[str, Any]) -> None:
    """Give each step its share of the FLOPs, of which the state has the sum alone; by tokens, else by steps."""
    log.series.pop("total_flos", None)
    total = log.constants.pop("total_flos", None)
    tokens, whole = log.series.get("num_input_tokens_seen", {}), log.constants.get("num_input_tokens_seen")
    steps = {step for values in log.series.values() for step in values}
    last = state.get("global_step")
    if total is None or not isinstance(last, int | float) or last <= 0:
        return
    for step in steps:
        seen = tokens.get(step)
        share = seen / whole if whole and isinstance(seen, int | float) else step / last
        log.add("total_flos", step, total * share)


def _status(state: dict[str, Any]) -> str:
    """Tell whether a run reached its last step."""
    step, last = state.get("global_step"), state.get("max_steps")
    if isinstance(step, int | float) and isinstance(last, int | float) and step < last:
        return "interrupted"
    return "finished"


def _settings(file: Path) -> dict[str, Any]:
    """Return the shape of the model from the settings that Hugging Face keeps beside its weights; nothing where they are not there."""
    if not file.is_file():
        return {}
    found = _json(file)
    return {name: found[name] for name in _CONFIG if isinstance(found.get(name), int | float | str)}


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise FitError(f"{file} is larger than {LARGEST / 1e6:.0f} MB, so it is no log of a run. Leave it out.")
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FitError(f"{file} is no JSON ({error}). Fetch it again, or leave it out.") from error
    if not isinstance(found, dict):
        raise FitError(f"{file} holds no JSON object. Fetch it again, or leave it out.")
    return found
