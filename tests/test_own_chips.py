"""A chip in a dozen lines: what a short file derives, what is checked, and that every command takes it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tomli_w
from command import predict, run
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.design.resolve import resolve_study, unlike_base
from perfmodel.design.study import Study
from perfmodel.design.variables import turn_file
from perfmodel.errors import InputError
from perfmodel.inference.grid import NAME_CHECKS
from perfmodel.inference.overflow import overflow_of
from perfmodel.library.chip import chip_file, chip_files, facts, load_chip
from perfmodel.library.plausibility import findings
from perfmodel.library.technology import memory_technology

SHORT = """
like = "H100"
cores = 160
clock = "1.9 GHz"
stacks = 8
memory = "hbm4"
"""


def written(folder: Path, text: str, name: str = "my.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def found(path: Path) -> dict[str, Any]:
    """The facts of a chip file, as the command line says them, and its warnings."""
    status, out, err = run("chips", path, "--json")
    assert status == 0, err
    shown = json.loads(out)
    by_place = {fact["field"]: fact for fact in shown["facts"]}
    return by_place | {"warnings": shown["warnings"]}


def refused(path: Path) -> str:
    status, _, err = run("chips", path)
    assert status == 2 and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("stem", sorted(chip_files()))
def test_a_template_reads_back_as_the_chip_it_is_of(tmp_path: Path, stem: str):
    status, text, _ = run("chips", "--template", f"like:{stem}")
    own, old = written(tmp_path, text), load_chip(stem)
    assert status == 0 and text.count("\n") < 45
    new = load_chip(own)
    assert jax.tree.structure(new.matrix) == jax.tree.structure(old.matrix)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert facts(chip_file(str(own))[1]) == facts(chip_files()[stem])


@pytest.mark.parametrize("stem", ["h100-sxm", "mi300x", "lpu-v1", "epyc-9965"])
def test_lines_of_a_template_whose_sign_is_taken_out_change_nothing(tmp_path: Path, stem: str):
    text = run("chips", "--template", stem)[1].partition("# Main memory by its devices")[0]
    head, _, rest = text.partition("# What follows")
    lines = [line.removeprefix("# ") for line in rest.splitlines()[1:]]
    own = written(tmp_path, head + "\n".join(lines))
    assert facts(chip_file(str(own))[1]) == facts(chip_files()[stem])


def test_a_template_is_of_a_chip_that_there_is():
    assert "unknown chip 'h101x'" in run("chips", "--template", "like:h101x")[2]
    assert "is a file; give a chip" in run("chips", "--template", "my.toml")[2]


def test_rates_follow_cores_and_clock_and_each_says_so(tmp_path: Path):
    shown = found(written(tmp_path, SHORT))
    old = chip_files()["h100-sxm"]
    factor = 160 / 132 * 1.9 / 1.83
    chip = load_chip(tmp_path / "my.toml")
    assert old.private is not None and old.vector is not None
    for kind, rate in old.matrix.items():
        assert float(chip.matrix[kind]) == pytest.approx(rate.si("FLOP/s") * factor)
    assert float(chip.vector) == pytest.approx(old.vector.si("FLOP/s") * factor)
    assert float(chip.private.capacity) == pytest.approx(160 * 512 * 1024)
    assert shown["matrix.bf16"]["confidence"] == "derived"
    assert "with cores and clock, x 1.258" in shown["matrix.bf16"]["source"]
    assert shown["cores"]["source"] == "my.toml"
    assert shown["scale_up.size"]["confidence"] == "datasheet"


def test_other_formats_follow_bf16_and_vector_formats_the_vector_units(tmp_path: Path):
    own = written(tmp_path, 'like = "h100"\nmatrix.bf16 = "1978 TFLOP/s"\n')
    shown = found(own)
    assert shown["matrix.fp8"]["value"] == "3,958 TFLOP/s" and "with bf16" in str(
        shown["matrix.fp8"]
    )
    assert shown["matrix.fp32"]["value"] == "67 TFLOP/s"


def test_another_node_brings_its_own_sram_and_joules(tmp_path: Path):
    new = load_chip(written(tmp_path, 'like = "h100"\nnode = "n3"\n'))
    old = load_chip("h100-sxm")
    assert float(new.private.energy) < float(old.private.energy)
    assert float(new.matrix_energy["bf16"]) < float(old.matrix_energy["bf16"])


@pytest.mark.parametrize(
    "memory",
    ["hbm2", "hbm2e", "hbm3", "hbm3e", "hbm4", "hbm4e", "gddr6", "gddr6x", "gddr7", "lpddr5x", "ddr5"],
)  # fmt: skip
def test_main_memory_comes_from_its_devices(tmp_path: Path, memory: str):
    own = written(tmp_path, f'like = "h100"\nstacks = 3\nmemory = "{memory}"\n')
    tech, main, shown = memory_technology(memory), load_chip(own).main, found(own)
    assert tech.capacity is not None and tech.bandwidth is not None and tech.edge is not None
    assert float(main.capacity) == pytest.approx(3 * tech.capacity.si("byte"))
    assert float(main.bandwidth) == pytest.approx(3 * tech.bandwidth.si("byte/s"))
    assert float(main.energy) == pytest.approx(tech.energy.si("J/byte"))
    assert float(main.usable) == pytest.approx(0.92)
    assert shown["main.edge"]["value"] == f"{3 * tech.edge.value:g} {tech.edge.unit}"
    assert "3 x" in shown["main.bandwidth"]["source"]


def test_pins_and_their_rate_give_bandwidth(tmp_path: Path):
    lines = 'stacks = 6\nmemory = "hbm3e"\npin_rate = "9.2 Gb/s"\nstack_capacity = "24 GB"\n'
    main = load_chip(written(tmp_path, 'like = "h100"\n' + lines)).main
    assert float(main.bandwidth) == pytest.approx(6 * 1024 * 9.2e9 / 8)
    assert float(main.capacity) == pytest.approx(144e9)


def test_what_the_driver_reports_follows_the_capacity(tmp_path: Path):
    own = written(tmp_path, 'like = "h100"\nmain.capacity = "141 GB"\n')
    old, new = load_chip("h100-sxm").main, load_chip(own).main
    assert float(new.reported) == pytest.approx(float(old.reported)) != 1.0
    assert found(own)["main.reported"]["confidence"] == "derived"


def test_a_chip_of_no_device_has_no_main_memory(tmp_path: Path):
    assert float(load_chip(written(tmp_path, 'like = "h100"\nstacks = 0\n')).main.capacity) == 0


BASE = 'like = "h100"\n'
DEVICES = 'stacks = 8\nmemory = "hbm4"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            DEVICES + 'main.capacity = "300 GB"',
            "main.capacity is 300 GB, but 8 devices of hbm4 have 384 GB",
        ),
        (DEVICES + 'main.bandwidth = "9 TB/s"', "main.bandwidth is 9 TB/s, but 8 devices"),
        (DEVICES + 'main.technology = "hbm3"', "main.technology is 'hbm3', but memory is 'hbm4'"),
        ('memory = "hbm4"', "stacks: it is missing"),
        ('stacks = "8"\nmemory = "hbm4"', "stacks: it is '8'; give a number of devices"),
        ("stacks = true", "stacks: it is true"),
        ('stacks = 8\nmemory = "hbm9"', "unknown technology 'hbm9'"),
        ("stacks = 8\nmemory = 4", "memory: it is missing"),
        (
            'stacks = 8\nmemory = "stt-mram"\npin_rate = "1 Gb/s"',
            "the pins of stt-mram are not known",
        ),
        (DEVICES + "pin_rate = 8", "pin_rate: it is 8; write it with its unit"),
        (DEVICES + 'pin_rate = "8 GB"', "'GB' measures byte, but byte/s is wanted"),
        ("clock = 1.9", "clock: it is 1.9, not a number with its unit"),
        ('clock = "fast"', "clock: it is 'fast', not a number with its unit"),
        ('clock = "1.9 GB"', "clock: 'GB' measures byte, but 1/s is wanted"),
        ('clock = "1.9 GHx"', "unknown unit 'GHx'"),
        ("corez = 3", "corez: no such key"),
        ("main = 3", "main: it is 3, not a table"),
        ("sources = 3\n" + DEVICES, "sources: it is 3, not a table"),
    ],
)
def test_a_short_file_that_is_wrong_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str):
    assert said in refused(written(tmp_path, BASE + text))


JUNK = st.one_of(
    st.booleans(),
    st.integers(-3, 10),
    st.floats(),
    st.sampled_from(["", "x", "9 GB", "2 TB/s", "1e400 W", "-3 GHz", "hbm4", "n5", ". GB", "٣ GB"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["value", "unit", "bf16", "x"]), st.integers(), max_size=2),
)
KEYS = ("stacks", "memory", "pin_rate", "stack_capacity", "cores", "matrix", "main", "node", "name")


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*KEYS, "clock", "sources", "power", "like"]), JUNK, max_size=4)
)
def test_anything_in_a_short_file_is_taken_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, junk: dict[str, Any]
):
    own = written(tmp_path_factory.mktemp("junk"), tomli_w.dumps({"like": "h100-sxm"} | junk))
    try:
        load_chip(own)
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def test_a_chip_like_none_is_refused(tmp_path: Path):
    assert "unknown chip 'h101x'" in refused(written(tmp_path, 'like = "h101x"'))
    assert "like: it is 3, not a chip's name" in refused(written(tmp_path, "like = 3\ncores = 3"))


IMPOSSIBLE = {
    "clock": ('clock = "9 GHz"', "clock: 9 GHz at n5, whose products reach 3.1 GHz"),
    "sram": ('shared.capacity = "8 GB"', "of SRAM take"),
    "matrix": ('matrix.bf16 = "16 PFLOP/s"\npower.peak = "5 kW"', "FLOPs in bf16 a clock take"),
    "power": ('power.peak = "100 W"\npower.idle = "20 W"', "peak rates draw 205 W"),
    "idle": ('power.idle = "800 W"', "idle it draws 800 W"),
    "die": ('area = "90000 mm2"', "times the reticle's 858 mm2"),
    "edge": ('scale_up.bandwidth = "40 TB/s"', "mm of the edge"),
    "bandwidth": (DEVICES + 'pin_rate = "20 Gb/s"', "20 Gb/s on each of 16,384 pins"),
    "capacity": (DEVICES + 'stack_capacity = "200 GB"', "which hold 384 GB"),
    "size": ('main.bandwidth = "12 TB/s"\nmain.capacity = "16 GB"', "takes 14.7 devices of hbm3"),
}


@pytest.mark.parametrize(("text", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_no_chip_can_be_is_an_error_and_a_warning_of_a_hypothetical_one(
    tmp_path: Path, text: str, said: str
):
    own = written(tmp_path, BASE + text)
    sentence = refused(own)
    assert said in sentence and "which is impossible" in sentence
    shown = found(written(tmp_path, BASE + "hypothetical = true\n" + text, "if.toml"))
    assert any(said in warning for warning in shown["warnings"])


def test_what_is_unusual_is_a_warning(tmp_path: Path):
    text = DEVICES + 'pin_rate = "11 Gb/s"\n'
    assert any(
        "11 Gb/s on each" in one for one in found(written(tmp_path, BASE + text))["warnings"]
    )


def test_what_a_changed_chip_still_has_from_the_other_is_said(tmp_path: Path):
    said = found(written(tmp_path, SHORT))["warnings"]
    assert any("money.price" in one and "taken from h100-sxm, though cores" in one for one in said)
    own = 'area = "814 mm2"\npower.idle = "120 W"\npower.peak = "800 W"\nmoney.price = "3e4 USD"\n'
    said = found(written(tmp_path, SHORT + own + 'money.rental = "2 USD/h"', "all.toml"))[
        "warnings"
    ]
    assert not any("money" in one for one in said)


UNUSUAL = {
    "cloud-ai-100-ultra": "power.peak",  # its int8 peak is above what its limit feeds
    "corsair": "power.peak",  # a peak in fp4 that its limit does not feed for long
    "lpu-v1": "power.peak",  # 14 nm, and an int8 peak of 750 TOP/s
    "m1-ultra": "main.bandwidth",  # 16 channels of 8 GB, a quarter of the largest device
    "mi455x": "area",  # memory stands around base dies, which its area does not count
}
"""Chips of the library with a warning, and why each is as it is."""


def test_no_chip_of_the_library_is_impossible_and_those_that_are_unusual_are_known():
    every = {stem: findings(file) for stem, file in chip_files().items()}
    assert not [one for several in every.values() for one in several if one.impossible]
    seen = {stem: [one.place for one in several] for stem, several in every.items() if several}
    assert seen == {stem: [place] for stem, place in UNUSUAL.items()}


GEMM = {"op": "gemm", "chip": "h100-sxm", "dtype": "bf16", "m": "32", "n": "4096", "k": "4096"}
ROW = {"model": "llama-3.2-1b", "n_chips": "1", "isl": "512", "osl": "64", "concurrency": "4"}


def test_an_unchanged_chip_is_predicted_as_the_one_that_it_is_like(tmp_path: Path):
    own = str(written(tmp_path, BASE))
    old, new = predict("kernels", tmp_path, [GEMM, GEMM | {"chip": own}])
    assert old["predicted_us"] == new["predicted_us"] != ""
    assert (old["basis"], new["basis"]) == ("fitted", "sibling")


@pytest.mark.slow
def test_every_column_that_names_a_chip_takes_a_file(tmp_path: Path):
    own = str(written(tmp_path, SHORT))
    pools = {"chip": "", "n_chips": "", "prefill_chip": own, "decode_chip": own}
    pools |= {"mode": "disaggregated", "prefill_workers": "1", "decode_workers": "1"}
    pools |= {"prefill_tp": "1", "decode_tp": "1"}
    apart = {"chip": own, "ffn_chip": own, "n_chips": "2"}
    pool = {"chip": "lpu-v1", "n_chips": "64", "kv_overflow": "pool", "kv_pool_chip": own}
    large = {"chip": own, "large_model": "llama-3.2-1b", "large_share": "0.5", "large_chip": own}
    large |= {"large_n_chips": "1"}
    changes = ({"chip": own}, pools, apart, pool | {"kv_pool_chips": "1"}, large)
    for row in predict("serving", tmp_path, [ROW | change for change in changes]):
        assert row["error"] == "" and float(row["tpot_ms"]) > 0


def test_grids_pools_and_studies_take_a_file(tmp_path: Path):
    own = str(written(tmp_path, SHORT))
    NAME_CHECKS["chip"](own)
    cells = {"kv_overflow": "pool", "kv_pool_chip": own, "kv_pool_chips": "2"}
    _, pool = overflow_of(cells, load_chip("lpu-v1"), "lpu-v1")
    assert float(pool.memory.capacity) == pytest.approx(2 * 384e9 * 0.92)
    with pytest.raises(InputError, match="unknown chip"):
        overflow_of(cells | {"kv_pool_chip": "h101x"}, load_chip("lpu-v1"), "lpu-v1")
    study = {
        "objective": {"minimise": "usd_per_million_tokens"},
        "constraints": {"power_w": 1000},
        "workload": [{"model": "llama-3.2-1b", "batch": 8, "context": 1024}],
        "space": {"base": own},
    }
    problem = resolve_study(Study.model_validate(study))
    assert float(problem.base.clock) == pytest.approx(1.9e9)


def test_a_fit_to_rows_of_a_short_file_is_its_own(tmp_path: Path):
    own = written(tmp_path, SHORT)
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted" / "my.toml").write_text("[gemm.smooth.bf16]\nlaunch_us = 9.0\n")
    assert float(load_chip(own, calibration=tmp_path / "fitted").efficiency.gemm.launch) == (
        pytest.approx(9e-6)
    )
    assert float(load_chip(own).efficiency.gemm.launch) == pytest.approx(
        float(load_chip("h100-sxm").efficiency.gemm.launch)
    )


def test_a_chip_changed_by_hand_may_be_read_again_however_far_it_is(tmp_path: Path):
    turned = turn_file(chip_files()["h100-sxm"], {"compute": 40.0, "sram": 100.0})
    text = tomli_w.dumps(turned.model_dump(mode="json", exclude_none=True))
    assert len(found(written(tmp_path, text))["warnings"]) >= 2


def test_a_search_says_that_it_takes_no_node_and_no_memory_from_its_base(tmp_path: Path):
    mine = tmp_path / "mine.toml"
    mine.write_text('like = "h100-sxm"\nnode = "n3"\nstacks = 8\nmemory = "hbm4"\n')
    asked = {
        "objective": {"maximise": "tokens_per_s"},
        "constraints": {"area_mm2": 814, "power_w": 700},
        "workload": [{"model": "llama-3.1-70b", "batch": 1, "context": 4096}],
    }
    space = {"base": str(mine)}
    said = unlike_base(Study.model_validate(asked | {"space": space}))
    assert "has node n3 and memory hbm4; the study searches node n5 and memory hbm3e" in said
    named = space | {"node": ["n3"], "memory": ["hbm4"]}
    for known in (named, {}):
        assert not unlike_base(Study.model_validate(asked | {"space": known}))
