"""What a training run takes on named accelerators: time, money, energy, CO2, and how few of them it fits on.

Peak rates are dense: datasheets of NVIDIA since Hopper print rates with 2:4 sparsity first, which are twice as high and which training does not reach.
"""

import math
from dataclasses import dataclass

from isoflop import _registry
from isoflop.errors import UsageError
from isoflop.plan._checks import fraction, not_negative, positive

HOUR = 3600.0
_MOST = 10**9  # accelerators; more than the world has is a slip
_LEAST_MFU = 1e-4  # assumption: less is a slip, such as a percentage taken twice
_LEAST_PRICE, _MOST_PRICE = 1e-6, 1e6  # dollars an hour; assumption: beyond them is a slip, and every product of what may be given stays finite
_MOST_DOLLARS = 1e15  # ten times what the world earns in a year
_MOST_SECONDS = 1000 * 365 * 86400.0  # a thousand years

# Fraction of the peak that a large run gets. Assumption within what is published: PaLM 540B 0.462 (Chowdhery et al. 2022), Llama 3 405B 0.38 to 0.43
# (Grattafiori et al. 2024, Table 4), GPT-3 on V100 0.20 (Patterson et al. 2021, Table 4).
MFU = 0.4
# Of one accelerator-hour, whichever the accelerator: an assumption that the user should replace, and every bill says so. It is the rent that
# DeepSeek-AI 2024 (arXiv 2412.19437), Table 1, assume for an H800.
DOLLARS_PER_HOUR = 2.0
PUE = 1.1  # power of the building over that of the machines: large data centres in Patterson et al. 2021, Table 4 (1.09 to 1.12); a server room has 1.5
# US average of 2022: 1650 Mt of CO2 for 4,230,672 GWh (US Energy Information Administration, State Electricity Profiles). France has 0.06, India 0.7.
KG_CO2_PER_KWH = 0.39
USABLE = 0.9  # of the memory, for what is counted here. Assumption, and what vLLM takes by default; the rest is the context, buffers and gaps


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One chip or board as it is sold and counted in GPU-hours."""

    name: str  # as typed
    title: str
    peak_flops: float  # dense FLOP/s in `precision`, accumulated in float32 where the maker prints both
    precision: str  # "bf16", or "fp16" where there is no bf16
    memory_bytes: float  # as in its name, in decimal; devices report up to a fourteenth more, which is left as room
    watts: float  # of the board at its limit; NaN where the maker prints none
    year: int  # announced
    source: str


def _of(name: str, title: str, tera: float, gigabytes: float, watts: float, year: int, source: str, precision: str = "bf16") -> Accelerator:  # noqa: PLR0917 - rows of a table
    return Accelerator(
        name=name,
        title=title,
        peak_flops=tera * 1e12,
        precision=precision,
        memory_bytes=gigabytes * 1e9,
        watts=watts,
        year=year,
        source=source,
    )


_GCP = "Google Cloud documentation of the chip, key specifications"
_ROWS = (
    _of("v100", "NVIDIA V100 SXM2 32 GB (fp16: it has no bf16)", 125, 32, 300, 2017, "NVIDIA V100 datasheet", "fp16"),
    _of("a100-40", "NVIDIA A100 SXM4 40 GB", 312, 40, 400, 2020, "NVIDIA A100 datasheet, 2021"),
    _of("a100-80", "NVIDIA A100 SXM4 80 GB", 312, 80, 400, 2020, "NVIDIA A100 datasheet, 2021"),
    _of("h100", "NVIDIA H100 SXM5 80 GB", 989.4, 80, 700, 2022, "NVIDIA H100 datasheet (1979 with sparsity) and Hopper whitepaper"),
    _of("h100-pcie", "NVIDIA H100 PCIe 80 GB", 756.5, 80, 350, 2022, "NVIDIA H100 datasheet (1513 with sparsity)"),
    _of("h200", "NVIDIA H200 SXM 141 GB", 989.4, 141, 700, 2023, "NVIDIA H200 datasheet (1979 with sparsity)"),
    _of("b200", "NVIDIA B200 in HGX 180 GB", 2250, 180, 1000, 2024, "NVIDIA Blackwell datasheet (HGX B200, 4500 with sparsity)"),
    _of("gb200", "NVIDIA GB200, one GPU of the NVL72, 186 GB", 2500, 186, 1200, 2024, "NVIDIA GB200 NVL72 datasheet (5000 a GPU with sparsity)"),
    _of("l40s", "NVIDIA L40S 48 GB", 362.05, 48, 350, 2023, "NVIDIA L40S datasheet (733 with sparsity)"),
    _of("a10g", "NVIDIA A10G 24 GB", 70, 24, 300, 2021, "NVIDIA A10G brief (the A10 has 125)"),
    _of("rtx-4090", "NVIDIA GeForce RTX 4090 24 GB", 165.2, 24, 450, 2022, "NVIDIA Ada architecture whitepaper, Appendix A (float32 accumulation)"),
    _of("rtx-3090", "NVIDIA GeForce RTX 3090 24 GB", 71, 24, 350, 2020, "NVIDIA GA102 architecture whitepaper, Appendix A (float32 accumulation)"),
    _of("mi250x", "AMD Instinct MI250X 128 GB, both dies", 383, 128, 560, 2021, "AMD Instinct MI250X data sheet"),
    _of("mi300x", "AMD Instinct MI300X 192 GB", 1307.4, 192, 750, 2023, "AMD Instinct MI300X data sheet (2614.9 with sparsity)"),
    _of("tpu-v4", "Google TPU v4, one chip, 32 GB", 275, 32, 192, 2021, f"{_GCP}; watts: Jouppi et al. 2023, largest measured"),
    _of("tpu-v5e", "Google TPU v5e, one chip, 16 GB", 197, 16, math.nan, 2023, _GCP),
    _of("tpu-v5p", "Google TPU v5p, one chip, 95 GB", 459, 95, math.nan, 2023, _GCP),
    _of("tpu-v6e", "Google TPU v6e (Trillium), one chip, 32 GB", 918, 32, math.nan, 2024, _GCP),
)
ACCELERATORS = {row.name: row for row in _ROWS}


ALIASES = {
    "a10080gb": "a100-80",
    "a10040gb": "a100-40",
    "4090": "rtx-4090",
    "3090": "rtx-3090",
    "h100sxm": "h100",
    "h100sxm5": "h100",
    "h10080gb": "h100",
    "tpuv5": "tpu-v5p",
}


def accelerator(name: str) -> Accelerator:
    """The accelerator of a name.

    Raises:
        UnknownNameError: No such accelerator; the message names the nearest and lists all.
    """
    typed = name.lower()
    _registry.check(typed, ACCELERATORS, noun="accelerator", aliases=ALIASES)
    return ACCELERATORS[typed]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Accelerators of one kind, how well they are used, and what an hour of them takes.

    Raises:
        UsageError: A count that is not a whole number of them, an MFU outside 0 to 1, a price below a millionth of a dollar that is not 0, or anything that
            cannot be meant.
    """

    accelerator: Accelerator
    count: int
    mfu: float = MFU
    price: float | None = None  # dollars for an hour of one; None: the default, which is an assumption
    watts: float | None = None  # measured at one, with its share of the host; None: the board's limit
    pue: float = PUE
    kg_co2_per_kwh: float = KG_CO2_PER_KWH

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST or self.count != int(self.count):
            msg = f"{self.count!r} accelerators cannot be meant: give a whole number from 1 to {_MOST:,}."
            raise UsageError(msg)
        if not _LEAST_MFU <= self.mfu <= 1:
            meant = f" Did you mean {self.mfu:g}%?" if 1 < self.mfu <= 100 else ""  # percent
            msg = f"an MFU of {self.mfu:g} is invalid: it is a fraction of the peak, from {_LEAST_MFU} to 1.{meant} Large runs reach 30% to 50%."
            raise UsageError(msg)
        if self.price is not None:
            _price(self.price)
        if self.watts is not None:
            positive(self.watts, "the power of an accelerator", most=1e6, advice="Give watts, or leave it out for the board's limit.")
        if not 1 <= self.pue <= 10:
            msg = f"a PUE of {self.pue!r} cannot be meant: it is the building's power over the machines', so 1 or more. Large data centres have 1.1."
            raise UsageError(msg)
        not_negative(self.kg_co2_per_kwh, "the CO2 of a kilowatt-hour", most=10, advice="Give kilograms; the US average is 0.39.")

    @property
    def price_is_default(self) -> bool:
        return self.price is None

    @property
    def dollars_per_hour(self) -> float:
        """Of one accelerator."""
        return DOLLARS_PER_HOUR if self.price is None else self.price

    @property
    def power(self) -> float:
        """Watts of one accelerator; NaN where neither given nor printed by the maker."""
        return self.accelerator.watts if self.watts is None else self.watts

    @property
    def flops_per_second(self) -> float:
        """Of all, as the model's FLOPs are counted."""
        return self.count * self.accelerator.peak_flops * self.mfu


def _price(price: float) -> None:
    advice = "Give dollars, 0 for your own machine."
    if 0 < price < _LEAST_PRICE:
        msg = f"the price of an accelerator-hour is {price:g}, which cannot be meant: it should be 0 or at least {_LEAST_PRICE:g}. {advice}"
        raise UsageError(msg)
    not_negative(price, "the price of an accelerator-hour", most=_MOST_PRICE, advice=advice)


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a run takes. Restarts, failed nodes, evaluation and the runs before it are not in it."""

    flops: float
    seconds: float
    accelerator_hours: float
    dollars: float
    kwh: float  # at the meter of the building; NaN where the accelerator's power is not known
    kg_co2: float


def bill(flops: float, cluster: Cluster) -> Bill:
    """Time, money, energy and CO2 of so many training FLOPs.

    Source: energy and CO2 as Patterson et al. 2021, Sec. 2.
    """
    spent = seconds(flops, cluster)
    hours = cluster.count * spent / HOUR
    kwh = hours * cluster.power / 1e3 * cluster.pue
    return Bill(flops=flops, seconds=spent, accelerator_hours=hours, dollars=hours * cluster.dollars_per_hour, kwh=kwh, kg_co2=kwh * cluster.kg_co2_per_kwh)


def seconds(flops: float, cluster: Cluster) -> float:
    """Wall time of so many training FLOPs.

    Raises:
        UsageError: A budget that cannot be meant.
    """
    return positive(flops, "the budget in FLOPs") / cluster.flops_per_second


def flops_for_time(seconds: float, cluster: Cluster) -> float:
    """Training FLOPs that a cluster does in so many seconds.

    Raises:
        UsageError: Not a positive time of at most a thousand years.
    """
    advice = "Large runs take weeks to months; a thousand years are 3.15e10 seconds."
    return positive(seconds, "the time in seconds", most=_MOST_SECONDS, advice=advice) * cluster.flops_per_second


def flops_for_dollars(dollars: float, cluster: Cluster) -> float:
    """Training FLOPs that so much money rents; the count of accelerators only changes how long it takes.

    Raises:
        UsageError: Not a positive amount of at most 1e15, or accelerators that cost nothing.
    """
    if cluster.dollars_per_hour == 0:
        msg = "accelerators at $0 an hour do any amount of work for any amount of money. Give a price, or plan with a time (--days)."
        raise UsageError(msg)
    hours = positive(dollars, "the amount in dollars", most=_MOST_DOLLARS, advice="Give it like 2M.") / cluster.dollars_per_hour
    return hours * HOUR * cluster.accelerator.peak_flops * cluster.mfu


@dataclass(frozen=True, kw_only=True)
class Fewest:
    """The fewest accelerators that hold a run, and what lies on each."""

    accelerator: Accelerator
    count: int
    tensor_parallel: int  # accelerators that share the activations of one sequence; 1 where one holds them
    sharded_bytes: float  # in all, an equal part on each
    activation_bytes: float  # of one sequence
    usable_bytes: float  # of one accelerator
    per_device_bytes: float  # in use on one


def fewest_for_training(accelerator: Accelerator, *, state_bytes: float, activation_bytes: float, usable: float = USABLE) -> Fewest:
    """The fewest accelerators that training fits on, with all states sharded and one sequence at a time on each.

    Weights, gradients and optimiser states are divided by the number of accelerators (ZeRO-3, FSDP); the activations of a sequence are not, until they
    take more than half of one: then tensor parallelism is assumed to divide them, over as many accelerators as bring them to half (a power of two).

    Args:
        accelerator: Of the cluster.
        state_bytes: Weights, gradients and optimiser states of the whole model.
        activation_bytes: Of one sequence, with recomputation as planned.
        usable: Fraction of the memory for these.

    Source: Rajbhandari et al. 2020, Sec. 5 (sharded states). The half is an assumption: more parallelism would need less memory still, at a lower MFU.
    """
    positive(state_bytes, "the memory of weights, gradients and optimiser states")
    not_negative(activation_bytes, "the memory of activations")
    room = fraction(usable, "the usable part of the memory", advice="0.9 is usual.") * accelerator.memory_bytes
    split = 2 ** math.ceil(math.log2(max(1.0, activation_bytes / (room / 2))))
    free = room - activation_bytes / split
    count = split * math.ceil(state_bytes / free / split)
    return Fewest(
        accelerator=accelerator,
        count=count,
        tensor_parallel=split,
        sharded_bytes=state_bytes,
        activation_bytes=activation_bytes,
        usable_bytes=room,
        per_device_bytes=state_bytes / count + activation_bytes / split,
    )


def fewest_for_inference(accelerator: Accelerator, *, weight_bytes: float, cache_bytes: float, usable: float = USABLE) -> Fewest:
    """The fewest accelerators that serve a model: its weights and the KV cache of all sequences in flight, divided by tensor parallelism.

    Engines want a number that divides the heads, so the next power of two is often the one to take.
    """
    held = positive(weight_bytes, "the memory of the weights") + not_negative(cache_bytes, "the memory of the KV cache")
    room = fraction(usable, "the usable part of the memory", advice="0.9 is usual.") * accelerator.memory_bytes
    count = math.ceil(held / room)
    return Fewest(
        accelerator=accelerator,
        count=count,
        tensor_parallel=count,
        sharded_bytes=held,
        activation_bytes=0.0,
        usable_bytes=room,
        per_device_bytes=held / count,
    )
