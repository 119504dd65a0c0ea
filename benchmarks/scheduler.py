"""The closed form of `predict serving` beside the simulated scheduler: `python -m benchmarks.scheduler`.

Each framework on three chips with four models, two lengths and 1 to 256 users, 10 requests each: closed form
over simulation, TTFT and TPOT, as docs/simulate.md has them. `--quick` takes the smallest model on one chip.
"""

import argparse
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.percentiles import server_of_row, simulated_row
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.library.fitted import FITTED

FRAMEWORKS = (("vllm", ""), ("trtllm", ""), ("sglang", ""), ("sglang", "30"))
"""With the decode steps from one reading of requests to the next, where they are more than one."""

MODELS = ("llama-3.1-8b", "llama-3.3-70b", "qwen3-30b-a3b", "deepseek-r1")
CHIPS = ("h100-sxm", "h200-sxm", "b200-sxm")
LENGTHS = (("1024", "1024"), ("4096", "256"))
USERS = ("1", "4", "16", "64", "256")
TIMES = ("ttft", "tpot")

Row = dict[str, str]


def rows(quick: bool, spread: bool) -> Iterator[Row]:
    """Rows of the serving schema; equal lengths of the smallest model on one chip alone."""
    few = quick or not spread
    models, chips = (MODELS[:1], CHIPS[:1]) if few else (MODELS, CHIPS)
    users = USERS[1:4] if few else USERS
    for (framework, interval), model, chip, (isl, osl), count in itertools.product(
        FRAMEWORKS, models, chips, LENGTHS, users
    ):
        yield {
            **{"framework": framework, "model": model, "chip": chip, "isl": isl, "osl": osl},
            **{"concurrency": count, "length_ratio": "0.9" if spread else ""},
            "read_interval": interval,
        }


def ratios(asked: list[Row]) -> list[tuple[Row, float, float]]:
    """Of each row whose users all find KV-cache capacity, closed form over simulation of TTFT and TPOT."""
    cells = {name: [row[name] for row in asked] for name in asked[0]}
    predicted = cells | predict_cells(cells, len(asked), FITTED)
    servers = functools.cache(functools.partial(server_of_row, FITTED))
    found: list[tuple[Row, float, float]] = []
    for i in range(len(asked)):
        row = {name: column[i].strip() for name, column in predicted.items()}
        if not row["ttft_ms"] or float(row["running"]) < 0.999 * float(row["concurrency"]):
            continue
        try:
            outcome, counted = simulated_row(row, servers)
        except InputError:
            continue
        means = [1e3 * np.nanmean(np.asarray(getattr(outcome, name))[counted]) for name in TIMES]
        both = [float(row[f"{n}_ms"]) / float(x) for n, x in zip(TIMES, means, strict=True)]
        found.append((row, both[0], both[1]))
    return found


def said(values: list[float]) -> str:
    """The median of some ratios, and the least and the most."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", action="store_true", help="print each row too")
    asked = parser.parse_args()
    print("| | lengths | rows | TTFT | TPOT |\n|---|---|---|---|---|")
    for spread in (True, False):
        found = ratios(list(rows(asked.quick, spread)))
        for framework, interval in FRAMEWORKS:
            names = ("framework", "read_interval")
            own = [one for one in found if tuple(one[0][n] for n in names) == (framework, interval)]
            times = [said([one[1] for one in own]), said([one[2] for one in own])]
            lengths = "0.8 to 1" if spread else "equal"
            read = f", reading after each {interval} steps" if interval else ""
            print(
                f"| {framework}{read} | {lengths} | {len(own)} | {' | '.join(times)} |", flush=True
            )
            for row, *both in own if asked.rows else ():
                names = ("model", "chip", "isl", "concurrency")
                print(*(row[name] for name in names), *(f"{one:.2f}" for one in both))


if __name__ == "__main__":
    main()
