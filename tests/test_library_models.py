"""The library of models: its files, its names, and what is published of its models."""

import json

import jax
import pytest

from perfmodel.library.files import ROOT, InputError, fold, read_as, stems
from perfmodel.library.model import (
    ModelFile,
    ends,
    find_model,
    load_model,
    model_files,
    model_names,
)
from perfmodel.workload.model import cache_numbers, parameters, traced

STEMS = sorted(stems("models"))

NAMED_IN_BENCHMARKS = {
    "Deci/DeciLM-7B": "decilm-7b",
    "DeepSeek R1 0528": "deepseek-r1",
    "DeepSeek-V4-Pro 1.6T": "deepseek-v4-pro",
    "GLM-5 744B-A40B": "glm-5",
    "GPT-J 6B": "gpt-j-6b",
    "GPT-OSS 20B": "gpt-oss-20b",
    "Kimi-K2.5 1T": "kimi-k2.5",
    "LLaMA v3.1 70B": "llama-3.1-70b",
    "Llama 4 Scout": "llama-4-scout-17b-16e",
    "MiniMax-M2.5 230B-A10B": "minimax-m2.5",
    "Mistral 7b": "mistral-7b-v0.1",
    "Mixtral-8x7B": "mixtral-8x7b-v0.1",
    "gptj-99.9": "gpt-j-6b",
    "huggyllama/llama-7b": "llama-7b",
    "llama2-70b-99.9": "llama-2-70b",
    "llama3.1-405b": "llama-3.1-405b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Meta-Llama-3-8B": "llama-3-8b",
    "zhipuai/GLM-5": "glm-5",
}


def close(found: float, total) -> bool:
    """Whether a count agrees with a published one, within its tolerance."""
    return abs(found - total.value) <= total.tolerance * total.value


@pytest.mark.parametrize("stem", STEMS)
def test_every_model_loads_and_counts_what_is_published(stem):
    model, published = load_model(stem), model_files()[stem].published
    if published.parameters is not None:
        assert close(parameters(model), published.parameters)
    if published.active is not None:
        embedding = model.hidden * model.vocabulary if published.active.embedding else 0
        assert close(parameters(model, active=True) + embedding, published.active)


@pytest.mark.parametrize("stem", STEMS)
def test_every_model_can_be_traced(stem):
    model = traced(load_model(stem))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model))
    assert cache_numbers(model, 1000.0) > 0


@pytest.mark.parametrize("stem", STEMS)
def test_every_file_names_the_source_of_its_config(stem):
    sources = model_files()[stem].sources
    assert "config" in sources or "paper" in sources
    assert all(len(source) > 20 for source in sources.values())


def test_the_library_has_more_than_forty_models():
    assert len(STEMS) >= 40


def test_no_name_means_two_models():
    names = [(name, stem) for stem, file in model_files().items() for name in file.spellings()]
    assert len({name for name, _ in names}) == len(set(names))
    assert len(model_names()) == len({name for name, _ in names} | {fold(s) for s in STEMS})


@pytest.mark.parametrize("stem", STEMS)
def test_every_spelling_finds_its_model(stem):
    file = model_files()[stem]
    for name in (stem, file.name, *file.aliases, *file.variants):
        assert find_model(name) == stem
        assert find_model(name.upper().replace("-", "_")) == stem
        assert find_model(name.split("/")[-1]) == stem


@pytest.mark.parametrize("name", NAMED_IN_BENCHMARKS)
def test_names_of_published_results_are_known(name):
    assert find_model(name) == NAMED_IN_BENCHMARKS[name]


def test_exact_counts_are_exact():
    assert parameters(load_model("meta-llama/Llama-3.1-70B")) == 70_553_706_496
    assert parameters(load_model("Qwen3-235B-A22B")) == 235_093_634_560
    # OPT-6.7B, a layer: 12 x 4096^2 of products, biases of 3 + 1 + 4 + 1 times 4096, two
    # norms of 2 x 4096; 50,272 + 2050 rows of embeddings and a norm of 2 x 4096.
    layer = 12 * 4096**2 + 9 * 4096 + 4 * 4096
    assert parameters(load_model("opt-6.7b")) == 32 * layer + 52_322 * 4096 + 2 * 4096
    assert parameters(load_model("kimi-k2")) == 1_026_408_232_448


def test_the_cache_of_every_kind_of_attention_is_right():
    # Numbers for each token: grouped, latent, latent with an indexer in all layers or in 21,
    # and grouped in 8 layers of 88.
    assert cache_numbers(load_model("llama-3.1-8b")) == 32 * 2 * 8 * 128
    assert cache_numbers(load_model("falcon-180b")) == 80 * 2 * 8 * 64
    assert cache_numbers(load_model("deepseek-r1")) == 61 * 576
    assert cache_numbers(load_model("glm-5")) == 78 * (576 + 128)
    assert cache_numbers(load_model("glm-5.2")) == 78 * 576 + 21 * 128
    assert cache_numbers(load_model("nemotron-3-super-120b-a12b")) == 8 * 2 * 2 * 128
    # Gemma 3: 52 of 62 layers keep 1024 tokens.
    kept = cache_numbers(load_model("gemma-3-27b"), 10_000)
    assert kept == 2 * 16 * 128 * (52 * 1024 + 10 * 10_000)


def test_compressed_caches_grow_slowly():
    # DeepSeek-V4-Flash: 43 windows of 128 x 512; 21 layers of (512 + 128) / 4 numbers for
    # each token and 20 of 512 / 128; what waits to be compressed.
    model, context = load_model("deepseek-v4-flash"), 2**20
    waiting = 21 * 2 * 2 * 8 * 640 + 20 * 2 * 128 * 512
    entries = 21 * context // 4 * 640 + 20 * context // 128 * 512
    assert cache_numbers(model, context) == 43 * 128 * 512 + entries + waiting


def test_a_variant_is_the_model_in_another_format():
    model, variant = load_model("llama-3.1-70b"), load_model("nvidia/Llama-3.1-70B-Instruct-FP8")
    assert (model.native, variant.native) == ("bf16", "fp8")
    assert model.stacks == variant.stacks
    assert load_model("qwen3-32b-fp8").native == "fp8_block"


def test_models_of_one_structure_share_one_tree():
    trees = [jax.tree.structure(traced(load_model(name))) for name in ("llama-3-8b", "llama-3-70b")]
    assert trees[0] == trees[1]


def test_an_unknown_model_gives_the_nearest_names():
    with pytest.raises(InputError) as error:
        load_model("llama-3.1-71b")
    assert "llama-3.1-70b" in str(error.value) and "perfmodel models" in str(error.value)


def test_a_config_can_be_loaded_by_path(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(model_files()["llama-3.1-8b"].config))
    assert parameters(load_model(file)) == parameters(load_model(str(file))) == 8_030_261_248


def test_a_wrong_config_is_a_fact_error(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read as JSON"):
        load_model(file)


WRONG = {
    "an unknown key": ('name = "x"\nkind = "y"\n[sources]\n[config]', "kind"),
    "no config": ('name = "x"\n[sources]', "config"),
    "an unknown format": ('name = "x"\n[variants]\ny = "fp5"\n[sources]\n[config]', "variants.y"),
    "a source that is not listed": (
        'name = "x"\n[sources]\n[published]\nparameters = { value = 1, source = "z" }\n[config]',
        "source 'z' is not listed",
    ),
    "a negative count": (
        'name = "x"\n[config]\n[sources]\nz = "z"\n[published]\n'
        'parameters = { value = -1, source = "z" }',
        "published.parameters.value",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused(tmp_path, name):
    text, word = WRONG[name]
    file = tmp_path / "model.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=word):
        read_as(ModelFile, file)


def test_names_are_found_with_and_without_the_organisation():
    assert ends("meta-llama/Llama-3.1-8B") == ("metallamallama318b", "llama318b")


def test_every_model_lies_in_the_library():
    assert all(path.parent == ROOT / "models" for path in stems("models").values())
