r"""What fits of other chips say of one that was never measured: a Gaussian model of fitted parameters.

Of each parameter the free number (`fit.to_free`), less that of the prior, is a sum of independent parts:
one of the family, of a framework, of a format and of both together, of the bytes of the operands, of the
format that is multiplied; and parts of the chip, by which chips are the more alike the nearer their
datasheets lie,

$$\operatorname{cov} = \sum_i a_i [\text{same}_i] + e^{-\sum_k d_k \Delta_k} \sum_j b_j [\text{same}_j].$$

A fit adds an error of its own, which its curvature tells: what no row depended on says nothing. The mean
given all fits is in closed form. Which variances: `calibration.joint`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perfmodel.calibration.data.measurements import plan_of
from perfmodel.calibration.sections import section_of
from perfmodel.kernels.attention_prefill import prompt_format
from perfmodel.kernels.gemm import product_format
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.chip import chip_files
from perfmodel.units import Scalar
from perfmodel.workload.precision import FORMATS

SHARED_MEMORY_OPERANDS = ("hopper", "blackwell", "rubin")
"""Architectures whose matrix units read shared memory themselves (wgmma, tcgen05): a kind. Those of all
others are fed from registers."""

MULTIPLIED = {
    "gemm": product_format,
    "attention_prefill": prompt_format,
    "mla_prefill": prompt_format,
}
"""Families whose products may be in another format than the one that they are filed by."""


def multiplied(key: Key) -> str:
    """The format in which a key's kernel multiplies; that of its section where the two are one."""
    family, _, dtype = section_of(key)
    plan = plan_of(key, chip_files()[key.chip].architecture)
    return MULTIPLIED[family](plan) if family in MULTIPLIED else dtype


def relative_rate(key: Key) -> float:
    """The matrix rate of the format in which a key's products are, over that in bf16; of other kernels 1."""
    if key.op != "gemm":
        return 1.0
    rates = chip_files()[key.chip].matrix
    kind = multiplied(key)
    return rates[kind].si("FLOP/s") / rates["bf16"].si("FLOP/s") if kind in rates else 1.0


# What fits have in common

SAME = ("all", "framework", "format", "operands", "framework_format", "multiplied")
"""What two fits may have in common, one part of the variance each."""

ON_CHIP = SAME[:5]
"""Those that chips have a part of their own of."""

FEATURES = ("matrix_units", "vendor", "memory", "rate", "year")
"""By what chips differ: how matrix units are fed, vendor, HBM or not, FLOPs of a core and cycle, year."""

YEARS = 3.0
"""Years that count as one: about a generation."""


Numbers = Array | np.ndarray
"""Of NumPy where they are made, of JAX where they are fitted."""


class Fitted(NamedTuple):
    """What tells a section of parameters from another of its family."""

    chip: str
    framework: str
    dtype: str
    multiplied: str

    @classmethod
    def of(cls, key: Key) -> "Fitted":
        """That of a key."""
        _, framework, dtype = section_of(key)
        return cls(key.chip, framework, dtype, multiplied(key))


class Alike(NamedTuple):
    """Of each fit of one list and each of another: whether they have in common what `SAME` says, and by how
    much their chips differ in `FEATURES`.
    """

    same: Float[Numbers, "parts one other"]
    distance: Float[Numbers, "features one other"]


def alike(ones: Sequence[Fitted], others: Sequence[Fitted], size: int = 0) -> Alike:
    """What fits of two lists have in common, zero beyond their ends up to `size` of the others."""
    pairs = [
        [(_same(one, other), _distance(one.chip, other.chip)) for other in others] for one in ones
    ]
    beyond = ((0, 0), (0, 0), (0, max(0, size - len(others))))
    both = (np.array([[pair[i] for pair in row] for row in pairs], float) for i in (0, 1))
    return Alike(*(np.pad(np.moveaxis(one, -1, 0), beyond) for one in both))


def _same(one: Fitted, other: Fitted) -> tuple[bool, ...]:
    framework, dtype = one.framework == other.framework, one.dtype == other.dtype
    operands = _operands(one.dtype) == _operands(other.dtype)
    products = one.multiplied == other.multiplied
    return True, framework, dtype, operands, framework and dtype, products


def _operands(dtype: str) -> object:
    """Bytes of weights and activations without their scales; an unpacked cache is alike to itself alone."""
    if dtype not in FORMATS:
        return dtype
    return tuple(2.0 ** round(float(np.log2(size))) for size in FORMATS[dtype][:2])


@functools.cache
def _distance(one: str, other: str) -> tuple[float, ...]:
    a, b = chip_files()[one], chip_files()[other]
    fed = reads_shared_memory(one) != reads_shared_memory(other)
    rate = np.log(_flops_per_cycle(one) / _flops_per_cycle(other))
    years = (a.year - b.year) / YEARS
    return fed, a.vendor != b.vendor, _has_hbm(one) != _has_hbm(other), rate**2, years**2


def reads_shared_memory(chip: str) -> bool:
    """Whether a chip's matrix units do."""
    return chip_files()[chip].architecture in SHARED_MEMORY_OPERANDS


def _has_hbm(chip: str) -> bool:
    main = chip_files()[chip].main
    return main is not None and "HBM" in main.kind


def _flops_per_cycle(chip: str) -> float:
    """Of a core's matrix units, in bf16."""
    file = chip_files()[chip]
    rate = file.matrix["bf16"] if "bf16" in file.matrix else next(iter(file.matrix.values()))
    assert file.cores is not None and file.clock is not None, chip
    return rate.si("FLOP/s") / file.cores.value / file.clock.si("1/s")


# The model

OWNERS = ("chip", "framework")
"""Of a parameter: a framework's has variances of its own; a server's and a benchmark's go with the chip's."""


class Components(NamedTuple):
    """Logarithms of variances, by owner and part; of what a difference counts; and of the fits' errors.

    - `common`: of the parts in `SAME`; `chip`: of the parts of chips.
    - `distance`: how fast chips become unlike with each of `FEATURES`.
    - `error`: factor on the errors of fits.
    """

    common: Float[Numbers, "owners parts"]
    chip: Float[Numbers, "owners chip_parts"]
    distance: Float[Numbers, " features"]
    error: Scalar | np.floating


class Known(NamedTuple):
    """Fits of a family: what they have in common, free numbers less the prior's, and their errors."""

    alike: Alike
    values: Float[Array, "fits parameters"]
    errors: Float[Array, "fits parameters"]


JITTER = 1e-3
"""Variance added to each fit: a thirtieth of a factor of e, so that no two are the same."""


def posterior_mean(
    components: Components, known: Known, asked: Alike, owners: Float[Array, " parameters"]
) -> Float[Array, "asked parameters"]:
    """The free numbers, less the prior's, that are expected given the fits that are known.

    **Arguments:**

    - `asked`: what those that are wanted have in common with the known ones.
    - `owners`: of each parameter its place in `OWNERS`.
    """

    def one(values: Array, errors: Array, owner: Array) -> Array:
        variances = jnp.square(errors * jnp.exp(components.error)) + JITTER
        between = covariance(components, owner, known.alike) + jnp.diag(variances)
        return covariance(components, owner, asked) @ jnp.linalg.solve(between, values)

    return jax.vmap(one, in_axes=(1, 1, 0), out_axes=1)(known.values, known.errors, owners)


def covariance(components: Components, owner: Array, pairs: Alike) -> Array:
    """Of a parameter of an owner between the fits of two lists."""
    near = jnp.exp(-jnp.tensordot(jnp.exp(components.distance), pairs.distance, 1))
    common = jnp.tensordot(jnp.exp(components.common[owner]), pairs.same, 1)
    return common + near * jnp.tensordot(
        jnp.exp(components.chip[owner]), pairs.same[: len(ON_CHIP)], 1
    )
