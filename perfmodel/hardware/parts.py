"""The physical parts of a die: what was made, not what is sold as enabled."""

import equinox as eqx

from perfmodel.units import Scalar, as_scalar


class Parts(eqx.Module):
    """What one die holds. Any part may be zero.

    - `sram`: bytes of SRAM outside of register files, over all levels.
    - `registers`: bytes of register files.
    - `matrix`: bf16 FLOPs of the matrix units in a clock, dense.
    - `vector`: fp32 FLOPs of the vector units in a clock.
    - `double`: fp64 FLOPs of the vector units in a clock.
    - `cores`: that fetch their own instructions.
    - `stacks`: memory devices: stacks beside the die (HBM), or chips and channels off the package.
    - `link`: bytes/s in one direction over links to other chips and the host.
    - `bridge`: bytes/s in one direction to dies beside it in the package; `bonds`: to dies that it is
      stacked on or carries.
    - `crossbar`: bytes/s between cores and SRAM that they share.
    - `clock`: in 1/s.
    - `threaded`: share of the vector units that run SIMT threads; 1 on GPUs, 0 elsewhere.
    - `graphics`: share of the cores that also draw (textures, rays, raster); 1 or 0.
    - `base`: 1 for a die with pads and a host interface of its own, 0 for one that is stacked on another.
    """

    sram: Scalar = eqx.field(converter=as_scalar)
    registers: Scalar = eqx.field(converter=as_scalar, default=0.0)
    matrix: Scalar = eqx.field(converter=as_scalar, default=0.0)
    vector: Scalar = eqx.field(converter=as_scalar, default=0.0)
    double: Scalar = eqx.field(converter=as_scalar, default=0.0)
    cores: Scalar = eqx.field(converter=as_scalar, default=0.0)
    stacks: Scalar = eqx.field(converter=as_scalar, default=0.0)
    link: Scalar = eqx.field(converter=as_scalar, default=0.0)
    bridge: Scalar = eqx.field(converter=as_scalar, default=0.0)
    bonds: Scalar = eqx.field(converter=as_scalar, default=0.0)
    crossbar: Scalar = eqx.field(converter=as_scalar, default=0.0)
    clock: Scalar = eqx.field(converter=as_scalar, default=1e9)
    threaded: Scalar = eqx.field(converter=as_scalar, default=0.0)
    graphics: Scalar = eqx.field(converter=as_scalar, default=0.0)
    base: Scalar = eqx.field(converter=as_scalar, default=1.0)
