"""From a config.json to a transformer: the architectures that can be read, and how."""

import difflib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.workload.huggingface import dense, hybrid, latent, mixtures
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.formats import narrow, native
from perfmodel.workload.huggingface.parts import norms, stacks
from perfmodel.workload.model import Layer, Transformer
from perfmodel.xla import Label


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

READERS = [
    (Family(dense.biased, dense.bloom_outside, True, BLOOM_NAMES), ["BloomForCausalLM"]),
    (Family(dense.decilm), ["DeciLMForCausalLM"]),
    (
        Family(latent.deepseek),
        ["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK25ForConditionalGeneration"],
    ),
    (Family(latent.deepseek_v32), ["DeepseekV32ForCausalLM"]),
    (Family(latent.deepseek_v4, latent.v4_outside), ["DeepseekV4ForCausalLM"]),
    (Family(dense.falcon, dense.biased_norm, True), ["FalconForCausalLM"]),
    (Family(dense.biased, dense.gpt2_outside, True, GPT2_NAMES), ["GPT2LMHeadModel"]),
    (Family(dense.gptj, dense.gptj_outside, False, GPT2_NAMES), ["GPTJForCausalLM"]),
    (Family(dense.neox, dense.biased_norm), ["GPTNeoXForCausalLM"]),
    (Family(dense.gemma2, tied=True), ["Gemma2ForCausalLM"]),
    (
        Family(dense.gemma3, tied=True, defaults=dense.GEMMA3),
        ["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    ),
    (Family(dense.gemma4, tied=True), ["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"]),
    (Family(dense.gemma, tied=True), ["GemmaForCausalLM"]),
    (Family(mixtures.glm4_moe), ["Glm4MoeForCausalLM"]),
    (Family(latent.glm_dsa), ["GlmMoeDsaForCausalLM"]),
    (Family(mixtures.gpt_oss), ["GptOssForCausalLM"]),
    (
        Family(hybrid.kimi_linear, hybrid.kimi_outside),
        ["KimiK3ForConditionalGeneration", "KimiLinearForCausalLM"],
    ),
    (Family(mixtures.llama4), ["Llama4ForCausalLM", "Llama4ForConditionalGeneration"]),
    (Family(dense.llama), ["LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM"]),
    (Family(dense.qwen2), ["MiMoForCausalLM", "Qwen2ForCausalLM"]),
    (Family(mixtures.mimo_v2), ["MiMoV2FlashForCausalLM"]),
    (Family(mixtures.minimax_m2), ["MiniMaxM2ForCausalLM"]),
    (
        Family(mixtures.minimax_m3),
        ["MiniMaxM3ForCausalLM", "MiniMaxM3SparseForConditionalGeneration"],
    ),
    (Family(mixtures.mixtral), ["MixtralForCausalLM"]),
    (Family(dense.nemotron, dense.biased_norm), ["NemotronForCausalLM"]),
    (Family(hybrid.nemotron_h), ["NemotronHForCausalLM"]),
    (Family(dense.opt, dense.opt_outside, True, OPT_NAMES), ["OPTForCausalLM"]),
    (Family(mixtures.qwen2_moe), ["Qwen2MoeForCausalLM"]),
    (Family(dense.qwen3), ["Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration"]),
    (Family(mixtures.qwen3_moe), ["Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration"]),
    (
        Family(hybrid.qwen_next),
        [
            "Qwen3NextForCausalLM",
            "Qwen3_5ForCausalLM",
            "Qwen3_5ForConditionalGeneration",
            "Qwen3_5MoeForCausalLM",
            "Qwen3_5MoeForConditionalGeneration",
        ],
    ),
    (Family(mixtures.step3), ["Step3p5ForCausalLM", "Step3p7FlashForCausalLM"]),
]
"""Families, each with the first words of `architectures` that it reads."""

FAMILIES = {name: how for how, names in READERS for name in names}
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


MAX_BYTES = 10_000_000
"""No config is longer; a longer one is not read."""


def from_config(config: dict[str, Any], name: str = "config") -> Transformer:
    """A transformer from the fields of its config.json.

    Of a model of images or sound, only the language model is counted. Layers that predict
    several tokens at once (MTP) are counted nowhere.

    **Arguments:**

    - `config`: the file as a dictionary; with the `quantization` table of its
      hf_quant_config.json beside the other fields, where there is one.
    - `name`: of the model; messages begin with it.

    **Raises:**

    - `ValueError`: naming the field and what is wrong with it.
    """
    if not isinstance(config, dict):
        raise ValueError(f"{name}: a config is a table of fields, not {type(config).__name__}.")
    fields = Fields(config, name)
    how = family(fields)
    language = fields.part("text_config") if fields.has("text_config") else fields
    model = Fields(how.defaults | language.renamed(how.names).table, language.name)
    return Transformer(
        hidden=model.size("hidden_size"),
        vocabulary=model.size("vocab_size"),
        stacks=stacks(how.layers(model)),
        extra=how.outside(model),
        tied=fields.flag("tie_word_embeddings", model.flag("tie_word_embeddings", how.tied)),
        native=native(fields, model),
        narrow=narrow(fields, model),
        name=Label(name),
    )


def read_config(path: Path | str, name: str = "") -> Transformer:
    """A transformer from a config.json, and the hf_quant_config.json beside it if there is one.

    **Raises:**

    - `ValueError`: naming the file, the field and what is wrong with it.
    """
    path = Path(path)
    config = read_json(path)
    beside = path.with_name(path.name.replace("config.json", "hf_quant_config.json"))
    if beside != path and beside.is_file() and "quantization_config" not in config:
        quantised = Fields(read_json(beside), str(beside)).part("quantization")
        config = config | {"quantization": quantised.table}
    return from_config(config, name or str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one table.

    **Raises:**

    - `ValueError`: when it cannot be read, is too long, or holds anything else.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES:,} bytes, which no config is")
        table = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error).rstrip(".")[:300]
        raise ValueError(f"{path} cannot be read as JSON: {problem}.") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path} must hold a table in braces, but holds a {type(table).__name__}.")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the field {twice[:60]!r} is there twice")
    return table
