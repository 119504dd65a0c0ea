"""Models from config.json: exact counts, formats, and files that are wrong."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest
from configs import LLAMA

from perfmodel.workload.attention import Compressed, Grouped, Recurrent
from perfmodel.workload.huggingface import from_config, read_config
from perfmodel.workload.huggingface.architecture import architectures
from perfmodel.workload.huggingface.forms import NESTED
from perfmodel.workload.model import cache_numbers, parameters, traced

LLAMA_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80} | {
    "num_attention_heads": 64
}
LLAMA_405B = {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126} | {
    "num_attention_heads": 128
}
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 3,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "topk_method": "noaux_tc",
    "vocab_size": 129280,
}
MIXTRAL = LLAMA | {
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
OSS = {
    "architectures": ["GptOssForCausalLM"],
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "vocab_size": 201088,
    "quantization_config": {"quant_method": "mxfp4"},
}
GPT2 = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_layer": 12, "n_head": 12} | {
    "n_positions": 1024,
    "vocab_size": 50257,
}
FALCON_7B = {
    "architectures": ["FalconForCausalLM"],
    "hidden_size": 4544,
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "vocab_size": 65024,
}

COUNTS = {
    "Llama-3.1-8B": (LLAMA, 8_030_261_248),
    "Llama-3.1-70B": (LLAMA | LLAMA_70B, 70_553_706_496),
    "Llama-3.1-405B": (LLAMA | LLAMA_405B, 405_853_388_800),
    "Mixtral-8x7B": (MIXTRAL, 46_702_792_704),
    "DeepSeek-V3": (DEEPSEEK, 671_026_419_200),
    "gpt-oss-120b": (OSS, 116_829_156_672),
    "GPT-2": (GPT2, 124_439_808),
    "Falcon-7B": (FALCON_7B, 6_921_720_704),
}


def folder() -> Path:
    """The configs that come with AIConfigurator, found without importing it."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        pytest.skip("aiconfigurator_core is not installed, and its config.json files come with it")
    return Path(spec.origin).parent / "model_configs"


def written(path: Path, text: str | bytes) -> Path:
    """A config.json that holds `text`."""
    file = path / "config.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def one_sentence(error: pytest.ExceptionInfo, *words: str) -> None:
    """Check that the message is one short line that says `words`."""
    message = str(error.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 600, message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_exact(name):
    # Llama-3.1-8B, a layer: queries and output 2 x 4096 x 4096, keys and values
    # 2 x 4096 x 1024, feed-forward 3 x 4096 x 14336, norms 2 x 4096: 218,112,000.
    # 32 layers and 2 x 128,256 x 4096 of embeddings and a norm: 8,030,261,248.
    #
    # Mixtral-8x7B: as Llama, but 8 experts and a router of 4096 x 8, vocabulary 32,000.
    config, expected = COUNTS[name]
    assert parameters(from_config(config)) == expected


def test_the_hand_count_of_deepseek_v3_is_what_the_importer_finds():
    # Queries and keys through bottlenecks of 1536 and 512 + 64, 128 heads of 192 and of
    # 128 + 128; 256 experts and a shared one, a router with biases; two norms a layer.
    attention = 7168 * 2112 + 1536 * 24576 + 512 * 32768 + 16384 * 7168 + 1536 + 512
    dense = 3 * 7168 * 18432
    experts = 257 * 3 * 7168 * 2048 + 7168 * 256 + 256
    layers = 61 * (attention + 2 * 7168) + 3 * dense + 58 * experts
    assert parameters(from_config(DEEPSEEK)) == layers + 2 * 129280 * 7168 + 7168


def test_active_parameters_leave_out_resting_experts():
    model = from_config(MIXTRAL)
    resting = 32 * 6 * 3 * 4096 * 14336
    embedding = 32000 * 4096
    assert parameters(model) - parameters(model, active=True) == resting + embedding


def test_active_parameters_of_gpt_oss_agree_with_its_card():
    # arXiv 2508.10925, table 1: 5.13 B.
    assert round(parameters(from_config(OSS), active=True) / 1e9, 2) == 5.13


def test_the_cache_of_grouped_attention_is_what_is_published():
    # Llama-3.1-70B in bf16: 80 layers x 8 heads x 2 x 128 numbers x 2 bytes.
    assert 2 * cache_numbers(from_config(LLAMA | LLAMA_70B)) == 327_680


def test_the_cache_of_latent_attention_is_what_is_published():
    assert 2 * cache_numbers(from_config(DEEPSEEK)) == 61 * 576 * 2 == 70_272


def test_the_cache_of_multi_query_attention_has_one_head():
    assert cache_numbers(from_config(FALCON_7B)) == 32 * 2 * 64


def test_sliding_layers_stop_growing_at_the_window():
    # gpt-oss: 18 layers with a window of 128, 18 without; 8 heads x 2 x 64 numbers.
    model = from_config(OSS)
    assert cache_numbers(model, 100) == 36 * 1024 * 100
    assert cache_numbers(model, 10_000) == 18 * 1024 * (128 + 10_000)


def test_equal_layers_are_one_stack():
    assert [stack.count for stack in from_config(LLAMA).stacks] == [32]
    assert sorted(stack.count for stack in from_config(OSS).stacks) == [18, 18]
    assert [stack.count for stack in from_config(DEEPSEEK).stacks] == [3, 58]


def test_models_of_one_structure_share_one_tree():
    small, large = traced(from_config(LLAMA, "a")), traced(from_config(LLAMA | LLAMA_70B, "b"))
    assert jax.tree.structure(small) == jax.tree.structure(large)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(large))


FORMATS = {
    "bf16": {},
    "fp16": {"torch_dtype": "float16"},
    "fp32": {"dtype": "torch.float32"},
    "fp8_block": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "fp8": {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
    "nvfp4": {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
    "mxfp4": {"quantization_config": {"quant_method": "mxfp4"}},
    "int4": {"quantization_config": {"quant_method": "awq", "bits": 4}},
    "w8a16": {"quantization_config": {"quant_method": "gptq", "bits": 8}},
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_native_format_is_the_published_one(name):
    config = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    assert from_config(config | FORMATS[name]).native == name


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"num_bits": 4, "type": "int"}, "int4"),
        ({"num_bits": 8, "type": "int"}, "int8"),
        ({"num_bits": 8, "type": "float"}, "fp8"),
        ({"num_bits": 8, "type": "float", "strategy": "block"}, "fp8_block"),
        ({"num_bits": 4, "type": "float", "group_size": 16}, "nvfp4"),
        ({"num_bits": 4, "type": "float", "group_size": 32}, "mxfp4"),
    ],
)
def test_compressed_tensors_say_bits_and_kind(weights, expected):
    groups = {"group_0": {"weights": weights}}
    quantised = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert from_config(LLAMA | {"quantization_config": quantised}).native == expected


def test_a_mix_of_formats_is_in_that_of_its_feed_forward_layers():
    layers = {"model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"}}
    layers |= {f"model.layers.{i}.mlp.up_proj": {"quant_algo": "NVFP4"} for i in range(32)}
    quantised = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert from_config(LLAMA | {"quantization_config": quantised}).native == "nvfp4"


def test_the_quantisation_file_beside_a_config_is_read(tmp_path):
    file = written(tmp_path, json.dumps(LLAMA))
    assert read_config(file).native == "bf16"
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert read_config(file).native == "fp8"


def configs() -> list[str]:
    """Names of the configs that come with AIConfigurator, where it is installed."""
    try:
        return sorted(
            path.name for path in folder().glob("*_config.json") if "hf_quant" not in path.name
        )
    except pytest.skip.Exception:
        return []


@pytest.mark.long
@pytest.mark.parametrize("name", configs())
def test_each_config_of_aiconfigurator_can_be_read(name):
    model = read_config(folder() / name)
    assert 0 < parameters(model, active=True) <= parameters(model)
    assert cache_numbers(model) <= cache_numbers(model, 1000)


def test_all_configs_of_aiconfigurator_are_tested():
    assert len(list(folder().glob("*_config.json"))) - 28 == len(configs()) == 89


def test_kinds_of_attention_are_recognised():
    def kinds(name):
        stacks = read_config(folder() / f"{name}_config.json").stacks
        return {type(stack.layer.attention) for stack in stacks}

    assert kinds("deepseek-ai--DeepSeek-V4-Flash") == {Compressed}
    assert kinds("Qwen--Qwen3.5-27B") == {Grouped, Recurrent}
    assert kinds("nvidia--Nemotron-H-56B-Base-8K") == {Grouped, Recurrent, type(None)}


@pytest.mark.parametrize(
    ("config", "form"),
    [(LLAMA, "dense"), (MIXTRAL, "mixture"), (DEEPSEEK, "latent")],
)
def test_an_unknown_architecture_gives_the_form_that_it_looks_like(config, form):
    with pytest.raises(ValueError) as error:
        from_config(config | {"architectures": ["NobodyForCausalLM"]}, "mine")
    one_sentence(error, "mine", "NobodyForCausalLM", "is not known", f"--as {form}")


@pytest.mark.parametrize("key", ["mamba_d_state", "conv_L_cache", "rwkv_layers", "lru_width"])
def test_no_form_is_offered_where_none_fits(key):
    with pytest.raises(ValueError) as error:
        from_config(LLAMA | {"architectures": ["NobodyForCausalLM"], key: 64}, "mine")
    one_sentence(error, "none of the forms")
    assert "--as" not in str(error.value)


def test_what_is_not_supported_says_so():
    with pytest.raises(ValueError) as error:
        from_config(DEEPSEEK | {"attention_bias": True})
    one_sentence(error, "attention_bias must be false", "no other way")


WRONG = [None, -1, 0, 1.5, True, "4096", [], {}, float("nan"), float("inf"), 1e30, 10**30]


@pytest.mark.parametrize("value", [*WRONG, pytest.param(10**5000, id="5000 digits")])
@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_hidden_layers"])
def test_wrong_sizes_name_the_field(key, value):
    with pytest.raises(ValueError) as error:
        from_config(LLAMA | {key: value}, "mine")
    one_sentence(error, "mine", key)


FAMILIES = [name for name, how in architectures().items() if how.form != NESTED]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_names_what_it_misses(architecture):
    with pytest.raises(ValueError) as error:
        from_config({"architectures": [architecture]}, "mine")
    one_sentence(error, "mine", "is missing")


@pytest.mark.parametrize("key", [key for key in DEEPSEEK if key not in ("topk_method",)])
@pytest.mark.parametrize("value", [*WRONG, "x", [None], {"a": 1}])
def test_no_field_breaks_the_importer(key, value):
    try:
        assert parameters(from_config(DEEPSEEK | {key: value}, "mine")) > 0
    except ValueError as error:
        assert str(error).startswith("mine") and str(error).endswith(".")


def test_heads_must_divide():
    with pytest.raises(ValueError) as error:
        from_config(LLAMA | {"num_key_value_heads": 7}, "mine")
    one_sentence(error, "num_key_value_heads", "does not divide")


def test_no_more_experts_are_active_than_there_are():
    with pytest.raises(ValueError) as error:
        from_config(MIXTRAL | {"num_experts_per_tok": 9}, "mine")
    one_sentence(error, "num_experts_per_tok", "from 1 to 8")


def test_a_list_of_layers_must_be_as_long_as_the_model():
    with pytest.raises(ValueError) as error:
        from_config(OSS | {"layer_types": ["full_attention"]}, "mine")
    one_sentence(error, "layer_types", "36 layers")


HOSTILE = {
    "empty": "",
    "truncated": json.dumps(LLAMA)[:100],
    "a list": "[]",
    "a number": "5",
    "nested too deep": "[" * 200_000,
    "nested objects": '{"a":' * 100_000,
    "not text": b"\xff\xfe\x00\x01",
    "a field twice": '{"hidden_size": 1, "hidden_size": 2}',
    "a number too long": '{"hidden_size": ' + "9" * 10_000 + "}",
    "too long": '{"a": "' + "x" * 10_000_001 + '"}',
    "not a number": json.dumps(LLAMA | {"hidden_size": float("nan")}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path, name):
    file = written(tmp_path, HOSTILE[name])
    with pytest.raises(ValueError) as error:
        read_config(file)
    one_sentence(error, str(file))


def test_a_field_a_million_times_is_refused_at_once(tmp_path):
    file = written(tmp_path, "{" + ", ".join(f'"{i % 500_000}": 1' for i in range(600_000)) + "}")
    with pytest.raises(ValueError) as error:
        read_config(file)
    one_sentence(error, "there twice")


@pytest.mark.parametrize("place", ["missing.json", "."])
def test_what_is_no_file_is_refused(tmp_path, place):
    with pytest.raises(ValueError) as error:
        read_config(tmp_path / place)
    one_sentence(error, "no such file")


def test_numbers_that_are_not_read_may_be_anything(tmp_path):
    # Nemotron-H writes Infinity as its longest time step.
    file = written(tmp_path, json.dumps(LLAMA | {"time_step_limit": [0.0, float("inf")]}))
    assert parameters(read_config(file)) == 8_030_261_248


@pytest.mark.parametrize(
    ("quantised", "scope"),
    [
        ({"quant_method": "mxfp4"}, "experts"),
        ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, "all"),
        ({"quant_algo": "NVFP4", "exclude_modules": ["model.layers.0.self_attn*"]}, "feed_forward"),
        ({"quant_algo": "NVFP4", "exclude_modules": ["*.mlp.shared_experts*"]}, "experts"),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, "all"),
    ],
)
def test_what_a_checkpoint_leaves_out_is_read_from_its_list(quantised, scope):
    base = DEEPSEEK if scope == "experts" else LLAMA
    narrow = from_config(base | {"quantization_config": quantised}, "m").narrow
    assert getattr(narrow, "scope", narrow) == scope


def test_a_list_of_what_is_left_out_must_be_a_list():
    quantised = {"quant_method": "fp8", "modules_to_not_convert": 5}
    with pytest.raises(ValueError, match="modules_to_not_convert is 5, but must be a list"):
        from_config(LLAMA | {"quantization_config": quantised}, "m")
