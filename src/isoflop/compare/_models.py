"""Known models whose params and training tokens are public, each with where they are printed.

Left out on purpose: models whose tokens are not public (GPT-4, Mistral, GPT-2), whose paper gives the tokens of the corpus and not those seen (OPT), and
those that were taught by a larger model (Gemma 2 2B and 9B), of which no law of pre-training speaks.
"""

from dataclasses import dataclass

from isoflop import units
from isoflop.errors import UsageError

_BOUNDS = {"params": (1.0, 1e20), "tokens": (1.0, 1e22)}  # assumption: beyond these nothing is meant, and a slip of the exponent is all but certain


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model and what it was trained on.

    Raises:
        UsageError: Params or tokens that cannot be meant.
    """

    name: str  # what is typed: "llama-2-70b"
    title: str  # "Llama 2 70B"
    params: float  # that a token passes, as its authors count them: all of a dense model, those active of a mixture of experts
    tokens: float  # seen in pre-training, repeats included
    year: int | None  # of the source; None for a user's own
    source: str
    all_params: float | None = None  # of a mixture of experts; None for a dense model
    note: str = ""  # what is odd about the counts

    def __post_init__(self) -> None:
        for quantity, (low, high) in _BOUNDS.items():
            value = getattr(self, quantity)
            if not low <= value <= high:
                msg = f"{units.flops(value)} {quantity} of model {self.name!r} cannot be meant: it should be from {low:g} to {high:g}. Check the suffix."
                raise UsageError(msg)

    @property
    def flops(self) -> float:
        """Training FLOPs by 6ND; of a mixture of experts with the active params."""
        return 6.0 * self.params * self.tokens  # in float: two of these are beyond the range of a 64-bit integer

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params


def _known(name: str, title: str, params: float, tokens: float, year: int, source: str, note: str = "") -> Model:  # noqa: PLR0917  # a row of a table
    return Model(name=name, title=title, params=params, tokens=tokens, year=year, source=source, note=note)


_TABLE_1 = "Hoffmann et al. 2022 (arXiv 2203.15556), Table 1"
_LLAMA = "Touvron et al. 2023 (arXiv 2302.13971), Table 2"
_LLAMA_2 = "Touvron et al. 2023 (arXiv 2307.09288) and the model card"
_LLAMA_3 = "model card of Llama 3 (github.com/meta-llama/llama3)"
_AT_LEAST = "the card says 15T+ tokens; counted as 15T"
_FALCON = "Almazrouei et al. 2023 (arXiv 2311.16867)"
_DEEPSEEK = "DeepSeek-AI 2024 (arXiv 2401.02954)"
_OLMO_2 = "OLMo et al. 2024 (arXiv 2501.00656) and the model card"
_CARD_SIZE = "the size is that of its name"

MODELS: tuple[Model, ...] = (
    _known("lamda", "LaMDA", 137e9, 168e9, 2022, _TABLE_1),
    _known("gpt-3", "GPT-3", 175e9, 300e9, 2020, _TABLE_1),
    _known("jurassic-1", "Jurassic-1", 178e9, 300e9, 2021, _TABLE_1),
    _known("gopher", "Gopher", 280e9, 300e9, 2021, _TABLE_1, "6ND is 5.04e23 FLOPs; its authors counted 5.76e23"),
    _known("mt-nlg-530b", "MT-NLG 530B", 530e9, 270e9, 2022, _TABLE_1),
    _known("chinchilla", "Chinchilla", 70e9, 1.4e12, 2022, _TABLE_1),
    _known("palm", "PaLM", 540e9, 780e9, 2022, "Chowdhery et al. 2022 (arXiv 2204.02311)"),
    _known("bloom", "BLOOM", 176e9, 366e9, 2022, "Le Scao et al. 2022 (arXiv 2211.05100)"),
    _known("pythia-12b", "Pythia 12B", 11_846_072_320, 299_892_736_000, 2023, "Biderman et al. 2023 (arXiv 2304.01373) and the model card"),
    _known("cerebras-gpt-13b", "Cerebras-GPT 13B", 13e9, 257e9, 2023, "Dey et al. 2023 (arXiv 2304.03208) and the model card"),
    _known("llama-7b", "LLaMA 7B", 6.7e9, 1.0e12, 2023, _LLAMA),
    _known("llama-13b", "LLaMA 13B", 13.0e9, 1.0e12, 2023, _LLAMA),
    _known("llama-33b", "LLaMA 33B", 32.5e9, 1.4e12, 2023, _LLAMA),
    _known("llama-65b", "LLaMA 65B", 65.2e9, 1.4e12, 2023, _LLAMA),
    _known("llama-2-7b", "Llama 2 7B", 7e9, 2.0e12, 2023, _LLAMA_2, _CARD_SIZE),
    _known("llama-2-13b", "Llama 2 13B", 13e9, 2.0e12, 2023, _LLAMA_2, _CARD_SIZE),
    _known("llama-2-70b", "Llama 2 70B", 70e9, 2.0e12, 2023, _LLAMA_2, _CARD_SIZE),
    _known("mpt-30b", "MPT-30B", 30e9, 1.0e12, 2023, "model card (huggingface.co/mosaicml/mpt-30b)", _CARD_SIZE),
    _known("falcon-7b", "Falcon 7B", 7e9, 1.5e12, 2023, _FALCON, _CARD_SIZE),
    _known("falcon-40b", "Falcon 40B", 40e9, 1.0e12, 2023, _FALCON, _CARD_SIZE),
    _known("falcon-180b", "Falcon 180B", 180e9, 3.5e12, 2023, _FALCON, _CARD_SIZE),
    _known("deepseek-7b", "DeepSeek 7B", 7e9, 2.0e12, 2024, _DEEPSEEK, _CARD_SIZE),
    _known("deepseek-67b", "DeepSeek 67B", 67e9, 2.0e12, 2024, _DEEPSEEK, _CARD_SIZE),
    _known("llama-3-8b", "Llama 3 8B", 8e9, 15e12, 2024, _LLAMA_3, _AT_LEAST),
    _known("llama-3-70b", "Llama 3 70B", 70e9, 15e12, 2024, _LLAMA_3, _AT_LEAST),
    _known("llama-3.1-405b", "Llama 3.1 405B", 405e9, 15.6e12, 2024, "Llama team 2024 (arXiv 2407.21783)"),
    _known("gemma-2-27b", "Gemma 2 27B", 27_227_718_144, 13e12, 2024, "Gemma team 2024 (arXiv 2408.00118), Table 2"),
    _known("qwen2.5-72b", "Qwen2.5 72B", 72.7e9, 18e12, 2024, "Qwen team 2024 (arXiv 2412.15115) and the model card"),
    _known("olmo-2-7b", "OLMo 2 7B", 7e9, 4e12, 2024, _OLMO_2, _CARD_SIZE),
    _known("olmo-2-13b", "OLMo 2 13B", 13e9, 5e12, 2024, _OLMO_2, _CARD_SIZE),
    _known("olmo-2-32b", "OLMo 2 32B", 32e9, 6e12, 2025, _OLMO_2, _CARD_SIZE),
    Model(
        name="deepseek-v3",
        title="DeepSeek-V3",
        params=37e9,
        tokens=14.8e12,
        year=2024,
        source="DeepSeek-AI 2024 (arXiv 2412.19437)",
        all_params=671e9,
        note="a mixture of experts: 37B of 671B params are active for a token, and those are counted; the laws are of dense models",
    ),
    _known("smollm2-1.7b", "SmolLM2 1.7B", 1.7e9, 11e12, 2025, "Ben Allal et al. 2025 (arXiv 2502.02737)"),
)
