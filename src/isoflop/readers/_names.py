"""Names of columns: which role a name stands for, in any spelling, and the unit that it says."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Names by role, best first; case and separators do not matter. A name after a bar counts only where none before the bar is there.
_NAMES = {
    "params": "params | n_params num_params parameters num_parameters n_parameters parameter_count param model_size model_params param_count nparams "
    "| total_params params_total total_parameters n_total_params | size n",
    "active_params": "active_params params_active n_active_params num_active_params active_parameters activated_params params_activated "
    "activated_parameters n_params_active n_active",
    "tokens": "tokens | n_tokens num_tokens train_tokens training_tokens tokens_seen n_tokens_seen total_tokens tokens_trained tokens_processed "
    "consumed_tokens num_input_tokens_seen trained_tokens seen_tokens token_count tokens_total | d",
    "loss": "val_loss eval_loss validation_loss loss_val loss_eval final_val_loss final_eval_loss final_validation_loss valid_loss dev_loss heldout_loss "
    "| test_loss final_test_loss | loss final_loss nll cross_entropy ce_loss lm_loss xent "
    "| bpb val_bpb eval_bpb final_bpb loss_bpb bits_per_byte val_bits_per_byte bits_per_token bpc val_bpc bits_per_character bits_per_char "
    "| val_perplexity val_ppl eval_perplexity eval_ppl valid_ppl test_perplexity test_ppl perplexity ppl "
    "| train_loss training_loss loss_train final_train_loss | train_perplexity train_ppl | l",
    "flops": "flops | total_flops train_flops training_flops training_flop train_flop num_flops n_flops total_flos flop compute total_compute training_compute "
    "train_compute flops_reported reported_flops flops_total model_flops | flop_count flops_counted | flops_6nd | c",
    "budget": "budget flop_budget flops_budget compute_budget target_flops isoflop_budget isoflop target_compute budget_flops nominal_flops",
    "run_id": "run_id run_uuid wandb_id uuid | run run_name id | file | name job_name job experiment experiment_name exp_name",
    "step": "step | steps global_step iteration iter train_step trainer_global_step | max_steps num_steps n_steps train_steps training_steps total_steps "
    "num_iterations iterations iters max_iters",
    "seed": "seed | random_seed",
    "lr": "lr | learning_rate | peak_lr max_lr peak_learning_rate max_learning_rate base_lr lr_peak lr_max",
    "unique_tokens": "unique_tokens | unique_train_tokens n_unique_tokens num_unique_tokens",
    "tokens_per_param": "tokens_per_param tokens_per_parameter tokens_per_params token_param_ratio tokens_to_params tpp chinchilla_ratio",
    "batch_tokens": "batch_tokens tokens_per_step tokens_per_batch batch_size_tokens batch_size_in_tokens tokens_per_iter total_batch_size_tokens",
    "batch": "global_batch_size global_bs gbs gbsz train_batch_size batch_seqs batch_size_seqs batch_size_sequences sequences_per_batch "
    "| batch_size batch bs bsz",
    "status": "status | state run_status run_state job_state job_status outcome",
    "diverged": "diverged is_diverged has_diverged did_diverge",
    "failed": "failed is_failed has_failed crashed is_crashed has_crashed",
    "ended": "finished is_finished has_finished completed is_completed complete is_complete done is_done success succeeded",
    "final": "final is_final end_of_run is_last",
    "group": "group",
    "vocab": "vocab | vocab_size n_vocab padded_vocab_size",
    "counting": "convention counting params_convention param_convention param_count",
    "arch": "arch | architecture",
    "d_model": "d_model | hidden_size n_embd model_dim hidden_dim embed_dim d_embed emb_dim",
    "n_layers": "n_layers | n_layer num_layers num_hidden_layers n_blocks depth",
    "n_heads": "n_heads | n_head num_heads num_attention_heads",
    "kv_size": "kv_size | head_dim",
    "ffw_size": "ffw_size | d_ff ffn_size intermediate_size",
    "context": "context | context_length seq_len sequence_length seq_length block_size ctx_len context_size max_seq_len seqlen n_ctx",
}
_NONEMBEDDING = (
    "params_nonemb nonemb_params params_non_embedding params_nonembedding nonembedding_params non_embedding_params non_emb_params params_non_emb "
    "params_no_embed no_embed_params params_no_emb n_params_nonemb n_params_non_embedding"
)
ROLES: Mapping[str, tuple[str, ...]] = {
    role: tuple(name for name in names.split() if name != "|") + (tuple(_NONEMBEDDING.split()) if role == "params" else ()) for role, names in _NAMES.items()
}
CERTAIN_IDS = ("run_id", "run_uuid", "wandb_id", "uuid", "file")  # each value is one run
WEAK_IDS = ("name", "job_name", "job", "experiment", "experiment_name", "exp_name")  # often the name of a configuration
_COUNTS = ("params", "active_params", "tokens", "unique_tokens", "batch_tokens", "vocab")
_SCALES = {
    **dict.fromkeys(("k", "thousand", "thousands", "e3", "1e3", "10^3"), 1e3),
    **dict.fromkeys(("m", "mn", "mil", "mio", "million", "millions", "e6", "1e6", "10^6", "x1e6", "x10^6"), 1e6),
    **dict.fromkeys(("b", "bn", "g", "billion", "billions", "e9", "1e9", "10^9", "x1e9", "x10^9"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion", "trillions", "e12", "1e12", "10^12", "x1e12", "x10^12"), 1e12),
}
FLOPS = {  # units of compute, as letters alone without the plural
    **{f"{prefix}flop": scale for prefix, scale in (("giga", 1e9), ("tera", 1e12), ("peta", 1e15), ("exa", 1e18), ("zetta", 1e21), ("yotta", 1e24))},
    **{f"{prefix}flop": scale for prefix, scale in (("g", 1e9), ("t", 1e12), ("p", 1e15), ("e", 1e18), ("z", 1e21), ("y", 1e24))},
    **dict.fromkeys(("pfday", "pflopday", "pflopsday", "petaflopday", "petaflopsday"), 8.64e19),  # a petaFLOP a second for a day: 1e15 x 86400
    **dict.fromkeys(("efday", "eflopday", "eflopsday", "exaflopday", "exaflopsday"), 8.64e22),
}
_BRACKETED = re.compile(r"(?P<base>.+?)[\s_]*[(\[{](?P<unit>[^()\[\]{}]+)[)\]}]\s*")
_SUFFIXED = re.compile(
    r"(?P<base>.+?)[\s_\-.]+(?:in[\s_\-]+)?(?P<unit>k|m|mn|mil|mio|millions?|b|bn|billions?|g|t|tn|trillions?|thousands?|e\d+|pf[\s_\-]?days?|"
    r"(?:[gtpezy]|giga|tera|peta|exa|zetta)flops?(?:[\s_\-]?s?[\s_\-]?days?)?)",
    re.IGNORECASE,
)
_WHOLE_COMPUTE = re.compile(r"(?:pf|pflops?|petaflops?)(?:[/_\-\s]*s)?[_\-\s]*days?", re.IGNORECASE)  # a name that is a unit of compute by itself


SUPERSCRIPTS = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-")


@dataclass(frozen=True, kw_only=True)
class Match:
    """A column that can be a role, and how well."""

    column: str
    rank: tuple[int, int, int, int]  # the least is best
    factor: float = 1.0  # of the unit in the name
    unit: str = ""  # that unit, as written


def plain(name: str) -> str:
    """Return a name without its case and separators."""
    return re.sub(r"[\W_]", "", name.casefold())


_ACTIVE = re.compile(r"(?<!in)activ(?:e|ated)|(?<![a-z])act(?![a-z])")
_SIZE = ("param", "nonemb", "modelsize")
VALIDATION = frozenset(("val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "test"))
_LOSSES = frozenset(("loss", "nll", "ce", "xent", "bpb", "ppl", "perplexity", "bpc"))
_NOT_LOSSES = (
    "std stdev stderr se sem err error var ci low high lower upper delta diff gap log aux z n step epoch iter iteration tokens time seed weight coef scale "
    "init initial first start max target pred predicted fit fitted expected baseline reference train training"
)
_NO_LOSS = frozenset(_NOT_LOSSES.split())


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name: between separators, or begun by a capital."""
    return tuple(word.casefold() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))


def validation(columns: tuple[str, ...]) -> list[Match]:
    """Return the columns that hold a loss on held-out text by their words, such as "c4_val_loss" or "best_val_loss"."""
    found = [(column, set(words(column))) for column in columns]
    return [Match(column=column, rank=(0, 0, 0, 0), unit="") for column, said in found if said & VALIDATION and said & _LOSSES and not said & _NO_LOSS]


NONEMBEDDING = frozenset(plain(name) for name in _NONEMBEDDING.split())
_TIERS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    role: {plain(name): (tier, place) for tier, part in reversed(list(enumerate(names.split("|")))) for place, name in enumerate(part.split())}
    for role, names in _NAMES.items()
}


def matches(role: str, columns: tuple[str, ...]) -> list[Match]:
    """Return the columns that can be a role, the best first."""
    tiers = _TIERS[role]
    found = [match for column in columns if (match := _match(role, column, tiers)) is not None]
    return sorted(found, key=lambda match: (match.rank, columns.index(match.column)))


def nonembedding(columns: tuple[str, ...]) -> list[Match]:
    """Return the columns of parameters without embeddings."""
    return [
        Match(column=column, rank=(0, 0, 0, 0), factor=factor, unit=unit)
        for column in columns
        for base, factor, unit in [*_readings("params", column)][:1] or [(column, 1.0, "")]
        if plain(column) in NONEMBEDDING or plain(base) in NONEMBEDDING or (plain(base) in _TIERS["params"] and counts_nonembedding(unit))
    ]


def counts_nonembedding(text: str) -> bool:
    """Return whether a text says that embeddings are not counted."""
    return any(sign in plain(text) for sign in ("nonemb", "noemb", "withoutemb", "transformeronly", "exclemb"))


def _match(role: str, column: str, tiers: Mapping[str, tuple[int, int]]) -> Match | None:
    if role == "params" and (plain(column) in NONEMBEDDING or counts_nonembedding(column)):
        return None  # its own convention: `nonembedding`
    if role == "params" and _is_active(column):
        return None
    for form, name in enumerate((plain(column), _last_part(column))):
        if name in tiers:
            return Match(column=column, rank=(len(name) == 1, form, *tiers[name]))
    for base, factor, unit in _readings(role, column):
        for form, name in enumerate((plain(base), _last_part(base))):
            if name in tiers:
                return Match(column=column, rank=(len(name) == 1, form, *tiers[name]), factor=factor, unit=unit)
    if role == "active_params" and _is_active(column):
        _, factor, unit = next(_readings(role, column), (column, 1.0, ""))
        return Match(column=column, rank=(9, 0, 0, 0), factor=factor, unit=unit)
    return None


def _is_active(column: str) -> bool:
    """Return whether a name speaks of the parameters that a mixture of experts uses for a token."""
    return any(sign in plain(column) for sign in _SIZE) and _ACTIVE.search(column.casefold()) is not None and "activation" not in column.casefold()


def _readings(role: str, column: str) -> Iterator[tuple[str, float, str]]:
    """Yield a name without its unit, the factor of that unit for a role, and the unit as written."""
    if role in {"flops", "budget"} and _WHOLE_COMPUTE.fullmatch(column.strip()):
        yield "compute", FLOPS["pfday"], column.strip()
    for pattern in (_BRACKETED, _SUFFIXED):
        found = pattern.fullmatch(column)
        if found is None:
            continue
        factor = _factor(role, found["unit"])
        if factor is not None or (pattern is _BRACKETED and factor is None and not _is_scale(found["unit"])):
            yield found["base"], factor or 1.0, found["unit"].strip()


def _factor(role: str, unit: str) -> float | None:
    """Return what a unit in a name multiplies a role by; None of a unit that the role does not have."""
    raised = re.sub("([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)", r"^\1", unit).translate(SUPERSCRIPTS)
    short = raised.strip().casefold().removeprefix("in ").replace("\u00d7", "x").replace(" ", "").replace("**", "^")
    if role in {"flops", "budget"}:
        power = re.fullmatch(r"x?(?:1?e|10\^)(\d{1,2})(?:flops?)?", short)
        return float(f"1e{power[1]}") if power else flops_unit(short)
    if role in _COUNTS:
        words = re.sub(r"(params?|parameters?|tokens?)$", "", short)
        return _SCALES.get(words)
    return None


def _is_scale(unit: str) -> bool:
    return unit.strip().casefold() in _SCALES or flops_unit(unit) is not None


def _last_part(column: str) -> str:
    """Return the last part of a name with a path before it, such as "summary.loss" or "config/n_params"; names of one letter have none."""
    parts = re.split(r"[./:]", column)
    last = plain(parts[-1])
    return last if len(parts) > 1 and len(last) > 1 else ""


def flops_unit(text: str) -> float | None:
    """Return the FLOPs of a unit of compute such as "PF-days" or "ExaFLOPs"; None of any other text."""
    return FLOPS.get(re.sub(r"[^a-z]", "", text.lower()).removesuffix("s"))
