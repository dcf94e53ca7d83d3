"""DeepSeek LLM (Bi et al. 2024, arXiv 2401.02954): power laws in the compute of a run, by which its 7B and 67B were then trained."""

from isoflop import units
from isoflop.recipes import BI, Rule, outside, steps

RULE = Rule(
    title=BI,
    lr=lambda run, _batch: 0.3118 * run.body_flops**-0.1250,
    lr_source="Bi et al. 2024, Eq. 1: 0.3118 C^-0.1250, C without the logits",
    batch=lambda run: 0.2920 * run.body_flops**0.3271,
    batch_source="Bi et al. 2024, Eq. 1: 0.2920 C^0.3271 tokens",
    warmup=steps(2000),
    warmup_source="Bi et al. 2024, Sec. 2.3",
    schedule="constant; 31.6 % of the peak from 80 % of the tokens on, 10 % from 90 %",
    # a study's runs are trained with a cosine instead: it ends as low, and is as good
    schedule_source="Bi et al. 2024, Sec. 2.3: as good as cosine, and its first part serves longer runs",
    # fitted on 1e17 to 2e19 FLOPs; 7B and 67B params on 2T tokens, 9.9e23 FLOPs, were trained by it
    reach=lambda run: outside(run.body_flops, 1e17, 1e24, what="FLOPs", show=units.flops),
    optimizer_source="AdamW of Bi et al. 2024, Sec. 2.3",
)
