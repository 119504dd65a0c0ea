"""What servers of a model hold on some chips, for `perfmodel models --chip`."""

from perfmodel.inference.evaluate import resolve_row
from perfmodel.inference.server_memory import server_memories
from perfmodel.inference.serving_row import number
from perfmodel.library.fitted import FITTED


def memory_numbers(cells: dict[str, str], length: str) -> dict[str, float]:
    """What servers of a model hold of sequences of some length, as `--json` shows it.

    **Arguments:**

    - `cells`: of the serving schema: model, chips and how the server is started.

    **Raises:**

    - `InputError`: for cells that name no such server.
    """
    half = number("length", length) / 2
    asked = {"isl": f"{half}", "osl": f"{half}", "concurrency": "1"}
    (found,) = server_memories([resolve_row(0, cells | asked, FITTED)])
    return {
        "weights_gb_per_chip": found.weights / 1e9,
        "kv_cache_gb_per_chip": found.kv_cache / 1e9,
        "kv_capacity_tokens": found.kv_capacity_tokens,
        "sequences": found.sequences,
    }


MEMORY_WORDS = {
    "weights_gb_per_chip": "weights on a chip",
    "kv_cache_gb_per_chip": "KV cache on a chip",
    "kv_capacity_tokens": "KV cache of a data rank",
    "sequences": "sequences of that length",
}
"""What numbers of memory are called."""


def memory_details(numbers: dict[str, float]) -> list[dict[str, str]]:
    """The same, a quantity a row."""
    units = {
        "weights_gb_per_chip": " GB",
        "kv_cache_gb_per_chip": " GB",
        "kv_capacity_tokens": " tokens",
    }
    return [
        {"quantity": MEMORY_WORDS[name], "value": f"{value:,.6g}{units.get(name, '')}"}
        for name, value in numbers.items()
    ]
