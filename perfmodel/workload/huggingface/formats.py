"""The format that a model's weights are published in: the words of each way to quantise, and what they
mean."""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.precision import FORMATS, Scope

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3fn": "fp8"}
"""Words of `dtype`."""

ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8_block",
    "MXFP8": "fp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "w4a16_nvfp4",
    "MXFP4": "mxfp4",
    "W4A8_MXFP4_FP8": "w4a8_mxfp4",
    "W4A16_AWQ": "int4",
    "W4A16": "int4",
    "W4A8_AWQ": "w4afp8",
    "W8A16": "w8a16",
    "W8A8_SQ_PER_CHANNEL": "int8",
}
"""Words of `quant_algo` (NVIDIA Model Optimizer)."""

WEIGHTS_ALONE = {4: "int4", 8: "w8a16"}
"""Formats whose weights alone are whole numbers of so many bits, by their bits."""

MICROSCALED = 32
"""Weights that share a scale in mxfp4; nvfp4 has 16 (OCP Microscaling Formats 1.0)."""

PARTS = ("quantization_config", "quantization", "compression_config")
"""Where a file says how it is quantised."""


class Weights(NamedTuple):
    """A format and bytes of a weight in it, scales included."""

    word: str
    size: float


def weights(word: str, group: int = 0, scale: float = 0.0) -> Weights:
    """Weights in a format; with a scale of `scale` bytes for each `group` of them where they are not as
    usual."""
    if not group:
        return Weights(word, FORMATS[word].weight)
    bare = 0.5 if FORMATS[word].weight < 1 else 1.0
    return Weights(word, bare + scale / group)


def quantised(config: Fields, model: Fields) -> Fields | None:
    """The table that says how a checkpoint is quantised; none where it is not."""
    found = [place.part(key) for place in (config, model) for key in PARTS]
    fields = next((part for part in found if part.table), None)
    if fields is not None:
        _refuse_sparse(fields)
    return fields


def _refuse_sparse(fields: Fields) -> None:
    """Weights of which some are left out: neither bytes nor speed of such are known here."""
    for place in (fields, fields.part("sparsity_config")):
        word = place.text("sparsity_structure", "format", default="")
        if word.startswith(("sparse", "marlin-24")) or word == "2:4":
            raise fields.fault(
                f"weights are sparse ({word}), which is not read; give the file of a dense checkpoint"
            )


def unquantised(config: Fields, model: Fields) -> str:
    """The format of what is not quantised: bf16 where the file does not say.

    **Arguments:**

    - `config`: the whole file.
    - `model`: the language model's part of it, which may be the same.
    """
    outer = config.text("dtype", "torch_dtype", default="bfloat16")
    dtype = model.text("dtype", "torch_dtype", default=outer)
    return config.known("dtype", dtype.removeprefix("torch."), DTYPES)


def main_format(fields: Fields, model: Fields) -> Weights:
    """The format that a quantised checkpoint names for all that it does not list otherwise."""
    algorithm = fields.text("moe_quant_algo", "quant_algo", default="")
    if algorithm and algorithm != MIXED:
        return weights(fields.known("quant_algo", algorithm, ALGORITHMS))
    if model.text("expert_dtype", default="") == "fp4":
        return weights("mxfp4")
    if not fields.has("quant_method") and fields.has("bits") and fields.has("group_size"):
        return _mlx(fields)
    word = fields.text("quant_method")
    return fields.known("quant_method", word, METHODS)(fields)


MIXED = "MIXED_PRECISION"
"""The word of `quant_algo` of a checkpoint whose layers are listed with a format each."""


def _fp8(fields: Fields) -> Weights:
    return weights("fp8_block" if fields.has("weight_block_size") else "fp8")


def _mxfp4(fields: Fields) -> Weights:
    return weights("mxfp4")


GPTQ_SCALE = 2.0
"""Bytes of a scale of GPTQ and AWQ; their zeros are of as many bits as a weight."""


def _integers(fields: Fields) -> Weights:
    """GPTQ and AWQ: a scale in 16 bits for each group; groups of 128 are the format's own."""
    bits = fields.size("bits", "w_bit")
    word = fields.known("bits", bits, WEIGHTS_ALONE)
    group = fields.table.get("group_size", fields.table.get("q_group_size", 128))
    fields.note("group_size", "q_group_size")
    if not isinstance(group, int) or isinstance(group, bool) or group < -1 or group == 0:
        raise fields.fault(
            "group_size must be a whole number, or -1 for one scale a column; correct it"
        )
    return weights(word) if group in (-1, 128) else weights(word, group, GPTQ_SCALE)


def _mlx(fields: Fields) -> Weights:
    """MLX: a scale and an offset in 16 bits for each group."""
    bits = fields.known("bits", fields.size("bits"), WEIGHTS_ALONE)
    mode = fields.text("mode", default="affine")
    if mode != "affine":
        return weights(
            {"mxfp4": "w4a16_mxfp4", "nvfp4": "w4a16_nvfp4", "mxfp8": "w8a16"}[
                fields.known("mode", mode, {"mxfp4": "mxfp4", "nvfp4": "nvfp4", "mxfp8": "mxfp8"})
            ]
        )
    return weights(bits, fields.size("group_size"), 4.0)


def _bitsandbytes(fields: Fields) -> Weights:
    """Four bits with a scale in 32 bits for 64 weights, or with scales in 8 bits again; eight bits by
    rows."""
    if not (fields.flag("load_in_4bit") or fields.flag("_load_in_4bit")):
        return weights("int8")
    twice = fields.flag("bnb_4bit_use_double_quant")
    return weights("int4", 64, 1.0 if twice else 4.0)


def _hqq(fields: Fields) -> Weights:
    """HQQ: a scale and a zero in 16 bits for each group."""
    inner = fields.part("quant_config").part("weight_quant_params")
    inner = inner if inner.table else fields
    word = inner.known("nbits", inner.size("nbits"), WEIGHTS_ALONE)
    return weights(word, inner.size("group_size", default=64), 4.0)


TORCHAO = {
    "int4_weight_only": "int4",
    "Int4WeightOnlyConfig": "int4",
    "int8_weight_only": "w8a16",
    "Int8WeightOnlyConfig": "w8a16",
    "int8_dynamic_activation_int8_weight": "int8",
    "Int8DynamicActivationInt8WeightConfig": "int8",
    "float8_weight_only": "w8a16",
    "Float8WeightOnlyConfig": "w8a16",
    "float8_dynamic_activation_float8_weight": "fp8",
    "Float8DynamicActivationFloat8WeightConfig": "fp8",
}
"""Words of `quant_type` of torchao."""


TORCHAO_SCALES = 4.0
"""Bytes for each group of torchao's 4 bits: a scale and a zero in 16 bits."""

TORCHAO_GROUP = 128
"""Weights of a group of torchao's 4 bits where the file does not say (`Int4WeightOnlyConfig`)."""


def _torchao(fields: Fields) -> Weights:
    fields.require(False, "untie_embedding_weights")
    kind, settings = _torchao_kind(fields)
    word = fields.known("quant_type", kind, TORCHAO)
    if word != "int4":
        return weights(word)
    return weights(word, settings.size("group_size", default=TORCHAO_GROUP), TORCHAO_SCALES)


def _torchao_kind(fields: Fields) -> tuple[str, Fields]:
    """The word of torchao's scheme, and its settings, as either of its two forms writes them."""
    if not isinstance(fields.table.get("quant_type"), dict):
        return fields.text("quant_type"), fields.part("quant_type_kwargs")
    inner = fields.part("quant_type")
    inner = inner.part("default") if inner.has("default") else inner
    return inner.text("_type"), inner.part("_data")


QUARK = {"fp8_e4m3": "fp8", "fp4": "mxfp4", "mxfp4": "mxfp4", "int8": "int8", "int4": "int4"}
"""Words of `dtype` of AMD Quark."""


def _quark(fields: Fields) -> Weights:
    """AMD Quark: one scheme for all layers; activations that are null are in 16 bits."""
    if fields.part("layer_quant_config").table or fields.part("layer_type_quant_config").table:
        raise fields.fault(
            "layers have schemes of their own (layer_quant_config), which is not read"
        )
    scheme = fields.part("global_quant_config")
    inner = scheme.part("weight")
    word = inner.known("dtype", inner.text("dtype"), QUARK)
    alone = scheme.table.get("input_tensors") is None
    names = {"fp8": "w8a16", "int8": "w8a16", "mxfp4": "w4a16_mxfp4", "int4": "int4"}
    if word == "int4" and not alone:
        raise fields.fault("weights in int4 with activations in few bits are not read")
    return weights(names[word] if alone else word)


def _auto_round(fields: Fields) -> Weights:
    """AutoRound: as GPTQ; layers with settings of their own are not read."""
    if any(isinstance(one, dict) for one in fields.part("extra_config").table.values()):
        raise fields.fault("layers have settings of their own (extra_config), which is not read")
    return _integers(fields)


def _eetq(fields: Fields) -> Weights:
    return weights("w8a16")


def _compressed_tensors(fields: Fields) -> Weights:
    groups = fields.part("config_groups")
    if not groups.table:
        raise fields.fault("config_groups is missing, so the format is unknown; add it to the file")
    formats = [group_format(groups.part(name)) for name in groups.table]
    return min(formats, key=lambda one: one.size)


def group_format(group: Fields) -> Weights:
    """A group of compressed-tensors: what its weights are, and whether activations are quantised too.

    Activations that are null are not; where the file says nothing of them, they are as the weights.
    """
    inner = group.part("weights")
    bits, kind = inner.size("num_bits"), inner.text("type")
    inner.known("num_bits", bits, WEIGHTS_ALONE)
    alone = "input_activations" in group.table and group.table["input_activations"] is None
    if kind == "int":
        return _whole_numbers(group, inner, bits, alone)
    if bits == 8:
        block = inner.text("strategy", default="") == "block"
        return weights("w8a16" if alone else "fp8_block" if block else "fp8")
    word = "mxfp4" if inner.size("group_size") == MICROSCALED else "nvfp4"
    if alone:
        return weights(f"w4a16_{word}")
    wide = _activation_bits(group) == 8
    return weights("w4a8_mxfp4" if wide and word == "mxfp4" else word)


def _whole_numbers(group: Fields, inner: Fields, bits: int, alone: bool) -> Weights:
    if bits == 8:
        return weights("w8a16" if alone else "int8")
    if _activation_bits(group) == 8:
        if group.part("input_activations").text("type", default="float") != "float":
            raise group.fault(
                "weights of 4 bits with activations in int8 are no format that is known; "
                "known are activations in 16 bits and in fp8"
            )
        return weights("w4afp8")
    size = inner.count("group_size", default=128) if inner.table.get("group_size") != -1 else 128
    inner.note("group_size")
    return weights("int4") if size in (0, 128) else weights("int4", size, GPTQ_SCALE)


def _activation_bits(group: Fields) -> int:
    activations = group.part("input_activations")
    return activations.count("num_bits", default=0)


METHODS: dict[str, Callable[[Fields], Weights]] = {
    "auto-round": _auto_round,
    "awq": _integers,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "eetq": _eetq,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _integers,
    "hqq": _hqq,
    "modelopt": _compressed_tensors,
    "mxfp4": _mxfp4,
    "quark": _quark,
    "torchao": _torchao,
}
"""How to read a format, by `quant_method`; Model Optimizer writes `quant_algo` beside it."""

CACHES = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}
"""Words of `kv_cache_quant_algo`."""


def cache_format(config: Fields, model: Fields) -> str:
    """The format of the KV cache that a checkpoint states; empty where it states none."""
    fields = quantised(config, model)
    if fields is None:
        return ""
    if fields.has("kv_cache_quant_algo"):
        return fields.known("kv_cache_quant_algo", fields.text("kv_cache_quant_algo"), CACHES)
    scheme = fields.table.get("kv_cache_scheme")
    if isinstance(scheme, str):
        return fields.known("kv_cache_scheme", scheme, CACHES)
    if not isinstance(scheme, dict):
        return ""
    part = fields.part("kv_cache_scheme")
    kinds = {(8, "float"): "fp8", (8, "int"): "int8", (4, "float"): "nvfp4"}
    return part.known("kv_cache_scheme", (part.size("num_bits"), part.text("type")), kinds)


LISTS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "exclude",
    "skip_modules",
    "llm_int8_skip_modules",
)
"""Fields that list what a checkpoint leaves as it was."""


def left_out(fields: Fields) -> list[str]:
    """Names of modules that a checkpoint leaves as they were."""
    return [
        str(name) for key in LISTS if fields.has(key) for name in fields.items(key, most=MAX_NAMES)
    ]


MAX_NAMES = 1_000_000
"""No list of modules is longer."""


def narrow(fields: Fields | None) -> Scope:
    """Which matrices a checkpoint in four bits has in them, from the list of what it leaves out.

    The mxfp4 of gpt-oss holds experts only, whatever its list says (model card, section 2.1).
    """
    if fields is None:
        return "all"
    names = left_out(fields)
    if fields.text("quant_method", default="") == "mxfp4" or any(
        "shared_expert" in n for n in names
    ):
        return "experts"
    return "feed_forward" if any("attn" in name for name in names) else "all"
