"""What an installation has is said truly; colours, completion and near misses on the command line."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest
from command import run

from perfmodel.interface import doctor
from perfmodel.interface.doctor import EXTRAS, examine
from perfmodel.library.chip import chip_files

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "perfmodel"]


def test_every_extra_of_the_project_is_looked_at():
    """An extra may repeat packages of another; each package is looked at once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])
    for name, (_, *packages) in EXTRAS.items():
        asked = " ".join(project["optional-dependencies"][name])
        assert all(package in asked for package in packages)


def test_versions_devices_extras_and_data_are_found():
    found = {(one.kind, one.name): one for one in examine()}
    assert found["package", "jax"].found == jax.__version__
    assert found["device", "JAX"].good and jax.default_backend() in found["device", "JAX"].found
    assert f"{len(chip_files())} chips" in found["data", "library"].found
    assert "h100-sxm" in found["data", "fitted parameters"].found


def test_what_is_missing_comes_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "version", lambda package: "")
    missing = {one.name: one.advice for one in examine() if not one.good}
    assert missing["app"] == "for perfmodel explore: pip install 'perfmodel[app]'"


def test_the_doctor_speaks_json_and_a_table():
    status, out, err = run("doctor", "--json")
    assert (status, err) == (0, "")
    assert {"kind", "name", "good", "found", "advice"} == set(json.loads(out)[0])
    status, out, _ = run("doctor")
    assert status == 0 and "perfmodel" in out and "extra plots" in out


def test_a_fit_without_its_extra_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, _, err = run("calibrate", "--data", "rows.csv", "--out", "fitted")
    assert status == 2 and "fits need optimistix; install `perfmodel[fit]`." in err


def complete(line: str) -> list[str]:
    """What a shell offers after `line`."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    asked = os.environ | words | {"_PERFMODEL_COMPLETE": "complete_bash"}
    script = (
        "import sys; sys.argv = ['perfmodel']; from perfmodel.interface.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=asked)
    return done.stdout.split()


def test_commands_chips_and_models_complete_by_tab():
    assert complete("perfmodel repr") == ["reproduce"]
    assert complete("perfmodel chips h200") == ["h200-nvl", "h200-sxm"]
    assert "llama-3.1-70b" in complete("perfmodel models llama-3.1")


@pytest.mark.slow
def test_studies_and_presets_complete_by_tab():
    assert complete("perfmodel study cap") == ["capacity"]
    assert complete("perfmodel search cheap") == ["cheap-tokens"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["chps"], "'chips'"),
        (["predict", "kernel"], "'kernels'"),
        (["chips", "--jsn"], "--json"),
        (["chips", "h10"], "h100-sxm"),
        (["models", "lama-3.1-70"], "llama-3.1-70b"),
        (["explain", "chip=h100", "modl=llama-3.1-70b"], "model"),
        (["study", "capcity"], "nearest are capacity"),
        (["search", "cheap-token", "--out", "found"], "nearest are cheap-tokens"),
        (["reproduce", "--sets", "thruput"], "nearest are throughput"),
        (["validate", "--protocol", "quik"], "nearest are quick"),
        (["validate", "--ops", "gem"], "nearest are gemm"),
        (["measure", "--out", "x.csv", "--ops", "gem"], "nearest are gemm"),
        (["measure", "--out", "x.csv", "--dtype", "bf61"], "nearest are bf16"),
        (["explain", "op=gemm", "chip=h100", "dtyp=bf16"], "dtype"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(words: list[str], meant: str):
    status, _, err = run(*words)
    assert status == 2 and meant in err and err.count("\n") == 1


def test_no_colour_where_none_is_wanted():
    """A terminal that could show colours gets none with NO_COLOR set."""
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        bare = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        env = bare | {"FORCE_COLOR": "1", "TERM": "xterm-256color"} | more
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, env=env)
        assert any(f"\x1b[{code}" in done.stdout for code in ("1;3", "36", "33")) is coloured
