"""`perfmodel recommend`: the answer as tables and files."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.columns import as_cells
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_whole
from perfmodel.inference.deployment_words import machine_of, ranks_of
from perfmodel.inference.question import OBJECTIVES, Question, ask
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.launch_script import launch_name, launch_script
from perfmodel.interface.tables import Table, cell, table_of
from perfmodel.units import percent


def cells_of(words: Sequence[str]) -> dict[str, str]:
    """Columns and values of words such as `length_ratio=0.9`.

    **Raises:**

    - `InputError`: for a word without an equals sign, and for a column that has an option of its own.
    """
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise InputError(
            f"{wrong[0][:60]!r} is not column=value; write for example length_ratio=0.9."
        )
    pairs = (word.partition("=") for word in words)
    cells = {name.strip(): value.strip() for name, _, value in pairs}
    for name in inspect.signature(ask).parameters.keys() & cells.keys():
        raise InputError(f"{name} has an option of its own; give --{name.replace('_', '-')}.")
    return cells


# Files


def write(found: Recommendation, out: Path) -> None:
    """Write `deployments.csv`, `front.csv`, and in `launch` the commands that start each deployment."""
    (out / "launch").mkdir(parents=True, exist_ok=True)
    scripts = [(launch_name(row), launch_script(row)) for row in found.deployments]
    for name, script in scripts:
        write_whole(out / "launch" / name, script.encode())
    rows = [
        row | {"launch": f"launch/{name}"}
        for row, (name, _) in zip(found.deployments, scripts, strict=True)
    ]
    write_csv(out / "deployments.csv", csv_table(rows))
    write_csv(out / "front.csv", csv_table(found.front))


def csv_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as text by column; what a row does not have is empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: as_cells([_cell(row.get(name, "")) for row in rows]) for name in names}
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def _cell(value: Any) -> float | str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else float(value)


# Tables


def tables_of(question: Question, found: Recommendation) -> list[Table]:
    """The best deployments, why others are not among them, and what caution costs."""
    title = (
        f"{question.model}: best of {found.considered:,} deployments by "
        f"{OBJECTIVES[question.objective].meaning}, limits kept at {question.confidence} % confidence"
    )
    rows = [_shown(row) | _behind(row, found.deployments[0], question) for row in found.deployments]
    best = _without_constant(title, rows)
    reasons = sorted(found.refused.items(), key=lambda pair: -pair[1])
    mix = [_without_constant(_mix_title(found.mix), [*map(_shown, found.mix)])] if found.mix else []
    refused = Table("Left out", ("deployments", "why"), [(f"{n:,}", why) for why, n in reasons])
    return [best, *mix, *([refused] if reasons else [])]


SAME = ("chips", "software", "basis", "bound")
"""Columns that are said once where all rows have the same."""


def _without_constant(title: str, rows: Sequence[dict[str, str]]) -> Table:
    """A table whose title says what all rows have alike."""
    same = [name for name in SAME if len(rows) > 1 and len({row[name] for row in rows}) == 1]
    words = [rows[0][name] if name in SAME[:2] else f"{name} {rows[0][name]}" for name in same]
    kept = [{name: row[name] for name in row if name not in same} for row in rows]
    return table_of(". ".join([title, *([f"All: {', '.join(words)}"] if same else [])]), kept)


def _mix_title(mix: Sequence[Mapping[str, Any]]) -> str:
    chips = sum(row["n_chips"] for row in mix)
    dollars = sum(row["n_chips"] * row["usd_per_chip_hour"] for row in mix)
    return f"Together for less: {chips:.0f} chips, {cell(dollars)} USD/h"


def _behind(row: Mapping[str, Any], best: Mapping[str, Any], question: Question) -> dict[str, str]:
    """What stops a deployment, and how far it is behind the best."""
    column = OBJECTIVES[question.objective].column
    off = 100 * (row[column] / best[column] - 1)
    return {"limited by": row["limited_by"], "to 1st": "" if row is best else f"{off:+.1f} %"}


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    load = {"users": cell(row["concurrency"])}
    if row.get("requests_per_s", 0) > 0:
        load = {"req/s": cell(row["requests_per_s"]), "utilised": percent(row["utilisation"])}
    return {
        "chips": machine_of(row),
        "software": " ".join(filter(None, (row["framework"], row["precision"]))),
        "ranks": ranks_of(row),
        **load,
        "TTFT ms": _with_end(row, "ttft_ms"),
        "TPOT ms": _with_end(row, "tpot_ms"),
        "/s user": cell(row["output_tokens_per_s_per_user"]),
        "/s chip": cell(row["output_tokens_per_s_per_chip"]),
        "USD/M": cell(row["usd_per_million_output_tokens"]),
        "J/token": cell(row["joules_per_output_token"]),
        "bound": row["bound"],
        "basis": row["basis"],
    }


def _with_end(row: Mapping[str, Any], name: str) -> str:
    """A time, and the end of its range at which limits are kept, where that is known."""
    end = row.get(f"{name}_at_confidence")
    return cell(row[name]) + (f" ({cell(end)})" if end else "")


def caution_in_words(question: Question, found: Recommendation) -> list[str]:
    """What keeping limits with that confidence costs, and which measurement would be worth most."""
    caution, objective = found.caution, OBJECTIVES[question.objective]
    ratio = caution["at_confidence"] / caution["at_prediction"]
    lost = 1 - ratio if objective.most else ratio - 1
    said = [
        f"At the prediction itself the best has {cell(caution['at_prediction'])} {objective.meaning}: "
        f"keeping limits at {question.confidence} % confidence costs {100 * lost:.0f} % of it."
        if lost > 1e-3
        else f"Keeping limits at {question.confidence} % confidence costs nothing here."
    ]
    if "measure" in caution:
        said.append(
            f"Worth most is one measured run of {caution['measure']}: if it came out as predicted, "
            f"{100 * caution['gain_if_measured']:.0f} % more could be promised."
        )
    if any(row.get("speculative_tokens", 0.0) > 0 for row in found.deployments):
        said.append(
            f"Assumed of drafted tokens: {100 * found.assumptions['acceptance']:.0f} % are accepted "
            "(--set acceptance=0.7 says another share, --speculative-tokens 0 has none)."
        )
    warnings = dict.fromkeys(row["warning"] for row in found.deployments if row.get("warning"))
    return [*said, *warnings]
