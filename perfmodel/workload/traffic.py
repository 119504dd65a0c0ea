"""What is asked of a machine."""

import equinox as eqx

from perfmodel.units import Scalar, as_scalar


class Traffic(eqx.Module):
    """Sequences that are served at once.

    - `batch`: sequences in flight.
    - `prompt`, `output`: tokens of each, in and out.
    - `together`: prompts that start at the same time: all of a static batch, else one.
    """

    batch: Scalar = eqx.field(converter=as_scalar)
    prompt: Scalar = eqx.field(converter=as_scalar)
    output: Scalar = eqx.field(converter=as_scalar)
    together: Scalar = eqx.field(converter=as_scalar)
