"""The documents: they build without a warning, and every block of code in the tutorials runs."""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
from command import run

from perfmodel.kernels.registry import KERNELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
QUICK = (
    "technology.md",
    "ingest.md",
    "extend/framework.md",
)
SLOW = (
    "api.md",
    "recommend.md",
    "serving.md",
    "sweep.md",
    "measure.md",
    "model.md",
    "extend/kernel.md",
    "extend/attention.md",
    "extend/family.md",
    "tutorials/predict.md",
    "tutorials/deployment.md",
    "tutorials/benchmark.md",
    "tutorials/reproduce.md",
    "tutorials/design.md",
    "tutorials/sram-or-hbm.md",
    "tutorials/python.md",
    "extend/model.md",
    "extend/memory.md",
    "extend/policy.md",
    "extend/simulator.md",
)


CODE = ("python", "sh")
"""Languages of blocks that are run. Commands that take long stand indented, without a language."""

ELSEWHERE = ("cluster.md",)
"""Pages whose commands install something, and are run by tests of their own."""


class Block(NamedTuple):
    """A fenced block: its language, what stands beside that, its text."""

    language: str
    options: dict[str, str]
    text: str


def blocks_of(page: str) -> Iterator[Block]:
    text = (DOCS / page).read_text()
    for language, options, body in re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield Block(language, dict(re.findall(r'(\w+)="([^"]*)"', options)), body)


UNCHECKED = ("perfmodel study ", "perfmodel sweep memory-price ")
"""Commands that hold results in arrays of numpy, which the types that tests check do not allow."""


def command(line: str, more: str) -> None:
    """A line of a shell: in this process, or in one of its own where it has an environment."""
    words = line.split()
    assert words[0] == "perfmodel", line
    if not more and not line.startswith(UNCHECKED):
        status, out, err = run(*words[1:])
    else:
        own = dict([more.split("=", 1)]) if more else {}
        env = os.environ | own | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", *words], env=env, capture_output=True, text=True
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    assert status == 0, f"{line}\n{out}\n{err}"


def play(page: str) -> None:
    """Write the files of a page, and run its code, in order, as a reader would."""
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(page):
        if "title" in block.options:
            path = Path(block.options["title"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, page, "exec"), space)
        elif block.language == "sh":
            for line in block.text.strip().splitlines():
                command(line, block.options.get("env", ""))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, and the registry as it was."""
    from perfmodel.kernels.registry import KERNELS

    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(KERNELS, "transpose", raising=False)


@pytest.mark.parametrize("page", QUICK)
def test_the_code_of_a_page_runs(page: str, empty: None):
    play(page)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of fits of few rows
@pytest.mark.parametrize("page", SLOW)
def test_the_code_of_a_long_page_runs(page: str, empty: None):
    play(page)


def test_every_page_with_code_is_run():
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    coded = {page for page in pages if any(b.language in CODE for b in blocks_of(page))}
    assert coded <= {*QUICK, *SLOW, *ELSEWHERE}


def test_every_page_opens_with_a_question_and_the_api_lists_the_face():
    import perfmodel as pm

    listed = set(re.findall(r"^::: perfmodel\.\S*\.(\w+)$", (DOCS / "api.md").read_text(), re.M))
    assert listed | {"Waits"} == {name for name in dir(pm) if name in pm._PLACES}


REFERENCE = runpy.run_path(str(DOCS / "reference.py"))


@pytest.mark.parametrize("page", REFERENCE["pages"]())
def test_the_reference_is_of_the_schemas(page: str):
    assert (DOCS / "reference" / page).read_text() == REFERENCE["pages"]()[page], (
        "run docs/reference.py"
    )


def test_the_reference_says_what_each_key_and_column_means():
    files = [kind for _, kinds in REFERENCE["FILES"].values() for kind in kinds]
    kinds = {part for kind in files for part in REFERENCE["with_parts"](kind)}
    unsaid = {
        (k.__name__, key) for k in kinds for key in {*k.model_fields} - {*REFERENCE["meanings"](k)}
    }
    for op, kind in KERNELS.items():
        columns = {field.name for field in fields(kind) if field.metadata.get("column")}
        unsaid |= {(op, column) for column in columns - {*REFERENCE["meanings"](kind)}}
    assert not unsaid


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents as a site, built without a warning."""
    pytest.importorskip("mkdocs", reason="the group docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    words = ["build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: Path):
    assert (site / "index.html").exists()


@pytest.mark.slow
def test_the_site_draws_its_formulas_without_a_script_from_elsewhere(site: Path):
    page = (site / "model.html").read_text()
    assert "<math" in page and "arithmatex" not in page
    loads = r'<(?:script|img)[^>]*src="https?:|<link[^>]*rel="stylesheet"[^>]*href="https?:'
    assert not [path for path in site.rglob("*.html") if re.search(loads, path.read_text())]
