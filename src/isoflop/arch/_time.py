"""Seconds that a training step takes on one core, predicted from what the step computes and how fast the core multiplies."""

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from isoflop.arch import Shape

Path = Literal["kernels", "operations", "gopher", "bf16"]
SIDE, ROUNDS = 64, 100  # of the matrices that are multiplied: they lie in the first cache, and no library takes a second thread for them
LOOK = 0.05  # seconds of that; the median of several hundred products
TYPICAL = 90.0  # GFLOP/s of the machine that the costs below were measured on


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a step costs, in its products and beside them. Least squares over 85 shapes, none of them one of benchmarks/step_time.md."""

    step: float  # milliseconds
    layer: float  # milliseconds a layer
    products: float  # seconds over those that the products take at the pace of small ones in the first cache
    stream: float  # nanoseconds a token, layer and feature
    score: float  # nanoseconds a computed score
    logit: float  # nanoseconds a logit
    queries: int  # that attention is computed for at once: keys after them are left out


COSTS: dict[Path, Costs] = {
    "kernels": Costs(step=0.0, layer=0.37, products=0.78, stream=56.0, score=1.0, logit=1.1, queries=16),
    "operations": Costs(step=2.8, layer=0.0, products=0.87, stream=77.0, score=3.8, logit=6.0, queries=64),
    "gopher": Costs(step=3.4, layer=0.0, products=1.1, stream=42.0, score=7.1, logit=0.2, queries=64),
    "bf16": Costs(step=4.3, layer=0.0, products=0.76, stream=0.0, score=6.2, logit=10.0, queries=64),
}


def core_speed() -> float:
    """Measure how many GFLOP/s one core does in products of small matrices, by the processor's time: other programs hardly change it."""
    a = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    product = np.empty_like(a)
    times: list[int] = []
    until = time.thread_time() + LOOK
    while not times or time.thread_time() < until:
        began = time.thread_time_ns()
        for _ in range(ROUNDS):
            np.matmul(a, a, out=product)
        times.append(time.thread_time_ns() - began)
    return 2.0 * SIDE**3 * ROUNDS / statistics.median(times)


def step_seconds(shape: "Shape", *, batch: int, path: Path, speed: float) -> float:
    """Return the predicted seconds of one training step on a core that does nothing else.

    Args:
        shape: Of the model.
        batch: Tokens a step.
        path: What computes the blocks: our kernels in C, PyTorch's operations for a llama or for a gopher, or bfloat16.
        speed: GFLOP/s of the core, as `core_speed` measures it.
    """
    costs, parts, T = COSTS[path], shape.flops_per_token, shape.context
    seen = (T + min(costs.queries, T)) / (2 * T)  # share of the scores that are computed
    flops = parts.training - 3 * parts.scores * (1 - seen)
    layers = batch * shape.n_layers
    beside = costs.stream * layers * shape.d_model + costs.score * layers * shape.n_heads * T * seen + costs.logit * batch * shape.vocab
    overhead = 1e-3 * (costs.step + costs.layer * shape.n_layers)
    return (TYPICAL / speed) * (overhead + 1e-9 * beside) + costs.products * flops * batch / (1e9 * speed)
