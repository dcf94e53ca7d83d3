"""Readers: files of runs made elsewhere -> Runs. One file a format; what is left out is counted with its reason.

A format's file offers `certainty` and `open`; columns are found by `_columns`, rows chosen by `_where`, collected by `_collect` and made into runs
by `_reduce`. Nothing that is read is unpickled or executed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from isoflop import _registry
from isoflop.arch import Convention
from isoflop.errors import FitError, MemoryShortError, QuestionError, UnknownNameError, UsageError
from isoflop.readers._budgets import TOLERANCE
from isoflop.readers._columns import ROLES
from isoflop.readers._logs import Logs, with_names
from isoflop.runs import Runs

if TYPE_CHECKING:
    from isoflop.readers._collect import Rows
    from isoflop.readers._columns import Plan
    from isoflop.readers._where import Filter

HEAD = 1 << 16  # bytes of a file that formats are told apart by
Progress = Callable[[str, float], None]


class Table(Protocol):
    """Rows of a source, in its own columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Some columns as Arrow arrays, some thousand rows at a time, with the fraction that has been read."""


@runtime_checkable
class Lined(Protocol):
    """Rows of text, which a person finds by their lines."""

    def lines(self, rows: Sequence[int], *, of: int) -> Mapping[int, int]:
        """Lines on which some rows begin, both from 1; of those that are known.

        Args:
            rows: Of data.
            of: Rows there are.
        """


class Format(Protocol):
    """What a format's file offers."""

    def certainty(self, path: Path, head: bytes) -> int:
        """How surely a file or folder is of the format: 0 not, 1 perhaps, 2 by its content.

        Args:
            path: File or folder.
            head: The first bytes of a file, uncompressed; empty for a folder.
        """

    def open(self, path: Path) -> Table:
        """The source as a table, which is not read yet.

        Raises:
            FitError: Malformed.
            MissingExtraError: The format's own library is not installed.
        """


def kinds() -> tuple[str, ...]:
    """Names of the formats."""
    return _registry.names(__name__)


def read(
    path: str | Path | Sequence[str | Path],
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    convention: Convention | None = None,
    tolerance: float = TOLERANCE,
    every_point: bool = False,
    every_run: bool = False,
    pool: Sequence[str] = (),
    unit: str | None = None,
    name: str | None = None,
    decimal: str | None = None,
    on_progress: Progress | None = None,
) -> Runs:
    """Read runs, sorted by FLOPs, params, tokens and loss, so that the order of rows changes nothing.

    Args:
        path: File; folder of files, of event files, of an MLflow store or of offline W&B runs; pattern such as "runs/*.csv"; or several of them.
        kind: One of kinds(); None to tell by the content.
        columns: What roles (of ROLES) are read from: a column {"params": "non_emb_params"}, arithmetic {"tokens": "steps * batch_size * 2048"}, a constant
            {"params": "70M"}, or nothing at all {"status": "none"}.
        where: Which rows, in terms of the file's columns: "flops <= 1e20 and not diverged".
        convention: How the file counts parameters; None for what the column's name says, else "total".
        tolerance: Runs within this fraction of the middle of a budget are of that budget, where no column says.
        every_point: Every row is a run of its own, though rows look like points of curves.
        every_run: Keep every setting (learning rate, batch) of one size and length, not the best alone.
        pool: Columns whose values are fitted together though their losses differ; "all" for every column.
        unit: Of the loss, such as "perplexity" or "bits per byte"; None for what the column's name says.
        name: What the names of files hold, as "N{params}_D{tokens}"; None to recognise it where it is plain.
        decimal: Sign before decimals in text, "." or ","; None to tell by the text.
        on_progress: Gets what is done and what fraction of it.

    Raises:
        FitError: Malformed, ways of counting mixed, no training runs, or no run left.
        UsageError: A column missing or unknown, or an invalid filter.
        QuestionError: The table can be read in two ways that change the answer.
        MemoryShortError: There is too little memory.
        MissingExtraError: The format's own library is not installed.
    """
    from isoflop.readers import _reduce, _several, _values, _where

    paths = [Path(one) for one in ([path] if isinstance(path, str | Path) else path)]
    tell = on_progress or (lambda _what, _fraction: None)
    if not 0 < tolerance < 1:
        raise UsageError(f"a tolerance of {tolerance!r} cannot group budgets. It is a fraction between 0 and 1, like {TOLERANCE}.")
    with _naming(paths, FitError):  # a wrong option is no fault of the file
        source, from_names = _source(paths, kind, columns or {}, pattern=name, decimal=decimal)
    with _naming(paths, FitError, UsageError), _hinting(source, name):
        chosen = None if where is None else _where.parse(where, source.columns)
        plan, rows = _collected(source, {**from_names, **(columns or {})}, chosen, convention=convention, unit=unit, tell=tell)
        choices = _reduce.Choices(tolerance=tolerance, every_point=every_point, every_run=every_run, pool=tuple(pool))
        runs = _reduce.reduce(rows, plan, choices, whole=lambda numbers: _values.whole_rows(source, source.columns, numbers), tell=tell)
    if isinstance(source, _several.Several):
        runs = replace(runs, dropped=(*source.excluded, *map(source.place, runs.dropped)))
    return runs


def levels(
    path: str | Path | Sequence[str | Path],
    column: str,
    *,
    where: str | None = None,
    kind: str | None = None,
    name: str | None = None,
    decimal: str | None = None,
) -> tuple[str, ...]:
    """Return the distinct texts of a column, the most frequent first; "" stands for empty cells.

    Args:
        path: As of `read`.
        column: Of the file, in any spelling.
        where: Which rows.
        kind: As of `read`.
        name: As of `read`.
        decimal: As of `read`.

    Raises:
        UsageError: No such column, or it has more texts than sorts of runs can have.
        FitError: The table cannot be read.
    """
    from isoflop.readers import _collect, _columns, _values, _where

    paths = [Path(one) for one in ([path] if isinstance(path, str | Path) else path)]
    source, _ = _source(paths, kind, {}, pattern=name, decimal=decimal)
    found = _columns.find(column, source.columns)
    if found is None:
        raise UnknownNameError(f"--by {column}: there is no such column.{_columns.nearest(column, source.columns)}")
    chosen = None if where is None else _where.parse(where, source.columns)
    counts: Counter[str] = Counter()
    for batch, _ in source.batches(tuple(dict.fromkeys([found, *(chosen.columns if chosen else ())]))):
        texts = _values.texts(batch[found]).to_pylist()
        keep = [True] * len(texts) if chosen is None else chosen.mask(batch, len(texts)).tolist()
        counts.update(text or "" for text, kept in zip(texts, keep, strict=True) if kept)
        if len(counts) > _collect.LEVELS:
            raise UsageError(f"--by {column}: the column has over {_collect.LEVELS} values. Give one that tells sorts of runs apart, such as a data set.")
    return tuple(text for text, _ in counts.most_common())


def equals(column: str, value: str, *, also: str | None = None) -> str:
    """Return the filter that chooses the rows with one text in a column, such as "dataset == 'web'"; `also` must hold, too."""
    from isoflop.readers._columns import written

    quote = '"' if "'" in value else "'"
    chosen = f"{written(column)} == {quote}{value}{quote}"
    return f"({also}) and {chosen}" if also else chosen


@contextmanager
def _naming(paths: Sequence[Path], *errors: type[FitError] | type[UsageError]) -> Iterator[None]:
    """Put the name of a file before an error that does not begin with it."""
    names = [str(path) for path in paths]
    name = " ".join(names[:3])
    try:
        yield
    except QuestionError as error:
        raise QuestionError(f"{name}: {error.question}", error.readings) from error
    except errors as error:
        message = str(error)  # a format names the file itself, with the line
        raise type(error)(message if any(message.startswith(one) for one in names) else f"{name}: {message}") from error
    except MemoryError as error:
        raise MemoryShortError(f"{name}: there is too little memory to read it. Free memory, or give a file with fewer columns or rows.") from error


@contextmanager
def _hinting(source: Table, pattern: str | None) -> Iterator[None]:
    """Add to an error of columns that are missing in several files that the names of the files may hold them."""
    from isoflop.readers import _several

    try:
        yield
    except UsageError as error:
        if pattern is None and isinstance(source, _several.Several) and str(error).startswith("no column is known as"):
            example = f"{source.parts[0].name!r}"
            raise UsageError(f"{error} Where names of files hold it ({example}), say so by a pattern: --name 'N{{params}}_D{{tokens}}'.") from error
        raise


def _source(
    paths: Sequence[Path], kind: str | None, columns: Mapping[str, str], *, pattern: str | None, decimal: str | None
) -> tuple[Table, Mapping[str, str]]:
    """Return what some paths hold as one table, and the roles that names of files give."""
    from isoflop.readers import _decimals, _several

    def opened(path: Path) -> Table:
        table: Table = _decimals.read(_open(path, kind), decimal, path)
        return table

    if not paths:
        raise UsageError("no file was given. Give a study folder, or files of runs.")
    if kind is not None:
        _registry.check(kind, kinds(), noun="format of runs")
    (first, *more) = paths
    single = not more and (first.is_file() or (first.is_dir() and _is_source(first, kind)) or not (first.is_dir() or _several.is_pattern(first)))
    if single:
        source = opened(first)
        if isinstance(source, Logs):
            return _with_names(source, columns, pattern)
        if pattern is None:
            return source, {}
    files, root = ([first], first.absolute().parent) if single else _several.find(paths, lambda folder: _is_source(folder, kind))
    together = _together(files) if kind in {None, "wandb"} and pattern is None else None
    if together is not None:
        return together, {}
    return _several.combine(files, root, opened, pattern=pattern, told=columns)


def _with_names(source: Logs, columns: Mapping[str, str], pattern: str | None) -> tuple[Table, Mapping[str, str]]:
    """Return a tracker's runs with what their names say."""
    from isoflop.readers import _file_names

    names = [log.name or log.id for log in source.logs]
    found = _file_names.guess(names, source.columns) if pattern is None else _file_names.read(names, pattern)
    return with_names(source, found), _file_names.mapping(found, source.columns, told=columns, asked=pattern is not None)


def _is_source(folder: Path, kind: str | None) -> bool:
    """Return whether a folder is one source, as a tracker's is, and not a folder of tables."""
    names = kinds() if kind is None else (kind,)
    return any(cast("Format", _registry.load(__name__, name, noun="format of runs")).certainty(folder, b"") for name in names)


def _together(files: Sequence[Path]) -> Table | None:
    """Return files that only make sense beside each other, as charts of W&B do, as one table."""
    from isoflop.readers import wandb

    return wandb.exported(files) if any(wandb.is_chart(file) for file in files if file.is_file()) else None


def _collected(
    source: Table, told: Mapping[str, str], chosen: "Filter | None", *, convention: Convention | None, unit: str | None, tell: Progress
) -> "tuple[Plan, Rows]":
    """Read the rows; where the best column of losses is empty, by the next one."""
    from isoflop.readers import _collect, _columns

    plan = _columns.resolve(source.columns, told, convention=convention, unit=unit)
    rows = _collect.collect(source, plan, chosen, tell=tell)
    for rival in plan.rivals.get("loss", ()):
        if rows.number.size or "loss" in told or rows.tally.reasons != {f"no {plan.called('loss')}"}:
            break
        plan = _columns.resolve(source.columns, {**told, "loss": str(rival)}, convention=convention, unit=unit)
        rows = _collect.collect(source, plan, chosen, tell=tell)
    return plan, rows


def _open(path: Path, kind: str | None) -> Table:
    if not path.exists():
        raise UsageError(f"there is no file or folder {str(path)!r}. Give a study folder, or a file of runs.")
    if not (path.is_file() or path.is_dir()):  # a pipe that nobody writes to would be waited for without end
        raise UsageError(f"{path} is a pipe or a device, and runs are read more than once. Save them to a file, and give that.")
    try:
        name = kind or _detect(path)
        return cast("Format", _registry.load(__name__, name, noun="format of runs")).open(path)
    except (OSError, EOFError) as error:
        raise FitError(f"{path} cannot be read: {error}. Check that it is whole and that you may read it.") from error


def _detect(path: Path) -> str:
    from isoflop.readers import _refused
    from isoflop.readers._bytes import head

    if path.is_file() and path.stat().st_size == 0:
        raise FitError(f"{path} is empty. Give a file with a header and a row for each run.")
    start = b"" if path.is_dir() else head(path, HEAD)
    if path.is_file():
        _refused.refuse(path, start)
    formats = {name: cast("Format", _registry.load(__name__, name, noun="format of runs")) for name in kinds()}
    sure = {name: format_.certainty(path, start) for name, format_ in formats.items()}
    best = max(sure, key=lambda name: sure[name])
    if not sure[best]:
        what = "a folder with neither event files, an MLflow store nor W&B runs" if path.is_dir() else "not text, nor of a format that isoflop knows"
        raise FitError(f"{path} is {what}. Formats: {', '.join(kinds())}; `kind` names one.")
    return best


__all__ = ["ROLES", "TOLERANCE", "Format", "Lined", "Table", "equals", "kinds", "levels", "read"]
