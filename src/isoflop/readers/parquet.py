"""Parquet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import FitError

ROWS = 1 << 18  # read at once: memory does not grow with the file


def certainty(path: Path, start: bytes) -> int:
    """By its first four bytes."""
    return 2 if path.is_file() and start[:4] == b"PAR1" else 0


def open(path: Path) -> "Parquet":  # noqa: A001  # readers.parquet.open is how it is said
    """A Parquet file.

    Raises:
        FitError: Cut short or damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return Parquet(path=path, columns=tuple(file.schema_arrow.names))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FitError(
            f"{path} is no whole Parquet file: {error}. Its index stands at the end, so a file cut short has none; write or fetch it again."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """A Parquet file."""

    path: Path
    columns: tuple[str, ...]

    def batches(self, wanted: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], float]]:
        """Columns, some thousand rows at a time.

        Raises:
            FitError: Damaged, with the row at which it was seen.
        """
        import pyarrow as pa
        from pyarrow import parquet

        done = 0
        try:
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(ROWS, columns=list(wanted)):
                    batch.validate(full=True)  # a text that is not UTF-8 would fail far from here
                    done += batch.num_rows
                    yield dict(zip(batch.schema.names, batch.columns, strict=True)), done / max(file.metadata.num_rows, 1)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FitError(f"{self.path}, after row {done}, columns {', '.join(wanted)}: {error}. The file is damaged; write or fetch it again.") from error
