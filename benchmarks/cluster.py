"""A sweep without a cluster and on all cores of this machine: `python -m benchmarks.cluster --points N`.

Points a second by the clock, seconds until a local Ray is ready, and the most memory that a process took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

GRID = """
model = "llama-3.1-70b"
precision = "fp8"
chip = ["h100-sxm", "b200-sxm"]
n_chips = 8
tp = 8
isl = {{low = 500, high = 32000, points = 64}}
osl = [100, 1000]
concurrency = {{low = 1, high = 256, points = 32}}
[hardware]
matrix = {{low = 0.5, high = 2, points = {factors}}}
"""
POINTS_PER_FACTOR = 2 * 64 * 2 * 32

SAMPLED = 0.2
"""Seconds between two looks at memory."""


class Memory(threading.Thread):
    """The most resident bytes of a process and of those that it started, seen now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.driver, self.worker = psutil.Process(pid), 0, 0

    def run(self) -> None:
        """Until the process ends."""
        while self.process.is_running():
            try:
                self.driver = max(self.driver, self.process.memory_info().rss)
                for child in self.process.children(recursive=True):
                    if "".join(child.cmdline()[:1]).startswith("ray::_apply"):
                        self.worker = max(self.worker, child.memory_info().rss)
            except psutil.Error:
                continue
            time.sleep(SAMPLED)


def swept(grid: Path, out: Path, *words: str) -> dict[str, float]:
    """Seconds of a sweep as a command, and the memory of its processes."""
    command = [sys.executable, "-m", "perfmodel", "sweep", str(grid), "--out", f"{out}/", *words]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    memory.start()
    if process.wait():
        raise SystemExit(process.returncode)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "driver_mb": memory.driver / 1e6, "worker_mb": memory.worker / 1e6}


READY = """
import time
began = time.perf_counter()
from perfmodel.cluster import LOCAL, workers
with workers(LOCAL) as run:
    list(run(len, ["", ""]))
    print(time.perf_counter() - began)
"""


def ready() -> float:
    """Seconds until a local Ray has done its first tasks."""
    found = subprocess.run([sys.executable, "-c", READY], check=True, stdout=subprocess.PIPE)
    return float(found.stdout)


def measure(points: int) -> dict[str, dict[str, float]]:
    """Both ways, in turns of a first sweep that compiles and one that counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, dict[str, float]] = {}
        for factors, last in ((4, False), (max(points // POINTS_PER_FACTOR, 4), True)):
            grid = folder / "grid.toml"
            grid.write_text(GRID.format(factors=factors))
            for way, words in (("plain", ()), ("cluster", ("--cluster", "local"))):
                one = swept(grid, folder / f"{way}-{last}", *words)
                one["points_per_s"] = factors * POINTS_PER_FACTOR / one["seconds"]
                found[way] = one
        found["cluster"]["ready_seconds"] = ready()
        found["cluster"]["of_plain"] = (
            found["cluster"]["points_per_s"] / found["plain"]["points_per_s"]
        )
        return found


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000, help="of the grid, about")
    print(json.dumps(measure(parser.parse_args().points), indent=1))


if __name__ == "__main__":
    main()
