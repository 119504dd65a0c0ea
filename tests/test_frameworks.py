"""Files of frameworks: what a version says, what it shares, and faults said in one sentence."""

from pathlib import Path

import pytest

from perfmodel.errors import InputError
from perfmodel.kernels.backends import (
    ATTENTION_BACKENDS,
    COLLECTIVE_BACKENDS,
    GEMM_BACKENDS,
    MOE_BACKENDS,
    backends_of,
)
from perfmodel.library.chip import load_chip
from perfmodel.library.files import read_as, stems
from perfmodel.library.framework import (
    FrameworkFile,
    Version,
    find_version,
    framework_files,
    frameworks,
    host_name,
    library_of,
    older_versions,
    version_of,
)
from perfmodel.workload.plan import Plan

TABLES = {
    "attention": ATTENTION_BACKENDS,
    "gemm": GEMM_BACKENDS,
    "moe": MOE_BACKENDS,
    "collective": COLLECTIVE_BACKENDS,
    "unfused_collective": COLLECTIVE_BACKENDS,
}
VERSIONS = [*frameworks(), *older_versions()]


@pytest.mark.parametrize("word", VERSIONS)
@pytest.mark.parametrize("kind", TABLES)
def test_every_library_that_a_version_names_is_known(word: str, kind: str):
    for choice in getattr(find_version(word), kind).values():
        assert {choice.library, choice.fp8_cache} - {""} <= TABLES[kind].keys()


def test_todays_version_is_called_by_the_framework_s_name():
    for name, file in framework_files().items():
        assert name in file.version and file.version[name].like == ""


def test_an_older_version_says_what_was_other_and_shares_the_rest():
    old, new = find_version("vllm-0.5"), find_version("vllm")
    assert old.attention["hopper"].library == "flash_attention_2"
    assert old.attention["ada"] == new.attention["ada"] and old.moe == new.moe
    assert old.reserved_output == new.reserved_output == 0.75
    assert old.section("host")["step_us"] == 790 and new.section("host") == {}
    engine = find_version("trtllm-engine")
    assert engine.fuses_quantisation and not engine.fuses_all_reduce(plain_norms=True)


def test_a_version_has_a_host_of_its_own_where_it_says_so():
    assert host_name("trtllm", "trtllm-1.0") == "trtllm-1.0"
    assert host_name("vllm", "vllm-0.12") == host_name("vllm", "") == "vllm"
    assert not find_version("vllm-0.12").schedules_ahead and find_version("vllm").schedules_ahead
    own, today = (
        load_chip("h100-sxm", Plan(framework="trtllm", framework_version=word)).efficiency
        for word in ("trtllm-1.0", "")
    )
    assert float(own.host.per_kernel) > float(today.host.per_kernel)
    assert float(own.gemm.launch) == float(today.gemm.launch)


def test_norms_that_add_one_are_fused_by_some():
    found = {name: find_version(name).fuses_all_reduce(plain_norms=False) for name in frameworks()}
    words = ("aiter", "atom", "cerebras", "nccl", "sambanova", "trtllm", "vllm")
    others = dict.fromkeys(words, True)
    assert found == others | {"sglang": False}


def test_a_plan_is_served_by_its_version():
    assert version_of(Plan()).name == "the smooth form"
    assert version_of(Plan(framework="sglang")) is find_version("sglang")
    old = version_of(Plan(framework="vllm", framework_version="vllm-rocm-0.6"))
    assert old.decodes_per_query_head and not find_version("vllm").decodes_per_query_head


def test_flash_attention_2_leaves_a_cache_in_fp8_to_another():
    choices = find_version("vllm").attention
    assert library_of(choices, "ada") == "flash_attention_2"
    assert library_of(choices, "ada", "fp8") == "flashinfer"
    assert library_of(choices, "gaudi") == ""
    assert backends_of("vllm", "gaudi")["attention_backend"].name == "smooth"


FILE = '[version.mine]\nname = "1"\n[sources]\ncode = "its code"\n'

WRONG = {
    "no name": ("", "name: it is missing; add it"),
    "an unknown key": ('name = "x"\nfast = true\n', "fast: no such key"),
    "a source that is not listed": (
        'name = "x"\n[version.mine.gemm]\nada = { library = "y", source = "z" }\n',
        "source 'z' is not listed under [sources]",
    ),
    "a version like none": (
        'name = "x"\n[version.old]\nname = "0"\nlike = "new"\n',
        "old is like 'new', which is no other version",
    ),
    "norms of another word": (
        'name = "x"\n[version.mine.fusions]\n'
        'all_reduce = { norms = "few", fits = "x", source = "code" }\n',
        "norms: it is 'few'; it should be 'all', 'plain' or 'none'",
    ),
}


@pytest.mark.parametrize("content, said", WRONG.values(), ids=WRONG)
def test_a_fault_of_a_file_is_named(tmp_path: Path, content: str, said: str):
    path = tmp_path / "mine.toml"
    path.write_text(content + FILE)
    with pytest.raises(InputError) as caught:
        read_as(FrameworkFile, path)
    assert said in str(caught.value)


def test_one_file_is_all_that_a_version_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = stems("frameworks")["vllm"].read_text()
    text += '\n[version."vllm-9"]\nname = "vLLM 9"\nlike = "vllm"\n'
    text += '[version."vllm-9".attention]\nhopper = { library = "triton_mla", source = "code" }\n'
    path = tmp_path / "vllm.toml"
    path.write_text(text)
    found = read_as(FrameworkFile, path).version["vllm-9"]
    assert isinstance(found, Version) and found.attention["hopper"].library == "triton_mla"


def test_a_wafer_without_a_framework_runs_the_newest_generation_of_its_software():
    def cycles(framework: str | None, version: str = "") -> float:
        plan = Plan(framework=framework, framework_version=version)
        return float(load_chip("wse-3", plan).efficiency.hop_cycles)

    assert cycles(None) == cycles("cerebras") < cycles("cerebras", "cerebras-2024")
    assert cycles("cerebras", "waferllm") == pytest.approx(3.95)


def test_the_service_of_a_wafer_is_of_the_newest_generation_alone():
    def step(version: str) -> float:
        plan = Plan(framework="cerebras", framework_version=version)
        return float(load_chip("wse-3", plan).efficiency.host.step)

    assert step("") == pytest.approx(360e-6) and step("cerebras-2024") == step("waferllm") == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "parameters.mesh]\nhop_cycle =",
            "mesh.hop_cycle in 1 is no parameter; allowed are hop_cycles in 1",
        ),
        (
            "parameters.mess]\nhop_cycles =",
            "there are no parameters of mess; allowed are those of mesh, gemm",
        ),
    ],
)
def test_a_parameter_that_nothing_reads_is_refused(given: str, said: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        stems("frameworks")["cerebras"]
        .read_text()
        .replace("parameters.mesh]\nhop_cycles =", given, 1)
    )
    with pytest.raises(InputError, match=said):
        read_as(FrameworkFile, path)
