"""`perfmodel recommend`: the answer as tables and files."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.columns import as_cells
from perfmodel.errors import InputError
from perfmodel.files import cells_of as columns_of
from perfmodel.files import read_csv, rows_over, table_of_texts, write_csv, write_whole
from perfmodel.inference.deployment_words import machine_of, ranks_of
from perfmodel.inference.limits import given_limits
from perfmodel.inference.question import OBJECTIVES, Question, ask
from perfmodel.inference.questions import Answer
from perfmodel.inference.recommendation import Recommendation
from perfmodel.inference.serving_predictions import COLUMNS
from perfmodel.interface.launch_script import launch_name, launch_script
from perfmodel.interface.serving_tables import HEADINGS
from perfmodel.interface.tables import Table, cell, table_of, width_of
from perfmodel.library.files import word_of
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
    for name in [name for name in _asked_by_name() if name in cells]:
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


def write_answers(found: Sequence[Answer], out: Path) -> Path:
    """Write `answers.csv`: the deployments of each question, or its error, with the question's number."""
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(found, 1):
        rows += [{"question": number} | row for row in one.deployments or [{"error": one.error}]]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "answers.csv", csv_table(rows))
    return out / "answers.csv"


def csv_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as text by column; what a row does not have is empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    return table_of_texts(
        {name: as_cells([_cell(row.get(name, "")) for row in rows]) for name in names}
    )


def _cell(value: Any) -> float | str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else float(value)


def _asked_by_name() -> list[str]:
    """What a question has an option of its own for."""
    return [
        name
        for name, one in inspect.signature(ask).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    ]


def read_questions(path: Path, given: Mapping[str, str]) -> list[dict[str, str]]:
    """The questions of a CSV file, a row each: what is empty there is as `given`.

    **Raises:**

    - `InputError`: for a file that cannot be read, and for a column that is none of a question.
    """
    table = read_csv(path)
    columns = columns_of(table)
    allowed = (*_asked_by_name(), *COLUMNS)
    for name in columns:
        word_of(name, allowed, f"column of {path.name}")
    return rows_over(given, columns)


# Tables


def tables_of(question: Question, found: Recommendation) -> list[Table]:
    """The best deployments, why others are not among them, and what caution costs."""
    title = (
        f"{question.model}: best of {found.considered:,} deployments by "
        f"{OBJECTIVES[question.objective].meaning}, limits kept at {question.confidence} % confidence"
    )
    rows = [_shown(row) | _behind(row, found.deployments[0], question) for row in found.deployments]
    best = _without_constant(title, rows)
    mix = [_without_constant(_mix_title(found.mix), [*map(_shown, found.mix)])] if found.mix else []
    rules = _by_rule(found.refused)
    refused = Table("Left out", ("deployments", "why"), [(f"{n:,}", why) for n, why in rules])
    return [best, *mix, *([refused] if rules else [])]


NUMBER = re.compile(r"(?<![\w-])\d+(?:[.,]\d+)*(?![\w-])")
"""A number by itself, not in a name."""


def _by_rule(refused: Mapping[str, int]) -> list[tuple[int, str]]:
    """How many each rule left out, the most first: sentences that differ in numbers alone are of one rule,
    for which the most frequent stands."""
    rules: dict[str, list[tuple[int, str]]] = {}
    for why, count in refused.items():
        rules.setdefault(NUMBER.sub("", why), []).append((count, why))
    found = [
        (sum(count for count, _ in alike), max(alike, key=lambda one: one[0])[1] + _others(alike))
        for alike in rules.values()
    ]
    return sorted(found, key=lambda one: -one[0])


def _others(alike: Sequence[object]) -> str:
    return f" ({len(alike) - 1} more with other numbers)" if len(alike) > 1 else ""


WIDTH = 100
"""Characters of a printed line of a table."""

MAY_BE_MISSING = ("bound", "basis", "to 1st")
"""Columns that are not printed where a table is too wide, in this order."""


def narrowed(table: Table) -> Table:
    """The table without what does not fit the width of a terminal; its title says so."""
    missing: list[str] = []
    for name in (name for name in MAY_BE_MISSING if name in table.names):
        if width_of(table) <= WIDTH:
            break
        at = [*table.names].index(name)
        names, *rows = ([*row[:at], *row[at + 1 :]] for row in (table.names, *table.rows))
        table, missing = Table(table.title, names, rows), [*missing, name]
    more = f". Not shown: {', '.join(missing)} (--report, --out or --json)" if missing else ""
    return table._replace(title=table.title + more)


SAME = ("chips", "software", "KV cache", "basis", "bound")
"""Columns that are said once where all rows have the same."""


def _without_constant(title: str, rows: Sequence[dict[str, str]]) -> Table:
    """A table whose title says what all rows have alike."""
    same = [name for name in SAME if len(rows) > 1 and len({row[name] for row in rows}) == 1]
    words = [rows[0][name] if name in SAME[:2] else f"{name} {rows[0][name]}" for name in same]
    words = [word.replace("\n", " ") for word in words]
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
    limited_by = row["limited_by"].replace(" ", "\n", 1)
    return {"limited\nby": limited_by, "to 1st": "" if row is best else f"{off:+.1f} %"}


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    load = {"users": cell(row["concurrency"])}
    if row.get("requests_per_s", 0) > 0:
        load = {"req/s": cell(row["requests_per_s"]), "utilised": percent(row["utilisation"])}
    return {
        "chips": machine_of(row).replace(" + ", "\n+ "),
        "software": " ".join(filter(None, (row["framework"], row["precision"]))),
        "KV cache": row["kv_precision"],
        "ranks": ranks_of(row),
        **load,
        HEADINGS["ttft_ms"]: _with_end(row, "ttft_ms"),
        HEADINGS["tpot_ms"]: _with_end(row, "tpot_ms"),
        HEADINGS["output_tokens_per_s_per_user"]: cell(row["output_tokens_per_s_per_user"]),
        HEADINGS["output_tokens_per_s_per_chip"]: cell(row["output_tokens_per_s_per_chip"]),
        HEADINGS["usd_per_million_output_tokens"]: _or_unknown(
            row["usd_per_million_output_tokens"]
        ),
        HEADINGS["joules_per_output_token"]: _or_unknown(row["joules_per_output_token"]),
        HEADINGS["bound"]: row["bound"],
        "basis": row["basis"],
    }


def _or_unknown(number: float) -> str:
    return cell(number) if math.isfinite(number) else "unknown"


def _with_end(row: Mapping[str, Any], name: str) -> str:
    """A time, and the end of its range at which limits are kept, where that is known."""
    end = row.get(f"{name}_at_confidence")
    return cell(row[name]) + (f" ({cell(end)})" if end else "")


def remarks(question: Question, found: Recommendation) -> list[str]:
    """What is to be known of an answer: the cost of caution, what is assumed, and what is missing."""
    warnings = dict.fromkeys(row["warning"] for row in found.deployments if row.get("warning"))
    return [
        *_on_caution(question, found),
        *_on_drafts(found),
        *_on_cache(question, found),
        *_on_quote(question, found),
        *_on_chips(found),
        *warnings,
    ]


def _on_chips(found: Recommendation) -> list[str]:
    """Chips that were named and on which nothing keeps the limits."""
    return [
        f"Nothing on {chip} is among them: {why.rstrip('.')}."
        for chip, why in found.chips_left_out.items()
    ]


def _on_caution(question: Question, found: Recommendation) -> list[str]:
    """What keeping limits with that confidence costs, and which measurement would be worth most."""
    if not (given_limits(question.limits) or question.open_loop):
        return []
    caution, gain = found.caution, found.caution.get("gain_if_measured", 0.0)
    ratio = caution["at_confidence"] / caution["at_prediction"]
    lost = 1 - ratio if OBJECTIVES[question.objective].most else ratio - 1
    costs = f"keeping limits at {question.confidence} % confidence costs"
    best = f"{cell(caution['at_prediction'])} {OBJECTIVES[question.objective].meaning}"
    said = [
        f"At the prediction itself the best has {best}: {costs} {100 * lost:.0f} % of it."
        if lost >= SMALLEST_SHARE
        else f"{costs.capitalize()} {'less than 1 %' if lost > ROUNDING else 'nothing'} here."
    ]
    measured = (
        f"Worth most is one measured run of {caution.get('measure')}: if it came out as predicted, "
        f"{100 * gain:.0f} % more could be promised."
    )
    return said + ([measured] if gain >= SMALLEST_SHARE else [])


SMALLEST_SHARE, ROUNDING = 0.005, 1e-3
"""Shares that are printed as 1 % at least, and that count as none."""


def _on_drafts(found: Recommendation) -> list[str]:
    if not any(row.get("speculative_tokens", 0.0) > 0 for row in found.deployments):
        return []
    return [
        f"Assumed of drafted tokens: {100 * found.assumptions['acceptance']:.0f} % are accepted "
        "(--set acceptance=0.7 says another share, --speculative-tokens 0 has none)."
    ]


def _on_cache(question: Question, found: Recommendation) -> list[str]:
    """Of formats of the KV cache none but the plain one is tried where none is given."""
    if any(question.kv_precisions):
        return []
    stored = found.deployments[0]["kv_precision"]
    return [f"The KV cache is in {stored} alone; --kv-precision {stored},fp8 tries fp8 too."]


def _on_quote(question: Question, found: Recommendation) -> list[str]:
    """One quote is for all chips."""
    if not (quote := question.cells.get("usd_per_chip_hour")):
        return []
    mixed = any("+" in machine_of(row) for row in found.deployments)
    return [f"Both kinds of chips cost the quote, {quote} USD/h each."] if mixed else []
