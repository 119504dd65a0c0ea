"""Serving frameworks, and which attention backend each runs on which architecture.

Facts read in the frameworks' sources (vLLM 0.14 to 0.24, SGLang 0.5, TensorRT-LLM 1.3; vLLM 0.5 has
FlashAttention 2 on Hopper too, `vllm-flash-attn` 2.5 and 2.6).
"""

from typing import Literal, get_args

Framework = Literal["trtllm", "vllm", "sglang", "nccl"]
FRAMEWORKS = get_args(Framework)

GENERATIONS: dict[str, Framework] = {
    "vllm-0.5": "vllm",
    "vllm-rocm-0.6": "vllm",
    "trtllm-engine": "trtllm",
}
"""Older software, and the framework whose rules it shares: vLLM 0.5, vLLM 0.6 on ROCm, and TensorRT-LLM
while it ran engines of TensorRT (up to 0.18). Parameters that differed: `library/generations.toml`."""

READS_FOR_EACH_HEAD = ("vllm-rocm-0.6",)
"""Generations whose attention of decode steps reads the cache once for each query head, not for a group of
them (`paged_attention_v1` and `v2` of vLLM: a block a head)."""

Backend = Literal[
    "smooth",
    "fa2",
    "fa3",
    "fa3_padded",
    "flashinfer",
    "xqa",
    "xqa_hopper",
    "trtllm_gen",
    "xpu",
    "triton",
    "latent_gen",
    "latent_triton",
    "latent_hopper",
    "latent_flash",
]

Library = Literal["any", "cublas_ada"]

BACKENDS: dict[tuple[str, str], Backend] = {
    ("vllm", "ampere"): "fa2",
    ("vllm", "ada"): "fa2",
    ("vllm", "hopper"): "fa3",
    ("vllm", "blackwell"): "trtllm_gen",
    ("sglang", "ampere"): "flashinfer",
    ("sglang", "ada"): "flashinfer",
    ("sglang", "hopper"): "fa3_padded",
    ("sglang", "blackwell"): "trtllm_gen",
    ("trtllm", "ampere"): "xqa",
    ("trtllm", "ada"): "xqa",
    ("trtllm", "hopper"): "xqa_hopper",
    ("trtllm", "blackwell"): "trtllm_gen",
    ("vllm-0.5", "hopper"): "fa2",
    ("vllm", "xe"): "xpu",
    ("vllm", "blackwell-gddr"): "fa2",
    ("sglang", "blackwell-gddr"): "flashinfer",
    ("trtllm", "blackwell-gddr"): "xqa",
}

FP8_CACHE: dict[tuple[str, str], Backend] = {
    ("vllm", "ada"): "flashinfer",
    ("vllm", "blackwell-gddr"): "flashinfer",
}
"""Where a framework runs another backend over a cache in fp8: FlashAttention 2 reads none."""

QUANTISES_AS_IT_WRITES = ("trtllm",)
"""Frameworks whose norms and activations write fp8 themselves, where the scale is known before."""

SEPARATE = ("sglang",)
"""Frameworks that give prompts a step of their own; the others let them ride on decode steps."""

FUSES_SHARED = (("sglang", "hopper"), ("sglang", "ampere"), ("sglang", "ada"))
"""Where DeepSeek-V3's shared expert is one of the routed ones (`num_fused_shared_experts` in SGLang 0.5: of
that model alone, and not with the kernels of FlashInfer that Blackwell takes)."""

REDUCES_APART = ("sglang",)
"""Frameworks that fuse an all-reduce with the usual norm, but not with one that adds 1 to its weights, as
models with gated delta nets have (`GemmaRMSNorm` has no `forward_with_allreduce_fusion` in SGLang 0.5.9)."""

NEVER_FUSES = ("trtllm-engine",)
"""Generations that fuse no norm with an all-reduce: `trtllm-build` does where `--reduce_fusion enable` is
given, and NVIDIA built its own tables of 2024 with `disable`."""

PLAIN_REDUCTION = "vllm"
"""Whose all-reduce is then run: `custom_all_reduce.cuh` came from there, and is measured alike. On eight
B200, 32 to 128 kB take 8.3 to 9.4 us in SGLang 0.5.9, 7.6 to 9.3 in vLLM 0.24, 5 to 7 in SGLang 0.5.14."""

APART = ("sglang",)
"""Frameworks that multiply the inputs of a gated delta net in four products: queries, keys and values; the
gate of what comes out; two gates of each head (`qwen3_5.py` of SGLang 0.5.9; in 0.5.10 two products)."""

FUSED_EXPERTS = 256
"""Routed experts of the model for which they are fused."""

RESERVED = {"trtllm": 1.0, "vllm": 0.75, "sglang": 0.75}
"""Share of the output that must have room in the cache before a request is let in. TensorRT-LLM
promises that no request is put out again; the others let in what fits now, and in a steady state
texts are of all lengths: between one half and one."""

UNMODELLED = (
    "tensorrt-llm",
    "deepspeed",
    "deepspeed-mii",
    "llama.cpp",
    "sambaflow",
    "vendor cloud",
    "tensorrt",
    "tgi",
    "mlperf",
    "jax",
    "optimum-habana",
    "pytorch",
)
"""Spellings of other software; its kernels are not known here, so the smooth form speaks for it."""


def library(framework: str | None, architecture: str) -> Library:
    """Whose matrix products a framework runs on an architecture; `any` where its rules are not known."""
    return "cublas_ada" if framework and architecture == "ada" else "any"


def backend(framework: str | None, architecture: str, cache: str = "bf16") -> Backend:
    """The attention backend of a framework, or of a generation of it; `smooth` where none is known."""
    pair = (framework or "", architecture)
    if pair not in BACKENDS:
        pair = (GENERATIONS.get(pair[0], pair[0]), architecture)
    own = BACKENDS.get(pair, "smooth")
    return FP8_CACHE.get(pair, own) if cache == "fp8" else own
