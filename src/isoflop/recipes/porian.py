"""Porian et al. 2024 (arXiv 2406.19146): the settings that they tuned for each size from 5M to 902M params, as lines in the logs.

The lines are ours: least squares through the sixteen rows (params, sequences of 2048, rate) of the authors' code, make_paper.ipynb at
github.com/formll/resolving-scaling-law-discrepancies. They give each rate within 1.6 % and each batch within 9 %, about what the rows are
rounded to.
"""

from isoflop.recipes import BI_OPTIMIZER, Rule, Run, outside

_LR, _LR_POWER = 2.0857, -0.32869
_BATCH, _BATCH_POWER = 1.43233, 0.66647


def _reach(run: Run) -> tuple[str, ...]:
    return outside(run.with_head, 5.17e6, 902e6, what="params with the head")


RULE = Rule(
    title="Porian et al. 2024 (arXiv 2406.19146)",
    lr=lambda run, _batch: _LR * run.with_head**_LR_POWER,
    lr_source="Porian et al. 2024: their tuned rates, 2.086 N^-0.329, N with the head (our line through their sixteen sizes)",
    batch=lambda run: _BATCH * run.with_head**_BATCH_POWER,
    batch_source="Porian et al. 2024: their tuned batches, 1.43 N^0.666 tokens, N with the head (our line through their sixteen sizes)",
    warmup=lambda run, _batch: run.with_head / run.tokens,
    warmup_source="Porian et al. 2024: as many tokens as params",
    # a study's runs are trained with a cosine to a tenth instead: a rate that never falls is none of the trainer's schedules
    schedule="constant; a decay lowers the loss and hardly moves the optimal size",
    schedule_source="Porian et al. 2024: tuned without a decay",
    optimizer_source=f"{BI_OPTIMIZER}; they find that beta2 must be tuned where batches are small",
    reach=_reach,
)
