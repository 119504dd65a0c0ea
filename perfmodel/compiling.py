"""How programs are compiled: fast where they run once, to be fast where they run often."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

Options = dict[str, Any]

T = TypeVar("T")

ONCE: Options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Of programs that run once or twice on a CPU: compiling takes a quarter as long."""

OFTEN: Options = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Of gradients of many designs on a CPU: sums over some alternatives, given to a library of matrix
routines as XLA does by itself, take nearly as long as all the rest."""


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


def to_run_once(function: Callable[..., T]) -> Callable[..., T]:
    """A function that is compiled when it is first called, on a CPU to run once or twice."""

    @functools.cache
    def compiled() -> Callable[..., T]:
        options = supported(ONCE) if jax.default_backend() == "cpu" else None
        return eqx.filter_jit(function, compiler_options=options)  # pyright: ignore[reportCallIssue]

    return lambda *arguments: compiled()(*arguments)
