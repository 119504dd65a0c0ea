"""Which functions of the program the golden sample calls: `python -m benchmarks.golden_calls OUT.json`.

A change of any other function is not seen by the sample, which need not be run for it.
"""

import sys
from pathlib import Path
from types import FrameType

from benchmarks.golden.__main__ import main
from perfmodel.files import write_json

ROOT = Path(__file__).parents[1]


def called() -> list[tuple[str, int]]:
    """Files, and the first lines of their functions that are called."""
    found: set[tuple[str, int]] = set()
    own = str(ROOT)

    def see(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(own):
            found.add((code.co_filename, code.co_firstlineno))

    sys.settrace(see)
    try:
        main()
    finally:
        sys.settrace(None)
    return sorted({(str(Path(name).resolve().relative_to(ROOT)), line) for name, line in found})


if __name__ == "__main__":
    out = Path(sys.argv.pop())
    sys.argv.append("sample")
    write_json(out, called())
