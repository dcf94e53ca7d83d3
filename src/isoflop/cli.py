"""The command line: one verb a stage, in pipeline order. Results go to stdout, progress to stderr; 1 is our error, 2 is a misuse."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from isoflop import STAGES, units
from isoflop.errors import IsoflopError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isoflop.fit import Fits
    from isoflop.plan.question import Answer, Question
    from isoflop.plan.request import Request
    from isoflop.report.results import Results
    from isoflop.report.table import Table
    from isoflop.runs import RunSpec
    from isoflop.workspace import Workspace


class Verbs(typer.core.TyperGroup):
    """The verbs in pipeline order; Ctrl-C in any of them says that nothing is lost."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order that --help shows."""
        return sorted(super().list_commands(ctx), key=["run", *STAGES].index)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("\nisoflop: stopped; nothing is lost. The same command goes on from here.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="With this much compute, how big a model, on how many tokens?",
    epilog="Begin with: isoflop run examples/1_quickstart.toml",
)
study_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at a study: the one file that says what to find out.")

out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

StudyArg = Annotated[Path, typer.Argument(help="A study file (TOML), or the folder of a study made before.", show_default=False)]
FolderOpt = Annotated[Path | None, typer.Option("--folder", help="Where runs and report go.  [default: studies/NAME]", show_default=False)]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MarkdownOpt = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]
WorkersOpt = Annotated[int | None, typer.Option("--workers", min=1, help="Processes at once.  [default: as many as cores]", show_default=False)]
LauncherOpt = Annotated[str, typer.Option("--launcher", help="How runs are started: pool (processes on this machine) or inline (one after the other).")]
DryOpt = Annotated[bool, typer.Option("--dry-run", help="Print runs, FLOPs and time; train nothing.")]


@app.command(epilog="Example: isoflop run examples/1_quickstart.toml")
def run(study: StudyArg, folder: FolderOpt = None, launcher: LauncherOpt = "pool", workers: WorkersOpt = None, dry_run: DryOpt = False) -> None:
    """Do every stage: design, train, fit, plan, validate, report. Goes on where it was stopped."""
    work = _open(study, folder)
    specs, seconds = _designed(work, workers=workers)
    if dry_run:
        return
    _train(work, specs, launcher, workers, seconds=seconds)
    fits = work.fit()
    _print_fits(fits, work)
    _train(work, work.proof(fits=fits), launcher, workers, title="proof")
    results = work.results(fits=fits, command=_command())
    path = work.report(results)
    _print_answer(results)
    out.print(f"\nReport: {path}", soft_wrap=True)


@study_app.command("show", epilog="Example: isoflop study show examples/1_quickstart.toml")
def study_show(study: StudyArg) -> None:
    """Print the study with every default visible and every key explained."""
    from isoflop import study as studies

    work = _open(study, None)
    out.print(studies.show(work.study), end="", soft_wrap=True)


app.add_typer(study_app, name="study")


@app.command(epilog="Example: isoflop design examples/1_quickstart.toml")
def design(study: StudyArg, folder: FolderOpt = None, workers: WorkersOpt = None, as_json: JsonOpt = False) -> None:
    """Print the runs that would be trained, and how long.

    Grid, FLOPs, tokens, epochs, and the time on this machine, measured by a few real steps of each size.
    """
    work = _open(study, folder)
    if as_json:
        _prepare(work)
        out.print_json(json.dumps([{"id": s.id, "flops": s.flops, **s.model_dump(mode="json")} for s in work.design().specs]))
        return
    _designed(work, workers=workers)
    _next("train", study, folder)


@app.command(epilog="Example: isoflop train examples/1_quickstart.toml --workers 2")
def train(
    study: StudyArg,
    folder: FolderOpt = None,
    launcher: LauncherOpt = "pool",
    workers: WorkersOpt = None,
    retry: Annotated[bool, typer.Option("--retry", help="Train those that diverged or failed once more, too.")] = False,
    dry_run: DryOpt = False,
) -> None:
    """Train the runs of the design that are not trained yet."""
    work = _open(study, folder)
    specs, seconds = _designed(work, workers=workers)
    if not dry_run:
        _train(work, specs, launcher, workers, seconds=seconds, retry=retry)
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

    work = _open(study, folder)
    rows = work.rows()
    if csv is not None:
        _deliver(csv, export.to_csv(rows).encode())
    if parquet is not None:
        _deliver(parquet, export.to_parquet(rows))
    if as_json:
        out.print_json(json.dumps(rows))
    if csv is None and parquet is None and not as_json:
        _print_table(tables.runs(rows))


@app.command(epilog="Example: isoflop laws hoffmann3")
def laws(
    name: Annotated[str | None, typer.Argument(help="A law, or a paper; all that is known of it.  [default: a list of all]", show_default=False)] = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """List the published laws, or say all of one: constants, source, counting, traps."""
    from isoflop import published
    from isoflop.report import planning

    fits = published.every() if name is None else published.get(name)
    if as_json:
        out.print_json(json.dumps(planning.laws_json(fits)))
        return
    for table in [planning.laws(fits)] if name is None else [planning.law(fit) for fit in fits]:
        _print_table(table, markdown=markdown)


@app.command(epilog="Example: isoflop fit studies/quickstart")
def fit(study: StudyArg, folder: FolderOpt = None, as_json: JsonOpt = False) -> None:
    """Fit how loss depends on size and tokens.

    By the three approaches of Hoffmann et al. 2022.
    """
    work = _open(study, folder)
    fits = work.fit()
    if as_json:
        from isoflop.report import export

        out.print_json(json.dumps(export.fits_json(fits.fits, fits.left_out)))
        return
    _print_fits(fits, work)
    _next("plan", study, folder)


@app.command(epilog="Example: isoflop plan --gpus 1024 --gpu h100 --days 30 --shape")
def plan(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY] [FLOPS]", help="A training budget like 5.76e23; before it a study, to plan by its own fits.")
    ] = None,
    law: Annotated[list[str] | None, typer.Option("--law", help="A published law (isoflop laws); more than once for several.", show_default=False)] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="Accelerators.", show_default=False)] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Which: h100, a100-80, tpu-v5p, ...", show_default=False)] = None,
    days: Annotated[float | None, typer.Option("--days", help="Plan for so many days on them.", show_default=False)] = None,
    time: Annotated[str | None, typer.Option("--time", help="The same as 3h, 30d or 2w.", show_default=False)] = None,
    dollars: Annotated[str | None, typer.Option("--dollars", help="Plan for so much money on them, like $2M.", show_default=False)] = None,
    params: Annotated[str | None, typer.Option("--params", help="Plan the budget at which this size is optimal, like 70B.", show_default=False)] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="The same for tokens, like 1.4T.", show_default=False)] = None,
    loss: Annotated[float | None, typer.Option("--loss", help="Plan the least budget for this loss, in nats a token.", show_default=False)] = None,
    mfu: Annotated[float | None, typer.Option("--mfu", help="Share of the peak rate that training reaches.  [default: 0.4]", show_default=False)] = None,
    price: Annotated[float | None, typer.Option("--price", help="Dollars an accelerator an hour.", show_default=False)] = None,
    smaller: Annotated[bool, typer.Option("--smaller", help="What models smaller than optimal cost to train, and when they pay.")] = False,
    inference_tokens: Annotated[str | None, typer.Option("--inference-tokens", help="Least training and inference together.", show_default=False)] = None,
    unique_tokens: Annotated[str | None, typer.Option("--unique-tokens", help="Only so many tokens are new; others repeat.", show_default=False)] = None,
    shape: Annotated[bool, typer.Option("--shape", help="Propose layers, width, heads, learning rate, batch and schedule.")] = False,
    arch: Annotated[str | None, typer.Option("--arch", help="Family of the shape: gopher or llama.  [default: llama]", show_default=False)] = None,
    vocab: Annotated[int | None, typer.Option("--vocab", min=2, max=10**7, help="Of the tokenizer.  [default: 32000]", show_default=False)] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, max=10**8, help="Tokens a sequence.  [default: 2048]", show_default=False)] = None,
    untied: Annotated[bool, typer.Option("--untied", help="An output head of its own (llama).")] = False,
    kv_heads: Annotated[int | None, typer.Option("--kv-heads", min=1, help="At most so many heads of keys and values.", show_default=False)] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Rule for learning rate and batch.  [default: steplaw]", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw the laws and known models: .html, .svg or .png.", show_default=False)] = None,
    folder: FolderOpt = None,
    extrapolate: Annotated[bool, typer.Option("--extrapolate", help="Accept a budget far outside the data.")] = False,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Say how big a model, on how many tokens, at what loss.

    By published laws, or by a study's own fits. And what that takes: time, money, energy, memory; inference; data.
    """
    from isoflop.plan import request

    asked = request.Request(
        what=tuple(what or ()), laws=tuple(law or ()), gpus=gpus, gpu=gpu, days=days, time=time, dollars=dollars, params=params, tokens=tokens, loss=loss,
        mfu=mfu, price=price, smaller=smaller, inference_tokens=inference_tokens, unique_tokens=unique_tokens, shape=shape, arch=arch, vocab=vocab,
        context=context, untied=untied, kv_heads=kv_heads, recipe=recipe, extrapolate=extrapolate,
    )  # fmt: skip
    if asked.study is None:
        _answer(request.read(asked), figure=figure, markdown=markdown, as_json=as_json)
        return
    work = _open(Path(asked.study), folder)
    if asked.plain and figure is None:
        _plan_study(work, asked, markdown=markdown, as_json=as_json)
    else:
        _answer(work.question(asked), figure=figure, markdown=markdown, as_json=as_json)


def _plan_study(work: "Workspace", asked: "Request", *, markdown: bool, as_json: bool) -> None:
    from isoflop.report import export, tables

    plans = work.plan(None if asked.flops is None else units.read(asked.flops), extrapolate=asked.extrapolate)
    if as_json:
        out.print_json(json.dumps(export.plans_json(plans)))
        return
    _print_table(tables.plans(plans), markdown=markdown)
    _next("validate", work.folder, None)


def _answer(question: "Question", *, figure: Path | None, markdown: bool, as_json: bool) -> None:
    from isoflop.plan.question import answer
    from isoflop.report import planning

    found = answer(question)
    for note in found.notes:
        err.print(f"note: {note}", soft_wrap=True)
    if figure is not None:
        _landscape(figure, found)
    if as_json:
        out.print_json(json.dumps(planning.plan_json(found)))
        return
    for table in (planning.plan(found), *planning.details(found)):
        _print_table(table, markdown=markdown)
        out.print()


def _landscape(path: Path, found: "Answer") -> None:
    from isoflop import compare as comparing
    from isoflop import report as reports

    kind = reports.landscape_kind(path)
    models = [m for m in comparing.MODELS if m.name in comparing.LANDMARKS]
    _deliver(path, reports.landscape_page([e.fit for e in found.estimates.rows], models, budget=found.estimates.rows[0].flops, kind=kind))


@app.command(epilog="Example: isoflop compare gopher chinchilla gpt-3")
def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Known models, or your own as NAME=70B:1.4T.  [default: all]", show_default=False)] = None,
    law: Annotated[list[str] | None, typer.Option("--law", help="A published law (isoflop laws); more than once for several.", show_default=False)] = None,
    markdown: MarkdownOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Say where known models stand: over-sized, under-trained, and what it cost."""
    from isoflop import compare as comparing
    from isoflop import published
    from isoflop.report import standings

    asked = [comparing.model(name) for name in models] if models else list(comparing.MODELS)
    found = comparing.compare(asked, [fit for name in law or comparing.LAWS for fit in published.get(name)])
    for name, reason in found.left_out:
        err.print(f"note: {name} is left out: {reason}", soft_wrap=True)
    if as_json:
        out.print_json(json.dumps(standings.values(found)))
        return
    _print_table(standings.table(found), markdown=markdown)


@app.command(epilog="Example: isoflop validate studies/quickstart")
def validate(study: StudyArg, folder: FolderOpt = None, launcher: LauncherOpt = "pool", workers: WorkersOpt = None, as_json: JsonOpt = False) -> None:
    """Train the predicted optimum against a larger model.

    At equal compute: the study's target. Says which won, and whether the predicted loss was right.
    """
    work = _open(study, folder)
    fits = work.fit()
    _train(work, work.proof(fits=fits), launcher, workers, title="proof")
    results = work.results(fits=fits, command=_command())
    if as_json and results.validation is not None:
        from isoflop.report import export

        out.print_json(json.dumps(export.validation_json(results.validation)))
        return
    _print_answer(results)
    _next("report", study, folder)


@app.command(epilog="Example: isoflop report studies/quickstart")
def report(study: StudyArg, folder: FolderOpt = None) -> None:
    """Write the report: one page that opens offline.

    Its figures lie beside it as SVG and PNG.
    """
    work = _open(study, folder)
    out.print(f"Report: {work.report(work.results(command=_command()))}", soft_wrap=True)


def _open(study: Path, folder: Path | None) -> "Workspace":
    from isoflop import workspace

    return workspace.open(study, folder=folder)


def _prepare(work: "Workspace") -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("text", total=1.0)
        work.prepare(lambda what, fraction: progress.update(task, description=what, completed=fraction))


def _designed(work: "Workspace", *, workers: int | None) -> "tuple[tuple[RunSpec, ...], Mapping[str, float]]":
    """Prepare the text, design the runs, and print what they will take before anything is spent; the runs, and the seconds of those still to train."""
    from isoflop.design import proof_to_come
    from isoflop.report import tables
    from isoflop.workspace import cores

    _prepare(work)
    design = work.design()
    left = work.unfinished(design.specs)
    with err.status("timing a few real steps of each size ...", spinner="line"):
        seconds = work.seconds(left)
        proof = work.seconds(proof_to_come(work.study, work.text) if left else ())
    corpus = work.corpus
    _print_table(tables.design(design.specs, train_tokens=corpus.train_tokens, seconds=seconds))
    dropped = ", ".join(f"{count} {reason}" for reason, count in corpus.dropped.items()) or "none"
    out.print(f"Text: {units.count(corpus.train_tokens)} tokens to train on, {corpus.documents} documents, left out: {dropped}.")
    if left:
        at_once = workers or cores()
        ahead, then = (units.duration(max(sum(s.values()) / at_once, *s.values())) for s in (seconds, proof))
        out.print(f"{len(left)} runs to train: about {ahead}, {at_once} at once, and {then} more for the proof.")
    for warning in design.warnings:
        err.print(f"warning: {warning}")
    return design.specs, seconds


def _train(
    work: "Workspace",
    specs: "Sequence[RunSpec]",
    launcher: str,
    workers: int | None,
    *,
    seconds: "Mapping[str, float] | None" = None,
    retry: bool = False,
    title: str = "train",
) -> None:
    from isoflop.launch import View
    from isoflop.workspace import cores

    with View(specs, records=work.known(), seconds=seconds, workers=workers or cores(), title=title) as view:
        work.train(specs, launcher=launcher, workers=workers, retry=retry, on_event=view.on_event)


def _print_fits(fits: "Fits", work: "Workspace") -> None:
    from isoflop.report import tables

    _print_table(tables.approaches(fits.fits, work.plan(fits=fits, extrapolate=True), fits.left_out))
    for fit in fits:
        for warning in fit.warnings:
            err.print(f"warning ({fit.approach}): {warning}")


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
    if markdown:
        from isoflop.report.table import markdown as written

        out.print(written(table), end="", soft_wrap=True)
        return
    shown = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        caption=table.note or None,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for i, head in enumerate(table.head):
        shown.add_column(head, justify="left" if i in table.words else "right", vertical="bottom")
    for row in table.rows:
        shown.add_row(*[Text(str(cell)) for cell in row.cells], style="dim" if row.muted else None)
    out.print(shown)


def _deliver(path: Path, content: bytes) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        return
    from isoflop.store import files

    files.write(path, content)
    err.print(f"wrote {path}")


def _next(verb: str, study: Path, folder: Path | None) -> None:
    err.print(f"next: isoflop {verb} {study}" + (f" --folder {folder}" if folder else ""), soft_wrap=True)


def _command() -> str:
    return " ".join(["isoflop", *sys.argv[1:]])


def main() -> None:
    """Entry point: our errors become one message and an exit status, never a traceback."""
    try:
        app()
    except UsageError as error:
        err.print(f"isoflop: {error}", soft_wrap=True)
        sys.exit(2)
    except IsoflopError as error:
        err.print(f"isoflop: {error}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
