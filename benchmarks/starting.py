"""Seconds that a fresh process takes before it is of use: to import, to help, to price a first row."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READY = "import perfmodel as pm; pm.load_chip, pm.decode_step"
"""Until a step can be priced: JAX and Equinox, which `import perfmodel` leaves until they are used."""

ROW = "chip,model,isl,osl,concurrency\nh100,llama-3.1-70b,1000,100,8\n"

COMMAND = "import sys; from perfmodel.interface.cli import main; sys.argv[0] = 'perfmodel'; main()"


def starting() -> dict[str, float]:
    """The median of three processes of each kind, by the clock.

    - `import_s`, `ready_s`: of `import perfmodel`, and until a step can be priced, less Python's own start.
    - `help_s`, `first_row_s`: of `perfmodel --help`, and of `perfmodel predict serving` of one row.
    """
    bare = seconds("-c", "pass")
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows.csv", Path(folder) / "out.csv"
        rows.write_text(ROW)
        first = seconds("-c", COMMAND, "predict", "serving", str(rows), "--out", str(out))
    return {
        "import_s": seconds("-c", "import perfmodel") - bare,
        "ready_s": seconds("-c", READY) - bare,
        "help_s": seconds("-c", COMMAND, "--help"),
        "first_row_s": first,
    }


def seconds(*words: str) -> float:
    """Of Python with some words, by the clock, with nothing compiled before."""
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as kept:
            settings = os.environ | {"JAX_COMPILATION_CACHE_DIR": kept}
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, *words], check=True, env=settings, stdout=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - began)
    return sorted(times)[1]
