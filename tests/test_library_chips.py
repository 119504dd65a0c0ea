"""The fact files of chips and technologies: that they are there, agree, and name their sources."""

import re
from pathlib import Path
from typing import TypeVar

import pytest
from command import run

from perfmodel.files import cells_of, read_csv
from perfmodel.library import schema
from perfmodel.library.chip import chip_files, find_chip, load_chip
from perfmodel.library.files import ROOT, InputError, fold, read_as, read_toml, stems
from perfmodel.library.technology import load_link, load_memory, load_node

CONTRACT = [
    "a100-sxm-40gb", "a100-sxm-80gb", "a100-pcie-80gb", "h100-sxm", "h100-pcie",
    "h100-nvl", "h200-sxm", "h200-nvl", "gh200", "b200-sxm", "b300-sxm", "gb200",
    "gb300", "l4", "l40s", "a30", "rtx-pro-6000", "rtx-4090", "rubin", "rubin-es",
    "mi210", "mi250x", "mi300x", "mi308x", "mi325x", "mi355x", "mi455x", "gaudi2", "gaudi3", "max-1550",
    "arc-pro-b60", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "inferentia2",
    "trainium2", "trainium3", "wse-2", "wse-3", "lpu-v1", "lp30", "sn40l", "corsair",
    "wormhole-n300", "blackhole-p150", "ipu-mk2", "ipu-bow", "m3-ultra", "grace",
    "gb10", "cloud-ai-100-ultra", "epyc-9754", "epyc-9965", "xeon-6980p",
    "rtx-3090", "a10", "a40", "rtx-a6000", "t4", "v100-sxm", "rtx-5090", "rtx-pro-4500", "l20", "h20", "h800",
    "mi350x", "mi350p", "arc-pro-b70", "gaudi3-pcie", "jetson-thor", "wormhole-n150", "blackhole-p100",
    "trainium1", "strix-halo", "m1-ultra", "m2-ultra", "m4-max",
    "tpu-8i", "tpu-8t", "maia-200", "ascend-910c",
]  # fmt: skip
"""The chips that other programs may name."""

AICONFIGURATOR = {
    "a100_sxm": "a100-sxm-80gb",
    "a100_pcie": "a100-pcie-80gb",
    "a30": "a30",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "b60": "arc-pro-b60",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100_pcie": "h100-pcie",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l4": "l4",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000",
}

PEOPLE = {
    "Tesla T4": "t4",
    "NVIDIA H20": "h20",
    "RTX 5090": "rtx-5090",
    "Ryzen AI Max+ 395": "strix-halo",
    "Trn1": "trainium1",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "AMD Instinct MI300X": "mi300x",
    "TPU v5 lite": "tpu-v5e",
    "Trillium": "tpu-v6e",
    "Ironwood": "tpu-v7",
    "PVC-Max1550": "max-1550",
    "CS-3": "wse-3",
    "LPU v1 (GroqChip/TSP)": "lpu-v1",
    "Apple M3 Ultra": "m3-ultra",
}
"""What drivers report, papers write and people say."""

LACKING: dict[str, str] = {}
"""Chips that cannot be priced, with the fact that is not known. None at present."""

FLOPS_PER_CLOCK = {
    "a100-sxm-80gb": 2048,
    "h100-sxm": 4096,
    "h100-nvl": 4096,
    "b200-sxm": 8192,
    "gb300": 8192,
    "l40s": 1024,
    "rtx-4090": 512,
    "rtx-pro-6000": 1024,
    "gb10": 1024,
    "mi250x": 1024,
    "mi300x": 2048,
    "mi308x": 2048,
    "mi355x": 4096,
    "gaudi3": 8 * 2 * 256 * 256 / 64,
    "max-1550": 4096,
    "arc-pro-b60": 2048,
    "tpu-v4": 4 * 2 * 128 * 128,
    "tpu-v6e": 4 * 2 * 256 * 256,
    "wse-3": 16,
    "ipu-mk2": 128,
    "sn40l": 384,
    "wormhole-n300": 1024,
    "blackhole-p150": 2048,
    "m3-ultra": 256,
    "epyc-9965": 128,
    "xeon-6980p": 1024,
    "rtx-3090": 512,
    "a10": 1024,
    "a40": 1024,
    "rtx-a6000": 1024,
    "t4": 1024,
    "v100-sxm": 1024,
    "rtx-5090": 512,
    "rtx-pro-4500": 1024,
    "l20": 512,
    "h20": 1024,
    "h800": 4096,
    "mi350p": 4096,
    "ascend-910c": 8192,
    "arc-pro-b70": 2048,
    "jetson-thor": 8192,
    "wormhole-n150": 1024,
    "blackhole-p100": 2048,
    "strix-halo": 512,
    "m2-ultra": 256,
}
"""What one core does in bf16 in a clock, as its matrix unit is built."""

TIERS = ("private", "shared", "main", "far")
NODES = ("n16", "n7", "n5", "n3", "n2")
KINDS = {
    "memory": schema.MemoryTechnology,
    "link": schema.LinkTechnology,
    "node": schema.NodeTechnology,
}

T = TypeVar("T")


def known(fact: T | None) -> T:
    """A fact that the chip must have."""
    assert fact is not None
    return fact


def test_every_chip_of_the_contract_is_there_and_no_other():
    assert sorted(chip_files()) == sorted(CONTRACT)


@pytest.mark.parametrize("stem", CONTRACT)
def test_a_chip_loads_or_says_which_fact_it_lacks(stem):
    if stem in LACKING:
        with pytest.raises(InputError, match=LACKING[stem]):
            load_chip(stem)
    else:
        assert str(load_chip(stem).name) == stem


def test_a_chip_without_a_clock_says_so(tmp_path):
    text = (ROOT / "chips" / "l4.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(re.sub(r"\[clock\]\n(?:.+\n)+", "", text), encoding="utf-8")
    with pytest.raises(InputError, match="mine cannot be priced: its clock is not known"):
        load_chip(path)


@pytest.mark.parametrize("stem", CONTRACT)
def test_every_alias_leads_to_its_chip(stem):
    file = chip_files()[stem]
    for spelling in (stem, file.name, *file.aliases, stem.upper().replace("-", " ")):
        assert find_chip(spelling) == stem


def test_the_readme_counts_the_chips_and_the_models():
    counted = f"{len(chip_files())} chips and {len(stems('models'))} models"
    assert counted in (ROOT.parents[1] / "README.md").read_text(encoding="utf-8")


def test_no_alias_means_two_chips():
    owners: dict[str, str] = {}
    for stem, file in chip_files().items():
        for spelling in {fold(name) for name in (stem, file.name, *file.aliases)}:
            assert owners.setdefault(spelling, stem) == stem, spelling


@pytest.mark.parametrize("stem", CONTRACT)
def test_no_alias_is_listed_twice(stem):
    folded = [fold(alias) for alias in chip_files()[stem].aliases]
    assert len(folded) == len(set(folded))


@pytest.mark.parametrize(("alias", "stem"), (AICONFIGURATOR | PEOPLE).items())
def test_the_names_that_others_use_are_known(alias, stem):
    assert find_chip(alias) == stem


def test_an_unknown_chip_gives_the_nearest_names():
    with pytest.raises(InputError, match=r"unknown chip 'h100-smx'; the nearest are .*h100-sxm"):
        find_chip("h100-smx")


@pytest.mark.parametrize("stem", CONTRACT)
def test_every_number_has_a_source_that_is_listed_and_used(stem):
    file = chip_files()[stem]
    used = {quantity.source for _, quantity in schema.sourced(file)}
    assert used <= set(file.sources)
    assert all(file.sources.values())
    assert len(used) > 3


@pytest.mark.parametrize("stem", CONTRACT)
def test_every_guess_gives_its_reason(stem):
    file = chip_files()[stem]
    for _, quantity in schema.sourced(file):
        if quantity.confidence == "estimate":
            assert quantity.note or file.sources[quantity.source].startswith("assumed")


@pytest.mark.parametrize("folder", ["chips", "technologies"])
def test_no_file_speaks_of_how_it_was_made(folder):
    for path in stems(folder).values():
        assert not re.search(r"shared/|\.csv|findings", path.read_text(encoding="utf-8")), path


def test_a_gigabyte_is_ten_to_the_ninth_and_a_mebibyte_two_to_the_twentieth():
    h100 = chip_files()["h100-sxm"]
    assert known(h100.main).capacity.si("byte") == 80e9
    assert known(h100.shared).capacity.si("byte") == 50 * 2**20
    trainium2 = chip_files()["trainium2"]
    assert known(trainium2.main).capacity.si("byte") == 96 * 2**30  # AWS says GiB


@pytest.mark.parametrize(("stem", "flops"), FLOPS_PER_CLOCK.items())
def test_the_peak_is_cores_times_clock_times_what_a_core_does(stem, flops):
    # 312e12 = 108 x 1.41e9 x 2048 on A100, to the three or four digits that are published.
    file = chip_files()[stem]
    expected = known(file.cores).si("1") * known(file.clock).si("1/s") * flops
    assert file.matrix["bf16"].si("FLOP/s") == pytest.approx(expected, rel=0.01)


IN_16_BITS = [stem for stem in CONTRACT if "bf16" in chip_files()[stem].matrix]


@pytest.mark.parametrize("stem", IN_16_BITS)
def test_the_ridge_point_lies_where_machines_have_it(stem):
    # FLOP for each byte of main memory: M1 Ultra 26, H20 37, H100 295, Thor 941; of SRAM, WSE-2 0.4, LPU 2.4.
    file = chip_files()[stem]
    memory = file.main or known(file.private or file.shared)
    ridge = file.matrix["bf16"].si("FLOP/s") / memory.bandwidth.si("byte/s")
    assert (20 if file.main else 0.2) < ridge < (1000 if file.main else 10)


@pytest.mark.slow
def test_the_command_prices_a_product_a_prompt_and_a_token_on_every_chip(tmp_path: Path):
    rows = [
        f"{op},{stem},{_sixteen_bits(stem)},{cells}"
        for stem in IN_16_BITS
        for op, cells in SIZES.items()
    ]
    table, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    assert run("predict", "kernels", table, "--out", out)[0] == 0
    cells = cells_of(read_csv(out))
    assert not any(cells["error"])
    assert all(0.1 < float(us) < 1e5 for us in cells["predicted_us"])


HEADER = "op,chip,dtype,m,n,k,batch,q_len,ctx_len,heads,kv_heads,head_dim"
SIZES = {
    "gemm": "16,4096,4096,,,,,,",
    "attention_prefill": ",,,1,1024,1024,32,8,128",
    "attention_decode": ",,,4,,2048,32,8,128",
}


def _sixteen_bits(stem: str) -> str:
    return "fp16" if chip_files()[stem].without else "bf16"


@pytest.mark.parametrize("stem", CONTRACT)
def test_fewer_bits_are_never_slower_but_for_int8(stem):
    matrix = chip_files()[stem].matrix
    rates = [matrix[kind].si("FLOP/s") for kind in ("fp32", "bf16", "fp8", "fp4") if kind in matrix]
    assert rates == sorted(rates)


@pytest.mark.parametrize("stem", CONTRACT)
def test_sram_is_faster_than_main_memory_and_main_memory_than_far(stem):
    file = chip_files()[stem]
    tiers = {name: tier for name in TIERS if (tier := getattr(file, name)) is not None}
    rate = {name: tier.bandwidth.si("byte/s") for name, tier in tiers.items()}
    sram = [rate[name] for name in ("private", "shared") if name in rate]
    assert min(sram) > rate.get("main", 0.0)
    assert min(sram) > rate.get("far", 0.0)
    assert rate.get("main", float("inf")) > rate.get("far", 0.0)


@pytest.mark.parametrize("stem", CONTRACT)
def test_some_memory_is_open_to_weights_and_no_share_exceeds_one(stem):
    file = chip_files()[stem]
    tiers = filter(None, (getattr(file, name) for name in TIERS))
    shares = [tier.usable.si("1") for tier in tiers]
    assert max(shares) > 0
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("stem", CONTRACT)
def test_idle_power_is_below_the_limit(stem):
    power = chip_files()[stem].power
    assert (power.peak is None) == (power.idle is None)
    assert power.peak is None or 0 < known(power.idle).si("W") < power.peak.si("W")


@pytest.mark.parametrize("stem", CONTRACT)
def test_every_technology_that_a_chip_names_is_there(stem):
    file = chip_files()[stem]
    load_node(file.node)
    for tier in filter(None, (getattr(file, name) for name in TIERS)):
        assert load_memory(tier.technology) > 0
    for network in (known(file.scale_up), known(file.scale_out)):
        assert load_link(network.technology) > 0


@pytest.mark.parametrize(("style", "chips"), [
    ("scheduled", {"lpu-v1", "lp30", "corsair", "cloud-ai-100-ultra", "wormhole-n150", "wormhole-n300",
                   "blackhole-p100", "blackhole-p150", "maia-200"}),
    ("dataflow", {"wse-2", "wse-3", "ipu-mk2", "ipu-bow", "sn40l"}),
])  # fmt: skip
def test_machines_without_launches_are_these(style, chips):
    assert {stem for stem, file in chip_files().items() if file.execution == style} == chips


def test_switches_add_up_from_hopper_on():
    reducing = {stem for stem, file in chip_files().items() if known(file.scale_up).reduces}
    hopper_on = {
        "h100-sxm",
        "h20",
        "h800",
        "h200-sxm",
        "gh200",
        "b200-sxm",
        "b300-sxm",
        "gb200",
        "gb300",
    }
    assert reducing == hopper_on | {"rubin", "rubin-es"}


@pytest.mark.parametrize("stem", sorted(stems("technologies")))
def test_a_technology_is_read_and_gives_the_reason_for_its_guesses(stem):
    path = stems("technologies")[stem]
    file = read_as(KINDS[read_toml(path)["kind"]], path)
    quantities = [one for _, one in schema.sourced(file)]
    assert quantities and all(q.note for q in quantities if q.confidence == "estimate")


@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp8", "int8", "fp4"])
def test_a_newer_node_spends_less_on_a_flop(kind):
    energies = [load_node(node).matrix_energy[kind].si("J/FLOP") for node in NODES]
    assert energies == sorted(energies, reverse=True)


def test_a_newer_node_is_denser_and_its_sram_never_sparser():
    nodes = [load_node(node) for node in NODES]
    logic = [node.logic_density.si("1") for node in nodes]
    sram = [node.sram_density.si("byte/m2") for node in nodes]
    assert logic == sorted(logic)
    assert sram == sorted(sram)


def test_each_generation_of_hbm_spends_less_on_a_byte():
    energies = [load_memory(name) for name in ("hbm2", "hbm2e", "hbm3", "hbm3e", "hbm4", "hbm4e")]
    assert energies == sorted(energies, reverse=True)
