"""A filter over the columns of a file: parsed, never executed."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import UnknownNameError, UsageError
from isoflop.readers import _expression, _values
from isoflop.readers._columns import find, nearest
from isoflop.readers._expression import LONGEST, NotArithmeticError

Mask = NDArray[np.bool_]
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_REVERSED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A choice of rows."""

    text: str
    tree: ast.expr
    names: Mapping[str, str]  # as written -> column

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.names.values()))

    def mask(self, batch: Mapping[str, Any], rows: int) -> Mask:
        """Return which rows of a batch are chosen.

        Raises:
            UsageError: A column that is neither true nor false stands where it should be, or a number or nesting that is too much.
        """
        try:
            with np.errstate(all="ignore"):
                return np.broadcast_to(_Row(self, batch).truth(self.tree), (rows,))
        except (RecursionError, OverflowError):
            raise _refused(self.text, "it is nested too deeply, or holds a whole number beyond all floats") from None


def parse(text: str, columns: tuple[str, ...]) -> Filter:
    """Read a filter.

    Raises:
        UsageError: Not a filter.
        UnknownNameError: A name that is no column.
    """
    if len(text) > LONGEST:
        raise UsageError(f"a filter of {len(text):,} characters is not read; {LONGEST:,} are the most. Add a column to the file that says which rows.")
    try:
        tree, names = _expression.parsed(text, lambda name: find(name, columns))
    except NotArithmeticError as error:
        raise _refused(text, str(error)) from None
    except UnknownNameError as error:
        written = str(error)
        more = " A name with other signs than letters stands between backticks: `eval/loss`." if any("/" in c or " " in c for c in columns) else ""
        raise UnknownNameError(f"--where {text!r}: there is no column {written!r}.{nearest(written, columns)}{more}") from None
    chosen = Filter(text=text, tree=tree, names=names)
    _check(chosen)
    return chosen


def _check(chosen: Filter) -> None:
    import pyarrow as pa

    chosen.mask({c: pa.array([], pa.string()) for c in chosen.columns}, 0)  # on no rows, so that a refusal comes before a file is read


def _refused(text: str, why: str) -> UsageError:
    return UsageError(
        f"--where {text!r} is not a filter: {why}. Write columns, numbers and quoted texts with == != < <= > >= in, and, or, not, "
        f"as in \"flops <= 1e20 and dataset == 'c4'\"."
    )


@dataclass(frozen=True)
class _Row:
    """A filter over one batch."""

    chosen: Filter
    batch: Mapping[str, Any]

    def truth(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return combine.reduce(np.broadcast_arrays(*[self.truth(value) for value in values]))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self.truth(operand))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                pairs = zip([left, *comparators], ops, comparators, strict=False)
                return np.logical_and.reduce(np.broadcast_arrays(*[self.compared(a, op, b) for a, op, b in pairs]))
            case ast.Constant(value=bool() as value):
                return np.bool_(value)
            case ast.Name(id=name):
                true, neither = _values.truths(self.column(name))
                if neither is not None:
                    raise _refused(self.chosen.text, f"column {self.chosen.names[name]!r} holds {neither!r}, which is neither true nor false")
                return true
        raise self.refused(node)

    def compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise _refused(self.chosen.text, "after `in` stands a list, as in ('c4', 'rw')")
            found = np.logical_or.reduce(np.broadcast_arrays(*[self.compared(left, ast.Eq(), one) for one in right.elts]))
            return np.logical_not(found) if isinstance(op, ast.NotIn) else found
        if type(op) not in _COMPARE:
            raise _refused(self.chosen.text, "`is` compares nothing here")
        if isinstance(left, ast.Constant) and not isinstance(right, ast.Constant):
            return self.compared(right, _REVERSED.get(type(op), type(op))(), left)
        if isinstance(right, ast.Constant) and isinstance(right.value, bool | str) and isinstance(op, ast.Eq | ast.NotEq):
            same = self.truth(left) == right.value if isinstance(right.value, bool) else self.says(left, right.value)
            return same if isinstance(op, ast.Eq) else np.logical_not(same)
        return _COMPARE[type(op)](self.number(left), self.number(right))

    def says(self, node: ast.expr, text: str) -> Any:
        if not isinstance(node, ast.Name):
            raise self.refused(node)
        import pyarrow.compute as pc

        same = pc.equal(_values.texts(self.column(node.id)), text.strip())
        return pc.fill_null(same, text.strip() == "").to_numpy(zero_copy_only=False).astype(bool)

    def number(self, node: ast.expr) -> Any:
        try:
            return _expression.number(node, self.column)
        except NotArithmeticError as error:
            why = str(error).replace("a number", "a comparison") if "neither a column" in str(error) else str(error)
            raise _refused(self.chosen.text, why) from None

    def column(self, name: str) -> Any:
        return self.batch[self.chosen.names[name]]

    def refused(self, node: ast.expr) -> UsageError:
        return _refused(self.chosen.text, f"{ast.unparse(node)!r} is neither a column nor a comparison")
