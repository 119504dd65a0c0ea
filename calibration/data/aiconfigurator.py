"""The measured tables of `aiconfigurator-core` (Apache-2.0), read where it is installed.

Nothing of it is copied here. A path to its wheel or to a checkout serves as well: the
tables are plain parquet files. Which of them are read, and which are not, is in `aiconfigurator.toml`.
"""

import functools
import importlib.util
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perfmodel.calibration.data.aiconfigurator_columns import (
    FACTS,
    LINEAR,
    Rule,
    numbers,
    summed,
    texts,
)
from perfmodel.calibration.data.measurements import LeftOut, Measurements, joined, merged
from perfmodel.calibration.data.untuned import without_slow_groups
from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.framework import releases_of

PACKAGE = "aiconfigurator_core"
INSTALLED = "aiconfigurator"
"""The word for the tables of the package where it is installed."""

VERSION = "0.12.0"
Folder = Path | zipfile.Path

SYSTEMS = FACTS.systems
"""Systems that are read, and their names in the library."""

TABLE_FILES = {op: table for table in FACTS.tables for op in table.ops}
"""Where each operation's rows are."""

NCCL = TABLE_FILES["all_gather"]

LINEAR_ATTENTION = "linear_attention"
"""Read apart: one row for each kernel of a shape."""

OPERATIONS = (*TABLE_FILES, LINEAR_ATTENTION)
"""Those that have rows."""


def locate(source: str) -> Folder:
    """The folder of tables: of the installed package, of a wheel, or of a checkout.

    **Raises:**

    - `InputError`: when it is not there, with what to install.
    """
    if source == INSTALLED:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"aiconfigurator-core is not installed; run `pip install aiconfigurator-core=={VERSION}`, "
                f"or give the path of its wheel: --data aiconfigurator_core-{VERSION}-....whl."
            )
        return Path(spec.submodule_search_locations[0]) / "systems" / "data"
    path = Path(source)
    if path.suffix == ".whl":
        return _in_wheel(path)
    found = next(path.glob("**/systems/data"), None) if path.is_dir() else None
    if found is None:
        those = "holds no systems/data" if path.exists() else "is not there"
        raise InputError(
            f"{source} {those}; give aiconfigurator, or the path of its wheel or of a checkout of it."
        )
    return found


def _in_wheel(path: Path) -> zipfile.Path:
    try:
        return zipfile.Path(path) / PACKAGE / "systems" / "data"
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable wheel: {error}.") from None


def tables(
    root: Folder,
    op: str,
    system: str,
    left_out: list[LeftOut] | None = None,
    wanted: Callable[[Key], bool] = lambda key: True,
) -> Iterator[Measurements]:
    """The sound tables of one operation on one chip, one for each framework and format that is wanted.

    **Arguments:**

    - `left_out`: gains what is not read, by rule.
    """
    drop = functools.partial(_drop, [] if left_out is None else left_out)
    read = _linear_attention if op == LINEAR_ATTENTION else _tables
    for framework, version in FACTS.system_versions.get(system, FACTS.versions).items():
        key = Key(op, SYSTEMS[system], framework, "")
        yield from read(root, system, key, version, drop, wanted)
        yield from _other_versions(root, system, key, wanted)


def older_tables(root: Folder, op: str, system: str) -> Iterator[Measurements]:
    """The sound tables of the other known releases of each framework, which their keys name.

    Gathers are NCCL's, under whatever framework their file lies.
    """
    if op == LINEAR_ATTENTION:
        return
    for framework, newest in FACTS.system_versions.get(system, FACTS.versions).items():
        gathers = TABLE_FILES[op] is NCCL and framework != "nccl"
        for release in releases_of(framework):
            if release != newest and not gathers:
                key = Key(op, SYSTEMS[system], framework, "", release=release)
                yield from _tables(root, system, key, release, _not_noted, lambda _: True)


def _other_versions(
    root: Folder, system: str, key: Key, wanted: Callable[[Key], bool]
) -> Iterator[Measurements]:
    """Formats that are read from other versions of a framework."""
    for one in FACTS.other_versions:
        if (one.system, one.op, one.framework) == (system, key.op, key.framework):
            own = functools.partial(_is_format, one.format, wanted)
            yield from _tables(root, system, key, one.version, _not_noted, own)


def _is_format(name: str, wanted: Callable[[Key], bool], key: Key) -> bool:
    return key.dtype == name and wanted(key)


def _not_noted(key: Key, rows: int, rule: str) -> None:
    """What is not read of another version: it never was to be."""


Drop = Callable[[Key, int, str], None]


def _drop(left_out: list[LeftOut], key: Key, rows: int, rule: str) -> None:
    """Note rows that are not read."""
    if rows:
        left_out.append(LeftOut(key, rows, rule))


def _tables(
    root: Folder, system: str, key: Key, version: str, drop: Drop, wanted: Callable[[Key], bool]
) -> Iterator[Measurements]:
    """Those of one framework."""
    nccl = key.framework == "nccl" and TABLE_FILES[key.op].folder == "comm"
    source = NCCL if nccl else TABLE_FILES[key.op]
    path = root / system / source.folder / key.framework / version / source.file
    if not path.exists():
        return
    table = _sound(_read(path), key, drop)
    if rule := rule_of(FACTS.excluded, system, key, version):
        return drop(key, len(table), rule)
    for part, rows in _split(table, source.formats, key, drop):
        if rule := rule_of(FACTS.excluded, system, part, version):
            drop(part, len(rows), rule)
        elif wanted(part):
            time = numbers(rows, "latency") * 1e-3
            named = _named(system, key, version)
            found = Measurements(part, source.columns(rows), time, named, version)
            yield _tuned(merged(found), system, drop)


def _read(path: Folder) -> pa.Table:
    return pq.read_table(io.BytesIO(path.read_bytes()))


def _named(system: str, key: Key, version: str) -> str:
    return f"aiconfigurator-core {VERSION}, {system}, {key.framework} {version}"


def rule_of(rules: Sequence[Rule], system: str, key: Key, version: str = "") -> str:
    """Why a table is not read as it is; empty where it is."""
    given = f"{key.dtype}/{key.cache}" if key.cache else key.dtype
    found = (
        rule.reason for rule in rules if rule.names(system, key.op, key.framework, given, version)
    )
    return next(found, "")


def _tuned(table: Measurements, system: str, drop: Drop) -> Measurements:
    """Without slow groups, where a rule says that some were not tuned."""
    rule = rule_of(FACTS.untuned, system, table.key._replace(cache=""))
    turns = system not in FACTS.cached_parts
    tuned = without_slow_groups(table, turns) if rule else table
    drop(table.key, len(table.time) - len(tuned.time), rule)
    return tuned


NOT_RUN = "the time is not greater than zero"
EAGER = "run without CUDA graphs beside rows with them"
OTHER_FORMAT = "a format that is not read"
OTHER_KERNEL = "run by another kernel than most rows of the table"


def _sound(table: pa.Table, key: Key, drop: Drop) -> pa.Table:
    """Rows that were run, of this operation, without the host in their time."""
    if "op_name" in table.column_names and "nccl_dtype" in table.column_names:
        name = "alltoall" if key.op == "all_to_all" else key.op
        table = table.filter(pc.field("op_name") == name)
    sound = table.filter(pc.field("latency") > 0.0)
    drop(key, len(table) - len(sound), NOT_RUN)
    if "kernel_source" not in table.column_names:
        return sound
    replayed = sound.filter([not n.endswith("_eager") for n in texts(sound, "kernel_source")])
    drop(key, len(sound) - len(replayed), EAGER)
    return replayed


def _split(
    table: pa.Table, names: list[str], key: Key, drop: Drop
) -> Iterator[tuple[Key, pa.Table]]:
    """Rows of each format, of the kernel that ran most of them: other kernels are other tables."""
    for formats in table.select(names).group_by(names).aggregate([]).to_pylist():
        rows = table
        for name in names:
            rows = rows.filter(pc.field(name) == formats[name])
        known = [FACTS.formats.get(formats[name], "") for name in names]
        if not all(known):
            drop(key, len(rows), OTHER_FORMAT)
            continue
        if "kernel_source" in rows.column_names:
            (most, count), *_ = Counter(texts(rows, "kernel_source")).most_common(1)
            drop(key, len(rows) - count, OTHER_KERNEL)
            rows = rows.filter(pc.field("kernel_source") == most)
        yield key._replace(dtype=known[0], cache=known[1] if len(known) > 1 else ""), rows


def _linear_attention(
    root: Folder, system: str, key: Key, version: str, drop: Drop, wanted: Callable[[Key], bool]
) -> Iterator[Measurements]:
    """All kinds of one framework."""
    key, rule = key._replace(dtype="bf16"), rule_of(FACTS.excluded, system, key)
    parts, versions = [], []
    for kind, folder in LINEAR.folders.items():
        own = FACTS.linear_attention_versions.get(kind, {}).get(key.framework, version)
        path = root / system / folder / key.framework / own / f"{kind}_perf.parquet"
        if not path.exists():
            continue
        table = _read(path)
        if rule:
            drop(key, len(table), rule)
            continue
        found = summed(table, key.framework, kind)
        parts += [Measurements(key, columns, time, "") for columns, time in found]
        versions.append(own)
    if parts:
        named = _named(system, key, " and ".join(versions))
        yield merged(joined(parts))._replace(source=named, version=versions[0])
