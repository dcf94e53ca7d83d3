"""TOML: a study file is read within bounds, and values are written as TOML has them."""

import contextlib
import difflib
import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from isoflop import units
from isoflop.errors import StudyError

MOST_LOOKED_AT = 1000  # entries of a folder, for the name that was meant
LONGEST = 1_000_000  # bytes; a study is a page

_ESCAPES = {"\\": "\\\\", '"': '\\"'} | {chr(code): f"\\u{code:04x}" for code in (*range(0x20), 0x7F)}


def read(path: Path) -> dict[str, object]:
    """Return the values of a TOML file.

    Raises:
        StudyError: The file is not there, not text, too long or not TOML.
    """
    name = units.shown(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST + 1)
        text = raw.decode("utf-8-sig")  # editors of Windows put a mark at the front
    except FileNotFoundError:
        raise StudyError(f"there is no study file {name}.{_nearest(path)} To write one that runs as it is: isoflop init") from None
    except UnicodeDecodeError:
        coded = "It is UTF-16: save it as UTF-8." if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else "A study is a TOML file, which is UTF-8 text."
        raise StudyError(f"{name} cannot be read as a study. {coded}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise StudyError(f"{name} cannot be read as a study: {getattr(error, 'strerror', None) or error}.") from None
    if len(raw) > LONGEST:
        raise StudyError(f"{name} has more than {LONGEST:,} bytes, which no study has. Give a study file (TOML), or the folder of a study.")
    return _parsed(text, name)


def _parsed(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        advice = 'In TOML, text is in quotes and a list in brackets: name = "novels", budgets = ["1e11", "2e11", "4e11"].'
        raise StudyError(f"{name} is not valid TOML: {error}. {advice}") from None
    except RecursionError:
        raise StudyError(f"{name} is not a study: its brackets are nested too deeply.") from None
    except ValueError:  # Python converts no more than 4,300 digits
        raise StudyError(f"{name} is not a study: one of its numbers has thousands of digits. Write it like 5.76e23.") from None


def check_integers(values: object, source: str, key: str = "") -> None:
    """Refuse integers of more than 64 bits, which TOML does not have.

    Raises:
        StudyError: One is larger.
    """
    match values:
        case bool():
            return
        case int() if not -(2**63) <= values < 2**63:
            raise StudyError(f"{source}: {key}: a whole number of {values.bit_length()} bits is too large; TOML has 64. Write it like 5.76e23.")
        case Mapping():
            for name, part in values.items():
                check_integers(part, source, f"{key}.{name}".lstrip("."))
        case list() | tuple():
            for part in values:
                check_integers(part, source, key)


def value(written: object) -> str:
    """Return a value as a TOML file has it; floats in as few digits as read back the same."""
    match written:
        case float() if 1e6 <= written < float("inf"):  # 1.6e+12
            return next(text for digits in range(18) if float(text := f"{written:.{digits}e}") == written)
        case str():
            return '"' + "".join(_ESCAPES.get(letter, letter) for letter in written) + '"'
        case BaseModel():
            return _table(dict(written))
        case Mapping():
            return _table(written)
        case tuple() | list():
            return "[" + ", ".join(value(part) for part in written) + "]"
        case _:
            return repr(written).lower() if isinstance(written, bool) else repr(written)


def _table(pairs: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key} = {value(part)}" for key, part in pairs.items()) + "}"


def _nearest(path: Path) -> str:
    """Return which file was probably meant, as a sentence."""
    folder = path.parent
    with contextlib.suppress(OSError):
        names = [entry.name for entry in itertools.islice(folder.iterdir(), MOST_LOOKED_AT) if entry.suffix == ".toml" or (entry / "study.toml").is_file()]
        near = difflib.get_close_matches(path.name, names, n=1) or [name for name in names if Path(name).stem == path.name]
        if near:
            return f" Did you mean {units.shown(folder / near[0])}?"
    return ""
