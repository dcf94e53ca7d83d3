"""Architectures: counts equal what is built, and the fast modules equal slow ones written from the papers."""

import importlib
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from isoflop.arch import ParamGroups, Shape, get, widths

# Axes: B sequences, T positions, H heads, K kv_size, V vocab.
FAMILIES = ("gopher", "llama")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(shape, seed=0):
    return importlib.import_module(f"isoflop.arch.{shape.arch}.module").build(shape, seed=seed)


def shapes(arch=None):
    return st.builds(
        lambda arch, half, layers, heads, kv, ffw, vocab, context: Shape(
            arch=arch, d_model=2 * half, n_layers=layers, n_heads=heads, kv_size=2 * kv, ffw_size=ffw, vocab=vocab, context=context
        ),
        arch=st.sampled_from(FAMILIES) if arch is None else st.just(arch),
        half=st.integers(1, 12),
        layers=st.integers(1, 3),
        heads=st.integers(1, 3),
        kv=st.integers(1, 5),
        ffw=st.integers(1, 20),
        vocab=st.integers(2, 30),
        context=st.integers(1, 9),
    )


def tokens(shape, sequences, seed=1):
    return torch.randint(shape.vocab, (sequences, shape.context), generator=torch.Generator().manual_seed(seed))


def shaken(shape, seed=0):
    """A float64 model with every parameter moved, so that gains are not one and biases not zero."""
    model = build(shape, seed).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return model


def groups(model):
    """Parameters by group: a parameter's own name begins with its group's."""
    count = Counter()
    for name, parameter in model.named_parameters():
        (group,) = (g for g in ParamGroups.model_fields if name.rpartition(".")[2].startswith(g))
        count[group] += parameter.numel()
    return ParamGroups(**{g: count[g] for g in ParamGroups.model_fields})


@given(shape=shapes())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_built_parameters_equal_the_shape_by_group(shape):
    assert groups(build(shape)) == shape.params


@given(shape=shapes())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_counted_flops_of_one_sequence_equal_the_shape(shape):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(shape)(tokens(shape, 1))
    assert counter.get_total_flops() == shape.flops_per_token.forward * shape.context


@pytest.mark.parametrize("arch", FAMILIES)
def test_family_widths_are_built_as_counted(arch):
    for d_model, _ in zip(widths(), range(12), strict=False):
        shape = get(arch).at(d_model, vocab=256, context=64)
        assert groups(build(shape)) == shape.params


def rms_norm(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def plain_rotary_attention(block, shape, h_BTD):
    """Su et al. 2021 with complex numbers: the pair (a, b) of position t is (a + ib) e^(i t w)."""
    B, T, _ = h_BTD.shape
    H, K = shape.n_heads, shape.kv_size
    q, k, v = (h_BTD @ w.t() for w in block.attention_qkv_AD.chunk(3))
    q, k, v = (y.reshape(B, T, H, K).transpose(1, 2) for y in (q, k, v))
    turn = torch.polar(torch.ones(T, K // 2).double(), torch.arange(T)[:, None] * 10_000.0 ** (-2 * torch.arange(K // 2) / K).double())
    q, k = (torch.complex(y[..., : K // 2], y[..., K // 2 :]) * turn for y in (q, k))
    scores = torch.einsum("bhic,bhjc->bhij", q, k.conj()).real / math.sqrt(K)
    scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, H * K) @ block.attention_out_DA.t()


def plain_relative_attention(block, shape, h_BTD):
    """Dai et al. 2019, Eq. 5, one query, key and head at a time."""
    B, T, D = h_BTD.shape
    H, K = shape.n_heads, shape.kv_size
    W_q, W_k, W_v = block.attention_qkv_AD.reshape(3, H, K, D)
    W_r = block.position_key_AD.reshape(H, K, D)
    u, v = block.position_biases_PHK
    frequency = torch.tensor([10_000.0 ** (-2 * c / D) for c in range(D // 2)], dtype=torch.float64)
    out = torch.zeros(B, T, H, K, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(T):
                scores = []
                for j in range(i + 1):
                    R = torch.cat(((frequency * (i - j)).sin(), (frequency * (i - j)).cos()))
                    q, k, r = W_q[h] @ h_BTD[b, i], W_k[h] @ h_BTD[b, j], W_r[h] @ R
                    scores.append((q @ k + q @ r + u[h] @ k + v[h] @ r) / math.sqrt(K))
                weights = torch.stack(scores).softmax(0)
                out[b, i, h] = sum(weights[j] * (W_v[h] @ h_BTD[b, j]) for j in range(i + 1))
    return out.reshape(B, T, H * K) @ block.attention_out_DA.t() + block.attention_out_bias_D


def plain_swiglu(block, h_BTD):
    gate, up = (h_BTD @ w.t() for w in block.feed_forward_in_FD.chunk(2))
    return (gate * torch.sigmoid(gate) * up) @ block.feed_forward_out_DF.t()


def plain_gelu_layer(block, h_BTD):
    up = h_BTD @ block.feed_forward_in_FD.t() + block.feed_forward_in_bias_F
    return (up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))) @ block.feed_forward_out_DF.t() + block.feed_forward_out_bias_D


PLAIN = {"gopher": (plain_relative_attention, plain_gelu_layer), "llama": (plain_rotary_attention, plain_swiglu)}


def plain_logits(model, shape, tokens_BT):
    attention, feed_forward = PLAIN[shape.arch]
    x_BTD = model.embedding_VD[tokens_BT]
    for block in model.blocks:
        x_BTD = x_BTD + attention(block, shape, rms_norm(x_BTD, block.norm_attention_D))
        x_BTD = x_BTD + feed_forward(block, rms_norm(x_BTD, block.norm_feed_forward_D))
    return rms_norm(x_BTD, model.norm_D) @ model.embedding_VD.t()


SMALL = {"d_model": 6, "n_layers": 2, "n_heads": 2, "kv_size": 4, "ffw_size": 5, "vocab": 7, "context": 5}


@pytest.mark.parametrize("arch", FAMILIES)
def test_logits_equal_a_plain_reference(arch):
    shape = Shape(arch=arch, **SMALL)
    model = shaken(shape)
    for length in (shape.context, 3, 1):
        tokens_BT = tokens(shape, 3)[:, :length]
        torch.testing.assert_close(model(tokens_BT), plain_logits(model, shape, tokens_BT), rtol=1e-6, atol=1e-6)  # tables are float32


@pytest.mark.parametrize("arch", FAMILIES)
def test_gradients_equal_a_plain_reference(arch):
    shape = Shape(arch=arch, **SMALL)
    model = shaken(shape)
    tokens_BT, targets_BT = tokens(shape, 3), tokens(shape, 3, seed=2)
    ours = torch.autograd.grad(model(tokens_BT, targets_BT), list(model.parameters()))
    loss = torch.nn.functional.cross_entropy(plain_logits(model, shape, tokens_BT).flatten(0, 1), targets_BT.flatten())
    plain = torch.autograd.grad(loss, list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@given(shape=shapes())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_written_backward_passes_equal_finite_differences(shape):
    model = shaken(shape)
    names = [name for name, _ in model.named_parameters()]
    tokens_BT, targets_BT = tokens(shape, 2), tokens(shape, 2, seed=2)

    def loss(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (tokens_BT, targets_BT))

    assert torch.autograd.gradcheck(loss, tuple(p.detach().requires_grad_() for p in model.parameters()), fast_mode=True)


@given(shape=shapes(), data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_later_token_changes_no_earlier_logits(shape, data):
    at = data.draw(st.integers(0, shape.context - 1))
    model = build(shape)
    before_BT = tokens(shape, 2)
    after_BT = before_BT.clone()
    after_BT[:, at] = (after_BT[:, at] + 1) % shape.vocab
    with torch.no_grad():
        assert torch.equal(model(before_BT)[:, :at], model(after_BT)[:, :at])
        assert not torch.equal(model(before_BT)[:, at], model(after_BT)[:, at])


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("d_model", [8, 32, 128])
def test_a_fresh_model_knows_nothing(arch, d_model):
    shape = get(arch).at(d_model, vocab=256, context=64)
    for seed in range(3):
        with torch.no_grad():
            loss = build(shape, seed)(tokens(shape, 8), tokens(shape, 8, seed=2))
        assert abs(loss.item() - math.log(shape.vocab)) < 0.05


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_seed_alone_decides_the_weights(arch):
    shape = Shape(arch=arch, **SMALL)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = torch.nn.utils.parameters_to_vector(build(shape, seed=3).parameters())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, torch.nn.utils.parameters_to_vector(build(shape, seed=3).parameters()))
    assert not torch.equal(first, torch.nn.utils.parameters_to_vector(build(shape, seed=4).parameters()))


@pytest.mark.parametrize("arch", FAMILIES)
def test_sum_is_the_mean_times_the_targets_and_the_cross_entropy_of_the_logits(arch):
    shape = Shape(arch=arch, **SMALL)
    model = shaken(shape)
    tokens_BT, targets_BT = tokens(shape, 3), tokens(shape, 3, seed=2)
    total = model(tokens_BT, targets_BT, reduction="sum")
    torch.testing.assert_close(total, model(tokens_BT, targets_BT) * targets_BT.numel())
    torch.testing.assert_close(total, -model(tokens_BT).log_softmax(-1).gather(-1, targets_BT[..., None]).sum())


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_model_overfits_one_batch(arch):
    shape = Shape(arch=arch, **SMALL)
    model = build(shape)
    tokens_BT = tokens(shape, 4)
    targets_BT = (3 * tokens_BT + 1) % shape.vocab
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(100):
        optimiser.zero_grad()
        loss = model(tokens_BT, targets_BT)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
