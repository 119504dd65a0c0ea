"""A search that starts from what the explorer shows, and runs beside the page."""

import atexit
import json
import math
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w

from perfmodel.design.run import best_so_far, with_options
from perfmodel.design.state import load_state
from perfmodel.design.study import AREAS, SpaceTable, read_study
from perfmodel.design.variables import read_space
from perfmodel.interface.explore.machines import cells_of
from perfmodel.interface.explore.scenario import Machine, Scenario
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.library.files import stems
from perfmodel.library.ledger import DEFAULT_BASIS

GOALS = {
    "usd_per_million_tokens": "cheapest tokens",
    "tokens_per_s_per_user": "fastest for a user",
    "joules_per_million_tokens": "fewest joules",
    "tokens_per_s_per_watt": "most tokens for a watt",
}
"""What may be asked of a search here; a study file may ask for more."""

STARTS = 16
"""Of a search from the page: a quarter of what a study starts where it does not say, for someone waits."""

DEFAULT_POWER = 1000.0
"""W of a chip that names none."""


def study_text(one: Machine, scenario: Scenario, goal: str, area: float, power: float) -> str:
    """A study file: a chip made like a machine's, for the model, users and tokens on the page.

    **Arguments:**

    - `goal`: of `GOALS`; `area`: of a die at most, in mm2; `power`: of a chip at most, in W.
    """
    cells, file = cells_of(one, scenario), chip_file(one.chip)[1]
    memory = file.main.technology if file.main is not None else ""
    known = stems("technologies")
    workload = {
        "model": scenario.model,
        "precision": cells["precision"],
        "kv_precision": cells["kv_precision"] or "bf16",
        "batch": scenario.concurrency,
        "context": scenario.isl + scenario.osl / 2,
        "chips": one.size,
    }
    space = {
        "base": one.chip,
        "node": file.node if file.node in known else "n5",
        "memory": [memory if memory in known else "hbm3e", "none"],
        **_bounds(one),
    }
    better = "maximise" if goal.startswith("tokens_per_s") else "minimise"
    study = {
        "objective": {better: goal, "cost_basis": scenario.cost_basis or DEFAULT_BASIS},
        "constraints": {"area_mm2": area, "power_w": power},
        "workload": [workload],
        "space": space,
        "optimiser": {"starts": STARTS},
    }
    return f"# {GOALS[goal].capitalize()}: a chip made like {one.chip}?\n{tomli_w.dumps(study)}"


def _bounds(one: Machine) -> dict[str, dict[str, float]]:
    """Of what is free: a study's own, wider where twice the machine's chip lies outside them."""
    chip = load_chip(one.chip)
    tier = max((chip.private, chip.shared), key=lambda tier: float(tier.capacity))
    sizes = {
        "sram_mb": float(tier.capacity) / 1e6,
        "sram_tb_per_s": float(tier.bandwidth) / 1e12,
        "tflops": float(chip.matrix["bf16"]) / 1e12,
    }
    table = SpaceTable()
    return {
        name: {"low": min(own.low, size / 2), "high": round(max(own.high, 2 * size), 1)}
        for name, size in sizes.items()
        for own in [getattr(table, name)]
    }


def limits_of(one: Machine) -> tuple[float, float]:
    """Area in mm2 and power in W of a machine's chip; a reticle, and 1 kW, where they are not known."""
    chip = load_chip(one.chip)
    area, power = float(chip.area) * 1e6, float(chip.peak_power)
    return (
        round(area, 1) if math.isfinite(area) and area > 0 else AREAS["reticle"],
        power if math.isfinite(power) and power > 0 else DEFAULT_POWER,
    )


SCRIPT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from perfmodel.interface.cli import main; main()"
)
"""The command line, which takes Ctrl-C also where the explorer was started in the background."""


class SearchJob:
    """A search in a process of its own, so that the page answers meanwhile.

    - `folder`: of its study and of what it writes.
    """

    def __init__(self, study: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perfmodel-search-"))
        path = self.folder / "study.toml"
        path.write_text(study, encoding="utf-8")
        words = [sys.executable, "-c", SCRIPT, "search", str(path), "--out", str(self.folder)]
        with (self.folder / "errors.txt").open("wb") as errors:
            self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors)
        atexit.register(self._process.terminate)

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it after this step, with what it found, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Until it is done."""
        self._process.wait()

    def progress(self) -> tuple[int, int, str]:
        """Starts done, starts at most, and the best so far, in words; from its last checkpoint."""
        study = with_options(read_study(self.folder / "study.toml"))
        starts, path = study.optimiser.starts, self.folder / "checkpoint.npz"
        if not path.exists():
            return 0, starts, "compiling"
        state = load_state(path, study)
        return int(state.starts) - 1, starts, best_so_far(study, read_space(study).integer, state)

    def report(self) -> dict[str, Any]:
        """What it found; empty where it found nothing."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wrong(self) -> str:
        """Why it found nothing."""
        said = (self.folder / "errors.txt").read_text(encoding="utf-8").strip()
        words = said.removeprefix("perfmodel: ").replace(f"{self.folder}/", "")
        return words or "The search ended before it found anything."
