"""Kernel libraries, one a file: all that is known of each, as one frozen object.

Facts about software, not chips: read in their sources, and seen in their measured times. What a framework
runs on an architecture is in `perfmodel/library/frameworks`.
"""

import dataclasses
from typing import Any, TypeVar

from perfmodel.kernels.backends import (
    aiter,
    cublas,
    flash_attention_2,
    flash_attention_3,
    flashinfer,
    nccl,
    triton_kernels,
    trtllm_gen,
    xpu,
    xqa,
)
from perfmodel.library.framework import find_version, library_of
from perfmodel.workload.backend import SMOOTH_ATTENTION, SMOOTH_MOE, Backend

Kind = TypeVar("Kind", bound=Backend)


def _by_name(*backends: Kind) -> dict[str, Kind]:
    return {backend.name: backend for backend in backends}


ATTENTION_BACKENDS = _by_name(
    SMOOTH_ATTENTION,
    flash_attention_2.FLASH_ATTENTION_2,
    flash_attention_3.FLASH_ATTENTION_3,
    flash_attention_3.FLASH_ATTENTION_3_SGLANG,
    flashinfer.FLASHINFER,
    flashinfer.FLASHINFER_SGLANG,
    trtllm_gen.TRTLLM_GEN,
    trtllm_gen.FLASHINFER_TRTLLM_GEN,
    xpu.XPU,
    xqa.XQA,
    xqa.XQA_HOPPER,
)
GEMM_BACKENDS = _by_name(cublas.VENDOR, cublas.CUBLAS_ADA, cublas.CUBLAS_ADA_TRTLLM, aiter.AITER)
MOE_BACKENDS = _by_name(
    SMOOTH_MOE,
    triton_kernels.TRITON_KERNELS,
    trtllm_gen.TRTLLM_GEN_MOE,
    trtllm_gen.FLASHINFER_TRTLLM_GEN_MOE,
    aiter.AITER_MOE,
)
COLLECTIVE_BACKENDS = _by_name(
    nccl.NCCL,
    nccl.SGLANG,
    nccl.VLLM,
    nccl.VLLM_BLACKWELL,
    nccl.TRTLLM,
    nccl.TRTLLM_BLACKWELL,
    nccl.SGLANG_UNFUSED,
    nccl.SGLANG_UNFUSED_BLACKWELL,
)


AMD = {
    "gemm_backend": dataclasses.replace(aiter.AITER, fuses_quantisation=True),
    "moe_backend": aiter.AITER_MOE,
}

FASTEST: dict[str, dict[str, Any]] = {"cdna3": AMD, "cdna4": AMD}
"""Of architectures whose fastest kernels are one library's: what the smooth form takes there."""


def backends_of(
    framework: str, architecture: str, cache: str = "bf16", unfused: bool = False
) -> dict[str, Any]:
    """What a plan says of kernel libraries: those of a framework's version on an architecture.

    **Arguments:**

    - `framework`: the version's word; empty for the smooth form.
    - `cache`: format of the KV cache.
    - `unfused`: whether no norm is fused with an all-reduce.
    """
    if not framework:
        return FASTEST.get(architecture, {})
    version = find_version(framework)
    collective = version.unfused_collective if unfused else version.collective
    attention, gemm, moe, collective = (
        library_of(choices, architecture, cache)
        for choices in (version.attention, version.gemm, version.moe, collective)
    )
    return {
        "attention_backend": ATTENTION_BACKENDS[attention or "smooth"],
        "gemm_backend": dataclasses.replace(
            GEMM_BACKENDS[gemm or "vendor"], fuses_quantisation=version.fuses_quantisation
        ),
        "moe_backend": MOE_BACKENDS[moe or "smooth"],
        **({"collective_backend": COLLECTIVE_BACKENDS[collective]} if collective else {}),
    }
