r"""The variances of the model of shared parameters, fitted jointly to all tables by gradient (optax).

Each chip is left out in turn: what the others' fits say of its parameters, less what its own are, is an error
$\delta$, and $\sqrt{\delta^T C \delta}$ with the curvature $C$ of its fit about the error of its rows, in
logarithms. Adam takes minibatches of families and left-out chips; a ridge holds the variances where they
start.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from perfmodel.calibration.data.measurements import Measurements, benchmark_chip
from perfmodel.calibration.fit import from_free, predict, to_free, with_family
from perfmodel.calibration.protocol import MEASURED
from perfmodel.calibration.sections import section_of
from perfmodel.calibration.shared import (
    SHARED,
    FamilyFits,
    family_fits,
    known_fits,
    owners_of,
    written_components,
)
from perfmodel.calibration.similarity import (
    Alike,
    Components,
    Fitted,
    Known,
    alike,
    posterior_mean,
)
from perfmodel.calibration.split import part_of, pick
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import FAMILIES, read_prior
from perfmodel.units import Values, as_values
from perfmodel.workload.plan import Plan

JOINT_FAMILIES = (
    "gemm",
    "attention_prefill",
    "attention_decode",
    "mla_decode",
    "mla_prefill",
    "moe",
)
"""Families whose fits are pooled over chips."""


def joint_choice(
    chips: Sequence[str], exclude_chips: Sequence[str], ops: Sequence[str]
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Chips, chips left out and operations: where none are given the protocol's, and the families'."""
    return chips or MEASURED, exclude_chips, ops or JOINT_FAMILIES


ROWS = 512
"""Training rows of a table from which the curvature of its fit is read."""

INDEPENDENT = 10.0
"""Rows that count as independent: shapes of a table are alike, and forms are off by the same on many. Of 10,
30 and 100 the one with the least error on chips that were left out."""

WIDTH = 3.0
"""Standard error of a free number that no row depends on."""

LEAST_SPREAD = 0.03
"""Of the errors of a fit, in logarithms: what forms are off by at best."""


class Curvature(NamedTuple):
    """Of a table's fit: mean squares of what free numbers change in log time, and the errors of these."""

    key: Key
    squares: np.ndarray
    errors: np.ndarray


@eqx.filter_jit
def _jacobian(op: str, chip: Chip, plan: Plan, columns: dict[str, Values], family: str) -> Array:
    fitted = getattr(chip.efficiency, family)

    def logs(free: Values) -> Values:
        moved = with_family(chip, family, from_free(type(fitted), free))
        return jnp.log(predict(op, moved, plan, columns))

    return jax.jacfwd(logs)(to_free(fitted))


def curvature(table: Measurements, folder: Path) -> Curvature:
    """How well the rows of a table tell the parameters of its shipped fit."""
    key, family = table.key, section_of(table.key)[0]
    chip, plan = benchmark_chip(key, folder)
    places = pick(key.op, table.shape, part_of(key.op, table.shape) == "train", ROWS, 0)
    # Rows are repeated up to one number of them, so that a form is compiled once.
    rows = table.take(np.resize(places, ROWS))
    slopes = np.asarray(_jacobian(key.op, chip, plan, rows.values, family), float)
    missed = np.log(np.asarray(predict(key.op, chip, plan, rows.values)) / rows.time)
    spread = max(float(np.median(np.abs(missed))) / MEDIAN_OF_NORMAL, LEAST_SPREAD)
    squares = np.nan_to_num(slopes).T @ np.nan_to_num(slopes) / ROWS
    weight = INDEPENDENT / spread**2 * min(1.0, len(places) / ENOUGH_ROWS)
    inverse = np.linalg.inv(weight * squares + np.eye(len(squares)) / WIDTH**2)
    return Curvature(key, squares, np.sqrt(np.diag(inverse)))


MEDIAN_OF_NORMAL = 0.6745
"""Median of the absolute value of a normal variable, in standard deviations."""

ENOUGH_ROWS = 300
"""Rows from which a table counts in full."""


def standard_errors(found: Sequence[Curvature]) -> dict[str, Any]:
    """The errors of the fits as they are written: by family, chip, framework and format."""
    table: dict[str, Any] = {}
    for one in found:
        family, framework, dtype = section_of(one.key)
        names = [field.name for field in parameters(FAMILIES[family])]
        rounded = {n: float(f"{x:.2g}") for n, x in zip(names, one.errors, strict=True)}
        formats = (
            table.setdefault(family, {}).setdefault(one.key.chip, {}).setdefault(framework, {})
        )
        formats[dtype] = rounded
    return table


# Chips left out

MOST_TABLES, MOST_PARAMETERS = 24, 18
"""Of a family on a chip: tables, and parameters. All are padded to as many."""


class LeftOut(NamedTuple):
    """A family and a chip that is left out: the other chips' fits, and its own.

    - `asked`, `values`, `squares`, `weight`: of its tables.
    """

    known: Known
    owners: Values
    asked: Alike
    values: Float[Array, "tables parameters"]
    squares: Float[Array, "tables parameters parameters"]
    weight: Float[Array, " tables"]


def left_out(found: Sequence[Curvature], folder: Path, size: int) -> Iterator[LeftOut]:
    """Each chip of each family, with the fits of all other chips.

    **Arguments:**

    - `size`: fits of a family at most, to which all are padded.
    """
    errors, prior = standard_errors(found), read_prior("launched", folder)
    for family, chips in errors.items():
        for chip in chips:
            others = [name for name in chips if name != chip]
            theirs = family_fits(family, others, errors[family], folder, prior[family])
            own = family_fits(family, [chip], errors[family], folder, prior[family])
            if theirs.fits:
                alone = [one for one in found if section_of(one.key)[0] == family]
                squares = {Fitted.of(one.key): one.squares for one in alone}
                yield _padded(known_fits(theirs, size), own, squares, theirs.fits, family)


def _padded(
    known: Known,
    own: FamilyFits,
    squares: dict[Fitted, np.ndarray],
    theirs: Sequence[Fitted],
    family: str,
) -> LeftOut:
    tables, wide = len(own.fits), MOST_PARAMETERS - own.values.shape[1]
    rows = (0, MOST_TABLES - tables)
    asked = alike(own.fits, theirs, known.values.shape[0])
    curved = np.stack([squares[one] for one in own.fits])
    beside = ((0, 0), (0, wide))
    return LeftOut(
        known._replace(values=jnp.pad(known.values, beside), errors=jnp.pad(known.errors, beside)),
        jnp.pad(owners_of(family), (0, wide)),
        Alike(*(as_values(np.pad(one, ((0, 0), rows, (0, 0)))) for one in asked)),
        as_values(np.pad(own.values, (rows, (0, wide)))),
        as_values(np.pad(curved, (rows, (0, wide), (0, wide)))),
        as_values(np.pad(np.full(tables, 1 / tables), rows)),
    )


def missed(components: Components, one: LeftOut) -> Array:
    """The mean error of the rows of a chip that is left out, from 0 to 1."""
    moved = posterior_mean(components, one.known, one.asked, one.owners) - one.values
    squared = jnp.einsum("tp,tpq,tq->t", moved, one.squares, moved)
    error = jnp.sqrt(squared + SMALL_ERROR**2)
    # Of far more than 1 the curvature says nothing.
    return jnp.sum(one.weight * error / (1 + error))


SMALL_ERROR = 0.01
"""Below which the loss is quadratic."""

# The fit

START = Components(
    common=np.log([[0.2, 0.1, 0.05, 0.05, 0.1, 0.05], [0.2, 0.3, 0.05, 0.05, 0.3, 0.05]]),
    chip=np.log([[0.2, 0.05, 0.05, 0.05, 0.05], [0.1, 0.025, 0.025, 0.025, 0.025]]),
    distance=np.log([1.0, 1.0, 0.5, 0.2, 0.2]),
    error=np.log(3.0),
)
"""Where the variances start: half a factor of e for a family and for a chip, less for what they share with
some fits alone, and a framework's own parameters three times as much its own."""

RIDGE = 0.01
"""Weight of the squares of the variances' logarithms less those they start from."""

STEPS, RATE, BATCH = 150, 0.05, 8
"""Of Adam; and left-out chips and families in a step."""


def fit_components(parts: Sequence[LeftOut], seed: int = 0) -> Components:
    """The variances with the least error on chips that are left out."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    start = jax.tree.map(as_values, START)
    solver = optax.adam(RATE)

    def loss(found: Components, batch: LeftOut) -> Array:
        errors = jax.vmap(missed, in_axes=(None, 0))(found, batch)
        moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), found, start)
        return jnp.mean(errors) + RIDGE * sum(jax.tree.leaves(moved))

    @jax.jit
    def step(found: Components, state: Any, places: Array) -> tuple[Components, Any]:
        batch = jax.tree.map(lambda leaf: leaf[places], stacked)
        updates, state = solver.update(jax.grad(loss)(found, batch), state)
        return cast(Components, optax.apply_updates(found, updates)), state

    found, state, draws = start, solver.init(start), np.random.default_rng(seed)
    # optax counts its steps in whole numbers, and takes powers of numbers of the loss with them.
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(STEPS):
            places = draws.permutation(len(parts))[:BATCH]
            found, state = step(found, state, jnp.asarray(places))
    return found


def calibrate_joint(
    tables: Collection[Measurements],
    folder: Path,
    out: Path,
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[float, float]:
    """Fit the variances to the tables of all chips, and write them with the errors of the fits.

    **Arguments:**

    - `folder`: of the fits.

    **Returns:**

    The mean error on chips that are left out, from 0 to 1, where the variances start and after the fit.

    **Raises:**

    - `InputError`: when no table, or only those of one chip, can say anything.
    """
    found = []
    for table in tables:
        if table.key.framework and section_of(table.key)[0] in JOINT_FAMILIES:
            progress(f"{table.key.op} {table.key.chip}")
            found.append(curvature(table, folder))
    if not found:
        raise InputError(
            f"no table is of {', '.join(JOINT_FAMILIES)}; give --ops or --data with some."
        )
    parts = list(left_out(found, folder, max(_count(found).values())))
    progress("variances")
    if not parts:
        raise InputError(
            "one chip says nothing of another; give --data with tables of several chips."
        )
    fitted = fit_components(parts, seed)
    content = written_components(fitted) | {"errors": standard_errors(found)}
    write_toml(out / f"{SHARED}.toml", content)
    ends = (jax.tree.map(as_values, START), fitted)
    before, after = (float(np.mean([missed(one, part) for part in parts])) for one in ends)
    return before, after


def _count(found: Sequence[Curvature]) -> dict[str, int]:
    families = [section_of(one.key)[0] for one in found]
    return {family: families.count(family) for family in families}
