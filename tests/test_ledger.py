"""What a token costs and draws: USD of a token and of an hour agree, and each says what it is of."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from command import predict, predict_changes, run, without_money

from perfmodel.calibration.tco import tco_scores
from perfmodel.design.existing_chips import _chip_design
from perfmodel.hardware.cost import YEAR as YEAR_S
from perfmodel.hardware.cost import price, running
from perfmodel.interface.explore.machines import view
from perfmodel.interface.explore.scenario import Scenario
from perfmodel.interface.explore.scenario import machine as explored
from perfmodel.interface.quickstart import NUMERIC_COLUMNS
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import assumption, load_ownership, spread
from perfmodel.library.known import known_owners
from perfmodel.library.ledger import (
    COST_BASES,
    UTILISATION,
    AskedCost,
    bought,
    chip_cost,
    joint_basis,
    memory_apart,
    power_limit,
)
from perfmodel.library.ledger import hour as market_hour
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_constants
from perfmodel.studies.claim import studies
from perfmodel.units import as_scalar

ASKED = {"model": "llama-3.2-1b", "isl": "1000", "osl": "200", "concurrency": "16"}
POOLS = {"mode": "disaggregated", "prefill_workers": "1", "decode_workers": "1"}
POOLS |= {"prefill_tp": "1", "decode_tp": "1"}
CASES: dict[str, tuple[dict[str, str], str]] = {
    "serving": ({"chip": "h100-sxm"}, "owner"),
    "more users than fit": ({"chip": "l4", "concurrency": "3000"}, "owner"),
    "offline": ({"chip": "h100-sxm", "mode": "offline", "concurrency": ""}, "owner"),
    "static batch": ({"chip": "h100-sxm", "mode": "static_batch"}, "owner"),
    "single stream": ({"chip": "h100-sxm", "mode": "single_stream"}, "owner"),
    "arrivals": ({"chip": "h100-sxm", "concurrency": "", "requests_per_s": "0.05"}, "owner"),
    "a chip that is only rented": ({"chip": "tpu-v6e"}, "owner"),
    "a processor": ({"chip": "xeon-6980p", "concurrency": "1"}, "owner"),
    "rental": ({"chip": "mi355x", "cost_basis": "rental"}, "rental"),
    "a rental of a TPU": ({"chip": "tpu-v6e", "cost_basis": "rental"}, "rental"),
    "a machine that runs": ({"chip": "h100-sxm", "cost_basis": "marginal"}, "marginal"),
    "pools": (POOLS | {"prefill_chip": "h100-sxm", "decode_chip": "h200-sxm"}, "owner"),
    "pools of one kind": (POOLS | {"prefill_chip": "h100-sxm", "decode_chip": "h100-sxm"}, "owner"),
    "rented pools": (
        POOLS | {"prefill_chip": "mi355x", "decode_chip": "mi355x", "cost_basis": "rental"},
        "rental",
    ),
    "attention apart": (
        {"chip": "h100-sxm", "tp": "1", "ffn_chip": "mi355x", "ffn_tp": "1"},
        "owner",
    ),
    "a large model goes on": (
        {"chip": "h100-sxm", "n_chips": "1", "large_model": "llama-3.1-8b"}
        | {"large_chip": "mi355x", "large_n_chips": "1", "large_share": "0.3"},
        "owner",
    ),
    "a cache in a pool": (
        {"chip": "wse-3", "n_chips": "1", "kv_overflow": "pool"}
        | {"kv_pool_chip": "mi355x", "kv_pool_chips": "8"},
        "owner",
    ),
    "a quote": ({"chip": "h100-sxm", "usd_per_chip_hour": "2.5"}, "quote"),
    "a quote of a TPU": (
        {"chip": "tpu-v6e", "usd_per_chip_hour": "2.5", "cost_basis": "quote"},
        "quote",
    ),
    "a quote of pools": (
        POOLS | {"prefill_chip": "mi355x", "decode_chip": "h100-sxm", "usd_per_chip_hour": "2.5"},
        "quote",
    ),
    "a quote of attention apart": (
        {"chip": "h100-sxm", "tp": "1", "ffn_chip": "mi355x", "ffn_tp": "1"}
        | {"usd_per_chip_hour": "2.5"},
        "quote",
    ),
    "a quote of two models": (
        {"chip": "h100-sxm", "n_chips": "1", "large_model": "llama-3.1-8b"}
        | {"large_chip": "mi355x", "large_n_chips": "1", "large_share": "0.3"}
        | {"usd_per_chip_hour": "2.5"},
        "quote",
    ),
    "a quote with a cache in a pool": (
        {"chip": "wse-3", "n_chips": "1", "kv_overflow": "pool", "kv_pool_chip": "mi355x"}
        | {"kv_pool_chips": "8", "usd_per_chip_hour": "2.5"},
        "quote",
    ),
    "a rental asked for": ({"chip": "h100-sxm", "cost_basis": "rental"}, "rental"),
    "a price that was predicted": (
        {"chip": "h100-sxm", "cost_basis": "owner", "usd_per_chip_hour": "77"},
        "owner",
    ),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Every case of `predict serving`, and a chip file without price and rental."""
    folder = tmp_path_factory.mktemp("ledger")
    asked = {name: ASKED | change for name, (change, _) in CASES.items()}
    asked["own chip"] = ASKED | {"chip": without_money("l4")}
    return dict(zip(asked, predict("serving", folder, list(asked.values())), strict=True))


def _number(row: dict[str, str], name: str) -> float:
    return float(row[name])


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_usd_of_a_token_times_tokens_is_usd_of_an_hour(rows: dict, case: str):
    row, basis = rows[case], CASES[case][1]
    assert row["error"] == "" and row["cost_basis"] == basis
    tokens = 3600 * _number(row, "output_tokens_per_s_per_chip")
    hour = _number(row, "usd_per_million_output_tokens") * 1e-6 * tokens
    assert _number(row, "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)  # six digits each
    low, high = (_number(row, f"usd_per_million_output_tokens_{end}") for end in ("low", "high"))
    assert low <= _number(row, "usd_per_million_output_tokens") <= high
    assert (low < high) == (basis != "quote")


@pytest.mark.long
def test_an_hour_of_a_rented_chip_costs_its_rental_and_no_electricity(rows: dict):
    # USD/h as the chips' files have them; the machines of both pools are rented.
    for case, hour in (("rental", 2.1), ("a rental of a TPU", 2.7), ("rented pools", 2.1)):
        assert _number(rows[case], "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)


YEAR = 8766
"""Hours."""

SITE = 120 * 12 / YEAR
"""USD/h for each kW provisioned."""

TARIFF = 0.08 * 1.25
"""USD for each kWh at the wall, cooling included."""


def _standing(bought: float, kilowatts: float) -> float:
    """USD/h of a chip by hand: over four years, at 5 % interest on half, 1.25 % upkeep; and the site."""
    return bought * (1 / 4 + 0.05 / 2 + 0.0125) / YEAR + kilowatts * 1.33 * SITE


@pytest.mark.long
def test_an_hour_of_an_owned_chip_by_hand(rows: dict):
    row = rows["serving"]
    rate, joules = (
        _number(row, name)
        for name in ("output_tokens_per_s_per_chip", "joules_per_output_token_at_wall")
    )
    # 28,000 USD, of which 38 % are paid again for the host and 15 % for the network; 700 W.
    hour = _standing(28000 * 1.53, 0.7) + TARIFF * joules * rate / 1000
    assert _number(row, "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)


@pytest.mark.long
def test_an_hour_of_a_machine_that_runs_is_its_electricity_and_upkeep(rows: dict):
    row, whole = rows["a machine that runs"], rows["serving"]
    joules = _number(whole, "joules_per_output_token_at_wall")
    watts = joules * _number(whole, "output_tokens_per_s_per_chip")
    hour = 28000 * 1.53 * 0.0125 / YEAR + TARIFF * watts / 1000
    assert _number(row, "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)


@pytest.mark.long
def test_the_range_of_a_token_is_that_of_the_chips_price(rows: dict):
    row, tokens = (
        rows["serving"],
        3.6e-3 * _number(rows["serving"], "output_tokens_per_s_per_chip"),
    )
    for end, paid in (("low", 25000), ("high", 35000)):
        more = _standing((paid - 28000) * 1.53, 0.0)
        there = tokens * _number(row, f"usd_per_million_output_tokens_{end}")
        assert there - _number(row, "usd_per_chip_hour") == pytest.approx(more, rel=1e-3)


@pytest.mark.long
def test_processors_are_bought_with_their_memory(rows: dict):
    # 12,460 USD; 1,536 GB of DDR5 at 5.5 USD/GB, its contract price, beside it; 500 W.
    bought = 12460 * 1.53 + 1536 * 5.5
    owned = _standing(bought, 0.5)
    assert owned < _number(rows["a processor"], "usd_per_chip_hour") < 1.1 * owned


def test_a_system_has_paid_for_its_host():
    file = chip_files()["gb200"]
    whole = bought(file, 43000.0)
    assert float(whole.host) == 0 and float(whole.network) == pytest.approx(0.15 * 43000)


@pytest.mark.long
def test_owning_a_chip_that_is_only_rented_is_estimated_from_its_rental(rows: dict):
    row, tokens = (
        rows["a chip that is only rented"],
        3.6e-3 * _number(rows["a chip that is only rented"], "output_tokens_per_s_per_chip"),
    )
    low, value, high = (
        tokens * _number(row, f"usd_per_million_output_tokens{end}")
        for end in ("_low", "", "_high")
    )
    assert (low, value, high) == pytest.approx((2.7 / 1.9, 2.7 / 1.4, 2.7 / 0.8), rel=1e-4)


def test_what_a_rental_is_of_owning_is_that_of_chips_with_both():
    known = {stem: file.money for stem, file in chip_files().items()}
    both = [stem for stem, money in known.items() if money.price and money.rental]
    ratios = [si_or(known[stem].rental, "USD/s") / market_hour(stem).value for stem in both]
    value, low, high = spread(assumption("rental_over_owner"), "1")
    assert len(both) > 10 and np.median(ratios) == pytest.approx(value, rel=0.1)
    assert np.mean([low <= ratio <= high for ratio in ratios]) >= 0.8


@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("a quote")])
def test_a_quote_is_all_that_an_hour_of_every_chip_costs(rows: dict, case: str):
    assert rows[case]["usd_per_chip_hour"] == "2.5"


@pytest.mark.long
def test_a_price_beside_another_basis_than_quote_is_not_read(rows: dict):
    asked = rows["a price that was predicted"]
    assert asked["usd_per_chip_hour"] == rows["serving"]["usd_per_chip_hour"]


@pytest.mark.long
def test_a_rental_is_given_where_it_is_asked_for(rows: dict):
    rental = si_or(chip_files()["h100-sxm"].money.rental, "USD/s")
    hour = _number(rows["a rental asked for"], "usd_per_chip_hour")
    assert hour == pytest.approx(3600 * rental, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"usd_per_chip_hour": "0"}, "usd_per_chip_hour is '0'; allowed are numbers greater than"),
        ({"usd_per_chip_hour": "-1"}, "usd_per_chip_hour is '-1'; allowed are numbers greater"),
        ({"usd_per_chip_hour": "x"}, "usd_per_chip_hour is 'x', which is not a number"),
        ({"cost_basis": "quote"}, "usd_per_chip_hour is missing"),
        ({"cost_basis": "renal"}, "unknown cost_basis 'renal'; the nearest are rental"),
        ({"cost_basis": "making"}, "allowed are owner, rental, marginal, quote"),
        ({"cost_basis": "marginal", "chip": "tpu-v6e"}, "but tpu-v6e has owner, rental alone"),
        ({"cost_basis": "rental", "chip": "h100-pcie"}, "h100-pcie has owner, marginal alone"),
    ],
)
def test_a_cost_that_cannot_be_given_is_one_sentence(change: dict[str, str], said: str):
    row = predict_changes(ASKED | {"chip": "h100-sxm"}, change)[0]
    assert said in row["error"] and row["error"].endswith(".")
    assert row["tpot_ms"] == "" and row["cost_basis"] == change.get("cost_basis", "")
    assert row["usd_per_chip_hour"] == change.get("usd_per_chip_hour", "")


@pytest.mark.long
def test_a_prediction_that_is_predicted_again_costs_the_same(rows: dict, tmp_path: Path):
    """But for rates, beside which users are written, and two models, whose chips are added up."""
    plain = ("requests_per_s", "large_model")
    given = [row for row in rows.values() if not any(row[name] for name in plain)]
    again = predict("serving", tmp_path, given)
    assert [row["error"] for row in again] == [row["error"] for row in given]
    assert [row["cost_basis"] for row in again] == [row["cost_basis"] for row in given]
    for name in ("usd_per_million_output_tokens", "usd_per_chip_hour"):
        before, after = ([float(row[name] or "0") for row in rows] for rows in (given, again))
        assert after == pytest.approx(before, rel=1e-5), name  # users are written in six digits


def test_a_row_with_an_error_keeps_no_price_of_an_earlier_prediction():
    old = {"usd_per_chip_hour": "0.9", "cost_basis": "marginal", "osl": "", "chip": "h100-sxm"}
    row = predict_changes(ASKED, old)[0]
    assert row["error"] and row["usd_per_chip_hour"] == ""


@pytest.mark.long
def test_explain_takes_a_row_with_a_quote():
    words = [f"{name}={value}" for name, value in (ASKED | {"chip": "h100-sxm"}).items()]
    assert run("explain", *words, "usd_per_chip_hour=2.5", "--json")[0] == 0
    status, _, err = run("explain", *words, "usd_per_chip_hour=-1")
    assert status == 2 and "greater than zero" in err


@pytest.mark.long
def test_a_chip_file_without_money_is_served_and_its_usd_are_empty(rows: dict):
    row = rows["own chip"]
    assert row["error"] == "" and _number(row, "tpot_ms") > 0
    assert (row["cost_basis"], row["usd_per_chip_hour"]) == ("unknown", "")


@pytest.mark.long
def test_owner_is_a_sentence_for_a_chip_without_money(rows: dict, tmp_path: Path):
    own = dict(ASKED, chip=rows["own chip"]["chip"], cost_basis="owner")
    row = predict("serving", tmp_path, [own])[0]
    assert "has no basis" in row["error"] and row["usd_per_chip_hour"] == ""


def test_a_power_limit_that_nobody_publishes_goes_with_the_price():
    assert power_limit(chip_files()["lp30"]) == pytest.approx(0.03 * 8000)
    assert power_limit(chip_files()["h100-sxm"]) == 700


@pytest.mark.parametrize("stem", chip_files())
def test_every_chip_of_the_library_can_be_owned(stem: str):
    cost, money = chip_cost(stem), chip_files()[stem].money
    assert cost.basis == "owner" and cost.usd_per_s.low < cost.usd_per_s.value
    assert cost.usd_per_s.value < cost.usd_per_s.high
    assert (cost.electricity > 0) == (money.price is not None)
    if money.rental is not None:
        rented = chip_cost(stem, AskedCost("rental"))
        assert rented.electricity == 0
        assert rented.usd_per_s.value == si_or(money.rental, "USD/s")


@pytest.mark.slow
def test_usd_of_chips_whose_power_nobody_publishes_are_those_of_an_hour(tmp_path: Path):
    """Boards without a known idle power draw what the ledger takes where no load is given."""
    unknown = [
        stem
        for stem, file in chip_files().items()
        if file.money.price is not None and file.power.idle is None
    ]
    assert {"h20", "mi455x", "sn40l"} <= set(unknown)
    asked = {"model": "llama-3.1-8b", "isl": "1024", "osl": "128", "concurrency": "4"}
    rows = predict("serving", tmp_path, [{"chip": stem} | asked for stem in unknown])
    for stem, row in zip(unknown, rows, strict=True):
        hours = 3600 * market_hour(stem).value
        assert float(row["usd_per_chip_hour"]) == pytest.approx(hours, rel=1e-3), stem


PUBLISHED = {
    "b300-sxm": 2.34,
    "gb300": 2.652,
    "mi355x": 1.48,
    "wse-3": 41.96,
} | {row.chip: row.cost for row in known_owners() if row.quantity == "owner_usd_per_hour"}
"""USD of an hour owned, as analysts have it (SemiAnalysis InferenceX 2026-04, tokenomics.info 2026-05)."""


@pytest.mark.parametrize("stem", PUBLISHED)
def test_owning_costs_what_analysts_say_it_costs(stem: str):
    assert 3600 * market_hour(stem).value == pytest.approx(PUBLISHED[stem], rel=0.3)


def test_bases_are_joined_once_each_and_one_unknown_makes_all_unknown():
    assert joint_basis(["marginal", "rental", "marginal"]) == "marginal+rental"
    assert joint_basis(["marginal+rental", "rental"]) == "marginal+rental"
    assert joint_basis(["rental", "unknown"]) == "unknown"


GRID = """
model = "llama-3.2-1b"
chip = ["h100-sxm", "mi355x", "tpu-v6e"]
isl = 1000
osl = 200
concurrency = [1, 16]
"""


@pytest.mark.long
def test_points_of_a_sweep_cost_what_the_rows_cost(tmp_path: Path, rows: dict):
    (tmp_path / "grid.toml").write_text(GRID)
    status, _, _ = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")
    assert status == 0
    points = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()
    assert [p["cost_basis"] for p in points[::2]] == ["owner"] * 3
    for point in points:
        tokens = 3600 * point["output_tokens_per_s_per_chip"]
        hour = point["usd_per_million_output_tokens"] * 1e-6 * tokens
        assert point["usd_per_chip_hour"] == pytest.approx(hour, rel=1e-4)
    for point, case in ((points[1], "serving"), (points[5], "a chip that is only rented")):
        for name in ("usd_per_chip_hour", "usd_per_million_output_tokens_high"):
            assert point[name] == pytest.approx(_number(rows[case], name), rel=1e-4)


@pytest.mark.long
def test_quotes_are_an_axis_of_a_sweep(tmp_path: Path):
    (tmp_path / "grid.toml").write_text(
        GRID + 'usd_per_chip_hour = [2, 4]\ncost_basis = ["quote", "marginal"]\n'
    )
    assert run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")[0] == 0
    points = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()
    hours = [point["usd_per_chip_hour"] for point in points[: 2 * 2 * 2]]
    # At the margin an hour of one user, then of sixteen; a price beside another basis is not read.
    assert hours == pytest.approx([2, 2, 4, 4, *hours[4:6] * 2], rel=1e-4) and max(hours[4:]) < 1
    assert "tpu-v6e has owner, rental alone" in points[-1]["error"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("usd_per_chip_hour = [2, -1]", "usd_per_chip_hour is '-1'"),
        ('cost_basis = "renal"', "the nearest are rental"),
    ],
)
def test_a_grid_with_a_wrong_cost_is_refused(tmp_path: Path, line: str, said: str):
    (tmp_path / "grid.toml").write_text(f"{GRID}{line}\n")
    status, _, err = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.csv")
    assert status == 2 and said in err


@pytest.mark.slow
def test_the_quickstart_says_what_its_usd_are_of(tmp_path: Path):
    status, out, _ = run("quickstart", "--out", tmp_path, "--json")
    assert status == 0
    found = json.loads(out)
    assert any(line.startswith("USD are of what cost_basis names") for line in found["said"])
    for machine in found["machines"]:
        assert machine["cost basis"] in COST_BASES
        chips, rate, million, hour = (machine[name] for name in NUMERIC_COLUMNS)
        assert hour == pytest.approx(million * 1e-6 * rate * 3600, rel=1e-4) and chips >= 1


def test_every_study_with_usd_says_what_they_are_of():
    folder = Path(__file__).parents[1] / "perfmodel/studies"
    for study in studies():
        text = (folder / f"{study.name.replace('-', '_')}.py").read_text("utf-8")
        written = [line for line in text.split("\n") if "USD" in line and '"""' not in line]
        shown = [line for line in written if "si_or" not in line and "spread(" not in line]
        if any("USD" in line and "PER = " not in line for line in shown):
            assert study.cost_basis, study.name
        assert set(study.cost_basis) <= set(COST_BASES), study.name


@pytest.mark.long
def test_energy_at_the_wall_is_at_least_that_of_the_boards(rows: dict):
    both = [
        row
        for row in rows.values()
        if row["joules_per_output_token_at_wall"] and row["joules_per_output_token"]
    ]
    assert len(both) > 5
    for row in both:
        wall, boards = (_number(row, f"joules_per_output_token{end}") for end in ("_at_wall", ""))
        assert wall >= boards, row


@pytest.mark.long
def test_boards_that_serve_draw_at_least_their_idle_power(rows: dict):
    for case in ("serving", "arrivals"):
        row, idle = rows[case], 140.0  # W of an H100, as its file has it
        rate = _number(row, "output_tokens_per_s_per_chip")
        assert rate * _number(row, "joules_per_output_token") >= idle, case


def _example() -> str:
    """The worked example of docs/cost.md, without commas between thousands."""
    return (Path(__file__).parents[1] / "docs/cost.md").read_text("utf-8").replace(",", "")


def test_the_worked_example_is_what_the_ledger_says():
    owner, text = load_ownership(), _example()
    whole = bought(chip_files()["h100-sxm"], 28000.0)
    parts = {
        "written off": whole.total / owner.life,
        "interest": whole.total * owner.interest / 2 / YEAR_S,
        "upkeep": whole.total * owner.upkeep / YEAR_S,
        "site": 700 * (owner.conversion + owner.around) * owner.site,
        "electricity": (owner.conversion * 560 + 700 * owner.around)
        * owner.overhead
        * owner.tariff,
    }
    for name, rate in parts.items():
        line = next(one for one in text.split("\n") if one.startswith(f"| {name} "))
        assert float(line.split("|")[3]) == pytest.approx(3600 * float(rate), abs=6e-4), name
    total = 3600 * float(sum(parts.values()))
    assert f"**{total:.3f}**" in text and total == pytest.approx(
        3600 * market_hour("h100-sxm").value
    )
    for paid in (whole.host, whole.network, whole.total):
        assert f"{float(paid):.0f} USD" in text
    at_margin = 3600 * float(parts["upkeep"] + parts["electricity"])
    assert f"costs {at_margin:.3f} USD/h at the margin" in text


def test_the_other_numbers_of_that_page_are_the_ledgers():
    text = _example()
    assert f"1.5 TB: {memory_apart(chip_files()['xeon-6980p']):.0f} USD" in text
    value, low, high = (3600 * one for one in chip_cost("tpu-v6e").usd_per_s)
    assert f"{value:.2f} owned ({low:.2f} to {high:.2f})" in text


@pytest.fixture(scope="module")
def hours(rows: dict) -> dict[str, float]:
    """USD of an H100 for an hour by command."""
    stem = "h100-sxm"
    chip, file, known = load_chip(stem), chip_files()[stem], load_constants().values
    owner, limit = load_ownership(), float(chip.peak_power)
    paid = price(_chip_design(chip, file, known).cost, owner)
    scored = {one.chip: one.predicted for one in tco_scores() if one.quantity.startswith("owner")}
    return {
        "predict": _number(rows["serving"], "usd_per_chip_hour"),
        "study": 3600 * market_hour(stem).value,
        "validate": scored[stem],
        "search": 3600
        * float(running(paid, as_scalar(UTILISATION * limit), as_scalar(limit), owner)),
    }


@pytest.mark.long
def test_every_command_knows_what_an_hour_of_an_h100_costs(hours: dict[str, float]):
    for command, cost in hours.items():
        assert 0.5 < cost < 5, command


@pytest.mark.long
def test_every_command_says_the_same_of_an_hour_of_an_h100(hours: dict[str, float]):
    for command, cost in hours.items():
        assert cost == pytest.approx(hours["predict"], rel=0.02), command


MACHINE = {"chip": "h100-sxm", "n_chips": "1", "framework": "vllm", "precision": "bf16"}
LOAD = {"model": "llama-3.2-1b", "isl": "1000", "osl": "200", "concurrency": "16"}


@pytest.mark.long
@pytest.mark.parametrize("basis", ["", "rental", "marginal"])
def test_predict_sweep_recommend_and_explorer_say_the_same_of_a_machine(basis: str, tmp_path: Path):
    asked = MACHINE | LOAD | ({"cost_basis": basis} if basis else {})
    row = predict("serving", tmp_path, [asked])[0]
    million = _number(row, "usd_per_million_output_tokens")
    assert row["cost_basis"] == (basis or "owner")
    lines = [
        f'{name} = "{word}"' if name in WORDS else f"{name} = {word}"
        for name, word in asked.items()
    ]
    (tmp_path / "grid.toml").write_text("\n".join(lines))
    assert run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")[0] == 0
    point = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()[0]
    assert point["usd_per_million_output_tokens"] == pytest.approx(million, rel=1e-4)
    words = [word for name, text in asked.items() for word in (f"--{name.replace('_', '-')}", text)]
    status, out, _ = run("recommend", *words, "--json")
    best = json.loads(out)["deployments"][0]
    assert status == 0 and best["cost_basis"] == row["cost_basis"]
    assert best["usd_per_million_output_tokens"] == pytest.approx(million, rel=1e-4)
    shown = view(
        explored("h100-sxm", 1, precision="bf16", framework="vllm"),
        Scenario((), "llama-3.2-1b", 1000, 200, 16, basis),
    )
    assert shown.cost_basis == row["cost_basis"]
    assert shown.here.dollars == pytest.approx(million, rel=1e-4)


WORDS = ("chip", "framework", "precision", "model", "cost_basis")


def test_a_basis_that_a_command_does_not_have_is_one_sentence(tmp_path: Path):
    status, _, err = run(
        "search", "cheap-tokens", "--out", tmp_path / "out", "--cost-basis", "quote"
    )
    assert status == 2 and "allowed are owner, rental, marginal" in err
    words = ["--model", "llama-3.2-1b", "--chip", "h100-sxm", "--n-chips", "1", "--isl", "100"]
    status, _, err = run("recommend", *words, "--osl", "10", "--cost-basis", "renal")
    assert status == 2 and "unknown cost_basis 'renal'" in err


def test_a_negative_price_in_a_chip_file_is_one_sentence(tmp_path: Path):
    text = (Path(__file__).parents[1] / "perfmodel/library/chips/l4.toml").read_text("utf-8")
    (tmp_path / "own.toml").write_text(
        text.replace("price = { value = 2500", "price = { value = -1")
    )
    row = predict("serving", tmp_path, [ASKED | {"chip": str(tmp_path / "own.toml")}])[0]
    assert "money.price" in row["error"] and "greater than" in row["error"]
