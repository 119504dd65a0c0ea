"""Pictures: units on every axis, colours that mean one thing, the same figure in three formats."""

import re
from pathlib import Path
from typing import Any

import pytest

from perfmodel.breakdown import BOUNDS, JOULES
from perfmodel.errors import InputError
from perfmodel.interface.plots import bars, lines, maps, parity, sensitivities, theme
from perfmodel.interface.plots.theme import COLOURS, ENERGY_COLOURS, FAMILIES, PALETTE

TIMES = [("8 x H100", [0.3, 0.0, 1.1, 6.6, 5.7, 0.4]), ("4 x WSE-3", [0.1, 0, 0.2, 0, 2.2, 0.3])]
JOULE = {"matrix": 3.0, "shared": 1.0, "main": 9.0, "network": 0.4, "idle": 6.0}
SPOTS = [
    lines.FrontPoint(name, speed / (1 + batch / half), price * (1 + half / batch), f"{batch} users")
    for name, speed, price, half in (("8 x H100", 150, 0.3, 20), ("4 x WSE-3", 2000, 3, 2))
    for batch in (1, 4, 16, 64)
]
CELLS = [
    maps.Cell(2.0**i, 1024 * 2.0**j, "8 x H100" if i + j > 4 else "4 x WSE-3", 1 + 0.2 * i)
    for i in range(6)
    for j in range(5)
]
DIE = {"compute": 310.0, "SRAM": 180.0, "SRAM ports": 90.0, "memory interface": 84.0, "links": 50.0}

FIGURES: dict[str, Any] = {
    "breakdown": bars.breakdown(TIMES, "Where the time of a token goes"),
    "energy": bars.energy([("8 x H100", JOULE)], "Where its energy goes"),
    "roofline": lines.roofline(
        [("8 x H100", 1.98e15, 3.35e12), ("4 x WSE-3", 1.25e16, 2.1e16)],
        [("8 x H100", "up", 30.0, 8e13), ("4 x WSE-3", "up", 2.0, 9e14), ("x", "none", 0.0, 0.0)],
        "Rooflines of the kernels",
    ),
    "parity": parity.parity([parity.ParityPoint("a", "gemm", 3.0, 2.5)] * 3, "Parity"),
    "residuals": parity.residuals([parity.ParityPoint("a", "gemm", 3.0, 2.5)] * 3, "Residuals"),
    "front": lines.front(
        SPOTS, "Speed against price", ("tokens/s per user", "USD per million tokens"), "4 users"
    ),
    "tornado": bars.tornado(
        [bars.Effect("main memory bandwidth", 5.2, -4.4), bars.Effect("SRAM", 0.3, -0.2)],
        "What moves the time of a token",
        "change of the time of a token (%)",
    ),
    "sensitivities": sensitivities.sensitivities(
        [
            sensitivities.Sensitivity("8 x H100", "memory bandwidth", 5.2, -4.4),
            sensitivities.Sensitivity("4 x WSE-3", "SRAM size", 497.0, -0.2),
        ],
        "Sensitivity of the time to +-10 %",
        "change of the time of a token (%)",
        ["8 x H100", "4 x WSE-3"],
    ),
    "crossover": maps.crossover(CELLS, "Who is cheaper", ("users (1)", "context (tokens)")),
    "floorplan": maps.floorplan(DIE, "A die of 714 mm2"),
    "floorplans": bars.floorplans([("H100", DIE)], "Dies"),
}


def axes_of(spec: Any) -> list[str]:
    """Titles of all axes that are values, wherever they stand in a figure."""
    if isinstance(spec, list):
        return [title for one in spec for title in axes_of(one)]
    if not isinstance(spec, dict):
        return []
    own = [
        channel["title"]
        for name in ("x", "y")
        if (channel := spec.get("encoding", {}).get(name, {})).get("type") == "quantitative"
        and channel.get("title")
    ]
    return own + [title for one in spec.values() for title in axes_of(one)]


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_of_values_names_its_unit(name: str):
    """In brackets, or in words such as FLOP for each byte; a ratio has none."""
    titles = axes_of(FIGURES[name].to_dict())
    units = r"\(.+\)|FLOP|tokens/s|USD|^mm$|predicted / measured"
    assert name == "crossover" or titles
    assert all(re.search(units, title) for title in titles)


@pytest.mark.parametrize("name", ["roofline", "tornado", "crossover"])
def test_a_figure_is_drawn(name: str, tmp_path: Path):
    theme.save(FIGURES[name], tmp_path / f"{name}.png")
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name: str, tmp_path: Path):
    theme.save(FIGURES[name], tmp_path / f"{name}.png")


def test_one_figure_in_three_formats_needs_no_network(tmp_path: Path):
    for ending in ("svg", "html"):
        theme.save(FIGURES["front"], tmp_path / f"x.{ending}")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    page = (tmp_path / "x.html").read_text()
    assert not re.search(r"""(src|href)=["']?https?:""", page)


def test_another_ending_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"pictures are \.png, \.svg, \.html"):
        theme.save(FIGURES["front"], tmp_path / "x.pdf")


def test_every_bound_and_term_has_a_colour_of_its_own():
    assert tuple(COLOURS) == BOUNDS and tuple(ENERGY_COLOURS) == JOULES
    for colours in (COLOURS.values(), ENERGY_COLOURS.values(), FAMILIES.values(), PALETTE):
        assert len(set(colours)) == len(list(colours))


def test_a_chip_keeps_its_colour_and_no_two_share_one():
    both, alone = theme.colours_of(["wse-3", "8 x H100"]), theme.colours_of(["h100-sxm"])
    assert both[1] == alone[0]
    many = ["h100-sxm", "h100-pcie", "h100-nvl", "a", "b", "c"]
    assert len(set(theme.colours_of(many))) == len(many)


def test_the_first_of_a_family_has_its_colour_whoever_stands_before():
    two, one = theme.colours_of(["h100, machine 1", "h100, machine 2", "b200"]), theme.colours_of
    assert two[2] == one(["b200"])[0] and two[0] == one(["h100"])[0]


def test_a_move_beyond_the_picture_is_cut_and_says_how_far_it_goes():
    spec = FIGURES["sensitivities"].to_dict()
    scales = [layer["encoding"]["x"].get("scale") for layer in spec["layer"]]
    assert {"clamp": True, "domain": [-20.0, 20.0]} in scales
    (cut,) = spec["layer"][-1]["data"]["values"]
    assert cut["text"] == "+497" and cut["fact"] == "SRAM size"


def test_tiles_of_a_floorplan_have_the_areas_of_its_parts():
    layer = FIGURES["floorplan"].to_dict()
    tiles = layer.get("data", layer["layer"][0].get("data"))["values"]
    found = {t["part"]: (t["right"] - t["left"]) * (t["high"] - t["low"]) for t in tiles}
    assert found == pytest.approx(DIE)


def test_a_part_without_a_colour_is_not_left_out_in_silence():
    """A bar that ends before its sum would be a wrong picture."""
    with pytest.raises(AssertionError, match="secret"):
        bars.floorplans([("H100", DIE | {"secret": 100.0})], "Dies")


def test_every_part_of_a_searched_die_has_a_colour():
    from perfmodel.design.report import PART_NAMES
    from perfmodel.interface.plots.bars import DIE_COLOURS

    assert set(PART_NAMES.values()) <= set(DIE_COLOURS)


def test_an_axis_says_its_unit_once():
    from perfmodel.studies.claim import Axis

    assert Axis("x", "users of a machine", "users").label == "users of a machine"
    assert Axis("x", "speed of one user", "tokens/s").label == "speed of one user (tokens/s)"
