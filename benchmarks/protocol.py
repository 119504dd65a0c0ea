"""What the full protocol reached, from the result that is kept in the repository, as tables of a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from perfmodel.calibration.protocol import CLOSED, Record, merged_results, read_result, write_result
from perfmodel.interface import acceptance

KEPT = Path(__file__).parents[1] / "calibration" / "fitted" / "protocol.csv"

SPLITS = ("shape", "size", "model", "chip", "architecture", "fewshot")

KNOWN = (("shape",), ("chip", "architecture"), ("fewshot",))
"""Splits by how much they know of a chip: 2,000 rows of each table, none, 32."""

FIGURES = ("mape", "median", "p90", "coverage90", *acceptance.BASELINES)
NAMES = ["mean", "median", "p90", "coverage", *acceptance.BESIDE]

REACHED = """
## What must be reached

{met}

Tables are averaged for each kernel, then kernels; TensorRT-LLM where it was measured, all frameworks
for attention. Beside them, on the same rows: a roofline at the rates of the datasheet, a random forest
fitted to the same training rows, and what frameworks disagree by.

"""

DATED = """
From `perfmodel validate --protocol full` of version {versions}, {dates}: {count:,} lines in
`calibration/fitted/protocol.csv`, one for each table and split.
"""

BY_KERNEL = """
## By kernel and split

Means over all tables of a kernel, of all frameworks and formats. What each split may see:
[Validation](validate.md).

"""

BY_CHIP = """
## By chip

Mean error over all tables of a chip. `as new` is without any row of it: by the split `chip` where another
chip speaks for its architecture, else by `architecture`. {closed} take
part in no fit of the protocol but that of 32 rows.

"""


def keep(newer: Path) -> None:
    """Take over the lines of a newer run."""
    write_result(KEPT, merged_results(read_result(KEPT), read_result(newer)))


def sections() -> Iterator[str]:
    """The tables, in the order of the page."""
    records = read_result(KEPT)
    lines = acceptance.summary(records)
    yield REACHED.format(met=_met(lines))
    yield from _table(acceptance.SUMMARY, lines)
    yield _dated(records)
    whole = [record for record in records if not record["routing"]]
    yield BY_KERNEL
    yield from _table(["kernel", "split", "tables", "rows", *NAMES], _kernels(whole))
    yield BY_CHIP.format(closed=", ".join(CLOSED))
    yield from _table(["chip", "held-out shapes", "as new", "from 32 rows"], _chips(whole))


def _met(lines: Sequence[tuple[str, ...]]) -> str:
    """How many lines are met, and which are not, in a sentence."""
    met = [line[acceptance.SUMMARY.index("met")] for line in lines]
    missed = [line[0] for line, word in zip(lines, met, strict=True) if word == "no"]
    reached, aims = len(lines) - len(missed), met.count("aim")
    return (
        f"Of {len(lines)} lines {reached} reach what they must, {aims or 'none'} of them the aim.\n"
        f"**Missed: {'; '.join(missed) or 'none'}.**"
    )


def _dated(records: Sequence[Record]) -> str:
    dates, versions = (sorted({one[name] for one in records}) for name in ("date", "version"))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return DATED.format(versions=", ".join(versions), dates=days, count=len(records))


def _kernels(records: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    for op in dict.fromkeys(record["op"] for record in records):
        for split in SPLITS:
            found = [one for one in records if (one["op"], one["split"]) == (op, split)]
            if found:
                rows = f"{sum(one['n'] for one in found):,}"
                yield op, split, str(len(found)), rows, *(_mean(found, name) for name in FIGURES)


def _chips(records: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    for chip in sorted({record["chip"] for record in records}):
        own = [one for one in records if one["chip"] == chip]
        yield chip, *(_mean([x for x in own if x["split"] in splits], "mape") for splits in KNOWN)


def _mean(records: Sequence[Record], name: str) -> str:
    known = [record[name] for record in records if record[name] is not None]
    return f"{100 * sum(known) / len(known):.1f} %" if known else "-"


def _table(names: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]):
    yield f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    yield from (f"| {' | '.join(row)} |\n" for row in rows)
