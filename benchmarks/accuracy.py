"""The accuracy by protocol, and table by table with the parameters themselves, as two pages of the documents.

Run: python -m benchmarks.accuracy --out docs/accuracy.md

Beside it comes accuracy-tables.md, and a page model.md there gets each kernel's error.

With `--protocol validation/protocol.csv`, which `perfmodel validate --protocol full --out validation`
wrote, the result in the repository takes over its lines first. With `--runs validation/left_out.csv`, of
`perfmodel validate --sets serving --out validation`, it takes over that.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.calibration import acceptance
from perfmodel.calibration.calibrate import BEFORE
from perfmodel.calibration.protocol import (
    CLOSED,
    Record,
    merged_results,
    read_result,
    write_result,
)
from perfmodel.calibration.serving_left_out import RESULT as RUNS_LEFT_OUT
from perfmodel.calibration.serving_left_out import read_left_out, write_left_out
from perfmodel.files import write_whole
from perfmodel.hardware.parameters import parameters
from perfmodel.library.chip import chip_files
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FAMILIES, FITTED, RELEASES, SMOOTH, key
from perfmodel.units import percent

TEMPLATES = {"accuracy.md": "accuracy.txt", "accuracy-tables.md": "accuracy_tables.txt"}
"""Of each page, the file beside this one that has it with places for its tables."""

RESULT = FITTED / "protocol.csv"
"""The protocol's result that the repository has."""

FITTED_SPLITS = ("shape", "size", "fewshot")
"""Held-out shapes of tables of which some rows trained."""

LEFT_OUT_SPLITS = ("model", "version", "chip", "architecture", "vendor")
"""Tables, or models in them, of which none did."""

RUNS = FITTED / RUNS_LEFT_OUT
"""Serving runs of what was left out: the result that the repository has."""

RUN_NAMES = {"TPOT": "tpot_median", "mean": "tpot_mape", "bias": "tpot_bias"}
RUN_NAMES |= {"tokens/s per chip": "throughput_median", "TTFT": "ttft_median"}
RUN_NAMES |= {"in the 90 % range": "coverage90"}

KNOWN = (("shape",), ("chip", "architecture"), ("fewshot",))
"""Splits by how much they know of a chip: 2,000 rows of each table, none, 32."""

FIGURES = ("mape", "median", "p90", "coverage90", *acceptance.BASELINES)
RELEASE_NAMES = ["kernel", "framework", "tables", "held-out rows", "before", "median", "coverage"]
NAMES = ["mean", "median", "p90", "coverage", *acceptance.BESIDE]
KERNELS = ["kernel", "split", "tables", "rows", *NAMES]


class Report(NamedTuple):
    """One table of one chip, and what was found on its held-out rows."""

    op: str
    chip: str
    framework: str
    formats: str
    found: dict[str, Any]


def fitted() -> dict[str, dict[str, Any]]:
    """The shipped files, by chip."""
    paths = sorted(path for path in FITTED.glob("*.toml") if path.stem in chip_files())
    return {path.stem: read_toml(path) for path in paths}


def reports() -> Iterator[Report]:
    """Every report of the shipped files."""
    for chip, families in fitted().items():
        for frameworks in families.values():
            for framework, kinds in frameworks.items():
                for dtype, section in kinds.items():
                    for label, found in section.get("report", {}).items():
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
        names = ["chip", "format", "framework", "train", "held out", *ERRORS]
        yield _table(names, [_line(row) for row in rows if row.op == op])


def releases() -> Iterator[tuple[str, ...]]:
    """Of each operation and framework: errors of other releases than those of the chips' own files."""
    found = sorted(_release_reports(), key=lambda row: (row.op, row.framework))
    for op, framework in dict.fromkeys((row.op, row.framework) for row in found):
        own = [row.found for row in found if (row.op, row.framework) == (op, framework)]
        yield op, framework, *_release_line(own)
    if found:
        yield "all", "", *_release_line([row.found for row in found])


def _release_reports() -> Iterator[Report]:
    for chip, families in read_toml(FITTED / f"{RELEASES}.toml").items():
        for frameworks in families.values():
            for framework, formats in frameworks.items():
                for dtype, fits in formats.items():
                    for section in fits.values():
                        for label, found in section["report"].items():
                            yield Report(label.partition("-")[0], chip, framework, dtype, found)


def _release_line(found: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    held = [one for one in found if one["rows"]]
    means = (sum(one[n] for one in held) / len(held) for n in (BEFORE, "median", "coverage"))
    return str(len(found)), f"{sum(one['rows'] for one in found):,}", *map(percent, means)


ERRORS = ("mean", "median", "p90", "bias", "coverage")


def _line(row: Report) -> tuple[str, ...]:
    counts = (f"{row.found[n]:,}" for n in ("train_rows", "rows"))
    shares = (percent(row.found[name]) for name in ERRORS)
    return (row.chip, row.formats, row.framework, *counts, *shares)


def values() -> Iterator[str]:
    """A table of parameters for each family."""
    chips = fitted()
    for family, kind in FAMILIES.items():
        sections = {c: f.get(family, {}).get(SMOOTH, {}).get("bf16") for c, f in chips.items()}
        known = {chip: section for chip, section in sections.items() if section}
        if known:
            yield f"\n### {family}\n\n"
            rows = (
                (name, *(f"{one[name]:.4g}" if name in one else "-" for one in known.values()))
                for name in map(key, parameters(kind))
            )
            yield _table(["parameter", *known], rows)


def take_over(newer: Path) -> None:
    """Take over the lines of a newer run of the protocol."""
    write_result(RESULT, merged_results(read_result(RESULT), read_result(newer)))


def protocol_parts() -> dict[str, str]:
    """What the protocol reached."""
    records = read_result(RESULT)
    lines = acceptance.summary(records)
    complete = [record for record in records if not record["routing"]]
    dates, versions = (sorted({one[name] for one in records}) for name in ("date", "version"))
    return {
        "answer": _answer(lines),
        "met": _met(lines),
        "targets": _table(acceptance.SUMMARY, lines),
        "versions": ", ".join(versions),
        "dates": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        "count": f"{len(records):,}",
        "kernels": _table(KERNELS, _kernels(complete, FITTED_SPLITS)),
        "left_out": _table(KERNELS, _kernels(complete, LEFT_OUT_SPLITS)),
        "runs": _table(["serving runs", "rows", *RUN_NAMES], _runs()),
        "closed": ", ".join(CLOSED),
        "chips": _table(["chip", "held-out shapes", "as new", "from 32 rows"], _chips(complete)),
    }


def _met(lines: Sequence[tuple[str, ...]]) -> str:
    """How many lines are met, and which are not, in a sentence."""
    met = [line[acceptance.SUMMARY.index("met")] for line in lines]
    missed = [line[0] for line, word in zip(lines, met, strict=True) if word == "no"]
    reached, aims = len(lines) - len(missed), met.count("aim")
    return (
        f"Of {len(lines)} lines {reached} reach what they must, {aims or 'none'} of them the aim.\n"
        f"**Missed: {'; '.join(missed) or 'none'}.**"
    )


def _answer(lines: Sequence[tuple[str, ...]]) -> str:
    """What a reader asks first: a service whose model no fit has seen, then kernels beside a roofline."""
    whole = next(iter(read_left_out(RUNS)))
    known = {word: percent(whole[name]) for word, name in RUN_NAMES.items()}
    service = (
        f"- **A served model that no fit has seen**: TPOT {known['TPOT']} off in the median, throughput "
        f"{known['tokens/s per chip']}, TTFT {known['TTFT']},\n  over {whole['n']:,} runs; "
        f"the 90 % range holds {known['in the 90 % range']} of them.\n"
    )
    return service + "".join(map(_beside, (line for line in lines if line[0] in FIRST)))


FIRST = {
    "gemm bf16: A100 H100 B200 L40S": "Matrix products in bf16",
    "attention_decode": "Attention while decoding",
    "attention_prefill": "Attention of prompts",
    "unseen chip, known architecture": "Kernels of a chip without rows, whose architecture was measured",
}
"""Lines of the targets that a reader asks for first, in words."""


def _beside(line: tuple[str, ...]) -> str:
    found = dict(zip(acceptance.SUMMARY, line, strict=True))
    return (
        f"- **{FIRST[line[0]]}**: {found['reached']} off in the mean of {found['tables']} tables, "
        f"where a roofline is {found['roofline']} off.\n"
    )


def _runs() -> Iterator[tuple[str, ...]]:
    for one in read_left_out(RUNS):
        yield one["group"], f"{one['n']:,}", *(percent(one[name]) for name in RUN_NAMES.values())


def _kernels(records: Sequence[Record], splits: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for op in dict.fromkeys(record["op"] for record in records):
        for split in splits:
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
    return percent(sum(known) / len(known) if known else None)


def _table(names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    """In Markdown."""
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def pages() -> dict[str, str]:
    """Both pages, by name."""
    parts = protocol_parts() | {"errors": "".join(accuracy()), "parameters": "".join(values())}
    parts |= {"releases": _table(RELEASE_NAMES, releases())}
    places = {name: Path(__file__).with_name(file) for name, file in TEMPLATES.items()}
    return {n: place.read_text(encoding="utf-8").format(**parts) for n, place in places.items()}


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
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="accuracy.md, in its folder")
    parser.add_argument("--protocol", type=Path, help="protocol.csv of a newer run, to take over")
    parser.add_argument("--runs", type=Path, help="left_out.csv of a newer run, to take over")
    asked = parser.parse_args()
    if asked.protocol is not None:
        take_over(asked.protocol)
    if asked.runs is not None:
        write_left_out(RUNS, read_left_out(asked.runs))
    for name, text in pages().items():
        write_whole(asked.out.with_name(name), text.encode())
    model = asked.out.with_name("model.md")
    if model.exists():
        write_whole(model, with_errors(model.read_text()).encode())


if __name__ == "__main__":
    main()
