"""Gadre et al. 2024 (arXiv 2403.08540): loss of models trained far beyond their optimum.

The constants are found again from the losses and the procedure that the authors publish (mlfoundations/scaling: least squares with SciPy's curve_fit on five
runs of each corpus, four at 20 tokens a param and one at 320), and miss RedPajama's two largest runs by 0.7103 % and 0.7320 %, as their notebook prints.
"""

from isoflop.laws.overtraining import Overtraining
from isoflop.published import Published

FIVE_RUNS = (1.3e16, 2.0e19)  # 11M to 412M params


def _corpus(name: str, corpus: str, law: Overtraining, *cautions: str) -> Published:
    return Published(
        name=name,
        title=f"Gadre et al. 2024, {corpus}",
        source="Sec. 2, Eq. 4, arXiv 2403.08540; constants by the authors' code from their losses, github.com/mlfoundations/scaling",
        law=law,
        a=0.5,  # by its form: params and tokens share one exponent
        b=0.5,
        corpus=corpus,
        convention="all params; 6ND; loss on C4's validation set whatever the corpus",
        fitted_flops=FIVE_RUNS,
        cautions=(
            *cautions,
            "Fitted at 20 and 320 tokens a param: it says what training beyond the optimum costs, but its own optimum, at 3 to 7, lies outside the data.",
            "Learning rate and batch were tuned at 20 tokens a param and kept elsewhere.",
        ),
    )


FITS: tuple[Published, ...] = (
    _corpus(
        "gadre-c4",
        "C4",
        Overtraining(E=1.508261, over=141.2773, under=189.5155, eta=0.1212361),
        "It misses its largest run, 6.9B params on 138B tokens, by 4.3 %.",
    ),
    _corpus(
        "gadre-redpajama",
        "RedPajama",
        Overtraining(E=1.836648, over=212.2361, under=366.6872, eta=0.1364254),
        "Its loss is 0.7 % off the largest run, 1.4B params on 921B tokens; nothing was trained at its own optimum.",
    ),
    _corpus(
        "gadre-refinedweb",
        "RefinedWeb",
        Overtraining(E=1.734462, over=157.1163, under=246.2067, eta=0.1271974),
        "Its loss is 1.6 % off the largest run, 6.9B params on 138B tokens; nothing was trained at its own optimum.",
    ),
)
