"""The choices that --help names and that a shell completes with Tab.

They stand here as words, so that --help loads nothing; `tests/test_choices.py` compares them with the modules that know them.
"""

from collections.abc import Callable

MENUS: dict[str, tuple[str, ...]] = {
    "launcher": ("pool", "inline"),
    "compile": ("auto", "always", "never"),
    "track": ("tensorboard", "wandb", "mlflow"),
    "family": ("llama", "gopher"),
    "recipe": ("deepseek", "hoffmann", "kaplan", "porian", "small", "steplaw"),
    "approach": ("all", "1", "2", "3", "envelope", "isoflop", "parametric"),
    "law": ("chinchilla", "data_constrained", "farseer", "kaplan", "overtraining"),
    "estimator": ("huber", "lad", "lse", "mse"),
    "method": ("parabola", "akima", "additive"),
    "rule": ("finished", "all", "hull"),
    "format": ("delimited", "huggingface", "jsonl", "markdown", "mlflow", "parquet", "tensorboard", "wandb", "whitespace"),
    "count": ("total", "nonembedding", "with_head"),
    "intervals": ("noise", "runs"),
    "gpu": (
        *("v100", "a100-40", "a100-80", "h100", "h100-pcie", "h200", "b200", "gb200", "l40s", "a10g", "rtx-4090", "rtx-3090", "mi250x", "mi300x"),
        *("tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e"),
    ),
    "device": ("cpu", "cuda"),
}


def metavar(menu: str) -> str:
    """Return the choices as --help has them."""
    return "|".join(MENUS[menu])


def complete(menu: str) -> Callable[[str], list[str]]:
    """Return what completes a word from a menu."""

    def begun(incomplete: str) -> list[str]:
        return [name for name in MENUS[menu] if name.startswith(incomplete)]

    return begun


def complete_laws(incomplete: str) -> list[str]:
    """Return the published laws and papers that begin with a word."""
    from isoflop import published

    names = dict.fromkeys((*published.papers(), *(fit.name for fit in published.every())))
    return [name for name in names if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Return the known models that begin with a word."""
    from isoflop import compare

    return [model.name for model in compare.MODELS if model.name.startswith(incomplete)]
