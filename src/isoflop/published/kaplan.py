"""Kaplan et al. 2020 (arXiv 2001.08361): nearly all of a larger budget into params. What Hoffmann et al. 2022 showed to be wrong."""

import math

from isoflop.laws.kaplan import Kaplan
from isoflop.laws.powerlaw import PowerLaw
from isoflop.published import Published

A_EXPONENT = 0.73  # Kaplan et al. 2020, Table 6 (p_N); Hoffmann et al. 2022, Table 2
B_EXPONENT = 0.27  # the same (p_D)
PF_DAY = 8.64e19  # FLOPs: 1e15 a second for a day
SPENT = 2.0  # a run at the critical batch size spends twice C_min (Sec. 6.3); so counted, Hoffmann et al. 2022, App. D.4, have 4.68B params at 1e21 FLOPs
C_LOSS = 3.1e8  # PF-days of C_min at which the loss would be 1 nat (Table 5)
G_LOSS = 0.050  # Table 5
NON_EMBEDDING = "params and FLOPs without embedding; tokens as the frontier has them"


def through(flops: float, params: float, tokens: float) -> PowerLaw:
    """Kaplan's exponents through a given optimum: what they would pick at another budget."""
    return PowerLaw(c0=flops, n0=params, d0=tokens, a=A_EXPONENT, b=B_EXPONENT)


FITS: tuple[Published, ...] = (
    Published(
        name="kaplan",
        title="Kaplan et al. 2020",
        source="Compute-efficient frontier, App. A, Tables 5 and 6, arXiv 2001.08361",
        law=PowerLaw(c0=SPENT * PF_DAY, n0=1.3e9, d0=2e10, a=A_EXPONENT, b=B_EXPONENT, E=0.0, k=C_LOSS**G_LOSS, g=G_LOSS),
        a=A_EXPONENT,
        b=B_EXPONENT,
        corpus="WebText2",
        convention=f"{NON_EMBEDDING}; a budget is taken to be spent at the critical batch size, 2 C_min",
        fitted_flops=(6.0e14, 1.2e21),  # 768 to 1.5B params, each for 2.5e5 steps of 2**19 tokens (Sec. 2)
        counts="nonembedding",
        cautions=(
            "C_min in print is what a run far below the critical batch size needs; a run at it spends twice that, which is how budgets are read here.",
            "Params leave out embeddings, most of a small model; that and untuned small models bend the exponent (Porian et al. 2024; Pearce and Song 2024).",
            "Its loss has no floor, and contradicts its own law of tokens near 1e4 PF-days (Sec. 6.3).",
            "At 1e21 FLOPs its 4.7B params lost to 2.8B by Hoffmann et al. 2022 (App. D.4).",
            "Eq. 6.7 has 4e10 tokens at one PF-day where Table 6 has 2e10; the table is what 2 C_min / 6N gives.",
        ),
    ),
    Published(
        name="kaplan-joint",
        title="Kaplan et al. 2020, joint law",
        source="Eq. 1.5 with the constants of Table 2, arXiv 2001.08361",
        law=Kaplan(Nc=6.4e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103),
        a=math.nan,
        b=math.nan,
        corpus="WebText2",
        convention="params without embedding; tokens are the size of a data set, gone through until the test loss is least",
        fitted_flops=(math.nan, math.nan),
        counts="nonembedding",
        cautions=(
            "Its tokens are a data set's, trained on for many epochs with dropout, so 6ND is not what the runs cost and its optimum is not Kaplan's advice.",
            "It has no irreducible loss: far out it promises losses below the entropy of text.",
        ),
    ),
)
