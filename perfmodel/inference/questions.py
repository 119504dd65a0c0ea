"""Many questions of `recommend` at a time: each answered for itself, here or on a cluster."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.cluster import gathered, in_order, own_files, workers
from perfmodel.errors import InputError
from perfmodel.inference.question import ask_cells
from perfmodel.inference.recommend import answer
from perfmodel.library.fitted import FITTED, own_folder


class Answer(NamedTuple):
    """The best deployments of one question; or why there is none."""

    deployments: list[dict[str, Any]]
    error: str = ""


def answer_all(
    questions: Sequence[Mapping[str, str]],
    calibration: Path,
    top: int,
    cluster: str,
    progress: Callable[[int, int], None],
) -> list[Answer]:
    """Answers in the order of the questions; one that cannot be answered costs no other.

    **Arguments:**

    - `questions`: of each, its cells by name, as `ask_cells` takes them.
    - `top`: deployments of each, at most.
    - `cluster`: the Ray cluster that answers; this process if empty.

    **Raises:**

    - `InputError`: when the cluster is not there or has another version.
    """
    words = [word for cells in questions for name in NAMED for word in _words(cells, name)]
    folder = own_folder(calibration)
    places = [*own_files(words), *([folder] if folder else [])]
    # Questions alike share compiled programs, of which a process keeps the last used.
    order = sorted(range(len(questions)), key=lambda i: [questions[i].get(n, "") for n in FORM])
    with workers(cluster, places) as run:
        alike = (questions[i] for i in order)
        asked = run(functools.partial(answer_one, folder, top), alike)
        found = gathered(asked, len(questions), progress)
    return in_order(zip(order, found, strict=True))


FORM = ("model", "chip", "framework", "precision", "kv_precision", "mode", "n_chips")
"""Cells on which it depends most which programs answer a question."""


NAMED = ("model", "chip", "prefill_chip", "decode_chip", "ffn_chip")
"""Cells that may name a file."""


def _words(cells: Mapping[str, str], name: str) -> list[str]:
    return [word.strip() for word in cells.get(name, "").split(",")]


def answer_one(calibration: Path | None, top: int, cells: Mapping[str, str]) -> Answer:
    """The answer of one question; the shipped parameters where `calibration` is `None`."""
    try:
        return Answer(answer(ask_cells(cells), calibration or FITTED, top).deployments)
    except InputError as wrong:
        return Answer([], str(wrong))
