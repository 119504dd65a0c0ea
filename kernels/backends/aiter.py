"""AMD's libraries of matrix products and mixtures on CDNA 3 and 4, as its tuner runs them.

The tuner of aiter (ROCm/aiter, `aiter/configs`) tries its own kernels, composable_kernel's and hipBLASLt's
for each shape, and keeps the fastest. It times the device alone, after other operands have gone through
the caches, and quantises activations before. What lies between two kernels is not in its times.
"""

from perfmodel.workload.backend import GemmBackend, MoeBackend

AITER = GemmBackend("aiter", timed_alone=True)
AITER_MOE = MoeBackend("aiter", timed_alone=True)
