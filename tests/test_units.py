"""Quantities read and print the same everywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop import units
from isoflop.errors import UnitError


@pytest.mark.parametrize(
    ("text", "value"),
    [("70M", 70e6), ("1.4T", 1.4e12), ("5.76e23", 5.76e23), ("70b", 70e9), (" 3k ", 3e3), ("1_000", 1e3), ("2,000", 2e3), (12, 12.0), (0.5, 0.5), (".5M", 5e5)],
)
def test_reads_what_people_write(text, value):
    assert units.read(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["70X", "", "M", "-3", "0", "nan", "inf", "1e400", "1e", "1..2", "3 h 4", True, None, float("nan")])
def test_refuses_what_is_no_positive_finite_quantity(text):
    with pytest.raises(UnitError, match="70M"):
        units.read(text)


@given(st.floats(min_value=1, max_value=9e17))
def test_a_printed_count_reads_back_within_its_digits(value):
    assert math.isclose(units.read(units.count(value)), value, rel_tol=0.5 if value < 10 else 0.06 if value < 100 else 0.0051)


@given(st.floats(min_value=1e-3, max_value=1e30))
def test_printed_flops_read_back_within_three_digits(value):
    assert math.isclose(units.read(units.flops(value)), value, rel_tol=0.0051)


@pytest.mark.parametrize(("value", "text"), [(70e9, "70.0B"), (1.4e12, "1.40T"), (999.6e3, "1.00M"), (42, "42"), (123456, "123k")])
def test_counts_print_with_three_digits(value, text):
    assert units.count(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (600, "10 min"), (3 * 3600, "3.0 h"), (5 * 86400, "5.0 days")])
def test_durations_print_in_the_unit_a_person_would_take(seconds, text):
    assert units.duration(seconds) == text
