"""Rows that are kept, drawn with a seed from what `tests/golden/rows.toml` has."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.golden.values import FOLDER
from perfmodel.errors import InputError
from perfmodel.inference.evaluate import resolve_row
from perfmodel.inference.kernel_predictions import resolve_group
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FITTED

Row = dict[str, str]

TABLE = read_toml(FOLDER / "rows.toml")
KERNEL, SERVICE = TABLE["kernels"], TABLE["services"]


def drawn(random: np.random.Generator, choices: Sequence[str | float]) -> str:
    """One of some numbers or words, as a cell."""
    chosen = choices[int(random.integers(len(choices)))]
    return chosen if isinstance(chosen, str) else f"{chosen:g}"


def named(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """Rows with the names of their cases."""
    return [{"case": f"{prefix}{i:03d}"} | row for i, row in enumerate(rows)]


def _right(rows: Iterable[Row], resolve: Callable[[Row], object]) -> Iterator[Row]:
    """Rows that can be predicted."""
    for row in rows:
        with contextlib.suppress(InputError):
            resolve(row)
            yield row


# Kernels


class Form(NamedTuple):
    """What rows that share a compiled function have in common."""

    chips: str
    framework: str
    dtype: str
    cache: str
    replay: str


def kernels() -> list[Row]:
    """Rows of the kernel schema."""
    random, rows = np.random.default_rng(TABLE["seed"]), []
    for place, (op, count) in enumerate(KERNEL["counts"].items()):
        rows += itertools.islice(_kernels(op, place, random), count)
    return named("k", rows)


def _kernels(op: str, place: int, random: np.random.Generator) -> Iterator[Row]:
    """Rows of one operation without an end, `each` of a form together."""
    frameworks, caches, cold = KERNEL["frameworks"], KERNEL["caches"], KERNEL["cold"]
    for turn, chips in enumerate(itertools.cycle(KERNEL["chips"])):
        form = Form(
            chips,
            "" if chips in KERNEL["smooth"] else frameworks[(turn + place) % len(frameworks)],
            str(random.choice(KERNEL["formats"][: 3 + turn])),
            caches[turn % len(caches)],
            "false" if turn % cold == cold - 1 else "true",
        )
        rows = (_kernel(op, form, random) for _ in range(4 * KERNEL["each"]))
        yield from itertools.islice(_right(rows, _resolve_kernel), KERNEL["each"])


def _kernel(op: str, form: Form, random: np.random.Generator) -> Row:
    operation, sizes = KERNELS[op], KERNEL["sizes"]
    numbers = {n: drawn(random, sizes[n]) for n in (*operation.sizes(), *operation.options())}
    words = {n: drawn(random, choices) for n, choices in operation.words().items()}
    row = {"op": op, "chip": drawn(random, KERNEL["chips"][form.chips])} | numbers | words
    row |= {"framework": form.framework, "dtype": form.dtype, "replay": form.replay}
    row["framework"] = "nccl" if "n_gpus" in row and form.framework else form.framework
    if "heads" in row:
        row |= {"kv_dtype": form.cache, "dtype": "bf16"}
    return row


def _resolve_kernel(row: Row) -> None:
    groups, errors = groups_of({name: [cell] for name, cell in row.items()}, 1)
    if errors[0]:
        raise InputError(str(errors[0]))
    resolve_group(groups[0], FITTED, row["replay"] == "true")


# Services


def services() -> list[Row]:
    """Rows of the serving schema."""
    random = np.random.default_rng(TABLE["seed"] + 1)
    special = [*_arriving(random), *_special()]
    plain = _right(_plain(random), lambda row: resolve_row(0, row, FITTED))
    return named("s", itertools.islice(itertools.chain(special, plain), SERVICE["count"]))


def _cells(text: str) -> Row:
    return dict(cell.split("=", 1) for cell in text.split())


def _special() -> Iterator[Row]:
    """Rows with more than one kind of chips, or more than one model."""
    for kind in SERVICE["special"]:
        yield from (_cells(f"{kind['common']} {row}") for row in kind["rows"])


def _plain(random: np.random.Generator) -> Iterator[Row]:
    """Every service in turn, each time asked for another thing."""
    ways = [_cells(way) for way in SERVICE["ways"]]
    for turn in itertools.count():
        for place, service in enumerate(SERVICE["served"]):
            row = _service(service, random) | {"concurrency": drawn(random, SERVICE["users"])}
            yield row | ways[(turn + place) % len(ways)]


def _arriving(random: np.random.Generator) -> Iterator[Row]:
    """Requests that come at a rate, on machines of all kinds."""
    for service, rate in itertools.product(SERVICE["served"][:4], SERVICE["arrivals"]):
        yield _service(service, random) | {"requests_per_s": rate}


def _service(service: Sequence[str], random: np.random.Generator) -> Row:
    chips, count, model, precision, cache, framework = service
    row = {"chip": drawn(random, chips.split()), "n_chips": count, "model": model}
    row |= {"precision": precision, "kv_precision": cache, "framework": framework}
    prompt, output = SERVICE["lengths"][int(random.integers(len(SERVICE["lengths"])))]
    return row | {"isl": prompt, "osl": output}
