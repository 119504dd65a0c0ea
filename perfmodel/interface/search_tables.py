"""Tables of a search, made from its report: printed, and in its page."""

from collections.abc import Iterator
from typing import Any

from perfmodel.units import figures

Rows = tuple[list[str], list[tuple[str, ...]]]

PRINTED_CHIPS, PRINTED_FACTS = 5, 10
"""Rows of chips and of facts that are printed; `result.json` and the page have more."""


def tables(
    report: dict[str, Any], chips: int = PRINTED_CHIPS, facts: int = PRINTED_FACTS
) -> Iterator[tuple[str, Rows]]:
    """Titles and tables of what was found; those of what was not asked for are left out."""
    yield "The design found", summary(report)
    yield "Shadow prices", shadow_prices(report)
    if report.get("numbers"):
        yield "One fewer and one more, all else designed again", neighbours(report)
    if report.get("rivals"):
        yield "Existing chips, the nearest first", existing_chips(report, chips)
    if report.get("facts"):
        yield "Sensitivity of the objective", sensitivities(report, facts)
    if len(report.get("families", [])) > 1:
        yield "Win probability", win_probability(report)


def summary(report: dict[str, Any]) -> Rows:
    """Names and rows of the table that is printed."""
    rows = [
        (name, figures(value), f"{report['elasticities'][name]:+.3f}")
        if name in report["elasticities"]
        else (name, str(value), "")
        for name, value in report["best"].items()
    ]
    for chip in report["chips"]:
        rows.append(("area (mm2)", figures(chip["area_mm2"]), ""))
        rows.append(("price (USD)", figures(chip["price_usd"]), ""))
    rows += [
        (objective_name(report), figures(report["objective"]), ""),
        ("USD a chip and hour", figures(report["figures"][0]["usd_per_chip_hour"]), ""),
        ("cost basis", report["cost_basis"], ""),
        ("before rounding", figures(report["objective_continuous"]), ""),
        ("in whole tiles, waves and cores", figures(report["objective_exact"]), ""),
        (f"best of {report['grid']['points']:,} points", _or_none(report["grid"]["objective"]), ""),
    ]
    return ["", "value", "elasticity"], rows


def _or_none(value: float | None) -> str:
    return "none keeps the limits" if value is None else figures(value)


def shadow_prices(report: dict[str, Any]) -> Rows:
    """Names and rows of the table of shadow prices: of limits that bind."""
    rows = [
        (
            name,
            f"{limit['limit']:,.5g}" if "limit" in limit else "",
            f"{limit['shadow_price']:+.4f} %",
            figures(limit["usd_per_unit"]) if "usd_per_unit" in limit else "",
        )
        for name, limit in report["constraints"].items()
        if abs(limit["shadow_price"]) > 1e-5
    ]
    return ["limit", "at", "gain for 1 % more", "USD a unit and chip"], rows


def neighbours(report: dict[str, Any]) -> Rows:
    """Numbers of things, and how much better or worse their neighbours are."""
    rows = [
        (
            name,
            f"{one['at']}",
            _change(one["gain_of_one_fewer"]),
            _change(one["gain_of_one_more"]) + (" (outside the bounds)" if one["on_bound"] else ""),
            figures(one["usd_per_unit"]) if "usd_per_unit" in one else "",
        )
        for name, one in report["numbers"].items()
    ]
    return ["number of", "at", "one fewer", "one more", "USD a unit and chip"], rows


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


def existing_chips(report: dict[str, Any], count: int) -> Rows:
    """Chips of the library beside the design, all at prices of the same laws."""
    ours = {"chip": "this design", "objective": report["objective"], "broken": []}
    chip = report["chips"][-1]
    rows = [_chip_row(ours | chip)] + [_chip_row(one) for one in report["rivals"][:count]]
    return ["chip", objective_name(report), *CHIP_COLUMNS.values(), "violated constraints"], rows


def _chip_row(one: dict[str, Any]) -> tuple[str, ...]:
    numbers = [
        f"{one[name]:,.3g}" if one[name] < 1e3 else f"{one[name]:,.0f}" for name in CHIP_COLUMNS
    ]
    return one["chip"], figures(one["objective"]), *numbers, ", ".join(one["broken"])


def sensitivities(report: dict[str, Any], count: int) -> Rows:
    """Prices and technologies by how much they move the objective."""
    rows = [
        (fact_label(name), f"{one['elasticity']:+.3f}", *_doubled(one))
        for name, one in list(report["facts"].items())[:count]
    ]
    return [
        "fact",
        "gain for 1 % more (%)",
        f"{objective_name(report)} if it doubles",
        "then best",
    ], rows


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


def win_probability(report: dict[str, Any]) -> Rows:
    """Shares of draws of all facts in which each node and memory is best."""
    rows = [
        (one["name"], figures(one["objective"]), f"{100 * one['share_of_draws']:.0f} %")
        for one in report["families"]
    ]
    return ["node, memory", objective_name(report), "best in draws"], rows
