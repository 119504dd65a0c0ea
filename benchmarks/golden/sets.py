"""What golden cases come to: kernels, services, whole outputs, presets and studies."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.golden.values import FOLDER, Numbers, plain
from perfmodel.columns import Columns, is_empty
from perfmodel.design.report import as_dict as described
from perfmodel.design.resolve import presets
from perfmodel.files import cells_of, read_csv
from perfmodel.inference.explanation import explain
from perfmodel.inference.grid import read_grid
from perfmodel.inference.kernel_predictions import Predicted, predict_table
from perfmodel.inference.serving_predictions import OUTPUTS, PLAN, predict_values
from perfmodel.inference.sweep_points import Pricer
from perfmodel.interface.pages.explain import as_dict as explained
from perfmodel.interface.quickstart import predict_machines, search_chips
from perfmodel.interface.search import run_search
from perfmodel.library.fitted import FITTED
from perfmodel.studies.claim import find, names

Results = Iterator[tuple[str, Numbers]]
"""Cases and their numbers, as each is done."""


class Set(NamedTuple):
    """Golden cases of one kind: their names, and what some of them come to."""

    names: Callable[[], list[str]]
    run: Callable[[Sequence[str]], Results]


def rows(name: str, wanted: Sequence[str] | None = None) -> pa.Table:
    """Stored rows of a set."""
    table = read_csv(FOLDER / f"{name}.csv")
    return table if wanted is None else table.filter(pc.is_in(table["case"], pa.array(wanted)))  # pyright: ignore[reportAttributeAccessIssue]


def _names_of_rows(name: str) -> Callable[[], list[str]]:
    return lambda: rows(name)["case"].to_pylist()


def _compiled(done: int, of: int) -> None:
    """Tell how many of the functions that rows share are done."""
    print(f"compiled and run: {done} of {of}", flush=True)


def _kernels(wanted: Sequence[str]) -> Results:
    table = rows("kernels", wanted)
    for replay in ("true", "false"):
        part = table.filter(pc.equal(table["replay"], replay))  # pyright: ignore[reportAttributeAccessIssue]
        if len(part):
            found = predict_table(part, FITTED, replay == "true", _compiled)
            yield from zip(
                part["case"].to_pylist(), map(_kernel, zip(*found, strict=True)), strict=True
            )


def _kernel(fields: tuple) -> Numbers:
    found = Predicted(*fields)
    if found.error:
        return {"answered": "false"}
    times = {"time_s": found.time, "low_s": found.low, "high_s": found.high}
    words = {name: str(getattr(found, name, "")) for name in ("bound", "basis")}
    return plain({"answered": "true"} | times | words)


def _services(wanted: Sequence[str]) -> Results:
    table = rows("services", wanted)
    found = predict_values(cells_of(table), len(table), FITTED, _compiled)
    yield from zip(table["case"].to_pylist(), _rows_of(found), strict=True)


def _rows_of(columns: Columns) -> list[Numbers]:
    """What is not empty in each row of predicted columns."""
    errors, found = columns.pop("error"), []
    for i in range(len(errors)):
        values = {name: column[i] for name, column in columns.items()}
        known = {name: value for name, value in values.items() if not is_empty(value)}
        found.append(plain({"answered": "false" if errors[i] else "true"} | known))
    return found


def _outputs(wanted: Sequence[str]) -> Results:
    for case in wanted:
        yield case, plain(OUTPUT_OF[case.split("-")[0]](case))


def _explain(case: str) -> dict:
    table = rows("explained", [case])
    cells = {name: column[0] for name, column in cells_of(table).items() if column[0]}
    cells.pop("case")
    found = explained(explain(cells, FITTED))
    kernels = {one["kernel"]: one for one in found.pop("kernels")}
    return found | {"kernels": kernels}


def _sweep(case: str) -> list[dict]:
    grid = read_grid(FOLDER / f"{case}.toml")
    table = Pricer(grid, FITTED).table(0, grid.points).drop_columns(["error"])
    kept = [name for name in table.column_names if name in (*OUTPUTS, *PLAN)]
    return [
        {n: v for n, v in one.items() if v is not None} for one in table.select(kept).to_pylist()
    ]


def _quickstart(_: str) -> dict:
    chips = [described(one) for one in search_chips()]
    return {"machines": _rows_of(predict_machines()), "chips": chips}


OUTPUT_OF: dict[str, Callable[[str], dict | list]] = {
    "explain": _explain,
    "sweep": _sweep,
    "quickstart": _quickstart,
}


def _output_names() -> list[str]:
    sweeps = [path.stem for path in sorted(FOLDER.glob("sweep-*.toml"))]
    return [*rows("explained")["case"].to_pylist(), *sweeps, "quickstart"]


def _presets(wanted: Sequence[str]) -> Results:
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            yield name, plain(run_search(Path(name), Path(folder), False, None, None, _quiet))


def _studies(wanted: Sequence[str]) -> Results:
    for name in wanted:
        found = find(name).run(_quiet)
        asked = {"verdict": found.verdict, "share_of_draws": found.share, "numbers": found.numbers}
        figure = [list(row.values()) for row in found.figure.rows]
        yield name, plain(asked | {"table": found.table.rows, "figure": figure})


def _quiet(*_: object) -> None:
    pass


SETS = {
    "kernels": Set(_names_of_rows("kernels"), _kernels),
    "services": Set(_names_of_rows("services"), _services),
    "outputs": Set(_output_names, _outputs),
    "presets": Set(lambda: list(presets()), _presets),
    "studies": Set(names, _studies),
}
"""In the order in which they are cheap."""
