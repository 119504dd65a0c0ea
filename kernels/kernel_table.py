"""Rows of the kernel schema: from the cells of a table to sizes, with a sentence for each that is wrong.

Rows that share an operation, a chip, a framework and formats form a group, which is
priced in one `vmap`. A wrong row keeps its place and does not stop the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.registry import KERNELS, load_plugins
from perfmodel.library.chip import chip_names
from perfmodel.library.files import fold, named, pick, word_of
from perfmodel.library.fitted import ATTENTION_FAMILIES
from perfmodel.library.framework import (
    UNMODELLED,
    frameworks,
    older_versions,
    release_of,
)
from perfmodel.workload.precision import FORMATS

Cells = Mapping[str, list[str]]
"""Columns of text; an empty cell means not given."""

MAX_SIZE = 1e15
"""No size is larger; one that is, is a mistake."""


class Key(NamedTuple):
    """What the rows of a group share.

    - `op`, `chip`, `framework`, `dtype`: as in the kernel schema; framework empty: the smooth form.
    - `cache`: format of the KV cache, where there is one.
    - `release`: of the framework (`framework_version`); empty: the newest.
    """

    op: str
    chip: str
    framework: str
    dtype: str
    cache: str = ""
    release: str = ""


KEY_COLUMNS = ("op", "chip", "framework", "dtype", "kv_dtype", "framework_version")
"""Columns of a key."""


NEEDED_COLUMNS = ("op", "chip", "dtype")
"""Columns that every row needs, whatever its operation."""

MEANINGS = {
    "op": "gemm, attention_decode, all_reduce, ...",
    "chip": "a name that `perfmodel chips` lists",
    "dtype": "bf16, fp8, ...",
    "latency_us": "the measured time in microseconds",
}
"""What is written in a column, for a sentence."""


def check_columns(cells: Cells, needed: Sequence[str], table: str) -> None:
    """Find out whether a table has the columns that are needed.

    **Raises:**

    - `InputError`: with all that are missing, and what to write there.
    """
    missing = [name for name in needed if name not in cells]
    if not missing:
        return
    those = f"no column {missing[0]!r}" if len(missing) == 1 else f"no columns {', '.join(missing)}"
    meant = ", ".join(f"{name} ({MEANINGS[name]})" for name in missing)
    raise InputError(f"{table} has {those}; it has {named(cells)}; write {meant}.")


class Group(NamedTuple):
    """Rows that share a key: where they stand in the table, and their sizes by column."""

    key: Key
    places: np.ndarray
    columns: dict[str, np.ndarray]


def groups_of(
    cells: Cells, count: int, chips: Mapping[str, str] | None = None
) -> tuple[list[Group], np.ndarray]:
    """Sort the rows of a table into groups.

    **Arguments:**

    - `chips`: names of chips that the library does not have, and what they mean.

    **Returns:**

    The groups, and for each row what is wrong with it (empty where nothing is).

    **Raises:**

    - `InputError`: when a column that every row needs is missing.
    """
    check_columns(cells, NEEDED_COLUMNS, "the table")
    load_plugins()
    errors = np.full(count, "", dtype=object)
    added = dict(chips or {})
    names = chip_names() | {fold(name): stem for name, stem in added.items()} | added
    keys = _keys(cells, count, errors, names)
    groups = [_group(key, np.array(places), cells, errors) for key, places in keys.items()]
    return [group for group in groups if len(group.places)], errors


def _keys(
    cells: Cells, count: int, errors: np.ndarray, chips: dict[str, str]
) -> dict[Key, list[int]]:
    """Places of the rows of each key; the same six words are looked up once."""
    empty = [""] * count
    words = zip(*(cells.get(name, empty) for name in KEY_COLUMNS), strict=True)
    places: dict[tuple[str, ...], list[int]] = {}
    for place, raw in enumerate(words):
        places.setdefault(raw, []).append(place)
    keys: dict[Key, list[int]] = {}
    for raw, rows in places.items():
        try:
            keys.setdefault(_key(raw, chips), []).extend(rows)
        except InputError as error:
            errors[rows] = str(error)
    return keys


def _key(words: tuple[str, ...], chips: dict[str, str]) -> Key:
    op, chip, software, dtype, cache, version = words
    operation = word_of(op, list(KERNELS), "op")
    attends = KERNELS[operation].family in ATTENTION_FAMILIES
    stem = chips.get(chip) or pick(chip, chips, "chip", "perfmodel chips")
    weights = word_of(dtype, list(FORMATS), "dtype")
    stored = word_of(cache, list(FORMATS), "kv_dtype") if attends and fold(cache) else weights
    framework = framework_of(software)
    release = release_of(framework, version)
    return Key(operation, stem, framework, weights, stored if attends else "", release)


def framework_of(cell: str) -> str:
    """The framework that a cell means; empty for the smooth form.

    **Raises:**

    - `InputError`: for an unknown one.
    """
    if not cell.strip():
        return ""
    word = word_of(cell, [*frameworks(), *UNMODELLED], "framework")
    return word if word in frameworks() else ""


def software_of(cell: str) -> tuple[str, str]:
    """The framework of a service, and the word of its version, which is empty where it is today's.

    **Raises:**

    - `InputError`: for an unknown one.
    """
    if not cell.strip():
        return "", ""
    older = older_versions()
    word = word_of(cell, [*frameworks(), *older, *UNMODELLED], "framework")
    return (older[word], word) if word in older else (framework_of(word), "")


def served_by(cell: str, version: str) -> tuple[str, str, str]:
    """The framework of a service, the word of an older version, and a measured release.

    **Arguments:**

    - `version`: a cell of `framework_version`: a release, or the number of a word (`0.5` of `vllm-0.5`).

    **Raises:**

    - `InputError`: for an unknown one.
    """
    software, word = software_of(cell)
    number = version.strip()
    older = number if number in older_versions() else f"{software}-{number}"
    if number and older_versions().get(older) == software and word in ("", older):
        return software, older, ""
    if number and word:
        raise InputError(
            f"framework is {word}, a version by itself; leave framework_version empty."
        )
    return software, word, release_of(software, number)


def _group(key: Key, places: np.ndarray, cells: Cells, errors: np.ndarray) -> Group:
    operation = KERNELS[key.op]
    columns: dict[str, np.ndarray] = {}
    for name, values, wrong in _columns(operation, places, cells):
        fresh = (errors[places] == "") & (wrong != "")
        errors[places[fresh]] = wrong[fresh]
        columns[name] = values
    for name, instead in operation.options().items():
        filler = columns[instead] if isinstance(instead, str) else instead
        columns[name] = np.where(np.isnan(columns[name]), filler, columns[name])
    _compare(columns, places, errors)
    _multiply(
        [columns[name] for name in (*operation.sizes(), *operation.options())], places, errors
    )
    good = errors[places] == ""
    return Group(key, places[good], {name: values[good] for name, values in columns.items()})


AT_MOST = (
    ("kv_heads", "heads"),
    ("q_len", "ctx_len"),
    ("topk", "experts"),
    ("n_nodes", "n_gpus"),
)
"""Columns that may not exceed another, where that is given."""


def _compare(columns: dict[str, np.ndarray], places: np.ndarray, errors: np.ndarray) -> None:
    for small, large in AT_MOST:
        if small in columns and large in columns:
            less, more = columns[small], columns[large]
            wrong = (errors[places] == "") & (less > more) & (more > 0)
            for i in np.flatnonzero(wrong):
                errors[places[i]] = (
                    f"{small} is {less[i]:g}, but may not be more than {large}, which is {more[i]:g}."
                )


MAX_PRODUCT = 1e36
"""No product of all sizes is larger: single precision ends at 3e38."""


def _multiply(sizes: list[np.ndarray], places: np.ndarray, errors: np.ndarray) -> None:
    digits = sum(np.log10(np.maximum(size, 1.0)) for size in sizes)
    wrong = (errors[places] == "") & (digits > np.log10(MAX_PRODUCT))
    errors[places[wrong]] = f"the sizes multiply to more than {MAX_PRODUCT:g}; correct them."


def _columns(
    operation: type[AbstractKernel], places: np.ndarray, cells: Cells
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, numbers and faults of each column that the operation reads."""
    for name in (*operation.sizes(), *operation.options(), *operation.words()):
        column = cells.get(name)
        texts = ["" if column is None else column[int(i)].strip() for i in places]
        text = np.array(texts, dtype=object)
        if name in operation.words():
            yield name, *_choices(name, text, operation.words()[name])
        else:
            yield name, *_numbers(name, text, needed=name in operation.sizes())


SPELLINGS = {"1": "true", "yes": "true", "0": "false", "no": "false"}
"""Other spellings of true and false."""


def _choices(
    name: str, text: np.ndarray, allowed: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    index = {fold(word): float(i) for i, word in enumerate(allowed)} | {"": 0.0}
    index |= {also: index[word] for also, word in SPELLINGS.items() if word in allowed}
    values = np.array([index.get(fold(word), np.nan) for word in text])
    sentence = f"unknown {name} {{}}; allowed are {', '.join(allowed)}."
    return values, _faults(text, [(np.isnan(values), sentence)])


def _numbers(name: str, text: np.ndarray, needed: bool) -> tuple[np.ndarray, np.ndarray]:
    values, empty = np.array([number_of(word) for word in text]), text == ""
    low, least = (values <= 0, "greater than zero") if needed else (values < 0, "from zero")
    faults = [
        (empty & needed, f"{name} is missing; give a number greater than zero."),
        (np.isnan(values) & ~empty, f"{name} is {{}}, which is not a number."),
        (
            low | (values > MAX_SIZE),
            f"{name} is {{}}; allowed are numbers {least} up to 1e15.",
        ),
    ]
    return values, _faults(text, faults)


def number_of(word: str) -> float:
    """What a cell says; Python's own 1_000 and digits of other scripts are not numbers here."""
    try:
        return float(word) if word.isascii() and "_" not in word else float("nan")
    except ValueError:
        return float("nan")


def _faults(text: np.ndarray, faults: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """The first fault of each cell, with the cell's text in it."""
    sentences = np.full(len(text), "", dtype=object)
    for wrong, sentence in faults:
        for i in np.flatnonzero(wrong & (sentences == "")):
            sentences[i] = sentence.format(repr(text[i][:40]))
    return sentences
