"""The architectures that can be read, and how."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from perfmodel.workload.huggingface import dense, gemma, hybrid, latent, mixtures, older
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import norms
from perfmodel.workload.model import Layer


def last_norm(fields: Fields) -> int:
    """Parameters outside the layers, where there is but the last norm."""
    return norms(fields, 1)


class Family(NamedTuple):
    """How to read the architectures of a family.

    - `layers`: its layers, one after the other.
    - `outside`: parameters outside the layers that are in no product.
    - `tied`: whether the output head is the embedding, where the file does not say.
    - `names`: its own names of fields, with the usual ones.
    - `defaults`: fields that its files may leave out.
    """

    layers: Callable[[Fields], list[Layer]]
    outside: Callable[[Fields], int] = last_norm
    tied: bool = False
    names: dict[str, str] = {}
    defaults: dict[str, int] = {}


GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
}

BLOOM_NAMES = GPT2_NAMES | {"n_embed": "hidden_size"}

OPT_NAMES = {"ffn_dim": "intermediate_size"}

LLAMA = Family(dense.llama)
QWEN3 = Family(dense.qwen3)
QWEN3_MOE = Family(mixtures.qwen3_moe)
QWEN_NEXT = Family(hybrid.qwen_next)
GEMMA3 = Family(gemma.gemma3, tied=True, defaults=gemma.GEMMA3)
GEMMA4 = Family(gemma.gemma4, tied=True)
MINIMAX_M3 = Family(mixtures.minimax_m3)
DEEPSEEK = Family(latent.deepseek)
KIMI_LINEAR = Family(hybrid.kimi_linear, hybrid.kimi_outside)
STEP3 = Family(mixtures.step3)
LLAMA4 = Family(mixtures.llama4)

FAMILIES = {
    "BloomForCausalLM": Family(older.bloom, older.bloom_outside, True, BLOOM_NAMES),
    "DeciLMForCausalLM": Family(dense.decilm),
    "DeepseekV2ForCausalLM": DEEPSEEK,
    "DeepseekV3ForCausalLM": DEEPSEEK,
    "DeepseekV32ForCausalLM": Family(latent.deepseek_v32),
    "DeepseekV4ForCausalLM": Family(latent.deepseek_v4, latent.v4_outside),
    "FalconForCausalLM": Family(older.falcon, older.biased_norm, True),
    "GPT2LMHeadModel": Family(older.gpt2, older.gpt2_outside, True, GPT2_NAMES),
    "GPTJForCausalLM": Family(older.gptj, older.gptj_outside, False, GPT2_NAMES),
    "GPTNeoXForCausalLM": Family(older.neox, older.biased_norm),
    "Gemma2ForCausalLM": Family(gemma.gemma2, tied=True),
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": GEMMA3,
    "Gemma4ForCausalLM": GEMMA4,
    "Gemma4ForConditionalGeneration": GEMMA4,
    "GemmaForCausalLM": Family(gemma.gemma, tied=True),
    "Glm4MoeForCausalLM": Family(mixtures.glm4_moe),
    "GlmMoeDsaForCausalLM": Family(latent.glm_dsa),
    "GptOssForCausalLM": Family(mixtures.gpt_oss),
    "KimiK25ForConditionalGeneration": DEEPSEEK,
    "KimiK3ForConditionalGeneration": KIMI_LINEAR,
    "KimiLinearForCausalLM": KIMI_LINEAR,
    "Llama4ForCausalLM": LLAMA4,
    "Llama4ForConditionalGeneration": LLAMA4,
    "LlamaForCausalLM": LLAMA,
    "MiMoForCausalLM": Family(dense.qwen2),
    "MiMoV2FlashForCausalLM": Family(mixtures.mimo_v2),
    "MiniMaxM2ForCausalLM": Family(mixtures.minimax_m2),
    "MiniMaxM3ForCausalLM": MINIMAX_M3,
    "MiniMaxM3SparseForConditionalGeneration": MINIMAX_M3,
    "MistralForCausalLM": LLAMA,
    "MixtralForCausalLM": Family(mixtures.mixtral),
    "NemotronForCausalLM": Family(dense.nemotron, older.biased_norm),
    "NemotronHForCausalLM": Family(hybrid.nemotron_h),
    "OPTForCausalLM": Family(older.opt, older.opt_outside, True, OPT_NAMES),
    "Phi3ForCausalLM": LLAMA,
    "Qwen2ForCausalLM": Family(dense.qwen2),
    "Qwen2MoeForCausalLM": Family(mixtures.qwen2_moe),
    "Qwen3ForCausalLM": QWEN3,
    "Qwen3MoeForCausalLM": QWEN3_MOE,
    "Qwen3NextForCausalLM": QWEN_NEXT,
    "Qwen3VLForConditionalGeneration": QWEN3,
    "Qwen3VLMoeForConditionalGeneration": QWEN3_MOE,
    "Qwen3_5ForCausalLM": QWEN_NEXT,
    "Qwen3_5ForConditionalGeneration": QWEN_NEXT,
    "Qwen3_5MoeForCausalLM": QWEN_NEXT,
    "Qwen3_5MoeForConditionalGeneration": QWEN_NEXT,
    "Step3p5ForCausalLM": STEP3,
    "Step3p7FlashForCausalLM": STEP3,
}
"""Families by the first word of `architectures`."""


def family(config: Fields) -> Family:
    """How to read this config.

    **Raises:**

    - `ValueError`: for an architecture that is not in the table, with the nearest that are.
    """
    listed = config.items("architectures")
    word = listed[0] if listed else None
    if not isinstance(word, str):
        raise config.fault(
            "architectures must list one word in quotes, such as LlamaForCausalLM; correct it"
        )
    if word not in FAMILIES:
        near = difflib.get_close_matches(word[:100], FAMILIES, n=3, cutoff=0.0)
        raise config.fault(
            f"architecture {word[:100]!r} is not supported; the nearest that are, of "
            f"{len(FAMILIES)}, are {', '.join(near)}; write a config of one of these"
        )
    return FAMILIES[word]
