"""Compiled programs kept on disk, so that a second process neither traces nor compiles them.

XLA's own cache spares compiling alone; tracing and lowering a service take longer than that. A program is
found again by the package's source code and facts, the versions of JAX and of its compiler, the machine, and
everything that tracing depends on. They lie beside XLA's cache, and are kept only where that is.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import serialize_executable

MAX_PROGRAMS = 512
"""Programs that are kept, at most: the oldest go. Each has about 2 MB."""


class StoredProgram(NamedTuple):
    """A compiled program of arrays, and the tree of what it gives, with numbers in the place of arrays."""

    call: jax.stages.Compiled
    result: Any


def identity_of(function: Callable[..., Any], fixed: Sequence[Any], *forms: Any) -> str:
    """Everything that tracing depends on, in words; empty where words do not tell it.

    **Arguments:**

    - `fixed`: what is compiled in; `forms`: of trees, shapes and types.
    """
    words = " ".join([_in_words(function), *map(_in_words, fixed), *map(str, forms)])
    return "" if any(mark in words for mark in UNTOLD) else words


UNTOLD = ("<locals>", "<lambda>", " at 0x")
"""In the words of what cannot be told from another of its name."""


def _in_words(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)


def load_or_compile(
    identity: str, compile_program: Callable[[str], StoredProgram]
) -> StoredProgram:
    """The program of an identity: from disk, or compiled now and written there.

    **Arguments:**

    - `compile_program`: compiles it under a name. With a name of its own it is none of those that XLA's
      cache has, for what comes from there cannot be written again: it would lack its functions.
    """
    folder = _folder() if identity else None
    if folder is None:
        return compile_program("program")
    path = folder / hashlib.sha256(f"{_machine()} {identity}".encode()).hexdigest()
    with contextlib.suppress(Exception):  # a file of another time, or cut short: compiled anew
        return _read(path)
    before = _hits()
    program = compile_program(f"program_{path.name}")
    if _hits() > before:
        return program
    with contextlib.suppress(Exception):  # a disk that is full, a folder that cannot be written
        _write(path, _stored(program))
    return program


def _stored(program: StoredProgram) -> bytes:
    """A line that says what goes in and comes out, and the program.

    **Raises:**

    - `TypeError`: for a result whose tree cannot be told so.
    """
    payload, inputs, outputs = serialize_executable.serialize(program.call)
    result = _described(program.result)
    if jax.tree.structure(_built(result)) != jax.tree.structure(program.result):
        raise TypeError("a tree with parts that are no arrays")
    counts = {"inputs": inputs.num_leaves, "outputs": outputs.num_leaves}
    return json.dumps(counts | {"result": result}).encode() + b"\n" + payload


def _read(path: Path) -> StoredProgram:
    line, _, payload = path.read_bytes().partition(b"\n")
    about = json.loads(line)
    inputs = jax.tree.structure((tuple(range(about["inputs"])), {}))
    outputs = jax.tree.structure([*range(about["outputs"])])
    call = serialize_executable.deserialize_and_load(payload, inputs, outputs)
    return StoredProgram(call, _built(about["result"]))


WORD = "str"
"""Says that what follows is a word as it stands, such as the label of a kernel."""


def _described(tree: Any) -> Any:
    """A tree of numbers and words, described: its classes, by module and name, and their fields."""
    if isinstance(tree, int):
        return tree
    if type(tree) is str:
        return [WORD, tree]
    if isinstance(tree, list | dict):
        items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [type(tree).__name__, [[key, _described(part)] for key, part in items]]
    if type(tree) is tuple:
        return ["tuple", [[i, _described(part)] for i, part in enumerate(tree)]]
    names = getattr(tree, "_fields", None) or [field.name for field in dataclasses.fields(tree)]
    words = f"{type(tree).__module__}:{type(tree).__qualname__}"
    return [words, [[name, _described(getattr(tree, name))] for name in names]]


def _built(described: Any) -> Any:
    """The tree of a description, of classes of this package alone."""
    if isinstance(described, int):
        return described
    words, parts = described
    if words == WORD:
        return parts
    values = [(key, _built(part)) for key, part in parts]
    if words in ("list", "tuple"):
        return (list if words == "list" else tuple)(value for _, value in values)
    if words == "dict":
        return dict(values)
    module, _, name = words.partition(":")
    if not module.startswith("perfmodel."):
        raise TypeError(f"{words} is no class of this package")
    return getattr(importlib.import_module(module), name)(**dict(values))


CACHE_HIT = "/jax/compilation_cache/cache_hits"
"""The event with which JAX says that a program is from XLA's cache."""

_counted = threading.local()


def _hits() -> int:
    """Programs from XLA's cache in this thread."""
    return getattr(_counted, "hits", 0)


def _count(event: str, **_: Any) -> None:
    if event == CACHE_HIT:
        _counted.hits = _hits() + 1


jax.monitoring.register_event_listener(_count)


def _folder() -> Path | None:
    """Where programs are kept; `None`: nowhere, of several devices or of accelerators."""
    cache = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not cache or jax.default_backend() != "cpu" or len(jax.devices()) > 1:
        return None
    return Path(cache).parent / "programs"


@functools.cache
def _machine() -> str:
    """Source code and facts, compiler and processor."""
    folders = [
        Path(__file__).parent,
        *map(Path, importlib.import_module("perfmodel.kernels").__path__),
    ]
    files = sorted({f for folder in folders for end in ENDS for f in folder.rglob(end)})
    stamps = [(str(file), *_stamp(file.stat())) for file in files]
    versions = (jax.__version__, importlib.metadata.version("jaxlib"), platform.python_version())
    double = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    return repr((stamps, versions, _processor(), double, os.environ.get("XLA_FLAGS", "")))


ENDS = ("*.py", "*.toml")
"""Of files that tracing may read."""


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


def _processor() -> str:
    """The processor with its instructions, for which programs are compiled."""
    about = Path("/proc/cpuinfo")
    lines: Sequence[str] = about.read_text().splitlines() if about.is_file() else ()
    flags = [line for line in lines if line.startswith(("flags", "Features", "model name"))][:2]
    return repr((platform.machine(), platform.processor(), platform.version(), flags))


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all, and let go of the oldest programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
    kept = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime)
    for old in kept[:-MAX_PROGRAMS]:
        old.unlink(missing_ok=True)
