"""Measured serving runs of the AIConfigurator package, as rows of the serving schema.

Most are of InferenceX (SemiAnalysis): a closed loop of some users, ten requests each, whose lengths are
uniform between 0.8 and 1 of the nominal ones. AIConfigurator's own have full lengths. `inferencex.toml` says
which runs are sound, held out and closed. How the pools of disaggregated runs are read was decided before one
of their times was looked at.
"""

import csv
import functools
import io
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from perfmodel.calibration.data.aiconfigurator import locate
from perfmodel.calibration.ingest.inferencex import LENGTH_RATIO
from perfmodel.calibration.metrics import grouped
from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.inference.pools import POOLS
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.model import load_model
from perfmodel.library.schema import Strict
from perfmodel.workload.feed_forward import Mixture

TABLE = "silicon_sample.csv"

Cells = dict[str, str]

PLAN = tuple(f"{pool}_{name}" for pool in POOLS for name in ("workers", "tp", "ep", "dp"))
"""Columns of the pools."""

MAX_TPOT_RATIO = 1.3
"""Largest over smallest TPOT of runs with equal settings: beyond it, something else differed."""

SCALED = 128
"""Columns that share a scale in fp8 checkpoints of mixtures."""

Part = Literal["fit", "heldout", "closed", "disaggregated"]

OPEN: tuple[Part, ...] = ("fit", "heldout")
"""Parts that may be looked at."""


class CacheFormat(Strict):
    """The format of a model's cache."""

    model: str
    precision: str
    system: str
    cache: str


class NamedVersion(Strict):
    """The word of a version in the column `framework`, and how its releases begin."""

    backend: str
    begins: str
    framework: str


class ReadInterval(Strict):
    """Steps from one time that SGLang reads requests to the next, with fewer than 16 users, and with more."""

    models: list[str]
    system: str
    precision: str = ""
    tp: str = ""
    few: int
    many: int

    def holds(self, row: Cells) -> bool:
        """Whether a run was launched so."""
        given = {"system": row["system"], "precision": row["precision"], "tp": row["tp_size"]}
        alike = all(getattr(self, name) in ("", text) for name, text in given.items())
        return alike and _has(row["model_path"], self.models)


class Fault(Strict):
    """Runs that are known to measure something else, and why; what is empty holds of any run."""

    reason: str
    models: list[str] = [""]
    backend: str = ""
    system: str = ""
    precision: str = ""
    users: str = ""

    def holds(self, row: Cells) -> bool:
        """Whether a run is one of them."""
        given = row | {"users": _users(row)}
        names = ("backend", "system", "precision", "users")
        alike = all(getattr(self, name) in ("", given[name]) for name in names)
        return alike and _has(row["model_path"], self.models)


class InferenceXFacts(Strict):
    """What `inferencex.toml` says."""

    closed_models: list[str]
    held_out_models: list[str]
    held_out_systems: list[str]
    closed_systems: list[str]
    eight_chip_systems: list[str]
    sglang_bf16_cache_systems: list[str]
    caches: list[CacheFormat]
    versions: list[NamedVersion]
    read_intervals: list[ReadInterval]
    faults: list[Fault]


FACTS = read_as(InferenceXFacts, Path(__file__).with_suffix(".toml"))


class Run(NamedTuple):
    """One measured run.

    - `cells`: its row of the serving schema.
    - `ttft`, `tpot`: measured means, in s.
    - `part`: whether it may be fitted on, is held out, or stays closed until the end.
    - `reliable`: whether it is of one machine, its users are known, and equal settings measured alike.
    - `fault`: why it is known to measure something else; empty where nothing is known.
    - `config`: what is alike in all runs of one deployment, whatever the lengths and the users.
    """

    cells: Cells
    ttft: float
    tpot: float
    part: Part
    reliable: bool
    fault: str
    config: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether it is reliable and measures what it says."""
        return self.reliable and not self.fault


def read_runs(source: str = "aiconfigurator", parts: Collection[Part] = OPEN) -> list[Run]:
    """The runs of some parts.

    **Raises:**

    - `InputError`: when the package is not there.
    """
    folder: Any = locate(source).parent
    path = folder / TABLE
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    cells = [_cells(row) for row in rows]
    runs = [_run(*each) for each in zip(rows, cells, _reliable(rows, cells), strict=True)]
    return [run for run in runs if run.part in parts]


def has_equal_lengths(run: Run) -> bool:
    """Whether all its prompts and answers are of equal length: AIConfigurator's own are."""
    return run.cells["length_ratio"] == "1"


def open_runs(source: str = "aiconfigurator") -> list[Run]:
    """The sound runs that may be looked at and whose plan is known.

    **Raises:**

    - `InputError`: when the package is not there.
    """
    return [run for run in read_runs(source) if run.cells and run.sound]


def rows_of_runs(runs: Iterable[Run]) -> list[Cells]:
    """Runs as rows of the serving schema with measured columns."""
    return [
        run.cells
        | {"measured_tpot_ms": f"{1e3 * run.tpot:.6g}", "measured_ttft_ms": f"{1e3 * run.ttft:.6g}"}
        for run in runs
    ]


_CONFIG = ("chip", "model", "precision", "framework", "tp", "ep", "dp", *PLAN)


def _run(row: Cells, cells: Cells, reliable: bool) -> Run:
    config = tuple(cells.get(name, "") for name in _CONFIG)
    ttft, tpot = (float(row[f"silicon_{name}_ms"] or "nan") / 1e3 for name in ("ttft", "tpot"))
    return Run(cells, ttft, tpot, _part(row), reliable, _fault(row), config)


def _has(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)


def _users(row: Cells) -> str:
    found = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    return found[1] if found else ""


def _fault(row: Cells) -> str:
    return next((fault.reason for fault in FACTS.faults if fault.holds(row)), "")


def _part(row: Cells) -> Part:
    model, system = row["model_path"], row["system"]
    if row["mode"] != "agg":
        return "disaggregated"
    if system in FACTS.closed_systems or _has(model, FACTS.closed_models):
        return "closed"
    held_out = system in FACTS.held_out_systems or _has(model, FACTS.held_out_models)
    return "heldout" if held_out else "fit"


_NOT_SETTINGS = (
    "id", "silicon_data_source", "backend_version", "silicon_ttft_ms", "silicon_tpot_ms"
)  # fmt: skip


def _reliable(rows: Sequence[Cells], cells: Sequence[Cells]) -> list[bool]:
    """One machine, users known, and equal settings measured alike."""
    settings = [
        (*own.values(), *(text for name, text in row.items() if name not in _NOT_SETTINGS))
        for row, own in zip(rows, cells, strict=True)
    ]
    sound = [_sound(row) for row in rows]
    times = grouped(
        (key, float(row["silicon_tpot_ms"]))
        for key, row, fine in zip(settings, rows, sound, strict=True)
        if fine
    )
    return [
        fine and max(times[key]) <= MAX_TPOT_RATIO * min(times[key])
        for key, fine in zip(settings, sound, strict=True)
    ]


def _sound(row: Cells) -> bool:
    chips = size_of(row, "tp_size") * size_of(row, "pp_size")
    too_many = row["system"] in FACTS.eight_chip_systems and chips > 8
    return "Users/" not in row["silicon_data_source"] and not too_many


# As the serving schema has it


def _cells(row: Cells) -> Cells:
    """The row as the schema has it; empty where its plan is not known."""
    plan = _plan(row) if row["mode"] == "agg" else _pools(row)
    if not plan:
        return {}
    # GLM-5 on H200: a user sends five requests, not ten (`glm5_fp8_h200.sh`).
    five = "GLM-5" in row["model_path"] and row["system"] == "h200_sxm"
    return {
        "chip": row["system"],
        "model": _model(row),
        "precision": row["precision"],
        "kv_precision": _cache(row),
        "mode": "serving" if row["mode"] == "agg" else "disaggregated",
        "isl": row["isl"],
        "osl": row["osl"],
        "concurrency": _users(row),
        "framework": _framework(row),
        "length_ratio": "1" if _in_house(row) else str(LENGTH_RATIO),
        "requests_per_user": "5" if five else "10",
        "read_interval": _read_interval(row),
    } | plan


def _framework(row: Cells) -> str:
    """The framework; or the word of a version that has one."""
    for one in FACTS.versions:
        if row["backend"] == one.backend and row["backend_version"].startswith(one.begins):
            return one.framework
    return row["backend"]


MANY_USERS = 16
"""From which on launch scripts of InferenceX take the longer interval."""


def _read_interval(row: Cells) -> str:
    """Empty where requests are read in each step."""
    if row["backend"] != "sglang" or row["mode"] != "agg" or _in_house(row):
        return ""
    found = next((one for one in FACTS.read_intervals if one.holds(row)), None)
    if found is None:
        return ""
    return str(found.many if int(_users(row) or 0) >= MANY_USERS else found.few)


def _in_house(row: Cells) -> bool:
    """Whether AIConfigurator's authors ran it: with equal lengths, and caches in the format of the model."""
    return "/Users/" in row["silicon_data_source"]


def _model(row: Cells) -> str:
    return row["model_path"].removeprefix("zhipuai/")


def _plan(row: Cells) -> Cells:
    """How one machine is spread: how its chips are counted is `chips_of`."""
    chips = chips_of(row)
    spread = size_of(row, "tp_size") == 1 and chips > 1
    experts = size_of(row, "moe_ep_size") > 1 or _cannot_cut(row, chips)
    return {
        "n_chips": str(chips),
        "tp": "1" if spread else str(chips),
        "pp": "1",
        "ep": str(chips) if experts or spread else "1",
        "dp": str(chips) if spread else "1",
    }


def _cache(row: Cells) -> str:
    if _in_house(row):
        return ""
    for one in FACTS.caches:
        given = (one.precision, one.system) == (row["precision"], row["system"])
        if given and one.model in row["model_path"]:
            return one.cache
    bf16 = row["backend"] == "sglang" and row["system"] in FACTS.sglang_bf16_cache_systems
    return "bf16" if bf16 else "fp8"


def _cannot_cut(row: Cells, ranks: int) -> bool:
    """Whether tensor ranks would cut through the blocks that share a scale, which vLLM and SGLang refuse."""
    return row["precision"] == "fp8" and any(n % (SCALED * ranks) for n in _inner(_model(row)))


@functools.cache
def _inner(model: str) -> tuple[float, ...]:
    """Columns of an expert, of each mixture of a model."""
    layers = [stack.layer.feed_forward for stack in load_model(model).stacks]
    return tuple(float(one.inter) for one in layers if isinstance(one, Mixture))


# Pools of disaggregated runs. Rows say how workers are spread, or name only a worker's chips: then recipes of
# InferenceX say it; a run that may be of two of them, or of one that speculates, stays unknown.


def _pools(row: Cells) -> Cells:
    """The pools of a run; empty where they or its users are not known, or it measures something else."""
    users = _users(row)
    if not users or _fault(row):
        return {}
    if row[f"{POOLS[0]}_num_workers"]:
        return {name: text for pool in POOLS for name, text in _stated(row, pool).items()}
    found = [recipe for recipe in _recipes() if _fits(recipe, row, users)]
    return {name: found[0][name] for name in PLAN} if len(found) == 1 else {}


def _stated(row: Cells, pool: str) -> Cells:
    chips = chips_of(row, f"{pool}_")
    spread = size_of(row, f"{pool}_attention_dp_size") > 1
    return {
        f"{pool}_workers": row[f"{pool}_num_workers"],
        f"{pool}_tp": "1" if spread else str(chips),
        f"{pool}_ep": row[f"{pool}_moe_ep_size"].removeprefix("0"),
        f"{pool}_dp": str(chips) if spread else "1",
    }


@functools.cache
def _recipes() -> list[Cells]:
    """Until `until` no other recipe was run under the same columns; `users` are those it was run with."""
    return rows_of(cells_of(read_csv(ROOT / "published" / "recipes.csv")))


def _fits(recipe: Cells, row: Cells, users: str) -> bool:
    """Whether a run may be of a recipe. What a row says of the experts' ranks is the prompts' pool alone."""
    alike = all(recipe[name] == row[name] for name in ("system", "precision", "isl", "osl"))
    ranks = all(
        int(recipe[f"{pool}_tp"]) * int(recipe[f"{pool}_dp"]) == chips_of(row, f"{pool}_")
        for pool in POOLS
    )
    experts = recipe["prefill_ep"] == row["prefill_moe_ep_size"]
    early = not recipe["until"] or _measured(row) < recipe["until"]
    return alike and ranks and experts and early and users in recipe["users"].split()


def _measured(row: Cells) -> str:
    """The day of a run, as 2026-02-07; after all others where it is not said."""
    return row["silicon_data_source"].partition("measured=")[2][:10] or "9"


def size_of(row: Cells, name: str) -> int:
    """A number of ranks; 1 where the cell is empty."""
    return int(float(row[name] or 1))


def chips_of(row: Cells, pool: str = "") -> int:
    """Chips of a deployment, or of a worker of a pool.

    Tensor ranks are all of them; where there is one, data ranks are, which the table gives by those of the
    experts: their product with the tensor ranks of experts counts chips twice.
    """
    names = ("tp_size", "attention_dp_size") if pool else ("tp_size",)
    sizes = (size_of(row, pool + name) for name in (*names, "moe_tp_size", "moe_ep_size"))
    return next((size for size in sizes if size > 1), 1)
