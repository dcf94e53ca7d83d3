"""Step Law (Li et al. 2025, arXiv 2503.04715): power laws through the optima of 3,700 models."""

from isoflop import units
from isoflop.recipes import Rule, Run, outside, steps

_SOURCE = "Step Law (Li et al. 2025, arXiv 2503.04715)"
_FINAL_LR = 1e-5  # Li et al. 2025: the rule is fitted for a fixed final rate


def _reach(run: Run) -> tuple[str, ...]:
    size = outside(run.body, 59e6, 1e9, what="params without embeddings")
    if run.tokens <= 1e11:
        return size
    return (*size, f"This run's {units.count(run.tokens)} tokens are more than the longest runs behind the rule had (100B): tune the learning rate.")


RULE = Rule(
    title=_SOURCE,
    lr=lambda run, _batch: 1.79 * run.body**-0.713 * run.tokens**0.307,
    lr_source="Li et al. 2025: 1.79 N^-0.713 D^0.307, N without embeddings",
    batch=lambda run: 0.58 * run.tokens**0.571,
    batch_source="Li et al. 2025: 0.58 D^0.571 tokens",
    warmup=steps(2000),
    warmup_source="Li et al. 2025",
    schedule="cosine to 1e-5 over exactly this run",
    schedule_source="Li et al. 2025: the rule is fitted for a fixed final rate",
    final=lambda lr: min(1.0, _FINAL_LR / lr),
    reach=_reach,
)
