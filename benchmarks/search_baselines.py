"""Other searches of the same problem: each sees unit coordinates, choices among them, and one number."""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import qmc

from benchmarks.timing import Stopwatch
from perfmodel.design.abstract_problem import (
    EVALUATED_AT_ONCE,
    evaluate_all,
    merit,
    nearest_integer,
)
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE

SMALL_BATCH = 16
"""Points evaluated together where a baseline asks for no more: a second size, so that it does not wait."""


class Progress(NamedTuple):
    """A place of a search's curve.

    - `values`, `gradients`: evaluations so far, without and with slopes.
    - `seconds`, `cpu`: so far, by the clock and of processors.
    - `value`: the least within limits, of integer designs.
    """

    values: int
    gradients: int
    seconds: float
    cpu: float
    value: float


class BudgetSpent(Exception):  # noqa: N818
    """All evaluations, or seconds, are spent, or the reference is reached."""


class Budget(NamedTuple):
    """When a run ends: evaluations, seconds of processors, and a value that is good enough."""

    evaluations: float = np.inf
    cpu: float = np.inf
    value: float = -np.inf


class Objective:
    """A problem as a baseline sees it: coordinates in, a number out, everything counted.

    Numbers of things are rounded, so that every design that counts is of integers; discrete choices
    are coordinates too, cut into equal parts.
    """

    def __init__(self, problem: Problem, integer: np.ndarray, budget: Budget) -> None:
        self.problem, self.integer, self.budget = problem, integer, budget
        self.size = len(problem.names) + len(problem.options)
        self.watch, self.count, self.best = Stopwatch(), 0, np.inf
        self.curve: list[Progress] = []

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Merit of points, one a row: the value and ten times what limits are broken by."""
        self._check()
        split = len(self.problem.names)
        unit = nearest_integer(self.problem, np.clip(points[:, :split], 0, 1), self.integer)
        parts = np.array(self.problem.options)
        choice = np.minimum((np.clip(points[:, split:], 0, 1) * parts).astype(np.int32), parts - 1)
        batch = SMALL_BATCH if len(points) <= SMALL_BATCH else EVALUATED_AT_ONCE
        value, slack = evaluate_all(self.problem, unit, choice.astype(np.int32), batch)
        feasible = np.all(slack > -CONSTRAINT_TOLERANCE, axis=1) & np.isfinite(value)
        self.count += len(points)
        self.best = min(self.best, float(np.min(value[feasible], initial=np.inf)))
        self.curve.append(Progress(self.count, 0, *self.watch.read(), self.best))
        return np.minimum(merit(value, slack), 1e6)

    def _check(self) -> None:
        most, cpu, value = self.budget
        if self.count >= most or self.watch.read()[1] > cpu or self.best <= value:
            raise BudgetSpent

    def at(self, point: np.ndarray) -> float:
        """Merit of one point."""
        return float(self(np.asarray(point)[None])[0])


def sobol(objective: Objective, seed: int) -> None:
    """A scrambled Sobol sequence, as many points together as are compiled."""
    points = qmc.Sobol(objective.size, rng=np.random.default_rng(seed))
    while True:
        objective(points.random(EVALUATED_AT_ONCE))


def uniform(objective: Objective, seed: int) -> None:
    """Points at random."""
    random = np.random.default_rng(seed)
    while True:
        objective(random.random((EVALUATED_AT_ONCE, objective.size)))


def cma_es(objective: Objective, seed: int) -> None:
    """CMA-ES (pycma) in the unit box, its population twice as large at each restart (IPOP)."""
    import cma

    size = 4 + int(3 * np.log(objective.size))
    for again in range(100):
        options: dict[str, Any] = {"bounds": [0, 1], "verbose": -9, "seed": 1000 * seed + again + 1}
        options |= {"popsize": size * 2 ** min(again, 6)}
        start = np.random.default_rng([seed, again]).random(objective.size)
        search = cma.CMAEvolutionStrategy(start, 0.3, options)
        while not search.stop():
            points = search.ask()
            search.tell(points, objective(np.array(points)).tolist())


def tpe(objective: Objective, seed: int) -> None:
    """Optuna's tree-structured Parzen estimator."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    while True:
        trial = study.ask()
        point = [trial.suggest_float(f"x{i}", 0, 1) for i in range(objective.size)]
        study.tell(trial, objective.at(np.array(point)))


def nsga(objective: Objective, seed: int) -> None:
    """NSGA-II (pymoo) with the objective and what limits are broken by as one goal."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Task
    from pymoo.optimize import minimize as run

    class Counted(Task):
        def __init__(self) -> None:
            super().__init__(n_var=objective.size, n_obj=1, xl=0.0, xu=1.0)

        def _evaluate(self, x: np.ndarray, out: dict, *args: Any, **kwargs: Any) -> None:
            out["F"] = objective(x)[:, None]

    run(Counted(), NSGA2(pop_size=100), ("n_gen", 10_000), seed=seed + 1)


def slsqp(objective: Objective, seed: int) -> None:
    """SLSQP (scipy) with finite differences, from random starts, choices taken at random and held."""
    random, split = np.random.default_rng(seed), len(objective.problem.names)
    while True:
        choice = random.random(objective.size - split)

        def loss(x: np.ndarray, choice: np.ndarray = choice) -> float:
            return objective.at(np.concatenate([x, choice]))

        bounds = [(0.0, 1.0)] * split
        steps = {"eps": 1e-3, "maxiter": 200}
        minimize(loss, random.random(split), method="SLSQP", bounds=bounds, options=steps)


def bayes(objective: Objective, seed: int) -> None:
    """BoTorch: a Gaussian process and the logarithm of expected improvement, one point at a time."""
    import torch
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(seed)
    points = qmc.Sobol(objective.size, rng=np.random.default_rng(seed)).random(2 * objective.size)
    found = objective(points)
    box = torch.tensor([[0.0] * objective.size, [1.0] * objective.size], dtype=torch.double)
    while True:
        x = torch.tensor(points, dtype=torch.double)
        y = -torch.tensor(found, dtype=torch.double).clamp(max=float(np.median(found)) + 5)[:, None]
        model = SingleTaskGP(x, (y - y.mean()) / y.std())
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        gain = qLogExpectedImprovement(model, best_f=((y - y.mean()) / y.std()).max())
        new, _ = optimize_acqf(gain, box, q=1, num_restarts=4, raw_samples=64)
        points = np.concatenate([points, new.numpy()])
        found = np.concatenate([found, objective(points[-1:])])


class Baseline(NamedTuple):
    """A search: what it runs, what must be installed, its cap on evaluations, also when quick."""

    run: Callable[[Objective, int], None]
    package: str
    most: float
    quick: float
    slow: bool = False


BASELINES = {
    "random": Baseline(uniform, "numpy", np.inf, np.inf),
    "Sobol": Baseline(sobol, "scipy", 65_536, 16_384),
    "CMA-ES": Baseline(cma_es, "cma", 20_000, 10_000),
    "NSGA-II": Baseline(nsga, "pymoo", 20_000, 10_000),
    "SLSQP": Baseline(slsqp, "scipy", 5_000, 1_500, slow=True),
    "Optuna TPE": Baseline(tpe, "optuna", 400, 100, slow=True),
    "BoTorch": Baseline(bayes, "botorch", 100, 30, slow=True),
}
"""By name; random points have as long as this search, by the clock of processors."""


def installed(baseline: Baseline) -> bool:
    """Whether its package is there."""
    return importlib.util.find_spec(baseline.package) is not None


def run_baseline(baseline: Baseline, objective: Objective, seed: int) -> list[Progress]:
    """Run a baseline until its budget is spent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(BudgetSpent):
            baseline.run(objective, seed)
    return objective.curve
