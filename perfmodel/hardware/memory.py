"""One level of the memory hierarchy."""

import equinox as eqx

from perfmodel.units import Scalar, as_scalar


class Memory(eqx.Module):
    """One of the four tiers of a chip; a tier that is not there has capacity zero.

    - `capacity`: in bytes.
    - `bandwidth`: peak, reads plus writes, in bytes/s.
    - `energy`: of moving one byte, in J.
    - `usable`: share of the capacity that may hold weights and KV cache, in [0, 1];
      0 for a cache that the hardware manages, or for a tier one does not serve from.
    - `multicast`: cores that one read serves at once.
    - `parts`: of a cache that keep copies of their own of what all cores read.
    - `staged`: 1 for a scratchpad, which each kernel fills anew and ahead of use (by DMA, the next block
      during this one); 0 for a cache that the hardware manages.
    - `reported`: bytes that the driver reports to software, over the capacity as it is sold.
    - `block_bandwidth`: that one block of work draws of it, in bytes/s, and `core_bandwidth`, that a core
      reads with several blocks in flight; 0 where one block on each core draws an even share of all.
    """

    capacity: Scalar = eqx.field(converter=as_scalar)
    bandwidth: Scalar = eqx.field(converter=as_scalar)
    energy: Scalar = eqx.field(converter=as_scalar)
    usable: Scalar = eqx.field(converter=as_scalar)
    multicast: Scalar = eqx.field(converter=as_scalar, default=1.0)
    parts: Scalar = eqx.field(converter=as_scalar, default=1.0)
    staged: Scalar = eqx.field(converter=as_scalar, default=0.0)
    block_bandwidth: Scalar = eqx.field(converter=as_scalar, default=0.0)
    core_bandwidth: Scalar = eqx.field(converter=as_scalar, default=0.0)
    reported: Scalar = eqx.field(converter=as_scalar, default=1.0)

    @property
    def reported_capacity(self) -> Scalar:
        """Bytes that the driver reports to software."""
        return self.capacity * self.reported

    @property
    def usable_capacity(self) -> Scalar:
        """Bytes open to weights and KV cache."""
        return self.capacity * self.usable


NO_TIER = (0.0, 0.0, 0.0, 0.0)
"""Arguments of a tier that is not there."""
