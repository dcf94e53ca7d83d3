"""Architectures: counts equal what is built and what papers print, and the fast modules equal slow ones written from the papers."""

import csv
import hashlib
import importlib
import json
import math
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from isoflop import arch
from isoflop.arch import CONVENTIONS, FLOAT32_ADAMW, FLOP_CONVENTIONS, MIXED_ADAMW, ParamGroups, Shape, _written, depth, flops, get, nearest, widths
from isoflop.errors import UnknownNameError, UsageError
from isoflop.runs import RunSpec

# Axes: B sequences, T positions, H heads, K kv_size, V vocab.
FAMILIES = ("gopher", "llama")
GOLDEN = tomllib.loads((Path(__file__).parent / "golden/arch.toml").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _two_queries_at_once(monkeypatch):
    """Small contexts in several blocks, the last one shorter; and the logits of a few tokens at once."""
    monkeypatch.setattr(_written, "BLOCK", 2)
    monkeypatch.setattr(_written, "LOGITS", 40)


def build(shape, seed=0):
    return importlib.import_module(f"isoflop.arch.{shape.arch}.module").build(shape, seed=seed)


def shapes():
    """Small shapes of both families; llama's with keys and values for every one, two or three heads, tied or not."""

    def shape(arch, tied, *, half, layers, kv_heads, shared, kv, ffw, vocab, context):
        variant = {"n_kv_heads": kv_heads, "tied": tied} if arch == "llama" else {}
        sizes = {"d_model": 2 * half, "n_layers": layers, "n_heads": kv_heads * shared, "kv_size": 2 * kv, "ffw_size": ffw}
        return Shape(arch=arch, **sizes, vocab=vocab, context=context, **variant)

    small = {"half": (1, 12), "layers": (1, 3), "kv_heads": (1, 3), "shared": (1, 3), "kv": (1, 5), "ffw": (1, 20), "vocab": (2, 30), "context": (1, 9)}
    return st.builds(shape, arch=st.sampled_from(FAMILIES), tied=st.booleans(), **{name: st.integers(*ends) for name, ends in small.items()})


def tokens(shape, sequences, seed=1):
    return torch.randint(shape.vocab, (sequences, shape.context), generator=torch.Generator().manual_seed(seed))


def shaken(shape, seed=0, *, path="wide"):
    """A float64 model with every parameter moved, so that gains are not one and biases not zero."""
    model = build(shape, seed).double()
    model.plain, model.wide = path == "plain", path == "wide"
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


def counted_flops(model, tokens_BT):
    def linear(x, w, *_, out_shape):  # noqa: ARG001 -- the counter passes it
        return 2 * math.prod(x) * w[0]

    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: linear}) as counter:
        model(tokens_BT)
    return counter.get_total_flops()


@pytest.mark.parametrize("wide", [False, True])
@given(shape=shapes())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_counted_flops_of_one_sequence_equal_the_shape(wide, shape):
    model = build(shape)
    model.wide = wide
    assert counted_flops(model, tokens(shape, 1)) == shape.flops_per_token.forward * shape.context


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wide", [False, True])
def test_what_is_left_out_of_the_count_is_keys_after_a_blocks_last_query(family, wide, monkeypatch):
    shape = get(family).at(32, vocab=256, context=96)
    model = build(shape)
    model.wide = wide
    monkeypatch.setattr(_written, "BLOCK", 32)
    monkeypatch.setattr(_written, "ONEDNN_FROM", 0)
    seen = (1 + 2 + 3) / 9
    left_out = (1 - seen) * shape.flops_per_token.scores
    assert counted_flops(model, tokens(shape, 1)) == pytest.approx(96 * (shape.flops_per_token.forward - left_out), rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_widths_are_built_as_counted(family):
    for d_model, _ in zip(widths(), range(12), strict=False):
        shape = get(family).at(d_model, vocab=256, context=64)
        assert groups(build(shape)) == shape.params


def rms_norm(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def plain_rotary_attention(block, shape, h_BTD):
    """Su et al. 2021 with complex numbers: the pair (a, b) of position t is (a + ib) e^(i t w)."""
    B, T, _ = h_BTD.shape
    H, K = shape.n_heads, shape.kv_size
    G = shape.kv_heads
    q, k, v = (h_BTD @ w.t() for w in block.attention_qkv_AD.split((H * K, G * K, G * K)))
    q, k, v = (y.reshape(B, T, -1, K).transpose(1, 2) for y in (q, k, v))
    k, v = (torch.stack([y[:, h * G // H] for h in range(H)], 1) for y in (k, v))  # Ainslie et al. 2023: neighbours share
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
    head_VD = model.embedding_VD if shape.tied else model.head_VD
    return rms_norm(x_BTD, model.norm_D) @ head_VD.t()


SMALL = {"d_model": 6, "n_layers": 2, "n_heads": 2, "kv_size": 4, "ffw_size": 5, "vocab": 7, "context": 5}
SHAPES = {
    "gopher": Shape(arch="gopher", **SMALL),
    "llama": Shape(arch="llama", **SMALL),
    "grouped": Shape(arch="llama", **SMALL | {"n_heads": 6}, n_kv_heads=2, tied=False),
    "one key": Shape(arch="llama", **SMALL, n_kv_heads=1),
}


PATHS = pytest.mark.parametrize("path", ["narrow", "wide", "plain"])


@pytest.mark.usefixtures("_two_queries_at_once")
@PATHS
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_equal_a_slow_reference(shape, path):
    model = shaken(shape, path=path)
    for length in (shape.context, 3, 1):
        tokens_BT = tokens(shape, 3)[:, :length]
        torch.testing.assert_close(model(tokens_BT), plain_logits(model, shape, tokens_BT), rtol=1e-6, atol=1e-6)  # tables are float32


@pytest.mark.usefixtures("_two_queries_at_once")
@PATHS
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_equal_a_slow_reference(shape, z_loss, path):
    model = shaken(shape, path=path)
    tokens_BT, targets_BT = tokens(shape, 3), tokens(shape, 3, seed=2)
    ours = torch.autograd.grad(model(tokens_BT, targets_BT, z_loss=z_loss), list(model.parameters()))
    logits_MV = plain_logits(model, shape, tokens_BT).flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits_MV, targets_BT.flatten()) + z_loss * logits_MV.exp().sum(-1).log().square().mean()
    plain = torch.autograd.grad(loss, list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.usefixtures("_two_queries_at_once")
@pytest.mark.parametrize("path", ["narrow", "wide"])
@given(shape=shapes())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_written_backward_passes_equal_finite_differences(path, shape):
    model = shaken(shape, path=path)
    names = [name for name, _ in model.named_parameters()]
    tokens_BT, targets_BT = tokens(shape, 2), tokens(shape, 2, seed=2)

    def loss(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (tokens_BT, targets_BT))

    assert torch.autograd.gradcheck(loss, tuple(p.detach().requires_grad_() for p in model.parameters()), fast_mode=True)


@pytest.mark.usefixtures("_two_queries_at_once")
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


@pytest.mark.parametrize(("family", "tied"), [("gopher", True), ("llama", True), ("llama", False)])
@pytest.mark.parametrize("d_model", [8, 32, 128])
def test_a_fresh_model_knows_nothing(family, d_model, tied):
    shape = get(family).at(d_model, vocab=256, context=64).model_copy(update={"tied": tied})
    for seed in range(3):
        with torch.no_grad():
            loss = build(shape, seed)(tokens(shape, 8), tokens(shape, 8, seed=2))
        assert abs(loss.item() - math.log(shape.vocab)) < 0.05


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_seed_alone_decides_the_weights(shape):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = torch.nn.utils.parameters_to_vector(build(shape, seed=3).parameters())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, torch.nn.utils.parameters_to_vector(build(shape, seed=3).parameters()))
    assert not torch.equal(first, torch.nn.utils.parameters_to_vector(build(shape, seed=4).parameters()))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_sum_is_the_mean_times_the_targets_and_the_cross_entropy_of_the_logits(shape):
    model = shaken(shape)
    tokens_BT, targets_BT = tokens(shape, 3), tokens(shape, 3, seed=2)
    total = model(tokens_BT, targets_BT, reduction="sum")
    torch.testing.assert_close(total, model(tokens_BT, targets_BT) * targets_BT.numel())
    torch.testing.assert_close(total, -model(tokens_BT).log_softmax(-1).gather(-1, targets_BT[..., None]).sum())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_model_overfits_one_batch(shape):
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


def test_a_head_of_its_own_is_drawn_last_so_that_all_else_starts_equal():
    tied, untied = (dict(build(SHAPES["llama"].model_copy(update={"tied": t})).named_parameters()) for t in (True, False))
    assert untied.keys() - tied.keys() == {"head_VD"}
    assert all(torch.equal(tied[name], untied[name]) for name in tied)


# ---- the three ways of a step


def loss_and_gradients(model, *batch, **options):
    loss = model(*batch, **options)
    return loss.detach(), torch.autograd.grad(loss, list(model.parameters()))


def of_way(shape, path, **values):
    model = build(shape)
    model.plain, model.wide = path == "plain", path == "wide"
    for name, value in values.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_gives_the_same_loss_and_gradients_in_float32(family):
    shape = get(family).at(48, vocab=256, context=160)
    batch = tokens(shape, 4), tokens(shape, 4, seed=2)  # enough for oneDNN's products
    ways = [loss_and_gradients(of_way(shape, path), *batch, z_loss=1e-3) for path in ("narrow", "wide", "plain")]
    for loss, gradients in ways[1:]:
        assert loss.item() == pytest.approx(ways[0][0].item(), rel=1e-6)
        for a, b in zip(ways[0][1], gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * a.abs().max().item())  # sums of some hundred float32 numbers in another order


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_on_one_thread_gives_the_same_bits_again(family):
    shape = get(family).at(48, vocab=256, context=160)
    batch = tokens(shape, 2), tokens(shape, 2, seed=2)
    for precision in ("float32", "bf16"):
        first, second = (loss_and_gradients(of_way(shape, "wide", precision=precision), *batch) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


@PATHS
@pytest.mark.parametrize("family", FAMILIES)
def test_products_in_bf16_change_the_loss_and_the_gradients_by_their_rounding(family, path):
    shape = get(family).at(32, vocab=256, context=160)
    batch = tokens(shape, 2), tokens(shape, 2, seed=2)
    exact, rounded = (loss_and_gradients(of_way(shape, path, precision=precision), *batch) for precision in ("float32", "bf16"))
    assert 0 < abs(exact[0].item() - rounded[0].item()) < 2e-3  # bfloat16 has 8 bits: 4e-3 of each of the logits, whose size is 0.2
    for a, b in zip(exact[1], rounded[1], strict=True):
        assert b.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_under_autocast_the_step_is_the_plain_one(family):
    shape = get(family).at(16, vocab=256, context=32)
    batch = tokens(shape, 2), tokens(shape, 2, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, plain = (loss_and_gradients(model, *batch) for model in (build(shape), of_way(shape, "plain")))
    assert torch.equal(found[0], plain[0])
    assert torch.equal(plain[0], loss_and_gradients(of_way(shape, "plain", precision="bf16"), *batch)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_sharded_by_fsdp2_the_step_is_the_same_to_the_bit(family):
    shape = get(family).at(16, vocab=256, context=96)
    batch = tokens(shape, 2), tokens(shape, 2, seed=2)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for plain in (None, True):
            whole, sharded = build(shape), build(shape)
            whole.plain = sharded.plain = plain
            for part in (*sharded.blocks, sharded):
                fully_shard(part, mesh=mesh)
            losses = [model(*batch) for model in (whole, sharded)]
            assert torch.equal(*losses)
            for loss in losses:
                loss.backward()
            for a, b in zip(whole.parameters(), sharded.parameters(), strict=True):
                assert isinstance(b, DTensor)
                assert torch.equal(a.grad, b.grad.full_tensor())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own
@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_the_step_is_the_same_within_float_error(family):
    shape = get(family).at(16, vocab=256, context=32)
    batch = tokens(shape, 2), tokens(shape, 2, seed=2)
    model = build(shape)
    loss, gradients = loss_and_gradients(model, *batch)
    model.compile()
    compiled = loss_and_gradients(model, *batch)
    assert compiled[0].item() == pytest.approx(loss.item(), rel=1e-6)
    for a, b in zip(gradients, compiled[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * a.abs().max().item())


def test_the_loss_of_what_a_model_is_sure_will_not_come_is_exact():
    """A probability below the smallest float32 has a finite loss."""
    shape = SHAPES["llama"]
    model = build(shape)
    with torch.no_grad():
        model.norm_D.fill_(3000.0)
        batch = tokens(shape, 3), tokens(shape, 3, seed=2)
        logits_MV = model(batch[0]).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits_MV.double(), batch[1].flatten())
        assert expected > 100
        assert model(*batch).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_gradient_taken_twice_is_the_same(shape):
    model = build(shape)
    loss = model(tokens(shape, 2), tokens(shape, 2, seed=2), z_loss=0.1)
    first, second = (torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- what a shape says of itself


def test_a_shape_without_the_later_keys_keeps_its_id():
    ids = {"gopher": "c59eb6fab67f81a4", "llama": "5f5c25476924f131"}  # as version 0.1.0 made them
    for family, expected in ids.items():
        shape = get(family).at(64, vocab=256, context=128)
        run = {"tokens": 1024, "batch": 256, "lr": 0.01, "seed": 0, "data": "d", "eval_tokens": 128, "budget": 1e9, "group": "isoflop"}
        spec = RunSpec(shape=shape, **run)
        dump = spec.model_dump(mode="json")
        assert not {"n_kv_heads", "tied"} & dump["shape"].keys()
        assert spec.id == hashlib.sha256(json.dumps(dump, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16] == expected


@given(shape=shapes())
def test_a_shape_reads_back_from_its_dump(shape):
    assert Shape.model_validate(shape.model_dump()) == shape
    assert Shape.model_validate_json(shape.model_dump_json()) == shape


def test_as_many_key_value_heads_as_heads_is_the_same_shape_as_not_to_say():
    assert Shape(arch="llama", **SMALL, n_kv_heads=2) == Shape(arch="llama", **SMALL)
    assert Shape(arch="gopher", **SMALL, n_kv_heads=2) == Shape(arch="gopher", **SMALL)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arch": "llama", "n_heads": 6, "n_kv_heads": 4}, "6 heads cannot share 4 key-value heads evenly"),
        ({"arch": "llama", "n_heads": 2, "n_kv_heads": 4}, "2 heads cannot share 4"),
        ({"arch": "gopher", "n_kv_heads": 1}, "gopher is not built with fewer key-value heads"),
        ({"arch": "gopher", "tied": False}, "gopher is not built with an output head of its own"),
        ({"arch": "lama", "tied": False}, "Did you mean 'llama'"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_in_words(values, message):
    with pytest.raises(UsageError, match=message):
        Shape.model_validate(SMALL | values)


# ---- parameters, as printed


def of_the_paper(d_model, n_layers, n_heads, kv_size, ffw_size):
    sizes = {"d_model": int(d_model), "n_layers": int(n_layers), "n_heads": int(n_heads), "kv_size": int(kv_size), "ffw_size": int(ffw_size)}
    return Shape(arch="gopher", **sizes, vocab=32_000, context=2048)


def rows(path):
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_table_a9_comes_out_to_the_printed_million_but_for_one_row(shared):
    table = rows(shared / "data/paper/table_a9_models.csv")
    sizes = "d_model", "n_layers", "n_heads", "kv_size", "ffw_size"
    ours = [of_the_paper(*(row[size] for size in sizes)).params.total / 1e6 for row in table]
    printed = [float(row["params_million_reported"]) for row in table]
    off = [(o, p) for o, p in zip(ours, printed, strict=True) if round(o) != p]
    assert len(table) == 50
    assert len(off) == 1
    assert off[0][0] == pytest.approx(off[0][1], rel=2e-4)


@pytest.mark.parametrize("name", ["gopher", "chinchilla"])
def test_table_4_models_have_the_size_of_their_name(name):
    row = GOLDEN["table4"][name]
    shape = of_the_paper(row["d_model"], row["n_layers"], row["n_heads"], row["kv_size"], 4 * row["d_model"])
    assert shape.params.total == pytest.approx(row["params"], rel=GOLDEN["table4"]["tolerance"])


@pytest.mark.parametrize("name", GOLDEN["params"])
def test_known_models_have_the_parameters_that_were_released(name):
    model = GOLDEN["params"][name]
    shape = Shape(arch="llama", context=2048, **model["shape"])
    assert shape.params.total == model["params"]
    assert arch.kv_cache_per_token(shape) == model.get("kv_cache_per_token", arch.kv_cache_per_token(shape))


@given(shape=shapes())
def test_conventions_differ_by_the_embedding_and_the_head(shape):
    matrix = shape.vocab * shape.d_model
    total, bare, with_head = (shape.params.count(c) for c in ("total", "nonembedding", "with_head"))
    assert with_head == bare + matrix
    assert total == bare + matrix * (1 if shape.tied else 2)


def test_an_unknown_convention_is_refused_with_the_nearest():
    shape = SHAPES["llama"]
    with pytest.raises(UnknownNameError, match="Did you mean 'nonembedding'"):
        shape.params.count("non-embedding")
    with pytest.raises(UnknownNameError, match="Did you mean 'appendix_f'"):
        flops(shape, "appendix-f")
    with pytest.raises(UnknownNameError, match="Did you mean 'selective'"):
        arch.training_memory(shape, recompute="selectiv")


# ---- FLOPs, as printed


def test_table_a4_comes_out_of_appendix_f_without_embedding_and_logits(shared):
    for row in rows(shared / "data/paper/table_a4_flop_ratio.csv"):
        shape = of_the_paper(*(row[size] for size in ("d_model", "num_layers", "num_heads", "kq_size", "ffw_size")))
        parts = flops(shape, "appendix_f").parts
        layers = sum(parts.values()) - parts["embeddings"] - parts["final_logits"]
        assert f"{3 * layers / flops(shape, '6nd').training:.2f}" == f"{float(row['flop_ratio_published']):.2f}"


@given(shape=shapes(), convention=st.sampled_from(list(FLOP_CONVENTIONS)))
def test_every_convention_has_positive_parts_that_sum_and_a_backward_of_twice_the_forward(shape, convention):
    found = flops(shape, convention)
    assert all(part >= 0 for part in found.parts.values())
    assert found.forward == pytest.approx(math.fsum(found.parts.values()))
    assert found.training == pytest.approx(3 * found.forward)


@given(shape=shapes())
def test_the_modules_own_count_is_the_default(shape):
    assert flops(shape).training == shape.flops_per_token.training


@given(shape=shapes(), counted=st.sampled_from(list(CONVENTIONS)))
def test_six_nd_is_six_for_every_parameter_counted(shape, counted):
    assert flops(shape, "6nd", counted=counted).training == 6.0 * shape.params.count(counted)
    attention = 6.0 * shape.n_layers * shape.context * shape.n_heads * shape.kv_size
    assert flops(shape, "6nd_attention", counted=counted).training == pytest.approx(6.0 * shape.params.count(counted) + attention)


def test_kaplans_count_is_his_table_without_norms_and_biases():
    """Kaplan et al. 2020, Table 1, for d_ff = 4 d_model and d_attn = d_model: N = 12 n_layer d_model^2, forward 2 N + 2 n_layer n_ctx d_attn."""
    shape = of_the_paper(8192, 80, 64, 128, 4 * 8192)
    forward = 2 * (12 * 80 * 8192**2) + 2 * 80 * 2048 * 8192
    relative_positions = 2 * shape.params.position
    assert flops(shape, "6nd_attention").forward - relative_positions == pytest.approx(forward, rel=1e-4)  # norms and biases are 1/d_model of it


@given(shape=shapes())
def test_appendix_f_is_the_module_but_for_embedding_softmax_and_relative_positions(shape):
    appendix, module = flops(shape, "appendix_f"), shape.flops_per_token
    scores = module.scores * (2 / 3 if shape.arch == "gopher" else 1)
    expected = module.projections + scores + module.feed_forward + 2 * module.head + appendix.parts["softmax"]
    assert appendix.forward == pytest.approx(expected)


def test_appendix_f_counts_chinchilla_as_its_list_does():
    golden = GOLDEN["appendix_f"]
    found = flops(of_the_paper(8192, 80, 64, 128, 32_768), "appendix_f")
    assert dict(found.parts) == golden["forward"]
    assert found.training == 3 * sum(golden["forward"].values())


# ---- memory, as printed and as autograd has it


def test_mixed_precision_adamw_takes_sixteen_bytes_a_parameter():
    states = GOLDEN["states"]
    assert MIXED_ADAMW.total * states["params"] == states["bytes"]
    shape = SHAPES["llama"]
    memory = arch.training_memory(shape)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * shape.params.total
    assert memory.total == 16 * shape.params.total + arch.activations(shape).selective


def test_adamw_in_float32_takes_what_torch_holds():
    model = build(SHAPES["gopher"])
    optimizer = torch.optim.AdamW(model.parameters())
    model(tokens(SHAPES["gopher"], 1), tokens(SHAPES["gopher"], 1)).backward()
    optimizer.step()
    memory = arch.training_memory(SHAPES["gopher"], states=FLOAT32_ADAMW)
    assert sum(p.nbytes for p in model.parameters()) == memory.weights
    assert sum(p.grad.nbytes for p in model.parameters()) == memory.gradients
    assert sum(v.nbytes for state in optimizer.state.values() for v in state.values() if v.ndim) == memory.optimizer


def test_a_cached_token_of_opt_13b_takes_what_the_vllm_paper_says():
    golden = GOLDEN["kv_cache"]
    heads, d_model = golden["n_heads"], golden["d_model"]
    shape = of_the_paper(d_model, golden["n_layers"], heads, d_model // heads, 4 * d_model)
    assert arch.kv_cache_per_token(shape) == golden["bytes"]
    served = arch.serving_memory(shape, sequences=3, tokens=100, weight_bytes=1)
    assert served.total == served.weights + served.kv_cache == shape.params.total + 300 * golden["bytes"]


def test_a_layers_activations_are_korthikantis_less_dropout_and_more_relative_queries():
    """Their 34 and 5 hold masks of a byte each (of attention's and the feed-forward's output, and of the weights) and a copy of the weights."""
    golden, tokens_of_batch, d, H, T = GOLDEN["activations"], 3 * 2048, 1024, 16, 2048
    shape = of_the_paper(d, 7, H, 64, 4 * d)
    found = arch.activations(shape, sequences=3)
    linear = sum(found.parts[name] for name in ("norm", "attention", "feed_forward")) / (7 * tokens_of_batch * d)
    assert linear - 2 * H * 64 / d + 2 == golden["linear"]  # a second query for positions; two masks
    assert found.parts["weights"] / (7 * tokens_of_batch) + (1 + 2) * H * T == golden["weights"] * H * T
    more = arch.activations(of_the_paper(d, 8, H, 64, 4 * d), sequences=3)
    assert (more.full - found.full) / (tokens_of_batch * d) == golden["full"]
    assert more.selective - found.selective == pytest.approx(linear * tokens_of_batch * d)


@pytest.mark.parametrize("name", [name for name in GOLDEN["peaks"] if name != "source"])
def test_activations_of_whole_models_come_out_by_hand(name):
    """Chinchilla, whose layer is larger than its head, and a small model, whose head is larger than its layer: at the peak only the larger counts."""
    golden = GOLDEN["peaks"][name]
    found = arch.activations(of_the_paper(*golden["shape"]))
    assert {kind: getattr(found, kind) for kind in ("none", "selective", "full")} == golden["bytes"]


@given(shape=shapes(), sequences=st.integers(1, 5))
def test_recomputation_never_takes_more(shape, sequences):
    found = arch.activations(shape, sequences=sequences)
    assert found.full <= found.selective <= found.none
    assert found.none == pytest.approx(math.fsum(found.parts.values()))


def bytes_saved(run, *sequences):
    """Float32 bytes that autograd holds for the backward pass, each storage once: what more sequences add, so that weights drop out."""
    totals = []
    for count in sequences:
        storages = {}

        def note(tensor, storages=storages):
            if tensor.dtype == torch.float32:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # held, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept = run(count)
        totals.append(sum(storage.nbytes() for storage in storages.values()))
        del kept
    return (totals[-1] - totals[0]) / (sequences[-1] - sequences[0])


class PlainLayer(nn.Module):
    """A pre-norm layer as anyone would write it; norms are LayerNorm, since torch's RMSNorm is several operations on a CPU."""

    def __init__(self, shape, *, flash):
        super().__init__()
        d, f, K = shape.d_model, shape.ffw_size, shape.kv_size
        self.shape, self.flash, self.gated = shape, flash, shape.arch == "llama"
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(d, h * K, bias=False) for h in (shape.n_heads, shape.kv_heads, shape.kv_heads))
        self.out, self.down = nn.Linear(shape.n_heads * K, d), nn.Linear(f, d)
        self.ups = nn.ModuleList(nn.Linear(d, f) for _ in range(2 if self.gated else 1))

    def forward(self, x_BTD):
        B, T, _ = x_BTD.shape
        h_BTD = self.norms[0](x_BTD)
        q, k, v = (w(h_BTD).view(B, T, -1, self.shape.kv_size).transpose(1, 2) for w in (self.query, self.key, self.value))
        if self.flash:
            o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            o = ((q @ k.mT) / math.sqrt(self.shape.kv_size) + torch.full((T, T), -math.inf).triu(1)).softmax(-1) @ v
        x_BTD = x_BTD + self.out(o.transpose(1, 2).reshape(B, T, -1))
        h_BTD = self.norms[1](x_BTD)
        if self.gated:
            return x_BTD + self.down(functional.silu(self.ups[0](h_BTD)) * self.ups[1](h_BTD))
        return x_BTD + self.down(functional.gelu(self.ups[0](h_BTD)))


STATISTICS = 4  # numbers a token: mean and deviation in each of two norms; Korthikanti et al. leave them out, and so do we


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(24, 3, 8, 40, 16), (16, 2, 16, 64, 33)])
@pytest.mark.parametrize("flash", [False, True])
def test_autograd_keeps_of_a_plain_layer_what_the_formula_says(family, sizes, flash):
    """Equal, to the byte: flash attention keeps one number a query and head in place of the weights; gopher's second query is not in a plain layer."""
    d_model, n_heads, kv_size, ffw_size, context = sizes
    shape = Shape(arch=family, d_model=d_model, n_layers=1, n_heads=n_heads, kv_size=kv_size, ffw_size=ffw_size, vocab=8, context=context)
    parts = arch.activations(shape, value_bytes=4).parts
    layer = PlainLayer(shape, flash=flash)
    saved = bytes_saved(lambda B: layer(torch.randn(B, context, d_model, requires_grad=True)), 1, 3)
    relative = n_heads * kv_size if family == "gopher" else 0
    kept = parts["norm"] + parts["attention"] + parts["feed_forward"] + (4 * context * n_heads if flash else parts["weights"])
    assert saved == kept + 4 * context * (STATISTICS - relative)


@given(shape=shapes().filter(lambda shape: shape.kv_heads > 1))  # of a single one, some copies are views of the joint buffer
@settings(max_examples=30, deadline=None, derandomize=True)
def test_autograd_keeps_of_our_modules_what_the_formula_says_less_the_norms_inputs(shape):
    """A norm's output and scale stand for its input, and the stream's gradient for all of the head; gopher repeats the keys of distances for every sequence."""
    model = build(shape)
    saved = bytes_saved(lambda B: model(tokens(shape, B), tokens(shape, B)), 2, 4)  # of a single sequence too
    norms = 2 * shape.n_layers
    distances = shape.n_layers * shape.n_heads * shape.kv_size if shape.arch == "gopher" else 0
    formula = arch.activations(shape, value_bytes=4).none
    assert saved == formula + 4 * shape.context * (norms - norms * shape.d_model + distances - shape.d_model - shape.vocab)


# ---- the way back

BOUNDS = {
    6: 0.24,
    7: 0.16,
    8: 0.06,
    9: 0.025,
    10: 0.016,
    11: 0.016,
}  # of |log(found / wanted)|, by decade; 6000 targets reached 0.229, 0.155, 0.053, 0.022, 0.012, 0.013
VOCABULARIES = (256, 32_000, 256_000)


def in_reach(family, target, vocab, convention):
    """The embedding alone of the narrowest model may be larger than a small target; near it, there are few sizes."""
    return target >= 4 * get(family).at(8, vocab=vocab, context=2048).params.count(convention)


@pytest.mark.parametrize("decade", BOUNDS)
@pytest.mark.parametrize("family", FAMILIES)
@given(mantissa=st.floats(1, 10, exclude_max=True), vocab=st.sampled_from(VOCABULARIES), convention=st.sampled_from(list(CONVENTIONS)))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_nearest_shape_is_as_near_as_its_decade_allows_and_one_that_someone_would_build(decade, family, mantissa, vocab, convention):
    target = mantissa * 10**decade
    shape = nearest(family, target, vocab=vocab, context=2048, convention=convention)
    assert shape.n_heads * shape.kv_size == shape.d_model
    if in_reach(family, target, vocab, convention):
        assert abs(math.log(shape.params.count(convention) / target)) < BOUNDS[decade]
    if shape.d_model >= 512:
        step = next(step for end, step in ((1024, 64), (4096, 128), (8192, 512), (math.inf, 1024)) if shape.d_model <= end)
        assert shape.d_model % step == 0
        assert shape.kv_size == (64 if shape.d_model <= 1024 else 128)
        assert shape.ffw_size % 64 == 0
        assert 5 / 6 <= shape.n_layers / min(128, depth(shape.d_model)) <= 7 / 6
        assert shape.n_layers <= 128


@pytest.mark.parametrize("family", FAMILIES)
@given(target=st.floats(1e3, 1e8), vocab=st.sampled_from(VOCABULARIES), convention=st.sampled_from(list(CONVENTIONS)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_below_512_wide_the_nearest_shape_is_the_nearest_rung_of_the_ladder(family, target, vocab, convention):
    """What sweeps are laid out on, so that existing studies stay as they are."""
    ladder = []
    for d_model in widths():
        ladder.append(get(family).at(d_model, vocab=vocab, context=128))
        if ladder[-1].params.count(convention) >= target:
            break
    rung = min(ladder[-2:], key=lambda shape: abs(math.log(shape.params.count(convention) / target)))
    found = nearest(family, target, vocab=vocab, context=128, convention=convention)
    assert found == rung if rung.d_model < 512 else found.d_model >= 512


@pytest.mark.parametrize(("params", "d_model", "n_layers", "n_heads"), [(70e9, 8192, 80, 64), (44e6, 512, 8, 8)])
def test_the_papers_own_sizes_lead_back_to_the_papers_own_shapes(params, d_model, n_layers, n_heads):
    shape = nearest("gopher", params, vocab=32_000, context=2048)
    assert (shape.d_model, shape.n_layers, shape.n_heads, shape.ffw_size) == (d_model, n_layers, n_heads, 4 * d_model)


@pytest.mark.parametrize(("d_model", "ffw_size"), [(4096, 11008), (5120, 13824), (6656, 17920), (8192, 22016)])
def test_a_large_llama_has_the_feed_forward_of_llamas(d_model, ffw_size):
    """Touvron et al. 2023a, Table 2, and the sizes of the released weights: 7B, 13B, 33B, 65B."""
    assert get("llama").large(d_model, 2, vocab=32_000, context=2048).ffw_size == ffw_size


@pytest.mark.parametrize("params", [0.0, -1.0, math.nan, math.inf])
def test_a_size_that_no_model_has_is_refused(params):
    with pytest.raises(UsageError, match="cannot have"):
        nearest("llama", params, vocab=256, context=128)


def test_what_a_model_costs_is_known_without_torch_or_numpy():
    code = (
        "import isoflop.arch as a, sys; a.training_memory(a.nearest('llama', 7e9, vocab=32000, context=4096)); print({'torch', 'numpy'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
