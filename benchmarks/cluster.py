"""A sweep without a cluster and on all cores of this machine: `python -m benchmarks.cluster --points N`.

Points a second by the clock, on all cores and on one worker; seconds until a local Ray is ready; tasks that
the command hands over a second; the most memory that a process took.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
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


TASKS = 20_000
"""Tasks without work, to see how many are handed over."""

HANDED = f"""
import time
began = time.perf_counter()
from perfmodel.cluster import LOCAL, workers
with workers(LOCAL) as run:
    list(run(len, ["", ""]))
    ready = time.perf_counter()
    list(run(len, [""] * {TASKS}))
    print(ready - began, {TASKS} / (time.perf_counter() - ready))
"""


def handed() -> dict[str, float]:
    """Seconds until a local Ray has done its first tasks; tasks without work that it then does a second."""
    found = subprocess.run([sys.executable, "-c", HANDED], check=True, stdout=subprocess.PIPE)
    ready, tasks = map(float, found.stdout.split())
    return {"ready_seconds": ready, "tasks_per_s": tasks}


@contextlib.contextmanager
def ray_of(cores: int) -> Iterator[None]:
    """A Ray of this machine on some of its cores alone, which `--cluster auto` joins."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    words = ["--head", "--block", f"--port={port}", f"--num-cpus={cores}"]
    head = psutil.Popen(
        [ray, "start", *words, "--include-dashboard=false"], stdout=subprocess.DEVNULL
    )
    if hasattr(head, "cpu_affinity"):  # macOS has none
        head.cpu_affinity(list(range(cores)))
    os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
    try:
        _wait_for(port)
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        head.terminate()
        head.wait()


def _wait_for(port: int) -> None:
    """Until something answers."""
    while True:
        with socket.socket() as one:
            if not one.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.5)


def growth(grid: Path, folder: Path) -> float:
    """Speed of two workers on two cores over that of one on one, on clusters that run already."""
    seconds = []
    for cores in (1, 2):
        with ray_of(cores):
            swept(grid, folder / f"first-{cores}", "--cluster", "auto")
            seconds.append(swept(grid, folder / f"{cores}", "--cluster", "auto")["seconds"])
    return seconds[0] / seconds[1]


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
        found["cluster"] |= handed() | {"two_workers_over_one": growth(grid, folder)}
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
