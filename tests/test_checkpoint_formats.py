"""Checkpoints layer by layer: what is left in 16 bits, mixes, groups, scales, and the cache's format."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import run
from configs import LLAMA

from perfmodel.inference.deployment import cache_format, resolve_deployment
from perfmodel.inference.placement import weight_bytes as placed_bytes
from perfmodel.library.fitted import FITTED
from perfmodel.workload.huggingface import from_config
from perfmodel.workload.model import parameters, traced, weight_bytes
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import CheckpointFormats, MixedFormat, format_of, look_up

LLAMA_405B = LLAMA | {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
}
ATTENTION, FEED_FORWARD, EMBEDDING = 41_943_040, 176_160_768, 128_256 * 4096
"""Weights of a layer of Llama-3.1-8B, 4096 x (2 x 4096 + 2 x 1024) and 3 x 4096 x 14336; of its embedding."""


def quantised(how: dict[str, Any], base: dict[str, Any] = LLAMA, key: str = "quantization_config"):
    """A model whose file says how it is quantised."""
    return from_config(base | {key: how}, "mine")


def names(layers: range, *ends: str) -> list[str]:
    """Modules of some layers."""
    return [f"model.layers.{i}.{end}" for i in layers for end in ends]


HEADS = [f"self_attn.{one}_proj" for one in "qkvo"]
MLP = [f"mlp.{one}_proj" for one in ("gate", "up", "down")]
META = {
    "quant_method": "fbgemm_fp8",
    "modules_to_not_convert": [
        *names(range(126), *HEADS),
        *names(range(1), *MLP),
        *names(range(125, 126), *MLP),
    ],
}


def test_layers_that_a_list_leaves_out_stay_in_16_bits():
    # Llama-3.1-405B-Instruct-FP8: 124 layers of 3 x 16384 x 53248 in fp8, all else in bf16.
    model = quantised(META, LLAMA_405B)
    narrow = 124 * 3 * 16384 * 53248
    assert weight_bytes(model) == narrow + 2 * (parameters(model) - narrow)
    assert weight_bytes(model) == pytest.approx(487.2e9, rel=1e-3)


def test_what_is_placed_on_a_card_is_what_the_file_has():
    # vLLM's issue 6746: 57.75 GiB on each of 8 cards.
    model = quantised(META, LLAMA_405B)
    placed = float(placed_bytes(traced(model), Plan(tp=8, weights=model.native)))
    assert placed == pytest.approx(weight_bytes(model) / 8, rel=1e-3)
    assert placed / 2**30 == pytest.approx(57.75, rel=0.02)


def test_a_mix_names_the_format_that_most_of_a_part_is_in():
    model = quantised(META, LLAMA_405B)
    found = format_of("feed_forward", model.narrow, "fp8", "bf16")
    assert found == "fp8" and isinstance(found, MixedFormat)
    assert look_up(found).weight == pytest.approx(1 + 2 / 126)
    assert format_of("attention", model.narrow, "fp8", "bf16") == "bf16"
    # In another format than its own the model is as any other.
    assert format_of("attention", model.narrow, "int8", "bf16") == "int8"


MIXED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    "quantized_layers": {name: {"quant_algo": "FP8"} for name in names(range(32), *HEADS)}
    | {name: {"quant_algo": "W4A16_NVFP4"} for name in [*names(range(32), *MLP), "lm_head"]},
}


def test_a_mix_of_precisions_is_read_module_by_module():
    model = quantised(MIXED)
    assert (model.native, model.cache) == ("w4a16_nvfp4", "fp8")
    plain = parameters(model) - 32 * (ATTENTION + FEED_FORWARD) - EMBEDDING
    narrow = 0.5625 * (32 * FEED_FORWARD + EMBEDDING)
    assert weight_bytes(model) == 32 * ATTENTION + narrow + 2 * plain


@pytest.mark.parametrize(
    "spelling", ["model.", "model.language_model.", "language_model.model.", ""]
)
@pytest.mark.parametrize(
    "pattern", ["layers.*.self_attn*", "layers.{}.self_attn", "layers.{}.self_attn.*"]
)
def test_spellings_of_a_list_mean_the_same(spelling, pattern):
    left = [spelling + pattern.format(i) for i in range(32)]
    model = quantised({"quant_algo": "NVFP4", "quant_method": "modelopt", "ignore": left})
    rest = 2 * (parameters(model) - 32 * FEED_FORWARD)
    assert weight_bytes(model) == 32 * FEED_FORWARD * 0.5625 + rest


def test_a_list_of_layer_1_does_not_mean_layer_10():
    model = quantised({"quant_algo": "NVFP4", "ignore": ["model.layers.1.*"]})
    assert isinstance(model.narrow, CheckpointFormats)
    shares = {share.word: share.share for share in model.narrow.attention}
    assert shares["bf16"] == pytest.approx(1 / 32)


def test_a_router_is_not_a_gate_projection():
    model = quantised({"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head"]})
    assert model.narrow == "all"


GROUP = {"num_bits": 8, "type": "int", "strategy": "channel"}


@pytest.mark.parametrize(
    ("weights", "activations", "expected"),
    [
        (GROUP, None, "w8a16"),
        (GROUP, {"num_bits": 8, "type": "int"}, "int8"),
        (GROUP | {"type": "float"}, None, "w8a16"),
        (GROUP | {"type": "float"}, {"num_bits": 8, "type": "float"}, "fp8"),
        (GROUP | {"num_bits": 4, "group_size": 128}, None, "int4"),
        (GROUP | {"num_bits": 4, "group_size": 128}, {"num_bits": 8, "type": "float"}, "w4afp8"),
        ({"num_bits": 4, "type": "float", "group_size": 16}, None, "w4a16_nvfp4"),
        ({"num_bits": 4, "type": "float", "group_size": 32}, None, "w4a16_mxfp4"),
    ],
)
def test_weights_alone_are_no_arithmetic_in_few_bits(weights, activations, expected):
    groups = {
        "group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"]}
    }
    how = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]}
    assert quantised(how).native == expected


SMALL = {
    "gptq 4": ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4", 0.5 + 2 / 128),
    "gptq 4, groups of 32": ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "int4", 0.5625),
    "gptq 8": ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "w8a16", 1.0),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", 0.5 + 2 / 128),
    "hqq": (
        {
            "quant_method": "hqq",
            "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
        },
        "int4",
        0.5625,
    ),
    # A scale and a zero in 16 bits for each group (`scale_and_zero` of torchao).
    "torchao 4": ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4", 0.53125),
    "torchao 4, groups of 32": (
        {
            "quant_method": "torchao",
            "quant_type": {
                "default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 32}}
            },
        },
        "int4",
        0.625,
    ),
    "quark fp8": (
        {
            "quant_method": "quark",
            "global_quant_config": {
                "weight": {"dtype": "fp8_e4m3"},
                "input_tensors": {"dtype": "fp8_e4m3"},
            },
        },
        "fp8",
        1.0,
    ),
    "quark mxfp4, weights alone": (
        {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}},
        "w4a16_mxfp4",
        0.53125,
    ),
    "auto-round": ({"quant_method": "auto-round", "bits": 4, "group_size": 32}, "int4", 0.5625),
    "eetq": ({"quant_method": "eetq", "weights": "int8"}, "w8a16", 1.0),
    "torchao 8": ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "w8a16", 1.0),
    "bitsandbytes 4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", 0.5625),
    "bitsandbytes 8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 1.0),
}


@pytest.mark.parametrize("name", SMALL)
def test_scales_are_in_the_bytes_of_weights(name):
    how, word, size = SMALL[name]
    model = quantised(how)
    products = 32 * (ATTENTION + FEED_FORWARD)
    assert model.native == word
    assert weight_bytes(model) == size * products + 2 * (parameters(model) - products)


def test_mlx_quantises_embeddings_too():
    model = quantised({"group_size": 64, "bits": 4}, key="quantization")
    norms = parameters(model) - 32 * (ATTENTION + FEED_FORWARD) - 2 * EMBEDDING
    assert weight_bytes(model) == 0.5625 * (parameters(model) - norms) + 2 * norms


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}, 1),
        (
            {
                "quant_method": "torchao",
                "quant_type": "int8_weight_only",
                "include_input_output_embeddings": True,
            },
            2,
        ),
    ],
)
def test_an_output_head_is_in_few_bits_where_the_file_says_so(how, ends):
    whole = weight_bytes(
        quantised(how | {"lm_head": False, "include_input_output_embeddings": False})
    )
    size = look_up(quantised(how).native).weight
    assert whole - weight_bytes(quantised(how)) == ends * EMBEDDING * (2 - size)


def test_mlx_head_may_have_bits_of_its_own():
    plain = {"group_size": 64, "bits": 4}
    own = plain | {"lm_head": {"group_size": 64, "bits": 8}}
    found = [weight_bytes(quantised(how, key="quantization")) for how in (plain, own)]
    assert found[1] - found[0] == EMBEDDING * 0.5


def test_an_older_key_of_compressed_tensors_is_read():
    groups = {"group_0": {"weights": GROUP, "input_activations": None, "targets": ["Linear"]}}
    how = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]}
    assert quantised(how, key="compression_config").native == quantised(how).native == "w8a16"


@pytest.mark.long
def test_mlx_may_list_layers_with_bits_of_their_own():
    how = {"group_size": 64, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}}
    how |= {name: {"group_size": 64, "bits": 8} for name in names(range(32), "mlp.down_proj")}
    model = quantised(how, key="quantization")
    assert isinstance(model.narrow, CheckpointFormats)
    assert {share.word for share in model.narrow.feed_forward} == {"int4", "w8a16"}


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "bits 3 is not known"),
        ({"quant_method": "nobody"}, "quant_method 'nobody' is not known"),
        ({"quant_method": "torchao", "quant_type": "int2"}, "quant_type 'int2' is not known"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size"),
        ({"quant_method": "fp8", "sparsity_config": {"sparsity_structure": "2:4"}}, "sparse (2:4)"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "sparse (marlin-24)"),
        (
            {"quant_method": "auto-round", "bits": 4, "extra_config": {"lm_head": {"bits": 16}}},
            "extra_config",
        ),
        ({"quant_method": "quark", "layer_quant_config": {"*.q": {}}}, "layer_quant_config"),
        ({"quant_algo": "MIXED_PRECISION", "quantized_layers": {}}, "no layer is listed"),
        ({"quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 3, "type": "int"}}, "kv_cache"),
    ],
)
def test_a_format_that_is_not_known_is_refused_in_one_sentence(how, word, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA | {"quantization_config": how}))
    status, out, err = run("models", file)
    assert (status, out) == (2, "") and word in err and err.count("\n") == 1


def test_a_cache_is_in_the_format_that_the_checkpoint_states():
    assert cache_format("", "fp8") == "fp8"
    assert cache_format("bf16", "fp8") == "bf16"
    assert cache_format("") == "bf16"


def mixed_file(folder: Path) -> Path:
    """A small model in a mix of formats."""
    small = LLAMA | {"num_hidden_layers": 32}
    file = folder / "config.json"
    file.write_text(json.dumps(small | {"quantization_config": MIXED}))
    return file


@pytest.mark.parametrize(
    ("chip", "attention"), [("b200-sxm", "fp8"), ("h100-sxm", "fp8"), ("a100-sxm-80gb", "w8a16")]
)
def test_parts_run_in_formats_that_the_chip_has(chip, attention, tmp_path):
    found = resolve_deployment(chip, str(mixed_file(tmp_path)), "", "", "", FITTED)
    assert found.plan.weights == "w4a16_nvfp4" and found.plan.cache == "fp8"
    assert format_of("attention", found.model.narrow, found.plan.weights, "bf16") == attention


@pytest.mark.long
def test_a_mixed_checkpoint_is_priced_by_the_command(tmp_path):
    words = ["--chip", "b200-sxm", "--n-chips", "1", "--isl", "1024", "--osl", "32"]
    words += ["--model", mixed_file(tmp_path), "--concurrency", "1"]
    status, out, err = run("predict", "serving", *words, "--json")
    assert (status, err) == (0, "") and "ttft_ms" in out
