"""USD of tokens over the price of HBM, and the prices at which other memories are as cheap; as users ask."""

import subprocess
from pathlib import Path

import pytest
from command import COMMAND, run

from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.studies.memory_break_even import Line, break_even, cheapest

pytestmark = pytest.mark.slow

ASKED = ("sweep", "memory-price", "--model", "llama-3.1-8b")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The table that is written, and what is printed."""
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    words = (*ASKED, "--speed", "30", "--usd-per-gb", "60,5,15", "--out", str(path))
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=True)
    return path, done.stdout


def test_hbm_alone_costs_more_as_its_price_rises(out: tuple[Path, str]):
    rows = rows_of(cells_of(read_csv(out[0])))
    by_memory: dict[str, list[float]] = {}
    for row in rows:
        assert row["cost_basis"] == "owner"
        million = float(row["usd_per_million_output_tokens"])
        by_memory.setdefault(row["memory"], []).append(million)
    low, middle, high = by_memory.pop("hbm3e")
    assert low < middle < high and "gddr7" in by_memory and "ddr5" in by_memory
    assert all(len(set(one)) == 1 for one in by_memory.values())


def test_the_picture_lies_beside_the_table_and_break_even_prices_are_printed(out: tuple[Path, str]):
    path, said = out
    assert path.with_suffix(".svg").read_text("utf-8").startswith("<svg")
    assert "as cheap: HBM at USD/GB" in said and "cost_basis owner" in said


def test_a_break_even_price_makes_both_cost_the_same():
    own = [Line("hbm3e", "1", 1.0, 50.0, 2.0, 1.0), Line("hbm3e", "2", 1.0, 50.0, 3.0, 0.5)]
    price = break_even(own, 6.0)
    best = cheapest(own, "hbm3e", price)
    assert best is not None and best.at(price) == pytest.approx(6.0) and price == 6.0
    assert break_even(own, 1.0) < 0  # HBM costs more even for nothing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--speed is missing"),
        (("--speed", "-1"), "speed is '-1'; allowed are numbers greater than zero"),
        (("--speed", "30", "--usd-per-gb", "5,-2"), "usd_per_gb is '-2'"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path):
    status, _, err = run(*ASKED, *words, "--out", tmp_path / "prices.csv")
    assert status == 2 and said in err and err.count("\n") == 1


def test_a_speed_that_nothing_gives_is_one_sentence(tmp_path: Path):
    words = (*ASKED, "--speed", "1e6", "--out", str(tmp_path / "prices.csv"))
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "on up to 8 chips with HBM gives" in done.stderr
