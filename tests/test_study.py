"""A study is one TOML file and one frozen value."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isoflop import study as studies
from isoflop.arch import Kind
from isoflop.errors import StudyError, UsageError

MINIMAL = 'name = "s"\nbudgets = ["1e11", 2e11, 4e11]\ntarget = "1.2e12"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_quantities_are_read_as_people_write_them(tmp_path):
    study = studies.load(write(tmp_path, MINIMAL))
    assert study.budgets == (1e11, 2e11, 4e11)
    assert study.target == 1.2e12


def test_equal_files_give_equal_studies(tmp_path):
    assert studies.load(write(tmp_path, MINIMAL)) == studies.load(write(tmp_path, MINIMAL))


def test_a_study_cannot_be_changed(tmp_path):
    with pytest.raises(ValidationError):
        studies.load(write(tmp_path, MINIMAL)).name = "other"


def test_order_of_budgets_does_not_matter():
    assert studies.parse({"name": "s", "budgets": [4e11, 1e11, 2e11], "target": 1e13}).budgets == (1e11, 2e11, 4e11)


def test_the_corpus_is_found_from_the_study_file(tmp_path):
    study = studies.load(write(tmp_path, MINIMAL + 'corpus = ["books/*.txt", "hf:a/b", "python", "/abs.txt"]\n'))
    assert study.corpus == (str(tmp_path / "books/*.txt"), "hf:a/b", "python", "/abs.txt")


def test_show_reads_back_as_the_same_study(tmp_path):
    study = studies.load(write(tmp_path, MINIMAL + 'corpus = "a \\"b\\".txt"\nsizes = [8, 16, 32]\n[proof]\nkaplan = true\n'))
    assert studies.load(write(tmp_path, studies.show(study))) == study


def test_show_says_every_default(tmp_path):
    shown = studies.show(studies.load(write(tmp_path, MINIMAL)))
    assert all(f"{key} = " in shown for key in [*studies.Study.model_fields, *studies.Proof.model_fields] if key != "proof")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "budget = 3\n", "unknown key 'budget'. Did you mean 'budgets'"),
        (MINIMAL + "[proof]\nkaplam = true\n", "Did you mean 'kaplan'"),
        ('name = "s"\ntarget = 1e12\n', "'budgets' is missing"),
        ('name = "s"\nbudgets = []\ntarget = 1e12\n', "budgets"),
        ('name = "s"\nbudgets = ["1e11", "1e11"]\ntarget = 1e12\n', "named twice"),
        ('name = "s"\nbudgets = ["much"]\ntarget = 1e12\n', "is not a quantity"),
        ('name = "s"\nbudgets = [-1]\ntarget = 1e12\n', "positive"),
        ('name = "../s"\nbudgets = [1e11]\ntarget = 1e12\n', "name"),
        (MINIMAL + "sizes = 2\n", "at least 3"),
        (MINIMAL + "sizes = [8, 16]\n", "at least 3"),
        (MINIMAL + "sizes = []\n", "at least 3"),
        (MINIMAL + "sizes = [15, 17, 19]\n", "even"),
        (MINIMAL + "spread = inf\n", "finite"),
        (MINIMAL + "[proof]\noversize = inf\n", "finite"),
        (MINIMAL + "sizes = [8, 8, 16]\n", "named twice"),
        (MINIMAL + 'tokenizer = "words"\n', "tokenizer"),
        ("name = \n", "not valid TOML"),
    ],
)
def test_bad_studies_are_refused_in_words(tmp_path, text, message):
    with pytest.raises(StudyError, match=message.replace(".", r"\.").replace("'", "'")):
        studies.load(write(tmp_path, text))


def test_a_missing_or_binary_file_is_refused_in_words(tmp_path):
    with pytest.raises(StudyError, match="there is no study file"):
        studies.load(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="cannot be read"):
        studies.load(tmp_path / "b.toml")
    with pytest.raises(StudyError, match="cannot be read"):
        studies.load(tmp_path)


@given(
    st.dictionaries(
        st.text(max_size=12), st.one_of(st.integers(), st.text(max_size=8), st.floats(), st.booleans(), st.lists(st.integers(), max_size=3)), max_size=5
    )
)
def test_rubbish_is_refused_and_never_crashes(values):
    with pytest.raises(StudyError):
        studies.parse(values)


def test_the_examples_are_valid():
    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))
    assert examples
    assert all(studies.load(path).name for path in examples)


@pytest.mark.parametrize(("tied", "kv_heads"), [("true", '"all"'), ("false", "1"), ("false", "2"), ("true", "64")])
def test_a_study_chooses_grouped_queries_and_an_untied_head(tmp_path, tied, kv_heads):
    text = f'name = "x"\nbudgets = ["1e11", "1e12", "3e12"]\ntarget = "1e13"\ntied = {tied}\nkv_heads = {kv_heads}\n'
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    shape = studies.load(tmp_path / "s.toml").kind(256).nearest(1e5)
    plain = Kind(family="llama", vocab=256, context=128).at(shape.d_model)
    assert shape.tied == (tied == "true")
    assert shape.kv_heads == min(shape.n_heads, int(kv_heads) if kv_heads.isdigit() else shape.n_heads)
    assert shape.params.head == (0 if shape.tied else 256 * shape.d_model)
    assert (shape == plain) == (tied == "true" and shape.kv_heads == shape.n_heads)


@given(st.floats(1e9, 1e12))
def test_as_many_heads_of_keys_as_were_asked_for_where_the_size_allows(params):
    """Widths near the best one are tried, so that heads come in eights; never more than asked, and always a divisor."""
    shape = Kind(family="llama", vocab=32_000, context=2048, kv_heads=8).nearest(params)
    assert 4 <= shape.kv_heads <= 8
    assert shape.n_heads % shape.kv_heads == 0
    assert shape.params.total == pytest.approx(params, rel=0.06)


def test_a_family_without_variants_refuses_them():
    with pytest.raises(UsageError, match="gopher is not built with an output head of its own"):
        Kind(family="gopher", vocab=256, context=128, tied=False).at(64)
