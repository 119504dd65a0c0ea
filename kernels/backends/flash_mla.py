"""FlashMLA: latents in decode steps on Hopper, as TensorRT-LLM, vLLM and SGLang run it.

vLLM and SGLang turn a cache of latents in fp8 into bf16 before it is read.
"""

from perfmodel.kernels.backends.flash_attention_2 import ROWS
from perfmodel.workload.backend import LATENT_TILE, AttentionBackend, DecodeShape, Partition

UNPACKED_BYTES = 10.0
"""Bytes moved for each number of a cache in fp8 that is first turned into bf16: one is read, two
written, and so on through copies of the latents and of their rotated part."""


class FlashMLA(AttentionBackend):
    """In tiles of 64 rows."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        ones = free.min_splits
        return free._replace(kv_tile=ones * LATENT_TILE, row_tile=ones * ROWS)


class UnpackingFlashMLA(FlashMLA):
    """The same, where a cache in fp8 is unpacked before."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        unpacked = UNPACKED_BYTES if shape.cache == "fp8" else 0.0
        partition = super().partition(shape, free)
        return partition._replace(unpacked_bytes=free.min_splits * unpacked)


FLASH_MLA = FlashMLA("flash_mla")
UNPACKING_FLASH_MLA = UnpackingFlashMLA("unpacking_flash_mla")
