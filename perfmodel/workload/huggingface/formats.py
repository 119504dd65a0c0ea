"""The format that a model's weights are published in."""

from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.precision import FORMATS, Scope

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3fn": "fp8"}
"""Words of `dtype`."""

ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8_block",
    "MXFP8": "fp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "MXFP4": "mxfp4",
    "W4A8_MXFP4_FP8": "w4a8_mxfp4",
    "W4A16_AWQ": "int4",
    "W4A8_AWQ": "w4afp8",
    "W8A16": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
}
"""Words of `quant_algo` (NVIDIA Model Optimizer)."""

INTEGERS = {4: "int4", 8: "int8"}

MICROSCALED = 32
"""Weights that share a scale in mxfp4; nvfp4 has 16 (OCP Microscaling Formats 1.0)."""


def native(config: Fields, model: Fields) -> str:
    """Format of most of the weights; bf16 where the file does not say.

    **Arguments:**

    - `config`: the whole file.
    - `model`: the language model's part of it, which may be the same.
    """
    for place in (config, model):
        for key in _PARTS:
            quantised = place.part(key)
            if quantised.table:
                return _quantised(quantised, model)
    outer = config.text("dtype", "torch_dtype", default="bfloat16")
    dtype = model.text("dtype", "torch_dtype", default=outer)
    return config.known("dtype", dtype.removeprefix("torch."), DTYPES)


def narrow(config: Fields, model: Fields) -> Scope:
    """Which matrices a checkpoint in four bits has in them, from the list of what it leaves out.

    The mxfp4 of gpt-oss holds experts only, whatever its list says (model card, section 2.1).
    """
    found = [p.part(key) for p in (config, model) for key in _PARTS if p.part(key).table]
    left_out = [
        str(name) for part in found for key in _LISTS if part.has(key) for name in part.items(key)
    ]
    if any(part.text("quant_method", default="") == "mxfp4" for part in found):
        return "experts"
    if any("shared_expert" in name for name in left_out):
        return "experts"
    return "feed_forward" if any("attn" in name for name in left_out) else "all"


_PARTS = ("quantization_config", "quantization")
_LISTS = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")


def _quantised(fields: Fields, model: Fields) -> str:
    algorithm = fields.text("moe_quant_algo", "quant_algo", default="")
    if algorithm == "MIXED_PRECISION":
        return _narrowest(fields.part("quantized_layers"))
    if algorithm:
        return fields.known("quant_algo", algorithm, ALGORITHMS)
    if model.text("expert_dtype", default="") == "fp4":
        return "mxfp4"
    return fields.known("quant_method", fields.text("quant_method"), METHODS)(fields)


def _narrowest(layers: Fields) -> str:
    """Of a mix, the narrowest: experts and feed-forward layers have it, most of the weights."""
    words = {layers.part(name).text("quant_algo") for name in layers.table}
    formats = [layers.known("quant_algo", word, ALGORITHMS) for word in sorted(words)]
    if not formats:
        raise layers.fault(
            "no layer is listed, so the format is unknown; list one with its quant_algo"
        )
    return min(formats, key=lambda name: FORMATS[name].weight)


def _fp8(fields: Fields) -> str:
    return "fp8_block" if fields.has("weight_block_size") else "fp8"


def _mxfp4(fields: Fields) -> str:
    return "mxfp4"


def _integers(fields: Fields) -> str:
    return fields.known("bits", fields.size("bits"), INTEGERS)


def _bitsandbytes(fields: Fields) -> str:
    return "int4" if fields.flag("load_in_4bit") else "int8"


def _compressed_tensors(fields: Fields) -> str:
    groups = fields.part("config_groups")
    if not groups.table:
        raise fields.fault("config_groups is missing, so the format is unknown; add it to the file")
    formats = [_weights(groups.part(name).part("weights")) for name in groups.table]
    return min(formats, key=lambda name: FORMATS[name].weight)


def _weights(weights: Fields) -> str:
    bits = weights.size("num_bits")
    integer = weights.known("num_bits", bits, INTEGERS)
    if weights.text("type") == "int":
        return integer
    if bits == 8:
        return "fp8_block" if weights.text("strategy", default="") == "block" else "fp8"
    return "mxfp4" if weights.size("group_size") == MICROSCALED else "nvfp4"


METHODS = {
    "awq": _integers,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _integers,
    "mxfp4": _mxfp4,
}
"""How to read a format, by `quant_method`; Model Optimizer writes `quant_algo` beside it."""
