r"""The host of one's own server and the factors of its stacks, fitted together to few measured runs.

With $t$ what is predicted of a run (TPOT and TTFT), $y$ what was measured, $h$ the eight constants of a
server's host and $f$ the two factors of a stack, on decode steps and on prompts,

$$\min_{h, f} \sum_i \rho\Big(\frac{\ln t_i(h, f) - \ln y_i}{\sigma}\Big)
      + \sum \Big(\frac{x(h)}{\sigma_h}\Big)^2 + \sum \Big(\frac{\ln f}{\sigma_f}\Big)^2$$

a maximum a posteriori estimate, where $x$ is the logarithm of a constant over what it was before, or the
difference of the gap of a kernel, which may be below zero. One run cannot say ten numbers: each moves
as far as its prior is wide. What the kernels of a model are off goes to the factors of its stack, so that
the host is of use to other models on the server.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from perfmodel.calibration.anchors import robust
from perfmodel.calibration.serving import ClosedLoop, RunGroup, waits_of
from perfmodel.hardware.parameters import HostEfficiency, parameters
from perfmodel.library.fitted import FITTED, SERVING, from_file, hosts_of
from perfmodel.library.framework import frameworks
from perfmodel.units import Values, as_values

NOISE = np.array([0.05, 0.15])
"""Standard deviations of ln(measured / predicted) of TPOT and TTFT around a server's own host and factors.
Between loads of a deployment they are 0.09 and 0.25 where it has its framework's host (`KNOWN_CHIP`)."""

FACTOR_SPREADS = np.array([0.1, 0.1])
"""Standard deviations of the logarithms of a stack's factors on steps and on prompts: chosen, with `NOISE`,
on the open InferenceX runs (`python -m perfmodel.calibration.own_server_accuracy`). Wider ones take from the
host what other models would gain from; narrower ones give it what is of this model alone."""

SHARE_OF_SPREAD = 0.5
"""How far a server is from the host of its framework, over how far hosts of frameworks are from each other:
assumed, as versions and machines differ less than frameworks."""

OF_THE_SERVER = ("first_token", "per_prompt_token", "turnaround")
"""Constants that are a server's rather than a framework's, whose spread is taken whole: the way to it and
back, and its tokeniser."""

SIGNED = "per_kernel"
"""The constant that may be below zero."""

NAMES = tuple(field.name for field in parameters(HostEfficiency))

FLOOR = 1e-4
"""Of a constant, over its upper bound: one that is zero has no logarithm."""


class OwnServers(NamedTuple):
    """Runs, grouped by form, with the server and the stack of each.

    - `hosts`: of each server before the fit.
    - `servers`, `stacks`: of each run, in the order of the groups: places among servers and among stacks.
    """

    groups: list[RunGroup]
    hosts: list[HostEfficiency]
    servers: np.ndarray
    stacks: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        """Logarithms of TPOT and TTFT, of shape (n, 2); `nan` where not measured, and of a TTFT in which
        requests wait for KV-cache capacity."""
        runs = [run for group in self.groups for run in group.runs]
        times = np.array([(run.tpot, run.ttft) for run in runs])
        room = [
            np.asarray(one.loops.batch) >= np.asarray(one.loops.request.concurrency) * (1 - 1e-6)
            for one in self.groups
        ]
        times[~np.concatenate(room), 1] = np.nan
        return np.log(times)


class FittedServers(NamedTuple):
    """Hosts, the logarithms of factors with their variances, both of shape (stacks, 2)."""

    hosts: list[HostEfficiency]
    factors: np.ndarray
    variances: np.ndarray


@functools.cache
def host_spreads() -> np.ndarray:
    """Standard deviations of the constants of a server's host around its framework's: of those of
    `FITTED`, over the frameworks, those of `SHARE_OF_SPREAD`; in logarithms, or in s of `SIGNED`."""
    hosts = hosts_of(SERVING, FITTED)
    sections = [hosts[name]["bf16"] for name in hosts if name in frameworks()]
    found = [from_file(HostEfficiency, section) for section in sections]
    values = {name: np.array([host[name] for host in found]) for name in NAMES}
    spreads = [np.std(x if n == SIGNED else np.log(x), ddof=1) for n, x in values.items()]
    return np.array(spreads) * [1.0 if n in OF_THE_SERVER else SHARE_OF_SPREAD for n in NAMES]


def fit_servers(given: OwnServers, chosen: np.ndarray | None = None) -> FittedServers:
    """The most probable hosts and factors of servers and their stacks.

    Unknowns are solved for in standard deviations of their priors.

    **Arguments:**

    - `chosen`: which of the runs say anything; all if not given.
    """
    counts = len(given.hosts), int(given.stacks.max()) + 1
    start = np.array([_coordinates(host) for host in given.hosts])
    measured = given.measured
    if chosen is not None:
        measured = np.where(chosen[:, None], measured, np.nan)
    prior = np.concatenate([np.tile(host_spreads(), counts[0]), np.tile(FACTOR_SPREADS, counts[1])])
    places = _places(given, counts[0])

    @functools.lru_cache(maxsize=1)
    def evaluated(x: bytes) -> tuple[np.ndarray, np.ndarray]:
        return _evaluate(given, start, (np.frombuffer(x) * prior)[places])

    def residuals(x: np.ndarray) -> np.ndarray:
        missed = (evaluated(x.tobytes())[0] - measured) / NOISE
        return np.concatenate([robust(np.nan_to_num(missed)).ravel(), x])

    def slopes(x: np.ndarray) -> np.ndarray:
        times, own = evaluated(x.tobytes())
        missed = (times - measured) / NOISE
        weight = np.where(np.isfinite(missed), _robust_slope(np.nan_to_num(missed)) / NOISE, 0.0)
        dense = np.zeros((*missed.shape, len(x)))
        rows, quantities = np.arange(len(missed))[:, None, None], np.arange(2)[:, None]
        dense[rows, quantities, places[:, None]] = weight[..., None] * own * prior[places][:, None]
        return np.concatenate([dense.reshape(-1, len(x)), np.eye(len(x))])

    bounds = tuple(end / prior for end in _bounds(given, len(prior)))
    how: dict[str, Any] = {"jac": slopes, "bounds": bounds}
    found = least_squares(residuals, np.zeros(len(prior)), **how)
    moved = found.x * prior
    variances = np.diag(np.linalg.inv(found.jac.T @ found.jac)) * prior**2
    hosts = [_host(start[i], moved[at]) for i, at in enumerate(_of_hosts(counts[0]))]
    split, shape = len(NAMES) * counts[0], (counts[1], 2)
    return FittedServers(hosts, moved[split:].reshape(shape), variances[split:].reshape(shape))


def _of_hosts(count: int) -> np.ndarray:
    """Places of the coordinates of each host."""
    return np.arange(count * len(NAMES)).reshape(count, len(NAMES))


def _places(given: OwnServers, count: int) -> np.ndarray:
    """Places of the ten unknowns of each run: its host's and its stack's."""
    factors = len(NAMES) * count + 2 * given.stacks[:, None] + np.arange(2)
    return np.concatenate([_of_hosts(count)[given.servers], factors], axis=1)


def _robust_slope(missed: np.ndarray) -> np.ndarray:
    """The derivative of `robust`, by a central difference."""
    step = 1e-4
    return (robust(missed + step) - robust(missed - step)) / (2 * step)


# Constants as coordinates around what they were


def _coordinates(host: HostEfficiency) -> np.ndarray:
    """The constants of a host; none at zero, but that which may be."""
    floors = [-math.inf if f.name == SIGNED else FLOOR * f.metadata["high"] for f in _fields()]
    values = [float(getattr(host, name)) for name in NAMES]
    return np.maximum(values, floors)


def _fields() -> list[Any]:
    return list(parameters(HostEfficiency))


_SIGN = np.array([name == SIGNED for name in NAMES])


def _moved(start: Any, x: Any) -> Any:
    """Constants that coordinates mean; also of traced ones."""
    return jnp.where(_SIGN, start + x, start * jnp.exp(jnp.where(_SIGN, 0.0, x)))


def _host(start: np.ndarray, x: np.ndarray) -> HostEfficiency:
    values = np.asarray(_moved(as_values(start), as_values(x)), float)
    return HostEfficiency(**dict(zip(NAMES, values, strict=True)))


def _bounds(given: OwnServers, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the unknowns: the constants within theirs, the factors free."""
    low, high = np.full(count, -np.inf), np.full(count, np.inf)
    for host, own in zip(given.hosts, _of_hosts(len(given.hosts)), strict=True):
        at = _coordinates(host)
        ends = [np.array([f.metadata[end] for f in _fields()]) for end in ("low", "high")]
        high[own] = np.where(_SIGN, ends[1] - at, np.log(ends[1] / np.abs(at)))
        low[own] = np.where(_SIGN, ends[0] - at, -np.inf)
    margin = 1e-9  # a start on its bound is no start for SciPy
    return np.minimum(low, -margin), np.maximum(high, margin)


# Runs with their hosts and factors


def _log_times(loop: ClosedLoop, start: Values, x: Values) -> Values:
    """Logarithms of TPOT and TTFT of a run, by the ten unknowns."""
    host = _moved(start, x[: len(NAMES)])
    made = HostEfficiency(**{name: host[i] for i, name in enumerate(NAMES)})
    waits = waits_of(loop, made, jnp.exp(x[len(NAMES) :]))
    return jnp.log(jnp.stack([waits.tpot, waits.ttft]))


@jax.jit
def _with_slopes(loops: ClosedLoop, start: Values, x: Values) -> tuple[Values, Values]:
    """The same of all runs of a form, and their slopes by the unknowns."""

    def one(loop: ClosedLoop, at: Values, own: Values) -> tuple[Values, Values]:
        return _log_times(loop, at, own), jax.jacfwd(_log_times, 2)(loop, at, own)

    return jax.vmap(one)(loops, start, x)


def _evaluate(
    given: OwnServers, start: np.ndarray, unknowns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log times of all runs, of shape (n, 2), and their slopes, of shape (n, 2, 10)."""
    times, slopes, first = [], [], 0
    for group in given.groups:
        own = slice(first, first := first + len(group.runs))
        at = as_values(start[given.servers[own]])
        found = _with_slopes(jax.tree.map(as_values, group.loops), at, as_values(unknowns[own]))
        times.append(np.asarray(found[0], float))
        slopes.append(np.asarray(found[1], float))
    return np.concatenate(times), np.concatenate(slopes)


def log_times(given: OwnServers, fitted: FittedServers) -> np.ndarray:
    """Logarithms of TPOT and TTFT of all runs as fitted hosts and factors have them, of shape (n, 2)."""
    start = np.array([_coordinates(host) for host in fitted.hosts])
    unknowns = np.zeros((len(given.servers), len(NAMES) + 2))
    unknowns[:, len(NAMES) :] = fitted.factors[given.stacks]
    return _evaluate(given, start, unknowns)[0]
