"""The pools of disaggregated runs: how many workers, and how each is spread.

Rows either say it, or name only the chips of a worker. Then it is looked up among recipes of InferenceX by
chip, format, lengths and users; a run that may be of two recipes, or of one that speculates, stays unknown.
"""

import functools

from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.inference.pools import POOLS
from perfmodel.library.files import ROOT

RECIPES = ROOT / "published" / "recipes.csv"
"""Recipes without speculation. Until `until` no other recipe was run under the same columns; from then on it
may have speculated. `users` are those it was run with."""

Cells = dict[str, str]


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


def pool_cells(row: Cells, users: str) -> Cells:
    """The pools of a run as the serving schema has them; empty where they are not known."""
    if row[f"{POOLS[0]}_num_workers"]:
        return {name: text for pool in POOLS for name, text in _stated(row, pool).items()}
    found = [recipe for recipe in _recipes() if _fits(recipe, row, users)]
    return _plan(found[0]) if len(found) == 1 else {}


def _stated(row: Cells, pool: str) -> Cells:
    chips = chips_of(row, f"{pool}_")
    spread = size_of(row, f"{pool}_attention_dp_size") > 1
    return {
        f"{pool}_workers": row[f"{pool}_num_workers"],
        f"{pool}_tp": "1" if spread else str(chips),
        f"{pool}_ep": row[f"{pool}_moe_ep_size"].removeprefix("0"),
        f"{pool}_dp": str(chips) if spread else "1",
    }


PLAN = tuple(f"{pool}_{name}" for pool in POOLS for name in ("workers", "tp", "ep", "dp"))
"""Columns of the pools."""


def _plan(recipe: Cells) -> Cells:
    return {name: recipe[name] for name in PLAN}


@functools.cache
def _recipes() -> list[Cells]:
    return rows_of(cells_of(read_csv(RECIPES)))


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


def decoding(cells: Cells) -> Cells:
    """A run as its decode workers see it: each with its share of the users."""
    if "decode_workers" not in cells:
        return cells
    share = float(cells["concurrency"]) / float(cells["decode_workers"])
    ranks = {name: cells[f"decode_{name}"] for name in ("tp", "ep", "dp")}
    chips = int(ranks["tp"]) * int(ranks["dp"])
    return cells | ranks | {"mode": "serving", "n_chips": str(chips), "concurrency": f"{share:g}"}
