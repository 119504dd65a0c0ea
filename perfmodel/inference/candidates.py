"""Every way to spread a model over chips that agrees with what a row gives."""

from typing import NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.deployment import Deployment, model_name
from perfmodel.inference.serving_row import ServingRow


class Parallelism(NamedTuple):
    """A way to spread a model over chips."""

    tp: float
    pp: float
    ep: float
    dp: float

    @property
    def chips(self) -> float:
        """In all."""
        return self.tp * self.pp * self.dp


SIZES = tuple(2.0**i for i in range(14))
"""Numbers of chips tried where none is given: the smallest on which the model fits is taken."""


def candidates(row: ServingRow, given: Deployment, copies: bool = False) -> list[Parallelism]:
    """Every way to spread a row's model that agrees with what the row gives.

    **Arguments:**

    - `copies`: whether several copies of the model, on fewer chips each, are ways too.

    **Raises:**

    - `InputError`: when there is none.
    """
    heads = given.heads
    if not np.isnan(row.tp) and heads % row.tp:
        near = [size for size in SIZES if heads % size == 0]
        raise InputError(
            f"tp is {row.tp:.0f}, which does not divide the {heads:.0f} heads of {model_name(given)}; "
            f"the nearest that does is {min(near, key=lambda size: abs(size - row.tp)):.0f}."
        )
    if row.tp > given.domain:
        most = max(size for size in SIZES if size <= given.domain and heads % size == 0)
        raise InputError(
            f"tp is {row.tp:.0f}, but the fast links of {given.stem} join {given.domain:.0f} chips; "
            f"the nearest that works is tp {most:.0f}, with pp or dp for the rest."
        )
    if row.pp > given.layers:
        raise InputError(
            f"pp is {row.pp:.0f}, but may not be more than the {given.layers:.0f} layers "
            f"of {model_name(given)}."
        )
    if row.ep > 1 and np.isnan(given.experts):
        raise InputError(
            f"ep is {row.ep:.0f}, but {model_name(given)} has no experts; leave it empty, or give 1."
        )
    if row.ep > given.experts:
        raise InputError(
            f"ep is {row.ep:.0f}, but may not be more than the {given.experts:.0f} experts "
            f"of {model_name(given)}."
        )
    found = [
        Parallelism(tp, pp, _experts(row, given, tp * dp), dp)
        for count in _counts(row)
        for dp in _data_ranks(row, count, copies)
        for tp, pp in _layouts(row, given, count / dp, copies)
    ]
    if not found:
        raise InputError(
            f"{_given(row)}: that cannot be, for n_chips is tp x pp x dp; leave one of them empty."
        )
    return list(dict.fromkeys(found))


def _data_ranks(row: ServingRow, count: float, copies: bool) -> list[float]:
    """Data ranks to try."""
    if not np.isnan(row.dp):
        return [row.dp]
    return [n for n in range(1, int(count) + 1) if count % n == 0] if copies else [1.0]


def _counts(row: ServingRow) -> list[float]:
    """Numbers of chips to try: multiples of what the row gives."""
    if not np.isnan(row.n_chips):
        return [row.n_chips]
    step = np.nanprod([row.tp, row.pp, row.dp])
    return [size * float(step) for size in SIZES]


def _given(row: ServingRow) -> str:
    """The parallelism that a row gives, for a sentence."""
    numbers = {name: getattr(row, name) for name in ("n_chips", "tp", "pp", "dp")}
    return ", ".join(f"{name} is {n:.0f}" for name, n in numbers.items() if not np.isnan(n))


def _layouts(
    row: ServingRow, given: Deployment, count: float, copies: bool
) -> list[tuple[float, float]]:
    """Tensor and pipeline ranks of `count` chips; launched ones take all tensor ranks of a
    domain, wafers follow one another."""
    if given.wafer and np.isnan(row.tp):
        ranks = [1.0]
    elif not np.isnan(row.tp):
        ranks = [row.tp]
    else:
        most = min(given.domain, count if np.isnan(row.pp) else count / row.pp)
        ranks = [n for n in SIZES if n <= most and given.heads % n == 0 and count % n == 0]
        most_only = given.chip.execution == "launched" and not copies
        ranks = ranks[-1:] if most_only else ranks
    stages = [(tp, count / tp) for tp in ranks if count % tp == 0 and count / tp <= given.layers]
    return [layout for layout in stages if np.isnan(row.pp) or row.pp == layout[1]]


def _experts(row: ServingRow, given: Deployment, ranks: float) -> float:
    """Experts are spread over all ranks of a stage, as far as there are experts."""
    if not np.isnan(row.ep):
        return row.ep
    return 1.0 if np.isnan(given.experts) else min(ranks, given.experts)
