"""What tests of whole chips share: kernels of generic sizes, and a chip as a vector of its fields."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import Breakdown
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.step import decode_step, prefill
from perfmodel.kernels import registry
from perfmodel.kernels.registry import cost
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model
from perfmodel.units import Values, as_scalar, as_values
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.xla import ONCE, supported

H100, LPU, WSE = "h100-sxm", "lpu-v1", "wse-3"
CHIPS = (H100, LPU, WSE)
"""One launched, one scheduled, one dataflow."""

HEADS = {"heads": 28.0, "kv_heads": 7.0, "head_dim": 112.0}
FULL = {"window": 0.0}

# Sizes are no multiples of tiles, so that no kernel sits on a kink.
KERNELS: dict[str, tuple[str, dict[str, float]]] = {
    "gemm_few_rows": ("gemm", {"m": 9.0, "n": 5011.0, "k": 4099.0}),
    "gemm_many_rows": ("gemm", {"m": 3001.0, "n": 5011.0, "k": 4099.0}),
    "decode": ("attention_decode", {"batch": 11.0, "ctx_len": 3301.0} | HEADS | FULL),
    "decode_windowed": (
        "attention_decode",
        {"batch": 11.0, "ctx_len": 3301.0} | HEADS | {"window": 700.0},
    ),
    "prefill": (
        "attention_prefill",
        {"batch": 3.0, "q_len": 1301.0, "ctx_len": 1701.0, "causal": 0.0} | HEADS | FULL,
    ),
    "mla_decode": ("mla_decode", {"batch": 11.0, "ctx_len": 3301.0, "heads": 19.0}),
    "mla_prefill": ("mla_prefill", {"batch": 3.0, "ctx_len": 1301.0, "heads": 19.0}),
    "moe": (
        "moe",
        {"tokens": 37.0, "hidden": 2100.0, "inter": 1500.0, "topk": 3.0, "experts": 50.0}
        | {"tp": 1.0, "ep": 3.0, "routing": 1.0},
    ),
    "norm": ("elementwise", {"tokens": 701.0, "hidden": 5003.0, "kind": 0.0}),
    "activation": ("elementwise", {"tokens": 70001.0, "hidden": 5003.0, "kind": 2.0}),
    "embedding": ("elementwise", {"tokens": 701.0, "hidden": 5003.0, "kind": 6.0}),
    "linear_attention": (
        "linear_attention",
        {"batch": 7.0, "q_len": 311.0, "heads": 13.0, "head_dim": 120.0},
    ),
    "linear_decode": (
        "linear_attention",
        {"batch": 7.0, "q_len": 1.0, "heads": 13.0, "head_dim": 120.0, "kind": 1.0},
    ),
    "sparse_decode": (
        "sparse_attention",
        {"batch": 7.0, "q_len": 1.0, "ctx_len": 3301.0, "heads": 19.0, "topk": 0.0}
        | {"kind": 0.0, "phase": 0.0},
    ),
    "sparse_prefill": (
        "sparse_attention",
        {"batch": 2.0, "q_len": 301.0, "ctx_len": 3301.0, "heads": 19.0, "topk": 0.0}
        | {"kind": 2.0, "phase": 1.0},
    ),
    "all_reduce": ("all_reduce", {"n_gpus": 6.0, "n_nodes": 1.0, "bytes": 3e6}),
    "all_reduce_of_domains": ("all_reduce", {"n_gpus": 12.0, "n_nodes": 3.0, "bytes": 3e6}),
    "all_to_all": ("all_to_all", {"n_gpus": 6.0, "n_nodes": 1.0, "bytes": 3e6}),
}


def kernels(chip: Chip, factor: Any = 1.0) -> Breakdown:
    """All of `KERNELS`, on a leading axis; `factor` multiplies tokens, batches and messages."""
    grown = ("m", "batch", "tokens", "bytes")
    priced = []
    for op, sizes in KERNELS.values():
        row = {name: as_scalar(x) * (factor if name in grown else 1.0) for name, x in sizes.items()}
        priced.append(cost(chip, registry.KERNELS[op](**row).count(chip, Plan())))
    return jax.tree.map(lambda *x: jnp.stack(x), *priced)


RANKS = {"launched": 3.0, "scheduled": 60.0, "dataflow": 3.0}
"""Sixty LPUs of 0.2 GB hold a model of 2.5 GB and its cache."""


def steps(chip: Chip, factor: Any = 1.0) -> Breakdown:
    """A decode step and a prompt of Llama-3.2-1B, over as many tensor ranks as hold it."""
    plan, model = Plan(tp=RANKS[chip.execution]), traced(load_model("llama-3.2-1b"))
    decode = decode_step(chip, plan, model, 11.0 * as_scalar(factor), as_scalar(1301.0))
    first = prefill(chip, plan, model, as_scalar(factor), as_scalar(1301.0), as_scalar(1701.0))
    return jax.tree.map(lambda *x: jnp.stack(x), decode.breakdown, first.breakdown)


QUICK = supported(ONCE)

DESIGNS_PER_CALL = 200
"""Designs priced in one call."""


class Subject:
    """A chip as a vector of its fields, and what is priced on it, compiled once."""

    def __init__(self, name: str, priced: Callable[..., Breakdown]):
        chip = restrict(load_chip(name), ["bf16"])
        paths, self.structure = jax.tree_util.tree_flatten_with_path(chip)
        self.names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        self.values = np.array([float(leaf) for _, leaf in paths])
        self.priced = priced
        slopes = jax.jacfwd(lambda x: self.one(x, as_scalar(1.0)).time)
        self.many = jax.jit(jax.vmap(self.one), compiler_options=QUICK)
        self.slopes = jax.jit(jax.vmap(slopes), compiler_options=QUICK)

    def chip(self, values: Values) -> Chip:
        return jax.tree.unflatten(self.structure, list(values))

    def one(self, values: Values, factor: Values) -> Breakdown:
        return self.priced(self.chip(values), factor)

    def costs(self, designs: np.ndarray, factor: float = 1.0) -> Breakdown:
        """Prices of many designs, rows of fields; always as many at a time, so compiled once."""
        parts = []
        for start in range(0, len(designs), DESIGNS_PER_CALL):
            rows = np.resize(
                designs[start : start + DESIGNS_PER_CALL], (DESIGNS_PER_CALL, designs.shape[1])
            )
            factors = jnp.full(DESIGNS_PER_CALL, factor, dtype=float)
            parts.append(self.many(jnp.asarray(rows, dtype=float), factors))
        count = len(designs)
        return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)

    def gradients(self, designs: np.ndarray) -> np.ndarray:
        """Derivatives of the times by every field: design, what is priced, field."""
        return np.stack([np.asarray(self.slopes(as_values(x[None]))[0]) for x in designs])

    def where(self, *words: str) -> np.ndarray:
        """Places of the fields whose name ends with one of `words`."""
        return np.array([i for i, n in enumerate(self.names) if n.endswith(words)])


@functools.cache
def _subject(name: str, priced: Callable[..., Breakdown], double: bool) -> Subject:
    return Subject(name, priced)


def subject(name: str, priced: Callable[..., Breakdown]) -> Subject:
    """A chip, and `kernels` or `steps` on it, in the precision that is on."""
    return _subject(name, priced, bool(jax.config.read("jax_enable_x64")))


def elsewhere(base: Subject, count: int, seed: int) -> np.ndarray:
    """Designs all over the space: each field that is not fitted times 0.1 to 10; tiers left out.

    Fitted fields keep their values: their bounds, not their tenfold, are their space.
    """
    random = np.random.default_rng(seed)
    # A network joins whole chips, at least one: its size stays too.
    held = ("efficiency", "usable", "size")
    free = np.array([not any(word in name for word in held) for name in base.names])
    factor = np.where(free, 10 ** random.uniform(-1, 1, (count, len(base.names))), 1.0)
    designs = base.values * factor
    peak, idle = base.where("peak_power")[0], base.where("idle_power")[0]
    designs[:, idle] = np.minimum(designs[:, idle], 0.5 * designs[:, peak])
    return designs


def without(base: Subject, tier: str, *fields: str) -> np.ndarray:
    """The chip with fields of one tier at zero."""
    values = base.values.copy()
    values[base.where(*(f"{tier}.{field}" for field in fields))] = 0.0
    return values


BETTER = {
    "matrix": ("matrix.bf16",),
    "vector": ("vector",),
    "exponential": ("exponential",),
    "shared": ("shared.bandwidth",),
    "main": ("main.bandwidth",),
    "far": ("far.bandwidth",),
    "network": ("scale_up.bandwidth",),
    "fabric": ("scale_out.bandwidth",),
    "power": ("peak_power",),
    "clock": ("clock",),
}
"""More of it is never slower. Not listed: private bandwidth and capacities, which move data from
tier to tier (two tiers read at once can beat the faster alone), and cores at equal rates, which
are smaller cores."""
