"""The notebooks hold the code of their pages, and ran."""

import json
from pathlib import Path

import jax
import pytest

from benchmarks.notebooks import PAGES, cells_of, notebook, place

DOCS = Path(__file__).parents[1] / "docs"


def read(page: str) -> list[dict]:
    return json.loads(place(page, DOCS / "notebooks").read_text())["cells"]


@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_is_its_page(page: str):
    assert ["".join(cell["source"]) for cell in read(page)] == [c.source for c in cells_of(page)]


@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_shows_what_its_code_prints(page: str):
    outputs = [one for cell in read(page) for one in cell.get("outputs", [])]
    assert {one["output_type"] for one in outputs} <= {"stream", "execute_result"}
    assert len(outputs) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_runs(page: str):
    with jax.numpy_dtype_promotion("standard"):
        printed = [len(cell.get("outputs", [])) for cell in notebook(page)["cells"]]
    assert printed == [len(cell.get("outputs", [])) for cell in read(page)]
