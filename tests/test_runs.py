"""Runs as columns: nothing is dropped in silence, and order changes nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isoflop import arch
from isoflop.errors import FitError
from isoflop.runs import Clock, Curve, RunRecord, Runs, RunSpec

CLOCK = Clock(seconds=1, finished="2026-01-01T00:00:00+00:00", attempt=1, device="d", versions={})
EMPTY = Curve(np.empty(0), np.empty(0))


def spec_of(width=16, **values) -> RunSpec:
    shape = arch.get("llama").at(width, vocab=256, context=32)
    defaults = {"shape": shape, "tokens": 6400, "batch": 64, "lr": 0.01, "seed": 0, "data": "d", "eval_tokens": 64, "budget": 1e9, "group": "isoflop"}
    return RunSpec(**(defaults | values))


def record_of(spec, *, loss=2.0, status="ok", reason="") -> RunRecord:
    return RunRecord(
        id=spec.id,
        spec=spec,
        status=status,
        reason=reason,
        loss=loss,
        bits_per_byte=loss,
        params=spec.shape.params,
        tokens=spec.tokens,
        flops=spec.flops,
        epochs=1,
        clock=CLOCK,
    )


def columns(records, **options) -> Runs:
    return Runs.from_records(records, curve=lambda _: EMPTY, **options)


def test_the_id_is_the_hash_of_all_that_changes_the_result():
    spec = spec_of()
    assert spec.id == spec_of().id
    changes = {
        "tokens": 12800,
        "batch": 128,
        "lr": 0.02,
        "seed": 1,
        "data": "e",
        "eval_tokens": 128,
        "threads": 2,
        "budget": 2e9,
        "group": "noise",
        "label": "x",
    }
    others = [spec_of(**{key: value}) for key, value in changes.items()] + [spec_of(width=20)]
    assert len({spec.id, *(other.id for other in others)}) == len(others) + 1


def test_a_record_reads_back_equal():
    record = record_of(spec_of())
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_an_unknown_field_of_a_record_is_refused():
    values = json.loads(record_of(spec_of()).model_dump_json()) | {"surprise": 1}
    with pytest.raises(ValidationError, match="surprise"):
        RunRecord.model_validate(values)


@given(st.permutations(range(6)))
def test_order_of_records_does_not_matter(order):
    records = [record_of(spec_of(seed=i), loss=2 + i / 10) for i in range(6)]
    shuffled, straight = columns([records[i] for i in order]), columns(records)
    assert shuffled.ids == straight.ids
    assert shuffled.digest == straight.digest


def test_what_is_not_ok_is_counted_with_its_reason():
    bad = record_of(spec_of(seed=1), loss=None, status="diverged", reason="the loss is nan")
    runs = columns([record_of(spec_of()), bad])
    assert len(runs) == 1
    assert runs.dropped[0].id == bad.id
    assert runs.dropped[0].reason == "diverged: the loss is nan"


def test_without_a_good_run_there_is_nothing_to_fit():
    with pytest.raises(FitError, match="none of 1 runs"):
        columns([record_of(spec_of(), loss=None, status="failed", reason="x")])


def test_params_are_counted_by_the_convention_asked_for():
    record = record_of(spec_of())
    total, bare = (columns([record], convention=c).params[0] for c in ("total", "nonembedding"))
    assert total - bare == record.params.embedding


def test_groups_are_chosen_by_name():
    records = [record_of(spec_of()), record_of(spec_of(group="proof"))]
    assert columns(records, groups=["isoflop"]).group == ("isoflop",)


def test_runs_made_elsewhere_cost_6nd_unless_they_say():
    runs = Runs.from_columns(params=np.array([1e15]), tokens=np.array([1e15]), loss=np.array([2.0]))
    assert runs.flops[0] == 6e30  # beyond int64


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("column", ["params", "tokens", "loss"])
def test_a_value_that_cannot_be_is_refused_with_its_place(column, bad):
    values = {"params": np.ones(3), "tokens": np.ones(3), "loss": np.ones(3)}
    values[column] = np.array([1.0, bad, 1.0])
    with pytest.raises(FitError, match=f"{column} of run 1"):
        Runs.from_columns(**values)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(FitError, match="equally long"):
        Runs.from_columns(params=np.ones(3), tokens=np.ones(2), loss=np.ones(3))


def test_selecting_counts_what_it_leaves_out():
    runs = columns([record_of(spec_of(seed=i), loss=2 + i) for i in range(3)])
    few = runs.select(runs.loss < 4, reason="too high")
    assert len(few) == 2
    assert [d.reason for d in few.dropped] == ["too high"]
