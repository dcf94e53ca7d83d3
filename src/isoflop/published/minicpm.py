"""Hu et al. 2024 (arXiv 2404.06395): ten times Hoffmann's tokens a param, from runs that share one trunk."""

import math

from isoflop.published import Published

FITS: tuple[Published, ...] = (
    Published(
        name="minicpm",
        title="MiniCPM 2024",
        source="Sec. 4.5, Eq. 3, arXiv 2404.06395",
        law=None,
        a=0.23 / (0.29 + 0.23),  # beta / (alpha + beta) of the printed means
        b=0.29 / (0.29 + 0.23),
        corpus="MiniCPM's data",
        convention="params without embedding; loss in bytes",
        fitted_flops=(math.nan, math.nan),
        counts="nonembedding",
        cautions=(
            "Its 192 tokens a param are a mean over corpora; the printed means (K squared 0.01, eta -0.10) give 10,000 at 1e21 FLOPs, so there is no law here.",
            "Models of 0.04B to 2B params with a short decay at the end; the ratio is an extrapolation of the fitted surface.",
        ),
    ),
)
