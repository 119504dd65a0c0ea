"""The accuracy by protocol, as shipped, and the parameters themselves, as a page of the documents.

Run: python -m benchmarks.accuracy --out docs/accuracy.md

A page model.md beside it gets each kernel's error.

With `--protocol validation/protocol.csv`, which `perfmodel validate --protocol full --out validation`
wrote, the kept result takes over its lines first.
"""

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import protocol
from perfmodel.files import write_whole
from perfmodel.hardware.parameters import parameters
from perfmodel.library.fitted import FAMILIES, FITTED, SERVING, SMOOTH, key

HEAD = """# Accuracy

How far are predictions from measurements that no fit has seen? All rows are measured kernels
(`aiconfigurator-core` 0.12.0); a hash of the shape held them out before the first fit. What the figures
mean, and what is behind those that are missed: [Validation](validate.md). This page is written by
`python -m benchmarks.accuracy`.
"""

TABLES = """
## Table by table, as shipped

Each row is a table of measured kernels: at most 2,000 of its shapes train, and at most 10,000 of those
that are held out are predicted. `smooth` is the form without a framework's rules, fitted to the
fastest of the frameworks. `coverage` is the share of held-out rows inside the 90 % interval. From the
reports of the fits in `calibration/fitted`.
"""

PARAMETERS = """
## What the parameters came out as

Of the smooth form, bf16. `sustained`, `feed`, `streaming` and `exponential` are shares of the peak
rates of the matrix units, the shared tier, main memory and the units for exponentials; above 1 where
one read serves several cores, or a peak is not what a chip can do. The glossary says what each is.
`l2_hit_capacity` and `l2_hit_sharpness` belong to the benchmark, which runs a kernel again and again on
the same operands: they play no part in what is predicted of service.

"""

TAKEAWAY = """
**Takeaway:** a chip's datasheet and a dozen parameters say most kernels' times within 5 to 15 %; what
is left is which kernel a library picks.
"""


class Report(NamedTuple):
    """One table of one chip, and what was found on its held-out rows."""

    op: str
    chip: str
    framework: str
    formats: str
    found: dict[str, Any]


_NOT_CHIPS = ("prior", "run", "technology", SERVING)


def fitted() -> dict[str, dict[str, Any]]:
    """The shipped files, by chip."""
    paths = sorted(path for path in FITTED.glob("*.toml") if path.stem not in _NOT_CHIPS)
    return {path.stem: tomllib.loads(path.read_text()) for path in paths}


def reports() -> Iterator[Report]:
    """Every report of the shipped files."""
    for chip, families in fitted().items():
        for frameworks in families.values():
            for framework, kinds in frameworks.items():
                for dtype, section in kinds.items():
                    for label, found in section["report"].items():
                        op, _, weights = label.partition("-")
                        formats = weights if weights == dtype else f"{weights}, {dtype} cache"
                        yield Report(op, chip, framework, formats, found)


def accuracy() -> Iterator[str]:
    """A table of errors for each operation."""
    rows = sorted(
        reports(), key=lambda r: (r.op, r.chip, r.formats, r.framework == SMOOTH, r.framework)
    )
    for op in dict.fromkeys(row.op for row in rows):
        yield f"\n### {op}\n\n"
        yield "| chip | format | framework | train | held out | mean | median | p90 | bias | coverage |\n"
        yield "|---|---|---|---|---|---|---|---|---|---|\n"
        yield from (_line(row) for row in rows if row.op == op)


def _line(row: Report) -> str:
    shares = [f"{100 * row.found[n]:.1f} %" for n in ("mean", "median", "p90", "bias", "coverage")]
    counts = [f"{row.found[n]:,}" for n in ("train_rows", "rows")]
    return f"| {' | '.join([row.chip, row.formats, row.framework, *counts, *shares])} |\n"


def values() -> Iterator[str]:
    """A table of parameters for each family."""
    chips = fitted()
    for family, kind in FAMILIES.items():
        sections = {c: f.get(family, {}).get(SMOOTH, {}).get("bf16") for c, f in chips.items()}
        known = {chip: section for chip, section in sections.items() if section}
        if known:
            yield f"\n### {family}\n\n| parameter | {' | '.join(known)} |\n|---|{'---|' * len(known)}\n"
            for name in map(key, parameters(kind)):
                cells = [f"{one[name]:.4g}" if name in one else "-" for one in known.values()]
                yield f"| {name} | {' | '.join(cells)} |\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD, *protocol.sections(), TABLES, *accuracy(), PARAMETERS.rstrip() + "\n", *values()]
    return "".join([*parts, TAKEAWAY])


def errors() -> dict[str, float]:
    """Mean error of each operation on held-out rows, over the frameworks' tables as shipped."""
    rows = [row for row in reports() if row.framework != SMOOTH]
    found = {op: [r.found["mean"] for r in rows if r.op == op] for op in {r.op for r in rows}}
    return {op: sum(means) / len(means) for op, means in found.items()}


def with_errors(page: str) -> str:
    """A page whose lines that begin with `Held out` tell the errors as they are."""
    known = errors()

    def line(held: re.Match[str]) -> str:
        return re.sub(r"`(\w+)` [\d.]+ %", lambda m: f"`{m[1]}` {100 * known[m[1]]:.1f} %", held[0])

    return re.sub(r"^Held out: .*$", line, page, flags=re.M)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--protocol", type=Path, help="protocol.csv of a newer run, to keep")
    asked = parser.parse_args()
    if asked.protocol is not None:
        protocol.keep(asked.protocol)
    write_whole(asked.out, page().encode())
    model = asked.out.with_name("model.md")
    if model.exists():
        write_whole(model, with_errors(model.read_text()).encode())


if __name__ == "__main__":
    main()
