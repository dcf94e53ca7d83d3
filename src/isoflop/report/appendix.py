"""How it was made, what was left out and why, and where it came from: the tables after the figures."""

import math
from collections import Counter, defaultdict
from pathlib import PurePosixPath, PureWindowsPath

from isoflop import study as studies
from isoflop import units
from isoflop.fit import APPROACHES
from isoflop.report.results import Results
from isoflop.report.table import Cell, Row, Table, nats
from isoflop.report.tables import NAMES
from isoflop.runs import AdamW, Cosine, Muon, RunRecord, Schedule, own_steps

_HOMES = (("home",), ("Users",))
_DESIGNS = {"isoflop": "several sizes at each of several budgets", "horizons": "several sizes, each at several lengths"}


def made(results: Results) -> Table:
    """How the sweep was made."""
    study, corpus, records = results.study, results.corpus, results.records
    sweep = [r for r in records if r.spec.group != "proof"]
    count = Counter(r.status for r in records)
    proof = len(records) - len(sweep)
    pairs = [
        ("design", f"{study.design}: {_DESIGNS.get(study.design, 'see the documentation')}"),
        ("budgets", ", ".join(units.flops(b) for b in study.budgets) + " FLOPs"),
        ("runs", f"{len(sweep)} in the sweep, {proof} for the proof; " + ", ".join(f"{n} {status}" for status, n in sorted(count.items(), reverse=True))),
        ("models", _models(sweep, study.arch, study.context)),
        ("recipe", _recipe(results)),
        ("text", f"{corpus.documents:,} documents, {corpus.bytes:,} bytes; {corpus.train_tokens:,} tokens to train on, {corpus.val_tokens:,} held out"),
        ("tokenizer", f"{corpus.tokenizer}, vocabulary of {corpus.vocab:,}"),
        ("most epochs", f"{max((r.epochs for r in records), default=0):.2f} passes over the text"),
        (
            "compute",
            f"{units.flops(_spent(sweep))} FLOPs in the sweep" + (f", {units.flops(_flops(records) - _flops(sweep))} in the proof" if proof else "")
            if sweep
            else "none",
        ),
        ("time", f"{units.duration(_seconds(records))} of training, added up over all workers"),
        ("device", "; ".join(sorted({r.clock.device for r in records}))),
    ]
    return _pairs("How it was made", pairs)


def _seconds(records: tuple[RunRecord, ...]) -> float:
    steps = own_steps(r.spec for r in records)
    return sum(r.clock.seconds * steps[r.spec.id] / r.spec.steps for r in records)


def noise(results: Results) -> Table:
    """Losses of the runs that differ in their seed alone."""
    cells: dict[tuple[float, float, float], list[tuple[int, float]]] = defaultdict(list)
    runs = results.runs
    for i in range(len(runs)):
        cells[float(runs.budget[i]), float(runs.params[i]), float(runs.tokens[i])].append((int(runs.seed[i]), float(runs.loss[i])))
    rows = tuple(
        _row(units.flops(budget), units.count(params), units.count(tokens), ", ".join(nats(loss) for _, loss in sorted(losses)))
        for (budget, params, tokens), losses in sorted(cells.items())
        if len(losses) > 1
    )
    measured = " and ".join(dict.fromkeys(row.cells[0].text for row in rows))
    spread = (
        f"Standard deviation between seeds: {results.noise:.4f} nats per token, measured at {measured} FLOPs. It falls with compute, "
        "so at the target it should be smaller, and a proof that is called a draw may be none."
        if math.isfinite(results.noise)
        else "No seed was repeated, so the noise is not known."
    )
    return Table(
        title="Noise between seeds",
        head=("budget (FLOPs)", "parameters", "tokens", "loss of each seed (nats/token)"),
        rows=rows,
        words=frozenset({0, 3}),
        note=spread,
    )


def left_out(results: Results) -> Table:
    """Everything that no law saw, with the reason."""
    rows = [_row("run " + r.id, f"{r.status}: {r.reason}") for r in sorted(results.records, key=lambda r: r.id) if r.status != "ok"]
    known = {r.id for r in results.records if r.status != "ok"}
    rows += [_row("run " + run.id, run.reason) for run in results.runs.dropped if run.id not in known]
    rows += [_row(NAMES.get(approach, approach), reason) for approach, reason in results.left_out_fits]
    rows += [_row(f"budget {units.flops(p.flops)}", f"not in Approach 2: {p.note}") for fit in results.fits for p in fit.profiles if not p.interior]
    rows += [_row(f"{n:,} documents", reason) for reason, n in sorted(results.corpus.dropped.items()) if n]
    rows += [_row(f"{e.documents:,} document{'s' * (e.documents != 1)}, {units.size(e.bytes)}", reason) for reason, e in results.corpus.excluded.items()]
    return Table(
        title="What was left out, and why", head=("what", "why"), rows=tuple(rows), words=frozenset({0, 1}), note="" if rows else "Nothing was left out."
    )


def warnings(results: Results) -> Table:
    """What the fits say of themselves."""
    rows = []
    for approach in APPROACHES:
        fit = results.fit(approach)
        if fit:
            rows.append(_row(NAMES[approach], ("sound: " if fit.status.ok else "not to be trusted: ") + fit.status.message, muted=False))
            rows += [_row("", warning) for warning in fit.warnings]
    return Table(title="What the fits say of themselves", head=("fit", "says"), rows=tuple(rows), words=frozenset({0, 1}))


def provenance(results: Results) -> Table:
    """Where it came from: enough to make it again."""
    records = results.records
    versions: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for package, version in record.clock.versions.items():
            versions[package].add(version)
    finished = sorted(r.clock.finished for r in records)
    pairs = [
        ("command", " ".join(shown(word) for word in results.command.split(" "))),
        ("text from", ", ".join(shown(source) for source in results.corpus.sources)),
        ("digest of the text", results.corpus.digest),
        ("digest of the runs", results.runs.digest),
        ("seeds", ", ".join(str(seed) for seed in sorted({r.spec.seed for r in records}))),
        ("fitted by", "; ".join(f"{NAMES[fit.approach]} \u2013 {fit.estimator}" for fit in results.fits)),
        ("parameters counted", "in all, embeddings included" if results.runs.convention == "total" else "without embeddings"),
        ("versions", ", ".join(f"{package} {' and '.join(sorted(found))}" for package, found in sorted(versions.items()))),
        ("source", ", ".join(sorted({r.clock.commit for r in records if r.clock.commit})) or "not recorded"),
        ("runs finished", f"{finished[0]} to {finished[-1]}" if finished else "none"),
    ]
    return _pairs("Provenance", pairs)


def toml(results: Results) -> str:
    """The study with every default visible, without the explanations."""
    study = results.study.model_copy(update={"corpus": tuple(shown(source) for source in results.study.corpus)})
    return "\n".join(line for line in studies.show(study).splitlines() if not line.startswith("#"))


def shown(source: str) -> str:
    """Where a text is from, fit for others' eyes: the last two parts of a whole path, without the name of a home; all else as it is."""
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(source)
        if path.is_absolute():
            parts = path.parts[3:] if path.parts[1:2] in _HOMES else path.parts[1:]
            return "/".join(parts[-2:]) or "a home folder"
    return source


def _models(sweep: list[RunRecord], family: str, context: int) -> str:
    sizes = sorted(r.params.total for r in sweep)
    if not sizes:
        return "none"
    return f"{family}, {len(set(sizes))} sizes from {units.count(sizes[0])} to {units.count(sizes[-1])} parameters, {context} tokens of context"


def _recipe(results: Results) -> str:
    study, specs = results.study, [r.spec for r in results.records]
    scales = {"learning rate": study.lr_scale, "batch": study.batch_scale}
    words = ", ".join([str(study.recipe), *(f"{what} x {scale:g}" for what, scale in scales.items() if scale != 1)])
    if not specs:
        return words
    rates, batches = sorted(s.lr for s in specs), sorted(s.batch for s in specs)
    return f"{words}: peak learning rate {_range(rates)}, batch {_range(batches)} tokens, {_schedule(specs[0].schedule)}, {_optimizer(specs[0].optimizer)}"


def _schedule(schedule: Schedule) -> str:
    if isinstance(schedule, Cosine):
        return f"cosine over the whole run to {schedule.final:g} of the peak, warm-up {100 * schedule.warmup:g} % of the steps"
    return f"held at the peak after {schedule.warmup_steps:,} steps of warm-up, and over the last {100 * schedule.decay:g} % of the steps down to 0 as 1 - sqrt"


def _optimizer(optimizer: AdamW | Muon) -> str:
    if isinstance(optimizer, Muon):
        return f"Muon with momentum {optimizer.momentum:g} for the matrices of the blocks, for the rest {_optimizer(optimizer.adamw)}"
    return f"AdamW with \u03b2\u2082 {optimizer.beta2:g}, weight decay {optimizer.weight_decay:g}, clip {optimizer.clip:g}"


def _range(values: list[float] | list[int]) -> str:
    low, high = (f"{v:,}" if isinstance(v, int) else f"{v:.3g}" for v in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _spent(sweep: list[RunRecord]) -> float:
    """FLOPs of a sweep, of what several runs have in common once."""
    steps = own_steps(r.spec for r in sweep)
    return sum(r.flops * steps[r.spec.id] / r.spec.steps for r in sweep)


def _flops(records: tuple[RunRecord, ...] | list[RunRecord]) -> float:
    return sum((r.flops for r in records), start=0.0)


def _pairs(title: str, pairs: list[tuple[str, str]]) -> Table:
    return Table(title=title, head=("", ""), rows=tuple(_row(key, value) for key, value in pairs), words=frozenset({0, 1}))


def _row(*cells: str, muted: bool = False) -> Row:
    return Row(tuple(Cell(cell) for cell in cells), muted)
