"""`perfmodel search`: run a study, compare it with a grid, and write what it found."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import pyarrow as pa

from perfmodel.design.chip import VARIABLES, area, from_logarithms
from perfmodel.design.problem import LIMITS, Problem, pose
from perfmodel.design.search import STAGES, Found, Result, State, grid, search, start
from perfmodel.design.study import Study, read_study
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_whole
from perfmodel.units import as_values

UNITS = {
    "sram": (1e6, "MB"),
    "sram_bandwidth": (1e12, "TB/s"),
    "stacks": (1.0, ""),
    "compute": (1e12, "TFLOP/s"),
}
"""How each variable is shown: the size of its unit, and the unit."""


def run_search(
    path: Path,
    out: Path,
    resume: bool,
    starts: int | None,
    seed: int | None,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Search a study file, and write `result.json`, `designs.csv`, `report.html` and a checkpoint.

    **Raises:**

    - `InputError`: for a wrong study, a checkpoint of another one, or when no design keeps every limit.
    """
    study = _changed(read_study(path), starts, seed)
    problem, checkpoint = pose(study), out / "checkpoint.eqx"
    out.mkdir(parents=True, exist_ok=True)
    state = _resumed(checkpoint, study) if resume and checkpoint.exists() else None

    def done(stage: State) -> None:
        progress(int(stage.stage), STAGES)
        _save(checkpoint, study, stage)

    result = search(problem, study.optimiser, state, done)
    if not result.designs:
        raise InputError(f"{path}: no design keeps every limit; {_clash(study)}")
    best_on_grid, points, seconds = grid(problem)
    report = as_dict(problem, study, result) | {
        "grid": {
            "points": points,
            "seconds": seconds,
            "objective": float(np.exp(best_on_grid[0].objective)) if best_on_grid else None,
        }
    }
    write_whole(out / "result.json", json.dumps(report, indent=1).encode())
    write_csv(out / "designs.csv", _designs(result))
    write_whole(out / "report.html", _page(path.stem, report).encode())
    return report


def _changed(study: Study, starts: int | None, seed: int | None) -> Study:
    given = {"starts": starts, "seed": seed}
    new = study.optimiser.model_copy(update={k: v for k, v in given.items() if v is not None})
    return study.model_copy(update={"optimiser": new})


def _clash(study: Study) -> str:
    limits = study.constraints
    return (
        f"area {limits.area_mm2:g} mm2 and power {limits.power_w:g} W leave too little room for the model "
        "on so few chips; raise a limit, the bounds of stacks, or the number of chips."
    )


def _save(path: Path, study: Study, state: State) -> None:
    """The study in one line of JSON, then the numbers of the state."""
    content = io.BytesIO(study.model_dump_json().encode() + b"\n")
    content.seek(0, io.SEEK_END)
    eqx.tree_serialise_leaves(content, state)
    write_whole(path, content.getvalue())


def _resumed(path: Path, study: Study) -> State:
    first, _, rest = path.read_bytes().partition(b"\n")
    if first != study.model_dump_json().encode():
        raise InputError(
            f"{path} belongs to another study; search without --resume, or into another folder."
        )
    like = start(study.optimiser.starts, study.optimiser.seed)
    try:
        return eqx.tree_deserialise_leaves(io.BytesIO(rest), like)
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]}); search without --resume."
        ) from None


def shown(vector: np.ndarray) -> dict[str, float]:
    """A design in the units that people use."""
    values = dict(zip(VARIABLES, np.exp(vector), strict=True))
    return {
        f"{name}_{UNITS[name][1]}".rstrip("_"): float(values[name] / UNITS[name][0])
        for name in VARIABLES
    }


def as_dict(problem: Problem, study: Study, result: Result) -> dict[str, Any]:
    """What `result.json` holds."""
    best = result.best
    die = float(area(from_logarithms(as_values(best.vector)), problem.base, problem.floor)) * 1e6
    return {
        "study": study.model_dump(),
        "best": shown(best.vector) | {"area_mm2": die},
        "objective": float(np.exp(best.objective)),
        "objective_exact": float(np.exp(result.exact)),
        "objective_continuous": float(np.exp(result.continuous.objective)),
        "constraints": {
            name: {"slack": float(slack), "shadow_price": float(price)}
            for name, slack, price in zip(LIMITS, best.slack, result.shadow, strict=True)
        },
        "elasticities": dict(zip(VARIABLES, map(float, result.elasticity), strict=True)),
        "local_optima": len(result.designs),
        "evaluations": result.evaluations,
        "seconds": result.seconds,
        "seed": study.optimiser.seed,
    }


def _designs(result: Result) -> pa.Table:
    rows = [shown(one.vector) | _limits(one) for one in result.designs]
    return pa.table({name: [row[name] for row in rows] for name in rows[0]})


def _limits(one: Found) -> dict[str, float]:
    slack = {f"slack_{name}": float(value) for name, value in zip(LIMITS, one.slack, strict=True)}
    return {"objective": float(np.exp(one.objective))} | slack


def summary(report: dict[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Names and rows of the table that is printed."""
    objective = report["study"]["objective"]["maximise"]
    rows = [
        (name, f"{value:,.4g}", f"{elasticity:+.3f}")
        for (name, value), elasticity in zip(
            list(report["best"].items())[: len(VARIABLES)],
            report["elasticities"].values(),
            strict=True,
        )
    ]
    rows += [
        ("area_mm2", f"{report['best']['area_mm2']:,.4g}", ""),
        (objective, f"{report['objective']:,.4g}", ""),
        ("in whole numbers", f"{report['objective_exact']:,.4g}", ""),
        ("best of a grid", f"{report['grid']['objective'] or float('nan'):,.4g}", ""),
    ]
    rows += [
        (f"shadow price of {name}", f"{limit['shadow_price']:.3f}", "")
        for name, limit in report["constraints"].items()
        if limit["shadow_price"] > 0
    ]
    return ["", "value", "elasticity"], rows


def _page(name: str, report: dict[str, Any]) -> str:
    """A page that needs no network: the table, and the result as it was written."""
    names, rows = summary(report)
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{one}</th>" for one in names)
    return (
        f"<!doctype html><meta charset=utf-8><title>{name}</title>"
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}</style>"
        f"<h1>{name}</h1><table><tr>{head}</tr>{cells}</table><pre>{json.dumps(report, indent=1)}</pre>"
    )
