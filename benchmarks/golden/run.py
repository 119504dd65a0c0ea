"""Freeze and check golden values: each case is written, and told, as it is done."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.golden.draw import kernels, services
from benchmarks.golden.sets import SETS
from benchmarks.golden.values import (
    FOLDER,
    Change,
    Golden,
    Numbers,
    changes,
    read,
    said,
    tolerance,
    write,
)
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_whole
from perfmodel.library.files import read_toml

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
HEADING = "### Golden rows"


def wanted(only: Sequence[str]) -> dict[str, list[str]]:
    """Cases of each set that some words name: sets or cases; all, where there are none.

    **Raises:**

    - `InputError`: for a word that is neither.
    """
    every = {name: one.names() for name, one in SETS.items()}
    unknown = set(only) - set(every) - {case for cases in every.values() for case in cases}
    if unknown:
        raise InputError(
            f"{', '.join(sorted(unknown))}: neither a set nor a case; sets are {', '.join(every)}."
        )
    words = set(only) or set(every)
    found = {n: [c for c in cases if n in words or c in words] for n, cases in every.items()}
    return {name: cases for name, cases in found.items() if cases}


def computed(name: str, cases: Sequence[str]) -> Iterator[tuple[str, Numbers]]:
    """Cases of a set with their numbers as the program has them now, told one by one."""
    began = time.perf_counter()
    for done, (case, numbers) in enumerate(SETS[name].run(cases)):
        spent = time.perf_counter() - began
        print(
            f"{name} {done + 1}/{len(cases)} {case}: {len(numbers)} values, {spent:.1f} s",
            flush=True,
        )
        yield case, numbers


def check(only: Sequence[str], double: bool) -> int:
    """Compare with the golden values: 1 where some differ, and what they are."""
    found: list[Change] = []
    for name, cases in wanted(only).items():
        found += compared(name, cases, double)
    print("\n".join([*said(found), f"{len(found)} values are not the golden ones."]))
    return int(bool(found))


def compared(name: str, cases: Sequence[str], double: bool) -> list[Change]:
    """What differs in some cases of a set."""
    golden, found = read(name), []
    for case, numbers in computed(name, cases):
        found += changes(case, golden.get(case, {}), numbers, tolerance(case, name, double))
    return found


def freeze(only: Sequence[str], reason: str) -> int:
    """Take what the program has now as golden, case by case, and say why in CHANGELOG.md.

    Values that are as they were, to the tolerance, stay. Without a reason nothing is written that
    changes, and 2 is returned.
    """
    found: list[Change] = []
    try:
        for name, cases in wanted(only).items():
            found += _frozen(name, cases, bool(reason))
    finally:
        print("\n".join(said(found)))
        if found and reason:
            _tell(reason, found)
    if found and not reason:
        print(
            f"{len(found)} values change; give --reason, which goes to CHANGELOG.md. None is written."
        )
    return 2 if found and not reason else 0


def _frozen(name: str, cases: Sequence[str], may_change: bool) -> list[Change]:
    """What changes in some cases of a set, written where it may; cases that are no more are dropped."""
    known = set(SETS[name].names())
    golden: Golden = {case: numbers for case, numbers in read(name).items() if case in known}
    found = []
    for case, numbers in computed(name, cases):
        old = golden.get(case, {})
        changed = changes(case, old, numbers, tolerance(case, name, double=True))
        found += changed
        if changed and may_change:
            anew = {one.quantity for one in changed}
            golden[case] = {n: v if n in anew else old[n] for n, v in numbers.items()}
            write(name, golden)
    return found


def _tell(reason: str, found: Sequence[Change]) -> None:
    """Append the reason to the newest release of the change log, with how many values changed."""
    counts = Counter("new" if one.old is None else "changed" for one in found)
    numbers = ", ".join(f"{count:,} values {word}" for word, count in sorted(counts.items()))
    line = f"- {reason} ({numbers}, in {len({one.case for one in found})} cases.)"
    title, newest, *older = re.split("^(?=## )", CHANGELOG.read_text("utf-8"), flags=re.M)
    if HEADING not in newest:
        newest = f"{newest.rstrip()}\n\n{HEADING}\n\n"
    before, own = newest.split(HEADING)
    section, *after = re.split("^(?=### )", own, flags=re.M)
    told = f"{section.strip()}\n{line}".strip()
    ending = "\n" if older or after else ""
    parts = [title, before, HEADING, f"\n\n{told}\n{ending}", *after, *older]
    write_whole(CHANGELOG, "".join(parts).encode())


def sample() -> list[str]:
    """Cases that are checked after each change: cheap to compile together, of every family."""
    table = read_toml(FOLDER / "sample.toml")
    return [*table["kernels"], *table["services"]]


def draw() -> int:
    """Write the rows anew."""
    for name, rows in (("kernels", kernels()), ("services", services())):
        names = list(dict.fromkeys(column for row in rows for column in row))
        table = pa.table({column: [row.get(column, "") for row in rows] for column in names})
        write_csv(FOLDER / f"{name}.csv", table)
    return 0
