"""How near the predicted time of a training step is to the measured one, for shapes that set none of its constants: `python benchmarks/step_time.py`.

Both are the processor's time of one core, so that other programs hardly matter. The core's speed is measured before every shape.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from isoflop import arch, data
from isoflop.arch import _kernels, _time
from isoflop.data import Corpus
from isoflop.launch import _time as launched
from isoflop.runs import RunSpec
from isoflop.train import _machine
from isoflop.train.state import State

STEPS, WARM, SECONDS = 6, 4, 1.5  # steps measured at least, steps before them, and the time for which more are taken


@dataclass(frozen=True)
class Case:
    """A shape, and how it is trained."""

    family: str
    d_model: int
    context: int
    tokens: int  # a step
    precision: str = "float32"
    kernels: str = "auto"
    vocab: int = 256


CASES = (
    *(Case("llama", d, c, n) for d, c, n in ((8, 256, 1024), (16, 64, 512), (24, 256, 2048), (32, 64, 512), (48, 256, 512), (56, 64, 1024))),
    *(Case("llama", d, c, n) for d, c, n in ((64, 512, 1024), (88, 128, 2048), (96, 256, 512), (128, 64, 2048), (144, 128, 512), (192, 64, 2048))),
    *(Case("llama", d, 128, n, vocab=2048) for d, n in ((48, 2048), (96, 1024), (192, 512))),
    *(Case("llama", d, c, n, kernels="never") for d, c, n in ((16, 128, 1024), (32, 64, 512), (48, 256, 2048), (96, 128, 512), (192, 256, 512))),
    *(Case("gopher", d, c, n) for d, c, n in ((24, 128, 512), (48, 64, 2048), (96, 128, 1024), (128, 128, 512), (192, 256, 512))),
    *(Case("llama", d, c, n, "bf16") for d, c, n in ((32, 128, 2048), (96, 128, 1024), (192, 128, 2048))),
    *(Case("gopher", d, c, n, "bf16") for d, c, n in ((96, 128, 1024), (192, 128, 512))),
)


def spec_of(case: Case, corpus: Corpus) -> RunSpec:
    shape = arch.Kind(family=case.family, vocab=corpus.vocab, context=case.context).at(case.d_model)
    values = {"shape": shape, "tokens": 1000 * case.tokens, "batch": case.tokens, "lr": 0.001, "precision": case.precision, "seed": 0}
    return RunSpec.model_validate({**values, "data": corpus.digest, "eval_tokens": case.context, "budget": 1.0, "group": "isoflop"})


def measured(spec: RunSpec, corpus: Corpus) -> float:
    """Return the processor's seconds of one step: the median of as many as go into a second or two."""
    times = []
    with _machine.settled(1):
        state = State.begin(spec, corpus, resume=None)
        while len(times) < WARM + STEPS or sum(times) < SECONDS:
            began = time.process_time()
            state.advance()
            times.append(time.process_time() - began)
    return statistics.median(times[WARM:])


def row(case: Case, corpus: Corpus) -> tuple[str, float]:
    os.environ[_kernels.CHOICE] = case.kernels
    spec = spec_of(case, corpus)
    speed = _time.core_speed()
    predicted = _time.step_seconds(spec.shape, batch=spec.batch, path=launched.path_of(spec), speed=speed)
    took = measured(spec, corpus)
    cells = (case.family, launched.path_of(spec), spec.shape.d_model, spec.shape.n_layers, case.context, case.tokens, corpus.vocab, f"{speed:.0f}")
    times = (f"{1e3 * took:.1f}", f"{1e3 * predicted:.1f}", f"{predicted / took:.2f}")
    return "| " + " | ".join(map(str, (*cells, *times))) + " |", predicted / took


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    head = ("family", "computed by", "d_model", "layers", "context", "tokens a step", "vocab", "core (GFLOP/s)", "measured (ms)", "predicted (ms)", "ratio")
    print("| " + " | ".join(head) + " |\n|" + "---|" * 2 + "--:|" * (len(head) - 2))
    with tempfile.TemporaryDirectory() as name:
        corpora = {}
        for vocab in sorted({case.vocab for case in CASES}):
            tokenizer = "bytes" if vocab == 256 else f"bpe-{vocab}"
            corpora[vocab] = data.prepare(("python",), folder=Path(name) / tokenizer, tokenizer=tokenizer, validation=0.05, seed=0)
        ratios = []
        for case in CASES:
            line, ratio = row(case, corpora[case.vocab])
            print(line, flush=True)
            ratios.append(ratio)
    far = sorted(abs(math.log(ratio)) for ratio in ratios)
    print(f"\nPredicted over measured: {min(ratios):.2f} to {max(ratios):.2f}; {sum(f <= math.log(1.3) for f in far)} of {len(far)} within 1.3 times, ", end="")
    print(f"median {math.exp(statistics.median(far)):.2f} times.")


if __name__ == "__main__":
    main()
