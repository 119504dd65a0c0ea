"""The whole space of chips, models, plans and traffic: random cases by the thousand, priced in one call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from help import H100, LPU, QUICK, WSE

from perfmodel.breakdown import Breakdown
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.hardware.parameters import parameters
from perfmodel.inference.placement import Placement
from perfmodel.inference.step import costs, decode_pass, prompt_pass
from perfmodel.library.chip import load_chip
from perfmodel.trees import leaf_names
from perfmodel.units import Values, as_scalar
from perfmodel.workload.attention import Compressed, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import Layer, Stack, Transformer, traced
from perfmodel.workload.plan import Plan

CASES_PER_CALL = 2048
"""Cases priced in one call."""

EXPERTS = Mixture(experts=64, active=6, inter=1400, shared=2800)
COMMON = Transformer(
    hidden=5000,
    vocabulary=120_000,
    stacks=(
        Stack(Layer(Grouped(heads=40, kv_heads=10, key=120, value=120), Dense(14_000)), 20),
        Stack(Layer(Latent(60, 1500, 512, 64, 128, 128), EXPERTS), 20),
    ),
)
"""Layers with grouped heads and dense products, and with latents and experts."""

LINEAR = Transformer(
    hidden=5000,
    vocabulary=120_000,
    stacks=(
        Stack(Layer(Recurrent(40, 120, 120, 20_000, 14_000, 4), Dense(14_000)), 20),
        Stack(Layer(Compressed(60, 500, 1500, 8, 1000, 128, 4, 2, 8), EXPERTS), 20),
        Stack(Layer(Grouped(40, 10, 120, 120, window=1000), None), 20),
    ),
)
"""Layers with states, with compressed caches and experts, and with windows."""

FORMS = [(chip, model) for model in ("common", "linear") for chip in (H100, LPU, WSE)]
MODELS = {"common": COMMON, "linear": LINEAR}
ASKED = ("tp", "pp", "ep", "dp", "batch", "context")


class Found(NamedTuple):
    """What a decode step and a prompt cost, on an axis after that of the cases, and where things live."""

    cost: Breakdown
    placement: Placement


class Space:
    """Cases of one form as rows of numbers: fields of the chip, of the model, and what is asked."""

    def __init__(self, chip: str, model: Transformer):
        base = restrict(load_chip(chip), ["bf16"])
        shape, self.execution = traced(model), base.execution
        self.chip, self.model = jax.tree.structure(base), jax.tree.structure(shape)
        self.names = [*leaf_names(base), *(f"model.{name}" for name in leaf_names(shape)), *ASKED]
        known = [float(leaf) for leaf in jax.tree.leaves((base, shape))]
        self.values = np.array([*known, *[1.0] * len(ASKED)])
        self.powers = np.array([_power(base, name) for name in self.names])
        self.compiled = jax.jit(jax.vmap(self.one), compiler_options=QUICK)
        self.pushed = jax.jit(jax.vmap(self._push), compiler_options=QUICK)

    def one(self, row: Values) -> Found:
        """One case, decoding and with its prompt."""
        chips, models = self.chip.num_leaves, self.model.num_leaves
        chip = jax.tree.unflatten(self.chip, list(row[:chips]))
        model = jax.tree.unflatten(self.model, list(row[chips : chips + models]))
        tensor, pipeline, expert, data, batch, context = row[chips + models :]
        plan = Plan(tensor, pipeline, expert, data)
        passes = [
            decode_pass(chip, plan, model, batch, context),
            prompt_pass(chip, plan, model, as_scalar(1.0) * data, context, context),
        ]
        found = costs(chip, plan, model, passes)
        both = jax.tree.map(lambda *x: jnp.stack(x), *[cost.breakdown for cost in found])
        return Found(both, found[0].placement)

    def _push(self, row: Values, way: Values) -> tuple[Values, Values]:
        """Times of a case, and how they change as it goes a way in logarithms."""
        known = jnp.where(jnp.isfinite(row), row, 0.0)
        return jax.jvp(lambda x: jnp.log(self.one(x).cost.time), (row,), (known * way,))

    def price(self, rows: np.ndarray) -> Found:
        """Any number of cases; always as many at a time, so compiled once."""
        return self._in_parts(self.compiled, rows)

    def push(self, rows: np.ndarray, ways: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of times and their derivatives along `ways`."""
        return self._in_parts(self.pushed, rows, ways)

    def _in_parts(self, function: Callable[..., Any], *tables: np.ndarray) -> Any:
        parts = []
        for start in range(0, len(tables[0]), CASES_PER_CALL):
            blocks = [
                np.resize(x[start : start + CASES_PER_CALL], (CASES_PER_CALL, x.shape[1]))
                for x in tables
            ]
            parts.append(function(*[jnp.asarray(block, dtype=float) for block in blocks]))
        count = len(tables[0])
        return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Random cases: hardware times 0.1 to 10, sizes of the model times 1/4 to 4, any plan and traffic."""
        random = np.random.default_rng(seed)
        rows = np.tile(self.values, (count, 1))
        model = np.array([name.startswith("model.") for name in self.names])
        # Fitted numbers have bounds of their own; a network joins whole chips.
        held = np.array([any(word in name for word in HELD) for name in self.names]) | model
        held[-len(ASKED) :] = True
        rows *= np.where(held, 1.0, 10 ** random.uniform(-1, 1, rows.shape))
        rows *= np.where(model, 4 ** random.uniform(-1, 1, rows.shape), 1.0)
        if not self.values[self.where("main.capacity")[0]]:
            rows[:, self.where("private.capacity", "shared.capacity")] *= ROOM
        for less, more, share in ORDERED:
            for i in self.where(less):
                j = self.names.index(self.names[i].replace(less, more))
                rows[:, i] = np.minimum(rows[:, i], share * rows[:, j])
        for name, most in MAX_SIZES.items():
            whole = 2 ** np.floor(random.uniform(0, np.log2(most) + 1, count))
            rows[:, self.where(name)[0]] = whole
        rows[:, self.where("batch")[0]] *= rows[:, self.where("dp")[0]]
        return rows

    def where(self, *words: str) -> np.ndarray:
        """Places of the numbers whose name ends with one of `words`."""
        return np.array([i for i, n in enumerate(self.names) if n.endswith(words)], int)

    def times(self, rows: np.ndarray, factor: float, *words: str) -> np.ndarray:
        """The cases with some of their numbers multiplied."""
        more = rows.copy()
        more[:, self.where(*words)] *= factor
        return more


ROOM = 1e6
"""Times the SRAM of machines that have no other memory, so that models fit: what finds no room is read
at a byte a second."""

HELD = ("efficiency", "usable", "size")
ORDERED = [
    ("idle_power", "peak_power", 0.5),
    ("kv_heads", "heads", 1.0),
    ("active", "experts", 1.0),
]
"""Numbers that another of the same case bounds, and by which share of it."""

MAX_SIZES = {"tp": 16, "pp": 8, "ep": 16, "dp": 8, "batch": 512, "context": 131_072}


def _power(chip: Chip, name: str) -> int:
    """How a number of a chip changes with the unit of time: 1 for what is per second, -1 for seconds."""
    first, *rest = name.split(".")
    if first in RATES or rest == ["bandwidth"]:
        return 1
    if first == "efficiency" and len(rest) == 2:
        kind = type(getattr(chip.efficiency, rest[0]))
        units = {field.name: field.metadata["unit"] for field in parameters(kind)}
        return -1 if units[rest[1]] == "us" else 0
    return -1 if name.endswith("latency") else 0


RATES = ("clock", "matrix", "vector", "exponential", "idle_power", "peak_power")


@functools.cache
def _space(chip: str, model: str, double: bool) -> Space:
    return Space(chip, MODELS[model])


def space(chip: str, model: str) -> Space:
    """A form, in the precision that is on."""
    return _space(chip, model, bool(jax.config.read("jax_enable_x64")))
