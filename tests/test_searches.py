"""Many studies in one run: each in a folder of its own, none costs another, and on a cluster the same."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, run

from perfmodel.errors import InputError
from perfmodel.interface import searches

STUDY = """
[objective]
minimise = "usd_per_million_tokens"
[constraints]
power_w = 700
[[workload]]
model = "llama-3.1-8b"
batch = 8
context = 4096
[space]
node = ["n7", "n5"]
[optimiser]
starts = 2
seed = {seed}
"""
FILES = ("designs.csv", "report.html", "result.json")


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.toml").write_text(STUDY.format(seed=seed))
    return [tmp_path / "one.toml", tmp_path / "two.toml"]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of studies that were searched: one of two seeds finds something."""
    names: list[str] = []

    def found(name: Path, out: Path, *_: Any, **__: Any) -> dict[str, Any]:
        names.append(name.stem)
        if "seed = 2" in name.read_text():
            raise InputError(f"{name}: no design keeps every limit.")
        out.mkdir()
        report = {"objective": 0.5, "stopped": False}
        report["study"] = {"objective": {"minimise": "usd_per_million_tokens", "maximise": None}}
        for file in FILES:
            (out / file).write_text(json.dumps(report))
        return report

    monkeypatch.setattr(searches, "run_search", found)
    return names


@pytest.mark.long
def test_each_study_has_a_folder_and_none_costs_another(
    studies: list[Path], tmp_path: Path, searched: list[str]
):
    status, printed, err = run("search", *studies, "--out", tmp_path / "found", "--json")
    assert (status, err, searched) == (0, "", ["one", "two"])
    found = json.loads(printed)
    assert found["one"]["objective"] == 0.5 and "keeps every limit" in found["two"]["error"]
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["one"]
    assert sorted(path.name for path in (tmp_path / "found/one").iterdir()) == sorted(FILES)


@pytest.mark.long
def test_what_each_found_is_said(studies: list[Path], tmp_path: Path, searched: list[str]):
    status, printed, _ = run("search", *studies, "--out", tmp_path / "found")
    assert status == 0 and "no design keeps every limit" in " ".join(printed.split())
    assert "0.5" in printed and searched == ["one", "two"]


def test_studies_that_are_whole_are_not_searched_again(
    studies: list[Path], tmp_path: Path, searched: list[str], monkeypatch: pytest.MonkeyPatch
):
    assert run("search", *studies, "--out", tmp_path / "found")[0] == 0
    monkeypatch.setattr(searches, "load_state", lambda path, study: None)
    assert run("search", *studies, "--out", tmp_path / "found", "--resume")[0] == 0
    assert searched == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--report", "page.html"), "--report is of one study"),
        (("--cluster", "local", "--coordinator", "auto"), "give one of them"),
    ],
)
def test_what_does_not_go_together_is_refused(
    studies: list[Path], tmp_path: Path, words: tuple[str, ...], said: str
):
    status, _, err = run("search", *studies, "--out", tmp_path / "found", *words)
    assert status == 2 and said in err


def test_two_studies_of_one_name_are_refused(studies: list[Path], tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/one.toml").write_text(studies[0].read_text())
    words = "search", studies[0], tmp_path / "sub/one.toml", "--out", tmp_path / "found"
    status, _, err = run(*words)
    assert status == 2 and "two studies are named one" in err


@pytest.mark.slow
def test_a_cluster_finds_what_one_machine_finds(studies: list[Path], tmp_path: Path):
    def search(out: str, *words: object) -> None:
        command = [*COMMAND, "search", *words, "--out", tmp_path / out]
        subprocess.run(command, check=True, capture_output=True)

    search("one", studies[0])
    search("alone", studies[0], "--cluster", "local")
    search("both", *studies, "--cluster", "local")
    expected = json.loads((tmp_path / "one/result.json").read_text())
    for place in ("alone/result.json", "both/one/result.json"):
        found = json.loads((tmp_path / place).read_text())
        assert {name for name in expected if found[name] != expected[name]} <= TIMED
    assert (tmp_path / "both/two/result.json").is_file()


TIMED = {"seconds", "grid"}
"""Of a report, what a clock says."""
