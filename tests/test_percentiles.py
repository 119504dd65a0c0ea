"""Percentiles of rows of the serving schema: from the simulation, beside means that stay as they are."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from perfmodel.inference.percentiles import PERCENTILES
from tests.command import run

ROW = {
    **{"chip": "h100-sxm", "n_chips": "1", "model": "llama-3.1-8b", "framework": "vllm"},
    **{"isl": "1024", "osl": "256", "concurrency": "16", "length_ratio": "0.9"},
}


def written(
    folder: Path, rows: list[dict[str, str]], *words: str
) -> tuple[list[dict[str, str]], str]:
    """Rows of a file with their predictions, and what is said beside."""
    names = dict.fromkeys(name for row in rows for name in row)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names), restval="")
        writer.writeheader()
        writer.writerows(rows)
    status, _, err = run(
        "predict", "serving", folder / "rows.csv", "--out", folder / "out.csv", *words
    )
    assert status == 0
    with (folder / "out.csv").open(newline="") as file:
        return list(csv.DictReader(file)), err


@pytest.mark.slow
def test_percentiles_stand_beside_means_that_do_not_move(tmp_path: Path):
    rows = [ROW, ROW | {"concurrency": "", "requests_per_s": "4"}]
    (plain, _), (found, err) = written(tmp_path, rows), written(tmp_path, rows, "--percentiles")
    assert err == ""
    for before, row in zip(plain, found, strict=True):
        assert {name: row[name] for name in before} == before
        assert list(row)[-len(PERCENTILES) :] == list(PERCENTILES)
        for name in ("ttft_ms", "tpot_ms", "end_to_end_ms"):
            p50, p90, p99 = (float(row[f"{name}_{p}"]) for p in ("p50", "p90", "p99"))
            assert 0 < p50 <= p90 <= p99
        assert float(row["tpot_ms_p50"]) == pytest.approx(float(row["tpot_ms"]), rel=0.1)
        whole = float(row["ttft_ms"]) + 229 * float(row["tpot_ms"])
        assert float(row["end_to_end_ms_p50"]) == pytest.approx(whole, rel=0.15)


@pytest.mark.long
def test_the_percentiles_of_a_row_are_those_of_its_simulation(tmp_path: Path):
    found, _ = written(tmp_path, [ROW], "--percentiles", "--ttft-ms", "150")
    words = [word for name, cell in ROW.items() for word in (f"--{name.replace('_', '-')}", cell)]
    status, out, _ = run("simulate", *words, "--ttft-ms", "150", "--json")
    assert status == 0
    summary = json.loads(out)
    for name in PERCENTILES:
        time, _, share = name.rpartition("_")
        assert float(found[0][name]) == pytest.approx(summary[time][share], rel=1e-5)
    for name in ("goodput_share", "goodput_requests_per_s"):
        assert float(found[0][name]) == pytest.approx(summary[name], rel=1e-5)


@pytest.mark.slow
def test_rows_that_are_not_simulated_keep_their_numbers_and_say_why(tmp_path: Path):
    pools = ROW | {"chip": "", "n_chips": "", "mode": "disaggregated", "length_ratio": ""}
    pools |= {
        f"{pool}_{name}": cell for pool in ("prefill", "decode") for name, cell in POOL.items()
    }
    rows = [ROW, pools, ROW | {"mode": "static_batch"}, ROW | {"isl": "many"}]
    found, err = written(tmp_path, rows, "--percentiles")
    assert [bool(row["ttft_ms"]) for row in found] == [True, True, True, False]
    assert [bool(row["ttft_ms_p50"]) for row in found] == [True, True, False, False]
    assert "row 2" not in err
    assert "row 3: no percentiles: a static batch has no queue" in err
    assert "row 4" not in err


POOL = {"chip": "h100-sxm", "workers": "1", "tp": "1"}


def test_percentiles_of_an_earlier_prediction_do_not_stay(tmp_path: Path):
    found, _ = written(tmp_path, [ROW], "--percentiles")
    again, err = written(tmp_path, found)
    assert err == ""
    assert again[0]["ttft_ms"] == found[0]["ttft_ms"]
    assert not any(again[0][name] for name in PERCENTILES)


def test_limits_of_goodput_need_percentiles():
    words = [word for name, cell in ROW.items() for word in (f"--{name.replace('_', '-')}", cell)]
    status, _, err = run("predict", "serving", *words, "--ttft-ms", "100")
    assert status == 2
    assert "give --percentiles too" in err


def test_many_rows_have_a_table_of_percentiles_of_their_own():
    words = [word for name, cell in ROW.items() for word in (f"--{name.replace('_', '-')}", cell)]
    at = words.index("--concurrency") + 1
    words[at] = "1,2,4,8,16"
    status, out, _ = run("predict", "serving", *words, "--percentiles", "--tpot-ms", "9")
    assert status == 0
    table = out[out.index("Percentiles (ms) and goodput") :]
    assert "end to end" in table
    assert max(map(len, out.splitlines()[:20])) <= 100
    lines = [
        line.split()
        for line in table.splitlines()
        if line.split()[:1] in [[str(i)] for i in range(1, 6)]
    ]
    assert np.all(np.diff([float(line[4]) for line in lines]) > 0)  # TPOT rises with users


def test_a_burst_longer_ago_has_no_wait_of_the_first_round(tmp_path: Path):
    rows = [ROW | {"concurrency": "64", "burst": burst} for burst in ("true", "false")]
    burst, steady = written(tmp_path, rows, "--percentiles")[0]
    assert float(steady["ttft_ms_p99"]) < 0.7 * float(burst["ttft_ms_p99"])
    assert float(steady["tpot_ms_p50"]) == pytest.approx(float(burst["tpot_ms_p50"]), rel=0.05)


def test_percentiles_have_the_options_of_the_row_s_server(tmp_path: Path):
    rows = [ROW | {"max_num_seqs": "4"}, ROW]
    few, many = written(tmp_path, rows, "--percentiles")[0]
    # Twelve of sixteen users wait for one of four places.
    assert float(few["ttft_ms_p50"]) > 5 * float(many["ttft_ms_p50"])
    assert float(few["tpot_ms_p50"]) < float(many["tpot_ms_p50"])
