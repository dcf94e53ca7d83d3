"""Invented tables of runs, and a check that what reads them gives a result or an error of ours."""

import warnings
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from isoflop.errors import IsoflopError

FEW, MANY = 25, 5000  # examples by default, and in `make slow`


def fuzz(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a Hypothesis test of a reader: a few examples by default, 5,000 in `make slow`."""
    return examples(few=FEW, many=MANY)(test)


def examples(*, few: int, many: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a Hypothesis test: a few examples by default, many in `make slow`."""
    slow = settings.get_current_profile_name() == "slow"
    chosen = settings(
        max_examples=many if slow else few,
        derandomize=not slow,  # the same few every time; new ones in `make slow`
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return lambda test: pytest.mark.fuzz(chosen(test))


def answer_or_error(call: Callable[[], object]) -> object:
    """Return what a call returns, or None where it raises an error of ours; any warning fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call()
        except IsoflopError as error:
            assert str(error)  # noqa: PT017  # that it is one of ours is the fact
            return None


NAMES = {
    "params": "params n_params non_emb_params total_params active_params N config.params",
    "tokens": "tokens unique_tokens D",
    "loss": "loss val_loss train_loss bpb perplexity summary/loss L",
    "flops": "flops total_flops budget flops_budget C",
    "run": "run_id name",
    "length": "step steps seed lr learning_rate batch_tokens batch_size seq_len vocab n_layers n_heads kv_size context group dataset",
    "width": "d_model ffw_size",
    "finished": "status state",
    "false": "diverged",
    "true": "final",
    "llama": "arch",
    "total": "convention",
}
ROLE = {name: role for role, names in NAMES.items() for name in names.split()}
HEADERS = [*ROLE, "params (M)", "tokens (B)", "flops (PF-days)", "loss \u00b1", "", " ", "__MIN", "a - b", "\u2028"]
NUMBERS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "-0.0",
    "1e308",
    "5e-324",
    "1e-320",
    "0x10",
    "1_000",
    "9" * 5000,
    "1,000",
    "1.234,5",
    "½",
    "١٢",
    "1e",
    "+",
    "²",
]
WORDS = [
    "70M", "70M params", "2.6\u00d710^8", "0.4 billion", "2.31 \u00b1 0.002", "many", "#REF!", "None", "true", "False", "=1+1", "finished", "running",
    "CANCELLED by 1001", "TIMEOUT", "[...]", "{}", "\ufeff", "a" * 300, "llama", "gopher", "total", "nonembedding", "with_head",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CELLS = st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.floats().map(repr) | st.integers().map(str) | TEXT


def good(name: str, row: int) -> str:
    """Return a plausible cell of a column: sizes and lengths differ from row to row as those of a sweep do."""
    params, tokens = 1e7 * 2.0 ** (row % 5), 1e9 * 2.0 ** (row // 5)
    values = {
        "params": params,
        "tokens": tokens,
        "loss": 1.7 + 400 / params**0.34 + 400 / tokens**0.28,
        "flops": 6 * params * tokens,
        "run": f"run {row % 5}",
        "length": row // 5 + 1,
        "width": 64 * (row % 5 + 1),
    }
    role = ROLE.get(name, "length")
    return str(values.get(role, role))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Draw a header and rows as texts: mostly plausible, with odd columns, odd cells, and sometimes a column that is odd in every row."""
    header = list(draw(st.sampled_from((("params", "tokens", "loss"), ("run_id", "params", "tokens", "loss", "step"), ("params", "loss", "flops"), ()))))
    header += draw(st.lists(st.sampled_from(HEADERS) | TEXT, max_size=4, unique=True).map(lambda more: [name for name in more if name not in header]))
    n = draw(st.integers(0, 20))
    rows = [[good(name, row) for name in header] for row in range(n)]
    if rows and header:
        for column in draw(st.lists(st.integers(0, len(header) - 1), max_size=2)):
            cell = draw(CELLS)
            for row in rows:
                row[column] = cell
        places = st.tuples(st.integers(0, n - 1), st.integers(0, len(header) - 1), CELLS)
        for row, column, cell in draw(st.lists(places, max_size=4)):
            rows[row][column] = cell
    return header, rows


def typed(text: str) -> object:
    """Return a cell as JSON or Parquet might hold it: a number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text
