"""Every way to spread a model over chips that agrees with what a row gives."""

import math
from typing import NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.deployment import Deployment, model_name
from perfmodel.inference.serving_row import GivenRanks


class Parallelism(NamedTuple):
    """A way to spread a model over chips.

    - `tp`, `pp`, `ep`, `dp`: tensor, pipeline and expert ranks, and data ranks of attention.
    - `replicas`: independent copies of all these, which share the users.
    """

    tp: float
    pp: float
    ep: float
    dp: float
    replicas: float = 1.0

    @property
    def ranks(self) -> tuple[float, ...]:
        """Of one replica: tp, pp, ep and dp."""
        return self[:-1]

    @property
    def chips(self) -> float:
        """In all."""
        return self.tp * self.pp * self.dp * self.replicas


SIZES = tuple(2.0**i for i in range(14))
"""Numbers of chips tried where none is given: the smallest on which the model fits is taken."""


def candidates(given: GivenRanks, deployment: Deployment) -> list[Parallelism]:
    """Every way to spread a row's model that agrees with what the row gives.

    Where the number of chips is given, data ranks and replicas are tried too; of one that is not, the
    smallest is wanted, which has none.

    **Raises:**

    - `InputError`: when there is none.
    """
    _check(given, deployment)
    parallelisms = [
        Parallelism(tp, pp, ep, dp, replicas)
        for count in _counts(given)
        for replicas in _replicas(given, deployment, count)
        for dp in _data_ranks(given, count / replicas)
        for tp, pp in _layouts(given, deployment, count / replicas / dp)
        for ep in _experts(given, deployment, tp * dp)
    ]
    if not parallelisms:
        product = "tp x pp x dp" + ("" if np.isnan(given.replicas) else " x replicas")
        raise InputError(
            f"{_ranks_given(given)}: that cannot be, for n_chips is {product}; leave one of them empty."
        )
    return list(dict.fromkeys(parallelisms))


def _check(given: GivenRanks, deployment: Deployment) -> None:
    """Refuse ranks that the model or the fast links of the chip cannot have."""
    heads = deployment.heads
    if not np.isnan(given.tp) and heads % given.tp:
        near = [size for size in SIZES if heads % size == 0]
        raise InputError(
            f"tp is {given.tp:.0f}, which does not divide the {heads:.0f} heads of {model_name(deployment)}; "
            f"the nearest that does is {min(near, key=lambda size: abs(size - given.tp)):.0f}."
        )
    if given.tp > deployment.domain:
        most = max(size for size in SIZES if size <= deployment.domain and heads % size == 0)
        raise InputError(
            f"tp is {given.tp:.0f}, but the fast links of {deployment.stem} join "
            f"{deployment.domain:.0f} chips; the nearest that works is tp {most:.0f}, with pp or dp for "
            "the rest."
        )
    if given.pp > deployment.layers:
        raise InputError(
            f"pp is {given.pp:.0f}, but may not be more than the {deployment.layers:.0f} layers "
            f"of {model_name(deployment)}."
        )
    if given.ep > 1 and np.isnan(deployment.experts):
        raise InputError(
            f"ep is {given.ep:.0f}, but {model_name(deployment)} has no experts; leave it empty, or give 1."
        )
    if given.ep > deployment.experts:
        raise InputError(
            f"ep is {given.ep:.0f}, but may not be more than the {deployment.experts:.0f} experts "
            f"of {model_name(deployment)}."
        )


def _replicas(given: GivenRanks, deployment: Deployment, count: float) -> list[float]:
    """Replicas to try: of a model without experts, data ranks are the same."""
    if not np.isnan(given.replicas):
        return [given.replicas]
    several = not np.isnan(given.n_chips) and not np.isnan(deployment.experts)
    return _divisors(count) if several else [1.0]


def _data_ranks(given: GivenRanks, count: float) -> list[float]:
    """Data ranks to try."""
    if not np.isnan(given.dp):
        return [given.dp]
    return [1.0] if np.isnan(given.n_chips) else _divisors(count)


def _divisors(count: float) -> list[float]:
    """Whole numbers that divide `count`, ascending."""
    low = [n for n in range(1, math.isqrt(int(count)) + 1) if count % n == 0]
    return [float(n) for n in sorted({*low, *(count // n for n in low)})]


def _counts(given: GivenRanks) -> list[float]:
    """Numbers of chips to try: multiples of what the row gives."""
    if not np.isnan(given.n_chips):
        return [given.n_chips]
    step = np.nanprod([given.tp, given.pp, given.dp, given.replicas])
    return [size * float(step) for size in SIZES]


def _ranks_given(given: GivenRanks) -> str:
    """The parallelism that a row gives, for a sentence."""
    numbers = {name: getattr(given, name) for name in ("n_chips", "tp", "pp", "dp", "replicas")}
    return ", ".join(f"{name} is {n:.0f}" for name, n in numbers.items() if not np.isnan(n))


def _layouts(given: GivenRanks, deployment: Deployment, count: float) -> list[tuple[float, float]]:
    """Tensor and pipeline ranks of `count` chips, of launched ones the most tensor ranks first; wafers
    follow one another."""
    if count != round(count):
        return []
    if not np.isnan(given.tp):
        ranks = [given.tp]
    elif deployment.wafer:
        ranks = [1.0]
    else:
        most = min(deployment.domain, count if np.isnan(given.pp) else count / given.pp)
        ranks = [n for n in _divisors(count) if n <= most and deployment.heads % n == 0]
    if deployment.chip.execution == "launched":
        ranks = ranks[::-1]
    stages = [
        (tp, count / tp) for tp in ranks if count % tp == 0 and count / tp <= deployment.layers
    ]
    return [layout for layout in stages if np.isnan(given.pp) or given.pp == layout[1]]


def _experts(given: GivenRanks, deployment: Deployment, ranks: float) -> list[float]:
    """Expert ranks to try: all ranks of a stage, as far as there are experts, or one."""
    if not np.isnan(given.ep):
        return [given.ep]
    return [1.0] if np.isnan(deployment.experts) else [min(ranks, deployment.experts), 1.0]
