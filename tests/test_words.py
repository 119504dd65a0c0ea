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
    *("label", "versions", "transformer"),
}
"""Words that name nothing to a reader of the field."""

METAPHORS = re.compile(
    r"\b(hear|hears|heard|speak|speaks|spoke|spoken|vote|votes|voted|doubts?|dear|dearer|dearest)\b",
    re.I,
)

UNITS = re.compile(r"\b(ms|J) a token\b|tokens/s (of|for) a user|wait for room|has no room waits")
"""For TPOT in ms, J/token, tokens/s per user, and KV-cache capacity."""


def test_no_file_has_a_private_name():
    code = [*files(), *(ROOT / "tests").rglob("*.py")]
    names = {path.stem.removeprefix("test_"): path for path in code}
    assert len(names) > 200
    assert not [str(path) for name, path in names.items() if name in PRIVATE]


def lines_with(words: re.Pattern[str]) -> list[str]:
    """Lines of code and documents in which some words are."""
    texts = [*files(), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    return [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts
        for line in path.read_text(encoding="utf-8").splitlines()
        if words.search(line)
    ]


def test_chips_neither_hear_nor_speak_nor_vote():
    lines = lines_with(METAPHORS)
    assert not lines, "\n".join(lines)


def test_units_are_written_as_the_field_writes_them():
    lines = lines_with(UNITS)
    assert not lines, "\n".join(lines)
