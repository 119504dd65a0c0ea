"""Many deployments simulated from a file: each as it would be alone, none costs another."""

import csv
import json
from pathlib import Path

import pytest
from command import run

pytestmark = pytest.mark.slow

ROWS = """chip,n_chips,model,framework,requests_per_s,tpot_ms
h100-sxm,1,llama-3.1-8b,vllm,,9.3
h200,2,llama-3.1-8b,sglang,6,
h1000,1,llama-3.1-8b,vllm,,
h100-sxm,1,llama-3.1-405b,vllm,,
"""
GIVEN = ("--isl", 500, "--osl", 50, "--requests", 40, "--precision", "fp8")


@pytest.fixture
def deployments(tmp_path: Path) -> Path:
    (tmp_path / "deployments.csv").write_text(ROWS)
    return tmp_path / "deployments.csv"


@pytest.mark.slow
def test_each_deployment_is_simulated_as_if_alone(deployments: Path, tmp_path: Path):
    words = "--deployments", deployments, "--requests-per-s", 4, "--out", tmp_path / "all", "--json"
    status, out, err = run("simulate", *words, *GIVEN)
    assert (status, err) == (0, "")
    assert {name: json.loads(out)[name] for name in ("rows", "errors")} == {"rows": 4, "errors": 2}
    with (tmp_path / "all/simulations.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["row"] for row in found] == ["1", "2", "3", "4"]
    for row in found[:2]:
        chip = "--chip", row["chip"], "--n-chips", row["n_chips"], "--framework", row["framework"]
        rate = "--requests-per-s", row["requests_per_s"] and (4 if row["row"] == "1" else 6)
        _, alone, _ = run("simulate", *chip, "--model", row["model"], *rate, *GIVEN, "--json")
        expected = json.loads(alone)
        assert float(row["ttft_ms_p90"]) == pytest.approx(expected["ttft_ms"]["p90"], rel=1e-5)
        assert float(row["answered"]) == expected["answered"] == 40
        assert (row["error"], row["basis"]) == ("", expected["basis"])
    assert "unknown chip 'h1000'" in found[2]["error"]
    assert "leave no KV cache" in found[3]["error"]


def test_a_trace_is_the_same_for_all(deployments: Path, tmp_path: Path):
    lines = [{"timestamp": i / 4, "input_length": 300, "output_length": 20} for i in range(20)]
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = tmp_path / "trace.jsonl", "--deployments", deployments, "--out", tmp_path / "all"
    status, out, err = run("simulate", *words, "--precision", "fp8")
    assert status == 0 and out.startswith("4 rows in"), err
    with (tmp_path / "all/simulations.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["answered"] for row in found[:2]] == ["20", "20"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--deployments", "none.csv", "--out", "x", *GIVEN), "there is no file none.csv"),
        (("--deployments", "none.csv", *GIVEN), "give --out, a folder"),
        (("--cluster", "local", *GIVEN), "give --deployments FILE.csv"),
    ],
)
def test_what_cannot_be_simulated_is_refused(words: tuple[object, ...], said: str):
    status, out, err = run("simulate", *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err, err


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "d.csv").write_text("name,price\na,1\n")
    words = "--deployments", tmp_path / "d.csv", "--out", tmp_path / "x", "--requests-per-s", 1
    status, _, err = run("simulate", *words, *GIVEN)
    assert status == 2 and "unknown column of d.csv 'name'" in err
