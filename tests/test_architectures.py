"""Architectures as data: every count against its model's own code or its maker's word, and no config
read wrong."""

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfmodel.library.files import stems
from perfmodel.library.model import load_model, load_priced, model_facts
from perfmodel.workload.attention import Counted, Grouped, Recurrent
from perfmodel.workload.huggingface import architecture, from_config
from perfmodel.workload.huggingface.architecture import architectures, by_model_type
from perfmodel.workload.huggingface.formats import METHODS
from perfmodel.workload.huggingface.forms import FORMS, NESTED
from perfmodel.workload.huggingface.towers import tower_parameters
from perfmodel.workload.huggingface.unread import field_lists
from perfmodel.workload.model import cache_numbers, parameters, weight_bytes

DATA = Path(__file__).parent / "data"
COUNTED = json.loads((DATA / "transformers_counts.json").read_text())["models"]
PUBLISHED = json.loads((DATA / "published_configs.json").read_text())
TOWERS = json.loads((DATA / "tower_counts.json").read_text())["models"]

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def written(folder: Path, config: dict[str, Any]) -> Path:
    """A config.json in a folder."""
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    return file


def shown(folder: Path, config: dict[str, Any], *options: object) -> dict[str, Any]:
    """What `perfmodel models PATH --json` shows of a config."""
    status, out, err = run("models", written(folder, config), *options, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def refused(folder: Path, config: dict[str, Any], *options: object) -> str:
    """The sentence with which `perfmodel models PATH` refuses a config."""
    status, out, err = run("models", written(folder, config), *options)
    assert (status, out) == (2, "") and err.startswith("perfmodel: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("row", COUNTED, ids=[row["architecture"] for row in COUNTED])
def test_a_count_is_that_of_the_models_own_code(row):
    # Half a thousandth: buffers that are saved, and what a family keeps for no use.
    found = parameters(from_config(row["config"], row["architecture"]))
    assert found == pytest.approx(row["parameters"], rel=5e-4)


@pytest.mark.parametrize("row", PUBLISHED, ids=[row["name"] for row in PUBLISHED])
def test_a_published_model_is_counted_by_the_command_as_its_maker_says(row, tmp_path):
    found = shown(tmp_path, row["config"])
    if row["parameters"] is not None:
        assert abs(found["parameters"] - row["parameters"]) <= row["tolerance"] * row["parameters"]
        assert found["cache_bytes_per_token"] == row["cache_bytes_per_token"]
    assert 0 < found["parameters_active"] <= found["parameters"]


@pytest.mark.parametrize("row", TOWERS, ids=[row["architecture"] for row in TOWERS])
def test_towers_are_counted_as_their_own_code_has_them_or_not_at_all(row):
    found = tower_parameters(row["config"], "m")
    if found.vision is not None:
        assert found.vision == pytest.approx(row["vision"], rel=1e-3)
    if found.audio is not None:
        assert found.audio == row["audio"]


def test_most_towers_are_counted():
    found = [tower_parameters(row["config"], "m") for row in TOWERS]
    assert sum(None not in towers for towers in found) >= 17


def test_a_total_is_of_text_and_towers(tmp_path):
    row = next(row for row in PUBLISHED if "Mistral-Small" in row["name"])
    found = shown(tmp_path, row["config"])
    parts = [found[f"parameters{part}"] for part in ("", "_vision", "_audio")]
    assert found["parameters_total"] == sum(parts)
    assert found["parameters_vision"] > 4e8 and found["parameters_audio"] == 0


def test_a_resampler_is_counted(tmp_path):
    # The card of openbmb/MiniCPM-V-2_6: 8.1 billion in all.
    row = next(row for row in PUBLISHED if "MiniCPM-V" in row["name"])
    tower = {"hidden_size": 1152, "image_size": 980, "intermediate_size": 4304, "patch_size": 14}
    tower |= {"model_type": "siglip", "num_attention_heads": 16, "num_hidden_layers": 27}
    config = row["config"] | {"vision_config": tower}
    assert shown(tmp_path, config)["parameters_total"] == pytest.approx(8.1e9, rel=3e-3)
    dropped = shown(tmp_path, config | {"drop_vision_last_layer": True})
    assert dropped["parameters_total"] is None


@pytest.mark.parametrize("name", ["liuhaotian/llava-v1.5-7b", "allenai/Molmo-7B-D-0924"])
def test_a_tower_of_makers_own_code_is_not_said_to_be_none(name, tmp_path):
    row = next(row for row in PUBLISHED if row["name"] == name)
    assert shown(tmp_path, row["config"])["parameters_vision"] is None


def test_a_tower_that_says_too_little_is_not_guessed(tmp_path):
    row = next(row for row in PUBLISHED if "InternVL3" in row["name"])
    found = shown(tmp_path, row["config"])
    assert found["parameters_vision"] is None and found["parameters_total"] is None
    status, out, _ = run("models", written(tmp_path, row["config"]))
    assert status == 0 and "not counted" in out


def test_every_architecture_names_a_form_and_a_known_parent():
    tables = tomllib.loads(architecture.ARCHITECTURES.read_text())
    assert len(tables) > 170 and by_model_type()
    for name, how in architectures().items():
        assert how.form in FORMS or how.form == NESTED, name
        assert how.like in {"", *tables}, name


NEW = """
[NewForCausalLM]
like = "LlamaForCausalLM"
model_types = ["new"]
names = { width = "hidden_size", depth = "num_hidden_layers" }
gated = false
experts = { inter = ["expert_width"], shared = "count" }
"""


@pytest.fixture
def with_new(tmp_path, monkeypatch):
    """The library with one architecture more."""
    file = tmp_path / "architectures.toml"
    file.write_text(architecture.ARCHITECTURES.read_text() + NEW)
    monkeypatch.setattr(architecture, "ARCHITECTURES", file)
    caches = (architecture.architectures, architecture.by_model_type)
    for cache in caches:
        cache.cache_clear()
    yield
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("with_new")
def test_a_new_architecture_is_a_few_lines_of_data():
    sizes = {"width": 1024, "depth": 4, "num_attention_heads": 8, "vocab_size": 1000}
    config = {"architectures": ["NewForCausalLM"], "intermediate_size": 4096} | sizes
    # A layer: 4 x 1024^2 of attention, 2 x 1024 x 4096 of a layer without a gate, two norms.
    layer = 4 * 1024**2 + 2 * 1024 * 4096 + 2 * 1024
    assert parameters(from_config(config)) == 4 * layer + 2 * 1000 * 1024 + 1024
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "expert_width": 512}
    # Experts of the kind that is usual have a gate: 3 x 1024 x 512 each, and a router.
    mixed = 4 * 1024**2 + 8 * 3 * 1024 * 512 + 8 * 1024 + 2 * 1024
    found = from_config(config | experts | {"n_shared_experts": 0})
    assert parameters(found) == 4 * mixed + 2 * 1000 * 1024 + 1024


def test_two_halves_side_by_side_are_one_layer(tmp_path):
    row = next(row for row in PUBLISHED if "Falcon-H1" in row["name"])
    model = from_config(row["config"])
    kinds = [type(stack.layer.attention) for stack in model.stacks]
    assert kinds == [Grouped, Recurrent]
    assert shown(tmp_path, row["config"])["layers"] == 72


def test_a_windowed_cache_stops_growing(tmp_path):
    row = next(row for row in PUBLISHED if "Trinity" in row["name"])
    found = shown(tmp_path, row["config"])
    # 15 of 60 layers see all: 2 x 8 heads x 128 numbers x 2 bytes each; 45 keep 4096 tokens.
    assert found["cache_bytes_per_token_long"] == 15 * 4096
    assert found["cache_bytes_once"] == 45 * 4096 * 4096


def test_layers_that_share_keys_have_neither_products_nor_cache_for_them():
    row = next(row for row in PUBLISHED if "gemma-4-E4B" in row["name"])
    model = from_config(row["config"])
    text = row["config"]["text_config"]
    kept = text["layer_types"][: text["num_hidden_layers"] - text["num_kv_shared_layers"]]
    sizes = {"sliding_attention": 256, "full_attention": 512}
    assert cache_numbers(model) == sum(2 * 2 * sizes[kind] for kind in kept)
    # Tables of embeddings for each layer are looked up: 42 x 256 numbers for each of 262,144 words.
    resting = parameters(model) - parameters(model, active=True)
    assert resting == 42 * 256 * 262_144


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_local_experts", 8),
        ("num_kv_shared_layers", 4),
        ("kv_lora_rank", 512),
        ("cla_factor_layers", 2),
        ("n_memory_slots", 64),
        ("cross_attention_layers", [1, 3]),
        ("use_qk_norm", True),
        ("hidden_size_per_layer_input", 256),
        ("add_qkv_bias", True),
        ("use_attention_memory", True),
        ("mlp_expansion", 2.5),
        ("total_ut_steps", 4),
        ("sliding_window_layers", 4),
    ],
)
def test_a_field_that_no_form_reads_and_that_may_count_is_refused_by_name(key, value, tmp_path):
    said = refused(tmp_path, LLAMA | {key: value})
    assert f"{key} is " in said and "LlamaForCausalLM is read without it" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"rope_type": "llama3", "factor": 32.0}),
        ("max_position_embeddings", 131072),
        ("pretraining_tp", 1),
        ("attention_dropout", 0.5),
        ("eos_token_id", [1, 2]),
        ("num_nextn_predict_layers", 1),
        ("num_local_experts", None),
        ("num_local_experts", 0),
        ("use_qk_norm", False),
        ("mascot", "llama"),
        ("use_rmsnorm", True),
        ("embeddings_scale_by_sqrt_dim", True),
        ("num_heads", 32),
        ("attention_head_dim", 64),
        ("num_query_groups", 8),
    ],
)
def test_a_harmless_field_changes_nothing(key, value):
    assert parameters(from_config(LLAMA | {key: value})) == parameters(from_config(LLAMA))


@pytest.mark.parametrize(
    ("key", "value", "usual"),
    [
        ("attention_head_dim", 128, "head_dim is read as 64"),
        ("num_query_groups", 4, "num_key_value_heads is read as 8"),
        ("num_heads", 16, "num_attention_heads is read as 32"),
    ],
)
def test_another_name_of_a_field_may_not_contradict_it(key, value, usual, tmp_path):
    said = refused(tmp_path, LLAMA | {key: value})
    assert f"{key} is {value}, but {usual}; keep the one that is right" in said


def test_a_window_that_is_not_used_is_harmless(tmp_path):
    config = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "sliding_window": 4096}
    same = shown(tmp_path, config | {"use_sliding_window": False})
    assert same["cache_bytes_per_token_long"] == same["cache_bytes_per_token"]


def test_other_names_are_read_where_the_architecture_is_not_known(tmp_path):
    names = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
    }
    config = {names.get(key, key): value for key, value in LLAMA.items()}
    config |= {"architectures": ["NobodyForCausalLM"], "kv_channels": 128}
    assert "--as dense" in refused(tmp_path, config)
    found = shown(tmp_path, config, "--as", "dense")
    assert found["cache_bytes_per_token"] == 16 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(
    "name", ["Rwkv7ForCausalLM", "T5ForConditionalGeneration", "OuroForCausalLM"]
)
def test_no_form_is_named_for_what_none_can_read(name, tmp_path):
    said = refused(tmp_path, LLAMA | {"architectures": [name]})
    assert "look like none of the forms" in said


def test_experts_that_do_nothing_take_their_part_of_the_tokens(tmp_path):
    row = next(row for row in PUBLISHED if "LongCat" in row["name"])
    # arXiv 2509.01322: 27 billion on average, from 18.6 to 31.3.
    assert shown(tmp_path, row["config"])["parameters_active"] == pytest.approx(27e9, rel=0.02)


def test_an_unknown_architecture_is_read_as_a_form_that_is_named(tmp_path):
    config = LLAMA | {"architectures": ["NobodyForCausalLM"], "num_slots_in_layer": 7}
    assert "--as dense" in refused(tmp_path, config)
    found = shown(tmp_path, config, "--as", "dense")
    assert found["parameters"] == parameters(from_config(LLAMA))
    assert any("read as dense" in note for note in found["notes"])
    assert "num_slots_in_layer is not read" in found["notes"]


def test_an_unknown_architecture_may_be_read_as_a_known_one(tmp_path):
    config = LLAMA | {"architectures": ["NobodyForCausalLM"]}
    found = shown(tmp_path, config, "--as", "Qwen2ForCausalLM")
    # Biases of queries, keys and values: 2048 + 2 x 512 in 16 layers.
    assert found["parameters"] == parameters(from_config(LLAMA)) + 16 * 3072


def test_the_form_of_an_unknown_architecture_may_stand_in_its_file(tmp_path):
    config = LLAMA | {"architectures": ["NobodyForCausalLM"], "read_as": "dense"}
    found = shown(tmp_path, config)
    assert found["parameters"] == parameters(from_config(LLAMA))
    assert any("read as dense" in note for note in found["notes"])
    assert "'dens'" in refused(tmp_path, config | {"read_as": "dens"})
    assert "read_as is 3" in refused(tmp_path, config | {"read_as": 3})


@pytest.mark.slow
def test_each_command_says_once_what_it_assumes_of_a_model(tmp_path):
    config = LLAMA | {"architectures": ["NobodyForCausalLM"], "read_as": "dense", "n_slots": 7}
    file = written(tmp_path, config)
    asked = {"chip": "h100-sxm", "n_chips": "1", "isl": "64", "osl": "8", "concurrency": "1,2"}
    options = [
        word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", value)
    ]
    status, _, err = run("predict", "serving", "--model", file, *options)
    assert status == 0 and err.count("\n") == 1
    assert "read as dense: a norm before attention" in err and "n_slots is not read" in err
    row = [f"{key}={value}" for key, value in (asked | {"concurrency": "1"}).items()]
    status, _, said = run("explain", f"model={file}", *row)
    assert (status, said) == (0, err)
    (tmp_path / "grid.toml").write_text(
        f'model = "{file}"\n'
        + "".join(f'{k} = "{v}"\n' for k, v in list(asked.items())[:1])
        + "n_chips = 1\nisl = 64\nosl = 8\nconcurrency = [1, 2]\n"
    )
    status, _, said = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.csv")
    assert (status, said) == (0, err)


def test_half_of_the_layers_of_hunyuan_large_share_the_cache_of_those_before(tmp_path):
    row = next(row for row in PUBLISHED if "Hunyuan-Large" in row["name"])
    found = shown(tmp_path, row["config"])
    assert found["cache_bytes_per_token"] == 32 * 2 * 8 * 80 * 2
    assert found["parameters_active"] == pytest.approx(52e9, rel=0.02)
    assert (
        shown(tmp_path, row["config"] | {"use_cla": False})["cache_bytes_per_token"]
        == 2 * (found["cache_bytes_per_token"])
    )


def test_the_release_of_a_file_says_which_language_model_it_has(tmp_path):
    row = next(row for row in PUBLISHED if "MiniCPM-V" in row["name"])
    found = shown(tmp_path, row["config"])
    assert found["parameters_vision"] is None
    assert "may be 2.0 or 2.5" in refused(tmp_path, row["config"] | {"version": 9.9})


def test_layers_with_experts_of_attention_are_layers_of_the_file(tmp_path):
    row = next(row for row in PUBLISHED if "jetmoe" in row["name"])
    found = shown(tmp_path, row["config"])
    # Two of eight experts: queries and outputs of 2,048 columns, feed-forward halves of 5,632.
    resting = 24 * 6 * (2 * 2048 * 2048 + 3 * 2048 * 5632)
    assert found["parameters"] - found["parameters_active"] == resting and found["layers"] == 24


@pytest.mark.parametrize("form", ["dens", "latent", "mixture"])
def test_a_form_that_does_not_fit_is_refused(form, tmp_path):
    said = refused(tmp_path, LLAMA | {"architectures": ["NobodyForCausalLM"]}, "--as", form)
    assert form in said or "missing" in said


def test_a_form_is_for_files_alone():
    status, _, err = run("models", "llama-3.1-8b", "--as", "dense")
    assert status == 2 and "model of the library" in err


def index(folder: Path, size: object) -> None:
    """The index of a checkpoint beside the config."""
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": {}})
    (folder / "model.safetensors.index.json").write_text(text)


def test_an_unknown_architecture_is_held_against_the_index_beside_it(tmp_path):
    config = LLAMA | {"architectures": ["NobodyForCausalLM"]}
    index(tmp_path, 2 * parameters(from_config(LLAMA)))
    assert shown(tmp_path, config, "--as", "dense")["parameters"] > 0
    index(tmp_path, 3e9)
    assert "the form does not fit" in refused(tmp_path, config, "--as", "dense")
    index(tmp_path, "much")
    assert "cannot be read as an index" in refused(tmp_path, config, "--as", "dense")


def test_the_makers_own_form_is_named(tmp_path):
    own = {"dim": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 32000}
    assert "params.json" in refused(tmp_path, own)


def test_a_text_part_that_is_not_known_is_refused(tmp_path):
    part = {"model_type": "nobody", "hidden_size": 64}
    said = refused(
        tmp_path, {"architectures": ["LlavaForConditionalGeneration"], "text_config": part}
    )
    assert "model_type is 'nobody'" in said


def test_a_text_part_may_leave_sizes_to_the_class_and_a_whole_file_may_not(tmp_path):
    part = {"model_type": "llama", "vocab_size": 32064}
    whole = {"architectures": ["LlavaForConditionalGeneration"], "text_config": part}
    # Vicuna 7B, whose file names the vocabulary alone: a Llama of 6.7 B.
    assert parameters(from_config(whole)) == pytest.approx(6.739e9, rel=1e-3)
    assert "hidden_size" in refused(tmp_path, {"architectures": ["LlamaForCausalLM"], **part})


def test_an_outer_size_may_not_contradict_the_text_part(tmp_path):
    part = {**LLAMA, "model_type": "llama"}
    whole = {"architectures": ["LlavaForConditionalGeneration"], "text_config": part}
    assert "hidden_size is 1024" in refused(tmp_path, whole | {"hidden_size": 1024})


def test_two_names_of_one_field_must_agree(tmp_path):
    config = {"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8, "num_local_experts": 16}
    said = refused(
        tmp_path, LLAMA | config | {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
    )
    assert "names of one field" in said
    gpt = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "hidden_size": 512}
    assert "two names of one field" in refused(tmp_path, gpt)


TOWER: dict[str, Any] = {
    "model_type": "mllama_vision_model",
    "hidden_size": 1280,
    "image_size": 560,
    "intermediate_size": 5120,
    "max_num_tiles": 4,
    "num_channels": 3,
    "num_global_layers": 8,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    "vision_output_dim": 7680,
}
"""As `config.json` of meta-llama/Llama-3.2-11B-Vision-Instruct has it."""


def crossed(hidden: int, inter: int, layers: int, heads: int) -> dict[str, Any]:
    """A config.json of Llama 3.2 with images: every fifth layer from the fourth on is cross attention."""
    text = {"model_type": "mllama_text_model", "hidden_size": hidden, "intermediate_size": inter}
    text |= {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8}
    text |= {"cross_attention_layers": list(range(3, layers, 5)), "vocab_size": 128256}
    whole = {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama"}
    whole |= {"torch_dtype": "bfloat16", "text_config": text | {"tie_word_embeddings": False}}
    return whole | {"vision_config": TOWER}


CROSSED = {
    # In all: 10.67 and 88.8 billion of the model cards (recalled); layers of self-attention.
    "11B": (crossed(4096, 14336, 40, 32), 10.67e9, 32),
    "90B": (crossed(8192, 28672, 100, 64), 88.8e9, 80),
}


@pytest.mark.parametrize("name", CROSSED)
def test_cross_attention_is_in_memory_and_a_token_is_cached_in_the_other_layers(name, tmp_path):
    config, total, layers = CROSSED[name]
    found = shown(tmp_path, config)
    assert found["parameters_total"] == pytest.approx(total, rel=0.01)
    assert found["cache_bytes_per_token"] == layers * 2 * 8 * 128 * 2
    assert found["cache_bytes_per_token_long"] == found["cache_bytes_per_token"]
    whole = load_model(str(tmp_path / "config.json"))
    priced = load_priced(str(tmp_path / "config.json"))
    assert priced.layers == layers and parameters(whole) + whole.towers == found["parameters_total"]
    assert parameters(priced) + priced.towers == found["parameters_total"]


@pytest.mark.long
def test_a_request_of_text_takes_the_time_of_the_model_without_cross_attention(tmp_path):
    words = ["--chip", "h100-sxm", "--n-chips", "1", "--isl", "512", "--osl", "64"]
    words += ["--concurrency", "1", "--json"]
    config = CROSSED["11B"][0]
    _, out, err = run("predict", "serving", "--model", written(tmp_path, config), *words)
    assert "requests without an image" in err and err.count("\n") == 1
    text = config["text_config"] | {"num_hidden_layers": 32, "model_type": "llama"}
    del text["cross_attention_layers"]
    plain = {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"} | text
    (tmp_path / "plain").mkdir()
    _, other, _ = run("predict", "serving", "--model", written(tmp_path / "plain", plain), *words)
    row, expected = (json.loads(shown)["rows"][0] for shown in (out, other))
    assert row["tpot_ms"] == pytest.approx(expected["tpot_ms"], rel=1e-6)
    more = row["weights_gb_per_chip"] - expected["weights_gb_per_chip"]
    # Eight layers of cross attention, 218.1 million each, and the tower, in 16 bits.
    assert more == pytest.approx(2 * (8 * 218.1e6 + 895.0e6) / 1e9, rel=1e-3)


@pytest.mark.parametrize("places", [[3, 3], [3, 40], list(range(40))])
def test_places_of_cross_attention_are_layers_of_the_file(places, tmp_path):
    config = CROSSED["11B"][0]
    text = config["text_config"] | {"cross_attention_layers": places}
    assert "cross_attention_layers" in refused(tmp_path, config | {"text_config": text})


UNPRICED = [row for row in PUBLISHED if from_config(row["config"]).unpriced]


def test_what_no_kernel_prices_is_counted_and_not_predicted(tmp_path):
    assert UNPRICED
    for row in UNPRICED:
        file = written(tmp_path, row["config"])
        words = ["--chip", "h100", "--n-chips", "1", "--isl", "64", "--osl", "8"]
        status, out, err = run("predict", "serving", "--model", file, *words, "--concurrency", "1")
        assert (status, out) == (2, "") and "no time is predicted" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["RwkvForCausalLM", "Zamba2ForCausalLM"])
def test_layers_of_no_kernel_keep_a_state(name):
    row = next(row for row in COUNTED if row["architecture"] == name)
    model = from_config(row["config"])
    assert model.unpriced
    assert any(isinstance(stack.layer.attention, Counted) for stack in model.stacks)
    assert cache_numbers(model, 1000) - cache_numbers(model) * 1000 > 0


STATES = {
    # Numbers of a state by hand: channels x (state + taps - 1), (taps - 1) x stream, width x taps.
    "state-spaces/mamba-2.8b-hf": ("mamba", 5120 * (16 + 3)),
    "LiquidAI/LFM2-1.2B": ("convolution", 2048 * 2),
    "google/recurrentgemma-9b": ("rglru", 4096 * 4),
}


@pytest.mark.long
@pytest.mark.parametrize("name", STATES)
def test_a_state_without_a_kernel_of_its_own_is_priced_as_mamba_2_from_the_prior(name, tmp_path):
    kind, numbers = STATES[name]
    config = next(row["config"] for row in PUBLISHED if row["name"] == name)
    model = from_config(config)
    states = [s.layer.attention for s in model.stacks if isinstance(s.layer.attention, Recurrent)]
    assert [(one.kind, one.state()) for one in states] == [(kind, numbers)]
    words = ["--chip", "h100-sxm", "--n-chips", "1", "--isl", "512", "--osl", "64"]
    words += ["--model", written(tmp_path, config), "--concurrency", "1", "--json"]
    status, out, _ = run("predict", "serving", *words)
    row = json.loads(out)["rows"][0]
    assert status == 0 and row["basis"] == "prior"
    # No token comes before the weights are read once, at the 3.35 TB/s of an H100.
    assert row["tpot_ms"] > 1e3 * model_facts(str(tmp_path / "config.json")).weight_bytes / 3.35e12


@pytest.mark.parametrize("stem", sorted(stems("models"))[::7])
def test_models_of_the_library_show_their_numbers(stem):
    status, out, _ = run("models", stem, "--json")
    found = json.loads(out)
    assert status == 0 and found["parameters"] == model_facts(stem).parameters
    assert found["weight_bytes"] > 0.4 * found["parameters"]


BROKEN = [None, True, -1, 0, 3, 7.5, "x", [], [1], {}, {"a": 1}, 10**12, float("nan")]
BASES = [row["config"] for row in PUBLISHED] + [row["config"] for row in COUNTED[::4]]


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_broken_config_is_read_or_refused_in_one_sentence(data):
    config = json.loads(json.dumps(data.draw(st.sampled_from(BASES))))
    for _ in range(data.draw(st.integers(1, 3))):
        tables = [config, *(value for value in config.values() if isinstance(value, dict))]
        table = data.draw(st.sampled_from(tables))
        if not table:
            continue
        key = data.draw(st.sampled_from(sorted(table)))
        change = data.draw(st.sampled_from(["drop", "break", "double", "nest"]))
        if change == "drop":
            del table[key]
        elif change == "break":
            table[key] = copy.deepcopy(data.draw(st.sampled_from(BROKEN)))
        elif change == "double":
            table[f"own_{key}"] = copy.deepcopy(table[key])
        else:
            config["text_config"] = {key: copy.deepcopy(table[key])}
    try:
        model = from_config(config, "mine")
    except ValueError as error:
        assert str(error).startswith("mine") and str(error).endswith(".") and "\n" not in str(error)
    else:
        assert 0 < parameters(model, active=True) <= parameters(model)
    towers = tower_parameters(config, "mine")
    assert all(count is None or count >= 0 for count in towers)


METHOD_WORDS = sorted(METHODS)
ALIASES = [(name, usual) for usual, names in field_lists()["same"].items() for name in names]


@given(st.sampled_from(ALIASES), st.sampled_from([16, 32, 64, 128, 2048, 8192]))
def test_another_name_says_the_same_or_is_refused(alias, value):
    name, usual = alias
    read = {"head_dim": 64} | LLAMA
    try:
        found = from_config(LLAMA | {name: value}, "mine")
    except ValueError as error:
        assert value != read[usual] and f"{name} is {value}" in str(error)
    else:
        assert value == read[usual] and parameters(found) == parameters(from_config(LLAMA))


FORMAT_KEYS = (
    "lm_head",
    "bits",
    "group_size",
    "modules_to_not_convert",
    "dynamic",
    "config_groups",
)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(METHOD_WORDS),
    st.dictionaries(st.sampled_from(FORMAT_KEYS), st.sampled_from(BROKEN)),
)
def test_a_broken_format_is_read_or_refused_in_one_sentence(method, table):
    config = LLAMA | {"quantization_config": table | {"quant_method": method}}
    try:
        model = from_config(copy.deepcopy(config), "mine")
    except ValueError as error:
        assert str(error).startswith("mine") and str(error).endswith(".") and "\n" not in str(error)
    else:
        assert 0.4 < weight_bytes(model) / parameters(model) <= 4


SILENT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "vocab_size",
    "num_attention_heads",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([row for row in COUNTED if "text_config" not in row["config"]]), st.data())
def test_a_size_that_is_dropped_is_never_made_up(row, data):
    # A count without a size may be what transformers takes for it, and nothing else.
    config = dict(row["config"])
    keys = [key for key in SILENT if key in config]
    if not keys:
        return
    config.pop(data.draw(st.sampled_from(keys)))
    try:
        found = parameters(from_config(config, "mine"))
    except ValueError:
        return
    assert found == pytest.approx(row["parameters"], rel=5e-4)
