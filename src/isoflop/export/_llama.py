"""The llama family as `LlamaForCausalLM` has it: the same operations on the same matrices, under other names.

Both pair the first half of a head's numbers with the second half when rotating, both have (out, in) matrices, and both share a key-value head among
heads that follow each other; so nothing is transposed or permuted, and joint matrices are cut into rows.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from isoflop.arch import Shape
from isoflop.data.tokenizer import SEPARATOR
from isoflop.errors import StoreError

Array = NDArray[np.float32]
EPS, ROPE_BASE = 1e-5, 10_000.0  # as isoflop.arch.llama.module, which is not imported for it needs torch; a test compares
_FORMAT = {"format": "pt"}  # without it transformers refuses the file


def config(shape: Shape) -> dict[str, object]:
    """config.json; no pad token, for transformers would not train its embedding."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.ffw_size,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.kv_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": EPS,
        "rope_theta": ROPE_BASE,
        "tie_word_embeddings": shape.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": SEPARATOR,  # what comes before a document is the end of another
        "eos_token_id": SEPARATOR,
        "torch_dtype": "float32",
    }


def generation(shape: Shape) -> dict[str, object]:
    """generation_config.json: draws from the model's own distribution, to the last position that was trained."""
    return {
        "bos_token_id": SEPARATOR,
        "eos_token_id": SEPARATOR,
        "pad_token_id": SEPARATOR,
        "max_length": shape.context,
        "do_sample": True,
        "top_k": 0,  # 50 if not said
    }


def saved(shape: Shape, weights: Mapping[str, Array]) -> bytes:
    """model.safetensors.

    Raises:
        StoreError: The weights are not those of such a shape.
    """
    from safetensors.numpy import save

    _check(shape, weights)
    tensors = dict(_tensors(shape, weights))
    # save() reads on from the first number of each array
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata=_FORMAT)


def _tensors(shape: Shape, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    yield "model.embed_tokens.weight", weights["embedding_VD"]
    for i in range(shape.n_layers):
        yield from ((f"model.layers.{i}.{name}.weight", tensor) for name, tensor in _layer(shape, weights, f"blocks.{i}."))
    yield "model.norm.weight", weights["norm_D"]
    if not shape.tied:
        yield "lm_head.weight", weights["head_VD"]


def _layer(shape: Shape, weights: Mapping[str, Array], block: str) -> Iterator[tuple[str, Array]]:
    heads, kv_heads = shape.n_heads * shape.kv_size, shape.kv_heads * shape.kv_size
    queries, keys, values = np.split(weights[block + "attention_qkv_AD"], [heads, heads + kv_heads])
    gate, up = np.split(weights[block + "feed_forward_in_FD"], [shape.ffw_size])
    yield "input_layernorm", weights[block + "norm_attention_D"]
    yield "self_attn.q_proj", queries
    yield "self_attn.k_proj", keys
    yield "self_attn.v_proj", values
    yield "self_attn.o_proj", weights[block + "attention_out_DA"]
    yield "post_attention_layernorm", weights[block + "norm_feed_forward_D"]
    yield "mlp.gate_proj", gate
    yield "mlp.up_proj", up
    yield "mlp.down_proj", weights[block + "feed_forward_out_DF"]


def _check(shape: Shape, weights: Mapping[str, Array]) -> None:
    wanted, found = dict(_expected(shape)), {name: tensor.shape for name, tensor in weights.items()}
    differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    differ += sorted(name for name, tensor in weights.items() if tensor.dtype != np.float32)
    if differ:
        name = differ[0]
        there = f"{weights[name].dtype} {found[name]}" if name in found else "not there"
        raise StoreError(
            f"the weights are not those of the run's shape: {name} is {there}, not {wanted.get(name, 'expected')} in float32 "
            f"({len(differ)} such). They cannot be exported; train the run again with this version of isoflop."
        )


def _expected(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    V, D, F, A, K = shape.vocab, shape.d_model, shape.ffw_size, shape.n_heads * shape.kv_size, shape.kv_heads * shape.kv_size
    yield "embedding_VD", (V, D)
    yield "norm_D", (D,)
    if not shape.tied:
        yield "head_VD", (V, D)
    for i in range(shape.n_layers):
        yield f"blocks.{i}.norm_attention_D", (D,)
        yield f"blocks.{i}.attention_qkv_AD", (A + 2 * K, D)
        yield f"blocks.{i}.attention_out_DA", (D, A)
        yield f"blocks.{i}.norm_feed_forward_D", (D,)
        yield f"blocks.{i}.feed_forward_in_FD", (2 * F, D)
        yield f"blocks.{i}.feed_forward_out_DF", (D, F)
