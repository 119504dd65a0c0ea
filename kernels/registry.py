"""Every operation of the kernel schema: the columns it reads, and the kernel that counts it.

Commands, calibration and whole models read rows through this table, so that a row
means one thing.
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import equinox as eqx
import jax.numpy as jnp

from perfmodel.breakdown import Breakdown, total
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip, restrict, without_topology
from perfmodel.kernels.attention import Heads, expanded, latent
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.attention_prefill import attention_prefill, prompt_rates
from perfmodel.kernels.collective import Kind, collective
from perfmodel.kernels.elementwise import KINDS, elementwise
from perfmodel.kernels.gemm import gemm, product_format
from perfmodel.kernels.linear_attention import KINDS as STATES
from perfmodel.kernels.linear_attention import States, linear_attention
from perfmodel.kernels.moe import moe
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.kernels.sparse_attention import INDEX_MATRIX, Form, Text, form_of, sparse_attention
from perfmodel.kernels.sparse_attention import KINDS as SPARSE
from perfmodel.roofline import Work, price
from perfmodel.units import Scalar
from perfmodel.workload.backend import SMOOTH_ATTENTION
from perfmodel.workload.plan import CHOICES, MATRIX, Plan, narrowed

Row = Mapping[str, Any]
"""Sizes by column; and `residency`, where an operand lives elsewhere than in the chip's native memory."""

Count = Callable[[Chip, Plan, Row], list[Work]]

Rates = Callable[[Plan], set[str]]
"""Kinds of matrix unit whose rates kernels ask a chip for, under a plan."""


def _plain(plan: Plan) -> set[str]:
    """Products in bf16 alone, whatever the weights' format is."""
    return {"bf16"}


def _of_weights(plan: Plan) -> set[str]:
    return {plan.format.matrix}


def _plain_and_of_weights(plan: Plan) -> set[str]:
    return {"bf16", plan.format.matrix}


TOPOLOGY = "topology"
"""Of a chip's networks, among what an operation reads."""


class Operation(NamedTuple):
    """One operation.

    - `family`: of its fitted parameters.
    - `sizes`: columns of numbers greater than zero.
    - `options`: columns that may be empty, and what an empty cell means: a number, or
      the name of the column it then equals.
    - `words`: columns that choose, with the choices; the first is meant by an empty cell.
    - `works`: counts the kernels that one row runs, one after the other.
    - `rates`: kinds of matrix unit whose rates these ask a chip for.
    - `reads`: choices of a plan that these read: names of its fields, or `MATRIX`; and `TOPOLOGY`
      where they read the form of a chip's networks.
    - `wishes`: kinds of matrix unit that they multiply in where a chip has them.
    """

    family: str
    sizes: tuple[str, ...]
    options: dict[str, float | str]
    words: dict[str, tuple[str, ...]]
    works: Count
    rates: Rates = _plain_and_of_weights
    reads: tuple[str, ...] = (*CHOICES, TOPOLOGY)
    wishes: frozenset[str] = frozenset()

    def narrowed(self, chip: Chip, plan: Plan) -> tuple[Chip, Plan]:
        """A chip and a plan without what is not read, so that those which differ in it alone share a
        compiled function.

        **Raises:**

        - `InputError`: when the chip has no matrix rate that is needed.
        """
        chip = restrict(chip, self.rates(plan) | self.wishes & set(chip.matrix))
        alike = chip if TOPOLOGY in self.reads else without_topology(chip)
        return alike, narrowed(plan, self.reads)


def rates_of(plan: Plan) -> set[str]:
    """Kinds of matrix unit whose rates the kernels of a whole model ask a chip for."""
    formats = (plan.weights, plan.unquantised, plan.attended)
    plans = [dataclasses.replace(plan, weights=weights) for weights in formats]
    return {kind for one in OPERATIONS.values() for plan in plans for kind in one.rates(plan)}


def cost(chip: Chip, works: list[Work]) -> Breakdown:
    """What kernels cost one after the other."""
    return total([price(chip, work) for work in works])


def _gemm(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    work = gemm(chip, plan, row["m"], row["n"], row["k"], row.get("residency"))
    passes = _passes(plan)
    if not passes:
        return [work]
    return [_quantised(chip, plan, row["m"], row["k"], passes), work]


def _product_rates(plan: Plan) -> set[str]:
    """The product's, and that of the pass which quantises activations."""
    return {product_format(plan), plan.format.matrix}


def _passes(plan: Plan) -> int:
    """Over activations that are quantised, in kernels of their own.

    A benchmark finds the scale of a tensor anew. In service a checkpoint brings it along, so that
    one pass is left, or none where a framework quantises as it writes.
    """
    most = plan.format.passes
    if most < TENSOR_WIDE or plan.replay:
        return most
    return 0 if plan.gemm_backend.fuses_quantisation else 1


TENSOR_WIDE = 2
"""Passes of a format whose scale is of the whole tensor."""


def _quantised(chip: Chip, plan: Plan, m: Scalar, k: Scalar, passes: int) -> Work:
    """The pass that quantises activations: it reads them in bf16 and writes them in their format."""
    traffic = KINDS["quantise"]._replace(read=2.0 * passes, written=plan.format.activation)
    work, rate = elementwise(chip, plan, m, k, traffic), chip.efficiency.gemm.quantise_bandwidth
    return eqx.tree_at(lambda w: w.shares.shared, work, rate)


def _window(row: Row) -> Scalar:
    return jnp.where(row["window"] > 0, row["window"], jnp.inf)


def _grouped(row: Row) -> Heads:
    """Keys and values of one size, both cached, unless a row says otherwise."""
    key, value = row["head_dim"], row.get("value_dim", row["head_dim"])
    return Heads(row["heads"], row["kv_heads"], key, value, row.get("stored_dim", key + value))


def _decode(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    sizes = (row["batch"], row["ctx_len"])
    return [attention_decode(chip, plan, *sizes, _grouped(row), _window(row), row.get("residency"))]


def _prefill(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    sizes = (row["batch"], row["q_len"], row["ctx_len"])
    causal = 1 - row["causal"]
    return [
        attention_prefill(
            chip, plan, *sizes, _grouped(row), _window(row), causal, row.get("residency")
        )
    ]


DEEPSEEK = {"rank": 512.0, "rope": 64.0, "nope": 128.0, "value_dim": 128.0}
"""Sizes of DeepSeek-V3's latent attention (arXiv 2412.19437, section 4.2), meant where a row gives none."""


def _latent_size(row: Row, name: str) -> Scalar:
    return row.get(name, DEEPSEEK[name] * jnp.ones_like(row["heads"]))


def _latents(row: Row) -> Heads:
    return latent(row["heads"], _latent_size(row, "rank"), _latent_size(row, "rope"))


def _of_latents(chip: Chip) -> Chip:
    """Latent attention has parameters of its own."""
    own = (chip.efficiency.mla_decode, chip.efficiency.mla_prefill)
    return eqx.tree_at(
        lambda c: (c.efficiency.attention_decode, c.efficiency.attention_prefill), chip, own
    )


def _mla_decode(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    backend = plan.attention_backend.latent or SMOOTH_ATTENTION
    plan = dataclasses.replace(plan, attention_backend=backend)
    chip, heads, residency = _of_latents(chip), _latents(row), row.get("residency")
    return [attention_decode(chip, plan, row["batch"], row["ctx_len"], heads, jnp.inf, residency)]


def _latent_prompt(plan: Plan) -> Plan:
    """No rule of grouped attention, but of a backend that multiplies prompts with the latents themselves."""
    if plan.attention_backend.absorbs_latents:
        return plan
    return dataclasses.replace(plan, attention_backend=SMOOTH_ATTENTION)


def _mla_prefill(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    absorbed = plan.attention_backend.absorbs_latents
    chip, plan = _of_latents(chip), _latent_prompt(plan)
    sizes = [_latent_size(row, name) for name in ("nope", "rope", "value_dim")]
    heads = _latents(row) if absorbed else expanded(row["heads"], *sizes)
    batch, queries = row["batch"], row.get("q_len", row["ctx_len"])
    return [
        attention_prefill(
            chip, plan, batch, queries, row["ctx_len"], heads, residency=row.get("residency")
        )
    ]


def _latent_prompt_rates(plan: Plan) -> set[str]:
    return prompt_rates(_latent_prompt(plan))


def _moe(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    return [
        moe(
            chip,
            plan,
            row["tokens"],
            row["hidden"],
            row["inter"],
            row["topk"],
            row["experts"],
            row["tp"],
            row["ep"],
            row["routing"],
            row.get("gated", jnp.ones_like(row["tokens"])),
            row.get("residency"),
        )
    ]


def _elementwise(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    table = jnp.array(list(KINDS.values()), dtype=float)
    traffic = jnp.take(table, row["kind"].astype(int), axis=0)
    return [elementwise(chip, plan, row["tokens"], row["hidden"], traffic)]


def _linear(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    """A row of several tokens is a prompt, whatever its phase says."""
    heads, key = row["heads"], row["head_dim"]
    value, key_heads = row.get("value_dim", key), row.get("key_heads", heads)
    kind, phase = (row.get(name, jnp.zeros_like(heads)) for name in ("kind", "phase"))
    states = States(heads, key, value, key_heads, kind)
    prompt = jnp.where((phase > 0) | (row["q_len"] > 1), 1.0, 0.0)
    return [
        linear_attention(
            chip, plan, row["batch"], row["q_len"], states, prompt, row.get("residency")
        )
    ]


def _sparse(chip: Chip, plan: Plan, row: Row) -> list[Work]:
    """A row of several new tokens is a prompt, whatever its phase says.

    Sizes of a model's own attention take the place of those of its kind.
    """
    prompt = jnp.where((row["phase"] > 0) | (row["q_len"] > 1), 1.0, 0.0)
    text = Text(row["batch"], row["q_len"], row["ctx_len"], prompt)
    own = {name: row[name] for name in Form._fields if name in row}
    form = form_of(row["kind"])._replace(**own)
    chip, plan = _of_latents(chip), dataclasses.replace(plan, attention_backend=SMOOTH_ATTENTION)
    return sparse_attention(chip, plan, text, row["heads"], row["topk"], form, row.get("residency"))


def _collective(kind: Kind) -> Count:
    def count(chip: Chip, plan: Plan, row: Row) -> list[Work]:
        return [collective(chip, plan, kind, row["n_gpus"], row["n_nodes"], row["bytes"])]

    return count


_HEADS = ("heads", "kv_heads", "head_dim")

_DECODES = ("cache", "attention_backend", "replay")

_PROMPTS = ("weights", *_DECODES)

OPERATIONS: dict[str, Operation] = {
    "gemm": Operation(
        "gemm",
        ("m", "n", "k"),
        {},
        {},
        _gemm,
        _product_rates,
        ("weights", "gemm_backend", "replay"),
    ),
    "attention_decode": Operation(
        "attention_decode",
        ("batch", "ctx_len", *_HEADS),
        {"window": 0.0},
        {},
        _decode,
        _plain,
        _DECODES,
    ),
    "attention_prefill": Operation(
        "attention_prefill",
        ("batch", "q_len", *_HEADS),
        {"ctx_len": "q_len", "window": 0.0},
        {"causal": ("true", "false")},
        _prefill,
        prompt_rates,
        _PROMPTS,
    ),
    "mla_decode": Operation(
        "mla_decode",
        ("batch", "ctx_len", "heads"),
        {},
        {},
        _mla_decode,
        _plain,
        _DECODES,
    ),
    "mla_prefill": Operation(
        "mla_prefill",
        ("batch", "ctx_len", "heads"),
        {},
        {},
        _mla_prefill,
        _latent_prompt_rates,
        _PROMPTS,
    ),
    "moe": Operation(
        "moe",
        ("tokens", "hidden", "inter", "topk", "experts"),
        {"tp": 1.0, "ep": 1.0},
        {"routing": ROUTINGS},
        _moe,
        _of_weights,
        ("weights", "moe_backend", "replay"),
    ),
    "elementwise": Operation(
        "elementwise",
        ("tokens", "hidden"),
        {},
        {"kind": tuple(KINDS)},
        _elementwise,
        _of_weights,
        (MATRIX,),
    ),
    "linear_attention": Operation(
        "linear_attention",
        ("batch", "heads", "head_dim"),
        {"q_len": 1.0, "ctx_len": 0.0, "hidden": 0.0}
        | {"key_heads": "heads", "value_dim": "head_dim"},
        {"kind": STATES, "phase": ("decode", "prefill")},
        _linear,
        _plain,
        ("replay",),
    ),
    "sparse_attention": Operation(
        "mla_decode",
        ("batch", "ctx_len", "heads"),
        {"q_len": 1.0, "topk": 0.0},
        {"kind": SPARSE, "phase": ("decode", "prefill")},
        _sparse,
        _plain_and_of_weights,
        reads=(MATRIX, "cache", "replay"),
        wishes=frozenset({INDEX_MATRIX}),
    ),
} | {
    kind: Operation(
        "collective",
        ("n_gpus", "bytes"),
        {"n_nodes": 1.0},
        {},
        _collective(kind),
        _of_weights,
        (MATRIX, "collective_backend", TOPOLOGY),
    )
    for kind in get_args(Kind)
}


def add_operation(name: str, operation: Operation) -> None:
    """Add an operation of one's own: rows of it are read, predicted, explained and calibrated like others.

    **Arguments:**

    - `name`: what stands in a row's `op`.
    - `operation`: its columns, and the function that counts its works.

    **Raises:**

    - `InputError`: for a name that is taken by another.
    """
    if OPERATIONS.get(name, operation) is not operation:
        raise InputError(f"there is an operation {name!r} already; choose another name.")
    OPERATIONS[name] = operation


PLUGINS = "perfmodel.plugins"
"""Group of entry points: functions of installed packages, called once, which may add operations."""


@functools.cache
def load_plugins() -> tuple[str, ...]:
    """Call every installed plug-in; their names.

    **Raises:**

    - `InputError`: naming one that fails, and why.
    """
    names = []
    for point in importlib.metadata.entry_points(group=PLUGINS):
        try:
            point.load()()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the plug-in {point.name} ({point.value}) fails: {reason}.") from None
        names.append(point.name)
    return tuple(names)
