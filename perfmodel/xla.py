"""How programs are compiled and run: compiled fast where they run once, to be fast where they run often."""

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from perfmodel.program_store import StoredProgram, identity_of, load_or_compile

Options = dict[str, Any]

T = TypeVar("T")

ONCE: Options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Of programs that run once or twice on a CPU: compiling takes a quarter as long."""


class Label(str):
    """Says who, never what: equal to every other label.

    A static field is part of a compiled function's key. With plain strings each
    chip and each model would be compiled anew; with labels all of one structure
    share one compiled function.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(Label)


def supported(options: Options) -> Options:
    """Those of some options that the installed XLA has, for they come and go."""
    if _has(tuple(options.items())):
        return options
    return {name: value for name, value in options.items() if _has(((name, value),))}


@functools.cache
def _has(options: tuple[tuple[str, Any], ...]) -> bool:
    program = jax.jit(lambda x: x).lower(0.0)
    try:
        program.compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError:
        return False
    return True


def jit(function: Callable[..., T]) -> Callable[..., T]:
    """`jax.jit`, with the type of what `function` gives."""
    return jax.jit(function)


def to_run_once(function: Callable[..., T]) -> Callable[..., T]:
    """A function that is compiled when it is first called, on a CPU to run once or twice.

    Its arrays may change from call to call; whatever else is in its arguments is compiled in. Compiled
    programs are kept on disk (`program_store`), the `MAX_PROGRAMS` last used ones in memory.
    """
    programs: dict[Hashable, StoredProgram] = {}
    lock = threading.Lock()

    def last_used(key: Hashable, program: StoredProgram) -> None:
        with lock:
            programs.pop(key, None)
            programs[key] = program
            while len(programs) > MAX_PROGRAMS:
                del programs[next(iter(programs))]

    def run(*arguments: Any) -> T:
        arrays, rest = eqx.partition(arguments, _is_array)
        leaves, form = jax.tree.flatten(arrays)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return function(*arguments)
        leaves = [leaf if _is_canonical(leaf) else jnp.asarray(leaf) for leaf in leaves]
        weak = [getattr(leaf, "weak_type", False) for leaf in leaves]
        shapes = tuple((leaf.shape, leaf.dtype, w) for leaf, w in zip(leaves, weak, strict=True))
        fixed, fixed_form = jax.tree.flatten(rest)
        key = (form, fixed_form, tuple(fixed), shapes)
        program = programs.get(key)
        if program is None:
            identity = identity_of(function, fixed, form, fixed_form, shapes)
            compiled = functools.partial(_compile, function, leaves, form, rest)
            program = load_or_compile(identity, compiled)
        last_used(key, program)
        return jax.tree.unflatten(jax.tree.structure(program.result), program.call(*leaves))

    return run


MAX_PROGRAMS = 32
"""Of a function, compiled programs in memory: each is about 14 MB, and 60 of 65,530 maps of a process."""


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic | jax.Array)


def _is_canonical(leaf: Any) -> bool:
    """Whether an array is as JAX would have it: putting hundreds on a device one by one takes time."""
    return isinstance(leaf, np.ndarray) and jax.dtypes.canonicalize_dtype(leaf.dtype) == leaf.dtype


_tracing = threading.Lock()
"""One thread traces, which is Python's work, while others compile."""


def _compile(
    function: Callable[..., Any], leaves: list[Any], form: Any, rest: Any, name: str
) -> StoredProgram:
    """A program of the arrays alone, and the form of what it gives."""
    forms: list[Any] = []

    def of_leaves(*leaves: Any) -> list[Any]:
        result = function(*eqx.combine(jax.tree.unflatten(form, leaves), rest))
        results, result_form = jax.tree.flatten(result)
        forms.append(jax.tree.unflatten(result_form, range(len(results))))
        return results

    of_leaves.__name__ = name
    options = supported(ONCE) if jax.default_backend() == "cpu" else None
    with _tracing:
        lowered = jax.jit(of_leaves).lower(*leaves)
    return StoredProgram(lowered.compile(compiler_options=options), forms[0])


MALLOC_OPTIONS = {
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_ARENA_MAX": (-8, 1),
}
"""What makes glibc keep memory, by its name in `malloc.h`: what is asked for, and its new value."""


def keep_memory() -> None:
    """Use the memory of large buffers again, where the system's library is glibc.

    By itself it gives back what is larger than 32 MB (`mallopt(3)`), and each call has to have its pages
    cleared and mapped anew: half of the time of the gradients of 8,192 designs, a tenth of a sweep.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            set_option = ctypes.CDLL(None).mallopt
            for option, value in MALLOC_OPTIONS.values():
                set_option(option, value)


def use_all_cores() -> None:
    """Let each core of a machine without accelerators be a device, if JAX has not begun yet."""
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def prepare_for_millions() -> None:
    """Of rows, in blocks of thousands: every core is a device, and memory of large buffers is kept."""
    use_all_cores()
    keep_memory()
