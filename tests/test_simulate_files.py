"""What goes wrong with traces and files of `perfmodel simulate`: killed, full, broken, gigantic."""

import itertools
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfmodel.inference.scheduler import Engine, Policy
from perfmodel.inference.step_times import StepTimes
from perfmodel.inference.trace import Trace
from perfmodel.inference.traffic import OpenLoop
from tests.command import run

DEPLOYMENT = (
    "--chip",
    "h100-sxm",
    "--n-chips",
    "1",
    "--model",
    "llama-3.1-8b",
    "--framework",
    "vllm",
)
TRACE = '{"timestamp": %s, "input_length": %s, "output_length": %s}'

KILLED = """
import os, signal, sys
from pathlib import Path
from perfmodel.inference.scheduler import Outcome
from perfmodel.interface import simulate
def die(path, content):
    os.kill(os.getpid(), signal.SIGKILL)
simulate.write_json = die
summary = {"scheduler": {"kv_capacity_tokens": 1}, "deployment": {"replicas": 1}}
list(simulate.write(Path(sys.argv[1]), Outcome(), summary))
"""


@pytest.mark.long
@pytest.mark.parametrize("there", [False, True])
def test_a_process_that_is_killed_while_it_writes_leaves_no_output(there: bool, tmp_path: Path):
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "summary.json").write_text("{}")
        (out / "notes.txt").write_text("mine")
    killed = subprocess.run([sys.executable, "-c", KILLED, out], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = sorted(path.name for path in out.iterdir()) if there else out.exists()
    # What was there is of one piece still: nothing of the new run came to it.
    assert found == (["notes.txt", "summary.json"] if there else False)


def test_output_comes_into_a_folder_that_is_there_and_keeps_what_is_not_ours(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    words = ("--requests-per-s", "5", "--isl", "500", "--osl", "50", "--requests")
    for count in ("20", "30"):
        assert run("simulate", *words, count, *DEPLOYMENT, "--out", out)[0] == 0
        assert json.loads((out / "summary.json").read_text())["requests"] == int(count)
        assert len((out / "requests.csv").read_text().splitlines()) == int(count) + 1
    names = {path.name for path in out.iterdir()}
    assert names == {"notes.txt", "requests.csv", "summary.json", "timeline.html"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


BAD = {
    "has timestamp -1; allowed is 0 to": TRACE % (-1, 100, 10),
    "has timestamp 1e+300; allowed": TRACE % (1e300, 100, 10),
    "has no timestamp": '{"input_length": 5, "output_length": 5}',
    "has timestamp 'noon', which is no number": TRACE % ('"noon"', 5, 5),
    "has timestamp 'nan', which is no number": TRACE % ("NaN", 5, 5),
    "has input_length 0; allowed are whole numbers from 1 to 10,000,000": TRACE % (1, 0, 10),
    "has input_length -7; allowed": TRACE % (1, -7, 10),
    "has input_length 2.5; allowed": TRACE % (1, 2.5, 10),
    "has input_length 1e+12; allowed": TRACE % (1, 1e12, 10),
    "has no output_length": TRACE % (1, 5, "null"),
    "has output_length '[]', which is no number": TRACE % (1, 5, "[]"),
    "has output_length 'True', which is no number": TRACE % (1, 5, "true"),
    "has hash_ids '5', which is no list of numbers": TRACE[:-1] % (1, 5, 5) + ', "hash_ids": 5}',
    "is no JSON object": "[1, 2, 3]",
    "is no JSON": TRACE % (1, 5, "9" * 5000),
}
"""What is said of a line, and the line."""


@pytest.mark.parametrize("part", range(0, len(BAD), 5))
def test_each_field_that_cannot_be_is_named_with_its_line(part: int, tmp_path: Path):
    bad = dict(itertools.islice(BAD.items(), part, part + 5))
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join([TRACE % (0, 100, 10), *bad.values()]) + "\n")
    status, out, err = run("simulate", path, *DEPLOYMENT, "--json")
    assert (status, json.loads(out)["answered"]) == (0, 1)
    assert f"{len(bad)} lines are left out" in err
    for number, said in enumerate(bad, 2):
        assert f"line {number} {said}" in err
    assert "Traceback" not in err


def test_requests_out_of_order_are_put_in_order_and_said(tmp_path: Path):
    path = tmp_path / "trace.csv"
    times = [0, 5, 3, 4, 9]
    path.write_text(
        "timestamp,input_length,output_length\n" + "".join(f"{t},100,10\n" for t in times)
    )
    status, out, err = run("simulate", path, *DEPLOYMENT, "--json")
    assert (status, json.loads(out)["answered"]) == (0, 5)
    assert "2 lines stood after a later one and were put in order" in err


def test_a_long_trace_says_before_how_long_it_takes(tmp_path: Path):
    path = tmp_path / "trace.csv"
    # Most are never answered: the file is long, the simulation is not.
    path.write_text("timestamp,input_length,output_length\n0,100,2\n" + "1,9000000,1\n" * 20_000)
    status, _, err = run("simulate", path, *DEPLOYMENT, "--json")
    assert status == 0
    assert "requests take about" in err.splitlines()[0]


STEP = [[0.01, 0.01]] * 2
TIMES = StepTimes([1.0, 2.0], [0.0, 1.0], [0.0, 1e3], [0.0, 1.0], STEP, STEP, [[STEP] * 2] * 2)


@pytest.mark.slow
def test_two_hundred_thousand_requests_are_served_in_memory_that_does_not_grow_with_the_file(
    tmp_path: Path,
):
    path, ids = tmp_path / "trace.csv", " ".join(map(str, range(20)))
    with path.open("w") as file:
        file.write("timestamp,input_length,output_length,hash_ids\n")
        file.writelines(f"{0.02 * i},{i % 5000 + 1},2,[{i} {ids}]\n" for i in range(200_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    policy = Policy(256, 8192, True, False, 0.0, 1e6, 0.0, 0.0)
    found = Engine(TIMES, policy, OpenLoop(Trace(path).requests())).run()
    assert (found.answered, len(found.arrival)) == (200_000, 200_000)
    # 64 bytes of numbers for each request, and what is open at once.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB


def test_a_report_has_the_percentiles_the_pictures_and_the_sources(tmp_path: Path):
    page = tmp_path / "report.html"
    words = ("--requests-per-s", "5", "--isl", "500", "--osl", "50", "--requests", "40")
    status, out, _ = run("simulate", *words, *DEPLOYMENT, "--report", page)
    assert status == 0
    assert "The report is" in out
    text = page.read_text()
    for said in (
        "p99",
        "Requests in the engine",
        "KV cache in use",
        "End to end of requests",
        "NVIDIA",
    ):
        assert said in text
    assert text.count("<svg") >= 5
