"""Files of facts and of fitted parameters: names found, faults said in one sentence."""

import functools
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfmodel.errors import InputError
from perfmodel.hardware.parameters import BoardPower, Efficiency, parameters
from perfmodel.library.chip import build, chip_files, find_chip, load_chip, origin
from perfmodel.library.files import fold, named, nearest, pick, read_as, read_toml, stems
from perfmodel.library.fitted import (
    FAMILIES,
    FITTED,
    Origin,
    from_file,
    load_efficiency,
    read_fitted,
    read_prior,
)
from perfmodel.library.fitted_check import check_fitted
from perfmodel.library.fitted_intervals import load_interval
from perfmodel.library.model import find_model
from perfmodel.library.schema import ChipFile
from perfmodel.workload.plan import Plan

L4 = stems("chips")["l4"].read_text()


@pytest.mark.parametrize("name", ["H100-SXM", "h100_sxm", "h100 sxm", "h100.sxm", "H100/sxm"])
def test_how_a_chip_is_spelled_does_not_matter(name: str):
    assert find_chip(name) == "h100-sxm"


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.1-70B", "llama-3.1-70b", "LLAMA 3.1 70B", "llama_3_1_70b"]
)
def test_how_a_model_is_spelled_does_not_matter(name: str):
    assert find_model(name) == "llama-3.1-70b"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown chip 'h1000'.*h100-sxm.*`perfmodel chips`"):
        find_chip("h1000")
    with pytest.raises(InputError, match=r"unknown model.*llama-3\.1-70b"):
        find_model("lama-3.1-70x")


def test_what_people_call_a_chip_counts_as_its_name_where_one_is_misspelled():
    with pytest.raises(InputError, match=r"'h1000'; the nearest are h100-sxm"):
        find_chip("h1000")  # one letter from the alias H100, three from the file h100-sxm
    with pytest.raises(InputError, match=r"'5099'; the nearest are rtx-5090"):
        find_chip("5099")


def test_a_name_like_nothing_and_no_name_are_said_so():
    with pytest.raises(InputError, match="nothing is named like it"):
        find_chip("§§")
    with pytest.raises(InputError, match="chip is missing"):
        find_chip(" - ")


def test_a_name_of_megabytes_is_not_repeated():
    with pytest.raises(InputError) as caught:
        pick("x" * 1_000_000, {"a": "a"}, "chip", "perfmodel chips")
    assert len(str(caught.value)) < 200


def test_folding_leaves_what_matters():
    assert fold("A-b_c./ D") == "abcd"
    assert nearest("gem", ["gemm", "moe"]) == ["gemm"]


def test_many_names_are_cut_short():
    assert named(["a", "b"]) == "a, b"
    assert named([]) == "none"
    assert named([str(i) for i in range(22)], most=2) == "0, 1 and 20 more"


HOSTILE = {
    "truncated": b'name = "x',
    "binary": bytes(range(256)),
    "UTF-16": 'name = "x"'.encode("utf-16"),
    "deep": b"a=" + b"[" * 100_000,
    "digits": b"a=" + b"9" * 5000,
    "huge": b"#" * 2_000_000,
    "duplicate": b"a=1\na=2\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_toml_is_one_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "file.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file\.toml") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)


def test_a_toml_file_may_begin_with_a_bom(tmp_path: Path):
    (tmp_path / "file.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_toml(tmp_path / "file.toml") == {"a": 1}


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_toml_file_that_is_not_there_is_named(tmp_path: Path, name: str):
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path / name)


FAULTS = {
    "unknown unit": ('unit = "GHz"', 'unit = "GHx"', "clock: unknown unit 'GHx'; allowed are"),
    "wrong unit": ('unit = "GHz"', 'unit = "GB"', "clock: 'GB' measures byte, but 1/s is wanted"),
    "unknown key": ("[cores]", "[corez]", "corez: no such key"),
    "missing key": ('vendor = "NVIDIA"\n', "", "vendor: it is missing"),
    "unknown source": ('source = "datasheet"', 'source = "x"', "source 'x' is not listed under"),
    "missing source": ('source = "datasheet"\nconf', "conf", "source: it is missing"),
    "negative": ("value = 58", "value = -58", "cores.value"),
    "zero": ("value = 58", "value = 0", "cores: must be greater than zero"),
    "not a number": ("value = 58", "value = nan", "cores.value"),
    "a word": ("value = 58", 'value = "many"', "cores.value"),
    "unknown execution": ('"launched"', '"x"', "'launched', 'scheduled' or 'dataflow'"),
    "unknown node": ('node = "n5"', 'node = "../n5"', "unknown technology '../n5'; the library"),
    "unknown memory": ('technology = "gddr6"', 'technology = "x"', "unknown technology 'x'"),
    "unknown format": ("fp8 = {", "fp9 = {", "matrix.fp9"),
}


@pytest.mark.parametrize(("old", "new", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_a_chip_file_is_named(tmp_path: Path, old: str, new: str, said: str):
    assert old in L4
    path = tmp_path / "my.toml"
    path.write_text(L4.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        build("my", read_as(ChipFile, path), Plan(), FITTED)
    assert said in str(caught.value)
    assert not str(caught.value).endswith("..")


GOOD = "[gemm.smooth.bf16]\nlaunch_us = 2.0\nlow = 0.9\nhigh = 1.1\n"
PRIOR = (FITTED / "prior.toml").read_text()

WRONG_FITS = {
    "garbage": ("h100-sxm", "\0\1\2", "not a readable TOML"),
    "a family that is a number": ("h100-sxm", "gemm = 3", "must be a table"),
    "an unknown family": ("h100-sxm", "[gemmm.smooth.bf16]", "has 'gemmm'; allowed are gemm"),
    "an unknown framework": ("h100-sxm", "[gemm.x.bf16]", "gemm has 'x'; allowed are smooth"),
    "an unknown format": ("h100-sxm", "[gemm.smooth.b16]", "has 'b16'; allowed are fp32"),
    "a format that is a number": ("h100-sxm", "[gemm.smooth]\nbf16 = 1", "must be a table"),
    "an unknown parameter": ("h100-sxm", GOOD + "sustaned = 0.5", "'sustaned'; allowed are"),
    "a word": ("h100-sxm", GOOD.replace("2.0", '"fast"'), "launch_us is fast; allowed are"),
    "not a number": ("h100-sxm", GOOD.replace("2.0", "nan"), "launch_us is nan"),
    "a truth": ("h100-sxm", GOOD.replace("2.0", "true"), "launch_us is True"),
    "a list": ("h100-sxm", GOOD.replace("2.0", "[1]"), "launch_us is [1]"),
    "out of bounds": ("h100-sxm", GOOD.replace("2.0", "-1"), "numbers from 0.01 to 100"),
    "many digits": ("h100-sxm", GOOD.replace("2.0", "9" * 400), "launch_us is 999"),
    "half an interval": ("h100-sxm", GOOD.replace("high = 1.1\n", ""), "lacks 'high'"),
    "an empty way of execution": ("prior", "launched = 3", "must be a table"),
    "an unknown way of execution": ("prior", "[x]", "has 'x'; allowed are launched"),
    "no hops": ("prior", "[launched]", "hop_cycles is missing"),
    "no family": ("prior", "[launched]\nhop_cycles = 0.0", "launched lacks 'gemm'"),
    "no interval": ("prior", PRIOR.replace("[launched.interval]", "[launched.x]"), "has 'x'"),
    "no parameter": ("prior", PRIOR.replace("launch_us", "lunch_us", 1), "has 'lunch_us'"),
}


@pytest.mark.parametrize(("stem", "content", "said"), WRONG_FITS.values(), ids=WRONG_FITS.keys())
def test_a_fault_of_fitted_parameters_is_named(tmp_path: Path, stem: str, content: str, said: str):
    (tmp_path / f"{stem}.toml").write_text(content)
    with pytest.raises(InputError) as caught:
        check_fitted(tmp_path)
    assert f"{stem}.toml" in str(caught.value) and said in str(caught.value)


def test_folders_of_fitted_parameters_that_are_sound_pass(tmp_path: Path):
    check_fitted(FITTED)
    (tmp_path / "my-chip.toml").write_text(GOOD + '[gemm.smooth.bf16.report]\nsource = "x"\n')
    (tmp_path / "run.toml").write_text("anything = 1")
    check_fitted(tmp_path)


def test_a_folder_without_parameters_is_no_calibration(tmp_path: Path):
    with pytest.raises(InputError, match="holds no fitted parameters"):
        check_fitted(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        check_fitted(tmp_path / "none")


JUNK = st.one_of(
    st.none().map(lambda _: {}),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
)


def places(table: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of a file, as the way to it."""
    return [
        place
        for name, value in table.items()
        for place in (
            (*before, name),
            *(places(value, (*before, name)) if isinstance(value, dict) else ()),
        )
    ]


CHIP = tomllib.loads(L4)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(places(CHIP)), junk=JUNK)
def test_any_value_in_a_chip_file_is_taken_or_refused_in_a_sentence(
    tmp_path_factory, place: tuple[str, ...], junk: Any
):
    content = tomllib.loads(L4)
    inner = functools.reduce(lambda table, name: table[name], place[:-1], content)
    inner[place[-1]] = junk
    path = tmp_path_factory.mktemp("fuzz") / "my.toml"
    path.write_bytes(tomli_w.dumps(content).encode())
    try:
        build("my", read_as(ChipFile, path), Plan(), FITTED)
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def test_a_chip_that_was_not_fitted_takes_the_parameters_of_its_sibling():
    plan = Plan(framework="vllm")
    h100, nvl = (
        load_chip(name, plan).efficiency.attention_decode for name in ("h100-sxm", "h200-nvl")
    )
    assert h100.launch == nvl.launch and h100.block_start == nvl.block_start
    gaudi, prior = (
        load_chip("gaudi3").efficiency.attention_decode,
        read_prior("launched")["attention_decode"],
    )
    assert float(gaudi.launch) == pytest.approx(prior["launch_us"] * 1e-6)


def test_the_interval_of_a_sibling_is_wider():
    narrow, wide = (
        load_interval(Origin(stem, "launched", "hopper"), "attention_decode", Plan())
        for stem in ("h100-sxm", "h200-nvl")
    )
    assert wide.low < narrow.low < narrow.high < wide.high


FITTED_CHIPS = [path.stem for path in FITTED.glob("*.toml") if path.stem in chip_files()]


@pytest.mark.parametrize("stem", FITTED_CHIPS)
def test_a_framework_runs_with_its_own_fit_where_it_has_one(stem: str):
    """NCCL is left to by frameworks, and a framework itself: its own section is taken last."""
    chip = origin(stem, chip_files()[stem])
    for family, frameworks in read_fitted(FITTED, stem).items():
        for framework in frameworks.keys() - {"smooth"}:
            plan = Plan(framework=framework, replay=True)
            found = getattr(load_efficiency(chip, plan), family)
            own = from_file(FAMILIES[family], frameworks[framework].get("bf16", {}))
            for name, value in own.items():
                assert getattr(found, name) == pytest.approx(value), (family, framework, name)


def test_the_glossary_says_what_each_fitted_parameter_is():
    text = (Path(__file__).parents[1] / "docs" / "glossary.md").read_text().splitlines()
    rows = {
        line.split("`")[1]: line for line in text if line.startswith("| `") and "fitted" not in line
    }
    for field in (
        f for kind in (*FAMILIES.values(), BoardPower, Efficiency) for f in parameters(kind)
    ):
        assert field.metadata["unit"] in rows[field.name].split(" | ")[1], field.name
        assert field.metadata["owner"] in rows[field.name].split(" | ")[3], field.name
