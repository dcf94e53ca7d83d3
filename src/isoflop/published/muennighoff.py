"""Muennighoff et al. 2023 (arXiv 2305.16264): what repeated tokens are worth."""

import math

from isoflop.laws.data_constrained import DataConstrained
from isoflop.published import Published

FITS: tuple[Published, ...] = (
    Published(
        name="muennighoff",
        title="Muennighoff et al. 2023",
        source="App. A, Eq. 16 and 17 (repetition); App. B, Eq. 19 and 20 (C4), arXiv 2305.16264",
        law=DataConstrained(
            E=math.exp(0.6254804),
            A=math.exp(6.255414),
            B=math.exp(7.3049974),
            alpha=0.3526596,
            beta=0.3526596,
            R_N=5.309743,
            R_D=15.387756,
            unique_tokens=math.inf,  # until a plan says how many there are
        ),
        a=0.5,  # by its form: alpha is beta
        b=0.5,
        corpus="C4",
        convention="all params; 6ND",
        fitted_flops=(math.nan, 9.3e21),  # 8.7B params on 178B tokens, unique or repeated
        confirmed_flops=9.3e21,  # 6.34B params for 9.7 epochs of 25B tokens came out better than 8.67B for 7.1
        cautions=(
            "Equal exponents are assumed, not fitted, so its optimum has 19.6 tokens a param at every budget.",
            "Repetition never hurts by this law; beyond some tens of epochs it does, and such runs were left out of the fit.",
            "All runs had dropout 0.1; without it repeated tokens may be worth less.",
            "It ranks its two largest runs rightly but says losses 6 % below theirs (2.376 and 2.359).",
        ),
    ),
)
