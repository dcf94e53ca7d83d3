"""Besiroglu et al. 2024 (arXiv 2404.10102): Approach 3 of Hoffmann et al. 2022 fitted again, to the points of its Figure 4."""

from isoflop.laws.chinchilla import Chinchilla
from isoflop.published import Interval, Published

FITS: tuple[Published, ...] = (
    Published(
        name="besiroglu",
        title="Besiroglu et al. 2024",
        source="Approach 3 of Hoffmann et al. 2022 fitted to 240 points of Figure 4, arXiv 2404.10102",
        law=Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        a=0.5126,
        b=0.4874,
        corpus="MassiveText",
        convention="all params, embedding included; tokens taken as C / 6N",
        fitted_flops=(1.4e18, 1.3e22),  # of the points of Figure 4 that were used
        intervals=(
            Interval(quantity="alpha", low=0.317, high=0.373, level=0.95),
            Interval(quantity="beta", low=0.331, high=0.415, level=0.95),
        ),
        cautions=(
            "Its headline minimises a Huber density with a free scale, nearly least absolute deviations, and not Huber's loss itself.",
            "Huber's loss of log loss on its points is least at E 1.8172, A 477.83, B 2143.42, alpha 0.3473, beta 0.3672.",
            "Five of the 245 points, of few tokens a param, are left out; with them beta is 0.45.",
            "Chinchilla is within 6 % of the size and the tokens that it asks for, but was trained before, on another law's advice: no test of this one.",
            "Losses are read off colours, to about 0.01 nats, and tokens are not in the data.",
        ),
    ),
)
