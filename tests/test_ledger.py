"""What a token costs and draws: USD of a token and of an hour agree, and each says what it is of."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
from command import predict, predict_changes, run

from perfmodel.calibration.tco import UTILISATION, tco_scores
from perfmodel.design.existing_chips import _chip_design
from perfmodel.hardware.cost import price, running
from perfmodel.interface.quickstart import NUMERIC_COLUMNS
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import COST_BASES, chip_cost, joint_basis, load_ownership
from perfmodel.library.economics import hour as market_hour
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_constants
from perfmodel.studies.claim import studies
from perfmodel.units import as_scalar

ASKED = {"model": "llama-3.2-1b", "isl": "1000", "osl": "200", "concurrency": "16"}
POOLS = {"mode": "disaggregated", "prefill_workers": "1", "decode_workers": "1"}
POOLS |= {"prefill_tp": "1", "decode_tp": "1"}
CASES: dict[str, tuple[dict[str, str], str]] = {
    "serving": ({"chip": "h100-sxm"}, "marginal"),
    "more users than fit": ({"chip": "l4", "concurrency": "3000"}, "marginal"),
    "offline": ({"chip": "h100-sxm", "mode": "offline", "concurrency": ""}, "marginal"),
    "static batch": ({"chip": "h100-sxm", "mode": "static_batch"}, "marginal"),
    "single stream": ({"chip": "h100-sxm", "mode": "single_stream"}, "marginal"),
    "arrivals": (
        {"chip": "h100-sxm", "concurrency": "", "requests_per_s": "0.05"},
        "marginal",
    ),
    "a rental": ({"chip": "mi355x"}, "rental"),
    "a rental of a TPU": ({"chip": "tpu-v6e"}, "rental"),
    "neither price nor rental": ({"chip": "h100-pcie"}, "unknown"),
    "pools": (POOLS | {"prefill_chip": "h100-sxm", "decode_chip": "h200-sxm"}, "marginal"),
    "a rented pool for prompts": (
        POOLS | {"prefill_chip": "mi355x", "decode_chip": "h100-sxm"},
        "rental+marginal",
    ),
    "a rented pool that decodes": (
        POOLS | {"prefill_chip": "h100-sxm", "decode_chip": "mi355x"},
        "marginal+rental",
    ),
    "rented pools": (POOLS | {"prefill_chip": "mi355x", "decode_chip": "mi355x"}, "rental"),
    "attention apart": (
        {"chip": "h100-sxm", "tp": "1", "ffn_chip": "mi355x", "ffn_tp": "1"},
        "marginal+rental",
    ),
    "a large model goes on": (
        {"chip": "h100-sxm", "n_chips": "1", "large_model": "llama-3.1-8b"}
        | {"large_chip": "mi355x", "large_n_chips": "1", "large_share": "0.3"},
        "marginal+rental",
    ),
    "a cache in a rented pool": (
        {"chip": "wse-3", "n_chips": "1", "kv_overflow": "pool"}
        | {"kv_pool_chip": "mi355x", "kv_pool_chips": "8"},
        "marginal+rental",
    ),
    "a quote": ({"chip": "h100-sxm", "usd_per_chip_hour": "2.5"}, "quote"),
    "a quote of a chip without price": (
        {"chip": "h100-pcie", "usd_per_chip_hour": "2.5", "cost_basis": "quote"},
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
        {"chip": "h100-sxm", "cost_basis": "marginal", "usd_per_chip_hour": "77"},
        "marginal",
    ),
}

OWN_CHIP = "no_money.toml"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Every case of `predict serving`, and a chip file without price and rental."""
    folder = tmp_path_factory.mktemp("ledger")
    text = (Path(__file__).parents[1] / "perfmodel/library/chips/l4.toml").read_text("utf-8")
    own = folder / OWN_CHIP
    lines = [line for line in text.split("\n") if not line.startswith(("price", "rental"))]
    own.write_text("\n".join(lines), encoding="utf-8")
    asked = {name: ASKED | change for name, (change, _) in CASES.items()}
    asked["own chip"] = ASKED | {"chip": str(own)}
    return dict(zip(asked, predict("serving", folder, list(asked.values())), strict=True))


def _number(row: dict[str, str], name: str) -> float:
    return float(row[name])


@pytest.mark.parametrize("case", CASES)
def test_usd_of_a_token_times_tokens_is_usd_of_an_hour(rows: dict, case: str):
    row, basis = rows[case], CASES[case][1]
    assert row["error"] == "" and row["cost_basis"] == basis
    if basis == "unknown":
        assert row["usd_per_million_output_tokens"] == row["usd_per_chip_hour"] == ""
        return
    tokens = 3600 * _number(row, "output_tokens_per_s_per_chip")
    hour = _number(row, "usd_per_million_output_tokens") * 1e-6 * tokens
    assert _number(row, "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)  # six digits each


def test_an_hour_of_a_rented_chip_costs_its_rental_and_no_electricity(rows: dict):
    # USD/h as the chips' files have them; the machines of both pools are rented.
    for case, hour in (("a rental", 2.1), ("a rental of a TPU", 2.7), ("rented pools", 2.1)):
        assert _number(rows[case], "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)


def test_an_hour_of_a_bought_chip_is_its_price_over_four_years_and_its_electricity(rows: dict):
    row = rows["serving"]
    watts = _number(row, "joules_per_output_token") * _number(row, "output_tokens_per_s_per_chip")
    # 28,000 USD over 4 x 8,766 h, and 0.08 USD/kWh of 1.25 W for each W of the chip.
    hour = 28000 / (4 * 8766) + 0.08 * 1.25 * watts / 1000
    assert _number(row, "usd_per_chip_hour") == pytest.approx(hour, rel=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("a quote")])
def test_a_quote_is_all_that_an_hour_of_every_chip_costs(rows: dict, case: str):
    assert rows[case]["usd_per_chip_hour"] == "2.5"


def test_a_price_beside_another_basis_than_quote_is_not_read(rows: dict):
    asked = rows["a price that was predicted"]
    assert asked["usd_per_chip_hour"] == rows["serving"]["usd_per_chip_hour"]


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
        ({"cost_basis": "marginal", "chip": "mi355x"}, "but mi355x has rental alone"),
        ({"cost_basis": "rental", "chip": "h100-pcie"}, "but h100-pcie has no basis"),
    ],
)
def test_a_cost_that_cannot_be_given_is_one_sentence(change: dict[str, str], said: str):
    row = predict_changes(ASKED | {"chip": "h100-sxm"}, change)[0]
    assert said in row["error"] and row["error"].endswith(".")
    assert row["tpot_ms"] == "" and row["cost_basis"] == change.get("cost_basis", "")
    assert row["usd_per_chip_hour"] == change.get("usd_per_chip_hour", "")


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


def test_explain_takes_a_row_with_a_quote():
    words = [f"{name}={value}" for name, value in (ASKED | {"chip": "h100-sxm"}).items()]
    assert run("explain", *words, "usd_per_chip_hour=2.5", "--json")[0] == 0
    status, _, err = run("explain", *words, "usd_per_chip_hour=-1")
    assert status == 2 and "greater than zero" in err


@pytest.mark.parametrize("case", ["a rented pool for prompts", "a rented pool that decodes"])
def test_electricity_is_billed_of_the_bought_pool_alone(rows: dict, case: str):
    row, held = rows[case], (2.1 + 28000 / (4 * 8766)) / 2
    rate, joules = (
        _number(row, name) for name in ("output_tokens_per_s_per_chip", "joules_per_output_token")
    )
    billed = _number(row, "usd_per_chip_hour") - held
    everything = 0.08 * 1.25 * joules * rate / 1000
    assert 0 < billed < 0.95 * everything


def test_a_chip_file_without_money_is_served_and_its_usd_are_empty(rows: dict):
    row = rows["own chip"]
    assert row["error"] == "" and _number(row, "tpot_ms") > 0
    assert (row["cost_basis"], row["usd_per_chip_hour"]) == ("unknown", "")


def test_a_price_without_an_idle_power_gives_the_rental_or_nothing(tmp_path: Path):
    text = (Path(__file__).parents[1] / "perfmodel/library/chips/l4.toml").read_text("utf-8")
    kept = [line for line in text.split("\n") if not line.startswith("idle")]
    path = tmp_path / "plain.toml"
    path.write_text("\n".join(kept), encoding="utf-8")
    assert chip_cost(str(path)).basis == "rental"
    path.write_text("\n".join(x for x in kept if not x.startswith("rental")), encoding="utf-8")
    assert chip_cost(str(path)).basis == "unknown"


@pytest.mark.parametrize("stem", chip_files())
def test_every_chip_says_what_its_usd_are_of(stem: str):
    cost, money = chip_cost(stem), chip_files()[stem].money
    assert cost.basis in COST_BASES
    assert (cost.usd_per_s > 0) == (cost.basis != "unknown")
    assert (cost.electricity > 0) == (cost.basis == "marginal")
    if cost.basis == "rental":
        assert cost.usd_per_s == si_or(money.rental, "USD/s")
    assert cost.basis != "unknown" or money.rental is None


def test_bases_are_joined_once_each_and_one_unknown_makes_all_unknown():
    assert joint_basis(["marginal", "rental", "marginal"]) == "marginal+rental"
    assert joint_basis(["marginal+rental", "rental"]) == "marginal+rental"
    assert joint_basis(["rental", "unknown"]) == "unknown"


GRID = """
model = "llama-3.2-1b"
chip = ["h100-sxm", "mi355x", "h100-pcie"]
isl = 1000
osl = 200
concurrency = [1, 16]
"""


def test_points_of_a_sweep_cost_what_the_rows_cost(tmp_path: Path, rows: dict):
    (tmp_path / "grid.toml").write_text(GRID)
    status, _, _ = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")
    assert status == 0
    points = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()
    assert [p["cost_basis"] for p in points[::2]] == ["marginal", "rental", "unknown"]
    for point in points[:4]:
        tokens = 3600 * point["output_tokens_per_s_per_chip"]
        hour = point["usd_per_million_output_tokens"] * 1e-6 * tokens
        assert point["usd_per_chip_hour"] == pytest.approx(hour, rel=1e-4)
    for point, case in ((points[1], "serving"), (points[3], "a rental")):
        hour = _number(rows[case], "usd_per_chip_hour")
        assert point["usd_per_chip_hour"] == pytest.approx(hour, rel=1e-4)
    assert points[4]["usd_per_chip_hour"] is None


def test_quotes_are_an_axis_of_a_sweep(tmp_path: Path):
    (tmp_path / "grid.toml").write_text(
        GRID + 'usd_per_chip_hour = [2, 4]\ncost_basis = ["quote", "rental"]\n'
    )
    assert run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")[0] == 0
    points = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()
    hours = [point["usd_per_chip_hour"] for point in points[: 2 * 2 * 2]]
    assert hours == pytest.approx([2, 2, 4, 4, *[hours[4]] * 4], rel=1e-4) and hours[4] < 4
    assert "h100-pcie has no basis" in points[-1]["error"]


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


@pytest.mark.xfail(strict=True, reason="joules of a token leave out what idle boards draw between")
def test_boards_that_serve_draw_at_least_their_idle_power(rows: dict):
    for case in ("serving", "arrivals"):
        row, idle = rows[case], 140.0  # W of an H100, as its file has it
        rate = _number(row, "output_tokens_per_s_per_chip")
        assert rate * _number(row, "joules_per_output_token") >= idle, case


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


def test_every_command_knows_what_an_hour_of_an_h100_costs(hours: dict[str, float]):
    for command, cost in hours.items():
        assert 0.5 < cost < 5, command


@pytest.mark.xfail(
    strict=True, reason="each command has prices of its own until one ledger has them"
)
def test_every_command_says_the_same_of_an_hour_of_an_h100(hours: dict[str, float]):
    for command, cost in hours.items():
        assert cost == pytest.approx(hours["predict"], rel=0.02), command
