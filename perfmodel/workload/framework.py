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

ATTENTION: dict[tuple[str, str], str] = {
    ("vllm", "ampere"): "flash_attention_2",
    ("vllm", "ada"): "flash_attention_2",
    ("vllm", "hopper"): "flash_attention_3",
    ("vllm", "blackwell"): "flashinfer_trtllm_gen",
    ("sglang", "ampere"): "flashinfer_sglang",
    ("sglang", "ada"): "flashinfer_sglang",
    ("sglang", "hopper"): "flash_attention_3_sglang",
    ("sglang", "blackwell"): "flashinfer_trtllm_gen",
    ("trtllm", "ampere"): "xqa",
    ("trtllm", "ada"): "xqa",
    ("trtllm", "hopper"): "xqa_hopper",
    ("trtllm", "blackwell"): "trtllm_gen",
    ("vllm-0.5", "hopper"): "flash_attention_2",
    ("vllm", "xe"): "xpu",
    ("vllm", "blackwell-gddr"): "flash_attention_2",
    ("sglang", "blackwell-gddr"): "flashinfer_sglang",
    ("trtllm", "blackwell-gddr"): "xqa",
}
"""The attention kernels that a framework, or a generation of it, runs on an architecture."""

FP8_CACHE: dict[tuple[str, str], str] = {
    ("vllm", "ada"): "flashinfer",
    ("vllm", "blackwell-gddr"): "flashinfer",
}
"""Where a framework runs others over a cache in fp8: FlashAttention 2 reads none."""

GEMM: dict[tuple[str, str], str] = {
    (framework, "ada"): "cublas_ada" for framework in FRAMEWORKS if framework != "trtllm"
} | {("trtllm", "ada"): "cublas_ada_trtllm"}
"""Whose matrix products a framework runs on an architecture, where a rule is known."""

MOE: dict[tuple[str, str], str] = {
    ("vllm", "blackwell"): "flashinfer_trtllm_gen",
    ("sglang", "blackwell"): "flashinfer_trtllm_gen",
    ("trtllm", "blackwell"): "trtllm_gen",
}
"""Whose mixtures of experts a framework runs on an architecture, where a rule is known."""

BLACKWELL_REDUCTIONS: dict[tuple[str, str], str] = {
    ("vllm", "blackwell"): "vllm_blackwell",
    ("trtllm", "blackwell"): "trtllm_blackwell",
}
"""Whose all-reduces a framework runs on an architecture, where they are not those it runs elsewhere."""

UNFUSED_REDUCTIONS: dict[str, str] = {"blackwell": "unfused_blackwell"}
"""Those that are fused with no norm, where they are not those of other architectures."""

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


def choice(table: dict[tuple[str, str], str], framework: str, architecture: str) -> str:
    """What a framework, or a generation of it, runs on an architecture; empty where no rule is known."""
    own = table.get((framework, architecture))
    return own or table.get((GENERATIONS.get(framework, framework), architecture), "")
