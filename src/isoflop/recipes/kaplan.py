"""Kaplan et al. 2020 (arXiv 2001.08361): one batch, and a rate that falls with the size."""

import math

from isoflop.recipes import Rule, steps

RULE = Rule(
    title="Kaplan et al. 2020 (arXiv 2001.08361)",
    lr=lambda run, _batch: 0.003239 - 0.0001395 * math.log(run.body),
    lr_source="Kaplan et al. 2020, Eq. D.1: 0.003239 - 0.0001395 ln N, N without embeddings",
    batch=lambda _run: 512 * 1024,
    batch_source="Kaplan et al. 2020, Sec. 2.2: 512 sequences of 1024",
    warmup=steps(3000),
    warmup_source="Kaplan et al. 2020, Sec. 2.2",
    schedule="cosine to zero",
    schedule_source="Kaplan et al. 2020, Sec. 2.2; theirs did not end with the run (Hoffmann et al. 2022, App. B): end it there",
    final=lambda _lr: 0.0,
    reach=lambda run: ("Kaplan et al. 2020 say themselves that the rate fails above 10B params; it is meant for sweeps.",) if run.body > 1e10 else (),
)
