"""Which changes of the code no test sees: `python -m benchmarks.mutants --json OUT.json`.

One operator or one number of kernels, roofline, inference or design is changed at a time, in a copy of
the tree (cosmic-ray makes the changes). The tests that import the module run, then the golden sample and
all golden rows, of design a golden preset, and last the module's slow tests; a mutant that passes all
survives. Mutants that compute the same are named with a reason in `mutants.toml` and do not count; nor do
those of a setting on which no result depends.
Needs the group `mutants`: `uv sync --all-extras --group mutants`.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from benchmarks.golden.sets import rows
from perfmodel.calibration.metrics import grouped
from perfmodel.files import write_json
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.files import read_toml

ROOT = Path(__file__).parents[1]
TABLE = read_toml(Path(__file__).with_suffix(".toml"))

ALLOWED = 0.05
"""Share of mutants that may survive."""

PRESET = "fast-for-one"
"""The preset that is searched soonest."""

WHOLE = "kernels,services"
"""Sets of golden rows that are checked whole."""

LONGEST, LONGEST_OF_WHOLE = 300, 1800
"""Seconds of a processor that a command may take, and whole sets; what takes longer is killed by it."""

SLOW = ["-m", "slow"]
"""Of pytest, for slow tests: what takes them longer than whole sets may is not killed by it."""

NOTHING_COLLECTED = 5
"""What pytest exits with where no test is slow."""


Span = tuple[tuple[int, int], tuple[int, int]]
"""First line and column of a piece of code, and the end."""


class Mutant(NamedTuple):
    """One change: of which file and line, by which operator at which of its places."""

    path: str
    line: int
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line} {self.operator.removeprefix('core/')} {self.occurrence}"

    def code(self) -> str:
        """The file with the change."""
        operator = get_operator(self.operator)()
        found = mutate_code((ROOT / self.path).read_text(), operator, self.occurrence)
        assert found is not None, self.name
        return found

    def lines(self) -> tuple[str, str]:
        """The line before and after."""
        before, after = (ROOT / self.path).read_text().splitlines(), self.code().splitlines()
        return before[self.line - 1].strip(), after[self.line - 1].strip()


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every change of a file that is not in an annotation or an error's text."""
    text = path.read_text()
    tree, left_out = get_ast(text), _without_effect(text)
    for name in TABLE["operators"]:
        operator = get_operator(name)()
        places = [at for node in ast_nodes(tree) for at, _ in operator.mutation_positions(node)]
        for occurrence, at in enumerate(places):
            if not any(start <= at < end for start, end in left_out):
                yield Mutant(str(path.relative_to(ROOT)), at[0], name, occurrence)


def changes(mutant: Mutant) -> bool:
    """Whether the code says something else: 1e36 + 1 is 1e36."""
    before, after = (ROOT / mutant.path).read_text(), mutant.code()
    return ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))


def _without_effect(text: str) -> list[Span]:
    """Where annotations, raised errors, assertions, imports and the `strict` of a `zip` stand."""
    kinds = (ast.Raise, ast.Import, ast.ImportFrom, ast.Assert)
    nodes: list[Any] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "strict":
            nodes.append(node.value)
        noted = (getattr(node, "annotation", None), getattr(node, "returns", None))
        nodes += [node] if isinstance(node, kinds) else [one for one in noted if one]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes]


def drawn(count: int, seed: int, only: str) -> list[Mutant]:
    """Mutants drawn from all lines alike, then from the changes of a line."""
    paths = sorted(
        path for place in TABLE["places"] for path in ROOT.glob(place) if only in str(path)
    )
    lines = grouped(((one.path, one.line), one) for path in paths for one in mutants_of(path))
    pick = random.Random(seed)
    places = pick.sample(sorted(lines), min(count, len(lines)))
    found = [pick.choice(lines[place]) for place in places]
    return [mutant for mutant in found if changes(mutant)]


def tests_of(path: str) -> list[str]:
    """Test files that import a module; where there are none, those of its importers.

    Those that run no command come first, for they take less; of each the module's namesake.
    """
    tests = sorted((ROOT / "tests").glob("test_*.py"))
    code = [
        path
        for place in ("kernels", "perfmodel/*", "perfmodel/*/*")
        for path in sorted(ROOT.glob(f"{place}/*.py"))
    ]
    modules, found = [path], _importing(path, tests)
    while not found and modules:
        modules = list(dict.fromkeys(user for one in modules for user in _importing(one, code)))
        found = list(dict.fromkeys(test for one in modules for test in _importing(one, tests)))
    also = [test for one in _also(path) for test in one["tests"] if test not in found]
    stem = Path(path).stem
    commands = {test for test in found if re.search(COMMANDS, (ROOT / test).read_text())}
    found = sorted(found, key=lambda test: (test in commands, Path(test).stem != f"test_{stem}"))
    return [*found, *also]


def _also(path: str) -> list[dict[str, Any]]:
    """What runs a module without importing it."""
    return [one for one in TABLE["also"] if one["path"] == path]


COMMANDS = r"from (tests\.)?command import|subprocess"
"""In tests that run commands."""


def _importing(path: str, files: Sequence[Path]) -> list[str]:
    module = ".".join(Path(path).with_suffix("").parts)
    package, _, stem = (
        module if module.startswith("perfmodel") else f"perfmodel.{module}"
    ).rpartition(".")
    words = rf"(from|import) {package}\.{stem}\b|from {package} import [^\n]*\b{stem}\b"
    return [str(file.relative_to(ROOT)) for file in files if re.search(words, file.read_text())]


class Function(NamedTuple):
    """A function of a file, by its first line; 0: the module itself."""

    path: str
    line: int


def function_of(mutant: Mutant) -> Function:
    """The innermost function that a change is in."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse((ROOT / mutant.path).read_text())
    around = [node for node in ast.walk(tree) if isinstance(node, kinds)
              and node.lineno <= mutant.line <= (node.end_lineno or 0)]  # fmt: skip
    if not around:
        return Function(mutant.path, 0)
    node = max(around, key=lambda one: one.lineno)
    return Function(mutant.path, min([node.lineno, *(one.lineno for one in node.decorator_list)]))


def calls_of_sample(copy: Path) -> set[Function]:
    """Functions that the golden sample calls, and modules of which it calls any."""
    said = copy / "calls.json"
    _run(["benchmarks.golden_calls", said.name], copy)
    called = {Function(path, line) for path, line in json.loads(said.read_text())}
    return called | {Function(one.path, 0) for one in called}


def killer(mutant: Mutant, copy: Path, called: set[Function]) -> str:
    """What ends a mutant, or nothing where it survives.

    **Arguments:**

    - `called`: what the golden sample calls; of any other function it cannot tell a change.
    """
    home = copy / mutant.path
    before = home.read_text()
    home.write_text(mutant.code())
    try:
        told = commands(mutant.path, function_of(mutant) in called)
        ends = (_run(command, copy) for command in told)
        return next(filter(None, ends), "")
    finally:
        home.write_text(before)


def commands(path: str, called: bool) -> list[list[str]]:
    """The tests of a module; golden values: the sample, its rows, all (of design a search); slow tests."""
    pytest = ["pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests_of(path)]
    sample = [["benchmarks.golden", "sample"]] if called else []
    own = [*rows_of(path), *(case for one in _also(path) for case in one["golden"])]
    checked = [",".join(own), PRESET if "design" in path else WHOLE]
    check = ["benchmarks.golden", "check", "--only"]
    return [pytest, *sample, *([*check, cases] for cases in checked if cases), [*pytest, *SLOW]]


def rows_of(path: str) -> list[str]:
    """Golden rows of the operations that a module counts."""
    module = f"perfmodel.{'.'.join(Path(path).with_suffix('').parts)}"
    own = {op for op, kernel in KERNELS.items() if kernel.__module__ == module}
    return [row["case"] for row in rows("kernels").to_pylist() if row["op"] in own]


def _run(command: list[str], copy: Path) -> str:
    """What a command says of its failure, or nothing."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(copy.parent / "compiled")}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    env = cache | os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    # Processor seconds, because other jobs run beside it; past a hard limit it would get SIGKILL.
    slow = command[-2:] == SLOW
    limit = LONGEST_OF_WHOLE if slow or WHOLE in command else LONGEST
    within = ["sh", "-c", f'ulimit -S -t {limit}; exec "$@"', "sh"]
    whole = [*within, sys.executable, "-m", *command]
    done = subprocess.run(whole, cwd=copy, env=env, capture_output=True, text=True)
    if done.returncode == -signal.SIGXCPU:
        return "" if slow else f"{command[0]}: longer than {limit} s"
    assert done.returncode >= 0, f"{command[0]} was ended by signal {-done.returncode}"
    if not done.returncode or (slow and done.returncode == NOTHING_COLLECTED):
        return ""
    said = (line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    return next(said, f"{command[0]} exits {done.returncode}")[:160]


def equivalent(mutant: Mutant) -> bool:
    """Whether a mutant computes the same, or changes a setting on which no result depends."""
    line = mutant.lines()[1]
    same = {(one["path"], one["line"]) for one in TABLE["equivalent"]}
    settings = [one for one in TABLE["setting"] if one["path"] == mutant.path]
    return (mutant.path, line) in same or any(
        line.startswith(f"{one['name']} =") for one in settings
    )


def copies(count: int, folder: Path) -> list[Path]:
    """Copies of what git tracks, for mutants to live in."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    places = [folder / f"copy{i}" for i in range(count)]
    for place in places:
        for name in listed.stdout.splitlines():
            if (ROOT / name).exists():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name, follow_symlinks=False)
    return places


Kept = dict[str, Any]
"""What a file of an earlier run holds: `mutants`, what became of each, and `calls` of the golden sample."""


def tried(mutants: Sequence[Mutant], jobs: int, out: Path, kept: Kept) -> dict[str, Any]:
    """What became of each mutant, written as it goes."""
    done: dict[str, Any] = kept.setdefault("mutants", {})
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Path] = Queue()
        places = copies(jobs, Path(folder))
        if "calls" not in kept:
            kept["calls"] = sorted(calls_of_sample(places[0]))
        called = {Function(str(path), int(line)) for path, line in kept["calls"]}
        for place in places:
            free.put(place)

        def one(mutant: Mutant) -> tuple[Mutant, str]:
            place = free.get()
            try:
                return mutant, killer(mutant, place, called)
            finally:
                free.put(place)

        runs = [pool.submit(one, mutant) for mutant in mutants if mutant.name not in done]
        for mutant, said in (run.result() for run in as_completed(runs)):
            before, after = mutant.lines()
            done[mutant.name] = {"before": before, "after": after, "killed_by": said}
            write_json(out, kept)
            print(f"{mutant.name}: {said or f'SURVIVES  {before}  ->  {after}'}", flush=True)
    return done


def main() -> None:
    """Draw, try, and say who survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=Path, required=True, help="file to write; what it holds is kept"
    )
    parser.add_argument("--count", type=int, default=60, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", default="", help="part of the path of files to change")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    asked = parser.parse_args()
    kept: Kept = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    mutants = drawn(asked.count, asked.seed, asked.only)
    found = tried(mutants, asked.jobs, asked.json, kept)
    counted = [mutant for mutant in mutants if not equivalent(mutant)]
    alive = [m for m in counted if not found[m.name]["killed_by"]]
    share = len(alive) / max(len(counted), 1)
    print(f"{len(alive)} of {len(counted)} survive ({100 * share:.0f} %; at most {100 * ALLOWED:.0f}); "
          f"{len(mutants) - len(counted)} compute the same.")  # fmt: skip
    sys.exit(share > ALLOWED)


if __name__ == "__main__":
    main()
