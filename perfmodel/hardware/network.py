"""Links between chips."""

from typing import Literal, get_args

import equinox as eqx

from perfmodel.units import Scalar, as_scalar

Topology = Literal["link", "switch", "torus", "mesh"]
TOPOLOGIES = get_args(Topology)


class Network(eqx.Module):
    """A network that joins equal chips.

    - `bandwidth`: of one chip, each direction, all its links together, in bytes/s.
    - `latency`: of one message between neighbours, software included, in s.
    - `size`: the most chips it joins.
    - `energy`: of sending one byte, in J.
    - `topology`: `link` (pairs, or host bridges that are shared), `switch` (any to any at
      full rate), `torus` or `mesh` (neighbours only).
    - `reduces`: whether the switch adds up what passes through it (NVLink SHARP).
    """

    bandwidth: Scalar = eqx.field(converter=as_scalar)
    latency: Scalar = eqx.field(converter=as_scalar)
    size: Scalar = eqx.field(converter=as_scalar)
    energy: Scalar = eqx.field(converter=as_scalar)
    topology: Topology = eqx.field(static=True)
    reduces: bool = eqx.field(static=True, default=False)
