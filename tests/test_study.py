"""A study is one TOML file and one frozen value."""

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isoflop import study as studies
from isoflop.arch import Kind
from isoflop.errors import StudyError, UsageError
from isoflop.study import _refusals, template

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
        (MINIMAL + "seed = " + "9" * 5000 + "\n", "thousands of digits"),
        (MINIMAL + "seed = 0x" + "f" * 5000 + "\n", "is too large; TOML has 64"),
        (MINIMAL + "sizes = [8, 12, " + "9" * 400 + "]\n", "is too large; TOML has 64"),
        (MINIMAL + "spread = 1" + "0" * 400 + "\n", "is too large; TOML has 64"),
        (MINIMAL + "x = " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply"),
        (MINIMAL + "#" + "x" * 2_000_000 + "\n", "more than 1,000,000 bytes"),
        (MINIMAL.replace('["1e11", 2e11, 4e11]', '"1e11, 2e11"'), 'Write: budgets = ["1e11", "2e11"]'),
        (MINIMAL + 'sizes = "8, 12, 16"\n', "must be a whole number"),
        (MINIMAL + 'tokenizer = "gpt2"\n', 'must be "bytes", or "bpe-" and the size of its vocabulary. Write, for example: tokenizer = "bpe-4096"'),
        (MINIMAL + 'arch = "lama"\n', "Did you mean 'llama'"),
        (MINIMAL + 'design = "isoflops"\n', "Did you mean 'isoflop'"),
        (MINIMAL + 'recipe = {base = "smal", scale = 1, width = 8}\n', "Did you mean 'small'"),
        (MINIMAL + 'recipe = {base = "small", scale = "x", width = 8}\n', "Write, for example: scale = 1.5"),
        (MINIMAL + "kv_heads = 2.5\n", 'a whole number or "all"'),
        (MINIMAL + "seq_len = 128\n", "Did you mean 'context'"),
        (MINIMAL + "oversize = 2\n", "belongs in the table [proof]"),
        ('name = "s"\nbudgets = ["1e11"]\n[proof]\ntarget = 1e12\n', "Put target above the line [proof]"),
        ('name = "s"\ntarget = 1e12\n', 'Add a line such as: budgets = ["1e11", '),
    ],
)
def test_bad_studies_are_refused_in_words(tmp_path, text, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        studies.load(write(tmp_path, text))


PLAUSIBLE = [[], {}, "", "x", "1e11, 2e11", -1, 0, 1.5, True, 10**30, float("nan"), [1, "x"], {"a": 1}, "9" * 5000]


@pytest.mark.parametrize("key", [*studies.Study.model_fields, *(f"proof.{key}" for key in studies.Proof.model_fields)])
@pytest.mark.parametrize("value", PLAUSIBLE, ids=lambda value: str(value)[:12] or "empty")
def test_a_wrong_value_of_any_key_is_refused_with_the_key_and_without_a_word_of_the_library(key, value):
    values = tomllib.loads(MINIMAL)
    values |= {"proof": {key.removeprefix("proof."): value}} if key.startswith("proof.") else {key: value}
    try:
        studies.parse(values, source="s.toml")
    except StudyError as error:
        said = str(error)
        assert all(key in line and len(line) < 400 for line in said.splitlines())
        assert not re.search(r"pydantic|regex|pattern|input should|\btuple|\bdict\b|\^|\$|PydanticUndefined|None|[^.]\.\.$", said, re.IGNORECASE)


def test_every_pattern_has_words():
    patterned = [key for key, field in studies.Study.model_fields.items() if any(getattr(m, "pattern", None) for m in field.metadata)]
    assert patterned
    assert set(patterned) <= set(_refusals.PATTERNS)


def test_every_synonym_leads_to_a_key_and_is_none():
    keys = set(studies.Study.model_fields)
    assert set(_refusals.SYNONYMS.values()) <= keys
    assert not set(_refusals.SYNONYMS) & keys


def test_a_missing_or_binary_file_is_refused_in_words(tmp_path):
    with pytest.raises(StudyError, match="there is no study file"):
        studies.load(tmp_path / "none.toml")
    for raw, said in ((b"\xff\xfe\x00", "It is UTF-16"), (b"a = '\xe9'", "UTF-8")):
        (tmp_path / "b.toml").write_bytes(raw)
        with pytest.raises(StudyError, match=f"cannot be read.*{said}"):
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


def test_a_mark_of_windows_editors_and_their_line_ends_are_read(tmp_path):
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert studies.load(tmp_path / "s.toml").name == "s"


def test_a_missing_study_is_answered_with_the_nearest_file_and_never_with_itself(tmp_path):
    for name, there, meant in (
        ("novel.toml", "novels.toml", "novels.toml"),
        ("novels", "novels.toml", "novels.toml"),
        ("novel", "novels/study.toml", "novels"),
    ):
        place = tmp_path / name.replace(".", "_")
        (place / there).parent.mkdir(parents=True)
        (place / there).write_text(MINIMAL)
        with pytest.raises(StudyError, match=rf"Did you mean \S*/{re.escape(meant)}\?.* isoflop init"):
            studies.load(place / name)
    with pytest.raises(StudyError) as found:
        studies.load("examples/1_quickstart.toml_")
    assert str(found.value).count("1_quickstart") <= 2
    assert "Start from" not in str(found.value)


@pytest.mark.parametrize("name", ["a\nb", 'a"b', "a\\b", "a\tb\x01", "\x7f", "\u00e9 \U0001f600"])
def test_any_name_of_a_text_is_written_and_read_back(tmp_path, name):
    study = studies.parse(tomllib.loads(MINIMAL) | {"corpus": [f"/{name}"]})
    assert studies.load(write(tmp_path, studies.show(study))) == study


@given(st.floats(1e-300, 1e300))
def test_any_number_is_written_and_read_back(value):
    study = studies.parse(tomllib.loads(MINIMAL) | {"lr_scale": value})
    assert studies.parse(tomllib.loads(studies.show(study))) == study


def test_the_schema_is_a_schema_and_knows_every_key():
    schema = studies.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(studies.Study.model_fields)
    assert set(schema["$defs"]["Proof"]["properties"]) == set(studies.Proof.model_fields)
    assert all("description" in part for part in schema["properties"].values())


def valid(values: object) -> bool:
    return jsonschema.Draft202012Validator(studies.schema()).is_valid(values)


def test_examples_what_show_prints_and_what_init_writes_are_valid_by_the_schema():
    examples = [path.read_text(encoding="utf-8") for path in (Path(__file__).parents[1] / "examples").glob("*.toml")]
    assert examples
    for text in (*examples, studies.show(studies.example()), template.text("novels"), template.text("x", ["a/*.txt", "hf:y"])):
        assert valid(tomllib.loads(text))
        assert studies.parse(tomllib.loads(text))


@pytest.mark.parametrize(
    "line", ['arch = "gpt2"', 'design = "x"', "context = 0", 'tokenizer = "gpt2"', "lr = 1", "corpus = []", 'precision = "fp16"', "proof = 3"]
)
def test_an_editor_sees_what_would_be_refused(line):
    values = tomllib.loads(MINIMAL + line)
    assert not valid(values)
    with pytest.raises(StudyError):
        studies.parse(values)


@given(st.one_of(st.from_regex(r"\A[+]?[0-9_,.]{1,5}(e[0-9]{1,2})?[ ]?[kMBT]?[ ]?(FLOPs|flop|PF-days)?\Z"), st.text(max_size=6), st.floats(), st.integers()))
def test_the_schema_takes_every_quantity_that_is_read(value):
    values = tomllib.loads(MINIMAL) | {"target": value}
    try:
        studies.parse(values)
    except StudyError:
        return
    assert valid(values)


def test_text_is_offered_where_there_is_some(tmp_path):
    for name, size in (
        ("a/1.txt", 150_000),
        ("a/2.txt", 150_000),
        ("b.txt.gz", 120_000),
        ("notes.txt", 10),
        (".hidden/x.txt", 10**6),
        ("studies/x.txt", 10**6),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    found = template.find_text(tmp_path)
    assert [(entry.glob, entry.files) for entry in found] == [("a/*.txt", 2), ("*.txt.gz", 1)]
    assert studies.load(write(tmp_path, template.text("s", found=found))).corpus == ("python",)
    assert '# corpus = ["a/*.txt"]  # found here: 2 files, 300 kB' in template.text("s", found=found)


def test_an_example_explains_itself():
    study = studies.example()
    assert studies.parse(tomllib.loads(studies.show(study))) == study
    assert {key: getattr(study, key) for key, field in studies.Study.model_fields.items() if not field.is_required()} == {
        key: field.default for key, field in studies.Study.model_fields.items() if not field.is_required()
    }
