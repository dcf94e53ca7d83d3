"""Files that are no table which isoflop reads: named, each with what to do."""

import zipfile
from pathlib import Path

from isoflop.errors import FitError

_EXPORT = "Export the sheet as CSV (UTF-8) in your spreadsheet, and give that file."
_SAVE = "isoflop never runs what a file holds, so it does not open it. Write the table as CSV or Parquet, as with pandas: frame.to_csv('runs.csv')."
_BINARY = {
    b"%PDF": ("a PDF document", "Copy its table into a text file with | between the columns, or as CSV, and give that."),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook (.xls)", _EXPORT),
    b"\x93NUMPY": ("a NumPy array (.npy), which has no names of columns", "Write it as CSV with a header: numpy.savetxt(..., delimiter=',', header=...)."),
    b"\x89HDF": ("an HDF5 file", "Write its table as CSV or Parquet, as with pandas: pandas.read_hdf(FILE).to_csv('runs.csv')."),
    b"ARROW1": ("an Arrow or Feather file", "Write it as Parquet, as with pandas: pandas.read_feather(FILE).to_parquet('runs.parquet')."),
    b"FEA1": ("a Feather file", "Write it as Parquet, as with pandas: pandas.read_feather(FILE).to_parquet('runs.parquet')."),
    b"ORC": ("an ORC file", "Write it as Parquet, as with pandas: pandas.read_orc(FILE).to_parquet('runs.parquet')."),
    b"\x89PNG": ("a picture (PNG)", "Give the numbers behind it as CSV."),
    b"\xff\xd8\xff": ("a picture (JPEG)", "Give the numbers behind it as CSV."),
    b"GIF8": ("a picture (GIF)", "Give the numbers behind it as CSV."),
    b"\xfd7zXZ": ("compressed by xz", "Decompress it first: xz -d FILE. isoflop itself reads .gz, .bz2, .zst and .lz4."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it, and give the file or folder inside."),
    b"Rar!": ("a RAR archive", "Unpack it, and give the file or folder inside."),
    b"\x80\x02": ("a Python pickle", _SAVE),
    b"\x80\x03": ("a Python pickle", _SAVE),
    b"\x80\x04": ("a Python pickle", _SAVE),
    b"\x80\x05": ("a Python pickle", _SAVE),
    b"\xff\xfe\0\0": ("text in UTF-32", "Save the file as UTF-8."),
    b"\0\0\xfe\xff": ("text in UTF-32", "Save the file as UTF-8."),
    b"{\\rtf": ("a rich text document (RTF)", "Save it as plain text or CSV."),
    b"\x7fELF": ("a program", "Give a file of runs."),
}
_MARKUP = {
    b"<!doctype html": ("a web page (HTML)", "A link to a download may have given its web page. Fetch the file itself, or copy the table into a CSV."),
    b"<html": ("a web page (HTML)", "A link to a download may have given its web page. Fetch the file itself, or copy the table into a CSV."),
    b"<table": ("an HTML table", "Write it as CSV, as with pandas: pandas.read_html(FILE)[0].to_csv('runs.csv')."),
    b"<?xml": ("XML", "Write its rows as CSV or JSONL."),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "Fetch the file: git lfs pull."),
    b"\\begin{t": ("a LaTeX table", "Write it as CSV, or with | between the columns."),
    b"\\documentclass": ("a LaTeX document", "Write its table as CSV, or with | between the columns."),
}
_INSIDE = (  # a name in a ZIP archive that tells what it is, best first
    ("xl/workbook", "an Excel workbook (.xlsx)", _EXPORT),
    ("content.xml", "an OpenDocument file (.ods)", _EXPORT),
    ("Index/Document", "a Numbers sheet (.numbers)", _EXPORT),
    ("word/document", "a Word document (.docx)", "Copy its table into a CSV file, and give that."),
    ("data.pkl", "a PyTorch file", _SAVE),
    (".npy", "NumPy arrays (.npz)", "Write them as CSV with a header: numpy.savetxt(..., delimiter=',', header=...)."),
)
_TAR = slice(257, 262)  # where a tar archive says that it is one


def refuse(path: Path, start: bytes) -> None:
    """Refuse a file that is known and no table.

    Args:
        path: The file.
        start: Its first bytes, uncompressed.

    Raises:
        FitError: The file's format by name, and what to do.
    """
    known = _known(path, start)
    if known is not None:
        what, advice = known
        raise FitError(f"{path} is {what}, which isoflop does not read. {advice}")


def _known(path: Path, start: bytes) -> tuple[str, str] | None:
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if start[_TAR] == b"ustar":
        return "a tar archive", "Unpack it, and give the file or folder inside."
    for magic, known in _BINARY.items():
        if start.startswith(magic):
            return known
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, known in _MARKUP.items():
        if text.startswith(magic):
            return known
    return _utf16(start)


def _zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return "a damaged ZIP archive", "Fetch it again, unpack it, and give the file or folder inside."
    for inside, what, advice in _INSIDE:
        if any(inside in name for name in names):
            return what, advice
    return "a ZIP archive", "Unpack it, and give the file or folder inside."


def _utf16(start: bytes) -> tuple[str, str] | None:
    """Tell UTF-16 without a byte order mark by the zeros of its Latin letters, which stand in every second place."""
    even, odd = start[:2000:2], start[1:2000:2]
    few, many = sorted((even.count(0), odd.count(0)))
    if len(start) > 3 and many > 0.8 * len(odd) and few < 0.1 * len(odd):
        return "text in UTF-16 without a byte order mark", "Save the file as UTF-8 (in an editor: save with encoding), and give that."
    return None
