"""Fits kept as JSON come back to the last bit; whatever was not written by isoflop is refused in words."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulated
from conformance.test_laws import LAWS
from isoflop import fit
from isoflop.errors import UsageError
from isoflop.fit import Blend, Fit, Fits, Frontier, LeftOut, _codec, saved
from isoflop.fit.account import Account, groups
from isoflop.fit.forecast import Forecast, Member
from isoflop.fit.holdout import Holdout, Trial
from isoflop.laws import Law
from isoflop.runs import Curve, Dropped, Runs

ODD = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2)


@functools.cache
def runs() -> Runs:
    records = simulated.sweep()
    return Runs.from_records(records, curve=lambda run: simulated.curve(next(r for r in records if r.id == run)))


@functools.cache
def account() -> Account:
    dropped = (Dropped("row 3", "loss is nan"), Dropped("1,234 rows", "not chosen"))
    return Account.of(dataclasses.replace(runs(), dropped=dropped), "runs.csv")


def made(approach: str) -> Fit:
    """With few resamples and optima: a file is read some hundred times below."""
    found = fit.fit(runs(), approach=approach, resamples=9)
    frontier = Frontier(**{f.name: getattr(found.frontier, f.name)[:5] for f in dataclasses.fields(Frontier)})
    return dataclasses.replace(found, frontier=frontier)


@functools.cache
def fits() -> Fits:
    """The three approaches with a hold-out and a forecast whose one member is among them and whose other is not."""
    three = tuple(made(approach) for approach in fit.APPROACHES)
    trials = (
        Trial(by="isoflop", fitted_flops=1e11, flops=1e12, loss=1.5, observed=1.4),
        Trial(by="parametric", fitted_flops=1.0, flops=2.0, loss=3.0, observed=4.0),
    )
    held = Holdout(trials=trials, left_out=(("envelope", "too coarse"),))
    other = dataclasses.replace(three[0], objective=math.inf, noise=math.nan)
    members = (Member(name="isoflop", fit=three[1], weight=0.7), Member(name="other", fit=other, weight=0.3))
    loss, size = Blend(members=members, drift=math.nan, why="a reason"), Blend(members=members[:1], drift=math.inf, why="another")
    forecast = Forecast(loss=loss, size=size, freedom=3, noise=-0.0)
    return Fits(fits=three, left_out=(LeftOut("envelope", "none"),), holdout=held, forecast=forecast)


@functools.cache
def text() -> str:
    return saved.dumps(fits(), account(), said={"fits": ["in words"], "level": 0.8})


def bits(numbers: np.ndarray) -> bytes:
    """Of every number; one kind of NaN, for JSON has none of its own."""
    return (np.where(np.isnan(numbers), np.nan, numbers) if numbers.dtype == float else numbers).tobytes()


def same(a: object, b: object) -> bool:
    """Equal to the last bit and of one type, all the way down."""
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, float) and isinstance(b, float):
        return bits(np.array(a)) == bits(np.array(b))
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def forged(change) -> str:
    """The file after a change of its exact part, with a digest that is right."""
    document = json.loads(text())
    change(document["exact"])
    document["sha256"] = saved._digest(document["exact"])
    return json.dumps(document)


def test_fits_come_back_to_the_last_bit():
    back = saved.loads(text())
    assert same(back.fits, fits())
    assert same(back.account, account())
    assert saved.dumps(back.fits, back.account, said={"fits": ["in words"], "level": 0.8}) == text()


def test_the_comparison_of_these_tests_sees_one_bit():
    one = fits().fits[2]
    residuals = one.residuals.copy()
    residuals[-1] = np.nextafter(residuals[-1], 9.0)
    assert same(one, dataclasses.replace(one))
    assert not same(one, dataclasses.replace(one, residuals=residuals))
    assert not same(one, dataclasses.replace(one, resamples=one.resamples[:-1]))
    assert not same(0.0, -0.0)


def test_a_member_of_the_forecast_that_is_one_of_the_fits_is_kept_once():
    back = saved.loads(text()).fits
    assert back.forecast.loss.members[0].fit is back.fits[1]
    assert json.loads(text())["exact"]["rest"]["forecast"]["loss"]["members"][0]["fit"] == 1


def test_what_is_kept_answers_as_what_was_made():
    for kept, first in zip(saved.loads(text()).fits, fits(), strict=True):
        assert kept.interval(lambda law: law.a) == first.interval(lambda law: law.a)
        assert kept.prediction_interval(1e13) == pytest.approx(first.prediction_interval(1e13), rel=0, abs=0, nan_ok=True)
        assert kept.form == first.form


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_law_of_every_form_comes_back(law):
    assert same(_codec.read(Law, _codec.plain(law), "law"), law)
    many = (law, dataclasses.replace(law), law)
    assert same(_codec.read(tuple[Law, ...], json.loads(json.dumps(_codec.plain(many))), "laws"), many)


def test_laws_of_several_forms_come_back():
    many = tuple(LAWS.values())
    assert same(_codec.read(tuple[Law, ...], json.loads(json.dumps(_codec.plain(many))), "laws"), many)
    assert _codec.read(tuple[Law, ...], _codec.plain(()), "laws") == ()


@given(st.lists(st.one_of(st.floats(), st.sampled_from(ODD))))
def test_every_number_comes_back(numbers):
    kept = dataclasses.replace(fits().fits[0], residuals=np.array(numbers, dtype=float), noise=numbers[0] if numbers else 0.5)
    assert same(saved.loads(saved.dumps(Fits(fits=(kept,), left_out=()), account())).fits.fits[0], kept)


def test_the_file_is_json_that_any_reader_takes():
    document = json.loads(text(), parse_constant=pytest.fail)
    assert document["fits"] == ["in words"]
    assert (document["format"], document["version"]) == ("isoflop fits", 1)


def test_another_programs_spacing_and_ones_without_a_point_change_nothing():
    def whole(value):
        match value:
            case float() if value.is_integer() and abs(value) < 2**53 and math.copysign(1, value) > 0:
                return int(value)
            case dict():
                return {key: whole(v) for key, v in reversed(value.items())}
            case list():
                return [whole(v) for v in value]
        return value

    assert same(saved.loads(json.dumps(whole(json.loads(text())), indent=3)).fits, fits())


def test_a_changed_number_is_noticed():
    document = json.loads(text())
    document["exact"]["fits"][0]["reach_flops"] *= 1 + 1e-15
    with pytest.raises(UsageError, match="changed after it was written"):
        saved.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(fits=[]), "no fit"),
        (lambda d: d.pop("account"), "lacks account"),
        (lambda d: d["fits"][0].pop("law"), r"fits\[0\] lacks law"),
        (lambda d: d["fits"][0].update(surprise=1), "surprise"),
        (lambda d: d["fits"][0].update(n_runs=1.5), "n_runs is 1.5"),
        (lambda d: d["fits"][0].update(approach="4"), "must be one of envelope"),
        (lambda d: d["fits"][0].update(residuals={"a": 1}), "must be a list"),
        (lambda d: d["fits"][0].update(residuals=[None]), r"residuals\[0\] is None"),
        (lambda d: d["fits"][0].update(reach_flops=10**400), "too large"),
        (lambda d: d["fits"][0]["law"].update(form="hoffman"), "no form of law 'hoffman'"),
        (lambda d: d["fits"][2]["law"]["constants"].update(alpha=-1.0), "alpha of a Chinchilla law is -1.0"),
        (lambda d: d["fits"][2]["resamples"]["constants"]["alpha"].pop(), "unequal length"),
        (lambda d: d["fits"][2]["resamples"].update(constants=[]), "object of lists"),
        (lambda d: d["rest"]["forecast"]["loss"]["members"][0].update(fit=9), "members"),
        (lambda d: d["rest"].update(left_out=[["envelope"]]), "left_out"),
        (lambda d: d["fits"][2]["law"]["constants"].update(A=1e308), r"fits\[2\].law gives no number"),
        (lambda d: d["fits"][2]["law"]["constants"].update(alpha=1e-300), r"fits\[2\].law gives no number"),
        (lambda d: d["account"].update(convention="both"), "convention"),
        (lambda d: d["account"].update(smallest_flops="nan"), "smallest_flops is nan"),
        (lambda d: d["fits"][1].update(reach_flops=-1e9), r"fits\[1\].reach_flops is -1000000000.0"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(UsageError, match=words):
        saved.loads(forged(change))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[]", "does not say"),
        ('{"format": "isoflop fits"}', "version None"),
        ('{"format": "isoflop fits", "version": 2, "exact": {}}', "version 2, and this isoflop reads version 1"),
        ('{"format": "isoflop fits", "version": 1}', "no part 'exact'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "isoflop fits", "version": 1, "exact": {"a": ' + "9" * 5000 + "}}", "not JSON"),
        ('{"format": "isoflop fits", "version": 1, "exact": {"account": NaN}}', "digest"),
    ],
)
def test_what_is_no_file_of_fits_is_refused(content, words):
    with pytest.raises(UsageError, match=words) as caught:
        saved.loads(content, name="x.json")
    assert str(caught.value).startswith("x.json")
    assert "isoflop fit RUNS --out" in str(caught.value)


@given(st.integers(0, 10**9))
def test_a_file_cut_anywhere_is_refused(where):
    cut = text()[: where % (len(text()) - 2)]
    with pytest.raises(UsageError):
        saved.loads(cut)


@given(st.integers(0, 10**9), st.text(min_size=1, max_size=3))
def test_a_file_altered_anywhere_is_refused_or_the_same(where, letters):
    at = where % len(text())
    altered = text()[:at] + letters + text()[at + len(letters) :]
    try:
        back = saved.loads(altered)
    except UsageError:
        return
    assert same(back.fits, fits())  # what stands in words, or a space


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["nan", "inf", "chinchilla", "powerlaw"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), values)
def test_a_forged_file_is_read_or_refused_but_never_breaks(path, value):
    def change(exact):
        at = exact
        for step in path:
            inside = at[key(at, step)]
            if not isinstance(inside, dict | list) or not inside:
                break
            at = inside
        at[key(at, path[-1])] = value

    def key(at, step):
        return list(at)[step % len(at)] if isinstance(at, dict) else step % len(at)

    try:
        back = saved.loads(forged(change))
    except UsageError:
        return
    assert isinstance(back.fits, Fits)


def test_an_account_counts_every_row_once_and_by_reason():
    dropped = (Dropped("row 1", "loss: nan"), Dropped("row 2", "loss: inf"), Dropped("1,234 rows", "not chosen"), Dropped("row 9", "diverged: at 3"))
    seen = dataclasses.replace(account(), dropped=dropped, curves=False)
    assert groups(dropped) == (("not chosen", 1234, "1,234 rows"), ("loss", 2, "row 1"), ("diverged: at 3", 1, "row 9"))
    assert seen.read == seen.kept + 1237


def test_fitting_again_is_not_needed_to_plan(monkeypatch):
    content = text()
    monkeypatch.setattr(fit, "fit", lambda *_, **__: pytest.fail("fitted anew"))
    assert len(saved.loads(content).fits) == 3


def test_rows_of_curves_are_not_counted_as_runs():
    """Rows that were dropped beside runs that have many each are rows; where each row is a run, they are runs."""
    dropped = (Dropped("row 7, line 8", "no loss"), Dropped("1,234 rows", "not chosen"), Dropped("some", "diverged: its last loss is NaN"))
    dropped = (*dropped, Dropped("120 runs", "status 'failed': it did not end well"))
    single, curves = (Account.of(dataclasses.replace(some, dropped=dropped), "x") for some in (without_curves(runs()), runs()))
    assert (curves.read, curves.rows) == (len(runs()) + 121, 1235)
    assert (single.read, single.rows) == (len(runs()) + 121 + 1235, 0)


def without_curves(some: Runs) -> Runs:
    return dataclasses.replace(some, curves=(Curve(np.empty(0), np.empty(0)),) * len(some))


def test_an_account_without_the_word_curves_is_read_as_before():
    kept = json.loads(saved.dumps(fits(), account()))
    del kept["exact"]["account"]["curves"]
    kept["sha256"] = saved._digest(kept["exact"])
    assert not saved.loads(json.dumps(kept)).account.curves
