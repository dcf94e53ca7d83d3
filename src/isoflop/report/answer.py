"""The answer in words, for someone who has not read the paper; true also when the proof failed or was not made."""

import dataclasses
import math
from dataclasses import dataclass

from isoflop import units, validate
from isoflop.fit import APPROACHES
from isoflop.plan import Plan
from isoflop.report import contenders
from isoflop.report.results import Results
from isoflop.report.table import nats
from isoflop.validate import OPTIMUM, OVERSIZED, Contender, Validation

Part = tuple[str, bool]  # words, and whether they are stressed

_WORDS = {2: "two", 3: "three"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The words of the first screen."""

    headline: tuple[Part, ...]
    expectation: str
    proof: tuple[str, ...]  # sentences
    verdict: str  # "held" (the claim holds), "missed" (outside the interval, or beaten by more than the noise), "unproved" (undecided) or "none"
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
    same = (
        f"The {contenders.of(rival).words} was not trained by itself: its nearest real shape is that of the {contenders.of(other).words}."
        for rival, other in proof.same_as.items()
    )
    late = () if proof.claimed else ("No forecast was on record before the proof was trained: the one judged here was made from the sweep afterwards.",)
    return (_prediction(results, proof, optimum), *(_against(results, proof, optimum, c) for c in rivals if optimum), *same, *late)


def _prediction(results: Results, proof: Validation, optimum: Contender | None) -> str:
    real = f", {units.count(optimum.record.params.total)} parameters on {units.count(optimum.record.tokens)} tokens," if optimum else ""
    words = f"We trained the nearest real shape{real} and measured {nats(proof.observed)}. "
    ends = between(*proof.interval)
    if not ends:
        return words + "There is no interval to judge that by."
    if not proof.inside:
        side = "above" if proof.observed > proof.interval[1] else "below"
        return words + f"The prediction missed: that is {side} the interval, {100 * abs(proof.error):.1f} % from the expected loss."
    if not _judged(results, proof):
        middle = nats(_spread(results, proof))
        why = f"but it is no narrower than the middle 80 % of the sweep's losses ({middle}), so it says nothing, and nothing is proved."
        return words + f"That lies in the interval {ends}, {why}"
    return words + f"The predicted loss held: the measurement lies in the interval {ends}."


def _against(results: Results, proof: Validation, optimum: Contender, rival: Contender) -> str:
    name = contenders.of(rival.label).words
    if rival.record.loss is None:
        return f"The {name} gave no loss to compare with: it {rival.record.status} ({rival.record.reason})."
    times = rival.record.params.count(results.runs.convention) / optimum.record.params.count(results.runs.convention)
    size = f"{times:.1f} times larger" if times >= 1 else f"{1 / times:.1f} times smaller"
    shape = f"{size} and trained on {units.count(rival.record.tokens)} tokens with the same compute"
    lead = proof.lead(rival)
    better, worse = sorted((proof.observed, rival.record.loss))
    if lead == 0:
        return f"The predicted optimum and the {name}, {shape}, have the same loss: {nats(better)} nats per token."
    lower = f"{nats(better)} against {nats(worse)} nats per token, {abs(lead):.3f} ({100 * abs(lead) / worse:.1f} %) lower"
    if lead > 0:
        return f"The predicted optimum was better than the {name}, {shape}: {lower}. {_noise(proof, lead)}"
    return f"The {name}, {shape}, was better than the predicted optimum: {lower}. {_noise(proof, lead)}"


def _noise(proof: Validation, lead: float) -> str:
    """Return whether a difference is larger than the noise, and what follows."""
    if not math.isfinite(proof.chance):
        return "How much of that is noise is not known, for no seed was repeated."
    seeds = f"two runs that differ in their seed alone differ by up to {proof.chance:.3f} in four of five cases"
    if not proof.beyond_noise(lead):
        return f"That is within the noise ({seeds}), so it does not show which size is better."
    return f"That is more than the noise: {seeds}." + (" The predicted optimum was not the best size here." if lead < 0 else "")


def _verdict(results: Results) -> str:
    proof = results.validation
    if proof is None:
        return "unproved"
    if proof.beaten:
        return "missed"
    if not (_judged(results, proof) or (between(*proof.interval) and not proof.inside)):
        return "unproved"
    if not proof.inside:
        return "missed"
    return "held" if proof.won else "unproved"


def _spread(results: Results, proof: Validation) -> float:
    return proof.spread if math.isfinite(proof.spread) else validate.spread(results.runs.loss)


def _judged(results: Results, proof: Validation) -> bool:
    """Return whether there is an interval that says something."""
    return dataclasses.replace(proof, spread=_spread(results, proof)).informative


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
