"""NCCL, and the all-reduces that frameworks run themselves up to some size: seen in measured times, which
are NCCL's beyond. On Blackwell sizes differ.

`UNFUSED` is SGLang's where no norm is fused with it: the plain `custom_all_reduce.cuh`, which on Blackwell
gives way before two shots.
"""

from perfmodel.workload.backend import CollectiveBackend

MIB = 2.0**20

NCCL = CollectiveBackend("nccl", is_nccl=True)
SGLANG = CollectiveBackend("sglang", largest=32 * MIB)
VLLM = CollectiveBackend("vllm", largest=16 * MIB)
VLLM_BLACKWELL = CollectiveBackend("vllm_blackwell", largest=128 * MIB, power=2.0)
TRTLLM = CollectiveBackend("trtllm", largest=32 * MIB, power=2.0)
TRTLLM_BLACKWELL = CollectiveBackend("trtllm_blackwell", largest=2 * MIB, power=1.0)
SGLANG_UNFUSED = CollectiveBackend("unfused", largest=16 * MIB)
SGLANG_UNFUSED_BLACKWELL = CollectiveBackend("unfused_blackwell", largest=2 * MIB, power=1.0)
