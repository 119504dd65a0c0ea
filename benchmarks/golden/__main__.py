"""Golden rows: freeze the numbers of the program, and check them.

Run:

    python -m benchmarks.golden check [--only kernels,services,outputs,presets,studies] [--single]
    python -m benchmarks.golden freeze --reason "why they change" [--only ...]
    python -m benchmarks.golden sample
    python -m benchmarks.golden draw

`--only` takes sets, or names of cases (`capacity`, `joules`, `sweep-plans`). Values are computed in float64.
`draw` writes the rows anew: only when the schema changes, for every value then changes with them.
"""

import argparse
import os

COMMANDS = ("check", "freeze", "sample", "draw")


def main() -> int:
    asked = _asked()
    if asked.command == "sample":
        _compile_quickly()
    os.environ["JAX_ENABLE_X64"] = "0" if asked.single else "1"
    from benchmarks.golden import run  # after JAX was told how to compute

    only = [word for word in asked.only.split(",") if word]
    commands = {
        "check": lambda: run.check(only, not asked.single),
        "freeze": lambda: run.freeze(only, asked.reason),
        "sample": lambda: run.check(run.sample(), not asked.single),
        "draw": run.draw,
    }
    return commands[asked.command]()


def _asked() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--only", default="", help="sets and names of cases, with commas")
    parser.add_argument("--reason", default="", help="why numbers change; goes to CHANGELOG.md")
    parser.add_argument("--single", action="store_true", help="in float32, as users run it")
    return parser.parse_args()


def _compile_quickly() -> None:
    """Each function of the sample runs once; what was compiled is kept for the next run."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/perfmodel-golden")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


if __name__ == "__main__":
    raise SystemExit(main())
