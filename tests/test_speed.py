"""The price of an evaluation, from the start: the benchmark runs, and importing is quick."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_speed_benchmark_writes_what_the_contract_names(tmp_path: Path):
    out = tmp_path / "speed.json"
    words = ["--batch", "64", "--devices", "2", "--json", str(out)]
    command = [sys.executable, "-m", "benchmarks.speed", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(out.read_text())
    names = {
        "evaluations_per_s",
        "gradients_per_s",
        "compile_s",
        "compile_again_s",
        "help_s",
        "first_row_s",
        "import_s",
        "peak_mb",
        "batch",
        "peers",
    }
    assert names <= set(found)
    assert found["batch"] == 64
    assert found["evaluations_per_s"] > 1_000
    assert found["deepseek_r1_per_s"] > 0 and found["service_per_s"] > 0
    assert found["import_s"] < found["ready_s"] < found["first_row_s"]
    assert found["compile_again_s"] < found["compile_s"]
    assert found["scaling"]["2"]["devices"] == 2
    assert found["scaling"]["2"]["sweep_per_s"] > 0 and found["scaling"]["2"]["search_per_s"] > 0
    installed = importlib.util.find_spec("aiconfigurator_core") is not None
    assert ("aiconfigurator" in found["peers"]) == installed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv makes the empty environment")
def test_the_wheel_predicts_in_an_empty_environment():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = subprocess.run([ROOT / ".ci/wheel", version], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_importing_it_imports_nothing_until_it_is_used():
    code = "import sys, perfmodel; print('jax' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_help_needs_neither_jax_nor_the_library():
    code = "import sys, perfmodel.interface.cli; print('jax' in sys.modules, 'pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.long
def test_importing_sweeps_and_searches_leaves_the_processor_to_be_split():
    code = """
import jax, perfmodel.interface.search, perfmodel.inference.sweep
jax.config.update("jax_num_cpu_devices", 3)
print(jax.local_device_count("cpu"))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "3\n"


def test_options_that_this_xla_does_not_have_are_left_out():
    from perfmodel.xla import supported

    plain = {"xla_backend_optimization_level": 0}
    assert supported(plain | {"xla_no_such_option": True}) == plain


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep memory in their own way")
def test_kept_memory_is_not_cleared_and_mapped_again():
    code = """
import resource
import numpy as np
from perfmodel.xla import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
first, second = faults(), faults()
print(second)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 100  # of 32,768 pages
