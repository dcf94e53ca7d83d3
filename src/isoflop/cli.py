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
    from isoflop.report.results import Results
    from isoflop.report.tables import Table
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


@app.command(epilog="Example: isoflop plan studies/quickstart 1e13")
def plan(
    study: StudyArg,
    flops: Annotated[str | None, typer.Argument(help="Training budget in FLOPs, like 7.2e12.  [default: the study's target]", show_default=False)] = None,
    folder: FolderOpt = None,
    extrapolate: Annotated[bool, typer.Option("--extrapolate", help="Accept a budget far beyond the largest run.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Say how big a model, on how many tokens."""
    from isoflop.report import export, tables

    work = _open(study, folder)
    plans = work.plan(None if flops is None else units.read(flops), extrapolate=extrapolate)
    if as_json:
        out.print_json(json.dumps(export.plans_json(plans)))
        return
    _print_table(tables.plans(plans))
    _next("validate", study, folder)


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


def _print_table(table: "Table") -> None:
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
