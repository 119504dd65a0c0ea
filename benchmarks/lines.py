"""How much code there is, without docstrings, comments and blanks: `python -m benchmarks.lines`."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("perfmodel", "kernels", "calibration", "benchmarks")
"""Of Python files that are not tests; links inside them are not followed."""

WITHOUT_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def lines_of(path: Path) -> set[int]:
    """Numbers of the lines that hold code."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = [range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in WITHOUT_CODE]
    texts = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    return {line for part in code for line in part} - {line for part in texts for line in part}


def bodies(path: Path) -> list[int]:
    """Lines of code of each function, without its signature."""
    lines = lines_of(path)
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    return [
        sum(first.lineno <= line <= (node.end_lineno or 0) for line in lines)
        for node in functions
        for first in [node.body[0]]
    ]


def files() -> list[Path]:
    """Python files of the project that are not tests, each once."""
    links = {path for folder in FOLDERS for path in (ROOT / folder).iterdir() if path.is_symlink()}
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if not links & set(path.parents)]


def main() -> None:
    """Print files and lines of code by package, and how long functions are."""
    count, lines = Counter[str](), Counter[str]()
    for path in files():
        parts = path.relative_to(ROOT).parts[:-1]
        package = "/".join(parts[:2])
        count[package] += 1
        lines[package] += len(lines_of(path))
    for package in sorted(count):
        print(f"{package:28} {count[package]:4} files {lines[package]:6} lines")
    print(f"{'all':28} {count.total():4} files {lines.total():6} lines")
    lengths = sorted(length for path in files() for length in bodies(path))
    print(
        f"functions: median {lengths[len(lengths) // 2]} lines, p90 {lengths[len(lengths) * 9 // 10]}"
    )


if __name__ == "__main__":
    main()
