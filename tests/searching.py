"""A small search in a process of its own: `searching.py LANES [CHECKPOINT [HOST:PORT PROCESSES PROCESS]]`."""

import json
import os
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.abstract_problem import AbstractProblem, Choice
from perfmodel.design.study import OptimiserTable
from perfmodel.units import Scalar, Values, as_values


class Waves(AbstractProblem):
    """A bowl with ripples, numbers of things in the first variable, and a limit on their sum."""

    low: Values
    high: Values
    options: tuple[int, ...] = eqx.field(static=True, default=(1, 2))

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        far = jnp.sum(jnp.square(x - jnp.array([1.3, 0.4, 0.9])))
        return (far + 0.1 * sharpness * jnp.sum(jnp.cos(9 * x)) + 0.1 * choice[1].astype(x.dtype))[
            None
        ]

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return (2.2 - jnp.sum(x))[None]


if __name__ == "__main__" and len(sys.argv) > 3:  # before anything is computed
    jax.distributed.initialize(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))

TOLD = "SEARCHING_TOLD"
"""In the environment of a search that says when it has saved, and waits to be told to go on."""

LAND = Waves(as_values(np.zeros(3)), as_values(np.full(3, np.log(8.0))))
WHOLE = np.array([True, False, False])


def options(batch_size: int) -> OptimiserTable:
    return OptimiserTable(batch_size=batch_size, starts=64, steps=30)


def main() -> None:
    """Search, from the checkpoint if there is one, and print what was found."""
    from perfmodel.design.multistart import search
    from perfmodel.design.resolve import presets
    from perfmodel.design.state import SearchState, load_state, save_state
    from perfmodel.design.study import read_study

    study = read_study(next(iter(presets().values())))
    path = Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] != "-" else None
    state = load_state(path, study) if path and path.exists() else None

    def keep(now: SearchState) -> None:
        if path:
            save_state(path, study, now)
        if TOLD in os.environ:
            print("saved", flush=True)
            sys.stdin.readline()

    result = search(LAND, WHOLE, options(int(sys.argv[1])), state, keep)
    best = result.designs[0]
    said = {"devices": jax.device_count(), "value": best.value, "unit": best.unit.tolist()}
    print(json.dumps(said | {"designs": len(result.designs), "looks": result.gradients}))


if __name__ == "__main__":
    main()
