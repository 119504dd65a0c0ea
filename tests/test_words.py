"""Names are the field's words: a file is found by its concept, and chips are measured, not heard."""

import re
from pathlib import Path

from benchmarks.lines import files

ROOT = Path(__file__).parents[1]

PRIVATE = {
    *("voices", "absurd", "posterior", "musts", "ideal", "viewer", "pose", "shelf", "doubt"),
    *("crossing", "apart", "halves", "relay", "alike", "hunt", "wall", "kept", "together"),
    *("owners", "grades", "rivals", "setting", "pairs", "cases", "splits", "waves", "phases"),
    *("holding", "compiling", "home", "launch", "worth", "figures", "measured", "published"),
}
"""Words that name nothing to a reader of the field."""

METAPHORS = re.compile(r"\b(hear|hears|heard|speak|speaks|spoke|spoken|vote|votes|voted)\b", re.I)


def test_no_file_has_a_private_name():
    code = [*files(), *(ROOT / "tests").rglob("*.py")]
    names = {path.stem.removeprefix("test_"): path for path in code}
    assert len(names) > 200
    assert not [str(path) for name, path in names.items() if name in PRIVATE]


def test_chips_neither_hear_nor_speak_nor_vote():
    texts = [*files(), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts
        for line in path.read_text(encoding="utf-8").splitlines()
        if METAPHORS.search(line)
    ]
    assert not lines, "\n".join(lines)
