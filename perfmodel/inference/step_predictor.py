r"""Seconds of one step of an engine, for simulators of schedulers: each request's new and cached tokens.

A step is priced from what its requests sum to. Of $n$ that decode, attention reads $\sum_i c_i$ tokens of
cache: it is the step of $n$ requests at their mean context. Of $n$ prompts, with $q_i$ new tokens behind
$k_i$ cached ones, it scores about $\sum_i q_i (k_i + q_i/2)$ pairs: it is the step of $n$ equal prompts with
as many new tokens and as many pairs,

$$q = \frac1n \sum_i q_i, \qquad c = \frac{\sum_i q_i (k_i + q_i/2)}{\sum_i q_i} + \frac q2$$

tokens in the cache of each, the new ones included. What prompts read of the cache is then weighted by
their new tokens, and windows and sparse attention see equal requests.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from perfmodel.batching import BLOCKS, by_blocks, gather
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.evaluate import with_ranks
from perfmodel.inference.serving_row import RANKS, GivenRanks, number
from perfmodel.inference.step import costs, decode_pass, mixed_pass, prompt_pass, stage_busy_time
from perfmodel.library.fitted import FITTED
from perfmodel.units import Values, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.xla import jit

Batch = tuple[ArrayLike, ArrayLike]
"""New tokens and cached tokens of each request of a step."""


class StepNumbers(NamedTuple):
    """What a step is priced from; `None` where it has no such requests.

    - `decoding`: requests that decode, and tokens in the cache of each with the new one; of shape (2,), or
      (3,) with the tokens that are drafted.
    - `prompts`: prompts, new tokens of each, and tokens in the cache of each with these; of shape (3,).
    """

    decoding: Values | np.ndarray | None
    prompts: Values | np.ndarray | None


def step_seconds(chip: Chip, plan: Plan, model: Transformer, numbers: StepNumbers) -> Values:
    """Seconds of one step, the host's included; 0 where there are no requests."""
    decoding, prompts = numbers
    if decoding is not None and prompts is not None:
        return _mixed_seconds(chip, plan, model, jnp.asarray(decoding), jnp.asarray(prompts))
    if decoding is not None:
        forward = decode_pass(chip, plan, model, *jnp.asarray(decoding))
    elif prompts is not None:
        forward = prompt_pass(chip, plan, model, *jnp.asarray(prompts))
    else:
        return as_scalar(0.0)
    return costs(chip, plan, model, [forward])[0].time


def _mixed_seconds(
    chip: Chip, plan: Plan, model: Transformer, decoding: Values, prompts: Values
) -> Values:
    """Of a decode step with prompts on the same launch; elsewhere they go through the pipeline beside it."""
    (batch, context, *drafts), (count, q_len, ctx_len) = decoding, prompts
    if chip.execution != "launched":
        beside = prompt_pass(chip, plan, model, count, q_len, ctx_len)
        passes = [decode_pass(chip, plan, model, batch, context, *drafts), beside]
        step, prompt = costs(chip, plan, model, passes)
        return step.time + stage_busy_time(beside, prompt.time)
    # The busiest data rank sets the time: where there are fewer requests than ranks, it has one.
    texts = jnp.maximum(batch, plan.dp), context, drafts[0] if drafts else as_scalar(0.0)
    chunks = jnp.maximum(count, plan.dp), q_len, ctx_len
    return costs(chip, plan, model, [mixed_pass(chip, plan, model, texts, chunks)])[0].time


class StepPredictor:
    """Seconds of one step of an engine, from each request's new and cached tokens.

    **Arguments:**

    - `chip`, `model`, `precision`, `kv_precision`, `framework`: in the words of a serving row.
    - `n_chips`, `tp`, `pp`, `ep`, `dp`: chips and ranks. Without `n_chips` there are as many chips as the
      given ranks multiply to; ranks that are left out are those of a row: tensor ranks first.
    - `calibration`: the folder of fitted parameters.

    It has `parallelism`, the ranks that were taken, and what steps are priced on: `chip`, `plan`, `model`.
    Whether requests fit into the KV cache is the scheduler's to know, and is not checked.

    **Raises:**

    - `InputError`: for a name that is not known; for ranks that cannot be, or leave several ways.
    """

    def __init__(
        self,
        chip: str,
        model: str,
        *,
        n_chips: float | None = None,
        precision: str = "",
        kv_precision: str = "",
        framework: str = "",
        tp: float | None = None,
        pp: float | None = None,
        ep: float | None = None,
        dp: float | None = None,
        calibration: str | Path = FITTED,
    ):
        words = (chip, model, precision, kv_precision, framework)
        deployment = resolve_or_error(*words, Path(calibration))
        if isinstance(deployment, str):
            raise InputError(deployment)
        self.parallelism = _only_way(_ranks(n_chips, tp, pp, ep, dp), deployment)
        self.chip, self.model = deployment.chip, deployment.model
        self.plan = with_ranks(deployment.plan, self.parallelism)
        # The chip is part of the program: to hand over its hundreds of numbers takes longer than to run it.
        self._seconds = jit(functools.partial(self.seconds, self.chip))
        self._seconds_of_block = jit(jax.vmap(self._seconds))

    def __call__(self, new_tokens: ArrayLike, cached_tokens: ArrayLike) -> float:
        """Seconds of one step, the host's included; 0 where there are no requests.

        Steps that decode, steps of prompts, and steps of both are compiled when the first of each comes.

        **Arguments:**

        - `new_tokens`: of each request, of shape (requests,): 1 where it decodes, more of a prompt or a
          part of one.
        - `cached_tokens`: of each request, which its cache holds already; of shape (requests,).

        **Raises:**

        - `InputError`: for numbers of tokens that cannot be.
        """
        return float(self._seconds(self.numbers(new_tokens, cached_tokens)))

    def many(self, batches: Sequence[Batch]) -> np.ndarray:
        """Seconds of many steps, of shape (steps,), from each one's new and cached tokens."""
        rows = _rows(batches)
        seconds = np.zeros(len(rows))
        kinds = (rows[:, 0] > 0) + 2 * (rows[:, 2] > 0)
        for kind in set(kinds.tolist()) - {0}:
            places = np.flatnonzero(kinds == kind)
            numbers = _numbers(rows[places])
            seconds[places] = by_blocks(
                self._seconds_of_block,
                len(places),
                lambda at, numbers=numbers: gather(numbers, at),
                BLOCKS[1],
            )
        return seconds

    def numbers(self, new_tokens: ArrayLike, cached_tokens: ArrayLike) -> StepNumbers:
        """What a step is priced from: sums and means over its requests."""
        (row,) = _rows([(new_tokens, cached_tokens)])
        return _numbers(row)

    def seconds(self, chip: Chip, numbers: StepNumbers) -> Values:
        """Seconds of one step on a chip of the same form: pure, and with a gradient to all numbers."""
        return step_seconds(chip, self.plan, self.model, numbers)


def _ranks(*given: float | None) -> GivenRanks:
    """Chips and ranks as they are given; without chips as many as the ranks multiply to."""
    texts = ["" if size is None else str(size) for size in (*given, 1)]  # one replica has the steps
    ranks = GivenRanks(*(number(name, text) for name, text in zip(RANKS, texts, strict=True)))
    ranks = ranks._replace(dp=1.0 if np.isnan(ranks.dp) else ranks.dp)
    chips = float(np.nanprod([ranks.tp, ranks.pp, ranks.dp]))
    return ranks._replace(n_chips=chips) if np.isnan(ranks.n_chips) else ranks


def _only_way(ranks: GivenRanks, deployment: Deployment) -> Parallelism:
    """The way that is meant: on launched chips that with the most tensor ranks, and experts on all ranks."""
    ways = candidates(ranks, deployment)
    several = len({(way.tp, way.pp, way.dp) for way in ways}) > 1
    if several and deployment.chip.execution != "launched":
        listed = "; ".join(f"tp {way.tp:.0f}, pp {way.pp:.0f}, dp {way.dp:.0f}" for way in ways)
        raise InputError(
            f"n_chips is {ranks.n_chips:.0f}, which leaves several ways to spread the model: {listed}. "
            "Give tp and pp of one of them."
        )
    return ways[0]


def _rows(batches: Sequence[Batch]) -> np.ndarray:
    """What steps are priced from, of shape (steps, 5): those that decode, then the prompts."""
    new, cached, step = _requests(batches)
    decodes = new == 1
    decoding, context = _means(step[decodes], cached[decodes] + 1, len(batches))
    new, cached, step = new[~decodes], cached[~decodes], step[~decodes]
    prompts, q_len = _means(step, new, len(batches))
    pairs = np.bincount(step, new * (cached + new / 2), len(batches))
    ctx_len = pairs / np.maximum(prompts * q_len, 1) + q_len / 2
    rows = np.stack([decoding, context, prompts, q_len, ctx_len], axis=1)
    return rows.astype(jnp.result_type(float))


def _means(step: np.ndarray, values: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests of each step, and the mean of their values."""
    count = np.bincount(step, minlength=steps)
    return count, np.bincount(step, values, steps) / np.maximum(count, 1)


def _requests(batches: Sequence[Batch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New and cached tokens of the requests of all steps, and the step of each."""
    new, cached = ([np.ravel(np.asarray(batch[i], float)) for batch in batches] for i in (0, 1))
    lengths = [len(tokens) for tokens in new]
    for given, beside in zip(lengths, map(len, cached), strict=True):
        if given != beside:
            raise InputError(
                f"new_tokens are of {given} requests and cached_tokens of {beside}; give both of each."
            )
    none = np.zeros(0)
    steps = np.repeat(np.arange(len(batches)), lengths)
    return (
        _allowed("new_tokens", np.concatenate([none, *new]), 1),
        _allowed("cached_tokens", np.concatenate([none, *cached]), 0),
        steps,
    )


MAX_TOKENS = 1e9
"""Of a request, as in serving rows."""


def _allowed(name: str, tokens: np.ndarray, least: int) -> np.ndarray:
    wrong = tokens[~((tokens >= least) & (tokens <= MAX_TOKENS))]
    if len(wrong):
        raise InputError(
            f"{name} holds {wrong[0]:g}; allowed are numbers from {least} to {MAX_TOKENS:g}."
        )
    return tokens


def _numbers(rows: np.ndarray) -> StepNumbers:
    """Of one step, or of several of one kind on a leading axis."""
    decoding, prompts = rows[..., :2], rows[..., 2:]
    first = rows.reshape(-1, rows.shape[-1])[0]
    return StepNumbers(decoding if first[0] else None, prompts if first[2] else None)
