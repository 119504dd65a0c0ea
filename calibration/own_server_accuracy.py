"""How well `calibrate --ops serving` predicts from one run, and from eight of another model of a server.

The runs are the open ones of InferenceX. A deployment is a chip, a framework, a model, a format and ranks: of
each the run nearest to 1,024 tokens and 16 users is given, and its others are predicted. A server is a chip
with a framework: eight runs of one of its models are given, spread over users, and each other is predicted.

`python -m perfmodel.calibration.own_server_accuracy` prints medians of |predicted / measured - 1|.
"""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.calibration.data.inferencex import Run, open_runs
from perfmodel.calibration.own_server import FittedServers, OwnServers, fit_servers, log_times
from perfmodel.calibration.serving import RunGroup, groups_of
from perfmodel.calibration.serving_metrics import distance_from_anchor
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.evaluate import resolve_row
from perfmodel.library.fitted import FITTED

GIVEN = 8
"""Runs of a model from which others of its server are predicted."""


class Benchmark:
    """The runs by form, and each framework's host on each chip."""

    def __init__(self, runs: Sequence[Run], folder: Path = FITTED):
        self.groups: list[RunGroup] = groups_of(runs, folder)
        self.runs = [run for group in self.groups for run in group.runs]
        self.servers = places_of([_server(run) for run in self.runs])
        firsts = [int(np.flatnonzero(self.servers == i)[0]) for i in range(self.servers.max() + 1)]
        self.hosts = [_host(self.runs[i], folder) for i in firsts]

    def given(self, servers: np.ndarray, stacks: np.ndarray) -> OwnServers:
        """The runs with servers and stacks of their own, each with its framework's host."""
        firsts = [int(np.flatnonzero(servers == i)[0]) for i in range(servers.max() + 1)]
        hosts = [self.hosts[self.servers[i]] for i in firsts]
        return OwnServers(self.groups, hosts, servers, stacks)

    def errors(self, given: OwnServers, fitted: FittedServers) -> np.ndarray:
        """|predicted / measured - 1| of TPOT and TTFT, of shape (n, 2); `nan` where not compared."""
        return np.abs(np.expm1(log_times(given, fitted) - given.measured))


def _server(run: Run) -> Hashable:
    return run.cells["chip"], run.cells["framework"]


def _host(run: Run, folder: Path) -> HostEfficiency:
    return resolve_row(0, run.cells, folder).deployment.chip.efficiency.host


def places_of(keys: Sequence[Hashable]) -> np.ndarray:
    """Each key's place among the distinct ones."""
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(key, len(places)) for key in keys])


def from_one_run(all_runs: Benchmark) -> tuple[np.ndarray, np.ndarray]:
    """Errors of all runs from one of each deployment, and which of them were given."""
    own = places_of([run.config for run in all_runs.runs])
    chosen = np.zeros(len(own), bool)
    for i in range(own.max() + 1):
        at = np.flatnonzero(own == i)
        chosen[min(at, key=lambda place: distance_from_anchor(all_runs.runs[place]))] = True
    given = all_runs.given(own, own)
    return all_runs.errors(given, fit_servers(given, chosen)), chosen


def unfitted(all_runs: Benchmark) -> np.ndarray:
    """Errors of all runs as shipped."""
    given = all_runs.given(all_runs.servers, all_runs.servers)
    zeros = np.zeros((len(given.hosts), 2))
    return all_runs.errors(given, FittedServers(given.hosts, zeros, zeros))


def from_another_model(all_runs: Benchmark) -> list[dict[str, Any]]:
    """Of each pair of models on a server: median errors of the second from eight runs of the first."""
    models = np.array([run.config[1] for run in all_runs.runs])
    found = []
    for server in range(len(all_runs.hosts)):
        here = all_runs.servers == server
        for model in dict.fromkeys(models[here]):
            places = np.flatnonzero(here & (models == model))
            others = here & (models != model)
            if len(places) >= GIVEN and others.any():
                errors = _from(all_runs, _spread(all_runs.runs, places))
                found += [
                    {
                        "server": _server(all_runs.runs[places[0]]),
                        "given": model,
                        "predicted": other,
                    }
                    | medians(errors, others & (models == other))
                    for other in dict.fromkeys(models[others])
                ]
    return found


def _from(all_runs: Benchmark, places: np.ndarray) -> np.ndarray:
    """Errors of all runs of a server with the host that some of its runs give, without factors."""
    chosen = np.isin(np.arange(len(all_runs.runs)), places)
    given = all_runs.given(all_runs.servers, all_runs.servers)
    fitted = fit_servers(given, chosen)
    return all_runs.errors(given, fitted._replace(factors=np.zeros_like(fitted.factors)))


def _spread(runs: Sequence[Run], places: np.ndarray) -> np.ndarray:
    """Eight of some runs, from the fewest users to the most."""
    by_load = sorted(
        places, key=lambda i: (float(runs[i].cells["concurrency"]), runs[i].cells["isl"])
    )
    return np.array(by_load)[np.linspace(0, len(by_load) - 1, GIVEN).round().astype(int)]


def medians(errors: np.ndarray, which: np.ndarray) -> dict[str, Any]:
    """Median errors of some runs."""
    tpot, ttft = np.nanmedian(errors[which], axis=0).round(4).tolist()
    return {"n": int(which.sum()), "tpot": tpot, "ttft": ttft}


def report(folder: Path = FITTED) -> dict[str, Any]:
    """Medians from no run, from one of each deployment, and from eight of another model."""
    all_runs = Benchmark(open_runs(), folder)
    before = unfitted(all_runs)
    errors, chosen = from_one_run(all_runs)
    words = {name: np.array([run.cells[name] for run in all_runs.runs]) for name in ("framework",)}
    words["part"] = np.array([run.part for run in all_runs.runs])
    sets = {"all": ~chosen}
    for name in words.values():
        sets |= {str(word): ~chosen & (name == word) for word in dict.fromkeys(name)}
    one = {
        name: {"before": medians(before, at), "after": medians(errors, at)}
        for name, at in sets.items()
    }
    pairs = from_another_model(all_runs)
    return {"one run": one, "eight runs of another model": pairs, "pairs": _over(pairs)}


def _over(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tpot, ttft = ([pair[name] for pair in pairs] for name in ("tpot", "ttft"))
    middle = {"tpot": float(np.median(tpot)), "ttft": float(np.median(ttft))}
    return {"pairs": len(pairs)} | middle


if __name__ == "__main__":
    print(json.dumps(report(), indent=1))
