"""The answer in words, for someone who has not read the paper; true also when the proof failed or was not made."""

import math
from dataclasses import dataclass

from isoflop import units
from isoflop.fit import APPROACHES
from isoflop.plan import Plan
from isoflop.report import contenders
from isoflop.report.results import Results
from isoflop.report.table import nats
from isoflop.validate import OPTIMUM, OVERSIZED, Contender, Validation

Part = tuple[str, bool]  # words, and whether they are stressed

_WORDS = {2: "two", 3: "three"}
# 90th percentile of Student's t for 1, 2, ... degrees of freedom, and of the normal distribution: NIST/SEMATECH e-Handbook, Sec. 1.3.6.7.2
_STUDENT = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372)
_NORMAL = 1.282


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the first screen says."""

    headline: tuple[Part, ...]
    expectation: str
    proof: tuple[str, ...]  # sentences
    verdict: str  # "held" (inside the interval and not beaten), "missed", "unproved" (also: no interval to judge by) or "none"
    cautions: tuple[str, ...]
    glossary: tuple[tuple[str, str], ...]  # a word, what it means here


def answer(results: Results) -> Answer:
    """The answer of finished results."""
    plan = results.headline
    cautions = tuple(f"Provisional: {fit.status.message}" for fit in results.fits if not fit.status.ok)
    words = _glossary(results)
    if plan is None:
        refused = f"No answer for {units.flops(results.target)} FLOPs: what the fits say cannot be right."
        why = " ".join(results.refused or (reason for _, reason in results.left_out_fits))
        headline = ((refused if results.refused else "No recommendation: these runs determine no law.", True),)
        return Answer(headline=headline, expectation=why, proof=(), verdict="none", cautions=cautions, glossary=words)
    return Answer(
        headline=_headline(plan),
        expectation=_expectation(results, plan),
        proof=_proof(results),
        verdict=_verdict(results),
        cautions=cautions,
        glossary=words,
    )


def between(low: float, high: float) -> str:
    """An interval of losses; empty where there is none."""
    return f"{nats(low)} to {nats(high)}" if math.isfinite(low) and math.isfinite(high) else ""


def _headline(plan: Plan) -> tuple[Part, ...]:
    return (
        ("With ", False),
        (f"{units.flops(plan.flops)} FLOPs", True),
        (" on this text, train a model of about ", False),
        (f"{units.count(plan.params)} parameters", True),
        (" on ", False),
        (f"{units.count(plan.tokens)} tokens", True),
        (f": {plan.tokens_per_param:.0f} tokens for each parameter.", False),
    )


def _expectation(results: Results, plan: Plan) -> str:
    if not math.isfinite(plan.loss):
        return "What loss to expect there is not known."
    interval = between(*plan.loss_interval)
    by = "" if plan.loss_by == plan.approach else f" by Approach {1 + APPROACHES.index(plan.loss_by)}"
    if plan.loss_by == "forecast":
        by = " by what predicted held-out budgets best"
    words = f"Expect a loss of {nats(plan.loss)} nats per token{by}" + (f" (80 % interval {interval})" if interval else "")
    words += f", {plan.reach:.1f} times beyond the largest run of the sweep." if plan.reach > 1.05 else "."
    sizes = sorted(p.params for p in results.plans if p.approach != "forecast")
    if len(sizes) > 1:
        words += (
            f" The {_WORDS.get(len(sizes), len(sizes))} approaches put the best size between {units.count(sizes[0])} and {units.count(sizes[-1])} parameters."
        )
    return words


def _proof(results: Results) -> tuple[str, ...]:
    proof = results.validation
    if proof is None:
        if results.proof_note:
            return (f"The prediction is not proved: {results.proof_note}",)
        return ("The prediction has not been put to the proof yet: no model was trained at this budget.",)
    optimum = next((c for c in proof.contenders if c.label == OPTIMUM), None)
    rivals = sorted((c for c in proof.contenders if c is not optimum), key=lambda c: (c.label != OVERSIZED, c.label))
    twins = (
        f"The {contenders.of(rival).words} was not trained by itself: its nearest real shape is that of the {contenders.of(other).words}."
        for rival, other in proof.same_as.items()
    )
    return (_prediction(proof, optimum), *(_against(results, optimum, c) for c in rivals if optimum), *twins)


def _prediction(proof: Validation, optimum: Contender | None) -> str:
    real = f", {units.count(optimum.record.params.total)} parameters on {units.count(optimum.record.tokens)} tokens," if optimum else ""
    words = f"We trained the nearest real shape{real} and measured {nats(proof.observed)}. "
    if not _judged(proof):
        return words + "There is no interval to judge that by."
    if proof.inside:
        return words + "The prediction held: the measurement lies in the interval."
    side = "above" if proof.observed > proof.interval[1] else "below"
    return words + f"The prediction missed: that is {side} the interval, {100 * abs(proof.error):.1f} % from the expected loss."


def _against(results: Results, optimum: Contender, rival: Contender) -> str:
    name = contenders.of(rival.label).words
    if rival.record.loss is None:
        return f"The {name} gave no loss to compare with: it {rival.record.status} ({rival.record.reason})."
    times = rival.record.params.count(results.runs.convention) / optimum.record.params.count(results.runs.convention)
    size = f"{times:.1f} times larger" if times >= 1 else f"{1 / times:.1f} times smaller"
    rival_words = f"the {name}, {size} and trained on {units.count(rival.record.tokens)} tokens with the same compute"
    margin = rival.record.loss - (optimum.record.loss or math.nan)
    by_chance = _by_chance(results)
    if abs(margin) < by_chance:
        return (
            f"Against {rival_words}, it is a draw at the 80 % level: they differ by {abs(margin):.3f} nats per token, and two runs that differ in their seed "
            f"alone by up to {by_chance:.3f}."
        )
    if margin > 0:
        return f"It beat {rival_words}, by {margin:.3f} nats per token."
    return f"It lost to {rival_words}, by {-margin:.3f} nats per token: the predicted optimum was not the best size here."


def _verdict(results: Results) -> str:
    proof = results.validation
    if proof is None:
        return "unproved"
    if any(c.record.loss is not None and c.record.loss < proof.observed - _by_chance(results) for c in proof.contenders):
        return "missed"
    if not _judged(proof):
        return "unproved"
    return "held" if proof.inside else "missed"


def _judged(proof: Validation) -> bool:
    """Whether there is an interval to judge by."""
    return all(math.isfinite(edge) for edge in proof.interval)


def _by_chance(results: Results) -> float:
    """What two runs that differ in their seed alone differ by at most, four times in five; nats per token, 0 where the noise is not known.

    By Student's t, for the noise itself was measured with few seeds.
    """
    freedom = results.noise_freedom
    if not (freedom and math.isfinite(results.noise)):
        return 0.0
    return (_STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _NORMAL) * math.sqrt(2) * results.noise


def _glossary(results: Results) -> tuple[tuple[str, str], ...]:
    counted = "embeddings included" if results.runs.convention == "total" else "embeddings not counted"
    bytewise = results.study.tokenizer == "bytes"
    token = "one byte, about one character" if bytewise else f"a common piece of text, one of {results.corpus.vocab:,}"
    return (
        ("Parameters", f"are the numbers a model learns; their count is its size ({counted})."),
        ("Tokens", f"are the pieces of text it is trained on; here a token is {token}."),
        ("FLOPs", "are the arithmetic operations spent on training: the budget. A larger model must make do with fewer tokens."),
        ("Loss", "is how surprised the model is by text it has not seen, in nats per token; lower is better."),
        (
            "80 % interval",
            "is where the middle eight in ten of the answers lie when the data are varied within their noise: from the 10th to the 90th percentile.",
        ),
    )
