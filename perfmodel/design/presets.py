"""Studies that answer what people ask, by name."""

from pathlib import Path

from perfmodel.design.study import Study, read_study
from perfmodel.errors import InputError
from perfmodel.library.files import nearest

FOLDER = Path(__file__).parent / "presets"


def presets() -> dict[str, Path]:
    """Every preset, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def question(path: Path) -> str:
    """What a preset asks: the comment in its first line."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()


def find_study(name: Path) -> tuple[str, Study]:
    """A study by the path of its file, or a preset by its name: what it is called, and what it asks.

    **Raises:**

    - `InputError`: when there is neither.
    """
    found = presets()
    if str(name) in found and not name.is_file():
        name = found[str(name)]
    elif name.suffix != ".toml" and not name.exists():
        close = nearest(str(name), found)
        those = f"the nearest are {', '.join(close)}; " if close else ""
        raise InputError(
            f"there is no study {str(name)[:100]!r}; {those}give the path of a TOML file, or one of the "
            f"presets {', '.join(found)}."
        )
    return name.stem, read_study(name)
