"""Documents of any shape in the formats that hold one table: runs with every row accounted for, or an error of ours; never a traceback or a warning."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

import fuzz as invented
from fuzz import answer_or_error, fuzz
from isoflop import readers

NAMES = st.sampled_from(["params", "tokens", "loss", "step", "run_id", "history", "data", "columns", "schema", "index", "runs", "config", "0", "1", "a"])
LEAF = st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["70M", "\ud800", "x", "3,07", "1e9"]) | st.just(1e7)
DOCUMENT = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5) | st.lists(st.just(1e7), max_size=3), max_leaves=25
)
WORDS = st.sampled_from([
    "params", "tokens", "loss", "|", "|-|-|-|", "---", "#", "# a", ";", ",", "\t", " ", "  ", "\n", "\n\n", "\r\n", "1e7", "70M", "3,07", "1.234,5",
    "4.1", '"', "sep=;", "title", "0", "\ufeff", "\\|", "nan", "1.000.000", "10 000", "\u00a0", "\r",
])  # fmt: skip
FILES = ["params,tokens,loss\n1e7,1e8,4\n", "tokens,loss\n1e8,4\n2e8,3\n", "", "x", "a,b\n1,2\n", "{", "[]", "%PDF", "tokens,loss\n1,2,3\n"]


def read(path, **options):
    answer_or_error(lambda: readers.read(path, **options))


@fuzz
@given(document=DOCUMENT, indent=st.none() | st.just(1))
def test_json_documents_of_any_shape(tmp_path, document, indent):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(document, indent=indent))
    read(path)
    read(path, kind="jsonl")


@fuzz
@given(words=st.lists(WORDS, max_size=60), decimal=st.none() | st.sampled_from([".", ","]), kind=st.sampled_from([None, "delimited", "markdown", "whitespace"]))
def test_text_of_any_layout(tmp_path, words, decimal, kind):
    path = tmp_path / "runs.txt"
    path.write_bytes("".join(words).encode())
    read(path, kind=kind, decimal=decimal)


@fuzz
@example(table=(["params", "tokens", "loss"], [["1e7", "1e9", "1e308"]] * 2), sign=";", above="")
@given(table=invented.tables(), sign=st.sampled_from([" ", "  ", " | ", ";", "\t", ","]), above=st.sampled_from(["", "# x\n", "Title\n\n", "sep=;\n"]))
def test_tables_in_any_dress(tmp_path, table, sign, above):
    header, rows = table
    lines = [sign.join(row) for row in [header, *rows]]
    if sign == " | ":
        lines.insert(1, sign.join("-" for _ in header))
    path = tmp_path / "runs.txt"
    path.write_bytes((above + "\n".join(lines)).encode(errors="replace"))
    for decimal in (None, ","):
        read(path, decimal=decimal)


HISTORY = st.lists(
    st.dictionaries(st.sampled_from(["step", "loss", "eval_loss", "num_input_tokens_seen", "total_flos", "epoch", "x"]), LEAF, max_size=5), max_size=6
)


@fuzz
@given(
    history=HISTORY | LEAF,
    state=st.dictionaries(st.sampled_from(["global_step", "max_steps", "num_input_tokens_seen", "total_flos"]), LEAF, max_size=4),
    config=st.none() | st.dictionaries(st.sampled_from(["hidden_size", "num_hidden_layers", "vocab_size"]), LEAF) | LEAF,
)
def test_trainer_states_of_anything(tmp_path, history, state, config):
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, **state}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    read(tmp_path)
    read(tmp_path, columns={"params": "10M", "tokens": "step * 1e4"})


@fuzz
@given(
    names=st.lists(st.text(st.sampled_from("NDnd=_-.7080MBk /x"), min_size=1, max_size=12), min_size=1, max_size=4, unique=True),
    pattern=st.none() | st.lists(st.sampled_from(["N", "{params}", "{tokens}", "{a}", "{a", "}", "_", "*", "(", "[", "\\", "{}"]), max_size=5).map("".join),
)
@example(names=["N" + "9" * 400], pattern=None)
@example(names=["N" + "9" * 400], pattern="N{params}")
def test_file_names_of_anything(tmp_path_factory, names, pattern):
    folder = tmp_path_factory.mktemp("names")
    for place, name in enumerate(names):
        file = folder / (name.replace("/", "_").strip(". ") + f"_{place}.csv")
        try:
            file.write_text("tokens,loss\n" + "".join(f"{tokens}e8,{5 - tokens / 10}\n" for tokens in range(1, 4)))
        except OSError:  # a name longer than a file can have
            continue
    read(folder, name=pattern)


@fuzz
@given(
    files=st.lists(st.sampled_from(FILES), max_size=5),
    columns=st.sampled_from([{}, {"params": "10M"}, {"params": "x"}]),
)
def test_folders_of_anything(tmp_path_factory, files, columns):
    folder = tmp_path_factory.mktemp("files")
    for place, text in enumerate(files):
        (folder / f"N{place}.csv").write_text(text)
    read(folder, columns=columns)
