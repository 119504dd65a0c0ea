"""Settings of JAX and its compiler, which both read from the environment when they begin."""

import os
from pathlib import Path

MIN_THREADS = 2
"""Of XLA: for one thread it compiles other programs, whose last bits differ, than for any larger number."""

SHARED = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "TF_CPP_MIN_LOG_LEVEL",
    "XLA_FLAGS",
)
"""What workers of a cluster take over from the process that they work for."""


def set_compiler() -> None:
    """Of this process: compiled programs are kept between runs, in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "perfmodel" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # A slow machine is no error: XLA asks for a bug report after two minutes of compiling.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if int(os.environ.get("NPROC") or os.cpu_count() or 1) < MIN_THREADS:
        os.environ["NPROC"] = str(MIN_THREADS)


def worker_settings() -> dict[str, str]:
    """Of a worker, of which each core has one: few threads, and CPUs alone, whose numbers agree.

    `LOKY_MAX_CPU_COUNT` is read by scikit-learn, whose forests else have a thread for each core.
    """
    ours = {name: os.environ[name] for name in SHARED if name in os.environ}
    return ours | {"JAX_PLATFORMS": "cpu", "NPROC": str(MIN_THREADS), "LOKY_MAX_CPU_COUNT": "1"}
