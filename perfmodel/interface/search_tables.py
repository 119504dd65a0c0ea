"""Tables of a search, made from its report: printed, and in its page."""

from typing import Any

from perfmodel.interface.tables import Table
from perfmodel.units import figures

PRINTED_CHIPS, PRINTED_FACTS = 5, 10
"""Rows of chips and of facts that are printed; `result.json` and the page have more."""


def tables(
    report: dict[str, Any], chips: int = PRINTED_CHIPS, facts: int = PRINTED_FACTS
) -> list[Table]:
    """What was found, with notes; what was not asked for is left out."""
    found = [summary(report), shadow_prices(report)]
    if report.get("numbers"):
        found.append(neighbours(report))
    if report.get("rivals"):
        found.append(existing_chips(report, chips))
    if report.get("facts"):
        found.append(sensitivities(report, facts))
    if len(report.get("families", [])) > 1:
        found.append(win_probability(report))
    return [table._replace(note=NOTES.get(table.title, "")) for table in found]


EXISTING_CHIPS = "Existing chips, the nearest first"

NOTES = {
    "Shadow prices": "Gain of the objective for one percent more of a limit; in USD: what one more "
    "unit saves over the life of one chip, where the objective is money.",
    "One fewer and one more, all else designed again": "Each neighbour was designed again with that number "
    "held. It has a price only where the study's bound keeps out one more that would be better.",
    EXISTING_CHIPS: "Each in as many copies, and with as many users, as "
    "suit it best where the study leaves that free.",
    "Sensitivity of the objective": "For small changes the design adapts to first order. Where a fact "
    "doubles, the study was searched again, shortly: each family begins in as many chips and with as many "
    "users as suit it then, and is designed again, its numbers of things free.",
    "Win probability": "Draws of all facts within their ranges, of the constants of "
    "area, power and cost, and of the error of predicted times.",
}
"""What is said below a table, by its title."""


def summary(report: dict[str, Any]) -> Table:
    """The design, and what it reaches."""
    elasticities = report["elasticities"]
    rows = [
        (name, figures(value), f"{elasticities[name]:+.3f}")
        if name in elasticities
        else (name, str(value), "")
        for name, value in report["best"].items()
    ]
    for chip in report["chips"]:
        rows.append(("area (mm2)", figures(chip["area_mm2"]), ""))
        rows.append(("price (USD)", figures(chip["price_usd"]), ""))
        rows.append(("of it development (USD)", _development(report, chip), ""))
    reached = {
        objective_name(report): figures(report["objective"]),
        "USD a chip and hour": figures(report["figures"][0]["usd_per_chip_hour"]),
        "cost basis": report["cost_basis"],
        "method of descent": report["method"],
        "before rounding": figures(report["objective_continuous"]),
        "in whole tiles, waves and cores": figures(report["objective_exact"]),
        f"best of {report['grid']['points']:,} points": _or_none(report["grid"]["objective"]),
    }
    rows += [(name, text, "") for name, text in reached.items()]
    return Table("The design found", ["", "value", "elasticity"], rows)


def _development(report: dict[str, Any], chip: dict[str, Any]) -> str:
    """A chip's share of what is paid once, and over how many chips."""
    if report["volume"] is None:
        return "left out: the study has no [system] volume"
    return f"{figures(chip['development_usd'])} at {report['volume']:,.0f} chips made"


def _or_none(value: float | None) -> str:
    return "none keeps the limits" if value is None else figures(value)


def shadow_prices(report: dict[str, Any]) -> Table:
    """What limits that bind are worth."""
    rows = [
        (
            name,
            f"{limit['limit']:,.5g}" if "limit" in limit else "",
            f"{limit['shadow_price']:+.4f} %",
            _usd(limit),
        )
        for name, limit in report["constraints"].items()
        if abs(limit["shadow_price"]) > 1e-5
    ]
    names = ["limit", "at", "gain for 1 % more", "USD a unit and chip"]
    return Table("Shadow prices", names, rows)


def _usd(one: dict[str, Any]) -> str:
    return figures(one["usd_per_unit"]) if "usd_per_unit" in one else ""


def neighbours(report: dict[str, Any]) -> Table:
    """Numbers of things, and how much better or worse their neighbours are."""
    rows = [
        (
            name,
            f"{one['at']}",
            _change(one["gain_of_one_fewer"]),
            _change(one["gain_of_one_more"]) + (" (outside the bounds)" if one["on_bound"] else ""),
            _usd(one),
        )
        for name, one in report["numbers"].items()
    ]
    names = ["number of", "at", "one fewer", "one more", "USD a unit and chip"]
    return Table("One fewer and one more, all else designed again", names, rows)


def _change(gain: float | None) -> str:
    """Better or worse, in words."""
    if gain is None:
        return "breaks a limit"
    return f"{abs(100 * gain):.2g} % {'better' if gain > 0 else 'worse'}"


def better_existing(report: dict[str, Any]) -> list[str]:
    """A sentence where chips that are sold are better than the design, within every limit."""
    if not report.get("ahead"):
        return []
    first, *others = report["ahead"]
    verb = "is" if len(others) == 1 else "are"
    also = f"; so {verb} {', '.join(one['chip'] for one in others)}" if others else ""
    return [
        f"{first['chip']}, which is sold, is better than the design found, within every limit: "
        f"{objective_name(report)} {figures(first['objective'])} beside "
        f"{figures(report['objective'])}{also}. "
        "The search began there too and found none better; a study cannot say all that a sold chip is."
    ]


CHIP_COLUMNS = {
    "area_mm2": "mm2",
    "power_w": "W",
    "memory_gb": "GB",
    "memory_tb_per_s": "TB/s",
    "tflops": "TFLOP/s",
    "price_usd": "USD",
}
"""What a table of chips shows, and what it calls it."""


def objective_name(report: dict[str, Any]) -> str:
    """What the objective is called."""
    table = report["study"]["objective"]
    return table["maximise"] or table["minimise"] or "mix"


EXISTING_CHIPS = "Existing chips, the nearest first"
"""Title of a table and of a picture."""


def existing_chips(report: dict[str, Any], count: int) -> Table:
    """Chips of the library beside the design, all at prices of the same laws."""
    ours = {"chip": "this design", "objective": report["objective"], "broken": []}
    chips = [ours | report["chips"][-1], *report["rivals"][:count]]
    names = ["chip", objective_name(report), *CHIP_COLUMNS.values(), "violated constraints"]
    return Table(EXISTING_CHIPS, names, [_chip_row(one) for one in chips])


def _chip_row(one: dict[str, Any]) -> tuple[str, ...]:
    numbers = [
        f"{one[name]:,.3g}" if one[name] < 1e3 else f"{one[name]:,.0f}" for name in CHIP_COLUMNS
    ]
    return one["chip"], figures(one["objective"]), *numbers, ", ".join(one["broken"])


def sensitivities(report: dict[str, Any], count: int) -> Table:
    """Prices and technologies by how much they move the objective."""
    rows = [
        (fact_label(name), f"{one['elasticity']:+.3f}", *_doubled(one))
        for name, one in list(report["facts"].items())[:count]
    ]
    doubled = f"{objective_name(report)} if it doubles"
    names = ["fact", "gain for 1 % more (%)", doubled, "then best"]
    return Table("Sensitivity of the objective", names, rows)


LABELS = {
    "owner.busy": "utilisation",
    "asked.batch": "batch size",
    "asked.context": "context length",
    "asked.model": "model size",
}
"""Facts that are called otherwise than in `result.json`."""


def fact_label(name: str) -> str:
    """What a fact is called where it is read."""
    memory = name.removeprefix("slow.")
    return f"latency error of {memory.upper()}" if memory != name else LABELS.get(name, name)


def _doubled(one: dict[str, Any]) -> tuple[str, str]:
    """What the search with the fact doubled found; only the strongest facts have one."""
    if not one["searched_doubled"]:
        return "not searched", ""
    if one["if_doubled"] is None:
        return "no design found", ""
    return figures(one["if_doubled"]), one["best_if_doubled"]


def win_probability(report: dict[str, Any]) -> Table:
    """Shares of draws of all facts in which each node and memory is best."""
    rows = [
        (one["name"], figures(one["objective"]), f"{100 * one['share_of_draws']:.0f} %")
        for one in report["families"]
    ]
    return Table("Win probability", ["node, memory", objective_name(report), "best in draws"], rows)
