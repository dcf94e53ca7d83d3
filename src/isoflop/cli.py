"""The command line: one verb a stage, in pipeline order. Results go to stdout, progress to stderr; 1 is our error, 2 is a misuse."""

import contextlib
import errno
import json
import math
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
import typer.core
from rich.console import Console

from isoflop import STAGES, _signals, _streams, units
from isoflop import _choices as choices
from isoflop.errors import ExtrapolationError, FitError, IsoflopError, QuestionError, RefusedError, TrainError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment

    from isoflop.fit import Fit, Fits
    from isoflop.fit.account import Account
    from isoflop.fit.asked import Asked
    from isoflop.launch import Means
    from isoflop.plan.question import Answer, Question
    from isoflop.plan.request import Request
    from isoflop.report.landscape import Kind as FigureKind
    from isoflop.report.results import Results
    from isoflop.report.table import Table
    from isoflop.runs import Compile, RunRecord, RunSpec
    from isoflop.study import Study
    from isoflop.tune import Tuning
    from isoflop.workspace import Found, Workspace


class Verbs(typer.core.TyperGroup):
    """The verbs in pipeline order. Ctrl-C, SIGTERM and SIGHUP stop any of them in the same way, and the exit status says which it was."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order that --help shows."""
        return sorted(super().list_commands(ctx), key=["init", "run", *STAGES].index)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; say after Ctrl-C that nothing is lost."""
        try:
            with _signals.stopping():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            err.print("\nisoflop: stopped; nothing is lost. The same command resumes from here.")
            raise typer.Exit(stop.status if isinstance(stop, _signals.Stopped) else 130) from None


class Screen(Console):
    """A console that prints names out of files and can be told nothing by them: control characters in a run's id, a column or a path are left out."""

    def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> "Iterable[Segment]":
        """What is printed, piece by piece; the console's own signs are no text."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=_CONTROL.sub("", piece.text))


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="With this much compute, how big a model, on how many tokens?",
    epilog="Begin with: isoflop plan 1e21, which needs no data; or isoflop init, and isoflop run my_study.toml",
)
study_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at a study: the one file that says what to find out.")

MISUSE: type[Exception] = typer.BadParameter.__mro__[1]  # what the parser raises; click's own class, or typer's copy of it
BF16_PAYS = 1.2  # times as fast: below, timings on a busy machine differ by as much
_UNIT = re.compile(r"flops?|pf(lops?)?(/s)?[- ]?days?", re.IGNORECASE)  # a word after a budget
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline: ECMA-48, Sec. 5
out = Screen(highlight=False, markup=False, emoji=False, width=None if sys.stdout and sys.stdout.isatty() else 160)  # a pipe has no width of its own
err = Screen(stderr=True, highlight=False, markup=False, emoji=False)


def _choice(flag: str, menu: str, *, help: str, show_default: bool = True) -> Any:  # noqa: A002  # as typer calls it
    """Return an option whose choices --help names and Tab completes."""
    return typer.Option(flag, metavar=choices.metavar(menu), autocompletion=choices.complete(menu), help=help, show_default=show_default)


def _compile(word: str) -> str:
    if word not in {"auto", "always", "never"}:
        raise UsageError(f"--compile {word}: no such choice. Take auto, always or never.")
    return word


def _launcher(name: str) -> str:
    """Return a launcher that there is; the others are refused before anything is done."""
    from isoflop import _registry

    _registry.check(name, choices.MENUS["launcher"], noun="launcher", aliases={"local": "pool", "processes": "pool", "serial": "inline", "one": "inline"})
    return name


def _device(name: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d+)?", name):
        return name
    numbered = re.fullmatch(r"(?:cuda|gpu)\W*(\d+)", name, re.IGNORECASE)
    near = f"cuda:{numbered[1]}" if numbered else "cuda" if name.lower().rstrip(":") in {"gpu", "nvidia", "cuda"} else ""
    guess = f" Did you mean {near}?" if near else ""
    raise UsageError(f"--device {name}: isoflop trains on cpu, cuda or cuda:N, such as cuda:0.{guess}")


def _trackers(names: list[str] | None) -> list[str] | None:
    """Names that can be tracked by; said before anything is done."""
    from isoflop import track

    if names:
        track.check(names)
    return names


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        out.print(f"isoflop {importlib.metadata.version('isoflop')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """With this much compute, how big a model, on how many tokens?"""


StudyArg = Annotated[Path, typer.Argument(help="A study file (TOML), or the folder of a study made before.", show_default=False)]
FolderOpt = Annotated[Path | None, typer.Option("--folder", help="Where runs and report go.  [default: studies/NAME]", show_default=False)]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MarkdownOpt = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]
WorkersOpt = Annotated[int | None, typer.Option("--workers", min=1, help="Processes at once.  [default: as many as cores]", show_default=False)]
LauncherOpt = Annotated[
    str,
    typer.Option(
        "--launcher",
        callback=_launcher,
        metavar=choices.metavar("launcher"),
        autocompletion=choices.complete("launcher"),
        help="How runs are started: by processes on this machine, or one after the other.",
    ),
]
DeviceOpt = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_device,
        metavar="cpu|cuda|cuda:N",
        autocompletion=choices.complete("device"),
        help="What models are trained on; all workers share it.",
    ),
]
CompileOpt = Annotated[
    str,
    typer.Option(
        "--compile",
        callback=_compile,
        metavar=choices.metavar("compile"),
        autocompletion=choices.complete("compile"),
        help="Whether torch.compile is used: auto (where it pays, by measurement), always or never.",
    ),
]
DeterministicOpt = Annotated[bool, typer.Option("--deterministic", help="On a GPU, algorithms alone that give the same bits every time; a CPU's do.")]
TrackOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        callback=_trackers,
        metavar=choices.metavar("track"),
        autocompletion=choices.complete("track"),
        help="Log there, too; more than once for several.",
        show_default=False,
    ),
]
PublishedOpt = Annotated[
    list[str] | None,
    typer.Option("--law", autocompletion=choices.complete_laws, help="A published law (isoflop laws); more than once for several.", show_default=False),
]
TimeOpt = Annotated[bool, typer.Option("--time", help="Measure the time of a step by a few real ones of each size, instead of predicting it.")]
RetryOpt = Annotated[bool, typer.Option("--retry", help="Train those that diverged or failed once more, too.")]
DryOpt = Annotated[bool, typer.Option("--dry-run", help="Print runs, FLOPs and time; train nothing.")]


@app.command(epilog="Example: isoflop init novels --corpus 'books/*.txt'")
def init(
    name: Annotated[str, typer.Argument(help="Name of the study and of its file.")] = "my_study",
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="Text: files, a glob or hf:NAME; more than once for several.  [default: python]", show_default=False)
    ] = None,
) -> None:
    """Write a commented study that runs as it is.

    NAME.toml in this folder, and beside it the schema by which an editor completes and checks its keys.
    """
    from isoflop import study as studies
    from isoflop.store import files
    from isoflop.study import template

    name = name.removesuffix(".toml")
    path, beside = Path(f"{name}.toml"), Path(template.SCHEMA_FILE)
    found = template.find_text(Path())
    text = template.text(name, corpus or (), found)
    if unwritable := [entry for entry in (name, *(corpus or ())) if not _is_text(entry)]:
        raise UsageError(f"{units.shown(unwritable[0])} is not UTF-8, and a study is. Rename the file or the folder.")
    studies.parse(tomllib.loads(text), source=str(path))
    if missing := [entry for entry in corpus or () if template.is_missing(entry, Path())]:
        raise UsageError(f"--corpus {missing[0]}: there is no such file here. Quote a glob, such as --corpus 'books/*.txt', so that the shell leaves it alone.")
    if path.exists():
        raise UsageError(f"{path} is there already, and is left as it is. Take another name: isoflop init {name}2")
    files.write(path, text.encode())
    if template.is_ours(beside):
        files.write(beside, (json.dumps(studies.schema(), indent=2) + "\n").encode())
    out.print(f"Wrote {path}" + (f", and {beside} for editors." if template.is_ours(beside) else "."), soft_wrap=True)
    if found and not corpus:
        out.print(
            f"Its text is Python's standard library. There is text in this folder too: {found[0].glob} ({found[0]}); see the line corpus.", soft_wrap=True
        )
    _next("run", path, None)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


@app.command(epilog="Example: isoflop run my_study.toml")
def run(
    study: StudyArg,
    folder: FolderOpt = None,
    launcher: LauncherOpt = "pool",
    workers: WorkersOpt = None,
    track: TrackOpt = None,
    device: DeviceOpt = "cpu",
    compiling: CompileOpt = "auto",
    deterministic: DeterministicOpt = False,
    measure: TimeOpt = False,
    dry_run: DryOpt = False,
) -> None:
    """Do every stage: design, train, fit, plan, validate, report. Goes on where it was stopped."""
    work = _open(study, folder, looking="run" if dry_run else "")
    specs, seconds = _designed(work, workers=workers, device=device, measure=measure)
    if dry_run:
        return
    swept = _train(work, specs, launcher, workers, seconds=seconds, track=track, means=_means(device, compiling, deterministic))
    fits = work.fit()
    _print_fits(fits, work)
    answer = work.answer(fits=fits)
    proof: tuple[RunRecord, ...] = ()
    if answer.given:
        proof = _train(work, work.claim(fits=fits), launcher, workers, title="proof", track=track, means=_means(device, compiling, deterministic))
    results = work.results(fits=fits, command=_command())
    path = work.report(results)
    if answer.given:
        _print_answer(results)
    out.print(f"\nReport: {path}", soft_wrap=True)
    answer.require()
    _refuse_unfinished(swept, "train", study, folder)
    _refuse_unfinished(proof, "validate", study, folder)


@app.command(epilog="Example: isoflop arch llama --params 8B --kv-heads 8 --untied --vocab 128256")
def arch(
    family: Annotated[str, typer.Argument(metavar=choices.metavar("family"), autocompletion=choices.complete("family"), help="Family of models.")],
    params: Annotated[str | None, typer.Option("--params", help="Find the best real shape near this size, like 8B.", show_default=False)] = None,
    d_model: Annotated[int | None, typer.Option("--d-model", min=1, help="Or say the shape: its width,", show_default=False)] = None,
    layers: Annotated[int | None, typer.Option("--layers", min=1, help="depth,", show_default=False)] = None,
    heads: Annotated[int | None, typer.Option("--heads", min=1, help="heads,", show_default=False)] = None,
    kv_size: Annotated[int | None, typer.Option("--kv-size", min=1, help="their size,  [default: d-model / heads]", show_default=False)] = None,
    ffw: Annotated[int | None, typer.Option("--ffw", min=1, help="and its feed-forward.  [default: the family's]", show_default=False)] = None,
    vocab: Annotated[int, typer.Option("--vocab", min=2, max=10**7, help="Of the tokenizer.")] = 32_000,
    context: Annotated[int, typer.Option("--context", min=1, max=10**8, help="Tokens a sequence.")] = 2048,
    untied: Annotated[bool, typer.Option("--untied", help="An output head of its own (llama).")] = False,
    kv_heads: Annotated[int | None, typer.Option("--kv-heads", min=1, help="Heads of keys and values (llama).", show_default=False)] = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Say what a model costs: parameters, FLOPs a token, memory.

    Of the best real shape near a size, or of any shape; by every convention that papers count with.
    """
    from isoflop import arch as families
    from isoflop.report import costs

    _one_format(markdown=markdown, as_json=as_json)
    kind = families.Kind(family=family, vocab=vocab, context=context, tied=not untied, kv_heads=kv_heads)
    if params is not None and not any((d_model, layers, heads, kv_size, ffw)):
        shape = kind.nearest(units.read(params))
    elif params is None and d_model and layers and heads:
        usual = kind.large(d_model, layers) if d_model >= families.LARGE else kind.at(d_model)
        sizes = {
            "n_layers": layers,
            "n_heads": heads,
            "kv_size": kv_size or max(1, d_model // heads),
            "ffw_size": ffw or usual.ffw_size,
            "n_kv_heads": kv_heads,
        }
        shape = families.Shape(**{**usual.model_dump(), **sizes})
    else:
        raise UsageError("say --params such as 8B, or the shape: --d-model, --layers and --heads (and --kv-size and --ffw if they are not the usual).")
    if as_json:
        out.print_json(json.dumps(costs.values(shape)))
        return
    for table in costs.tables(shape):
        _print_table(table, markdown=markdown)
        out.print()


@study_app.command("show", epilog="Example: isoflop study show my_study.toml")
def study_show(
    study: Annotated[Path | None, typer.Argument(help="A study file, or a study's folder.  [default: an example]", show_default=False)] = None,
) -> None:
    """Print a study with every default visible and every key explained. What it prints is itself a study file."""
    from isoflop import study as studies

    shown = studies.example() if study is None else _open(study, None).study
    out.print(studies.show(shown), end="", soft_wrap=True)


@study_app.command("schema", epilog="Example: isoflop study schema > study.schema.json")
def study_schema() -> None:
    """Print the JSON schema of study files, by which editors complete and check keys.

    VS Code (Even Better TOML), Neovim and others read it where the first line of a study is: #:schema ./study.schema.json
    """
    from isoflop import study as studies

    out.print(json.dumps(studies.schema(), indent=2), soft_wrap=True)


app.add_typer(study_app, name="study")


@app.command(epilog="Example: isoflop design my_study.toml")
def design(
    study: StudyArg, folder: FolderOpt = None, workers: WorkersOpt = None, device: DeviceOpt = "cpu", measure: TimeOpt = False, as_json: JsonOpt = False
) -> None:
    """Print the runs that would be trained, and how long.

    Grid, FLOPs, tokens, epochs, memory, and the time on this machine, which is predicted: nothing is trained.
    """
    work = _open(study, folder, looking="design")
    if as_json:
        _prepare(work)
        out.print_json(json.dumps([{"id": s.id, "flops": s.flops, **s.model_dump(mode="json")} for s in work.design().specs]))
        return
    _designed(work, workers=workers, device=device, measure=measure)
    _next("train", study, folder)


@app.command(epilog="Example: isoflop tune my_study.toml --sizes 2")
def tune(
    study: StudyArg,
    folder: FolderOpt = None,
    sizes: Annotated[int, typer.Option("--sizes", help="At so many sizes, each at one of the smallest budgets: 2 or 3.")] = 2,
    launcher: LauncherOpt = "pool",
    workers: WorkersOpt = None,
    device: DeviceOpt = "cpu",
    compiling: CompileOpt = "auto",
    deterministic: DeterministicOpt = False,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Put what is found into the study file, or only print it.")] = True,
    dry_run: DryOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Find the learning rate on your own text, at two or three small sizes.

    The recipe with that rate goes into the study file, in one line; comments stay. Goes on where it was stopped.
    """
    from isoflop.report import tuning as words

    work = _open(study, folder)
    found = _tuned(
        work, sizes=sizes, launcher=launcher, workers=workers, means=_means(device, compiling, deterministic), dry_run=dry_run, screen=err if as_json else out
    )
    if found is None:
        return
    if as_json:
        out.print_json(json.dumps(words.values(found)))
    else:
        _print_table(words.table(found))
        out.print(words.sentence(found), soft_wrap=True)
        out.print(found.line, soft_wrap=True)
    if write:
        study = _write_recipe(found, study, work)
        folder = folder or work.folder
    _next("design", study, folder)


def _write_recipe(found: "Tuning", study: Path, work: "Workspace") -> Path:
    """Put a tuned recipe into the study's file; for a folder, beside the study that is trained there, which stays as it is."""
    from isoflop import study as studies
    from isoflop.store import files

    file = study
    if study.is_dir():
        file = study / "tuned.toml"
        files.write(file, studies.show(work.study).encode())
    found.write(file)
    err.print(f"wrote {file}; it takes the place of the study in {work.folder} when you train it", soft_wrap=True)
    return file


def _tuned(work: "Workspace", *, sizes: int, launcher: str, workers: int | None, means: "Means", dry_run: bool, screen: Console) -> "Tuning | None":
    from isoflop import tune as tuning
    from isoflop.launch import View, cores

    _prepare(work)
    at, at_once = tuning.sites(work.study, work.text, sizes=sizes), workers or cores()
    wanted = work.unfinished(tuning.asked(work.study, work.text, at))
    seconds = work.seconds(wanted, device=means.device)
    times = None if wanted and not seconds else list(seconds.values())
    screen.print(tuning.price(at, times, study_flops=work.design().flops_shared, workers=at_once), soft_wrap=True)
    if dry_run:
        return None
    return tuning.run(
        work.study,
        work.text,
        at,
        folder=work.folder,
        corpus_folder=work.corpus.folder,
        workers=at_once,
        launcher=launcher,
        means=means,
        watch=lambda specs, records: View(specs, records=records, seconds=seconds, workers=at_once, title="tune"),
    )


@app.command(epilog="Example: isoflop train my_study.toml --workers 2")
def train(
    study: StudyArg,
    folder: FolderOpt = None,
    launcher: LauncherOpt = "pool",
    workers: WorkersOpt = None,
    track: TrackOpt = None,
    device: DeviceOpt = "cpu",
    compiling: CompileOpt = "auto",
    deterministic: DeterministicOpt = False,
    retry: RetryOpt = False,
    measure: TimeOpt = False,
    dry_run: DryOpt = False,
) -> None:
    """Train the runs of the design that are not trained yet."""
    work = _open(study, folder, looking="train" if dry_run else "")
    specs, seconds = _designed(work, workers=workers, device=device, measure=measure)
    if not dry_run:
        records = _train(work, specs, launcher, workers, seconds=seconds, retry=retry, track=track, means=_means(device, compiling, deterministic))
        _refuse_unfinished(records, "train", study, folder)
        _next("fit", study, folder)


@app.command(epilog="Example: isoflop runs studies/quickstart --csv runs.csv")
def runs(
    study: StudyArg,
    folder: FolderOpt = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a CSV file; - for standard output.", show_default=False)] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write a Parquet file.", show_default=False)] = None,
    as_json: JsonOpt = False,
) -> None:
    """List the runs of a study, finished or not; or export them."""
    from isoflop.report import export, tables

    work = _open(study, folder, looking="runs")
    rows = work.rows()
    if csv is not None:
        _deliver(csv, export.to_csv(rows).encode("utf-8", "backslashreplace"))
    if parquet is not None:
        _deliver(parquet, export.to_parquet(rows))
    if as_json:
        out.print_json(json.dumps(rows))
    if csv is None and parquet is None and not as_json:
        _print_table(tables.runs(rows))


@app.command(epilog="Example: isoflop laws hoffmann3")
def laws(
    name: Annotated[
        str | None,
        typer.Argument(autocompletion=choices.complete_laws, help="A law, or a paper; all that is known of it.  [default: a list of all]", show_default=False),
    ] = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """List the published laws, or say all of one: constants, source, counting, traps."""
    from isoflop import published
    from isoflop.report import laws as tables
    from isoflop.report import values

    _one_format(markdown=markdown, as_json=as_json)
    fits = published.every() if name is None else published.get(name)
    if as_json:
        out.print_json(json.dumps(values.laws(fits)))
        return
    for table in [tables.laws(fits)] if name is None else [tables.law(fit) for fit in fits]:
        _print_table(table, markdown=markdown)


@app.command(epilog="Example: isoflop fit runs.csv --where 'flops >= 1e18' --at 5.76e23 --out fits.json")
def fit(
    what: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS...",
            help="A study; or runs: files, a folder or a pattern of CSV, JSON, Parquet, Markdown, W&B, TensorBoard, MLflow, Hugging Face.",
            show_default=False,
        ),
    ],
    approach: Annotated[
        str,
        _choice(
            "--approach",
            "approach",
            help="Approach 1 is envelope, 2 is isoflop, 3 is parametric.",
        ),
    ] = "all",
    law: Annotated[
        str | None,
        _choice(
            "--law",
            "law",
            help="Form of the parametric law.  [default: chinchilla]",
            show_default=False,
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        _choice(
            "--estimator",
            "estimator",
            help="Of the parametric law.  [default: huber]",
            show_default=False,
        ),
    ] = None,
    delta: Annotated[float | None, typer.Option("--delta", help="Of Huber's loss.  [default: 0.001]", show_default=False)] = None,
    method: Annotated[
        str | None,
        _choice(
            "--method",
            "method",
            help="Of IsoFLOP profiles.  [default: parabola]",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str | None,
        _choice("--rule", "rule", help="Of the envelope.  [default: finished]", show_default=False),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="What a column is: params=COLUMN; more than once, or with commas.", show_default=False)
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="Which rows, such as 'flops <= 1e20'.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What file names hold, such as 'N{params}_D{tokens}'.  [default: recognised where plain]", show_default=False)
    ] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="Sign before decimals: . or a comma.  [default: by the text]", show_default=False)] = None,
    source: Annotated[
        str | None,
        _choice(
            "--from",
            "format",
            help="Format of the file.  [default: by its content]",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        str | None,
        _choice("--count", "count", help="How params are counted.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--budget-tolerance", help="How far FLOPs of one budget lie apart.  [default: 0.1]", show_default=False)
    ] = None,
    every_point: Annotated[bool, typer.Option("--every-point", help="Take every row as a run, not as a point of a curve.")] = False,
    every_run: Annotated[bool, typer.Option("--every-run", help="Fit every learning rate and batch of a size and length, not only the best.")] = False,
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", help="Fit all values of this column as one law; more than once for several, or all.", show_default=False),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Fit the runs of each value of this column by themselves.", show_default=False)] = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", help="Unit of the loss: nats, perplexity, bits per byte, token or character.  [default: by its name]", show_default=False),
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="FLOPs to predict.  [default: ten times the largest run]", show_default=False)] = None,
    extrapolate: Annotated[bool, typer.Option("--extrapolate", help="Accept a budget more than 50 times outside the runs.")] = False,
    intervals: Annotated[
        str | None,
        _choice(
            "--intervals",
            "intervals",
            help="How runs are resampled.  [default: by approach]",
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[int, typer.Option("--resamples", help="Behind the intervals.")] = 400,
    seed: Annotated[int, typer.Option("--seed", help="Of the resamples.")] = 0,
    level: Annotated[float, typer.Option("--level", help="Of the intervals.")] = 0.8,
    profile: Annotated[bool, typer.Option("--profile", help="Show the limits of Approach 3 by profile likelihood, too.")] = False,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Set no run aside that is far off.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help="Save the fits (JSON), for plan --fit.", show_default=False)] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="Draw them into this folder: PNG, SVG and HTML.", show_default=False)] = None,
    folder: FolderOpt = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Fit how loss depends on size and tokens.

    By the three approaches of Hoffmann et al. 2022, to a study or to runs made elsewhere.
    """
    from isoflop.fit import Choices
    from isoflop.fit.asked import Asked

    with _errors_in_json(as_json):
        _one_format(markdown=markdown, as_json=as_json)
        chosen = Choices(law=law, estimator=estimator, delta=delta, method=method, rule=rule, intervals=intervals)
        asked = Asked(
            approach=approach, choices=chosen, columns=tuple(columns or ()), where=where, name=name, decimal=decimal, kind=source, count=count,
            tolerance=tolerance, every_point=every_point, every_run=every_run, pool=tuple(pool or ()), unit=unit, at=at, resamples=resamples, seed=seed,
            level=level, profile=profile, keep_all=keep_all, extrapolate=extrapolate,
        )  # fmt: skip
        if by is not None:
            _fit_each(what, asked, by, to=to, figures=figures, markdown=markdown, as_json=as_json)
            return
        found = _find(what, asked, folder, markdown=markdown, as_json=as_json)
    if not as_json:  # first: a full disk shall not take the answer
        _show_fits(found, level=level, markdown=markdown)
    _keep_fits(found, path=to, as_json=as_json)
    if figures is not None:
        _draw_fits(found, figures)
    found.answer.require()
    if as_json:
        return
    if found.study is not None and to is None:
        _next("plan", what[0], folder)
        return
    plan_it = f"isoflop plan --fit {_quoted(to or '')} {units.flops(found.flops)}"
    err.print(f"next: {plan_it}" if to else "next: the same with --out fits.json, then isoflop plan --fit fits.json FLOPS", soft_wrap=True)


def _fit_each(what: "Sequence[Path]", asked: "Asked", column: str, *, to: Path | None, figures: Path | None, markdown: bool, as_json: bool) -> None:
    """Fit the runs of each value of a column; the exit status is 1 if one of them has no answer."""
    from isoflop import workspace
    from isoflop.report import export

    every: list[dict[str, object]] = []
    refused = []
    for value, words in workspace.split(what, asked, column):
        called = re.sub(r"[^\w.-]+", "_", value) or "empty"
        if not as_json:
            out.print(f"== {column}: {value or 'empty'}", soft_wrap=True)
        try:
            found = _find(what, words, None, markdown=markdown, as_json=as_json)
            if not as_json:
                _show_fits(found, level=words.level, markdown=markdown)
            _keep_fits(found, path=to and to.with_stem(f"{to.stem}-{called}"), as_json=False)
            if figures is not None:
                _draw_fits(found, figures / called)
            every.append({"value": value, **export.found_json(found.fits, found.account, found.answer, limits=found.limits)})
            found.answer.require()
        except (QuestionError, FitError, RefusedError, ExtrapolationError) as error:
            refused.append(value)
            err.print(f"isoflop: {column} {value or 'empty'}: {error}", soft_wrap=True)
            if not every or every[-1]["value"] != value:
                every.append({"value": value, **export.refused_json(error)})
        if not as_json:
            out.print()
    if as_json:
        out.file.write(json.dumps({"by": column, "fits": every}) + "\n")
    if refused:
        raise typer.Exit(1)


def _find(what: "Sequence[Path]", asked: "Asked", folder: Path | None, *, markdown: bool, as_json: bool) -> "Found":
    """Read and fit; where no approach can fit the runs, show what was read before the error says why."""
    from isoflop import workspace
    from isoflop.errors import NoLawError
    from isoflop.report import fits as tables
    from isoflop.report.progress import Bar

    try:
        with Bar(err) as bar:
            return workspace.find(what, asked, folder=folder, on_progress=bar.update)
    except NoLawError as error:
        if not as_json:
            _print_table(tables.account(cast("Account", error.account), ()), markdown=markdown)
        raise


@contextlib.contextmanager
def _errors_in_json(as_json: bool) -> "Iterator[None]":
    """Print an error as JSON, too: programs that read stdout get the reason where they look for the answer."""
    try:
        yield
    except IsoflopError as error:
        if as_json:
            from isoflop.report import export

            out.file.write(json.dumps(export.refused_json(error)) + "\n")
        raise


def _keep_fits(found: "Found", *, path: Path | None, as_json: bool) -> None:
    """Write the fits as JSON, to a file and to stdout as the options say."""
    if path is None and not as_json:
        return
    from isoflop.fit import saved
    from isoflop.report import export

    text = saved.dumps(found.fits, found.account, said=export.found_json(found.fits, found.account, found.answer, limits=found.limits))
    if path is not None:
        _deliver(path, text.encode())
    if as_json:
        out.file.write(text)


def _draw_fits(found: "Found", folder: Path) -> None:
    from isoflop.report import fitted

    for path in fitted.write(found.fits, found.runs, folder, target=found.flops if found.answer.given else None):
        err.print(f"wrote {path}", soft_wrap=True)


def _show_fits(found: "Found", *, level: float, markdown: bool) -> None:
    from isoflop.report import fits as tables
    from isoflop.report import limits, outlook

    fits = found.fits
    shown = (
        tables.account(found.account, fits), tables.exponents(fits, level=level), *tables.holdout(fits), outlook.predictions(fits, found.answer),
    )  # fmt: skip
    for table in shown:
        _print_table(table, markdown=markdown)
        out.print()
    if found.overlong is not None:
        _print_schedules(fits, found.overlong, level=level, markdown=markdown)
    for name, reason in fits.left_out:
        err.print(f"note: {name} is left out: {reason}", soft_wrap=True)
    _warn(fits, accounted=True)
    for sentence in outlook.words(fits, found.answer):
        out.print(sentence, soft_wrap=markdown)
    if found.answer.given and (sentence := tables.in_all(found.account, found.answer.prediction.params)):
        out.print(sentence, soft_wrap=markdown)
    if found.limits:
        out.print()
        _print_table(limits.table(found.limits, unit=found.account.unit, level=level), markdown=markdown)


@app.command(epilog="Example: isoflop plan --gpus 1024 --gpu h100 --days 30 --shape")
def plan(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY] [FLOPS]", help="A training budget like 5.76e23; before it a study, to plan by its own fits.")
    ] = None,
    law: Annotated[
        list[str] | None,
        typer.Option("--law", autocompletion=choices.complete_laws, help="A published law (isoflop laws); more than once for several.", show_default=False),
    ] = None,
    fit: Annotated[Path | None, typer.Option("--fit", help="Plan by fits that `isoflop fit --out` saved.", show_default=False)] = None,
    gpus: Annotated[str | None, typer.Option("--gpus", help="How many accelerators.", show_default=False)] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", autocompletion=choices.complete("gpu"), help=f"Which: {', '.join(choices.MENUS['gpu'])}.", show_default=False)
    ] = None,
    days: Annotated[str | None, typer.Option("--days", help="Plan for so many days on them.", show_default=False)] = None,
    time: Annotated[str | None, typer.Option("--time", help="The same as 3h, 30d or 2w.", show_default=False)] = None,
    dollars: Annotated[str | None, typer.Option("--dollars", help="Plan for so much money on them, like 2M.", show_default=False)] = None,
    params: Annotated[str | None, typer.Option("--params", help="Plan the budget at which this size is optimal, like 70B.", show_default=False)] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="The same for tokens, like 1.4T.", show_default=False)] = None,
    loss: Annotated[str | None, typer.Option("--loss", help="Plan the least budget for this loss, in nats a token.", show_default=False)] = None,
    mfu: Annotated[str | None, typer.Option("--mfu", help="Share of the peak rate that training reaches.  [default: 40%]", show_default=False)] = None,
    price: Annotated[str | None, typer.Option("--price", help="Dollars an accelerator an hour.  [default: 2, an assumption]", show_default=False)] = None,
    watts: Annotated[str | None, typer.Option("--watts", help="Power of one accelerator.  [default: the board's limit]", show_default=False)] = None,
    pue: Annotated[str | None, typer.Option("--pue", help="Power of the building over that of the machines.  [default: 1.1]", show_default=False)] = None,
    kg_co2: Annotated[str | None, typer.Option("--kg-co2", help="CO2e of a kWh, in kg.  [default: 0.39, the US]", show_default=False)] = None,
    smaller: Annotated[bool, typer.Option("--smaller", help="What models smaller than optimal cost to train, and when they pay.")] = False,
    inference_tokens: Annotated[str | None, typer.Option("--inference-tokens", help="Least training and inference together.", show_default=False)] = None,
    inference_mfu: Annotated[
        str | None, typer.Option("--inference-mfu", help="Share of the peak that inference reaches.  [default: as training]", show_default=False)
    ] = None,
    unique_tokens: Annotated[str | None, typer.Option("--unique-tokens", help="Only so many tokens are new; others repeat.", show_default=False)] = None,
    shape: Annotated[bool, typer.Option("--shape", help="Propose layers, width, heads, learning rate, batch and schedule.")] = False,
    arch: Annotated[
        str | None,
        _choice(
            "--arch",
            "family",
            help="Family of the shape.  [default: llama]",
            show_default=False,
        ),
    ] = None,
    vocab: Annotated[int | None, typer.Option("--vocab", min=2, max=10**7, help="Of the tokenizer.  [default: 32000]", show_default=False)] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, max=10**8, help="Tokens a sequence.  [default: 2048]", show_default=False)] = None,
    untied: Annotated[bool, typer.Option("--untied", help="An output head of its own (llama).")] = False,
    kv_heads: Annotated[int | None, typer.Option("--kv-heads", min=1, help="At most so many heads of keys and values.", show_default=False)] = None,
    recipe: Annotated[
        str | None,
        _choice(
            "--recipe",
            "recipe",
            help="Rule for learning rate and batch.  [default: deepseek]",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw the laws and known models: .html, .svg or .png.", show_default=False)] = None,
    folder: FolderOpt = None,
    extrapolate: Annotated[bool, typer.Option("--extrapolate", help="Accept a budget far outside the data.")] = False,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Say how big a model, on how many tokens, at what loss.

    By published laws, by a study's own fits, or by saved ones. And what that takes: time, money, energy, memory; inference; data.
    """
    from isoflop.plan import request

    with _errors_in_json(as_json):
        study, flops = _study_and_budget(what or [])
        asked = request.Request(
            flops=flops, laws=tuple(law or ()), gpus=gpus, gpu=gpu, days=days, time=time, dollars=dollars, params=params, tokens=tokens, loss=loss, mfu=mfu,
            price=price, watts=watts, pue=pue, kg_co2=kg_co2, smaller=smaller, inference_tokens=inference_tokens, inference_mfu=inference_mfu,
            unique_tokens=unique_tokens, shape=shape, arch=arch, vocab=vocab, context=context, untied=untied, kv_heads=kv_heads, recipe=recipe,
            extrapolate=extrapolate,
        )  # fmt: skip
        _one_format(markdown=markdown, as_json=as_json)
        kind = None if figure is None else _figure_kind(figure)
        if study is None:
            if folder is not None:
                raise UsageError(f"--folder {folder} is where a study is kept, and no study is planned for. Leave it out, or name the study.")
            if fit is not None:
                _plan_saved(fit, asked, figure=figure, kind=kind, markdown=markdown, as_json=as_json)
                return
            question = request.read(asked, target=None if figure is None else request.GOPHER)
        elif fit is not None:
            raise UsageError(f"--fit {fit} and the study {study} are two sets of fits. Give one of them.")
        else:
            work = _open(Path(study), folder)
            if asked.plain and figure is None:
                _plan_study(work, asked, markdown=markdown, as_json=as_json)
                return
            question = work.question(asked)
        _answer(question, figure=figure, kind=kind, markdown=markdown, as_json=as_json)


def _plan_saved(path: Path, asked: "Request", *, figure: Path | None, kind: "FigureKind | None", markdown: bool, as_json: bool) -> None:
    from isoflop import workspace
    from isoflop.fit import answers
    from isoflop.report import fits as tables
    from isoflop.report import outlook

    kept = workspace.kept_fits(path)
    question = workspace.ask(kept, asked)
    words: Sequence[str] = ()
    if question.goal.quantity == "flops":
        found = answers.answer(kept.fits, question.goal.value, extrapolate=question.extrapolate)
        in_all = tables.in_all(kept.account, found.prediction.params) if found.given else ""
        words = (*outlook.words(kept.fits, found), *([in_all] if in_all else []))
    _answer(question, figure=figure, kind=kind, markdown=markdown, as_json=as_json, words=words)


def _study_and_budget(words: list[str]) -> tuple[str | None, str | None]:
    """The study, if the first word is no quantity but a path, and the budget."""
    study = words[0] if words and _is_path(words[0]) else None
    budgets = words[1:] if study else words
    if len(budgets) == 2 and _UNIT.fullmatch(budgets[1]):  # 1e23 FLOPs, without quotes
        budgets = [" ".join(budgets)]
    for budget in budgets:
        units.read_flops(budget)
    if len(budgets) > 1:
        raise UsageError(f"{' '.join(budgets)} are {len(budgets)} budgets; give one, after the study if there is one: isoflop plan [STUDY] [FLOPS].")
    return study, budgets[0] if budgets else None


def _is_path(word: str) -> bool:
    try:
        units.read_flops(word)
    except UsageError:
        with contextlib.suppress(OSError, ValueError):  # too long for a name, or no name at all
            return word.endswith(".toml") or "/" in word or "\\" in word or (bool(word) and Path(word).exists())
    return False


def _figure_kind(path: Path) -> "FigureKind":
    from isoflop.report import landscape

    return landscape.kind(path)


def _one_format(*, markdown: bool, as_json: bool) -> None:
    if markdown and as_json:
        raise UsageError("--markdown and --json are two ways to print the same. Give one of them.")


def _plan_study(work: "Workspace", asked: "Request", *, markdown: bool, as_json: bool) -> None:
    from isoflop.report import export, tables

    plans = work.plan(None if asked.flops is None else units.read_flops(asked.flops), extrapolate=asked.extrapolate)
    if as_json:
        out.print_json(json.dumps(export.plans_json(plans)))
        return
    _print_table(tables.plans(plans), markdown=markdown)
    _next("validate", work.folder, None)


def _answer(question: "Question", *, figure: Path | None, kind: "FigureKind | None", markdown: bool, as_json: bool, words: "Sequence[str]" = ()) -> None:
    from isoflop.plan.question import answer
    from isoflop.report import planning, values

    found = answer(question)
    for note in found.notes:
        err.print(f"note: {note}", soft_wrap=True)
    if figure is not None and kind is not None:
        _landscape(figure, found, kind)
    if as_json:
        out.print_json(json.dumps(values.plan(found)))
        return
    for table in (planning.plan(found), *planning.details(found)):
        _print_table(table, markdown=markdown)
        out.print()
    for sentence in words:
        out.print(sentence, soft_wrap=markdown)
    own = all(fit.spread for fit in question.fits)
    err.print("next: isoflop compare, to see where known models stand" + ("" if own else "; isoflop init, to fit laws to your own text") + ".", soft_wrap=True)


def _landscape(path: Path, found: "Answer", kind: "FigureKind") -> None:
    from isoflop import compare as comparing
    from isoflop.report import landscape

    goal = found.estimates.goal
    models = [m for m in comparing.MODELS if m.name in comparing.LANDMARKS]
    _deliver(path, landscape.page(found.estimates.rows, models, rule=goal.value if goal.quantity == "flops" else None, kind=kind))


@app.command(epilog="Example: isoflop compare gopher chinchilla gpt-3")
def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(autocompletion=choices.complete_models, help="Known models, or your own as NAME=70B:1.4T.  [default: all]", show_default=False),
    ] = None,
    law: Annotated[
        list[str] | None,
        typer.Option("--law", autocompletion=choices.complete_laws, help="A published law (isoflop laws); more than once for several.", show_default=False),
    ] = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Say where known models stand: over-sized, under-trained, and what it cost."""
    from isoflop import compare as comparing
    from isoflop import published
    from isoflop.report import standings, values

    _one_format(markdown=markdown, as_json=as_json)
    asked = [comparing.model(name) for name in models] if models else list(comparing.MODELS)
    found = comparing.compare(asked, [fit for name in law or comparing.LAWS for fit in published.get(name)])
    for name, reason in found.left_out:
        err.print(f"note: {name} is left out: {reason}", soft_wrap=True)
    if as_json:
        out.print_json(json.dumps(values.standings(found)))
        return
    _print_table(standings.table(found), markdown=markdown)


@app.command(epilog="Example: isoflop validate studies/quickstart")
def validate(
    study: StudyArg,
    folder: FolderOpt = None,
    launcher: LauncherOpt = "pool",
    workers: WorkersOpt = None,
    track: TrackOpt = None,
    device: DeviceOpt = "cpu",
    compiling: CompileOpt = "auto",
    deterministic: DeterministicOpt = False,
    retry: RetryOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Train the predicted optimum against a larger model.

    At equal compute: the study's target. Says which won, and whether the predicted loss was right.
    """
    work = _open(study, folder)
    fits = work.fit()
    means = _means(device, compiling, deterministic)
    records = _train(work, work.claim(fits=fits), launcher, workers, title="proof", retry=retry, track=track, means=means)
    results = work.results(fits=fits, command=_command())
    if as_json and results.validation is not None:
        from isoflop.report import export

        out.print_json(json.dumps(export.validation_json(results.validation)))
        _refuse_unfinished(records, "validate", study, folder)
        return
    _print_answer(results)
    _refuse_unfinished(records, "validate", study, folder)
    _next("report", study, folder)


@app.command(epilog="Example: isoflop report studies/quickstart")
def report(
    study: StudyArg,
    folder: FolderOpt = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where the page goes.  [default: report/ of the study]", show_default=False)] = None,
) -> None:
    """Write the report: one page that opens offline.

    Its figures lie beside it as SVG and PNG.
    """
    work = _open(study, folder)
    fits = work.fit()
    out.print(f"Report: {work.report(work.results(fits=fits, command=_command()), folder=to)}", soft_wrap=True)
    work.answer(fits=fits).require()


@app.command(epilog="Example: isoflop export studies/quickstart:chinchilla quickstart-hf")
def export(
    run: Annotated[str, typer.Argument(help="STUDY:ID, STUDY:PART of the proof, or a run's folder.", show_default=False)],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    folder: FolderOpt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that was changed, or another model's folder.")] = False,
) -> None:
    """Write a run as a model for Hugging Face's transformers.

    A folder with configuration, weights, tokenizer and card, which AutoModelForCausalLM loads. Of the llama family.
    """
    from isoflop import export as exporting

    source = exporting.source(_run_folder(run, folder))
    exporting.export(source, to, overwrite=overwrite)
    out.print(f"Run {source.record.id}, {units.count(source.record.params.total)} parameters, is in {to} as a model for transformers.", soft_wrap=True)
    pipeline = f"""from transformers import pipeline; print(pipeline("text-generation", {str(to)!r})("The ")[0]["generated_text"])"""
    err.print(f"next: python -c {shlex.quote(pipeline)}", soft_wrap=True)


def _run_folder(run: str, folder: Path | None) -> Path:
    """The folder of a run that was typed as a path or by its study."""
    if (Path(run) / "record.json").is_file():
        return Path(run)
    study, colon, name = run.rpartition(":")
    if not colon:
        raise UsageError(f"{run} is no run's folder. Say which run of a study: {run}:chinchilla for the predicted optimum of its proof, or {run}:ID.")
    from isoflop import export as exporting

    return exporting.find(_open(Path(study), folder).folder, name)


def _open(study: Path, folder: Path | None, *, looking: str = "") -> "Workspace":
    """Open a study; for a verb that changes nothing, with a note if the folder holds another one."""
    from isoflop import workspace

    work = workspace.open(study, folder=folder)
    if looking and (held := work.held(looking)):
        err.print(f"note: {held}", soft_wrap=True)
    return work


def _prepare(work: "Workspace") -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from isoflop import data

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("text", total=1.0)
        notices: list[str] = []
        corpus = work.prepare(lambda what, fraction: progress.update(task, description=what, completed=fraction), on_notice=notices.append)
    for warning in (*notices, *data.warnings(corpus)):
        err.print(f"warning: {warning}", soft_wrap=True, markup=False)


def _designed(work: "Workspace", *, workers: int | None, device: str = "cpu", measure: bool = False) -> "tuple[tuple[RunSpec, ...], Mapping[str, float]]":
    """Prepare the text, design the runs, and print what they will take before anything is spent.

    Returns:
        The runs, and the seconds of those still to train, where they are known.
    """
    from isoflop import data
    from isoflop.report import tables

    _prepare(work)
    design = work.design()
    left = work.unfinished(design.specs)
    with err.status("timing a few real steps of each size ...", spinner="line") if measure else contextlib.nullcontext():
        seconds = work.seconds(left, device=device, measure=measure)
    corpus = work.corpus
    _print_table(tables.design(design.specs, train_tokens=corpus.train_tokens, seconds=seconds, left={spec.id for spec in left}))
    text = f"Text: {units.count(corpus.train_tokens)} tokens to train on, {data.summary(corpus)}"
    out.print(text, soft_wrap=True, markup=False)
    if left:
        known = f", {len(design.specs) - len(left)} are trained already" if len(left) < len(design.specs) else ""
        again = len(work.only_evaluated(left))
        known += f"; of {again} only the loss is measured again, for their weights are kept" if again else ""
        out.print(f"{len(left)} runs to train{known}: {_time_of(work, seconds, workers, device=device, measure=measure)}", soft_wrap=True)
        _print_needs(work, left, workers, device)
    if measure and work.study.precision == "float32" and len(left) == len(design.specs):  # free to choose: nothing is trained yet
        _print_gain(work, max(left, key=lambda spec: seconds[spec.id]), device)
    if design.flops_shared < design.flops:
        saved = f"{units.flops(design.flops_shared)} FLOPs to train, for sizes share their trunks; {units.flops(design.flops)} with each run on its own"
        out.print(f"{saved} ({design.flops_shared / design.flops:.0%}).", soft_wrap=True)
    for warning in design.warnings:
        err.print(f"warning: {warning}")
    return design.specs, seconds


def _time_of(work: "Workspace", seconds: "Mapping[str, float]", workers: int | None, *, device: str, measure: bool) -> str:
    """How long the runs and the proof will take, and how sure that is."""
    from isoflop.design import proof_to_come
    from isoflop.launch import certainty, cores

    at_once = workers or cores()
    proof = work.seconds(proof_to_come(work.study, work.text), device=device, measure=measure)
    if not seconds or not proof:
        return f"{at_once} at once. The time on {device} cannot be predicted; --time measures it."
    ahead, then = (units.duration(max(sum(s.values()) / at_once, *s.values())) for s in (seconds, proof))
    how = "Measured by a few steps of each size." if measure else f"{certainty()} --time measures it."
    return f"about {ahead}, {at_once} at once, and {then} more for the proof. {how}"


def _print_needs(work: "Workspace", left: "Sequence[RunSpec]", workers: int | None, device: str) -> None:
    """What the runs need of memory, which of them this machine can never train, and whether a C compiler would make them faster."""
    from isoflop.launch import cores, too_large

    if device == "cpu":
        out.print(_memory_of(left, workers or cores()))
        refused = too_large(left)
        for reason in refused[:1]:
            err.print(f"warning: {len(refused)} of {len(left)} runs do not fit this machine, and will not be tried. The first: {reason}", soft_wrap=True)
    if missed := _missed_kernels(work.study, device):
        out.print(missed, soft_wrap=True)


def _print_gain(work: "Workspace", longest: "RunSpec", device: str) -> None:
    from isoflop.launch import fits_now

    gain = work.gain_of_bf16(longest, device=device) if device != "cpu" or fits_now(longest) else 0.0
    if gain >= BF16_PAYS:
        out.print(f'precision = "bf16" in the study would train the longest run {gain:.1f} times as fast on this machine (docs/train.md).', soft_wrap=True)


def _missed_kernels(study: "Study", device: str) -> str:
    """What runs would gain from a C compiler that is not there; nothing if they gain nothing."""
    from isoflop.arch import _kernels

    could = device == "cpu" and (study.arch, study.precision) == ("llama", "float32")
    why = _kernels.why_not() if could else ""
    return f"There is no working C compiler ({why}). With gcc or clang, or another that CC names, these runs would train faster (docs/train.md)." if why else ""


def _memory_of(left: "Sequence[RunSpec]", at_once: int) -> str:
    """What the runs still to train need of memory on a CPU, and what there is."""
    from isoflop.launch import _memory

    needs = sorted((_memory.need(spec).total for spec in left), reverse=True)
    free = _memory.free()
    there = "" if math.isinf(free) else f", and {units.size(free)} free"
    return f"Memory: {units.size(needs[0])} for the largest run, {units.size(sum(needs[:at_once]))} for the {min(at_once, len(needs))} largest at once{there}."


def _means(device: str, compiling: str, deterministic: bool) -> "Means":
    from isoflop.launch import Means

    if device != "cpu":  # refused once and here, not by every run
        from isoflop import train as training

        training.present(device)
    return Means(device=device, compile=cast("Compile", compiling), deterministic=deterministic)


def _train(
    work: "Workspace",
    specs: "Sequence[RunSpec]",
    launcher: str,
    workers: int | None,
    *,
    seconds: "Mapping[str, float] | None" = None,
    retry: bool = False,
    title: str = "train",
    track: "Sequence[str] | None" = None,
    means: "Means",
) -> "tuple[RunRecord, ...]":
    """Train what is not trained yet, with a view of it; return the records of all."""
    from isoflop.launch import View, cores

    with View(specs, records=[r for r in work.timed(specs) if not retry or r.status == "ok"], seconds=seconds, workers=workers or cores(), title=title) as view:
        return work.train(
            specs,
            launcher=launcher,
            workers=workers,
            retry=retry,
            track=track or (),
            means=means,
            on_event=view.on_event,
        )


def _refuse_unfinished(records: "Sequence[RunRecord]", verb: str, study: Path, folder: Path | None) -> None:
    """Say which runs failed or diverged, once all others are trained.

    Raises:
        TrainError: There are some.
    """
    counts = {status: sum(record.status == status for record in records) for status in ("failed", "diverged")}
    if any(counts.values()):
        what = " and ".join(f"{count} {status}" for status, count in counts.items() if count)
        at = f"{shlex.quote(str(study))}" + (f" --folder {shlex.quote(str(folder))}" if folder else "")
        raise TrainError(f"{what} of {len(records)} runs. `isoflop runs {at}` says why. Once the cause is fixed: isoflop {verb} {at} --retry")


def _print_fits(fits: "Fits", work: "Workspace") -> None:
    from isoflop.report import tables

    plans = work.plan(fits=fits) if work.answer(fits=fits).given else ()
    _print_table(tables.approaches(fits.fits, plans, fits.left_out))
    _print_schedules(fits, work.overlong())
    _warn(fits)


def _print_schedules(fits: "Fits", overlong: "Fit | None", *, level: float | None = None, markdown: bool = False) -> None:
    from isoflop.report import schedules
    from isoflop.report.results import LEVEL

    matched = next((fit for fit in fits if fit.approach == "isoflop"), None)
    if matched is not None and overlong is not None:
        _print_table(schedules.table(matched, overlong, level=level or LEVEL), markdown=markdown)


def _warn(fits: "Fits", *, accounted: bool = False) -> None:
    from isoflop.report import fits as tables

    for warning in tables.warnings(fits, accounted=accounted):
        err.print(f"warning {warning}")


def _print_answer(results: "Results") -> None:
    from isoflop.report import tables
    from isoflop.report.answer import answer

    words = answer(results)
    if results.validation is not None:
        _print_table(tables.proof(results.validation))
    out.print()
    out.print("".join(part for part, _ in words.headline))
    for sentence in (words.expectation, *words.proof, *words.cautions):
        out.print(sentence)


def _print_table(table: "Table", *, markdown: bool = False) -> None:
    from isoflop.report import terminal
    from isoflop.report.table import markdown as written

    if markdown:
        out.print(written(table), end="", soft_wrap=True)
    else:
        terminal.show(out, table)


def _deliver(path: Path, content: bytes) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        return
    from isoflop.store import files

    if path.exists() and not (path.is_file() or path.is_dir()):  # /dev/stdout, a pipe: written through, for a rename would put a file in its place
        files.through(path, content)
        return
    files.write(path, content)
    err.print(f"wrote {path}")


def _next(verb: str, study: Path, folder: Path | None) -> None:
    err.print(f"next: isoflop {verb} {_quoted(study)}" + (f" --folder {_quoted(folder)}" if folder else ""), soft_wrap=True)


def _quoted(path: "Path | str") -> str:
    """Return a path as a shell reads it; bytes that are not UTF-8 and characters that a terminal obeys as bash, zsh and ksh escape them."""
    text = str(path)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(path)) + "'"


def _command() -> str:
    return " ".join(["isoflop", *sys.argv[1:]])


def main() -> None:
    """Run the command line: an error of ours becomes one message and an exit status, never a traceback."""
    _streams.guard()
    status = _status()
    failure = _streams.finish()
    if failure is not None:
        status = status or 1
        if failure.errno != errno.EPIPE:  # a reader that has left has seen enough
            err.print(f"isoflop: the answer could not be printed: {failure.strerror}.", soft_wrap=True)
    sys.exit(status)


def _ask(question: QuestionError) -> None:
    """Print a question with its readings; an option stands on a line of its own, never broken, so that it can be pasted into a shell."""
    from rich.padding import Padding

    err.print(f"isoflop: {question.question} Choose one:")
    for reading in question.readings:
        err.print(f"  {reading.option}", soft_wrap=True)
        err.print(Padding(reading.text, (0, 0, 0, 6)))


def _status() -> int:
    """Run the command that was typed and return its exit status."""
    try:
        name = "isoflop" if Path(sys.argv[0]).stem == "isoflop" else None  # else as it was called: python -m isoflop
        status = app(standalone_mode=False, prog_name=name)  # that of an Exit; None where a command came to its end
    except MISUSE as error:
        from isoflop import _misuse

        said, status = _misuse.sentence(error, sys.argv[1:]), 2
    except QuestionError as error:
        _ask(error)
        return 2
    except IsoflopError as error:
        said, status = f"isoflop: {error}", 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # of a file that the answer was written to: its reader has seen enough
        return 1
    except OSError as error:
        said, status = f"isoflop: {error}.", 1
    except MemoryError:
        said, status = "isoflop: memory ran out. End other programs, or raise the limit (ulimit -v), then run the same command again.", 1
    except RuntimeError as error:
        if str(error) != "can't start new thread":  # Python has no exception of its own for it
            raise
        said, status = "isoflop: the system starts no more threads. Raise the limit (ulimit -u, or the container's), then run the same command again.", 1
    else:
        return status if isinstance(status, int) else 0
    err.print(said, soft_wrap=True)
    return status


if __name__ == "__main__":
    main()
