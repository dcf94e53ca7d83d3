"""Arithmetic over the columns of a file: parsed, never executed."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import units
from isoflop.errors import UnitError, UnknownNameError, UsageError
from isoflop.runs import Floats

LONGEST = 2000  # characters; assumption: nobody writes more by hand, and a parser's depth has an end
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`([^`]+)`""")
Find = Callable[[str], str | None]  # a name as written -> the column, None if there is none


class NotArithmeticError(UsageError):
    """A text that is no arithmetic over columns; the message says why, as a phrase."""


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A number for each row, computed from columns."""

    text: str
    tree: ast.expr
    names: Mapping[str, str]  # as written -> column

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.names.values()))

    def numbers(self, batch: Mapping[str, Any], rows: int) -> tuple[Floats, NDArray[np.int8]]:
        """Return the numbers of a batch, NaN where a column has none, and what each is: `GIVEN`, `MISSING` or `TEXT` of `_values`."""
        from isoflop.readers import _values

        kinds = np.zeros(rows, dtype=np.int8)
        for column in self.columns:
            kinds = np.maximum(kinds, _values.numbers(batch[column])[1])
        with np.errstate(all="ignore"):
            found = np.broadcast_to(np.asarray(number(self.tree, lambda name: batch[self.names[name]]), dtype=float), (rows,))
        return found, kinds


def column(name: str) -> Expression:
    """Return a column by itself."""
    return Expression(text=name, tree=ast.Name(id="column_"), names={"column_": name})


def parse(text: str, find: Find) -> Expression:
    """Read arithmetic over columns, such as "steps * batch_size * seq_len".

    Raises:
        NotArithmeticError: Not arithmetic.
        UnknownNameError: A name that is no column; the message is that name.
    """
    tree, names = parsed(text, find)
    found = Expression(text=text.strip(), tree=tree, names=names)
    if not names:
        raise NotArithmeticError("it names no column")
    try:
        import pyarrow as pa

        found.numbers(dict.fromkeys(found.columns, pa.array([], pa.string())), 0)  # on no rows, so that a refusal comes before a file is read
    except (RecursionError, OverflowError):
        raise NotArithmeticError("it is nested too deeply, or holds a whole number beyond all floats") from None
    return found


def parsed(text: str, find: Find) -> tuple[ast.expr, Mapping[str, str]]:
    """Parse a text whose names are columns; a name with other signs than letters stands between backticks.

    Raises:
        NotArithmeticError: Too long, or no Python expression.
        UnknownNameError: A name that is no column; the message is that name.
    """
    quoted: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        name = f"column_{len(quoted)}_"
        quoted[name] = match[1]
        return name

    if len(text) > LONGEST:
        raise NotArithmeticError(f"it has {len(text):,} characters, and {LONGEST:,} are the most")
    try:
        tree = ast.parse(_QUOTED.sub(plain, text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotArithmeticError(f"it does not parse ({getattr(error, 'msg', error)})") from None
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            written = quoted.get(node.id, node.id)
            found = find(written)
            if found is None:
                raise UnknownNameError(written)
            names[node.id] = found
    return tree, names


def number(node: ast.expr, cells: Callable[[str], Any]) -> Any:
    """Return the value of a node: a number, or an array of shape (rows,).

    Args:
        node: Of a parsed text.
        cells: Gives the cells of a name.

    Raises:
        NotArithmeticError: Not a column, a number or arithmetic.
    """
    from isoflop.readers import _values

    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return np.float64(value)
        case ast.Constant(value=str() as text):
            try:
                return np.float64(units.read(text))
            except UnitError as error:
                raise NotArithmeticError(str(error)) from None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
            return -number(operand, cells) if isinstance(op, ast.USub) else number(operand, cells)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](number(left, cells), number(right, cells))
        case ast.Name(id=name):
            return _values.numbers(cells(name))[0]
    raise NotArithmeticError(f"{ast.unparse(node)!r} is neither a column nor a number")
