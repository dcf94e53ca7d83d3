"""Whatever a study file, a file of saved fits or a record holds: what was written, or an error of ours."""

import functools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulated
from fuzz import TEXT, answer_or_error, fuzz
from isoflop import design, fit, workspace
from isoflop import study as studies
from isoflop.errors import IsoflopError
from isoflop.fit import saved
from isoflop.fit.account import Account
from isoflop.plan import question
from isoflop.plan.request import Request
from isoflop.report import export, planning, tables
from isoflop.runs import RunRecord, Runs
from isoflop.store import _recovery, files

# studies

SCALARS = [
    "1",
    "0",
    "-1",
    "7",
    "true",
    "false",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 5000,
    "0x" + "f" * 5000,
    "0b1",
    "0o7",
    "1_000",
    "1e11",
    "1e22",
    "2.5",
    '"1e11"',
    '"70M"',
    '""',
    '"\\u0000"',
    '"\\uD800"',
    '"' + "9" * 5000 + '"',
    "'''a'''",
    "[]",
    "{}",
    "[1e11, 2e11, 4e11]",
    '["1e11", "3e11", "1e12"]',
    "[[1]]",
    "[8, 16, 24]",
    "[9223372036854775808]",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    '"all"',
    '"muon"',
    '"bf16"',
    '"cooldown"',
    '"horizons"',
    '"llama"',
    '"gopher"',
    '"bpe-512"',
    '{base = "small", scale = 1.1, width = 8}',
    '"~/*"',
    '"hf:a/b"',
    "[" * 3000,
    "1e-320",
    "1e308",
    "4294967296",
]
KEYS = [
    *studies.Study.model_fields,
    "proof.oversize",
    "proof.kaplan",
    "proof",
    "recipe.base",
    "recipe.scale",
    "recipe.width",
    '"\\u0000"',
    '"a\\nb"',
    "unknown",
    "[proof]",
    "[[budgets]]",
]
LINES = st.tuples(st.sampled_from(KEYS), st.sampled_from(SCALARS) | TEXT | st.integers().map(str) | st.floats().map(repr)).map(
    lambda pair: pair[0] + " = " + pair[1]
)
VALID = st.sampled_from(
    [
        'budgets = ["1e9", "3e9", "1e10"]',
        'budgets = ["1e24", "3e24", "1e25"]',
        'budgets = ["1e300", "1e301", "1e302"]',
        'budgets = ["1", "2", "4"]',
        'target = "1e30"',
        'target = "1e40"',
        "sizes = 4",
        "sizes = [8, 16, 24, 4096]",
        "spread = 1.01",
        "spread = 300",
        'design = "cooldown"',
        'design = "horizons"',
        "horizons = 2",
        "horizons = 20",
        'recipe = "deepseek"',
        'recipe = "hoffmann"',
        'recipe = {base = "small", scale = 1e-300, width = 1e300, power = 9}',
        "lr_scale = 1e300",
        "lr_scale = 1e-300",
        "batch_scale = 1e-300",
        "batch_scale = 1e300",
        "context = 1",
        "context = 100000000",
        "seeds = 1",
        "seeds = 20",
        "eval_tokens = 1",
        "kv_heads = 1",
        'arch = "gopher"',
        "overlong = true",
        "cooldown = 1e-300",
        "z_loss = 1e300",
        "tied = false",
        'optimizer = "muon"',
        "seed = 9223372036854775807",
        "validation = 1e-300",
    ]
)
TEXT_OF_BYTES = design.Text(digest="0123456789abcdef", vocab=256, train_tokens=30_000_000, val_tokens=1_500_000)
BASE = {"name": '"s"', "budgets": '["1e11", "3e11", "1e12"]', "target": '"1e13"'}


@fuzz
@given(
    lines=st.lists(LINES, max_size=2) | st.lists(VALID, max_size=5, unique_by=lambda line: line.split()[0]),
    left_out=st.sets(st.sampled_from(sorted(BASE)), max_size=1),
    damage=st.none() | st.just(b"") | st.binary(max_size=4),
    at=st.floats(0, 1),
)
def test_a_study_of_anything(tmp_path, lines, left_out, damage, at):
    keys = {line.split(" =")[0] for line in lines}
    text = "\n".join([*(f"{key} = {value}" for key, value in BASE.items() if key not in left_out | keys), *lines]).encode(errors="replace")
    place = int(at * len(text))
    (tmp_path / "s.toml").write_bytes(text[:place] + (damage or b"") + text[place:])
    study = answer_or_error(lambda: studies.load(tmp_path / "s.toml"))
    if study is None:
        return
    (tmp_path / "shown.toml").write_text(studies.show(study), encoding="utf-8")
    assert studies.load(tmp_path / "shown.toml") == study
    grid = answer_or_error(lambda: design.design(study, TEXT_OF_BYTES))
    if grid is not None:
        assert all(spec.tokens >= spec.batch and spec.flops > 0 for spec in grid.specs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sizes = 1001", "at most 1000"),
        ("sizes = 1000", "need models wider"),
        ("sizes = [8, 16, 10000000000]", "widths up to"),
        ("seeds = 1000000000", "seeds"),
        ("spread = 1e300", "designs models below"),
        ("batch_scale = 1e300", "beyond any memory"),
        ("lr_scale = 1e300", "trains nothing"),
        ("context = 1000000000", "context"),
        ('budgets = ["1e40", "1e41", "1e42"]', "FLOPs"),
        ("seed = " + "9" * 5000, "digits"),
    ],
    ids=lambda value: value[:30],
)
def test_a_design_that_never_ends_is_refused(tmp_path, line, message):
    keys = {"budgets", "target"} - {line.split()[0]}
    path = tmp_path / "s.toml"
    path.write_text("\n".join(['name = "s"', *(f"{key} = {BASE[key]}" for key in sorted(keys)), line]), encoding="utf-8")
    with pytest.raises(IsoflopError, match=message):
        design.design(studies.load(path), TEXT_OF_BYTES)


# saved fits


@functools.cache
def document() -> dict:
    records = simulated.sweep()
    runs = Runs.from_records(records, curve=lambda run: simulated.curve(next(r for r in records if r.id == run)))
    fits = fit.fit_all(runs, resamples=9)
    return json.loads(saved.dumps(fits, Account.of(runs, "runs.csv")))


HOSTILE = st.sampled_from(
    [
        None,
        True,
        "nan",
        "inf",
        "-inf",
        "",
        [],
        {},
        10**400,
        -(10**4000),
        2**63,
        -1,
        0,
        1e308,
        -1e308,
        5e-324,
        1e-300,
        "chinchilla",
        "../x",
        "\ud800",
        float("nan"),
    ]
)
VALUES = HOSTILE | st.floats() | st.integers() | TEXT | st.lists(HOSTILE, max_size=2) | st.dictionaries(TEXT, HOSTILE, max_size=2)


def changed(value: object, draw: random.Random, new: object) -> object:
    """A copy of a JSON value with one part, at any depth, replaced."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.02:
        return new
    if isinstance(value, list):
        at = draw.randrange(len(value))
        return [*value[:at], changed(value[at], draw, new), *value[at + 1 :]]
    key = draw.choice(sorted(value))
    if draw.random() < 0.02:
        return {name: each for name, each in value.items() if name != key} if draw.random() < 0.5 else value | {"more": new}
    return value | {key: changed(value[key], draw, new)}


@fuzz
@given(changes=st.lists(VALUES, min_size=1, max_size=3), seed=st.integers(0, 2**32), signed=st.booleans(), flops=st.sampled_from(["1e12", "1e13", "1e23"]))
def test_saved_fits_of_anything(changes, seed, signed, flops):
    draw, found = random.Random(seed), document()
    for new in changes:
        found = changed(found, draw, new) if not signed else found | {"exact": changed(found["exact"], draw, new)}
    if signed:
        found["sha256"] = saved._digest(found["exact"])
    back = answer_or_error(lambda: saved.loads(json.dumps(found)))
    if back is not None and signed:
        answer_or_error(lambda: planning.plan(question.answer(workspace.ask(back, Request(flops=flops)))))


def test_a_forecast_without_degrees_of_freedom_is_refused():
    found = document()
    exact = found["exact"] | {"rest": found["exact"]["rest"] | {"forecast": found["exact"]["rest"]["forecast"] | {"freedom": 0}}}
    with pytest.raises(IsoflopError, match=r"forecast\.freedom is 0"):
        saved.loads(json.dumps(found | {"exact": exact, "sha256": saved._digest(exact)}))


# records


@functools.cache
def record() -> RunRecord:
    return simulated.record(16, 1e12)


def canonical(fields: object) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()


@fuzz
@given(
    changes=st.lists(VALUES, min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
    signed=st.booleans(),
    name=st.sampled_from([files.RECORD, files.SPEC, _recovery.LIST]),
)
def test_a_record_of_anything(tmp_path, changes, seed, signed, name):
    draw = random.Random(seed)
    fields = record().model_dump(mode="json")
    written = {files.RECORD: fields, files.SPEC: fields["spec"], _recovery.LIST: {"runs": [{"current": True, "spec": fields["spec"]}]}}[name]
    for new in changes:
        written = changed(written, draw, new)
    if signed and isinstance(written, dict):
        written = written | {"sha256": files._sha256(canonical(written))}
    (tmp_path / name).write_bytes(canonical(written))
    if name == _recovery.LIST:
        answer_or_error(lambda: _recovery.read_list(tmp_path))
    elif name == files.SPEC:
        answer_or_error(lambda: files.read_spec(tmp_path))
    else:
        back = answer_or_error(lambda: files.read_record(tmp_path))
        if back is not None:
            answer_or_error(lambda: tables.runs([export.row(back.spec, back)]))
            answer_or_error(lambda: Runs.from_records([back], curve=lambda _: simulated.curve(record())))
