"""How programs are compiled: fast where they run once, to be fast where they run often."""

import functools
from typing import Any

import jax

Options = dict[str, Any]

ONCE: Options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Of programs that run once or twice on a CPU: compiling takes a quarter as long."""

OFTEN: Options = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Of gradients of many designs on a CPU: sums over some alternatives, given to a library of matrix
routines as XLA does by itself, take nearly as long as all the rest."""


def supported(options: Options) -> Options:
    """Those of some options that the installed XLA has, for they come and go."""
    return {name: value for name, value in options.items() if _has(name, value)}


@functools.cache
def _has(name: str, value: Any) -> bool:
    program = jax.jit(lambda x: x).lower(0.0)
    try:
        program.compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
