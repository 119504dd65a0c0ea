"""What is asked of the explorer, at the side of its page: model, traffic, machines, files of one's own."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.errors import InputError
from perfmodel.files import write_whole
from perfmodel.interface.explore.scenario import (
    MAX_CHIPS,
    MAX_MACHINES,
    MAX_TRAFFIC,
    RANK_NAMES,
    START,
    Machine,
    Scenario,
    machine,
)
from perfmodel.library.chip import chip_file, chip_files
from perfmodel.library.framework import find_version, frameworks, older_versions
from perfmodel.library.ledger import DEFAULT_BASIS
from perfmodel.library.model import load_model, model_files
from perfmodel.workload import precision

FACTORS = [0.25, 0.35, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
TRAFFIC = {"isl": "tokens in", "osl": "tokens out", "concurrency": "users"}
FORMATS = (
    "",
    "bf16",
    "fp8",
    "int8",
    "fp4",
    *sorted({*precision.FORMATS} - {"bf16", "fp8", "int8"}),
)
"""Of the weights; empty: automatic. `fp4` is that of the model's checkpoint in four bits."""

CACHE_FORMATS = ("", "bf16", "fp16", "fp8", "int8", "nvfp4")
"""Of the KV cache; empty: automatic."""

SOFTWARE = (
    "",
    *(name for name in frameworks() if find_version(name).platforms),
    *older_versions(),
)
"""Frameworks, and their older versions; empty: the best schedule that the hardware allows."""

MAX_FILE_BYTES = 1_000_000  # no chip file or config.json is longer


def controls(start: Scenario) -> Scenario:
    """What is asked, at the side: the model, the traffic, the machines."""
    top, middle = st.sidebar.container(), st.sidebar.container()
    files = st.sidebar.expander("files of your own")
    own_model, chips = _own_model(files), _chips(files)
    known = sorted(model_files())
    place = known.index(start.model) if start.model in known else 0
    model = own_model or top.selectbox("model", known, place, key="model")
    places = iter((*top.columns(2), *top.columns(2)))
    numbers: dict[str, Any] = {
        name: next(places).number_input(
            label, 1, MAX_TRAFFIC[name], getattr(start, name), key=f"{name}-of-traffic"
        )
        for name, label in TRAFFIC.items()
    }
    count = next(places).number_input("machines", 1, MAX_MACHINES, len(start.machines))
    basis, free = _basis(middle, start), _free(middle, start)
    machines = [_machine(middle, i, start, chips) for i in range(count)]
    return Scenario(tuple(machines), model, cost_basis=basis, free=free, **numbers)


BASES = ("", "rental", "marginal")
"""What USD may be of; empty: owner."""


def _basis(place: Any, start: Scenario) -> str:
    """The basis of USD."""
    begun = BASES.index(start.cost_basis) if start.cost_basis in BASES else 0
    return place.selectbox(
        "USD of", BASES, begun, key="cost_basis", format_func=lambda word: word or DEFAULT_BASIS
    )


def _free(place: Any, start: Scenario) -> bool:
    """Whether what is dragged costs nothing."""
    return place.toggle(
        "dragged parts are free",
        start.free,
        key="free",
        help="Off: the price of a chip changes by what making the dragged parts costs, with a margin.",
    )


def _own_model(side: Any) -> str:
    """The path of a config.json that is loaded here; empty without one."""
    loaded = side.file_uploader("a Hugging Face config.json", type="json", key="config")
    return "" if loaded is None else _taken(side, loaded, lambda path: load_model(Path(path)))


def _chips(side: Any) -> list[str]:
    """Chips of the library, and one that is loaded here."""
    known = sorted(chip_files())
    loaded = side.file_uploader("a chip of your own (TOML)", type="toml", key="chip")
    if loaded is None:
        return known
    own = _taken(side, loaded, chip_file)
    return [own, *known] if own else known


def _taken(side: Any, loaded: Any, check: Callable[[str], object]) -> str:
    """The path of a loaded file that was checked; empty for a wrong one, which is said in one sentence."""
    content = loaded.getvalue()
    if len(content) > MAX_FILE_BYTES:
        side.error(f"{loaded.name} is longer than {MAX_FILE_BYTES:,} bytes; such files are not.")
        return ""
    folder = Path(
        tempfile.gettempdir(), "perfmodel-explore", hashlib.sha256(content).hexdigest()[:16]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"own{Path(loaded.name).suffix}"
    write_whole(path, content)
    try:
        check(str(path))
    except InputError as wrong:
        side.error(str(wrong).replace(str(path), loaded.name))
        return ""
    return str(path)


def _machine(box: Any, i: int, start: Scenario, chips: list[str]) -> Machine:
    """One machine's controls: its chip, how many, formats, framework, ranks, and its knobs."""
    begun = (
        start.machines[i] if i < len(start.machines) else START.machines[i % len(START.machines)]
    )
    with box.expander(f"machine {i + 1}", expanded=i == 0):
        place = chips.index(begun.chip) if begun.chip in chips else 0
        chip = st.selectbox("chip", chips, place, key=f"chip-{i}", format_func=chip_label)
        left, right = st.columns(2)
        count = left.number_input("chips", 1, MAX_CHIPS, begun.size, key=f"count-{i}")
        software = _word(right, "framework", SOFTWARE, begun.framework, "best schedule", i)
        left, right = st.columns(2)
        weights = _word(left, "weights", FORMATS, begun.precision, "auto", i)
        cache = _word(right, "cache", CACHE_FORMATS, begun.kv_precision, "auto", i)
        ranks = _ranks(begun, i)
        factors = {
            name: st.select_slider(
                f"{knob.label} ×",
                sorted({*FACTORS, begun.factor(name)}),
                begun.factor(name),
                key=f"{name}-{i}",
            )
            for name, knob in CHIP_VARIABLES.items()
        }
    return machine(chip, int(count), factors, weights, cache, software, ranks)


def _word(
    place: Any, label: str, words: tuple[str, ...], begun: str, automatic: str, i: int
) -> str:
    """A choice among words, of which the empty one is `automatic`."""
    return place.selectbox(
        label,
        words,
        words.index(begun),
        key=f"{label}-{i}",
        format_func=lambda word: word or automatic,
    )


def _ranks(begun: Machine, i: int) -> dict[str, int | None]:
    """Ranks of a machine; what is empty is chosen."""
    places = (*st.columns(3), *st.columns(2))
    given = dict(begun.ranks)
    return {
        name: optional_number(
            place, name, given.get(name), f"{name}-{i}", "auto", min_value=1, max_value=MAX_CHIPS
        )
        for name, place in zip(RANK_NAMES, places, strict=True)
    }


def optional_number(place: Any, label: str, begun: Any, key: str, empty: str, **bounds: Any) -> Any:
    """A number within bounds, or None; `empty`: what is read where there is none."""
    # Only an input that begins empty can be emptied again.
    st.session_state.setdefault(key, begun)
    return place.number_input(label, value=None, key=key, placeholder=empty, **bounds)


def chip_label(chip: str) -> str:
    """What a chip is called on the page."""
    return f"{chip_file(chip)[1].name} (loaded)" if chip.endswith(".toml") else chip
