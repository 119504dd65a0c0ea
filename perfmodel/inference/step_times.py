r"""Seconds of any step of an engine, read off a grid that the model priced once.

A step is known by the sequences that decode, the mean tokens in their caches, the new tokens of prompts, and
how many tokens each of these attends to on average, $a$. A chunk of $Q$ new tokens of one prompt attends to
$a \geq Q/2$ each; where $a$ is less there are $Q / 2a$ whole prompts of $2a$ tokens. Between the points of
the grid the time is linear in each of the four, as attention and products are between two counts of tiles;
beyond the last point it goes on as there.
"""

import functools
from bisect import bisect_right
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import map_rows
from perfmodel.hardware.chip import Chip
from perfmodel.inference.step_predictor import StepNumbers, step_seconds
from perfmodel.units import Scalar, Values
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.xla import to_run_once

CONTEXTS = (64.0, 4096.0, 131072.0)
"""Tokens in the cache of each sequence that decodes."""

ATTENDED = (16.0, 128.0, 512.0, 1024.0, 4096.0, 65536.0)
"""Tokens that a new token of a prompt attends to."""

MIN_NEW_TOKENS = 32.0
"""Of prompts in a step; fewer are priced as on the line through the first two points."""

GROWTH = 1.25
"""From one number of sequences, or of new tokens, to the next."""

Table = list[Any]
"""Of seconds: lists in lists, an index for each axis."""


class StepTimes(NamedTuple):
    """Seconds of steps at the points of a grid.

    - `sequences`, `contexts`, `new_tokens`, `attended`: the points of each axis, in rising order.
    - `decode`: of decode steps, by sequences and context; `prompt`: of prompts, by new tokens and attended.
    - `mixed`: of both together, by all four.
    """

    sequences: list[float]
    contexts: list[float]
    new_tokens: list[float]
    attended: list[float]
    decode: Table
    prompt: Table
    mixed: Table

    def decode_seconds(self, sequences: float, context: float) -> float:
        """Of a step in which sequences with `context` tokens on average, the new one included, decode."""
        i, u = _place(self.sequences, sequences)
        j, v = _place(self.contexts, context)
        return _between(self.decode[i], self.decode[i + 1], u, j, v)

    def prompt_seconds(self, new_tokens: float, attended: float) -> float:
        """Of a step of prompts alone, each new token of which attends to some on average."""
        i, u = _place(self.new_tokens, new_tokens)
        j, v = _place(self.attended, attended)
        return _between(self.prompt[i], self.prompt[i + 1], u, j, v)

    def mixed_seconds(
        self, sequences: float, context: float, new_tokens: float, attended: float
    ) -> float:
        """Of a decode step with prompts on it."""
        i, u = _place(self.sequences, sequences)
        j, v = _place(self.contexts, context)
        k, w = _place(self.new_tokens, new_tokens)
        m, x = _place(self.attended, attended)
        low, high = self.mixed[i], self.mixed[i + 1]
        corners = (low[j], low[j + 1], high[j], high[j + 1])
        a, b, c, d = (_between(corner[k], corner[k + 1], w, m, x) for corner in corners)
        low_sequences, high_sequences = a + (b - a) * v, c + (d - c) * v
        return low_sequences + (high_sequences - low_sequences) * u


def _place(axis: list[float], value: float) -> tuple[int, float]:
    """The point at or below a value, and its share of the way to the next; above 1 beyond the last."""
    i = min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
    return i, (value - axis[i]) / (axis[i + 1] - axis[i])


def _between(low: list[float], high: list[float], u: float, j: int, v: float) -> float:
    """Linear in two of the axes."""
    a = low[j] + (low[j + 1] - low[j]) * v
    b = high[j] + (high[j + 1] - high[j]) * v
    return a + (b - a) * u


def price_steps(
    chip: Chip,
    plan: Plan,
    model: Transformer,
    max_sequences: float,
    max_new_tokens: float,
    speculative_tokens: float = 0.0,
) -> StepTimes:
    """The grid of a chip, plan and model, priced in one call.

    **Arguments:**

    - `max_sequences`: that decode at once; `max_new_tokens`: of prompts in a step.
    - `speculative_tokens`: that are drafted and checked in each decode step, where the plan speculates.
    """
    axes = (
        _rising(1.0, max_sequences),
        np.array(CONTEXTS),
        _rising(MIN_NEW_TOKENS, max_new_tokens),
        np.array(ATTENDED),
    )
    shape = tuple(map(len, axes))
    points = np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=-1)
    drafts = np.asarray(speculative_tokens, jnp.result_type(float))
    price = functools.partial(_price, chip, plan, model, drafts)
    # In blocks of one size grids of all sizes share a compiled program.
    seconds = map_rows(price, points.astype(jnp.result_type(float)))
    decode, prompt, mixed = (np.asarray(column).reshape(shape) for column in seconds)
    tables = decode[:, :, 0, 0], prompt[0, 0], mixed
    return StepTimes(*(axis.tolist() for axis in axes), *(table.tolist() for table in tables))


def _rising(first: float, last: float) -> np.ndarray:
    """Whole numbers from the first to the last, two at least, each about `GROWTH` times the one before."""
    last = max(last, np.ceil(first * GROWTH))
    points = np.geomspace(first, last, 1 + round(np.log(last / first) / np.log(GROWTH)))
    return np.unique(np.round(points))


def _seconds_at(
    chip: Chip, plan: Plan, model: Transformer, drafts: Scalar, points: Values
) -> tuple[Values, Values, Values]:
    """Seconds of the decode step, the prompts, and both together, at each point."""

    def at(point: Values) -> tuple[Values, Values, Values]:
        sequences, context, new, attended = point
        count = jnp.maximum(new / (2 * attended), 1.0)
        q_len = new / count
        decoding = jnp.stack([sequences, context, drafts])
        prompts = jnp.stack([count, q_len, attended + q_len / 2])
        kinds = ((decoding, None), (None, prompts), (decoding, prompts))
        decode, prompt, mixed = (
            step_seconds(chip, plan, model, StepNumbers(*kind)) for kind in kinds
        )
        return decode, prompt, jnp.maximum(mixed, decode)

    return jax.vmap(at)(points)


_price = to_run_once(_seconds_at)
