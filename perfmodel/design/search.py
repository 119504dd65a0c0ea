r"""Gradient search: many starts in one `vmap`, a penalty that grows, and an honest second look.

Free numbers move in log space between their bounds. The loss is
$-\ln f + \rho \sum_i \max(0, -s_i)^2$ for the slacks $s_i$, with $\rho$ growing during the
descent (Adam, optax). What comes out is shrunk until every limit holds, stacks are made
whole, and the winner is priced again in whole numbers.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from perfmodel.design.chip import VARIABLES, area, from_logarithms
from perfmodel.design.problem import LIMITS, Problem, judge
from perfmodel.design.study import OptimiserTable
from perfmodel.units import Scalar, Values, as_scalar, as_values

STAGES = 10
"""Parts of a descent, after each of which it can be stopped and taken up again."""

PENALTIES = (1.0, 1e3)
"""Weight of broken limits at the start and at the end."""

RATE = 0.1
"""Step of Adam at the start, in the free space; it falls to a hundredth of that."""

TOLERANCE = 1e-3
"""A limit broken by less than this, relative, counts as kept."""


class State(NamedTuple):
    """Where a descent stands: free numbers of each start, Adam's state, stages done."""

    free: Values
    adam: optax.OptState
    stage: Scalar


class Found(NamedTuple):
    """One local optimum: logarithms of its variables, objective, slack of each limit."""

    vector: np.ndarray
    objective: float
    slack: np.ndarray


class Result(NamedTuple):
    """What a search found.

    - `best`: with whole stacks; `exact`: its objective in whole numbers.
    - `designs`: every local optimum, the best first; `continuous`: the best before stacks were whole.
    - `elasticity`: of the objective to each variable at the best.
    - `shadow`: change of the objective, in logarithms, for a relative change of each limit.
    - `evaluations`: of the model, a gradient counted once; `seconds`: taken.
    """

    best: Found
    exact: float
    continuous: Found
    designs: list[Found]
    elasticity: np.ndarray
    shadow: np.ndarray
    evaluations: int
    seconds: float


def to_vector(free: Values, low: Values, high: Values) -> Values:
    """Logarithms between their bounds, from the free numbers of one start."""
    return low + (high - low) * jax.nn.sigmoid(free)


to_vectors = jax.vmap(to_vector, (0, None, None))


def start(count: int, seed: int) -> State:
    """Starts spread over the space by a scrambled lattice (a generalised golden ratio)."""
    steps = 1.0 / 1.1673 ** np.arange(1, len(VARIABLES) + 1)  # root of x^5 = x + 1 (Roberts, 2018)
    shift = np.random.default_rng(seed).random(len(VARIABLES))
    share = (shift + np.arange(count)[:, None] * steps) % 1.0
    free = as_values(np.log((share * 0.98 + 0.01) / (1 - share * 0.98 - 0.01)))
    return State(free, _adam(1).init(free), as_scalar(0.0))


def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(RATE, steps, alpha=0.01))


@eqx.filter_jit
def advance(problem: Problem, low: Values, high: Values, state: State, steps: int) -> State:
    """One stage of a descent of `steps` steps in all."""
    adam = _adam(steps)

    def loss(free: Values, weight: Scalar) -> Scalar:
        verdict = judge(problem, to_vector(free, low, high))
        broken = jnp.maximum(-verdict.slack, 0.0)
        return -verdict.objective + weight * jnp.sum(broken**2)

    # Four variables: forward mode is half as dear as reverse mode.
    gradients = jax.vmap(jax.jacfwd(loss), (0, None))

    def one(carry, step):
        free, memory = carry
        weight = PENALTIES[0] * (PENALTIES[1] / PENALTIES[0]) ** (step / steps)
        updates, memory = adam.update(gradients(free, weight), memory)
        return (free + updates, memory), None

    each = steps // STAGES
    first = state.stage * each
    (free, memory), _ = jax.lax.scan(one, (state.free, state.adam), first + jnp.arange(float(each)))
    return State(free, memory, state.stage + 1)


BATCH = 1024
"""Designs assessed at a time: always as many, so that they are compiled once."""


@eqx.filter_jit
def _assess(problem: Problem, vectors: Values, integer: bool) -> tuple[Values, Values]:
    def one(vector: Values):
        verdict = judge(problem, vector, integer)
        return verdict.objective, verdict.slack

    return jax.vmap(one)(vectors)


def assess(
    problem: Problem, vectors: Values | np.ndarray, integer: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Objective and slacks of many designs."""
    count = len(vectors)
    padded = np.resize(np.asarray(vectors), (-(-count // BATCH) * BATCH, len(VARIABLES)))
    batches = np.split(padded, len(padded) // BATCH)
    found = [_assess(problem, as_values(batch), integer) for batch in batches]
    objective, slack = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return objective, slack


def shrink(problem: Problem, vectors: Values) -> Values:
    """Designs made smaller, all parts alike but the stacks, until area and SRAM rate hold."""

    def one(vector: Values) -> Values:
        rate = jnp.minimum(vector[1], vector[0] + jnp.log(problem.floor.rate))
        capped = vector.at[1].set(rate)
        design = from_logarithms(capped)
        die = area(design, problem.base, problem.floor)
        fixed = (
            problem.base.scale_up.bandwidth * problem.floor.link
            + design.stacks * problem.floor.stack
        )
        scale = jnp.clip((problem.area - fixed) / (die - fixed), 1e-3, 1.0)
        return capped + jnp.log(scale) * jnp.array([1.0, 1.0, 0.0, 1.0])

    return jax.vmap(one)(vectors)


def descend(
    problem: Problem,
    low: Values,
    high: Values,
    state: State,
    steps: int,
    progress: Callable[[State], None] = lambda state: None,
) -> list[Found]:
    """Take a descent to its end, and list what it found that keeps every limit, the best first."""
    steps = steps // STAGES * STAGES
    while int(state.stage) < STAGES:
        state = advance(problem, low, high, state, steps)
        progress(state)
    vectors = np.asarray(shrink(problem, to_vectors(state.free, low, high)))
    return kept(vectors, *assess(problem, vectors))


def kept(vectors: np.ndarray, objective: np.ndarray, slack: np.ndarray) -> list[Found]:
    """Designs that keep every limit, the best first."""
    good = np.flatnonzero(np.all(slack > -TOLERANCE, axis=1) & np.isfinite(objective))
    order = good[np.argsort(-objective[good], kind="stable")]
    return [Found(vectors[i], float(objective[i]), slack[i]) for i in order]


def whole_stacks(problem: Problem, best: Found, options: OptimiserTable) -> list[Found]:
    """The best design again with whole stacks, each number of them near the best searched anew."""
    stacks = float(np.exp(best.vector[2]))
    counts = sorted({max(np.floor(stacks), 1.0), np.ceil(stacks)})
    found = []
    for count in counts:
        low = problem.low.at[2].set(np.log(count) - 1e-6)
        high = problem.high.at[2].set(np.log(count) + 1e-6)
        state = start(options.starts, options.seed)
        found += descend(problem, low, high, state, options.steps)[:1]
    return sorted(found, key=lambda one: -one.objective)


@eqx.filter_jit
def _slopes(problem: Problem, vector: Values) -> tuple[Values, Values]:
    """Derivatives of the objective and of the slacks by each variable."""
    both = jax.jacfwd(lambda v: judge(problem, v)[:2])(vector)
    return both[0], both[1]


def sensitivities(problem: Problem, best: Found) -> tuple[np.ndarray, np.ndarray]:
    r"""Elasticities of the objective, and shadow prices of the limits.

    At an optimum $\nabla \ln f = -\sum_i \lambda_i \nabla s_i$ over the limits that bind; the
    least-squares $\lambda_i$ is what a relative change of limit $i$ is worth.
    """
    gradient, slopes = map(np.asarray, _slopes(problem, as_values(best.vector)))
    free = np.array([name != "stacks" for name in VARIABLES])  # they are whole, not at an optimum
    binding, shadow = best.slack < 0.01, np.zeros(len(LIMITS))
    if binding.any():
        matrix = -slopes[binding][:, free].T
        shadow[binding] = np.maximum(np.linalg.lstsq(matrix, gradient[free], rcond=None)[0], 0)
    return gradient, shadow


def search(
    problem: Problem,
    options: OptimiserTable,
    state: State | None = None,
    progress: Callable[[State], None] = lambda state: None,
) -> Result:
    """Search a study.

    **Arguments:**

    - `state`: to go on from, of an earlier search.
    - `progress`: called after each stage.

    **Returns:**

    The result; with no designs where none keeps every limit.
    """
    began = time.perf_counter()
    low, high = problem.low, problem.high
    state = start(options.starts, options.seed) if state is None else state
    designs = descend(problem, low, high, state, options.steps, progress)
    evaluations = options.starts * options.steps
    if not designs:
        nothing = Found(np.full(len(VARIABLES), np.nan), float("nan"), np.full(len(LIMITS), np.nan))
        empty = np.zeros(0)
        return Result(nothing, float("nan"), nothing, [], empty, empty, evaluations, 0.0)
    integers = whole_stacks(problem, designs[0], options) or designs
    best = integers[0]
    exact, _ = assess(problem, best.vector[None], integer=True)
    elasticity, shadow = sensitivities(problem, best)
    seconds = time.perf_counter() - began
    evaluations += 2 * options.starts * options.steps
    return Result(
        best, float(exact[0]), designs[0], designs, elasticity, shadow, evaluations, seconds
    )


def grid(problem: Problem, points: int = 12) -> tuple[list[Found], int, float]:
    """The same model on a grid: designs that keep every limit, how many were tried, seconds taken."""
    began = time.perf_counter()
    share = np.stack(np.meshgrid(*[np.linspace(0, 1, points)] * len(VARIABLES)), -1).reshape(
        -1, len(VARIABLES)
    )
    vectors = np.asarray(problem.low) * (1 - share) + np.asarray(problem.high) * share
    found = kept(vectors, *assess(problem, vectors))
    return found, len(vectors), time.perf_counter() - began
