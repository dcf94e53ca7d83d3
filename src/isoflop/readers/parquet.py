"""Parquet."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop import _bounded
from isoflop.errors import FitError
from isoflop.readers._bytes import ALWAYS_READ, MOST_EXPANSION, check_rows

ROWS = 1 << 18  # read at once: memory does not grow with the file
AT_ONCE = 1 << 26  # bytes of the columns that are read at once; fewer rows where they are wide
LONGEST_CELL = 1 << 16  # bytes; assumption: no value, name or status of a run takes 64 kB


def certainty(path: Path, start: bytes) -> int:
    """Tell by the first four bytes."""
    return 2 if path.is_file() and start[:4] == b"PAR1" else 0


def open(path: Path) -> "Parquet":  # noqa: A001  # readers.parquet.open is how it is said
    """Open a Parquet file.

    Raises:
        FitError: Cut short or damaged.
    """
    import pyarrow as pa

    try:
        with path.open("rb") as raw:
            list(_bounded.chunks(raw))  # a damaged index would end the process in pyarrow
        with _file(path) as file:
            check_rows(path, file.metadata.num_rows)
            return Parquet(path=path, columns=tuple(file.schema_arrow.names))
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        raise FitError(
            f"{path} is no whole Parquet file: {error}. Its index stands at the end, so a file cut short has none; write or fetch it again."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """A Parquet file."""

    path: Path
    columns: tuple[str, ...]

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Yield columns, some thousand rows at a time.

        Raises:
            FitError: Damaged, with the row at which it was seen; or larger than a table of runs can be.
        """
        import pyarrow as pa

        done = 0
        try:
            with _file(self.path, wanted) as file:
                rows = self._at_once(file, wanted)
                for batch in file.iter_batches(rows, columns=list(wanted), use_threads=False):
                    batch.validate(full=True)  # a text that is not UTF-8 would fail far from here
                    for part in self._slices(batch):
                        done += part.num_rows
                        yield dict(zip(part.schema.names, part.columns, strict=True)), done / max(file.metadata.num_rows, 1)
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            raise FitError(f"{self.path}, after row {done}, columns {', '.join(wanted)}: {error}. The file is damaged; write or fetch it again.") from error

    def _at_once(self, file: Any, wanted: tuple[str, ...]) -> int:
        """Return how many rows are read at once, by the sizes that the file gives for its columns."""
        size, rows = self.path.stat().st_size, file.metadata.num_rows
        with self.path.open("rb") as raw:
            chunks = [chunk for chunk in _bounded.chunks(raw) if chunk.column in wanted or chunk.column.split(".")[0] in wanted]
            pages = [_bounded.largest_page(raw, chunk.start, chunk.end) for chunk in chunks]  # readers allocate what a page declares
        text = max([sum(chunk.unpacked for chunk in chunks), *pages])
        if text > max(ALWAYS_READ, MOST_EXPANSION * size):
            raise FitError(
                f"{self.path} takes {size:,} bytes on disk, and its columns {text / 1e6:,.0f} MB in memory. "
                f"No table of runs shrinks {MOST_EXPANSION} times, so isoflop does not read it."
            )
        return int(min(ROWS, max(1, AT_ONCE * rows // max(text, 1))))

    def _slices(self, batch: Any) -> Iterator[Any]:
        """Yield a batch in parts that stay small when texts that are kept once are written out for every row."""
        import pyarrow as pa
        import pyarrow.compute as pc

        longest = 1
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_dictionary(column.type) and len(column.dictionary):
                length = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
                if length > LONGEST_CELL:
                    raise FitError(f"{self.path}, column {name!r}: a cell holds {length:,} bytes, so it is no value of a run. Leave that column out.")
                longest = max(longest, length)
        rows = max(1, AT_ONCE // longest)
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


@contextmanager
def _file(path: Path, wanted: tuple[str, ...] = ()) -> Iterator[Any]:
    """Open a file; texts among the wanted columns are kept once each."""
    import pyarrow as pa
    from pyarrow import parquet

    with pa.OSFile(os.fsencode(path)) as raw:
        with parquet.ParquetFile(raw) as file:
            kinds = {field.name: field.type for field in file.schema_arrow if field.name in wanted}
            texts = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
        raw = pa.OSFile(os.fsencode(path))  # noqa: PLW2901  # the first is closed with its reader
        with raw, parquet.ParquetFile(raw, read_dictionary=texts, buffer_size=1 << 20, pre_buffer=False) as file:
            yield file
