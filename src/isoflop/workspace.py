"""Workspace: a study and the folder it is kept in; every stage over them, in order. What the command line does, in Python."""

import dataclasses
import functools
import importlib.metadata
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from isoflop import data, design, fit, launch, plan, report, units, validate
from isoflop import study as studies
from isoflop import track as tracking
from isoflop.data import Corpus
from isoflop.design import Design, Text
from isoflop.errors import DesignError, FitError, NoLawError, StoreError, StudyError, UsageError, ValidationError
from isoflop.fit import Fit, Fits, answers, asked, saved
from isoflop.fit.account import Account
from isoflop.fit.answers import Answer
from isoflop.fit.asked import Asked
from isoflop.fit.limits import Limits
from isoflop.launch import USUAL, Event, Means, Mended, cores
from isoflop.plan import Plan, Question, Request, fitted
from isoflop.published import REACH, Published
from isoflop.report import export
from isoflop.report.fits import title
from isoflop.report.results import Results
from isoflop.runs import Group, RunRecord, Runs, RunSpec, own_steps
from isoflop.store import FINISHED, Row, Store, files
from isoflop.store import studies as kept_studies
from isoflop.store.studies import STUDY_FILE
from isoflop.study import Study
from isoflop.validate import Claim, Validation
from isoflop.validate import claim as claims

FITTED: tuple[Group, ...] = ("isoflop", "horizons", "noise")
SWEEP: tuple[Group, ...] = (*FITTED, "overlong")
PROOF: tuple[Group, ...] = ("proof",)
CLAIM_FILE = "claim.json"  # the forecast, as it was before its proof was trained
HOME = Path("studies")


def open(path: Path | str, *, folder: Path | str | None = None) -> "Workspace":  # noqa: A001  # isoflop.open("study.toml") is how it is said
    """A workspace over a study file, or over a study folder made before.

    Args:
        path: A TOML file, or a folder that holds study.toml.
        folder: Where runs and report go; studies/NAME in the current folder if not given.

    Raises:
        StudyError: Neither, or a file that is no study.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / STUDY_FILE).is_file():
            raise StudyError(
                f"{path} is a folder without {STUDY_FILE}, so no study is kept there: nothing was trained. Give a study file; `isoflop init` writes one."
            )
        return Workspace(studies.load(path / STUDY_FILE), folder=Path(folder) if folder else path)
    study = studies.load(path)
    return Workspace(study, folder=Path(folder) if folder else HOME / study.name)


def is_study(path: Path) -> bool:
    """Whether a path is to be opened as a study, by its look: a TOML file, or a folder that holds study.toml. Any other is a file of runs."""
    return path.suffix.lower() == ".toml" or (path / STUDY_FILE).is_file()


@dataclass(frozen=True, kw_only=True)
class Found:
    """Fits of a study or of runs made elsewhere, with what they were made from, and a budget to predict."""

    fits: Fits
    runs: Runs
    account: Account
    answer: Answer  # for the budget; refused where it cannot be right
    limits: tuple[Limits, ...]  # of Approach 3; none where nobody asked
    study: "Workspace | None" = None
    overlong: Fit | None = None  # Approach 2, made alike, over a study's grid on one schedule for all lengths

    @property
    def flops(self) -> float:
        """The budget that is asked for."""
        return self.answer.prediction.flops


def find(
    paths: Path | Sequence[Path], words: Asked | None = None, *, folder: Path | None = None, on_progress: Callable[[str, float], None] | None = None
) -> Found:
    """Read the runs of a study, or of any files or folders that `isoflop.readers` knows, and fit them.

    Args:
        paths: The study, or the runs: a file, folder or pattern, or several.
        words: How to read and fit them.
        folder: Where the study is kept, if elsewhere.
        on_progress: Receives what is done and what fraction of it.

    Raises:
        UsageError: The options do not go with what is there.
        NoLawError: The runs were read, but no approach can fit them.
        FitError: The runs cannot be read.
    """
    words = words or Asked()
    paths = (paths,) if isinstance(paths, Path) else tuple(paths)
    path = paths[0]
    if len(paths) > 1 and (studies := [str(one) for one in paths if is_study(one)]):
        raise UsageError(f"{studies[0]} is a study, which is fitted by itself. Give it alone, or export its runs: isoflop runs {studies[0]} --csv runs.csv")
    if is_study(path):
        return _of_study(open(path, folder=folder), words, on_progress)
    if folder is not None:
        raise UsageError(f"--folder {folder} is where a study is kept, and {path} is a file of runs. Leave it out.")
    return _found(_read(paths, words, on_progress), _called(paths), words, on_progress)


def split(paths: Sequence[Path], words: Asked, column: str) -> tuple[tuple[str, Asked], ...]:
    """Return, for each value of a column of runs, how to read and fit the runs with that value alone.

    Args:
        paths: As of `find`; no study.
        words: How to read and fit all of them.
        column: Of the files.

    Raises:
        UsageError: A study, no such column, or one with too many values.
    """
    from isoflop import readers

    if is_study(paths[0]):
        raise UsageError(f"--by {column} splits a table of runs, and {paths[0]} is a study, whose runs are of one recipe. Leave it out.")
    values = readers.levels(paths, column, where=words.where, kind=words.kind, name=words.name, decimal=words.decimal)
    return tuple((value, dataclasses.replace(words, where=readers.equals(column, value, also=words.where))) for value in values)


def _called(paths: Sequence[Path]) -> str:
    """Return what some files are called in print."""
    names = [units.shown(path.name or path) for path in paths]
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more"


def _of_study(work: "Workspace", words: Asked, on_progress: Callable[[str, float], None] | None) -> Found:
    if words.of_files:
        raise UsageError(f"{' and '.join(words.of_files)}: a study knows its columns and budgets. Leave that out, or export the runs: isoflop runs STUDY --csv")
    found = _found(work.runs(), f"the study {work.study.name}", words, on_progress, target=work.study.target)
    return dataclasses.replace(found, study=work, overlong=work.overlong(words))


def _found(runs: Runs, source: str, words: Asked, on_progress: Callable[[str, float], None] | None, *, target: float | None = None) -> Found:
    """Fit runs, and answer for the budget that was asked for, or for the target."""
    account, flops = Account.of(runs, source), asked.budget(runs, words, target=target)
    try:
        fits = asked.fits(runs, words, on_progress=on_progress)
    except FitError as error:
        raise NoLawError(str(error), account=account) from None
    limits = asked.limits(runs, words, fits, flops)
    answer = answers.answer(fits, flops, level=words.level, extrapolate=words.extrapolate)
    return Found(fits=fits, runs=runs, account=account, answer=answer, limits=limits)


def _read(paths: Sequence[Path], words: Asked, on_progress: Callable[[str, float], None] | None) -> Runs:
    from isoflop import readers

    return readers.read(
        paths,
        kind=words.kind,
        columns=words.mapping,
        where=words.where,
        name=words.name,
        decimal=words.decimal,
        convention=words.convention,
        tolerance=readers.TOLERANCE if words.tolerance is None else words.tolerance,
        every_point=words.every_point,
        every_run=words.every_run,
        pool=words.pool,
        unit=words.unit,
        on_progress=on_progress,
    )


def kept_fits(path: Path) -> saved.Saved:
    """Fits that `isoflop fit --out` wrote.

    Raises:
        UsageError: No such file, or not what was written.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}, so no fits to plan by. Write one: isoflop fit RUNS --out {path}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text, so it holds no saved fits. Write it anew: isoflop fit RUNS --out FILE.json") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UsageError(f"{path} cannot be read ({error}). Give the file that `isoflop fit RUNS --out FILE.json` wrote.") from None
    return saved.loads(text, name=str(path))


def ask(kept: saved.Saved, request: Request) -> Question:
    """Return the question of a plan by saved fits, and by the published laws named beside them."""
    return plan.read(request, _as_published(kept.fits, kept.account), unit=kept.account.unit)


def _as_published(fits: Fits, account: Account) -> tuple[Published, ...]:
    def refuse(flops: float) -> tuple[str, ...]:  # how far a budget is outside the runs is judged with the other laws of a plan
        return answers.answer(fits, flops, extrapolate=True).reasons

    smallest, source = account.smallest_flops, account.source
    own = tuple(fitted.published(f, title=title(f), source=source, smallest=smallest, refuse=refuse) for f in fits)
    if fits.forecast is None or len(own) == 1:  # of one fit it is that fit
        return own
    return (*own, fitted.expected(fits.forecast, source=source, smallest=smallest, refuse=refuse))


class Workspace:
    """A study and its folder. Holds nothing that is not in the folder; methods may be called in any order, and go on where they were stopped."""

    def __init__(self, study: Study, *, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self._noted: set[str] = set()

    def prepare(self, on_progress: Callable[[str, float], None] | None = None, *, on_notice: Callable[[str], None] | None = None) -> Corpus:
        """Return the study's text as tokens, which are built once, in a folder that has none.

        Args:
            on_progress: Called with what is being done and how far that is.
            on_notice: Called with a sentence if the text has changed since it was built.

        Raises:
            CorpusError: The text is missing, empty, binary or too small.
            StoreError: The folder cannot be written, or holds another text.
        """
        s, place = self.study, self.folder / "data"
        request = data.Request(
            sources=s.corpus,
            tokenizer=s.tokenizer,
            validation=s.validation,
            seed=s.seed,
            min_characters=s.min_characters,
            separator=s.separator,
            text_field=s.text_field,
            encoding=s.encoding,
        )
        corpus = data.find(request, folder=place, on_notice=on_notice)
        if corpus is None:
            known = self._trained_on()
            corpus = data.build(request, folder=place, known=known, on_progress=on_progress)
            if known and corpus.digest not in known and on_notice is not None:
                on_notice(f"the runs in {self.folder} were trained on another text, so that none of them counts for the text that is built now.")
        self.__dict__["corpus"] = corpus
        return corpus

    def _trained_on(self) -> frozenset[str]:
        """Return the digests of the corpora that the folder's runs were trained on."""
        with self._look() as store:
            return frozenset(row.spec.data for row in store.rows())

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The tokens, prepared before or now."""
        return self.prepare()

    @property
    def text(self) -> Text:
        c = self.corpus
        return Text(digest=c.digest, vocab=c.vocab, train_tokens=c.train_tokens, val_tokens=c.val_tokens)

    def design(self) -> Design:
        """Return the runs that answer the study. What a study with other budgets has trained in the same folder stays as it is.

        Raises:
            DesignError: The grid cannot answer, with why.
        """
        made = design.design(self.study, self.text, trained=self._extended())
        largest = max(spec.flops for spec in made.specs)
        if self.study.target > REACH * largest:
            raise DesignError(
                f"the target of {units.flops(self.study.target)} FLOPs is {self.study.target / largest:.0f} times the largest run, and beyond {REACH:g} "
                "times no plan would be made. Lower target, or add larger budgets."
            )
        return made

    def _extended(self) -> tuple[RunSpec, ...]:
        """Return the runs of the study that is trained in the folder, if this one only adds budgets to it or takes some away; or of this very study."""
        trained = kept_studies.trained(self.folder)
        rows = self._own_rows()
        if not rows and trained is not None and kept_studies.extends(self.study, trained):
            with self._look() as store:
                rows = tuple(row for row in store.rows() if row.current)
        return tuple(row.spec for row in rows if row.spec.group in ("isoflop", "noise") and row.spec.data == self.text.digest)

    def seconds(self, specs: Sequence[RunSpec], *, device: str = "cpu", measure: bool = False) -> Mapping[str, float]:
        """Return the training seconds of the steps that each run takes itself, by id, on one core of this machine or on its device.

        Args:
            specs: The runs.
            device: What they are trained on. Only a measurement tells the time on a GPU; without one it has none.
            measure: Take a few real steps of each kind instead of predicting their time. A run that may not fit into free memory is predicted all the same.
        """
        per_step: dict[tuple[object, int], float] = {}
        for spec in specs:
            key = (spec.shape, spec.batch)
            if key in per_step:
                continue
            if measure and (device != "cpu" or launch.fits_now(spec)):
                per_step[key] = self._measured(spec, device)
            elif device == "cpu":
                per_step[key] = launch.step_seconds(spec)
        with self._look() as store:
            again = store.only_evaluated(specs)
            trained = [spec for spec in specs if spec.id not in again]
            steps: dict[str, float] = {**own_steps(trained, store.reached(trained))}
        steps |= {spec.id: spec.eval_tokens / spec.batch / 3 for spec in specs if spec.id in again}  # a forward pass is a third of a step
        return {spec.id: steps[spec.id] * per_step[spec.shape, spec.batch] for spec in specs if (spec.shape, spec.batch) in per_step}

    def _measured(self, spec: RunSpec, device: str) -> float:
        from isoflop import train

        try:
            return train.seconds_per_step(spec, self.corpus, machine=train.Machine(device=device, micro=launch.parts(spec, device)))
        finally:
            launch.give_back()

    def gain_of_bf16(self, spec: RunSpec, *, device: str = "cpu") -> float:
        """Return how many times as fast this machine trains a run with matrix products in bfloat16 as in float32, from a few real steps of each."""
        plain, rounded = (spec.model_copy(update={"precision": precision}) for precision in ("float32", "bf16"))
        return self._measured(plain, device) / self._measured(rounded, device)

    def train(
        self,
        specs: Sequence[RunSpec] | None = None,
        *,
        launcher: str = "pool",
        workers: int | None = None,
        means: Means = USUAL,
        retry: bool = False,
        track: Sequence[str] = (),
        on_event: Callable[[Event], None] | None = None,
    ) -> tuple[RunRecord, ...]:
        """Train what is not yet trained, and give the records of all.

        Args:
            specs: The study's design if not given.
            launcher: One of the menu in isoflop.launch.
            workers: Processes at once; as many as cores if not given.
            means: What workers train with: the device, whether to compile.
            retry: Also those that diverged or failed, from the start.
            track: Of the menu in isoflop.track, which log the runs too.
            on_event: Told of every start, step report and finish.

        Raises:
            StoreError: Another process is working on this study, or the folder cannot be written.
            MissingExtraError: PyTorch is not installed, and runs are still to be trained.
        """
        specs = self.design().specs if specs is None else specs
        if self.unfinished(specs):
            launch.require_torch()  # before workers start, which would each fail
        corpus = self.corpus
        tell = on_event or (lambda _: None)
        with self._tracked(track, specs) as log, Store(self.folder) as store, store.lock() as notes:

            def told(event: Event) -> None:
                log(event)
                tell(event)

            proof = all(spec.group in PROOF for spec in specs)
            for note in (*notes, *(() if proof else self._take_folder(store))):
                tell(Mended(note=note))
            data.keep_names(corpus)
            store.add(specs, instead_of=PROOF if proof else SWEEP)
            if retry:
                store.retry([spec.id for spec in specs])
            launch.get(launcher).run(store, specs, corpus.folder, workers=workers or cores(), means=means, on_event=told)
        return self.records(specs)

    def _tracked(self, names: Sequence[str], specs: Sequence[RunSpec]) -> AbstractContextManager[Callable[[Event], None]]:
        return tracking.open(names, study=self.study.name, folder=self.folder, records=self.timed(specs) if names else ())

    def _take_folder(self, store: Store) -> tuple[str, ...]:
        """Make this the study of the folder; a sentence if another one was trained there, with the command that goes back to it."""
        before = kept_studies.trained(self.folder)
        runs = [row.id for row in store.rows() if row.current and row.spec.group in (*SWEEP, *PROOF)]
        former = kept_studies.write(self.folder, self.study, runs=runs)
        if before is None or former is None:
            return ()
        keys = _listed(kept_studies.differing(before, self.study))
        return (f"{self.folder} held another study, which differs in {keys}; no run of it is lost. To go back to it: {_command('train', former, self.folder)}",)

    def held(self, verb: str) -> str:
        """Return a sentence if the folder holds another study than this one, with the command that uses that; else nothing.

        Args:
            verb: Of the command.

        Raises:
            StudyError: A file of the folder that should be a study is none.
        """
        trained = kept_studies.trained(self.folder)
        keys = () if trained is None else kept_studies.differing(trained, self.study)
        if trained is None or not keys:
            return ""
        own = self.folder / STUDY_FILE
        plain = own.is_file() and not kept_studies.differing(studies.load(own), trained)
        back = _command(verb, self.folder, None) if plain else _command(verb, self.folder / kept_studies.TRAINED_FILE, self.folder)
        return f"{self.folder} holds another study, which differs in {_listed(keys)}. To use that one: {back}"

    def known(self, specs: Sequence[RunSpec] | None = None) -> tuple[RunRecord, ...]:
        """Return the records of these runs that are finished, or of those of the present design and proof.

        Damaged records are passed over: training repairs them.
        """
        with self._look() as store:
            return store.records(None if specs is None else [spec.id for spec in specs], sound_only=True)

    def timed(self, specs: Sequence[RunSpec]) -> tuple[RunRecord, ...]:
        """Return the records of these runs and of those of the present design: what shows how fast this machine trains."""
        return tuple({record.id: record for record in (*self.known(), *self.known(specs))}.values())

    def unfinished(self, specs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
        """Return those runs that are not trained yet, by this design or any other."""
        done = {record.id for record in self.known(specs)}
        return tuple(spec for spec in specs if spec.id not in done)

    def only_evaluated(self, specs: Sequence[RunSpec]) -> frozenset[str]:
        """Return the ids of those runs whose weights are kept by a run that is measured otherwise, with other `eval_tokens`: they need no training."""
        with self._look() as store:
            return store.only_evaluated(specs)

    def rows(self) -> list[dict[str, export.Scalar]]:
        """Return every run of the study, finished or not, as flat rows.

        Raises:
            StoreError: Nothing was trained.
        """
        self._refuse_untrained()
        with self._look() as store:
            known = {row.id: row for row in store.rows()}
            specs = self.design().specs if self.held("runs") else tuple(row.spec for row in known.values() if row.current)
            records = {record.id: record for record in store.records([spec.id for spec in specs], sound_only=True)}
        return [export.row(s, records.get(s.id), status=known[s.id].status if s.id in known else "pending") for s in specs]

    def records(self, specs: Sequence[RunSpec] | None = None) -> tuple[RunRecord, ...]:
        """Return the records of those runs that are finished, whichever design trained them; of the present design and proof if not given.

        Raises:
            StoreError: Nothing was trained, or a record is damaged.
        """
        self._refuse_untrained()
        with self._look() as store:
            return store.records(None if specs is None else [spec.id for spec in specs])

    def _refuse_untrained(self) -> None:
        if not any((self.folder / name).exists() for name in ("runs.sqlite", "specs.json", "runs")):
            raise StoreError(f"nothing was trained in {self.folder} yet. Run `isoflop train` first.")

    def _look(self) -> Store:
        """Return the store, to be read; what is damaged there is said once, on stderr."""
        store = Store(self.folder, read_only=True)
        for note in store.notes:
            if note not in self._noted:
                self._noted.add(note)
                sys.stderr.write(f"{note}\n")
        return store

    def runs(self) -> Runs:
        """Return the sweep's finished runs as columns.

        Raises:
            FitError: Some runs of the design are not trained yet, or none finished well.
            StoreError: Nothing was trained, or a record is damaged.
        """
        self._refuse_untrained()
        specs = self._as_trained(self.design().specs, SWEEP)
        records = self.records(specs)
        if len(records) < len(specs):
            missing = len(specs) - len(records)
            raise FitError(
                f"{missing} of {len(specs)} runs are not trained yet, and a law from part of a grid is biased. Run `isoflop train` first.{self._others()}"
            )
        with self._look() as store:
            return Runs.from_records(records, curve=store.curve, groups=FITTED)

    def fit(self) -> Fits:
        """The three approaches over the sweep."""
        return fit.fit_all(self.runs())

    def overlong(self, words: Asked | None = None) -> Fit | None:
        """Approach 2 over the same grid on one schedule for all lengths; None if the study does not train it, or it determines nothing."""
        if not self.study.overlong:
            return None
        words = words or Asked()
        records = self.records(self._as_trained(self.design().specs, SWEEP))
        try:
            with self._look() as store:
                runs = Runs.from_records(records, curve=store.curve, groups=("overlong",))
            return words.choices.make(runs, "isoflop", resamples=words.resamples, seed=words.seed)
        except FitError:
            return None

    def answer(self, flops: float | None = None, *, fits: Fits | None = None, extrapolate: bool = False) -> Answer:
        """Return what the fits say of a budget, the study's target if not given; refused where it cannot be right."""
        return answers.answer(fits or self.fit(), flops or self.study.target, extrapolate=extrapolate)

    def plan(self, flops: float | None = None, *, fits: Fits | None = None, extrapolate: bool = False) -> tuple[Plan, ...]:
        """Return what each approach recommends for a budget, the study's target if not given; and last, what predicted held-out budgets best.

        Raises:
            ExtrapolationError: Too far beyond the largest run; the estimate is on the error.
            RefusedError: The answer cannot be right; the estimate is on the error.
        """
        fits, flops = fits or self.fit(), flops or self.study.target
        found = self.answer(flops, fits=fits, extrapolate=extrapolate)
        if not found.extrapolated:  # far above the runs `plan_all` raises, with the plan as its estimate
            found.require()
        plans = plan.plan_all(fits.fits, flops, kind=self.study.kind(self.corpus.vocab), forecast=fits.forecast, extrapolate=extrapolate)
        found.require()
        return plans

    def question(self, request: Request) -> Question:
        """Return the question of a plan by this study's own fits, and by the published laws named beside them."""
        runs = self.runs()
        own = _as_published(fit.fit_all(runs), Account.of(runs, f"the study {self.study.name}"))
        return plan.read(request, own, kind=self.study.kind(self.corpus.vocab), target=self.study.target)

    def proof(self, *, fits: Fits | None = None, plans: Sequence[Plan] | None = None) -> tuple[RunSpec, ...]:
        """Return the runs of the head-to-head at the study's target, for the forecast that is on record if there is one."""
        fits = fits or self.fit()
        return validate.specs(self._claimed(fits, plans or self.plan(fits=fits))[0], fits.fits, study=self.study, text=self.text)

    def claim(self, *, fits: Fits | None = None, plans: Sequence[Plan] | None = None) -> tuple[RunSpec, ...]:
        """Put the forecast on record, and return the runs that are to prove it. It is that record which is judged, whatever is fitted later.

        A forecast that is on record for the same sweep and target stays. None is recorded once a run of the proof is trained: it would be no forecast.

        Raises:
            StoreError: The folder cannot be written, or the record is damaged.
        """
        fits = fits or self.fit()
        plans = plans or self.plan(fits=fits)
        specs = self.proof(fits=fits, plans=plans)
        if not self._claimed(fits, plans)[1] and len(self.unfinished(specs)) == len(specs):
            made = Claim.of(plans, runs_digest=fits.fits[0].runs_digest, version=importlib.metadata.version("isoflop"))
            files.write(self.folder / CLAIM_FILE, made.dumps().encode())
        return specs

    def _claimed(self, fits: Fits, plans: Sequence[Plan]) -> tuple[Sequence[Plan], bool]:
        """Return the plan that is on record for this sweep and target, and true; else the plans, and false."""
        path = self.folder / CLAIM_FILE
        if not path.is_file():
            return plans, False
        try:
            kept = claims.loads(path.read_bytes().decode(), name=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}, the forecast claimed before the proof, cannot be read ({error}). Restore it, or remove it.") from None
        if not kept.stands_for(runs_digest=fits.fits[0].runs_digest, flops=self.study.target):
            return plans, False
        return (kept.plan(plans),), True

    def validate(
        self,
        *,
        fits: Fits | None = None,
        launcher: str = "pool",
        workers: int | None = None,
        track: Sequence[str] = (),
        means: Means = USUAL,
        on_event: Callable[[Event], None] | None = None,
    ) -> Validation:
        """Train the predicted optimum and its rivals at the target, and judge the forecast that was on record before."""
        fits = fits or self.fit()
        plans = self.plan(fits=fits)
        records = self.train(self.claim(fits=fits, plans=plans), launcher=launcher, workers=workers, track=track, means=means, on_event=on_event)
        return self._judge(fits, plans, records)

    def _judge(self, fits: Fits, plans: Sequence[Plan], records: Sequence[RunRecord]) -> Validation:
        judged, claimed = self._claimed(fits, plans)
        return validate.judge(judged, fits.fits, records, kaplan=self.study.proof.kaplan, losses=self.runs().loss, claimed=claimed)

    def results(self, *, fits: Fits | None = None, command: str = "isoflop.open(...).report(), in Python") -> Results:
        """Return all that is known, for a report; with the proof if it has been made, and without plans where the answer is refused."""
        runs = self.runs()
        fits = fits or fit.fit_all(runs)
        found = self.answer(fits=fits)
        plans = self.plan(fits=fits) if found.given else ()
        fought, validation, note = self._fought(fits, plans) if found.given else ((), None, " ".join(found.reasons))
        return Results(
            study=self.study,
            corpus=self.corpus,
            records=(*self.records(self._as_trained(self.design().specs, SWEEP)), *fought),
            runs=runs,
            fits=fits.fits,
            left_out_fits=fits.left_out,
            holdout=fits.holdout,
            forecast=fits.forecast,
            overlong=self.overlong(),
            plans=plans,
            validation=validation,
            proof_note=note,
            refused=found.reasons,
            command=command,
        )

    def _fought(self, fits: Fits, plans: Sequence[Plan]) -> tuple[tuple[RunRecord, ...], Validation | None, str]:
        """Records of the proof, what it showed, and why it shows nothing where it does not: no reason to withhold the rest."""
        records: tuple[RunRecord, ...] = ()
        try:
            proof = self._as_trained(self.proof(fits=fits, plans=plans), PROOF)
            records = self.records(proof)
            return records, self._judge(fits, plans, records) if len(records) == len(proof) else None, ""
        except (ValidationError, DesignError) as error:
            return records, None, str(error)

    def report(self, results: Results | None = None, *, folder: Path | None = None) -> Path:
        """Write the report into a folder, report/ of the study if not given; the path of its page.

        Raises:
            StoreError: The folder cannot be written.
        """
        if folder is None and self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            raise StoreError(f"{self.folder} cannot be written, so its report cannot be kept there. Give another folder: --out DIR.")
        return report.write(results or self.results(), folder or self.folder / "report")

    def _others(self) -> str:
        """The other studies of the folder, with the command that fits them."""
        held, former = self.held("fit"), kept_studies.former(self.folder)
        if held:
            return f" {held}"
        return f" The study that was trained there before: {_command('fit', former[-1], self.folder)}" if former else ""

    def _as_trained(self, designed: Sequence[RunSpec], groups: Sequence[Group]) -> tuple[RunSpec, ...]:
        """Return the runs of the same cells that were trained for this very study, if they are there: a newer recipe does not undo a finished study."""
        rows = [row for row in self._own_rows() if row.spec.group in groups]
        same = sorted(_cell(row.spec) for row in rows) == sorted(_cell(spec) for spec in designed)
        whole = same and all(row.status in FINISHED for row in rows)
        return tuple(row.spec for row in rows) if whole else tuple(designed)

    def _own_rows(self) -> tuple[Row, ...]:
        """Return the runs that this very study has in the folder, now or before another study took its place; none if it was never trained there."""
        trained = kept_studies.trained(self.folder)
        if trained is None:
            return ()
        if kept_studies.differing(trained, self.study):
            ids = kept_studies.former_runs(self.folder, self.study)
            if not ids:
                return ()
            with self._look() as store:
                return tuple(row for row in store.rows() if row.id in ids)
        with self._look() as store:
            return tuple(row for row in store.rows() if row.current)


def _command(verb: str, study: Path, folder: Path | None) -> str:
    return shlex.join(["isoflop", verb, str(study), *(() if folder is None else ("--folder", str(folder)))])


def _listed(keys: Sequence[str]) -> str:
    return " and ".join([", ".join(keys[:-1]), keys[-1]]) if len(keys) > 1 else keys[0]


def _cell(spec: RunSpec) -> tuple[str, str, float, int, str]:
    """Return what identifies a run in its design, whatever its recipe."""
    return spec.label, spec.shape.model_dump_json(), spec.budget, spec.seed, spec.data
